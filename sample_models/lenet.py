"""Two convolutions, then linear layers: LeNet-5 for 28 pixels, a smaller sister for 8."""

from torch import Tensor, nn


class LeNet5(nn.Module):
    """The Caffe LeNet-5 that the pruning papers use: 20 and 50 filters, 500 neurons."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(800, 500)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 1, 28, 28) to logits (N, classes)."""
        x = self.pool1(self.conv1(x))  # (N, 20, 12, 12)
        x = self.pool2(self.conv2(x))  # (N, 50, 4, 4)
        x = self.flatten(x)  # (N, 800)
        x = self.relu(self.fc1(x))  # (N, 500)
        return self.fc2(x)  # (N, classes)


class SmallLeNet(nn.Module):
    """16 and 32 filters for images of 8 x 8."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(128, 64)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 1, 8, 8) to logits (N, classes)."""
        x = self.pool1(self.relu1(self.conv1(x)))  # (N, 16, 4, 4)
        x = self.pool2(self.relu2(self.conv2(x)))  # (N, 32, 2, 2)
        x = self.flatten(x)  # (N, 128)
        x = self.relu3(self.fc1(x))  # (N, 64)
        return self.fc2(x)  # (N, classes)
