"""One point of a sweep, and the row that measuring it gives."""

from dataclasses import dataclass, fields

from sparsity_core.comparison import Comparison
from sparsity_core.machine import device_label, versions
from sparsity_core.scorers import SCORERS, Scorer
from sparsity_core.setting import Setting
from sparsity_core.structures import STRUCTURES, Structure


@dataclass(frozen=True)
class Result:
    """One point of a sweep; the fields are the columns of the file, None = not measured."""

    model: str
    layer: str
    scorer: str
    structure: str
    sparsity: float  # as asked
    achieved_sparsity: float | None  # share of zeros in the layer, whoever put them there
    metric: str
    value: float | None
    dense_value: float | None
    drop: float | None  # dense_value - value
    drop_low: float | None  # paired 95 % interval
    drop_high: float | None
    loss: float | None
    dense_loss: float | None
    loss_rise: float | None
    loss_rise_low: float | None
    loss_rise_high: float | None
    removed: int | None  # non-zero weights set to zero; 0 = the mask changed nothing
    samples: int | None
    split: str
    seed: int
    status: str
    message: str
    seconds: float
    device: str
    versions: str
    engine: str
    point_id: str

    @property
    def no_op(self) -> bool:
        """Did the mask change nothing? Then an unchanged accuracy is no robustness."""
        return self.removed == 0


@dataclass(frozen=True)
class SweepPoint:
    """One layer at one sparsity; `id` names everything that decides the result."""

    layer: str
    scorer: Scorer
    structure: Structure
    sparsity: float
    seed: int
    id: str


_MEASURED = ("achieved_sparsity", "removed", *(field.name for field in fields(Comparison)))


def unmeasured(
    setting: Setting, point: SweepPoint, engine: str, status: str, message: str
) -> Result:
    """The row of a point without any number."""
    return Result(
        model=setting.model,
        layer=point.layer,
        scorer=SCORERS.label(point.scorer),
        structure=STRUCTURES.label(point.structure),
        sparsity=point.sparsity,
        metric=setting.metric,
        split=setting.split,
        seed=point.seed,
        status=status,
        message=message,
        seconds=0.0,
        device=device_label(setting.device),
        versions=versions(),
        engine=engine,
        point_id=point.id,
        **dict.fromkeys(_MEASURED),
    )
