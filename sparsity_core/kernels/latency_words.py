"""What the times of a whole model say, in a sentence."""

from collections.abc import Sequence

from sparsity_core.kernels.choice import DENSE
from sparsity_core.kernels.latency_row import WHOLE, LatencyRow


def model_in_words(rows: Sequence[LatencyRow]) -> str:
    """One batch of a model: the time before and after, the best rival, which layers pay."""
    whole = next(row for row in rows if row.layer == WHOLE)
    assert whole.p50 is not None
    assert whole.dense_p50 is not None
    assert whole.speedup is not None
    ways = {
        "eager": whole.dense_p50,
        "eager with batch norms folded": whole.folded_p50,
        "torch.compile": whole.compiled_p50,
        "onnxruntime": whole.onnxruntime_p50,
    }
    known = {name: us for name, us in ways.items() if us is not None}
    rival = min(known, key=lambda name: known[name])
    how = "as torch runs it" if whole.kernel == DENSE else "packed"
    times = f"{whole.p50 / 1e3:.3g} ms {how}, {known[rival] / 1e3:.3g} ms dense ({rival})"
    zeros = f"{whole.sparsity or 0:.0%}".replace("%", " %")
    start = f"{whole.model} with {zeros} zeros at batch {whole.batch}: {times}"
    noise = whole.noise or 0.0
    if whole.kernel == DENSE:
        verdict = "no packed form was clearly faster, so it stays dense"
    elif whole.speedup > 1 + noise:
        verdict = f"{whole.speedup:.1f}x faster"
    elif whole.speedup > 1 / (1 + noise):
        verdict = "no difference beyond the noise"
    else:
        verdict = f"sparse loses, {1 / whole.speedup:.1f} times as long"
    return f"{start}, {verdict}. {_layers(rows)}"


def _layers(rows: Sequence[LatencyRow]) -> str:
    layers = [row for row in rows if row.layer != WHOLE]
    pays = [row for row in layers if row.kernel != DENSE and (row.speedup or 0) > 1]
    if not pays:
        return f"None of its {len(layers)} layers pays."
    best = max(pays, key=lambda row: row.speedup or 0)
    return (
        f"{len(pays)} of {len(layers)} layers pay, most of all {best.layer} "
        f"({best.speedup:.1f}x, {best.kernel})."
    )
