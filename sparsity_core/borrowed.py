"""A model to be masked for a while, over the weights of another one that never changes."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from sparsity_core.copied import copied, tied_parameters
from sparsity_core.weights import Masks


class Borrowed:
    """A copy of a model, on `device` and in evaluation mode, that has no weights of its own there.

    While it is masked, what the masks are for is there twice, and nothing else. Buffers are its
    own: a forward pass may change them.
    """

    def __init__(self, model: nn.Module, device: str) -> None:
        lent = tied_parameters(model, lambda weight: weight.detach(), alone=True)
        self.model = copied(model, lent).to(device).eval()
        self._parameters = dict(self.model.named_parameters())

    @contextmanager
    def masked(self, masks: Masks) -> Iterator[nn.Module]:
        """The model under masks while the context is open; every bit is as before afterwards."""
        dense: list[tuple[nn.Parameter, Tensor]] = []
        try:
            for name, mask in masks.items():
                weight = self._parameters[name]
                dense.append((weight, weight.data))
                weight.data = weight.data.masked_fill(~mask.to(weight.device), 0)
            yield self.model
        finally:
            for weight, values in dense:
                weight.data = values
