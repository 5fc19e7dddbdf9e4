"""Predictions that rounding could have changed are made again, with the model's own bits."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

CLOSE = 1e-4  # a prediction is made again when its two best outputs are nearer than that,
SAFETY = 16  # or nearer than so many times the largest difference of outputs seen


class Margins:
    """How near the outputs of a faster program may come before the model itself has to say.

    The bound is empirical: the differences seen on samples that both have run, times `SAFETY`.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Tensor]) -> None:
        self.model, self.batches = model, batches
        self.difference = 0.0
        self.rerun = 0  # batches

    @property
    def bound(self) -> float:
        """Two outputs nearer than this may be in another order in the model."""
        return max(CLOSE, SAFETY * self.difference)

    def learn(self, expected: Tensor, found: Tensor) -> None:
        """Take note of how far outputs are from the model's."""
        self.difference = max(self.difference, float((expected - found).abs().max()))

    @torch.no_grad()
    def settled(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs of all batches, the model's own where a prediction is in doubt.

        The model has the masks meanwhile.
        """
        found = list(outputs)
        sure: set[int] = set()
        while doubtful := {i for i, batch in enumerate(found) if self._close(batch)} - sure:
            for i in doubtful:
                own = self.model(self.batches[i])
                self.learn(own, found[i])
                found[i] = own
            sure |= doubtful
            self.rerun += len(doubtful)
        return found

    def _close(self, outputs: Tensor) -> bool:
        if outputs.dim() < 2 or outputs.shape[1] < 2:
            return False
        best = outputs.topk(2, dim=1).values
        return not bool((best[:, 0] - best[:, 1] >= self.bound).all())  # NaN is in doubt too
