"""The learning rate at each step of a training: a function of the step alone, so it can resume."""

import math
from collections.abc import Callable

from sparsity_core.recipe import Training

# One cycle as in Smith & Topin 2017 (arXiv 1708.07120), with the numbers of torch's OneCycleLR.
_RISE = 0.3  # share of the steps
_FIRST, _LAST = 1 / 25, 1 / 25e4  # shares of the highest rate


def rate_at(training: Training, step: int, steps: int) -> float:
    """The rate of the step that follows when `step` of `steps` are over."""
    return training.rate * _SHARES[training.rate_schedule](training, step, steps)


def _constant(training: Training, step: int, steps: int) -> float:  # noqa: ARG001
    return 1.0


def _cosine(training: Training, step: int, steps: int) -> float:  # noqa: ARG001
    """From 1 to nearly 0, along half a wave."""
    return (1 + math.cos(math.pi * step / steps)) / 2


def _step(training: Training, step: int, steps: int) -> float:
    """Times the factor at each share of the steps that is over."""
    # Rounded, since 0.1 * 30 is 3.0000000000000004 and would come a step late.
    return training.drop_factor ** sum(step >= round(d * steps, 6) for d in training.drops)


def _one_cycle(training: Training, step: int, steps: int) -> float:  # noqa: ARG001
    """Up to 1 in the first three tenths, then down, both along half a wave."""
    top = max(_RISE * steps - 1, 0.0)
    if step < top:
        return _between(_FIRST, 1.0, step / top)
    return _between(1.0, _LAST, (step - top) / max(steps - 1 - top, 1.0))


def _between(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


_SHARES: dict[str, Callable[[Training, int, int], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "step": _step,
    "one-cycle": _one_cycle,
}
