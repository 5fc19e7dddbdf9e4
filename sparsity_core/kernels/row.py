"""What is known of one kernel in one setting: a row of the command's file."""

from dataclasses import dataclass

# The columns of the command's file, in its order; a row has more.
COLUMNS = (
    *("kernel", "structure", "rows", "cols", "batch", "dtype", "threads", "sparsity"),
    *("p20", "p50", "p80", "speedup_vs_dense", "speedup_vs_csr", "bytes", "limit_fraction"),
    *("device", "versions"),
)


@dataclass(frozen=True)
class KernelRow:
    """One kernel in one setting; None = not measured, and `status` and `message` say why.

    Times in microseconds a call, transposes, bias and conversions included.
    """

    kernel: str
    structure: str
    rows: int  # outputs
    cols: int  # weights of an output
    batch: int
    dtype: str  # of the stored values
    threads: int
    sparsity: float  # of the mask, which may be near the one asked for only
    p20: float | None
    p50: float | None
    p80: float | None
    speedup_vs_dense: float | None  # over the quickest float32 dense, timed beside it
    speedup_vs_csr: float | None  # over torch's best CSR; none for convolutions
    bytes: int | None  # of the packed weight
    limit_fraction: float | None  # the least time that is possible, over p50
    device: str
    versions: str
    asked: float  # the sparsity asked for
    cache: str  # hot or cold
    limit: str  # what bounds it: bytes, multiply-adds, gather or permute
    noise: float | None  # how far apart two timings of the same dense were: a share of the time
    multiply_adds: int | None  # that the kernel has to do in a call
    moved: int | None  # bytes that a call has to read and write
    peak: float | None  # multiply-adds a second that this many threads can do
    bandwidth: float | None  # bytes a second from where `moved` fits
    energy: float | None  # microjoules a call
    energy_source: str  # rapl or model
    model: str  # empty: random weights
    layer: str
    seed: int
    status: str
    message: str
    seconds: float  # that all kernels of the setting took together
    point_id: str
    power: str | None = None  # governor, clock, heat, mains: what could be read; None: nothing
