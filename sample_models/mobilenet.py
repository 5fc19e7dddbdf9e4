"""Depthwise separable convolutions (MobileNet, Howard et al. 2017), for images of 8 x 8."""

from torch import Tensor, nn


def separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Each channel filtered on its own (depthwise), then channels mixed at each pixel (1 x 1)."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class MobileNet(nn.Module):
    """A stem and four separable blocks, 32 to 128 channels."""

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()
        )
        self.block1 = separable(32, 64, 1)
        self.block2 = separable(64, 96, 2)
        self.block3 = separable(96, 96, 1)
        self.block4 = separable(96, 128, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, channels, 8, 8) to logits (N, classes)."""
        x = self.stem(x)  # (N, 32, 8, 8)
        x = self.block1(x)  # (N, 64, 8, 8)
        x = self.block2(x)  # (N, 96, 4, 4)
        x = self.block3(x)  # (N, 96, 4, 4)
        x = self.block4(x)  # (N, 128, 2, 2)
        x = self.flatten(self.pool(x))  # (N, 128)
        return self.fc(x)  # (N, classes)
