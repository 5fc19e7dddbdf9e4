"""Every use of a prunable weight in a forward pass, by parameter name.

Watches the matrix products and convolutions that torch really runs, not modules. So weights used
twice, weights shared between modules, and the projections inside attention are all seen.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from sparsity_core.weights import prunable

_aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Use:
    """One product with a weight, or with some of its rows (fused q, k, v projections)."""

    name: str
    rows: slice
    output: Tensor
    input_energy: Callable[[], Tensor]  # see Probe.input_energy; shape of the rows
    # What the rows are multiplied by: (groups of rows, positions, weights in a row).
    patches: Callable[[], Tensor]

    @property
    def positions(self) -> int:
        """How often each weight is multiplied: samples times places where the row is applied."""
        return self.output.numel() // (self.rows.stop - self.rows.start)


@contextmanager
def watch(model: nn.Module, seen: Callable[[Use], None]) -> Iterator[None]:
    """Call `seen` for every use of a prunable weight of `model` while the context is open.

    Run the model under `torch.no_grad()` inside it: inference mode hides the single products.
    """
    names = prunable(model)
    weights = {name: p for name, p in model.named_parameters() if name in names}
    with single_products(), _Watch(weights, seen):
        yield


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode, and each in its own mode afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def single_products() -> Iterator[None]:
    """Attention as single matrix products: the fused kernels hide them from whoever counts."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


class SeenByDynamo(TorchDispatchMode):
    """A mode that torch need not hide from its compiler, for which it would load that: 1.5 s."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class _Watch(SeenByDynamo):
    def __init__(self, weights: Mapping[str, Tensor], seen: Callable[[Use], None]) -> None:
        super().__init__()
        self.weights = weights
        self.by_storage = {w.untyped_storage().data_ptr(): name for name, w in weights.items()}
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is _aten.convolution.default:
            self._report_convolution(*args, output=output)
        elif func in (_aten.mm.default, _aten.bmm.default):
            self._report_product(args[0], args[1], output)
        elif func in (_aten.addmm.default, _aten.baddbmm.default):
            self._report_product(args[1], args[2], output)
        return output

    def _report_convolution(
        self, x: Tensor, weight: Tensor, _bias: Tensor | None, *geometry: Any, output: Tensor
    ) -> None:
        def energy() -> Tensor:
            # d/dw of sum(conv(x^2, w)) is just that sum, whatever stride, padding and groups are.
            x2, ones = x.float().square(), torch.ones_like(output, dtype=torch.float32)
            only_weight = [False, True, False]
            back = _aten.convolution_backward
            return back(ones, x2, weight.float(), None, *geometry, only_weight)[1]

        def patches() -> Tensor:
            stride, padding, dilation, _, _, groups = geometry
            return _windows(x, weight.shape[2:], stride, padding, dilation, groups)

        self._report(weight, output, energy, patches)

    def _report_product(self, x: Tensor, factor: Tensor, output: Tensor) -> None:
        if factor.dim() == 3 and (len(factor) == 1 or factor.stride(0) == 0):  # one, expanded
            factor = factor[0]
        if factor.dim() == 2:  # (inputs, outputs): the weight, transposed

            def energy() -> Tensor:
                total = x.float().square().reshape(-1, x.shape[-1]).sum(0)
                return total.expand(factor.shape[::-1])

            self._report(factor.t(), output, energy, lambda: x.reshape(1, -1, x.shape[-1]))

    def _report(
        self,
        weight: Tensor,
        output: Tensor,
        energy: Callable[[], Tensor],
        patches: Callable[[], Tensor],
    ) -> None:
        name = self.by_storage.get(weight.untyped_storage().data_ptr())
        if name is None:
            return
        whole = self.weights[name]
        if weight.shape[1:] != whole.shape[1:] or weight.stride() != whole.stride():
            return  # another tensor in the same storage
        first = (weight.storage_offset() - whole.storage_offset()) // whole.stride(0)
        self.seen(Use(name, slice(first, first + weight.shape[0]), output, energy, patches))


def _windows(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """What a convolution multiplies its kernels by, in the order of `weight.flatten(1)`."""
    windows = F.pad(x, [side for size in reversed(padding) for side in (size, size)])
    for axis, (size, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
        windows = windows.unfold(axis, gap * (size - 1) + 1, step)[..., ::gap]
    windows = windows.unflatten(1, (groups, -1))  # (N, groups, inputs, *places, *kernel)
    places = range(3, 3 + len(kernel))
    offsets = range(3 + len(kernel), 3 + 2 * len(kernel))
    columns = windows.permute(1, 0, *places, 2, *offsets)
    return columns.flatten(-1 - len(kernel)).flatten(1, -2)
