"""What a masked model costs, from masks and shapes alone: weights, products, bytes a format.

A model of cost, not a measurement: fewer multiply-adds are no speed until a kernel skips them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity_core.structures import NofM
from sparsity_core.trace import Use, single_products, watch
from sparsity_core.weights import prunable

FORMATS = ("dense", "bitmask", "csr", "2:4")
_INDEX_BYTES = 4  # 32-bit, as torch's CSR tensors may have


@dataclass(frozen=True)
class LayerCost:
    """One prunable tensor; products are for one sample."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    nonzeros: int
    macs: int  # multiply-adds of the dense layer
    effective_macs: int  # those by a weight that is not zero
    bytes: dict[str, int | None]  # by format; None where the format cannot hold the mask

    @property
    def sparsity(self) -> float:
        """The share of zeros."""
        return 1 - self.nonzeros / self.parameters if self.parameters else 0.0


@dataclass(frozen=True)
class Cost:
    """A whole model; `other_*` is what cannot be pruned: biases, norms, attention products."""

    layers: tuple[LayerCost, ...]
    other_parameters: int
    other_macs: int
    other_bytes: int

    @property
    def parameters(self) -> int:
        """All parameters of the model."""
        return self.other_parameters + sum(layer.parameters for layer in self.layers)

    @property
    def nonzeros(self) -> int:
        """All that are left; what cannot be pruned counts in full."""
        return self.other_parameters + sum(layer.nonzeros for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-adds of the dense model for one sample."""
        return self.other_macs + sum(layer.macs for layer in self.layers)

    @property
    def effective_macs(self) -> int:
        """Multiply-adds that are not by a zero weight."""
        return self.other_macs + sum(layer.effective_macs for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """The share of zeros among prunable weights."""
        total = sum(layer.parameters for layer in self.layers)
        return 1 - sum(layer.nonzeros for layer in self.layers) / total if total else 0.0

    @property
    def compression(self) -> float:
        """Parameters over non-zeros, both for the whole model."""
        return self.parameters / self.nonzeros if self.nonzeros else float("inf")

    def total_bytes(self, format: str) -> int | None:
        """Bytes of the model with every layer in one format; None where a layer cannot have it."""
        sizes = [layer.bytes[format] for layer in self.layers]
        if any(size is None for size in sizes):
            return None
        return self.other_bytes + sum(size for size in sizes if size is not None)


def cost(model: nn.Module, sample: Tensor, masks: Mapping[str, Tensor] | None = None) -> Cost:
    """Count what a model costs for one sample, under masks on top of the zeros it already has.

    `sample`: one input with its batch axis, (1, ...). The model is run once and not changed.
    """
    from torch.utils.flop_counter import FlopCounterMode  # it brings triton: a third of a second

    masks = masks or {}
    parameters = dict(model.named_parameters())
    positions = dict.fromkeys(prunable(model), 0.0)

    def count(use: Use) -> None:
        whole = parameters[use.name].shape[0]
        positions[use.name] += use.positions * (use.rows.stop - use.rows.start) / whole

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), watch(model, count):
            model(sample)
        with torch.no_grad(), single_products(), FlopCounterMode(display=False) as flops:
            model(sample)
    finally:
        model.train(was_training)
    layers = []
    for name, layer in prunable(model).items():
        alive = parameters[name].detach() != 0
        if name in masks:
            alive &= masks[name].to(alive.device)
        nonzeros = int(alive.sum())
        layers.append(
            LayerCost(
                name=name,
                kind=layer.kind,
                shape=layer.shape,
                parameters=layer.size,
                nonzeros=nonzeros,
                macs=round(positions[name] * layer.size),
                effective_macs=round(positions[name] * nonzeros),
                bytes=bytes_by_format(alive, parameters[name].element_size()),
            )
        )
    others = [p for name, p in parameters.items() if name not in positions]
    return Cost(
        layers=tuple(layers),
        other_parameters=sum(p.numel() for p in others),
        other_macs=max(0, flops.get_total_flops() // 2 - sum(layer.macs for layer in layers)),
        other_bytes=sum(p.numel() * p.element_size() for p in others),
    )


def bytes_by_format(alive: Tensor, value_bytes: int) -> dict[str, int | None]:
    """Bytes of one weight (outputs first) in each of FORMATS, values of `value_bytes` each.

    bitmask: one bit a weight and the values kept. csr: values, 32-bit column indices and row
    starts. 2:4: half of the values and two bits for each; None unless the mask is 2:4.
    """
    size, nonzeros, rows = alive.numel(), int(alive.sum()), alive.shape[0]
    return {
        "dense": size * value_bytes,
        "bitmask": -(-size // 8) + nonzeros * value_bytes,
        "csr": nonzeros * (value_bytes + _INDEX_BYTES) + (rows + 1) * _INDEX_BYTES,
        "2:4": size // 2 * value_bytes + -(-size // 8) if _is_two_of_four(alive) else None,
    }


def _is_two_of_four(alive: Tensor) -> bool:
    groups = NofM(2, 4)
    if groups.fits(tuple(alive.shape)):
        return False
    return bool((groups.units(alive.float()).sum(1) <= 2).all())
