"""Which weights go after a round, and masks that say as much by chance."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError, unknown
from sparsity_core.selection import count_pruned, keep_best
from sparsity_core.weights import Masks, Weights, check_finite, check_sparsity

SCOPES = ("layer", "global")


@dataclass(frozen=True)
class Rule:
    """Shares of what is left that go in each round, the smallest weights first.

    As in Frankle & Carbin 2019 (arXiv 1803.03635): in each layer 20 %, in the last layer 10 %. With
    scope `global` one ranking over all layers decides, but for a last layer with a share of its
    own: 0 leaves it dense.
    """

    share: float = 0.2
    last_share: float | None = None  # None: as the others
    scope: str = "layer"

    def __post_init__(self) -> None:
        for name in ("share", "last_share"):
            if getattr(self, name) is not None:
                check_sparsity(getattr(self, name), name)
        if self.scope not in SCOPES:
            raise unknown("scope", self.scope, SCOPES)

    def masks(self, weights: Weights, masks: Mapping[str, Tensor]) -> Masks:
        """The masks after a round more; `weights` are the prunable ones, in the model's order.

        A layer without a mask is dense. Of every pool the share of what is alive goes, to the
        nearest whole number; nothing comes back.
        """
        if not weights:
            raise SparsityError("no layer can be pruned: the model has no Linear or Conv weight")
        scores = {}
        for name, weight in weights.items():
            check_finite(name, weight)
            alive = masks.get(name, torch.ones_like(weight, dtype=torch.bool))
            scores[name] = weight.detach().abs().masked_fill(~alive, -torch.inf)
        found: Masks = {}
        for names, share in self._pools(list(scores)):
            flat = torch.cat([scores[name].reshape(-1) for name in names])
            kept = _without_share(flat, share).split([scores[name].numel() for name in names])
            shaped = zip(names, kept, strict=True)
            found |= {name: part.reshape(scores[name].shape) for name, part in shaped}
        return found

    def _pools(self, names: list[str]) -> list[tuple[list[str], float]]:
        """Names that are ranked together, and the share of them that goes."""
        apart = self.last_share is not None
        *hidden, last = names
        alike = hidden if apart else names
        pools = [alike] if self.scope == "global" and alike else [[name] for name in alike]
        last_share = self.share if self.last_share is None else self.last_share
        return [(pool, self.share) for pool in pools] + ([([last], last_share)] if apart else [])


def shuffled(masks: Mapping[str, Tensor], seed: int) -> Masks:
    """As many weights in each layer, anywhere in it."""
    found: Masks = {}
    for name, mask in masks.items():
        own = int(digest_of([seed, name, "shuffled ticket"])[:12], 16)
        order = torch.randperm(mask.numel(), generator=torch.Generator().manual_seed(own))
        found[name] = mask.reshape(-1)[order.to(mask.device)].reshape(mask.shape)
    return found


def _without_share(scores: Tensor, share: float) -> Tensor:
    """False for what is dead (-inf) and for the lowest `share` of the rest."""
    dead = int(scores.isneginf().sum())
    return keep_best(scores, dead + count_pruned(len(scores) - dead, share))
