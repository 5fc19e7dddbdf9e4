"""How much does each weight matter? One file a source of evidence; SCORERS lists them all."""

# In the order in which a person meets them, which is the order of SCORERS.kinds().
# isort: off
from sparsity_core.scorers.scorer import SCORERS, Scorer
from sparsity_core.scorers.weight import GeometricMedian, HanThreshold, Magnitude, Random
from sparsity_core.scorers.gradient import Gradient, Snip, Taylor
from sparsity_core.scorers.curvature import OBD, Fisher, Grasp, WoodFisher
from sparsity_core.scorers.flow import SynFlow
from sparsity_core.scorers.movement import Movement
from sparsity_core.scorers.activation import Wanda
from sparsity_core.scorers.second_order import OBS
from sparsity_core.scorers.output import APoZ, BNScale, MeanActivation
from sparsity_core.scorers.attribution import Conductance, DeepLift, IntegratedGradients

# isort: on

__all__ = [
    "OBD",
    "OBS",
    "SCORERS",
    "APoZ",
    "BNScale",
    "Conductance",
    "DeepLift",
    "Fisher",
    "GeometricMedian",
    "Gradient",
    "Grasp",
    "HanThreshold",
    "IntegratedGradients",
    "Magnitude",
    "MeanActivation",
    "Movement",
    "Random",
    "Scorer",
    "Snip",
    "SynFlow",
    "Taylor",
    "Wanda",
    "WoodFisher",
]
