"""A masked training step here and in the loops that most people would write.

LeNet-300-100 on MNIST, Adam, batch 60, a tenth of the weights left, one thread; thread CPU time,
side by side in turns, medians. The typical rival is what torch's and torchvision's tutorials show
put together: a Dataset whose samples are transformed one by one (ToTensor, Normalize) behind a
DataLoader, the masks of torch.nn.utils.prune, torch's default Adam. From it to the course one
ingredient changes at a time. What masking takes is measured in one course, which trains under masks
and without them in turns. `python -m benchmarks.training_speed` (needs SPARSITY_DATA).
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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


def course_of(task: Task, masks: Masks) -> Course:
    """A training of ours."""
    training = Training(
        steps=10**6, optimizer="adam", rate=RATE, batch_size=BATCH, rate_schedule="constant"
    )
    return Course(fresh_model(task, 0), task.train, training, masks=masks)


def ours(task: Task, masks: Masks) -> Steps:
    """A course."""
    course = course_of(task, masks)

    def run(count: int) -> None:
        course.advance_(course.step + count)

    return run


@dataclass(frozen=True)
class Loop:
    """A loop of a tutorial, with some of its habits given up."""

    transforms: bool = True  # sample by sample, as torchvision does; else floats lie ready
    loader: bool = True  # a DataLoader; else batches are indexed out of one tensor
    torch_prune: bool = True  # the re-parametrisation; else weights times masks after each step
    fused: bool = False  # Adam

    def steps(self, task: Task, masks: Masks) -> Steps:
        """The loop, ready to run."""
        model = fresh_model(task, 0).train()
        named = dict(model.named_parameters())
        if self.torch_prune:
            for name, mask in masks.items():
                torch_prune.custom_from_mask(model.get_submodule(name[:-7]), "weight", mask)
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=self.fused or None)
        batches = self._batches(task.train)
        factors = {} if self.torch_prune else {name: mask.float() for name, mask in masks.items()}

        def run(count: int) -> None:
            for _ in range(count):
                inputs, targets = next(batches)
                optimizer.zero_grad()
                loss = F.cross_entropy(model(inputs), targets)
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    for name, factor in factors.items():
                        named[name].mul_(factor)
                loss.item()  # shown in every tutorial's progress bar

        return run

    def _batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        tensors = TensorDataset(split.inputs, split.targets)
        data: Dataset = Transformed(split) if self.transforms else tensors
        loader = DataLoader(data, batch_size=BATCH, shuffle=True)
        while self.loader:
            yield from loader
        while True:
            for indices in torch.randperm(len(split)).split(BATCH):
                yield split.inputs[indices], split.targets[indices]


LOOPS = {
    "typical: transforms, prune, DataLoader": Loop(),
    "masks multiplied, no torch prune": Loop(torch_prune=False),
    "floats ready, no transforms": Loop(transforms=False, torch_prune=False),
    "indexed, no DataLoader": Loop(transforms=False, torch_prune=False, loader=False),
    "fused Adam": Loop(transforms=False, torch_prune=False, loader=False, fused=True),
    "floats ready, with torch prune": Loop(transforms=False),
}


def masks_of(model: nn.Module) -> Masks:
    """A tenth of each layer's weights, the largest."""
    parameters = dict(model.named_parameters())
    return Rule(0.9).masks({name: parameters[name] for name in prunable(model)}, {})


def masking(task: Task, masks: Masks, turns: int, steps: int = 20) -> None:
    """What masks add to a step: the same weights in the same memory, with and without them."""
    course = course_of(task, masks)
    taken: dict[str, list[float]] = {"dense": [], "masked": []}
    for _ in range(turns):
        for name, values in taken.items():
            course.mask_(masks if name == "masked" else {})
            course.advance_(course.step + 2)  # caches are cold after the change
            for _ in range(steps):
                started = time.thread_time()
                course.advance_(course.step + 1)
                values.append((time.thread_time() - started) * 1e6)
    dense, masked = (statistics.median(values) for values in taken.values())
    print(f"in one course: {dense:.0f} us a step dense, {masked:.0f} under masks, ", end="")
    print(f"{masked - dense:+.0f} us or {masked / dense - 1:+.1%}")


def main() -> None:
    """Measure in turns, print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100, help="in a turn")
    parser.add_argument("--only-masking", action="store_true")
    parser.add_argument("--model", default="mnist-lenet-300-100", help="or cifar10-resnet20")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    task = load_task(chosen.model)
    masks = masks_of(fresh_model(task, 0))
    masking(task, masks, 4 * chosen.turns, min(20, chosen.steps))
    if chosen.only_masking:
        return
    runs = {"course under masks": ours(task, masks), "course, dense": ours(task, {})}
    runs |= {name: loop.steps(task, masks) for name, loop in LOOPS.items()}
    for run in runs.values():
        run(min(20, chosen.steps))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(chosen.turns):
        for name, run in runs.items():
            started = time.thread_time()
            run(chosen.steps)
            times[name].append((time.thread_time() - started) / chosen.steps * 1e3)
    first = times["course under masks"]
    for name, values in times.items():
        ratio = statistics.median(b / a for a, b in zip(first, values, strict=True))
        print(f"{name:40} {statistics.median(values):6.2f} ms a step, {ratio:5.2f} x the first")


if __name__ == "__main__":
    main()
