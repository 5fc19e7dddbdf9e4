"""Predictions that rounding could have changed are made again, in the end with the model's bits.

Three programs say the same but for rounding: the fused one, the model on a few samples, and the
model on the very batches of the reference. What is in doubt with one is asked of the next.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sparsity_core.sweep.shapes import filled_up, rounded_up
from sparsity_core.sweep.verdict import Verdict, verdict

CLOSE = 1e-4  # a prediction is made again when its two best outputs are nearer than that,
SAFETY = 8  # or nearer than so many times the largest difference seen, for outputs of their size
EPSILON = 2**-23  # least difference supposed, as a share of the largest output: float32's last bit

Own = Callable[[Tensor], Tensor]  # samples by their numbers (n,) -> the model's outputs for them


class Margins:
    """How near the outputs of a faster program may come before the model itself has to say.

    The bound is empirical: the differences seen on samples that both have run, as a share of the
    largest output there, times `SAFETY`.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch  # samples that the reference has at a time
        self.difference = 0.0  # of the fused program from the model, as a share
        self.few_difference = EPSILON  # of the model on a few samples from the model on a batch
        self.rerun = 0  # samples asked of the model again
        self.batches = 0  # of them in whole batches

    def bound(self, scale: float) -> float:
        """Two outputs nearer than this may be in another order in the model."""
        return max(CLOSE, SAFETY * self.difference * scale)

    def few_bound(self, scale: float) -> float:
        """The same for outputs that the model itself gave, but to a few samples at a time."""
        return SAFETY * self.few_difference * scale

    def learn(self, expected: Tensor, found: Tensor, scale: float = 0.0) -> None:
        """Take note of how far outputs of a point are from the model's, as a share of its scale."""
        self.difference = max(self.difference, _share(expected, found, scale))

    def learn_few(self, expected: Tensor, found: Tensor, scale: float = 0.0) -> None:
        """Take note of how far the model's outputs for a few samples are from those for many."""
        self.few_difference = max(self.few_difference, _share(expected, found, scale))

    def settled(self, outputs: Tensor, own: Own) -> tuple[Tensor, Verdict]:
        """The outputs for all samples (N, classes); where a prediction is in doubt, the model's.

        And the verdict on them. `own` gives the model's outputs.
        """
        found = outputs
        sure = torch.zeros(len(outputs), dtype=torch.bool)
        while True:
            seen = verdict(found)
            doubtful = ~(seen.margins >= self.bound(seen.scale)) & ~sure  # NaN is in doubt too
            numbers = doubtful.nonzero()[:, 0]
            if not len(numbers):
                return found, seen
            if found is outputs:
                found = outputs.clone()
            sure |= doubtful
            self._ask(numbers, found, own, sure, seen.scale)

    def _ask(self, numbers: Tensor, found: Tensor, own: Own, sure: Tensor, scale: float) -> None:
        """Put the model's outputs for doubtful samples into `found`; whole batches get `sure`."""
        few = 2 * len(numbers) < len(found)
        if few:
            exact = own(filled_up(numbers, rounded_up(len(numbers))))[: len(numbers)]
            self.rerun += len(numbers)
            self.learn(exact, found[numbers], scale)
            found[numbers] = exact
            margins = verdict(exact).margins
            numbers = numbers[~(margins >= self.few_bound(scale))]
        for start in (numbers // self.batch).unique().tolist():
            batch = torch.arange(len(found))[start * self.batch :][: self.batch]
            exact = own(batch)
            self.rerun += len(batch)
            self.batches += 1
            if few:
                asked = numbers[numbers // self.batch == start]
                at = asked - start * self.batch
                self.learn_few(exact[at], found[asked], scale)
            else:
                self.learn(exact, found[batch], scale)
            found[batch] = exact
            sure[batch] = True


def _share(expected: Tensor, found: Tensor, scale: float) -> float:
    """The largest difference as a share of the scale or the largest output; 0 if none is finite."""
    finite = torch.isfinite(expected) & torch.isfinite(found)
    if not finite.any():
        return 0.0
    expected, found = expected[finite], found[finite]
    scale = max(scale, float(expected.abs().max()))
    return float((expected - found).abs().max()) / scale if scale else 0.0
