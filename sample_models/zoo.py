"""The sample models: architecture, data and training of each. To add one: a line in ZOO."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from sample_models.lenet import LeNet5, SmallLeNet
from sample_models.mlp import MLP
from sample_models.mobilenet import MobileNet
from sample_models.resnet import ResNet
from sample_models.vit import ViT
from sparsity_core.recipe import Training


@dataclass(frozen=True)
class Sample:
    """One sample model; `epochs` and rates are in `training`."""

    name: str
    summary: str
    data: str  # what `load_data` takes
    build: Callable[[], nn.Module]
    training: Training
    shift: int = 0  # random shifts by so many pixels while training
    flip: bool = False  # random left-right flips while training


_ADAM = Training(epochs=40, optimizer="adam", rate=2e-3, batch_size=64)

ZOO = {
    sample.name: sample
    for sample in (
        Sample(
            "digits-mlp",
            "Multilayer perceptron 64-300-100-10, the shape of LeNet-300-100",
            "digits",
            lambda: MLP(64),
            _ADAM,
        ),
        Sample(
            "digits-lenet",
            "Two convolutions and two linear layers",
            "digits",
            SmallLeNet,
            _ADAM,
        ),
        Sample(
            "digits-resnet",
            "Residual network with batch norm, six blocks",
            "digits",
            lambda: ResNet(channels=1, width=16, stages=3, blocks=2),
            _ADAM,
        ),
        Sample(
            "digits-mobilenet",
            "Depthwise separable convolutions with batch norm",
            "digits",
            MobileNet,
            _ADAM,
        ),
        Sample(
            "digits-vit",
            "Transformer over 16 patches, three blocks, four heads",
            "digits",
            ViT,
            Training(epochs=80, optimizer="adam", rate=2e-3, batch_size=64),
        ),
        Sample(
            "mnist-lenet-300-100",
            "LeNet-300-100 of the pruning papers",
            "mnist",
            lambda: MLP(784),
            Training(epochs=12, optimizer="adam", rate=1.2e-3, batch_size=60),
        ),
        Sample(
            "mnist-lenet5",
            "LeNet-5 of the pruning papers: 20 and 50 filters, 500 neurons",
            "mnist",
            LeNet5,
            Training(epochs=8, optimizer="adam", rate=1e-3, batch_size=64),
        ),
        Sample(
            "cifar10-resnet20",
            "ResNet-20 on CIFAR-10 stored as JPEG images (lossy, which costs accuracy)",
            "cifar10",
            lambda: ResNet(channels=3, width=16, stages=3, blocks=3),
            Training(epochs=12, rate=0.1, batch_size=128, weight_decay=5e-4),
            shift=4,
            flip=True,
        ),
    )
}
