"""Predictions that rounding could have changed are made again, with the model's own bits."""

from collections.abc import Callable, Sequence

from torch import Tensor

CLOSE = 1e-4  # a prediction is made again when its two best outputs are nearer than that,
SAFETY = 16  # or nearer than so many times the largest difference of outputs seen


class Margins:
    """How near the outputs of a faster program may come before the model itself has to say.

    The bound is empirical: the differences seen on samples that both have run, times `SAFETY`.
    """

    def __init__(self) -> None:
        self.difference = 0.0
        self.rerun = 0  # batches

    @property
    def bound(self) -> float:
        """Two outputs nearer than this may be in another order in the model."""
        return max(CLOSE, SAFETY * self.difference)

    def learn(self, expected: Tensor, found: Tensor) -> None:
        """Take note of how far outputs are from the model's."""
        self.difference = max(self.difference, float((expected - found).abs().max()))

    def settled(self, outputs: Sequence[Tensor], own: Callable[[int], Tensor]) -> list[Tensor]:
        """The outputs of all batches; where a prediction is in doubt, the model's `own`."""
        found = list(outputs)
        sure: set[int] = set()
        while doubtful := {i for i, batch in enumerate(found) if self._close(batch)} - sure:
            for i in doubtful:
                exact = own(i)
                self.learn(exact, found[i])
                found[i] = exact
            sure |= doubtful
            self.rerun += len(doubtful)
        return found

    def _close(self, outputs: Tensor) -> bool:
        if outputs.dim() < 2 or outputs.shape[1] < 2:
            return False
        best = outputs.topk(2, dim=1).values
        return not bool((best[:, 0] - best[:, 1] >= self.bound).all())  # NaN is in doubt too
