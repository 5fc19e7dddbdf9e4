"""A masked model before and after packing, each layer and the whole: what `LatencyRow` holds."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.copied import copied
from sparsity_core.cost import Cost, LayerCost, cost
from sparsity_core.kernels.choice import DENSE, LayerChoice
from sparsity_core.kernels.fold import fold_batch_norms_
from sparsity_core.kernels.gap import explain
from sparsity_core.kernels.latency_row import WHOLE
from sparsity_core.kernels.rivals import RIVALS, rivals
from sparsity_core.kernels.sparsify import SparseModel, sparsify
from sparsity_core.kernels.timing import Call, Times, interleaved, on_threads

_REPEATS = 15
_AGAIN = "dense, again"

Fields = dict[str, Any]


def before_after(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    x: Tensor,
    *,
    threads: int = 1,
    fold: bool = True,
    others: bool = False,
) -> dict[str, Fields]:
    """The measured fields of the rows, by layer and for WHOLE.

    `model` is masked already. `others`: torch.compile and onnxruntime are timed as well.
    """
    sparse = sparsify(model, masks, sample=x, threads=threads, fold=fold)
    spent = cost(model, x[:1])
    choices = {choice.name: choice for choice in sparse.layers}
    found = {layer.name: _layer(len(x), layer, choices.get(layer.name)) for layer in spent.layers}
    times, absent = _times(model, sparse, x, threads, fold, others)
    return found | {WHOLE: _whole(spent, sparse, times, absent)}


def _times(
    model: nn.Module, sparse: SparseModel, x: Tensor, threads: int, fold: bool, others: bool
) -> tuple[dict[str, Times], list[str]]:
    """Of the dense model twice, of its rivals and of the packed one; which rivals are absent."""
    dense = copied(model).eval().requires_grad_(False)
    calls: dict[str, Call] = {"dense": lambda: dense(x), _AGAIN: lambda: dense(x)}
    calls["sparse"] = lambda: sparse(x)
    absent: list[str] = []
    with torch.no_grad(), on_threads(threads):
        if fold:
            folded = copied(dense)
            fold_batch_norms_(folded, x)
            calls["folded"] = lambda: folded(x)
        if others:
            found, absent = rivals(dense, x, threads)
            calls |= found
        return interleaved({k: [call] for k, call in calls.items()}, _REPEATS), absent


def _whole(
    spent: Cost, sparse: SparseModel, times: Mapping[str, Times], absent: list[str]
) -> Fields:
    us = {name: 1e6 * found.p50 for name, found in times.items()}
    packed = sum(choice.kernel != DENSE for choice in sparse.layers)
    masked = {choice.name: choice.bytes for choice in sparse.layers}
    stored = sum(masked.get(layer.name, layer.bytes["dense"] or 0) for layer in spent.layers)
    words = [f"{packed} of {len(sparse.layers)} masked layers run packed"]
    words += [sparse.fusion] * bool(packed and sparse.fusion) + absent
    return _counts(spent) | {
        "bytes": spent.other_bytes + stored,
        "dense_bytes": spent.total_bytes("dense"),
        "bitmask_bytes": spent.total_bytes("bitmask"),
        "csr_bytes": spent.total_bytes("csr"),
        "kernel": "packed" if packed else DENSE,
        "dense_p50": us["dense"],
        **{f"{name}_p50": us.get(name) for name in ("folded", *RIVALS)},
        **{f"p{q}": 1e6 * getattr(times["sparse"], f"p{q}") for q in (20, 50, 80)},
        "speedup": min(us[n] for n in ("dense", "folded", *RIVALS) if n in us) / us["sparse"],
        "noise": abs(math.log(us["dense"] / us[_AGAIN])),
        "message": "; ".join(words),
    }


def _layer(batch: int, layer: LayerCost, choice: LayerChoice | None) -> Fields:
    size = layer.bytes["dense"]
    fields = _counts(layer) | {
        "bytes": choice.bytes if choice else size,
        "dense_bytes": size,
        "bitmask_bytes": layer.bytes["bitmask"],
        "csr_bytes": layer.bytes["csr"],
        "kernel": choice.kernel if choice else DENSE,
        "message": "stays dense: the recipe leaves it out",
    }
    if choice is None:
        return fields
    macs, left = batch * layer.macs, batch * layer.effective_macs
    fields["message"] = explain(choice, macs, left, layer.nonzeros)
    if choice.seconds:
        fields["dense_p50"] = 1e6 * choice.seconds[DENSE]
        fields["p50"] = 1e6 * choice.seconds[choice.kernel]
        fields["speedup"] = choice.speedup
    return fields


def _counts(of: Cost | LayerCost) -> Fields:
    return {
        "sparsity": of.sparsity,
        "weights": of.parameters,
        "nonzeros": of.nonzeros,
        "macs": of.macs,
        "effective_macs": of.effective_macs,
    }
