"""The sample models: what each is built from, which data it sees, how it is trained."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from sample_models.initial import glorot_normal_
from sample_models.lenet import LeNet, LeNet5
from sample_models.mlp import MLP
from sample_models.mobilenet import MobileNet
from sample_models.resnet import ResNet
from sample_models.vit import ViT
from sparsity_core.recipe import Training


@dataclass(frozen=True)
class Sample:
    """One sample model, before any training."""

    summary: str
    architecture: str
    build: Callable[[], nn.Module]
    data: str  # what `load_data` takes
    training: Training
    shift: int = 0  # training images move by up to so many pixels
    mirror: bool = False  # half of the training images are mirrored
    fresh: Callable[[], nn.Module] | None = None  # for tickets, with a paper's first weights


SAMPLES = {
    "digits-mlp": Sample(
        "A perceptron on 8x8 digits, in the shape of LeNet-300-100",
        "linear 64-300-100-10, ReLU",
        lambda: MLP(8 * 8),
        "digits",
        Training(epochs=40, optimizer="adam", rate=0.002),
    ),
    "digits-lenet": Sample(
        "A small LeNet on 8x8 digits",
        "two 3x3 convolutions (16, 32) with max pooling, linear 128-128-10, ReLU",
        LeNet,
        "digits",
        Training(epochs=40, optimizer="adam", rate=0.004),
    ),
    "digits-resnet": Sample(
        "A small residual network on 8x8 digits",
        "residual blocks of 3x3 convolutions (16, 32) with batch normalisation, ReLU",
        lambda: ResNet(channels=1, widths=(16, 32), blocks=1),
        "digits",
        Training(epochs=30, rate=0.05, weight_decay=5e-4),
    ),
    "digits-mobilenet": Sample(
        "A small MobileNet on 8x8 digits",
        "depthwise separable convolutions (32, 64, 64, 128) with batch normalisation, ReLU",
        MobileNet,
        "digits",
        Training(epochs=30, rate=0.05, weight_decay=5e-4),
    ),
    "digits-vit": Sample(
        "A small vision transformer on 8x8 digits",
        "2x2 patches, two layers of four-head attention (width 32), layer normalisation, GELU",
        ViT,
        "digits",
        Training(epochs=60, optimizer="adam", rate=0.002),
    ),
    "mnist-lenet-300-100": Sample(
        "LeNet-300-100 on MNIST",
        "linear 784-300-100-10, ReLU",
        lambda: MLP(28 * 28),
        "mnist",
        Training(epochs=10, rate=0.05, weight_decay=1e-4, batch_size=128),
        fresh=lambda: glorot_normal_(MLP(28 * 28)),
    ),
    "mnist-lenet5": Sample(
        "LeNet-5 on MNIST",
        "two 5x5 convolutions (6, 16) with max pooling, linear 400-120-84-10, ReLU",
        LeNet5,
        "mnist",
        Training(epochs=12, optimizer="adam", rate=0.002, batch_size=128),
        shift=2,
    ),
    "cifar10-resnet20": Sample(
        "ResNet-20 on CIFAR-10 as JPEG images, which are lossy",
        "residual blocks of 3x3 convolutions (16, 32, 64; three each) with batch normalisation, "
        "projection shortcuts, ReLU",
        lambda: ResNet(channels=3, widths=(16, 32, 64), blocks=3),
        "cifar10",
        Training(epochs=12, rate=0.1, weight_decay=5e-4, batch_size=128),
        shift=4,
        mirror=True,
    ),
}
