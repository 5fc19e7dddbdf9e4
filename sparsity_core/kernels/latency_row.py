"""What is known of one layer of a pruned model, or of all of it, before and after packing."""

from dataclasses import dataclass

WHOLE = "whole model"


@dataclass(frozen=True)
class LatencyRow:
    """One layer, or the whole model; times in microseconds a call; None = not measured."""

    model: str
    layer: str  # WHOLE, or the name of a weight
    batch: int
    threads: int
    folded: bool  # batch norms into the layers before them
    recipe: str
    sparsity: float | None  # share of zeros
    weights: int | None  # of the whole model: all parameters
    nonzeros: int | None
    macs: int | None  # multiply-adds of one sample
    effective_macs: int | None  # those by a weight that is not zero
    dense_bytes: int | None
    bytes: int | None  # as it runs
    bitmask_bytes: int | None
    csr_bytes: int | None
    kernel: str  # "as it was": the layer's own dense product
    dense_p50: float | None  # the zeros multiplied, the better of eager and folded
    p50: float | None
    speedup: float | None  # over dense; over the best dense rival for the whole model
    p20: float | None  # of the whole model
    p80: float | None
    folded_p50: float | None  # dense with folded batch norms
    compiled_p50: float | None  # torch.compile
    onnxruntime_p50: float | None
    noise: float | None  # how far apart two timings of the same dense model were
    status: str
    message: str  # where the gain went
    seconds: float
    device: str
    versions: str
    point_id: str
