"""Why a layer's time did not shrink as its multiply-adds did, in words with the numbers."""

from sparsity_core.kernels.choice import DENSE, LayerChoice
from sparsity_core.kernels.words import is_dense


def explain(choice: LayerChoice, macs: int, effective_macs: int, nonzeros: int) -> str:
    """One sentence on a layer: `macs` and `effective_macs` are those of the timed batch."""
    if choice.kernel == DENSE and DENSE in choice.refused:
        return f"stays dense: it {choice.refused[DENSE]}"
    if not choice.seconds:
        return ""
    if choice.kernel == DENSE:
        return _stays(choice)
    if is_dense(choice.kernel):
        return f"runs dense in another layout, {choice.speedup:.2f}x faster: no zeros are skipped"
    fewer = macs / effective_macs if effective_macs else float("inf")
    dense = macs / choice.seconds[DENSE] / 1e9
    sparse = effective_macs / choice.seconds[choice.kernel] / 1e9
    text = (
        f"{fewer:.1f}x fewer multiply-adds, {choice.speedup:.1f}x less time: dense does "
        f"{dense:.3g} G of them a second, {choice.kernel} {sparse:.3g} G"
    )
    if nonzeros:
        text += f"; {choice.bytes / nonzeros:.1f} bytes a kept weight, not 4: places are stored too"
    return text


def _stays(choice: LayerChoice) -> str:
    others = {k: s for k, s in choice.seconds.items() if k != DENSE and not is_dense(k)}
    if not others:
        return "stays dense: no sparse kernel takes this mask"
    best = min(others, key=lambda kind: others[kind])
    ratio = choice.seconds[DENSE] / others[best]
    if ratio < 1:
        return f"stays dense: the best sparse kernel, {best}, takes {1 / ratio:.2f} times as long"
    return f"stays dense: {best} gains {ratio:.2f}x here, which is not a clear gain in the whole"
