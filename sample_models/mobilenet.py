"""Depthwise separable convolutions (MobileNet, Howard et al. 2017)."""

from torch import Tensor, nn


class Separable(nn.Module):
    """A 3x3 convolution in each channel alone, then a 1x1 convolution across channels."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        x = self.relu1(self.bn1(self.depthwise(x)))  # (N, inputs, H / stride, W / stride)
        return self.relu2(self.bn2(self.pointwise(x)))  # (N, outputs, H / stride, W / stride)


class MobileNet(nn.Module):
    """A MobileNet for 8x8 digits."""

    def __init__(self, classes: int = 10):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.block1 = Separable(16, 32, stride=1)
        self.block2 = Separable(32, 64, stride=2)
        self.block3 = Separable(64, 64, stride=1)
        self.block4 = Separable(64, 128, stride=2)
        self.fc = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 1, 8, 8) to logits (N, classes)."""
        x = self.relu(self.bn(self.stem(x)))  # (N, 16, 8, 8)
        x = self.block1(x)  # (N, 32, 8, 8)
        x = self.block2(x)  # (N, 64, 4, 4)
        x = self.block3(x)  # (N, 64, 4, 4)
        x = self.block4(x)  # (N, 128, 2, 2)
        return self.fc(x.mean(dim=(2, 3)))  # (N, classes)
