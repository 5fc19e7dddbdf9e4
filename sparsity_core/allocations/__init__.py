"""How sparse each layer is, given one target for all.

To add one: write a frozen dataclass in the file of its kin, register it, and import it here.
"""

# In the order in which a person meets them, which is the order of ALLOCATIONS.kinds().
# isort: off
from sparsity_core.allocations.allocation import ALLOCATIONS, Allocation, Layer
from sparsity_core.allocations.even import Uniform, UniformPlus
from sparsity_core.allocations.ranked import LAMP, Flops, Global, lamp
from sparsity_core.allocations.random_graph import ER, ERK
from sparsity_core.allocations.sensitivity import Sensitivity
from sparsity_core.allocations.given import Manual, Threshold

# isort: on

__all__ = [
    "ALLOCATIONS",
    "ER",
    "ERK",
    "LAMP",
    "Allocation",
    "Flops",
    "Global",
    "Layer",
    "Manual",
    "Sensitivity",
    "Threshold",
    "Uniform",
    "UniformPlus",
    "lamp",
]
