"""How much memory does a sweep of a large model take, in sizes of the model?

Random weights; what the process holds at its peak, the task's own model among it, above what it
held before the model was built and after a tiny one was swept. One model a process.

    python -m benchmarks.sweep_scale --model transformer --memory 67108864
"""

import argparse
import resource
import time

import psutil
import torch
from torch import Tensor, nn

from benchmarks.sweep_models import deep_resnet
from sample_models.vit import Layer
from sparsity_core.data import Split
from sparsity_core.machine import device_label
from sparsity_core.sweep.engines import ENGINES
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import Task


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a sum (He et al. 2015)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1, self.relu1 = nn.BatchNorm2d(width), nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(width), nn.ReLU()
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3, self.relu3 = nn.BatchNorm2d(4 * width), nn.ReLU()
        self.short = nn.Identity() if inputs == 4 * width else Projection(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, 4 width, H / stride, W / stride)."""
        h = self.relu1(self.bn1(self.conv1(x)))
        h = self.relu2(self.bn2(self.conv2(h)))
        return self.relu3(self.bn3(self.conv3(h)) + self.short(x))


class Projection(nn.Sequential):
    """The shortcut where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        conv = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
        super().__init__(conv, nn.BatchNorm2d(4 * width))


def resnet50() -> tuple[nn.Module, Tensor]:
    """23.5 M weights, as ResNet-50 has them, and a few small images."""
    blocks, inputs = [], 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(count):
            blocks.append(Bottleneck(inputs, width, stride if i == 0 else 1))
            inputs = 4 * width
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)]
    return nn.Sequential(*stem, *blocks, *head), torch.randn(16, 3, 64, 64)


def transformer() -> tuple[nn.Module, Tensor]:
    """100 M weights: 20 layers of width 768 whose inner width is 1536, on 16 tokens."""
    layers = [Layer(768, 12) for _ in range(21)]
    head = [nn.LayerNorm(768), nn.Flatten(), nn.Linear(16 * 768, 10)]
    return nn.Sequential(*layers, *head), torch.randn(16, 16, 768)


MODELS = {"resnet50": resnet50, "transformer": transformer}


def main() -> None:
    """Print the peak, and what it is made of."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="transformer", choices=MODELS)
    parser.add_argument("--engine", default="exact", choices=ENGINES)
    parser.add_argument("--memory", type=int, default=2**26, help="bytes between layers")
    parser.add_argument("--layers", default="first,last", help="or all")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    small = deep_resnet(1, 4)
    few = plan_sweep(small, sparsities=[0.5], engine=chosen.engine)
    list(few.run(small, few.points()))  # the libraries take as much for any model
    before = psutil.Process().memory_info().rss
    torch.manual_seed(0)
    model, inputs = MODELS[chosen.model]()
    split = Split(inputs, torch.randint(10, (len(inputs),)))
    task = Task(chosen.model, model.eval(), split, split, split)
    size = 4 * sum(p.numel() for p in model.parameters())
    plan = plan_sweep(
        task,
        layers=chosen.layers.split(","),
        sparsities=[0.5, 0.9],
        engine=chosen.engine,
        memory=chosen.memory,
    )
    started = time.thread_time()
    rows = list(plan.run(task, plan.points()))
    seconds = time.thread_time() - started
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(
        f"{device_label('cpu')}; {chosen.model}: {size / 4e6:.0f} M weights, {size / 2**20:.0f} "
        f"MiB; {len(rows)} points ({sorted({r.status for r in rows})}, "
        f"{sorted({r.engine for r in rows})}) in {seconds:.0f} s; peak {peak / 2**20:.0f} MiB, "
        f"less the budget {(peak - chosen.memory) / size:.2f} times the model"
    )


if __name__ == "__main__":
    main()
