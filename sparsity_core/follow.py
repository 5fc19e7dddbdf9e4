"""What becomes of a layer's outputs: the batch norm and the activation right behind it.

Watches the operations that torch really runs, as trace.py does, so modules and functions are seen
alike. Outputs are followed through changes of shape that leave them in place, an added bias, one
batch norm and one activation, up to the first operation that does anything else with them.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sparsity_core.behind import BATCH_NORMS, Step, activation
from sparsity_core.errors import SparsityError
from sparsity_core.trace import SeenByDynamo, Use, watch
from sparsity_core.weights import prunable

_RESHAPES = {"_to_copy", "_unsafe_view", "alias", "clone", "detach", "view"}


@dataclass(frozen=True, eq=False)
class Path:
    """The way of one product's outputs, up to where anything else reads them."""

    name: str  # of the weight
    rows: slice
    steps: tuple[Step, ...]  # at most one batch norm, then at most one activation
    forked: bool  # it ends before a step, because a second operation reads the same value

    @property
    def norm(self) -> Step | None:
        """The batch norm that reads the outputs."""
        return next((step for step in self.steps if step.norms), None)

    @property
    def activation(self) -> Step | None:
        """The activation behind the outputs or their batch norm."""
        return next((step for step in self.steps if not step.norms), None)


@torch.no_grad()
def paths(model: nn.Module, inputs: Tensor, layers: Collection[str]) -> list[Path]:
    """The path of each product with a weight of these layers, in the order of the forward pass.

    Holds all their values of that pass: a sample or two show all there is to know.
    """
    mode = _Follow(model, layers)
    with watch(model, mode.start), mode:
        model(inputs)
    return [Path(j.name, j.rows, tuple(j.steps), j.forked) for j in mode.journeys]


@torch.no_grad()
def measure(
    model: nn.Module, inputs: Tensor, known: list[Path], seen: Callable[[Path, Tensor], None]
) -> None:
    """Call `seen` with the last value of each known path, as soon as a forward pass is past it.

    Values come as (outputs, samples * positions). Raises SparsityError when the products of this
    pass are not those of the paths.
    """
    mode = _Measure(model, known, seen)
    with watch(model, mode.start), mode:
        model(inputs)
    for journey in list(mode.journeys):
        mode.end(journey)
    if mode.coming:
        raise _other_operations(mode.coming[0].name)


@dataclass(eq=False)
class _Journey:
    """The outputs of one product on their way."""

    name: str
    rows: slice
    axis: int  # where the outputs lie: 1 or the last
    value: Tensor
    steps: list[Step] = field(default_factory=list)
    passed: list[tuple[Tensor, int]] = field(default_factory=list)  # older values, steps to them
    ended: bool = False
    forked: bool = False

    def kept_by(self, view: Tensor) -> bool:
        """Has each output still a place of its own?"""
        if self.axis == 1:
            return view.shape[:2] == self.value.shape[:2]
        return view.shape[-1:] == self.value.shape[-1:]

    def cut(self, read: set[int]) -> None:
        """Go back to the first value that an operation other than the journey's own reads."""
        for value, steps in self.passed:
            elsewhere = _storage(value) != _storage(self.value)
            if elsewhere and _storage(value) in read and steps < len(self.steps):
                del self.steps[steps:]
                self.ended = self.forked = True


class _Follow(SeenByDynamo):
    """Moves journeys along while a model runs."""

    def __init__(self, model: nn.Module, layers: Collection[str]) -> None:
        super().__init__()
        self.layers = {name: layer for name, layer in prunable(model).items() if name in layers}
        self.parameters = {p.data_ptr(): name for name, p in model.named_parameters()}
        self.buffers = {b.data_ptr() for b in model.buffers()}
        self.journeys: list[_Journey] = []

    def start(self, use: Use) -> None:
        """A product was run."""
        if use.name in self.layers:
            axis = 1 if self.layers[use.name].kind == "conv" else -1
            self.journeys.append(_Journey(use.name, use.rows, axis, use.output))

    def steps(self, journey: _Journey, operation: str, args: Any) -> list[Step] | None:
        """What an operation on the journey's value adds to it; None where the journey ends."""
        value, first = journey.value, args[0]
        if _storage(first) != _storage(value) or first.shape != value.shape:
            return None
        if operation in _RESHAPES or (operation == "add" and self._adds_a_bias(journey, args[1])):
            return []
        if operation in BATCH_NORMS and not journey.steps and self._is_own_norm(journey, args):
            scale = None if args[1] is None else self.parameters[args[1].data_ptr()]
            return [Step(operation, norms=True, scale=scale)]
        if journey.steps and not journey.steps[-1].norms:
            return None  # behind the activation
        found = activation(operation, args)
        return [found] if found else None

    def go(self, journey: _Journey, value: Tensor, steps: list[Step]) -> None:
        """The journey has got to a new value."""
        journey.passed.append((journey.value, len(journey.steps)))
        journey.value = value
        journey.steps += steps

    def end(self, journey: _Journey) -> None:
        """The journey gets no further."""
        journey.ended = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        read = {_storage(leaf) for leaf in tree_leaves((args, kwargs))} - {0}
        going = []
        for journey in list(self.journeys):
            journey.cut(read)
            if journey.ended or _storage(journey.value) not in read:
                continue
            steps = self.steps(journey, func.overloadpacket.__name__.rstrip("_"), args)
            if steps is None:  # ended before the operation runs, which may change the value
                self.end(journey)
            else:
                going.append((journey, steps))
        output = func(*args, **kwargs)
        value = output[0] if isinstance(output, tuple) else output
        for journey, steps in going:
            if steps or journey.kept_by(value):
                self.go(journey, value, steps)
            else:
                self.end(journey)
        return output

    def _adds_a_bias(self, journey: _Journey, added: Any) -> bool:
        return (
            isinstance(added, Tensor)
            and added.data_ptr() in self.parameters
            and added.shape == journey.value.shape[journey.axis :]
        )

    def _is_own_norm(self, journey: _Journey, args: Any) -> bool:
        """Is it a batch norm of the model? An instance norm runs the same operation on copies."""
        scale, mean = args[1], args[3]
        outputs_second = journey.axis % journey.value.dim() == 1
        if isinstance(scale, Tensor):
            return outputs_second and scale.data_ptr() in self.parameters
        return outputs_second and isinstance(mean, Tensor) and mean.data_ptr() in self.buffers


class _Measure(_Follow):
    """Follows known paths only as far as they go, and holds no value longer than needed."""

    def __init__(
        self, model: nn.Module, known: list[Path], seen: Callable[[Path, Tensor], None]
    ) -> None:
        super().__init__(model, {path.name for path in known})
        self.coming = list(known)
        self.path_of: dict[_Journey, Path] = {}
        self.seen = seen

    def start(self, use: Use) -> None:
        super().start(use)
        if use.name in self.layers:
            path = self.coming.pop(0) if self.coming else None
            if path is None or (path.name, path.rows) != (use.name, use.rows):
                raise _other_operations(use.name)
            self.path_of[self.journeys[-1]] = path

    def steps(self, journey: _Journey, operation: str, args: Any) -> list[Step] | None:
        steps = super().steps(journey, operation, args)
        at_end = len(journey.steps) == len(self.path_of[journey].steps)
        return None if steps and at_end else steps

    def go(self, journey: _Journey, value: Tensor, steps: list[Step]) -> None:
        journey.value = value
        journey.steps += steps

    def end(self, journey: _Journey) -> None:
        self.journeys.remove(journey)
        path = self.path_of.pop(journey)
        if len(journey.steps) < len(path.steps):
            raise _other_operations(path.name)
        self.seen(path, journey.value.movedim(journey.axis, 0).flatten(1))


def _storage(value: Any) -> int:
    """Where a tensor's numbers lie; 0 for anything else."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return 0
    return value.untyped_storage().data_ptr()


def _other_operations(name: str) -> SparsityError:
    return SparsityError(
        f"{name}: the model runs other operations for other samples, so its outputs cannot be "
        "followed; choose a scorer of weights, such as magnitude"
    )
