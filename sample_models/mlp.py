"""A multilayer perceptron in the shape of LeNet-300-100 (LeCun et al. 1998)."""

from torch import Tensor, nn


class MLP(nn.Module):
    """Three linear layers on the flattened image."""

    def __init__(self, inputs: int, hidden: tuple[int, int] = (300, 100), classes: int = 10):
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden[0])
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Linear(hidden[0], hidden[1])
        self.relu2 = nn.ReLU()
        self.fc3 = nn.Linear(hidden[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 1, height, width) to logits (N, classes)."""
        x = x.flatten(1)  # (N, inputs)
        x = self.relu1(self.fc1(x))  # (N, 300)
        x = self.relu2(self.fc2(x))  # (N, 100)
        return self.fc3(x)  # (N, classes)
