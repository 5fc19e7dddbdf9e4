"""The models of the sweep benchmark, each as a task of a few samples.

Sample models come with their trained weights. The others are trained for some minutes when they are
loaded for the first time, which no clock counts, and kept in SPARSITY_CACHE: an engine that makes
doubtful predictions again would find most of them doubtful in a network with random weights, where
all classes score alike.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from sample_models.mobilenet import Separable
from sample_models.resnet import ResNet
from sample_models.vit import Layer
from sparsity_core.data import Split, load_data
from sparsity_core.data.environment import cache_folder
from sparsity_core.digest import digest_of
from sparsity_core.recipe import Training
from sparsity_core.task import Task, load_task
from sparsity_core.train import train_

_SCORED = 512  # samples of train: magnitude looks at none
_TRAINED = 20_000  # images that the models without weights are trained on
_BRIEFLY = Training(epochs=5, optimizer="adam", rate=0.002, batch_size=64)


class MobileNet32(nn.Module):
    """MobileNet v1 at a quarter of its width for 32x32 images (Howard et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [(8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2)]
        blocks += [(128, 128, 1)] * 5 + [(128, 256, 2), (256, 256, 1)]
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.blocks = nn.Sequential(*(Separable(*block) for block in blocks))
        self.fc = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) to logits (N, 10)."""
        x = self.blocks(self.relu(self.bn(self.stem(x))))  # (N, 256, 2, 2)
        return self.fc(x.mean(dim=(2, 3)))


class PatchTransformer(nn.Module):
    """Four layers of width 128 on 64 patches of 4x4 pixels of 32x32 images."""

    def __init__(self, width: int = 128, heads: int = 4, depth: int = 4) -> None:
        super().__init__()
        self.unfold = nn.Unfold(kernel_size=4, stride=4)
        self.embed = nn.Linear(48, width)
        self.position = nn.Parameter(0.02 * torch.randn(64, width))
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) to logits (N, 10)."""
        x = self.embed(self.unfold(x).transpose(1, 2)) + self.position  # (N, 64, width)
        return self.fc(self.norm(self.layers(x)).mean(1))


@dataclass(frozen=True)
class Contestant:
    """A model of the benchmark and how many samples a full and a short run have."""

    load: Callable[[int], Task]
    samples: int
    short: int


def sample_model(name: str) -> Callable[[int], Task]:
    """A loader of a sample model with so many samples of its test split."""

    def load(samples: int) -> Task:
        task = load_task(name)
        return replace(task, train=_some(task.train, _SCORED), test=_some(task.test, samples))

    return load


def briefly_trained(build: Callable[[], nn.Module]) -> Callable[[int], Task]:
    """A loader of a model that knows a little of CIFAR-10, with so many of its test images."""

    def load(samples: int) -> Task:
        data = load_data("cifar10")
        train = _some(data.train, _SCORED)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = build()
        known = digest_of([build.__name__, _TRAINED, asdict(_BRIEFLY)])[:12]
        weights = cache_folder() / f"{known}.safetensors"
        if weights.exists():
            load_model(model, weights)
        else:
            train_(model, _some(data.train, _TRAINED), _BRIEFLY)
            save_model(model, str(weights))
        return Task(build.__name__, model.eval(), train, train, _some(data.test, samples))

    return load


def deep_resnet(blocks: int, samples: int, width: int = 8) -> Task:
    """A residual network for the growth of time: 3 stages of so many blocks, on random images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ResNet(channels=3, widths=(width, 2 * width, 4 * width), blocks=blocks)
        split = Split(torch.randn(samples, 3, 16, 16), torch.randint(10, (samples,)))
    train_(model, split, replace(_BRIEFLY, epochs=3))
    return Task(f"resnet of {3 * blocks} blocks", model, split, split, split)


def _some(split: Split, count: int) -> Split:
    """So many at random: files may be sorted by class."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    return split.take(order[:count])


CONTESTANTS = {
    "lenet-300-100": Contestant(sample_model("mnist-lenet-300-100"), 10_000, 2_000),
    "lenet5": Contestant(sample_model("mnist-lenet5"), 10_000, 512),
    "digits-mobilenet": Contestant(sample_model("digits-mobilenet"), 360, 360),
    "mobilenet-32": Contestant(briefly_trained(MobileNet32), 512, 128),
    "resnet20": Contestant(sample_model("cifar10-resnet20"), 512, 32),
    "transformer": Contestant(briefly_trained(PatchTransformer), 512, 64),
}
