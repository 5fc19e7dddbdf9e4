"""Which weights live or die together: from the scores of weights to a mask of exact count.

A structure pools scores into units, chooses the units that stay, and expands the choice to a mask.
To add one: write a frozen dataclass in the file of its kin, register it, and import it here.
"""

# In the order in which a person meets them, which is the order of STRUCTURES.kinds().
# isort: off
from sparsity_core.structures.structure import (
    STRUCTURES,
    Shape,
    Structure,
    from_inputs_last,
    inputs_last,
)
from sparsity_core.structures.single import Unstructured
from sparsity_core.structures.channel import AttentionHead, InChannel, Kernel, OutChannel
from sparsity_core.structures.block import Block
from sparsity_core.structures.n_of_m import ConstantFanIn, NofM, Transposable

# isort: on

__all__ = [
    "STRUCTURES",
    "AttentionHead",
    "Block",
    "ConstantFanIn",
    "InChannel",
    "Kernel",
    "NofM",
    "OutChannel",
    "Shape",
    "Structure",
    "Transposable",
    "Unstructured",
    "from_inputs_last",
    "inputs_last",
]
