"""A multilayer perceptron: the LeNet-300-100 of the pruning papers, for any number of inputs."""

from torch import Tensor, nn


class MLP(nn.Module):
    """Two hidden layers of 300 and 100 neurons (LeCun et al. 1998)."""

    def __init__(self, inputs: int, classes: int = 10) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(inputs, 300)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Linear(300, 100)
        self.relu2 = nn.ReLU()
        self.fc3 = nn.Linear(100, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes)."""
        x = self.flatten(x)  # (N, inputs)
        x = self.relu1(self.fc1(x))  # (N, 300)
        x = self.relu2(self.fc2(x))  # (N, 100)
        return self.fc3(x)  # (N, classes)
