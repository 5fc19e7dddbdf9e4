"""One point of a whole-model curve as a row."""

from dataclasses import dataclass, fields

from sparsity_core.comparison import Comparison


@dataclass(frozen=True)
class CurveResult:
    """One point of a curve; the fields are the columns of the file, None = not measured."""

    model: str
    scorer: str
    structure: str
    allocation: str
    schedule: str
    repair: str  # steps joined by " + "; empty = none
    finetune_epochs: int  # after each round; 0 = as pruned
    sparsity: float  # as asked of the layers that the recipe prunes
    achieved_sparsity: float | None  # share of zeros among all prunable weights
    compression: float | None  # all parameters over those not zero
    mac_share: float | None  # multiply-adds by non-zero weights over all: a count, not a speed
    metric: str
    value: float | None
    dense_value: float | None
    drop: float | None  # dense_value - value
    drop_low: float | None  # paired 95 % interval over samples, not over seeds
    drop_high: float | None
    loss: float | None
    dense_loss: float | None
    loss_rise: float | None
    loss_rise_low: float | None
    loss_rise_high: float | None
    lost: int | None  # samples that only the dense model has right
    gained: int | None  # samples that only the pruned model has right
    other_errors: int | None  # wrong in both, in different ways
    calibration_error: float | None  # ECE of 15 bins
    dense_calibration_error: float | None
    class_values: str | None  # accuracy of each class, as JSON
    dense_class_values: str | None
    reliability: str | None  # JSON: samples, mean confidence, accuracy of each bin
    dense_reliability: str | None
    samples: int | None
    split: str
    seed: int
    status: str
    message: str
    seconds: float
    device: str
    versions: str
    recipe: str  # digest of the recipe at this sparsity
    point_id: str


FLIPS = ("lost", "gained", "other_errors")
MEASURED = (
    "achieved_sparsity",
    "compression",
    "mac_share",
    *(field.name for field in fields(Comparison)),
    *FLIPS,
    *("calibration_error", "class_values", "reliability"),
    *("dense_calibration_error", "dense_class_values", "dense_reliability"),
)
