"""What kernels are timed on: one layer's weight, bias and inputs, random or a model's own."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sparsity_core.errors import SparsityError, unknown
from sparsity_core.kernels.choice import GEOMETRY, why_dense
from sparsity_core.kernels.kernel import KERNELS, Kernel
from sparsity_core.kernels.sites import inputs_of, sites
from sparsity_core.weights import canonical_names

MATRIX_RIVALS = ("dense", "dense-transposed", "dense-onednn")  # float32: the best is the rival
CONVOLUTION_RIVALS = (
    "dense-convolution",
    "dense-convolution-channels-last",
    "dense-convolution-onednn",
)


@dataclass(frozen=True, eq=False)
class Workload:
    """A layer to be timed; masks keep the weights of the highest scores."""

    weight: Tensor  # outputs first
    bias: Tensor | None
    scores: Tensor  # of the weight's shape
    sample: tuple[int, ...]  # the shape of one sample's input: (inputs,), (tokens, inputs), image
    positions: int  # in which the whole weight is used for one sample
    geometry: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # of a convolution

    @property
    def rows(self) -> int:
        """Outputs."""
        return self.weight.shape[0]

    @property
    def cols(self) -> int:
        """Weights of one output."""
        return math.prod(self.weight.shape[1:])

    @property
    def rivals(self) -> tuple[str, ...]:
        """The dense float32 kernels, of which the quickest is what others are compared with."""
        return MATRIX_RIVALS if self.weight.dim() == 2 else CONVOLUTION_RIVALS

    def kernel(self, kind: str, threads: int) -> Kernel:
        """The kernel of a name with this layer's geometry and, where it has its own, threads."""
        kernel = KERNELS.make(kind)
        given: dict[str, object] = {"threads": threads} if hasattr(kernel, "threads") else {}
        known = {one.name for one in dataclasses.fields(kernel)}  # type: ignore[arg-type]
        given |= {name: pair for name, pair in self.geometry.items() if name in known}
        return dataclasses.replace(kernel, **given)  # type: ignore[type-var]

    def inputs(self, batch: int, seed: int) -> Tensor:
        """Normally distributed inputs of so many samples."""
        return torch.randn(batch, *self.sample, generator=_generator(seed + 1))


def random_workload(rows: int, cols: int, seed: int = 0) -> Workload:
    """A Linear layer cols -> rows with random weights and random masks."""
    shape = (rows, cols)
    return Workload(
        weight=torch.randn(shape, generator=_generator(seed)) / math.sqrt(cols),
        bias=torch.randn(rows, generator=_generator(seed + 2)),
        scores=torch.rand(shape, generator=_generator(seed + 3)),
        sample=(cols,),
        positions=1,
    )


def layer_workload(model: nn.Module, layer: str, sample: Tensor) -> Workload:
    """A model's own layer with masks by magnitude; `sample`: one input of the model, (1, ...).

    Raises SparsityError for a layer that no kernel can run.
    """
    (name,) = canonical_names(model, [layer])
    found = {site.name: site for site in sites(model, [name])}
    if name not in found:
        raise unknown("layer with a weight of its own", layer, found)
    module = found[name].module
    reason = why_dense(module)
    if reason is None and getattr(module, "groups", 1) > 1:
        reason = f"is a convolution in {module.groups} groups: kernels are timed on one"
    if reason:
        raise SparsityError(f"{name} {reason}; time a shape of its size instead")
    given = inputs_of(model, sample).get(found[name].path)
    if given is None:
        raise SparsityError(f"{name} is not used as a module in the forward pass; time a shape")
    weight = module.get_parameter("weight").detach()
    bias = getattr(module, "bias", None)
    with torch.no_grad():
        outputs = module(given)
    return Workload(
        weight=weight,
        bias=None if bias is None else bias.detach(),
        scores=weight.abs(),
        sample=tuple(given.shape[1:]),
        positions=outputs.numel() // len(given) // weight.shape[0],
        geometry={key: getattr(module, key) for key in GEOMETRY if hasattr(module, key)},
    )


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
