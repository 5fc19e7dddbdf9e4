"""Two convolutions with pooling, then linear layers: the LeNet family (LeCun et al. 1998)."""

from torch import Tensor, nn


class LeNet(nn.Module):
    """A small LeNet for 8x8 digits; every layer after the first takes multiples of four."""

    def __init__(self, classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(32 * 2 * 2, 128)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 1, 8, 8) to logits (N, classes)."""
        x = self.pool1(self.relu1(self.conv1(x)))  # (N, 16, 4, 4)
        x = self.pool2(self.relu2(self.conv2(x)))  # (N, 32, 2, 2)
        x = self.relu3(self.fc1(x.flatten(1)))  # (N, 128)
        return self.fc2(x)  # (N, classes)


class LeNet5(nn.Module):
    """LeNet-5 for 28x28 images, with ReLU and max pooling for sigmoid and subsampling."""

    def __init__(self, classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(120, 84)
        self.relu4 = nn.ReLU()
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 1, 28, 28) to logits (N, classes)."""
        x = self.pool1(self.relu1(self.conv1(x)))  # (N, 6, 14, 14)
        x = self.pool2(self.relu2(self.conv2(x)))  # (N, 16, 5, 5)
        x = self.relu3(self.fc1(x.flatten(1)))  # (N, 120)
        x = self.relu4(self.fc2(x))  # (N, 84)
        return self.fc3(x)  # (N, classes)
