"""All masks of one chain as one array a layer: how many rounds each weight lives."""

import base64
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.weights import Masks

Lifetimes = dict[str, Tensor]  # uint8, in the shape of the weight


def lifetimes_of(chain: Sequence[Mapping[str, Tensor]]) -> Lifetimes:
    """From the masks of the rounds 1, 2, ...: in how many of them each weight is still there.

    The masks are nested, so nothing is lost. Raises SparsityError for more than 255 rounds, or
    when a weight comes back.
    """
    if len(chain) > 255:
        raise SparsityError(f"{len(chain)} rounds; lifetimes hold up to 255")
    found: Lifetimes = {}
    for before, masks in zip(({}, *chain), chain, strict=False):
        for name, mask in masks.items():
            if name in before and bool((mask & ~before[name]).any()):
                raise SparsityError(f"{name}: a weight came back; masks of one chain are nested")
            lived = found.setdefault(name, torch.zeros_like(mask, dtype=torch.uint8))
            found[name] = lived + mask.to(torch.uint8)
    return found


def masks_in(lifetimes: Mapping[str, Tensor], number: int) -> Masks:
    """The masks of round `number`; in round 0 all is there."""
    return {name: lived >= number for name, lived in lifetimes.items()}


def packed(lifetimes: Mapping[str, Tensor]) -> dict[str, list[object]]:
    """As plain data: name -> [shape, text]."""
    return {
        name: [
            list(lived.shape),
            base64.b64encode(zlib.compress(lived.numpy().tobytes(), 9)).decode(),
        ]
        for name, lived in lifetimes.items()
    }


def unpacked(data: Mapping[str, Sequence[object]]) -> Lifetimes:
    """From plain data."""
    found: Lifetimes = {}
    for name, (shape, text) in data.items():
        content = zlib.decompress(base64.b64decode(str(text)))
        flat = torch.from_numpy(np.frombuffer(content, np.uint8).copy())
        found[name] = flat.reshape(tuple(shape))  # type: ignore[arg-type]
    return found
