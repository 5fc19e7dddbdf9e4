"""Every point in bfloat16, and again in float32 the samples whose prediction that may have changed.

A sample is in doubt when its two best outputs are nearer than the bound: the largest error of a
difference of two outputs seen in this layer, as a share of the outputs' spread, times `SAFETY`. It
is measured on a few samples first and on every sample run again, and grows when one is worse. That
is no proof, so 1 % of the other samples are run again too, drawn at random; when one of them has
another prediction, the safety is doubled and the layer looked at again. A layer where bfloat16
would leave most samples in doubt is not worth a look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from sparsity_core.digest import digest_of
from sparsity_core.sweep.lowered import Lowered
from sparsity_core.sweep.program import Program
from sparsity_core.sweep.rescue import Rescue
from sparsity_core.sweep.verdict import Verdict, verdict
from sparsity_core.weights import Masks

SAFETY = 2.0
AUDITED = 0.01  # of the samples that are not in doubt
_FIRST = 32  # samples of the middle variant, from which the bound starts
_MOST = 0.4  # share in doubt: from half on, float32 at once is sooner done (1/3 + 1.3 x doubt > 1)


@dataclass(eq=False)
class _Variant:
    """A mask's outputs: bfloat16's, with float32's in the place of those that were run again."""

    masks: Masks
    outputs: Tensor  # (N, classes)
    seen: Verdict  # on bfloat16's
    spread: float  # the outputs' standard deviation within a sample, mean over samples
    exact: Tensor  # (N,) which of them are float32's
    audited: int = 0


@dataclass(frozen=True, eq=False)
class Screened:
    """The outputs of a variant, and the shares of its samples that were run again."""

    outputs: Tensor
    rescued: float
    audited: float

    @property
    def note(self) -> str:
        """For the row."""
        return (
            f"screened in bfloat16, {self.rescued:.2%} of the samples rescued and "
            f"{self.audited:.2%} audited in float32; the loss is approximate"
        )


class Screen:
    """The layers of a model by a bfloat16 program, rescued by the float32 one."""

    def __init__(self, fused: Rescue, low: Program | None = None) -> None:
        self.fused = fused
        self.low = Lowered(fused, low)
        self.errors: dict[str, float] = {}  # of each layer, the largest seen up to now

    def screened(self, layer: str, variants: Sequence[Masks]) -> list[Screened] | str:
        """The outputs of each variant for all samples; or why the layer is better not screened."""
        run = self.low.outputs(layer, variants)

        @cache
        def look(place: int) -> _Variant:
            return _looked(variants[place], torch.cat(run(place)).float().cpu())

        layer_screen = _LayerScreen(self.fused, layer, [look(len(variants) // 2)])
        if layer in self.errors:
            layer_screen.error = self.errors[layer]
        else:
            layer_screen.begin()
        doubt = layer_screen.doubt()
        if doubt > _MOST:
            return f"bfloat16 leaves {doubt:.0%} of the samples in doubt"
        looked = layer_screen.variants = [look(place) for place in range(len(variants))]
        layer_screen.settle()
        self.errors[layer] = layer_screen.error
        return [
            Screened(
                v.outputs,
                (int(v.exact.sum()) - v.audited) / len(v.exact),
                v.audited / len(v.exact),
            )
            for v in looked
        ]


class _LayerScreen:
    def __init__(self, fused: Rescue, layer: str, variants: list[_Variant]) -> None:
        self.fused, self.layer, self.variants = fused, layer, variants
        self.error = 0.0  # as a share of the spread
        self.safety = SAFETY
        self.draw = torch.Generator().manual_seed(int(digest_of(layer)[:12], 16))

    def begin(self) -> None:
        """Learn the error from a few samples."""
        samples = len(self.variants[0].exact)
        first = torch.randperm(samples, generator=self.draw)[:_FIRST].sort().values
        self._again([(variant, first, len(first)) for variant in self.variants])

    def doubt(self) -> float:
        """The share of the samples that are in doubt, mean over variants."""
        shares = [len(self._doubtful(v)) / len(v.exact) for v in self.variants]
        return sum(shares) / len(shares)

    def settle(self) -> None:
        """Run samples again until none is in doubt and an audit finds nothing."""
        audited = False
        while True:
            asked = []
            for variant in self.variants:
                doubtful = self._doubtful(variant)
                drawn = doubtful[:0] if audited else self._drawn(variant, doubtful)
                asked.append((variant, torch.cat([doubtful, drawn]), len(doubtful)))
            if audited and not any(count for *_, count in asked):
                return
            audited = not self._again(asked)
            if not audited:
                self.safety *= 2

    def _doubtful(self, variant: _Variant) -> Tensor:
        bound = self.safety * self.error * variant.spread
        sure = (variant.seen.margins > bound) | variant.exact  # NaN is in doubt
        return (~sure).nonzero()[:, 0]

    def _drawn(self, variant: _Variant, doubtful: Tensor) -> Tensor:
        """The samples to audit of a variant: some that are neither in doubt nor run again."""
        left = ~variant.exact
        left[doubtful] = False
        numbers = left.nonzero()[:, 0]
        count = -(-len(numbers) // round(1 / AUDITED))
        variant.audited += count
        return numbers[torch.randperm(len(numbers), generator=self.draw)[:count]].sort().values

    def _again(self, asked: Sequence[tuple[_Variant, Tensor, int]]) -> bool:
        """Run samples in float32 and learn from their errors.

        Has any of them behind the first so many, which were in doubt, another prediction?
        """
        asked = [(variant, samples, first) for variant, samples, first in asked if len(samples)]
        found = self.fused.some(self.layer, [(v.masks, samples) for v, samples, _ in asked])
        changed = False
        for (variant, samples, first), exact in zip(asked, found, strict=True):
            best = variant.seen.predictions[samples, None]
            off = variant.outputs[samples] - exact
            error = (off.gather(1, best) - off).abs()
            if variant.spread > 0 and torch.isfinite(error).all():
                self.error = max(self.error, float(error.max()) / variant.spread)
            variant.outputs[samples] = exact
            variant.exact[samples] = True
            changed |= not torch.equal(verdict(exact).predictions[first:], best[first:, 0])
        return changed


def _looked(masks: Masks, outputs: Tensor) -> _Variant:
    spread = float(outputs.std(1).nan_to_num(0, 0, 0).mean())
    return _Variant(
        masks, outputs, verdict(outputs), spread, torch.zeros(len(outputs), dtype=torch.bool)
    )
