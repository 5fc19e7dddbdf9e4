"""What can be mended without training: steps that change the weights that stay, layer by layer.

To add one: a frozen dataclass in a file of its own, registered, and imported here.
"""

# In the order in which a person meets them, which is the order of REPAIRS.kinds().
# isort: off
from sparsity_core.repairs.repair import (
    REPAIRS,
    Damage,
    LayerRepair,
    Repair,
    repairs_from,
    repairs_label,
)
from sparsity_core.repairs.sparsegpt import SparseGPT
from sparsity_core.repairs.least_squares import LeastSquares
from sparsity_core.repairs.bias_correction import BiasCorrection
from sparsity_core.repairs.batch_norm import BatchNorm

# isort: on

__all__ = [
    "REPAIRS",
    "BatchNorm",
    "BiasCorrection",
    "Damage",
    "LayerRepair",
    "LeastSquares",
    "Repair",
    "SparseGPT",
    "repairs_from",
    "repairs_label",
]
