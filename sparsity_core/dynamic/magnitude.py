"""Dense networks that are pruned while they train, at once gradually or again and again."""

from dataclasses import dataclass

import torch

from sparsity_core.dynamic.exchange import highest
from sparsity_core.dynamic.rule import (
    RULES,
    Clock,
    Counts,
    Report,
    State,
    UpdateRule,
    all_live,
    check_all_finite,
)
from sparsity_core.errors import SparsityError
from sparsity_core.weights import Masks, Weights


@RULES.register("gmp")
@dataclass(frozen=True)
class GradualMagnitude(UpdateRule):
    """Gradual magnitude pruning: dense at first, then the smallest go along a cubic, for good.

    s_t = s (1 - (1 - (t - t0) / (t1 - t0))^3) in each layer; the last pruning meets s exactly.
    Source: Zhu & Gupta 2017, arXiv 1710.01878.
    """

    every: int = 100
    begin: float = 0.0  # shares of the training
    until: float = 0.75

    def __post_init__(self) -> None:
        if self.every < 1 or not 0 <= self.begin < self.until <= 1:
            raise SparsityError(
                "gmp: every must be 1 or more and 0 <= begin < until <= 1, got "
                f"{self.every}, {self.begin:g} and {self.until:g}"
            )

    def span(self, clock: Clock) -> tuple[int, int]:
        """The steps of the first and of the last pruning."""
        end = max(1, min(round(self.until * clock.steps), clock.steps - 1))
        return min(round(self.begin * clock.steps), end - 1), end

    def progress(self, clock: Clock) -> float:
        """The share of the final sparsity that is reached, 0 to 1."""
        begin, end = self.span(clock)
        return 1 - (1 - min(max((clock.step - begin) / (end - begin), 0.0), 1.0)) ** 3

    def first(self, weights: Weights, kept: Counts, seed: int) -> Masks:  # noqa: ARG002
        """Everything lives."""
        return all_live(weights)

    def due(self, clock: Clock) -> bool:
        """Every so often from begin to end, and at the end."""
        begin, end = self.span(clock)
        on_time = (clock.step - begin) % self.every == 0
        return clock.step == end or (begin <= clock.step < end and on_time)

    def update(self, state: State) -> tuple[Masks, Report]:
        """What is gone stays gone."""
        check_all_finite(state.weights, "weights")
        share = self.progress(state.clock)
        masks = {}
        for name, mask in state.masks.items():
            size, kept = mask.numel(), state.kept[name]
            # Rounded first: 0.9 x 1000 must not come out as 899.9999.
            count = size - int(round(share * (size - kept), 6))
            masks[name] = highest(state.weights[name].abs(), mask, min(count, int(mask.sum())))
        return masks, Report()


@RULES.register("ac-dc")
@dataclass(frozen=True)
class AlternatingCompression(UpdateRule):
    """AC/DC: phases without a mask alternate with phases under the mask of the largest weights.

    One ranking over all layers at each compression; weights that come back start at 0, and the
    last phase is compressed. `prune` and `restore` are shares of the training, by default those of
    100 epochs on ImageNet. Source: Peste et al. 2021, arXiv 2106.12379.
    """

    prune: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85)
    restore: tuple[float, ...] = (0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75)

    def __post_init__(self) -> None:
        for name in ("prune", "restore"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        turns = sorted([(share, 1) for share in self.prune] + [(s, 0) for s in self.restore])
        alternate = [kind for _, kind in turns] == [1, 0] * len(self.restore) + [1]
        if not alternate or not turns[0][0] > 0 or not turns[-1][0] < 1:
            raise SparsityError(
                "ac-dc: prune and restore must take turns within 0 to 1 and end with prune, got "
                f"{self.prune} and {self.restore}"
            )

    def first(self, weights: Weights, kept: Counts, seed: int) -> Masks:  # noqa: ARG002
        """Everything lives."""
        return all_live(weights)

    def compressed(self, clock: Clock) -> bool:
        """Is the step made under a mask?"""
        turns = [(round(s * clock.steps), True) for s in self.prune]
        turns += [(round(s * clock.steps), False) for s in self.restore]
        return max(((s, on) for s, on in turns if s <= clock.step), default=(0, False))[1]

    def due(self, clock: Clock) -> bool:
        """At the turns."""
        shares = (*self.prune, *self.restore)
        return clock.step > 0 and clock.step in {round(s * clock.steps) for s in shares}

    def update(self, state: State) -> tuple[Masks, Report]:
        """The largest of all layers, as many as the budgets together, or everything."""
        check_all_finite(state.weights, "weights")
        if not self.compressed(state.clock):
            return all_live(state.weights), Report()
        flat = torch.cat([weight.abs().reshape(-1) for weight in state.weights.values()])
        anywhere = torch.ones_like(flat, dtype=torch.bool)
        parts = highest(flat, anywhere, sum(state.kept.values())).split(
            [weight.numel() for weight in state.weights.values()]
        )
        named = zip(state.weights.items(), parts, strict=True)
        return {name: part.reshape(weight.shape) for (name, weight), part in named}, Report()
