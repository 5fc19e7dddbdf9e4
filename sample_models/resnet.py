"""Residual networks for small images (He et al. 2015, section 4.2), with projection shortcuts."""

from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalisation, added to what came in."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        h = self.relu1(self.bn1(self.conv1(x)))  # (N, outputs, H / stride, W / stride)
        h = self.bn2(self.conv2(h))  # (N, outputs, H / stride, W / stride)
        return self.relu2(h + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, one stage of blocks a width, and a linear layer on the mean over positions.

    Each stage after the first halves height and width. Widths 16, 32, 64 with three blocks each
    make ResNet-20.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], blocks: int, classes: int = 10):
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        stages = []
        inputs = widths[0]
        for number, width in enumerate(widths):
            strides = [1 if number == 0 else 2] + [1] * (blocks - 1)
            stage = []
            for stride in strides:
                stage.append(Block(inputs, width, stride))
                inputs = width
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) to logits (N, classes)."""
        x = self.relu(self.bn(self.stem(x)))  # (N, widths[0], H, W)
        x = self.stages(x)  # (N, widths[-1], H / 2^(stages - 1), W / 2^(stages - 1))
        return self.fc(x.mean(dim=(2, 3)))  # (N, classes)
