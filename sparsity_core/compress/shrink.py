"""Zeroed channels taken out of a model for real: it is smaller, and says the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.compress.coupling import BATCH_NORMS, Coupling, Mix, couple
from sparsity_core.compress.feed_forward import take_hidden_out_
from sparsity_core.compress.heads import take_heads_out_, whole_places
from sparsity_core.compress.removal import Removal, living_groups, removable, why_kept
from sparsity_core.compress.resize import resize_
from sparsity_core.copied import copied
from sparsity_core.errors import SparsityError
from sparsity_core.weights import Masks, mask_, prunable

TOLERANCE = 1e-5  # of the outputs, relative to the largest of them where that is above 1
Cut = Callable[[Tensor], Tensor]
_SAMPLES = 4  # that the model is followed with


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A smaller model and what became of each layer."""

    model: nn.Module  # the same class; eval mode
    settings: dict[str, int]  # groups and heads that differ; `resize_` wants them
    masks: Masks  # what of the weights is still there, in the dense model's shapes
    kept: dict[str, str]  # layers with zeroed outputs that stay -> why
    difference: float  # the largest between the two models' outputs on the sample

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all parameters."""
        return {name: tuple(p.shape) for name, p in self.model.named_parameters()}


@torch.no_grad()
def shrink(model: nn.Module, sample: Tensor, masks: Mapping[str, Tensor] | None = None) -> Shrunk:
    """A copy of a model without the channels that its zeros (and `masks`) have made idle.

    `sample`: some inputs (N, ...), whose size counts for borders. Through sums, concatenations,
    depthwise and grouped convolutions, batch norms and flattening; a channel that is constant, by
    its bias or a norm's shift, is put into the layers that read it. Outputs are those of the masked
    model in eval mode. Raises SparsityError when nothing of the input reaches the output any more,
    or when outputs differ by more than TOLERANCE.
    """
    masked = copied(model).eval()
    mask_(masked, masks or {})
    smaller = copied(masked)
    expected = _outputs(masked, sample)
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    heads = take_heads_out_(smaller, sample, allowed)
    hidden = take_hidden_out_(smaller)
    found = couple(smaller, sample[:_SAMPLES])
    if found.output is not None and bool(found.output.fixed.all()):
        raise SparsityError(
            "nothing of the input reaches the output any more, so nothing is left to shrink; "
            "choose a lower sparsity"
        )
    removal = removable(found)
    notes = why_kept(found, removal) | _unfollowed(smaller, found) | heads.kept
    cuts, groups = _cuts(smaller, found, removal)
    before = dict(smaller.state_dict())
    after = before | _folded(found, removal)
    places = whole_places(before, heads.places | hidden)
    state = {name: cuts.get(name, _whole)(tensor) for name, tensor in after.items()}
    sizes = {name: p.numel() for name, p in masked.named_parameters()}
    left = {
        name: torch.zeros(size, dtype=torch.bool)
        .index_fill_(0, cuts.get(name, _whole)(places[name]).flatten(), True)
        .reshape(masked.get_parameter(name).shape)
        for name, size in sizes.items()
    }
    resize_(smaller, state, groups)
    difference = float((expected - _outputs(smaller, sample)).abs().max())
    if not difference <= allowed:
        raise SparsityError(
            f"the shrunk model's outputs differ by {difference:.3g}, more than {allowed:.3g}; "
            "please report this model: its channels could not be followed"
        )
    return Shrunk(smaller, heads.settings | groups, left, notes, difference)


def _cuts(
    model: nn.Module, found: Coupling, removal: Removal
) -> tuple[dict[str, Cut], dict[str, int]]:
    """How each tensor is cut, and the numbers of groups that change."""
    cuts: dict[str, Cut] = {}
    groups: dict[str, int] = {}
    for path, ids in found.bound.items():
        stays = found.classes.mask(ids, removal.gone)
        module: Any = model.get_submodule(path)
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.dim():
                cuts[_join(path, name)] = partial(_rows, stays)
        if not isinstance(module, BATCH_NORMS) and not stays.all():
            groups[_join(path, "groups")] = int(stays.sum()) * module.groups // len(ids)
    for mix in found.mixes:
        rows = found.classes.mask(mix.outputs, removal.gone)
        columns = found.classes.mask(mix.inputs.ids, removal.gone).reshape(mix.groups, -1)
        living = living_groups(found, mix, removal.gone)
        cuts[_join(mix.path, "weight")] = partial(_block, rows, columns, living)
        cuts[_join(mix.path, "bias")] = partial(_rows, rows)
        if len(living) < mix.groups:
            groups[_join(mix.path, "groups")] = len(living)
    return cuts, groups


def _whole(tensor: Tensor) -> Tensor:
    return tensor


def _rows(stays: Tensor, tensor: Tensor) -> Tensor:
    return tensor[stays.to(tensor.device)]


def _block(rows: Tensor, columns: Tensor, living: list[int], weight: Tensor) -> Tensor:
    """The rows that stay, of each group that lives, with the group's columns that stay."""
    parts = weight.unflatten(0, (len(columns), -1))
    alive = rows.reshape(len(columns), -1)
    return torch.cat([parts[g][alive[g]][:, columns[g]] for g in living]).contiguous()


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _folded(found: Coupling, removal: Removal) -> dict[str, Tensor]:
    """The weights and biases that take over the shares of constant inputs."""
    state = {}
    for mix in found.mixes:
        weight, bias = _with_constants(mix, found, removal)
        state[_join(mix.path, "weight")] = weight
        if bias is not None:
            state[_join(mix.path, "bias")] = bias
    return state


def _with_constants(mix: Mix, found: Coupling, removal: Removal) -> tuple[Tensor, Tensor | None]:
    """A layer's weight and bias with the shares of the constant inputs that go."""
    module: Any = mix.module
    weight, bias = module.weight.detach().double(), module.bias
    carrier = removal.carriers.get(mix.path)
    shares = torch.zeros(len(weight), dtype=torch.float64)
    for column, channel in enumerate(mix.inputs.ids):
        constant = mix.inputs.constants[column]
        if found.classes.of(channel) not in removal.gone or constant.isnan() or constant == 0:
            continue
        rows, place = mix.columns(column)
        if carrier is not None:
            weight[:, carrier] += constant / mix.inputs.constants[carrier] * weight[:, place]
        else:
            shares[rows] += constant * weight[rows, place].reshape(rows.stop - rows.start, -1).sum(
                1
            )
    weight = weight.to(module.weight.dtype)
    if bias is None and not shares.any():
        return weight, None
    old = torch.zeros_like(shares) if bias is None else bias.detach().double()
    return weight, (old + shares).to(weight.dtype)


def _unfollowed(model: nn.Module, found: Coupling) -> dict[str, str]:
    """Layers with zeroed outputs that lie where channels cannot be followed."""
    notes = {}
    known = found.producers()
    for name, layer in prunable(model).items():
        path = name.rpartition(".")[0]
        weight = model.get_parameter(name)
        dead = int((weight.flatten(1) == 0).all(1).sum())
        if dead and path not in known:
            why = found.resists or f"is not a module of its own in the forward pass ({layer.kind})"
            notes[path] = f"{dead} of its zeroed outputs: cannot be followed; it {why}"
    return notes


def _outputs(model: nn.Module, sample: Tensor) -> Tensor:
    outputs = model(sample)
    if not isinstance(outputs, Tensor):
        raise SparsityError(
            f"the model returns a {type(outputs).__name__}; shrinking compares outputs, so wrap it "
            "in a module that returns one tensor"
        )
    return outputs
