"""A whole model that runs sparse: each layer by the quickest kernel, and dense where that is."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_core.copied import copied
from sparsity_core.errors import SparsityError, unknown
from sparsity_core.kernels.choice import CLEAR, DENSE, LayerChoice, choose, pack_layer, why_dense
from sparsity_core.kernels.fold import fold_batch_norms_
from sparsity_core.kernels.fuse import fuse
from sparsity_core.kernels.gpu_timing import timed
from sparsity_core.kernels.kernel import KERNELS, Packed
from sparsity_core.kernels.sites import Site, inputs_of, sites
from sparsity_core.kernels.timing import Call, Times, on_threads
from sparsity_core.weights import mask_

_REPEATS = 9
_ALONE = "fused, on one thread"  # where several are asked for
_SPARSE = "sparse-convolution"
_SMALL = 1 << 16  # weights


class SparseLayer(nn.Module):
    """A layer on a packed weight."""

    def __init__(self, packed: Packed) -> None:
        super().__init__()
        self.packed = packed

    def forward(self, x: Tensor) -> Tensor:
        """Inputs or images -> outputs."""
        return self.packed(x)

    def extra_repr(self) -> str:
        """The kernel and the shape."""
        return f"{KERNELS.label(self.packed.kernel)}, {tuple(self.packed.shape)}"


class SparseModel(nn.Module):
    """A model whose masked layers run on packed weights; for inference, without gradients."""

    def __init__(
        self,
        model: nn.Module,
        layers: tuple[LayerChoice, ...],
        dense: Times,
        sparse: Times,
        fusion: str = "",
    ) -> None:
        super().__init__()
        self.model = model
        self.layers = layers
        self.fusion = fusion  # whether convolutions take sums and ReLUs with them, or why not
        self.dense, self.sparse = dense, sparse  # the whole model on the sample, interleaved

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model returns."""
        with torch.no_grad():
            return self.model(*args, **kwargs)

    @property
    def note(self) -> str:
        """What became of it, in one sentence."""
        packed = sum(layer.kernel != DENSE for layer in self.layers)
        dense, sparse = self.dense.p50 * 1e3, self.sparse.p50 * 1e3
        times = f"{packed} of {len(self.layers)} masked layers run packed: {sparse:.3g} ms"
        if not packed:
            return f"all masked layers stay dense, which is quickest here: {dense:.3g} ms"
        fusion = f"; {self.fusion}" if self.fusion else ""
        return f"{times} where dense takes {dense:.3g} ms ({dense / sparse:.2f}x){fusion}"


def sparsify(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    kernels: str | Mapping[str, str] = "auto",
    *,
    sample: Tensor,
    threads: int = 1,
    fold: bool = False,
) -> SparseModel:
    """A copy of a model in eval mode whose masked Linear and Conv2d layers run on packed weights.

    `auto` times every kernel that stores float32 on each layer's inputs from `sample` (one batch
    of the size that matters), takes the quickest, and leaves a layer, or the whole model, dense
    where that is quicker. Packed convolutions also take the sums and ReLUs behind them with them
    and keep their images as they are from one to the next, where the model's forward pass can be
    traced and that is quicker. A kernel's name, or a mapping of layer -> name, is obeyed: raises
    SparsityError where it cannot be. Layers that such a mapping leaves out stay dense. `fold`:
    batch norms go into the layers before them, in the dense model that it is compared with as well.
    """
    dense = copied(model).eval().requires_grad_(False)
    mask_(dense, masks)
    if fold:
        fold_batch_norms_(dense, sample)
    for module in dense.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # its fused path would read weights past us
    wanted = _wanted(kernels, masks)
    with torch.no_grad(), on_threads(threads):
        inputs = inputs_of(dense, sample)
        layers: dict[str, SparseLayer] = {}
        choices = []
        for site in sites(dense, masks):
            kind = wanted.get(site.name, DENSE)
            choice, packed = _decide(kind, site, masks[site.name], inputs.get(site.path), threads)
            choices.append(choice)
            if packed is not None:
                layers[site.path] = SparseLayer(packed)
        ways = {"layer by layer": _placed(dense, layers)}
        fusion = _add_fused_(ways, _placed(dense, layers), dense, sample)
        if kernels == "auto":
            more, others = _all_sparse(dense, layers, choices, masks, threads)
            if more.keys() != layers.keys() or others != choices:
                _add_fused_(ways, _placed(dense, more), dense, sample, "fused, all sparse")
            if threads > 1:
                alone = {path: _on_one_thread(layer) for path, layer in more.items()}
                _add_fused_(ways, _placed(dense, alone), dense, sample, _ALONE)
        calls: dict[str, list[Call]] = {"dense": [lambda: dense(sample)]}
        calls |= {way: [lambda one=one: one(sample)] for way, one in ways.items()}  # type: ignore[misc]
        times = timed(calls, _REPEATS, sample.device.type)
    best = min(ways, key=lambda way: times[way].p50)
    if kernels == "auto" and times[best].p50 * CLEAR > times["dense"].p50:
        sizes = {name: p.numel() * p.element_size() for name, p in dense.named_parameters()}
        kept = [dataclasses.replace(c, kernel=DENSE, bytes=sizes[c.name]) for c in choices]
        return SparseModel(dense, tuple(kept), times["dense"], times["dense"])
    if best in ("fused, all sparse", _ALONE):
        choices = others
    if best != "layer by layer":
        fusion = "convolutions fused with the sums and ReLUs behind them"
        fusion += f", on one thread: {threads} are no quicker" * (best == _ALONE)
    return SparseModel(ways[best], tuple(choices), times["dense"], times[best], fusion)


def _add_fused_(
    ways: dict[str, nn.Module],
    model: nn.Module,
    dense: nn.Module,
    sample: Tensor,
    name: str = "fused",
) -> str:
    """Add the fused form of a model where there is one of the same outputs; why there is not."""
    fused, why = fuse(model, sample)
    if fused is None:
        return f"not fused: {why}" if why else ""
    expected, found = dense(sample), fused(sample)
    if not isinstance(expected, Tensor):
        return "not fused: it returns more than a tensor"
    near = 1e-4 * float(expected.abs().max())
    if not torch.allclose(found, expected, 1e-3, near):
        return "not fused: its outputs would not be the same"
    ways[name] = fused
    return "fused it was not quicker"


def _all_sparse(
    dense: nn.Module,
    layers: Mapping[str, SparseLayer],
    choices: list[LayerChoice],
    masks: Mapping[str, Tensor],
    threads: int,
) -> tuple[dict[str, SparseLayer], list[LayerChoice]]:
    """Every convolution sparse that can be: alone a layer also pays for copies.

    Small ones without a mask as well, such as a stem, which would break a chain.
    """
    all_layers, made = dict(layers), []
    for site, choice in zip(sites(dense, masks), choices, strict=True):
        if choice.kernel != _SPARSE and _SPARSE in choice.seconds:
            packed = pack_layer(_SPARSE, site.module, masks[site.name], threads)
            all_layers[site.path] = SparseLayer(packed)
            choice = dataclasses.replace(choice, kernel=_SPARSE, bytes=packed.bytes)
        made.append(choice)
    for path, module in dense.named_modules():
        if isinstance(module, nn.Conv2d) and path not in all_layers and why_dense(module) is None:
            weight = module.weight
            if weight.numel() <= _SMALL and weight.dtype is torch.float32 and weight.is_cpu:
                every = torch.ones(weight.shape, dtype=torch.bool)
                all_layers[path] = SparseLayer(pack_layer(_SPARSE, module, every, threads))
    return all_layers, made


def _on_one_thread(layer: SparseLayer) -> SparseLayer:
    """The same without threads of its own: small images pass from core to core too often."""
    packed: Packed = layer.packed
    if not hasattr(packed.kernel, "threads"):
        return layer
    return SparseLayer(packed.run_by(dataclasses.replace(packed.kernel, threads=1)))  # type: ignore[type-var]


def _placed(dense: nn.Module, layers: Mapping[str, SparseLayer]) -> nn.Module:
    """A copy of the model with layers at their paths."""
    model = copied(dense)
    for path, layer in layers.items():
        model = _with(model, path, layer)
    return model


def _wanted(kernels: str | Mapping[str, str], masks: Mapping[str, Tensor]) -> dict[str, str]:
    """The kernel of each layer, `auto` among them."""
    wanted = dict.fromkeys(masks, kernels) if isinstance(kernels, str) else dict(kernels)
    for name, kind in wanted.items():
        if name not in masks:
            raise unknown("layer among the masks", name, masks)
        if kind != "auto" and kind not in KERNELS.kinds():
            raise unknown("kernel", kind, ("auto", *KERNELS))
    return wanted


def _decide(
    kind: str, site: Site, mask: Tensor, inputs: Tensor | None, threads: int
) -> tuple[LayerChoice, Packed | None]:
    """The choice for one layer, and its packed weight unless it stays dense."""
    name, module = site.name, site.module
    weight_bytes = mask.numel() * module.get_parameter(name.rpartition(".")[2]).element_size()
    reason = why_dense(module)
    if inputs is None and reason is None:
        reason = "is not used as a module in the forward pass"
    if kind == DENSE:
        reason = "is not among the kernels asked for"
    if kind in (DENSE, "auto") and reason:
        return LayerChoice(name, DENSE, {}, {DENSE: reason}, weight_bytes), None
    if reason:
        raise SparsityError(f"{name} cannot run on {kind}: it {reason}; leave it out")
    if kind == "auto":
        assert inputs is not None
        return choose(name, module, mask, inputs, threads)
    try:
        packed = pack_layer(kind, module, mask, threads)
    except SparsityError as error:
        raise SparsityError(f"{name} cannot run on {kind}: {error}") from error
    return LayerChoice(name, kind, {}, {}, packed.bytes), packed


def _with(model: nn.Module, path: str, layer: nn.Module) -> nn.Module:
    """The model with another module at a path, changed in place; a new one at the root."""
    if not path:
        return layer
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
    return model
