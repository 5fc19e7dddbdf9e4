"""Masks that move while a network trains: which weights die, which are born, and when.

To add a rule: write a frozen dataclass in the file of its kin, register it, and import it here.
"""

# In the order in which a person meets them, which is the order of RULES.kinds().
# isort: off
from sparsity_core.dynamic.rule import RULES, Clock, Report, State, UpdateRule
from sparsity_core.dynamic.fixed import Dense, Static
from sparsity_core.dynamic.evolution import Evolution, RandomGrowth
from sparsity_core.dynamic.rigl import RigL
from sparsity_core.dynamic.srigl import SRigL, SRigLNofM
from sparsity_core.dynamic.mest import Mest
from sparsity_core.dynamic.sparse_momentum import SparseMomentum
from sparsity_core.dynamic.magnitude import AlternatingCompression, GradualMagnitude
from sparsity_core.dynamic.top_kast import TopKast
from sparsity_core.dynamic.soft import AutoSparse, SoftThreshold
from sparsity_core.dynamic.dst import NeuronThresholds
from sparsity_core.dynamic.sr_ste import SrSte

# isort: on

__all__ = [
    "RULES",
    "AlternatingCompression",
    "AutoSparse",
    "Clock",
    "Dense",
    "Evolution",
    "GradualMagnitude",
    "Mest",
    "NeuronThresholds",
    "RandomGrowth",
    "Report",
    "RigL",
    "SRigL",
    "SRigLNofM",
    "SoftThreshold",
    "SparseMomentum",
    "SrSte",
    "State",
    "Static",
    "TopKast",
    "UpdateRule",
]
