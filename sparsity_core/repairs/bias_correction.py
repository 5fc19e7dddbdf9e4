"""Bias correction: each output's mean as it was before pruning."""

from dataclasses import dataclass

from torch import Tensor, nn

from sparsity_core.moments import input_means
from sparsity_core.repairs.repair import REPAIRS, Damage, LayerRepair, settle_biases_
from sparsity_core.weights import Prunable


@REPAIRS.register("bias-correction")
@dataclass(frozen=True)
class BiasCorrection(LayerRepair):
    """b' = b + W E[x] - W' E[x'], so that every output has the mean that the dense model gave it.

    x and x' are the inputs of the dense layer and of the layer in the model as mended so far.
    Biases of removed outputs stay zero; an output that merely lost all its weights gets its mean.
    Means alone: at high sparsity outputs vary less than they did, and units whose mean is negative
    fall silent behind a ReLU.
    Source: Nagel et al. 2019, arXiv 1906.04721 (there for quantization).
    """

    def refuses(self, layer: Prunable) -> str | None:
        """Needs a bias."""
        if layer.biases:
            return None
        return "has no bias; where a batch norm follows, the repair batch-norm mends its mean"

    def mend_(self, layer: Prunable, model: nn.Module, damage: Damage) -> Tensor:
        """Settle the biases; returns the mask as given."""
        weight = model.get_parameter(layer.name).flatten(1).double()
        dense = damage.dense_weight(layer.name).flatten(1).double()
        now = input_means(model, layer.name, damage.batches)
        before = input_means(damage.dense, layer.name, damage.batches)
        for (rows, mean), (_, dense_mean) in zip(now, before, strict=True):
            shift = dense[rows] @ dense_mean - weight[rows] @ mean
            settle_biases_(model, layer, rows, shift, damage)
        return damage.masks[layer.name]
