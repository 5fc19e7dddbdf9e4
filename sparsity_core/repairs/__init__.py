"""What can be mended without training: steps that change the weights that stay, layer by layer.

To add one: a frozen dataclass in a file of its own, registered, and imported here.
"""

from sparsity_core.repairs.repair import REPAIRS, Damage, Repair

__all__ = ["REPAIRS", "Damage", "Repair"]
