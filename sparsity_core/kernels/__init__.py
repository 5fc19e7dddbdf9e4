"""Sparse products that run: each packs a masked weight into a format and multiplies with it.

To add one: a frozen dataclass in a file of its own, registered, and imported here.
"""

# In the order in which a person meets them, which is the order of KERNELS.kinds().
# isort: off
from sparsity_core.kernels.kernel import KERNELS, Kernel, Packed
from sparsity_core.kernels.dense import Dense, DenseBf16, DenseOneDnn, DenseTransposed
from sparsity_core.kernels.channels import ChannelsRemoved
from sparsity_core.kernels.torch_sparse import Bsr, Csr
from sparsity_core.kernels.ell import Ell
from sparsity_core.kernels.permute import Permute
from sparsity_core.kernels.balanced import Balanced, BalancedBf16
from sparsity_core.kernels.tiled import Blocks, Tiled
from sparsity_core.kernels.dense_convolution import (
    DenseConvolution,
    DenseConvolutionChannelsLast,
    DenseConvolutionOneDnn,
)
from sparsity_core.kernels.convolution import SparseConvolution
from sparsity_core.kernels.gpu_torch import GpuCsr, GpuDense
from sparsity_core.kernels.gpu_blocks import GpuBsr
from sparsity_core.kernels.semi_structured import SemiStructured
from sparsity_core.kernels.gathered import GpuCondensed, GpuUnstructured
from sparsity_core.kernels.gpu_balanced import GpuBalanced
from sparsity_core.kernels.file import load, save
from sparsity_core.kernels.fold import fold_batch_norms_
from sparsity_core.kernels.choice import LayerChoice
from sparsity_core.kernels.sparsify import SparseModel, sparsify

# isort: on

__all__ = [
    "KERNELS",
    "Balanced",
    "BalancedBf16",
    "Blocks",
    "Bsr",
    "ChannelsRemoved",
    "Csr",
    "Dense",
    "DenseBf16",
    "DenseConvolution",
    "DenseConvolutionChannelsLast",
    "DenseConvolutionOneDnn",
    "DenseOneDnn",
    "DenseTransposed",
    "Ell",
    "GpuBalanced",
    "GpuBsr",
    "GpuCondensed",
    "GpuCsr",
    "GpuDense",
    "GpuUnstructured",
    "Kernel",
    "LayerChoice",
    "Packed",
    "Permute",
    "SemiStructured",
    "SparseConvolution",
    "SparseModel",
    "Tiled",
    "fold_batch_norms_",
    "load",
    "save",
    "sparsify",
]
