"""Residual networks of 3 x 3 convolutions with batch norm (He et al. 2016, section 4.2)."""

from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions beside a shortcut; a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
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
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu2(y + self.shortcut(x))


class ResNet(nn.Module):
    """Stages of `blocks` blocks with 1, 2, 4, ... times `width` channels, halving the image."""

    def __init__(
        self, channels: int, width: int, stages: int, blocks: int, classes: int = 10
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        layers: list[nn.Module] = []
        inputs = width
        for stage in range(stages):
            outputs = width << stage
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                layers.append(Block(inputs, outputs, stride))
                inputs = outputs
        self.blocks = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, H, W) to logits (N, classes)."""
        x = self.relu(self.bn(self.conv(x)))  # (N, width, H, W)
        x = self.blocks(x)  # (N, width * 2^(stages-1), H / 2^(stages-1), ...)
        x = self.flatten(self.pool(x))  # (N, width * 2^(stages-1))
        return self.fc(x)  # (N, classes)
