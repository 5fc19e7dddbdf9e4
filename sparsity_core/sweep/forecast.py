"""What a whole-model pruning should cost, if what each layer alone costs simply adds up."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sparsity_core.errors import SparsityError
from sparsity_core.sweep.point import Result

# One layer pruned alone: (share of zeros achieved, loss rise), ascending, from (0, 0).
Curve = tuple[tuple[float, float], ...]

_SAME = 1e-6  # shares of zeros closer than this are the same: rows may come rounded from a file


@dataclass(frozen=True)
class Forecast:
    """The loss rise of each layer alone, and the layers for which none is known -> why."""

    rises: dict[str, float]
    unknown: dict[str, str]

    @property
    def total(self) -> float | None:
        """The sum over all layers; None as long as one is unknown."""
        return None if self.unknown else sum(self.rises.values())


def curves(rows: Iterable[Result]) -> dict[str, Curve]:
    """The loss rise of each swept layer over its achieved sparsity, the mean over seeds.

    Sound points only; a layer without one has no curve. Raises SparsityError for rows that do not
    belong together: several models, scorers, structures or sample sets.
    """
    rows = list(rows)
    for part in ("model", "scorer", "structure", "split", "samples"):
        found = {getattr(row, part) for row in rows} - {None}
        if len(found) > 1:
            raise SparsityError(
                f"rows of one {part} make a curve, got {', '.join(map(str, sorted(found)))}; "
                "choose one of them"
            )
    measured: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        if row.status == "ok" and row.achieved_sparsity is not None and row.loss_rise is not None:
            # At the achieved share: where few units round the request, equal masks coincide.
            share = round(row.achieved_sparsity, 6)
            measured.setdefault(row.layer, {}).setdefault(share, []).append(row.loss_rise)
    return {layer: _curve(levels) for layer, levels in measured.items()}


def predicted_rise(curves: Mapping[str, Curve], sparsities: Mapping[str, float]) -> Forecast:
    """The loss rise of layers pruned together, as the sum of what each costs alone, in nats.

    `sparsities`: achieved share of zeros of each layer. Between measured levels a curve is a
    straight line; beyond its last level, and for a layer without a curve, nothing is known. The
    sum neglects that layers act on each other: first order of a Taylor expansion over layers, as
    OBD (LeCun et al. 1990) assumes it of weights.
    """
    rises: dict[str, float] = {}
    unknown: dict[str, str] = {}
    for layer, sparsity in sparsities.items():
        curve = curves.get(layer, ((0.0, 0.0),) if sparsity <= 0 else ())
        if not curve:
            unknown[layer] = "no sound point of it was measured alone"
        elif sparsity > curve[-1][0] + _SAME:
            unknown[layer] = (
                f"{100 * sparsity:.4g} % is beyond the last level measured alone, "
                f"{100 * curve[-1][0]:.4g} %"
            )
        else:
            rises[layer] = _interpolated(curve, sparsity)
    return Forecast(rises, unknown)


def _curve(levels: Mapping[float, list[float]]) -> Curve:
    means = {share: sum(found) / len(found) for share, found in levels.items()}
    return ((0.0, 0.0), *sorted((s, rise) for s, rise in means.items() if s > 0))


def _interpolated(curve: Curve, sparsity: float) -> float:
    """The curve's height, by a straight line between the two levels around `sparsity`."""
    left, low = curve[0]
    for right, high in curve[1:]:
        if sparsity <= right:
            return low + (high - low) * max(0.0, sparsity - left) / (right - left)
        left, low = right, high
    return low
