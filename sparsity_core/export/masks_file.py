"""Masks as a file: one bit a weight."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparsity_core.errors import SparsityError
from sparsity_core.export.files import read_tensors, tensor_bytes
from sparsity_core.weights import Masks


def masks_bytes(masks: Mapping[str, Tensor]) -> bytes:
    """A safetensors file of masks: each is its bits, the first in the lowest, True = stays."""
    bits = {
        name: torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1), bitorder="little"))
        for name, mask in masks.items()
    }
    return tensor_bytes(bits, {"shapes": {name: list(mask.shape) for name, mask in masks.items()}})


def read_masks(path: Path) -> Masks:
    """The masks of a file; raises SparsityError for one that holds none."""
    tensors, notes = read_tensors(path)
    shapes = notes.get("shapes")
    if not isinstance(shapes, dict) or set(shapes) != set(tensors):
        raise SparsityError(f"{path}: holds no masks; give the file that `sparsity prune` wrote")
    masks = {}
    for name, bits in tensors.items():
        size = math.prod(shapes[name])
        if bits.dtype != torch.uint8 or bits.shape != (-(-size // 8),):
            raise SparsityError(f"{path}: the mask of {name} is damaged; export the file again")
        flat = np.unpackbits(bits.numpy(), count=size, bitorder="little").astype(bool)
        masks[name] = torch.from_numpy(flat).reshape(shapes[name])
    return masks
