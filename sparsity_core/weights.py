"""Which tensors of a model can be pruned; masks, sparsity, and a model under its masks.

Everything is a mapping keyed by parameter name, as `model.named_parameters()` gives it; a
parameter that several modules share appears once, under its first name.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity_core.copied import memory_of
from sparsity_core.errors import NonFiniteError, SparsityError, unknown

Weights = Mapping[str, Tensor]
Scores = dict[str, Tensor]
Masks = dict[str, Tensor]  # True = stays
Sparsities = dict[str, float]  # share of zeros, 0..1

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_WHY_NOT = {
    nn.RNNBase: ": torch runs all steps as one operation, in which no product can be seen",
    nn.Embedding: ": they are looked up and multiplied by nothing",
}
_ATTENTION_INPUTS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class Prunable:
    """A weight tensor that can be pruned: outputs first, inputs second, kernel positions last."""

    name: str
    kind: str  # linear | conv | attention
    shape: tuple[int, ...]
    groups: int = 1
    aliases: tuple[str, ...] = ()  # other names of the same tensor
    biases: tuple[str, ...] = ()  # one entry an output each
    heads: int = 0  # of attention, when the rows are queries, keys and values head by head

    @property
    def size(self) -> int:
        """The number of weights."""
        return math.prod(self.shape)

    @property
    def note(self) -> str:
        """What a person should know before pruning it; empty when there is nothing."""
        return f"shared with {', '.join(self.aliases)}" if self.aliases else ""


def prunable(model: nn.Module) -> dict[str, Prunable]:
    """The prunable tensors of a model in the order of its parameters.

    Weights of Linear and Conv1d/2d/3d, and the projections inside nn.MultiheadAttention. Tied
    weights are one entry with aliases.
    """
    names = _names_by_tensor(model)
    found: dict[str, Prunable] = {}
    for path, module in model.named_modules():
        for attribute, kind, bias, groups in _weights_of(module):
            weight = getattr(module, attribute, None)
            if not isinstance(weight, nn.Parameter) or attribute not in module._parameters:
                continue  # a parametrized weight is computed anew at each use: see `unprunable`
            name, *aliases = names[memory_of(weight)]
            biases = found[name].biases if name in found else ()
            if isinstance(getattr(module, bias, None), nn.Parameter):
                biases = (*biases, f"{path}.{bias}".lstrip("."))
            found[name] = Prunable(
                name,
                kind,
                tuple(weight.shape),
                groups,
                tuple(aliases),
                tuple(dict.fromkeys(biases)),
                _heads_of(model, path, attribute),
            )
    order = {name: i for i, (name, _) in enumerate(model.named_parameters())}
    return dict(sorted(found.items(), key=lambda item: order[item[0]]))


def unprunable(model: nn.Module) -> dict[str, str]:
    """The other parameters, each with the reason why it is not pruned."""
    pruned = prunable(model)
    owners = {
        f"{path}.{name}".lstrip("."): module
        for path, module in model.named_modules()
        for name in module._parameters
    }
    reasons = {}
    for name, parameter in model.named_parameters():
        if name in pruned:
            continue
        if parameter.dim() < 2:
            reasons[name] = "biases and norms are not pruned"
        elif ".parametrizations." in f".{name}":
            reasons[name] = "parametrized; remove the parametrization first"
        elif _makes_another(owners[name], name):
            reasons[name] = (
                "a weight is made of it in each pass; make that plain first: "
                "sparsity_core.intake.plain_weights"
            )
        else:
            owner = owners[name]
            why = next((why for kind, why in _WHY_NOT.items() if isinstance(owner, kind)), "")
            reasons[name] = f"{type(owner).__name__} weights are not pruned{why}"
    return reasons


def canonical_names(model: nn.Module, names: Iterable[str]) -> list[str]:
    """The given layers by the names that masks use; accepts aliases, module names, first, last."""
    layers = prunable(model)
    if not layers:
        raise SparsityError(
            f"{type(model).__name__} has nothing to prune: no Linear, Conv or attention weight"
        )
    known = dict.fromkeys(layers)
    lookup = {alias: layer.name for layer in layers.values() for alias in layer.aliases}
    lookup |= {"first": next(iter(known)), "last": list(known)[-1]} | {name: name for name in known}
    result = []
    for name in names:
        target = lookup.get(name) or lookup.get(f"{name}.weight")
        if target is None:
            raise unknown("layer", name, known)
        result.append(target)
    return list(dict.fromkeys(result))


def check_sparsity(value: float, what: str = "sparsity") -> float:
    """The value itself when it is a share of zeros in 0..1; otherwise an error with the remedy."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise SparsityError(f"{what} {value!r} is not a number; give a share of zeros from 0 to 1")
    if 1 < value <= 100:
        raise SparsityError(
            f"{what} {value:g} is more than 1; sparsity is a share of zeros: "
            f"write {value / 100:g} for {value:g} %"
        )
    if not 0 <= value <= 1:
        raise SparsityError(f"{what} {value:g} is out of range; give a share of zeros from 0 to 1")
    return float(value)


def check_finite(name: str, weight: Tensor, what: str = "weights") -> None:
    """Raise NonFiniteError when a tensor holds NaN or infinity, saying how many."""
    # NaN and infinity show in the extremes: one pass, an eighth of isfinite's time.
    if not weight.numel() or all(extreme.isfinite() for extreme in weight.detach().aminmax()):
        return
    if broken := int((~torch.isfinite(weight)).sum()):
        raise NonFiniteError(
            f"{name}: {broken} of {weight.numel()} {what} are NaN or infinite; "
            "mend or reload the model, or skip this layer"
        )


def sparsity_of(mask: Tensor) -> float:
    """The share of False in a mask; 0 for an empty one."""
    return 1 - int(mask.sum()) / mask.numel() if mask.numel() else 0.0


@torch.no_grad()
def mask_(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the masked weights of a model to zero, in place.

    Raises SparsityError as `masked_parameters` does.
    """
    for name, weight in masked_parameters(model, masks).items():
        # Not a product: NaN * 0 is NaN, and -1 * 0 is -0.
        weight.masked_fill_(~masks[name].to(weight.device), 0)


def masked_parameters(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """The parameters that masks are for.

    Raises SparsityError for a name the model does not have or a shape that differs.
    """
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
        if name not in parameters:
            raise unknown("parameter in masks", name, parameters)
        weight = parameters[name]
        if weight.shape != mask.shape:
            raise SparsityError(
                f"{name}: the mask has shape {tuple(mask.shape)}, the weight {tuple(weight.shape)}"
            )
    return {name: parameters[name] for name in masks}


def _makes_another(owner: nn.Module, name: str) -> bool:
    """Is it what torch.nn.utils.prune, weight_norm or spectral_norm keep of a weight?"""
    own, _, ending = name.rpartition(".")[2].rpartition("_")
    return ending in ("orig", "g", "v") and isinstance(vars(owner).get(own), Tensor)


def _weights_of(module: nn.Module) -> list[tuple[str, str, str, int]]:
    """(attribute, kind, bias attribute, groups) of each prunable tensor of one module."""
    if isinstance(module, nn.Linear):
        return [("weight", "linear", "bias", 1)]
    if isinstance(module, _CONVOLUTIONS):
        return [("weight", "conv", "bias", module.groups)]
    if isinstance(module, nn.MultiheadAttention):
        # Separate q, k, v weights share one bias of three parts, so it is nobody's alone.
        bias = {"in_proj_weight": "in_proj_bias"}
        return [(name, "attention", bias.get(name, ""), 1) for name in _ATTENTION_INPUTS]
    return []


def _heads_of(model: nn.Module, path: str, attribute: str) -> int:
    """Heads whose queries, keys and values, in that order, are the rows of a weight; else 0.

    Known of nn.MultiheadAttention, and of a Linear called `qkv` in a module with `num_heads` or
    `heads`, as vision transformers are usually written.
    """
    parent, _, name = path.rpartition(".")
    owner = model.get_submodule(path if attribute == "in_proj_weight" else parent)
    if attribute != "in_proj_weight" and name != "qkv":
        return 0
    heads = getattr(owner, "num_heads", getattr(owner, "heads", 0))
    return heads if isinstance(heads, int) else 0


def _names_by_tensor(model: nn.Module) -> dict[tuple[object, ...], list[str]]:
    names: dict[tuple[object, ...], list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(memory_of(parameter), []).append(name)
    return names
