"""What masks did so far: which weights ever lived, and how many were born, died, came back."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sparsity_core.selection import how_many
from sparsity_core.weights import Masks


class History:
    """Counts since the last look, and all weights that ever lived."""

    def __init__(
        self,
        ever: Mapping[str, Tensor],
        counts: Mapping[str, int] | None = None,
        ablated: Mapping[str, int] | None = None,
    ) -> None:
        self.ever: Masks = {name: mask.clone() for name, mask in ever.items()}
        self.counts = dict(counts or {"born": 0, "died": 0, "returned": 0})
        self.ablated = dict(ablated or {})

    def note_(
        self, before: Mapping[str, Tensor], after: Mapping[str, Tensor], ablated: Mapping[str, int]
    ) -> None:
        """Take in a change of masks; who lived once before returns and is not born."""
        for name, mask in after.items():
            came = mask & ~before[name]
            returned = how_many(came & self.ever[name])
            self.counts["returned"] += returned
            self.counts["born"] += how_many(came) - returned
            self.counts["died"] += how_many(before[name] & ~mask)
            self.ever[name] |= mask
        self.ablated |= ablated

    def take_(self) -> dict[str, int]:
        """The counts since this was last asked."""
        taken, self.counts = self.counts, dict.fromkeys(self.counts, 0)
        return taken

    @property
    def explored(self) -> float | None:
        """The share of all weights that ever lived: in-time over-parameterisation (Liu et al.
        2021, arXiv 2102.02887); None where that is not kept."""
        total = sum(mask.numel() for mask in self.ever.values())
        return sum(how_many(mask) for mask in self.ever.values()) / total if total else None

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain data; `History(**it)` reads it back."""
        return {
            "ever": {name: mask.clone() for name, mask in self.ever.items()},
            "counts": dict(self.counts),
            "ablated": dict(self.ablated),
        }
