"""A masked training step here and in the loops that most people would write.

LeNet-300-100 on MNIST, Adam, batch 60, a tenth of the weights left, one thread; thread CPU time,
side by side in turns, medians. The rivals: the plain loop (DataLoader over a TensorDataset, torch's
default Adam, weights multiplied by their masks after each step), the same with the masks of
torch.nn.utils.prune, and the same with samples that are transformed one by one as torchvision's
data sets do. `python -m benchmarks.training_speed` (needs SPARSITY_DATA).
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune
from torch.utils.data import DataLoader, Dataset, TensorDataset

from sparsity_core.course import Course
from sparsity_core.data import Split
from sparsity_core.recipe import Training
from sparsity_core.task import Task, load_task
from sparsity_core.tickets.fresh import fresh_model
from sparsity_core.tickets.rule import Rule
from sparsity_core.weights import Masks, prunable

BATCH, RATE = 60, 1.2e-3
Steps = Callable[[int], None]


class Transformed(Dataset):
    """Bytes that become floats when asked for, as torchvision's MNIST with ToTensor, Normalize."""

    def __init__(self, split: Split) -> None:
        low, high = split.inputs.min(), split.inputs.max()
        self.bytes = ((split.inputs - low) / (high - low) * 255).to(torch.uint8)
        self.targets = split.targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        image = self.bytes[i].float().div(255)
        return image.sub(0.1307).div(0.3081), int(self.targets[i])


def ours(task: Task, masks: Masks) -> Steps:
    """A course."""
    training = Training(
        steps=10**6, optimizer="adam", rate=RATE, batch_size=BATCH, rate_schedule="constant"
    )
    course = Course(fresh_model(task, 0), task.train, training, masks=masks)

    def run(count: int) -> None:
        course.advance_(course.step + count)

    return run


def plain(task: Task, masks: Masks, data: Dataset, with_torch_prune: bool = False) -> Steps:
    """The loop of a tutorial."""
    model = fresh_model(task, 0).train()
    named = dict(model.named_parameters())
    if with_torch_prune:
        for name, mask in masks.items():
            torch_prune.custom_from_mask(model.get_submodule(name[:-7]), "weight", mask)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    loader = DataLoader(data, batch_size=BATCH, shuffle=True)

    def forever() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    batches = forever()
    factors = {name: mask.float() for name, mask in masks.items()}

    def run(count: int) -> None:
        for _ in range(count):
            inputs, targets = next(batches)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            if not with_torch_prune:
                with torch.no_grad():
                    for name, factor in factors.items():
                        named[name].mul_(factor)
            loss.item()  # shown in every tutorial's progress bar

    return run


def masks_of(model: nn.Module) -> Masks:
    """A tenth of each layer's weights, the largest."""
    parameters = dict(model.named_parameters())
    return Rule(0.9).masks({name: parameters[name] for name in prunable(model)}, {})


def main() -> None:
    """Measure in turns, print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100, help="in a turn")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    task = load_task("mnist-lenet-300-100")
    masks = masks_of(fresh_model(task, 0))
    tensors = TensorDataset(task.train.inputs, task.train.targets)
    runs = {
        "course under masks": ours(task, masks),
        "course, dense": ours(task, {}),
        "plain loop, masks multiplied": plain(task, masks, tensors),
        "plain loop, torch.nn.utils.prune": plain(task, masks, tensors, with_torch_prune=True),
        "plain loop, samples transformed": plain(task, masks, Transformed(task.train)),
    }
    for run in runs.values():
        run(20)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(chosen.turns):
        for name, run in runs.items():
            started = time.thread_time()
            run(chosen.steps)
            times[name].append((time.thread_time() - started) / chosen.steps * 1e3)
    first = times["course under masks"]
    for name, values in times.items():
        ratio = statistics.median(b / a for a, b in zip(first, values, strict=True))
        print(f"{name:33} {statistics.median(values):6.2f} ms a step, {ratio:5.2f} x the first")


if __name__ == "__main__":
    main()
