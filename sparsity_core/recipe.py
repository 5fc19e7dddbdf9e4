"""A recipe is data: which scorer, structure, allocation, schedule and training, and how sparse."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import yaml

from sparsity_core.allocations import ALLOCATIONS, Allocation, Uniform
from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError, unknown
from sparsity_core.registry import Registry
from sparsity_core.repairs import REPAIRS, Repair
from sparsity_core.schedules import SCHEDULES, OneShot, Schedule
from sparsity_core.scorers import SCORERS, Magnitude, Scorer
from sparsity_core.structures import STRUCTURES, Structure, Unstructured
from sparsity_core.weights import check_sparsity

OPTIMIZERS = ("sgd", "nesterov", "adam", "adamw")
RATE_SCHEDULES = ("cosine", "constant", "step", "one-cycle")
PRECISIONS = ("float32", "bfloat16")

# The fields of a recipe that hold one choice of a registry, in the order in which they are asked.
STAGES: dict[str, Registry[Any]] = {
    "scorer": SCORERS,
    "structure": STRUCTURES,
    "allocation": ALLOCATIONS,
    "schedule": SCHEDULES,
}


@dataclass(frozen=True)
class Training:
    """How a model is trained or fine-tuned: `epochs` passes over the train split, or `steps`."""

    epochs: int = 5
    optimizer: str = "sgd"
    rate: float = 0.01
    momentum: float = 0.9  # of sgd and nesterov
    weight_decay: float = 0.0
    batch_size: int = 64
    rate_schedule: str = "cosine"
    clip: float | None = None  # largest norm of all gradients together
    steps: int | None = None  # instead of epochs
    drops: tuple[float, ...] = (0.5, 0.75)  # of `step`: after these shares of all steps
    drop_factor: float = 0.1  # of `step`
    label_smoothing: float = 0.0
    precision: str = "float32"  # of the products; weights and optimizer stay float32

    def __post_init__(self) -> None:
        object.__setattr__(self, "drops", tuple(self.drops))
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        if self.rate_schedule not in RATE_SCHEDULES:
            raise unknown("rate schedule", self.rate_schedule, RATE_SCHEDULES)
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        for name, least in (("epochs", 0), ("batch_size", 1), ("steps", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise SparsityError(f"{name} must be a whole number from {least}, got {value!r}")
        for name in ("rate", "momentum", "weight_decay", "drop_factor"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SparsityError(f"{name} must be 0 or more, got {getattr(self, name)!r}")
        if self.optimizer == "nesterov" and not self.momentum:
            raise SparsityError("nesterov needs a momentum; raise it, or choose sgd")
        if not 0 <= self.label_smoothing < 1:
            raise SparsityError(f"label_smoothing must be 0 to 1, got {self.label_smoothing!r}")
        if not all(0 <= share <= 1 for share in self.drops):
            raise SparsityError(f"drops must be shares of the steps, 0 to 1, got {self.drops!r}")
        if self.clip is not None and not self.clip > 0:
            raise SparsityError(
                f"clip must be more than 0, got {self.clip!r}; leave it out for none"
            )

    def to_dict(self) -> dict[str, Any]:
        """The training as plain data; `from_dict` reads it back."""
        return asdict(self) | {"drops": list(self.drops)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Training":
        """The training from plain data; what is absent takes its default."""
        known = [f.name for f in fields(cls)]
        for name in data:
            if name not in known:
                raise unknown("entry of training", name, known)
        return cls(**data)

    def identity(self) -> dict[str, Any]:
        """What digests are made of: every option that is not at its default."""
        usual = Training().to_dict()
        return {name: value for name, value in self.to_dict().items() if value != usual[name]}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a model is pruned, apart from the model and its data.

    `skip` names layers that stay dense: parameter or module names, `first`, `last`.
    """

    sparsity: float = 0.5
    scorer: Scorer = field(default_factory=Magnitude)
    structure: Structure = field(default_factory=Unstructured)
    allocation: Allocation = field(default_factory=Uniform)
    schedule: Schedule = field(default_factory=OneShot)
    skip: tuple[str, ...] = ()
    rescore: bool = True  # score the masked model anew in each round, or the dense one once
    shuffled: bool = False  # a control: as many as the scorer says in each layer, anywhere in it
    repair: tuple[Repair, ...] = ()  # one after the other, after each round
    training: Training | None = None  # fine-tuning after each round, and after its repair

    def __post_init__(self) -> None:
        object.__setattr__(self, "sparsity", check_sparsity(self.sparsity))
        object.__setattr__(self, "skip", tuple(self.skip))
        object.__setattr__(self, "repair", tuple(self.repair))

    def at(self, sparsity: float) -> "Recipe":
        """The same recipe with another sparsity."""
        return replace(self, sparsity=sparsity)

    @property
    def digest(self) -> str:
        """A name that equal recipes share."""
        return digest_of(self.identity())

    def identity(self) -> dict[str, Any]:
        """What digests are made of: the sparsity, and every choice that is not at its default."""
        usual, own = _USUAL._told_apart(), self._told_apart()
        chosen = {name: value for name, value in own.items() if value != usual[name]}
        return {"sparsity": self.sparsity} | chosen

    def _told_apart(self) -> dict[str, Any]:
        """Every choice but the sparsity, without the options that are at their default."""
        plain = self.to_dict()
        del plain["sparsity"]
        plain |= {stage: kinds.identity(getattr(self, stage)) for stage, kinds in STAGES.items()}
        plain["repair"] = [REPAIRS.identity(repair) for repair in self.repair]
        if self.training:
            plain["training"] = self.training.identity()
        return plain

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data; `from_dict` reads it back."""
        return {
            "sparsity": self.sparsity,
            "scorer": SCORERS.to_dict(self.scorer),
            "structure": STRUCTURES.to_dict(self.structure),
            "allocation": ALLOCATIONS.to_dict(self.allocation),
            "schedule": SCHEDULES.to_dict(self.schedule),
            "skip": list(self.skip),
            "rescore": self.rescore,
            "shuffled": self.shuffled,
            "repair": [REPAIRS.to_dict(repair) for repair in self.repair],
            "training": self.training.to_dict() if self.training else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Recipe":
        """The recipe from plain data; what is absent takes its default."""
        readers: dict[str, Callable[[Any], Any]] = {
            "scorer": SCORERS.from_dict,
            "structure": STRUCTURES.from_dict,
            "allocation": ALLOCATIONS.from_dict,
            "schedule": SCHEDULES.from_dict,
            "repair": lambda given: tuple(map(REPAIRS.from_dict, given)),
            "training": lambda given: None if given is None else Training.from_dict(given),
        }
        for name in data:
            if name not in (known := [f.name for f in fields(cls)]):
                raise unknown("entry of a recipe", name, known)
        return cls(**{name: readers.get(name, _as_is)(value) for name, value in data.items()})

    def to_yaml(self) -> str:
        """The recipe as YAML text."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str) -> "Recipe":
        """The recipe from YAML text; only plain data is read, nothing is executed."""
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SparsityError(f"not a recipe: {str(error).splitlines()[0]}") from error
        if not isinstance(data, dict):
            raise SparsityError("not a recipe: the YAML text must be a mapping of names to choices")
        return cls.from_dict(data)


_USUAL = Recipe()


def _as_is(value: Any) -> Any:
    return value
