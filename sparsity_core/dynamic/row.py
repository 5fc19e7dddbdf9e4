"""One look at a training with moving masks as a row."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MovingResult:
    """One rule at one step; the fields are the columns of the file, None = not measured."""

    model: str
    rule: str
    allocation: str
    sparsity: float | None  # asked for; None where the rule learns it
    matched: str  # the rule whose layer counts this one was given; empty: the allocation's
    seed: int
    step: int
    steps: int  # of the whole training
    execution: str  # simulated: masked dense products; sparse: products of live weights alone
    achieved_sparsity: float | None  # share of zeros among all prunable weights
    metric: str
    value: float | None  # of the split that reports, after the last step
    validation_value: float | None
    validation_loss: float | None
    train_loss: float | None  # the mean since the last look
    training_cost: float | None  # multiply-adds so far over those of the whole dense training
    inference_cost: float | None  # multiply-adds of a sample over those of the dense model
    explored: float | None  # share of weights that ever lived
    born: int | None  # since the last look
    died: int | None
    returned: int | None  # had lived before
    ablated: int | None  # neurons without any input, in all layers
    layers: str  # JSON: layer -> weights that live
    samples: int | None  # of the split that reports, or of validation before the last step
    split: str
    status: str
    message: str
    seconds: float
    device: str
    versions: str
    point_id: str


MEASURED = (
    *("achieved_sparsity", "value", "validation_value", "validation_loss", "train_loss"),
    *("training_cost", "inference_cost", "explored", "born", "died", "returned", "ablated"),
    "samples",
)
