"""The quickest kernel for one layer, found by timing all that can take it."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.convolution import SparseConvolution
from sparsity_core.kernels.dense_convolution import Convolution
from sparsity_core.kernels.gpu_timing import timed
from sparsity_core.kernels.kernel import KERNELS, Kernel, Packed, dtype_name
from sparsity_core.kernels.timing import Call

DENSE = "as it was"  # the layer's own dense product
_REPEATS = 7
_ROUGH = 100.0
GEOMETRY = ("stride", "padding", "dilation")  # of a convolution
CLEAR = 1.05  # times quicker than dense a kernel or model has to be: noise is a few per cent


@dataclass(frozen=True)
class LayerChoice:
    """How one masked layer runs; seconds are medians on the layer's inputs from the sample."""

    name: str  # of the weight
    kernel: str  # of KERNELS, or DENSE
    seconds: dict[str, float]  # of every kernel tried; none where only one was asked for
    refused: dict[str, str]  # kernels, or DENSE alone, that could not take the layer -> why
    bytes: int  # of the weight as it is stored now

    @property
    def speedup(self) -> float:
        """Over the layer's own dense product; 1 where nothing was timed."""
        if self.kernel not in self.seconds:
            return 1.0
        return self.seconds[DENSE] / self.seconds[self.kernel]


def why_dense(module: nn.Module) -> str | None:
    """Why no kernel is for a module, or None when there may be one."""
    if type(module) is nn.Linear:
        return None
    if type(module) is not nn.Conv2d:
        return f"is a {type(module).__name__}: kernels are for Linear and Conv2d"
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        return "pads by name or with other values than zero; give numbers and zeros"
    return None


def pack_layer(name: str, module: nn.Module, mask: Tensor, threads: int = 1) -> Packed:
    """A Linear or Conv2d packed for a named kernel; raises SparsityError where it cannot be.

    Formats are made on the CPU from float32, which holds every 16-bit weight exactly. A convolution
    in groups becomes a sparse one in one group, whose other weights are not stored.
    """
    kernel = _kernel_for(name, module, threads)
    weight, bias = module.get_parameter("weight"), getattr(module, "bias", None)
    groups = getattr(module, "groups", 1)
    if groups > 1 and not isinstance(kernel, SparseConvolution):
        raise SparsityError(f"{name} takes convolutions in one group, got {groups}")
    if weight.dim() != kernel.rank:
        raise SparsityError(f"{name} takes weights of {kernel.rank} axes, got {weight.dim()}")
    if weight.dtype != kernel.takes:
        raise SparsityError(
            f"{name} takes {dtype_name(kernel.takes)} models, got {dtype_name(weight.dtype)}"
        )
    here = [None if t is None else t.detach().float().cpu() for t in (weight, bias)]
    assert here[0] is not None
    return kernel.pack(_in_one_group(here[0], groups), _in_one_group(mask.cpu(), groups), here[1])


def _in_one_group(weight: Tensor, groups: int) -> Tensor:
    """(filters, inputs of a group, ...) -> (filters, inputs, ...), zero where groups are apart."""
    if groups == 1:
        return weight
    filters, inputs, *kernel = weight.shape
    each = filters // groups
    whole = weight.new_zeros(groups, each, groups, inputs, *kernel)
    at = torch.arange(groups)
    whole[at, :, at] = weight.unflatten(0, (groups, each))
    return whole.reshape(filters, groups * inputs, *kernel)


def candidates(device: str) -> list[str]:
    """The kernels of a device among which `choose` chooses: those that do not round weights."""
    made = {kind: KERNELS.make(kind) for kind in KERNELS}
    return [kind for kind, k in made.items() if k.device == device and k.stores == k.takes]


def choose(
    name: str, module: nn.Module, mask: Tensor, inputs: Tensor, threads: int
) -> tuple[LayerChoice, Packed | None]:
    """Time all `candidates` on a layer's inputs; None where the layer itself wins."""
    expected = module(inputs)
    calls: dict[str, list[Call]] = {DENSE: [lambda: module(inputs)]}
    packed: dict[str, Packed] = {}
    refused: dict[str, str] = {}
    rough = _ROUGH if expected.dtype.itemsize == 2 else 1.0  # sums are rounded to 8 or 11 bits
    for kind in candidates(inputs.device.type):
        try:
            one = pack_layer(kind, module, mask, threads)
            found = one(inputs)
        except (SparsityError, RuntimeError) as error:
            refused[kind] = str(error)
            continue
        most = float(expected.abs().max())
        if not torch.allclose(found, expected, rough * 1e-3, rough * 1e-4 * most):
            refused[kind] = "gave other outputs than the layer"
            continue
        packed[kind] = one
        calls[kind] = [lambda one=one: one(inputs)]  # type: ignore[misc]
    times = timed(calls, _REPEATS, inputs.device.type)
    seconds = {kind: times[kind].p50 for kind in times}
    best = min(packed, key=lambda kind: seconds[kind], default=DENSE)
    if seconds[best] * CLEAR > seconds[DENSE]:
        best = DENSE
    chosen = packed.get(best)
    weight = module.get_parameter("weight")
    size = chosen.bytes if chosen else weight.numel() * weight.element_size()
    return LayerChoice(name, best, seconds, refused, size), chosen


def _kernel_for(name: str, module: nn.Module, threads: int) -> Kernel:
    """The kernel of a name with the module's geometry, and the threads or type if it has such."""
    kernel = KERNELS.make(name)
    given: dict[str, object] = {"threads": threads} if hasattr(kernel, "threads") else {}
    if hasattr(kernel, "dtype"):
        given["dtype"] = dtype_name(module.get_parameter("weight").dtype)
    if isinstance(kernel, Convolution) and isinstance(module, nn.Conv2d):
        given |= {key: getattr(module, key) for key in GEOMETRY}
    return dataclasses.replace(kernel, **given)  # type: ignore[type-var]
