"""VGG-16 with batch norm for CIFAR, as Tanaka et al. 2020 pruned it at initialisation."""

import torch
from torch import nn

_PLAN = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)


def vgg16_bn(classes: int = 100, seed: int = 0, width: float = 1) -> nn.Sequential:
    """14.8 million weights in 13 convolutions and one linear layer; inputs (N, 3, 32, 32).

    `width` is the share of the channels of each convolution that the model has.
    """
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    channels = 3
    for step in _PLAN:
        if step == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        before, channels = channels, round(width * step)
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(channels, classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return model.eval()
