"""How much does each weight matter? One file a source of evidence; SCORERS lists them all."""

# In the order in which a person meets them, which is the order of SCORERS.kinds().
# isort: off
from sparsity_core.scorers.scorer import SCORERS, Scorer
from sparsity_core.scorers.weight import Magnitude, Random
from sparsity_core.scorers.gradient import Gradient, Snip, Taylor
from sparsity_core.scorers.curvature import OBD, Fisher, Grasp
from sparsity_core.scorers.flow import SynFlow
from sparsity_core.scorers.activation import Wanda

# isort: on

__all__ = [
    "OBD",
    "SCORERS",
    "Fisher",
    "Gradient",
    "Grasp",
    "Magnitude",
    "Random",
    "Scorer",
    "Snip",
    "SynFlow",
    "Taylor",
    "Wanda",
]
