"""What the times of a layer say, in a sentence or two that anybody can read."""

from collections.abc import Iterable, Sequence

from sparsity_core.kernels.break_even import break_even
from sparsity_core.kernels.row import KernelRow

_USUAL = 0.9


def is_dense(kernel: str) -> bool:
    """Does it multiply the zeros like any other number?"""
    return kernel.removeprefix("gpu-").startswith("dense")


def machine_of(rows: Iterable[KernelRow]) -> str:
    """The machine that the rows were timed on, as they name it."""
    return next((row.device for row in rows), "")


def in_words(rows: Sequence[KernelRow], where: str = "") -> str:
    """The gain at 90 % (or the nearest measured) and the smallest batch, from where on a mask of
    single weights pays, and what needs another machine. For rows of one shape."""
    sound = [row for row in rows if row.p50 is not None and row.speedup_vs_dense is not None]
    sparse = [row for row in sound if not is_dense(row.kernel)]
    if not sparse:
        return "No sparse kernel was timed on this layer."
    asked = min({row.asked for row in sparse}, key=lambda share: abs(share - _USUAL))
    batch = min(row.batch for row in sparse)
    caches = {row.cache for row in sparse}
    cache = "hot" if "hot" in caches else "cold"
    if not where:
        threads = sparse[0].threads
        where = "this CPU" if sparse[0].device.startswith("cpu") else "this GPU"
        where += f" with {threads} threads" if threads > 1 else ""
    here = [row for row in sound if (row.asked, row.batch, row.cache) == (asked, batch, cache)]
    parts = [_gain(here, asked, batch, where), _from_where(sound, batch, cache)]
    if all(row.device.startswith("cpu") for row in sound):
        parts.append("2:4 needs a GPU")
    text = "; ".join(part for part in parts if part)
    return f"{text}."


def _gain(here: Sequence[KernelRow], asked: float, batch: int, where: str) -> str:
    best = max((row for row in here if not is_dense(row.kernel)), key=_speedup)
    noise = best.noise or 0.0
    at = f"At {asked:.0%}".replace("%", " %")
    if _speedup(best) < 1 + noise:
        text = f"{at} no sparse kernel is clearly faster than dense at batch {batch} on {where}"
        if _speedup(best) < 1:
            return f"{text}: the best, {best.kernel}, takes {1 / _speedup(best):.2f} times as long"
        return f"{text}: the best, {best.kernel}, gains {_speedup(best):.2f}x, within the noise"
    text = (
        f"{at} this layer runs {_speedup(best):.1f}x faster than dense at batch {batch} on "
        f"{where} ({best.kernel}, {best.structure})"
    )
    single = [row for row in here if row.structure == "unstructured" and not is_dense(row.kernel)]
    if best.structure != "unstructured" and single:
        own = max(single, key=_speedup)
        text += f", {_speedup(own):.1f}x with single weights removed ({own.kernel})"
    rival = next((row for row in here if row.kernel == "dense-bf16"), None)
    if rival is not None and _speedup(rival) > 1 + noise:
        text += f"; dense in bf16 is itself {_speedup(rival):.1f}x faster"
    return text


def _from_where(sound: Sequence[KernelRow], batch: int, cache: str) -> str:
    own = [
        row
        for row in sound
        if row.structure == "unstructured"
        and not is_dense(row.kernel)
        and (row.batch, row.cache) == (batch, cache)
    ]
    if not own:
        return ""
    found = [share for share in break_even(own).values() if share is not None]
    highest, lowest = (end(row.sparsity for row in own) for end in (max, min))
    if not found:
        return f"unstructured does not pay up to {highest:.0%}".replace("%", " %")
    if min(found) <= lowest + 1e-6:
        text = f"unstructured pays at all sparsities measured, from {lowest:.0%} on"
    else:
        text = f"unstructured below {min(found):.0%} does not pay"
    return text.replace("%", " %")


def _speedup(row: KernelRow) -> float:
    return row.speedup_vs_dense or 0.0
