"""Scores from the gradient of the loss at the weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.probe import Probe
from sparsity_core.scorers.scorer import SCORERS, Scorer
from sparsity_core.weights import Scores


@SCORERS.register("taylor")
@dataclass(frozen=True)
class Taylor(Scorer):
    """First-order change of the loss when the weight goes: |w * dL/dw|.

    The gradient is that of the mean loss over the probe's samples. Pooled into units: the mean of
    |w * dL/dw|, or with `joint` the size of the mean of w * dL/dw, which is the first-order change
    when the whole unit goes. Source: Molchanov et al. 2019, arXiv 1906.10771, in the form without
    the square (the same order).
    """

    memory: ClassVar[float] = 4.5
    joint: bool = False

    def score(self, probe: Probe) -> Scores:
        """|w * dL/dw|; with `joint` its sign is kept until units are pooled."""
        gradients = probe.gradients
        products = {name: weight * gradients[name] for name, weight in probe.weights.items()}
        return products if self.joint else {n: product.abs() for n, product in products.items()}

    def pool(self, scores: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
        """|mean of w * dL/dw|, or the mean of the sizes."""
        return mean(scores).abs()


@SCORERS.register("gradient")
@dataclass(frozen=True)
class Gradient(Scorer):
    """The size of the gradient, |dL/dw|: what RigL grows by; of pruned weights too.

    Source: Evci et al. 2020 (RigL), arXiv 1911.11134.
    """

    memory: ClassVar[float] = 3.5

    def score(self, probe: Probe) -> Scores:
        """|dL/dw|."""
        return {name: gradient.abs() for name, gradient in probe.gradients.items()}


@SCORERS.register("snip")
@dataclass(frozen=True)
class Snip(Scorer):
    """Connection sensitivity: |w * dL/dw| as a share of its sum over all layers.

    Meant for a model at initialisation; the probe's samples are its one mini-batch. On the same
    samples it ranks as `taylor` does. Source: Lee et al. 2019, arXiv 1810.02340.
    """

    memory: ClassVar[float] = 4.5

    def score(self, probe: Probe) -> Scores:
        """|w * dL/dw| / sum of |w * dL/dw|; all scores together add up to one."""
        scores = Taylor().score(probe)
        total = sum(float(score.double().sum()) for score in scores.values())
        if total == 0:
            raise SparsityError(
                "snip: every gradient is zero, so no weight can be told from another; "
                "choose a scorer that needs no gradient, such as magnitude"
            )
        return {name: score / total for name, score in scores.items()}
