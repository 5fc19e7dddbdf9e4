"""Names for things by their content: equal content, equal name, on every machine."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def digest_of(content: Any) -> str:
    """A 16-digit hexadecimal name of plain data (numbers, texts, lists, mappings, None)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """A 16-digit hexadecimal name of named tensors: names, shapes, types and every byte."""
    state = hashlib.sha256()
    for name, tensor in tensors.items():
        array = tensor.detach().cpu().contiguous()
        state.update(f"{name}{tuple(array.shape)}{array.dtype}".encode())
        # A view as bytes also serves types numpy does not know, such as bfloat16.
        state.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()[:16]
