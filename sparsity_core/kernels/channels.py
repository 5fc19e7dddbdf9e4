"""A smaller dense layer: outputs and inputs without a single kept weight are left out."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsity_core.kernels.kernel import KERNELS, Kernel, Parts, Product, not_zero
from sparsity_core.structures import OutChannel, Structure


@KERNELS.register("channels-removed")
@dataclass(frozen=True)
class ChannelsRemoved(Kernel):
    """The dense product of the outputs and inputs that still have a weight.

    Inputs are gathered before it and outputs put back to their places behind it, so that the layer
    has the shape it had: a network cut throughout would save both.
    """

    def pattern(self, sparsity: float) -> Structure:  # noqa: ARG002
        """Whole outputs: as many parameters as the other formats keep."""
        return OutChannel()

    def encode(self, weight: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Which outputs, which inputs, the weight between them."""
        outputs, inputs = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        between = weight[outputs][:, inputs].contiguous()
        return {"outputs": outputs.int(), "inputs": inputs.int(), "weight": between}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The smaller weight at its places."""
        weight = torch.zeros(shape)
        weight[parts["outputs"].long()[:, None], parts["inputs"].long()] = parts["weight"]
        return weight, not_zero(weight)

    def bind(self, parts: Parts, shape: tuple[int, ...], bias: Tensor | None) -> Product:
        """Gather, multiply, put back; what has all its channels skips its step."""
        weight, inputs, outputs = parts["weight"], parts["inputs"], parts["outputs"]
        rest = torch.zeros(shape[0]) if bias is None else bias
        own = None if bias is None else bias[outputs.long()]
        all_inputs, all_outputs = len(inputs) == shape[1], len(outputs) == shape[0]

        def run(x: Tensor) -> Tensor:
            y = F.linear(x if all_inputs else x.index_select(1, inputs), weight, own)
            return y if all_outputs else rest.repeat(len(x), 1).index_copy_(1, outputs.long(), y)

        return run
