"""One training of a ticket experiment as a row."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TicketResult:
    """One arm in one round; the fields are the columns of the file, None = not measured."""

    model: str
    arm: str
    rewind: int  # the step that weights go back to
    round: int  # 0 = dense
    seed: int
    steps: int  # of a whole training
    sparsity: float | None  # share of zeros among all prunable weights
    metric: str
    value: float | None  # at the end of training
    early_value: float | None  # of the model at the early stop
    early_stop: int | None  # the step with the lowest validation loss, found afterwards
    loss: float | None  # at the end
    validation_loss: float | None  # the lowest
    train_loss: float | None  # the mean since the last look but one
    barrier: float | None  # of other-order: error on the line to the ticket above the ends' mean
    barrier_recalibrated: float | None  # the same with batch norm measured anew along the line
    line: str  # of other-order: the metric along that line, as JSON
    history: str  # JSON: step, train_loss, loss, value (of validation), one entry a look
    calibration_error: float | None  # ECE at the end, of 15 bins
    class_values: str  # accuracy of each class at the end, as JSON
    reliability: str  # at the end, as JSON: samples, mean confidence, accuracy of each bin
    predictions: str  # at the end; `behaviour.unpacked` reads it
    samples: int | None
    split: str
    status: str
    message: str
    seconds: float
    device: str
    versions: str
    point_id: str


MEASURED = (
    *("sparsity", "value", "early_value", "early_stop", "loss"),
    *("validation_loss", "train_loss", "barrier", "barrier_recalibrated"),
    *("calibration_error", "samples"),
)
TEXTS = ("line", "history", "class_values", "reliability", "predictions")  # empty = not measured
UNMEASURED: dict[str, Any] = dict.fromkeys(MEASURED, None) | dict.fromkeys(TEXTS, "")
