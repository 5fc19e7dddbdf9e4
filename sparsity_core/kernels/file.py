"""A packed weight as a safetensors file, and back."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.kernel import KERNELS, Packed

_PART = "part."
_BROKEN = (
    *(OSError, SafetensorError, LookupError, RuntimeError, ValueError, TypeError),
    *(OverflowError, MemoryError, AttributeError),
)


def save(packed: Packed, path: str | Path) -> None:
    """Write the parts, the bias and the kernel's name and options."""
    tensors = {_PART + name: part.contiguous() for name, part in packed.parts.items()}
    if packed.bias is not None:
        tensors["bias"] = packed.bias
    kernel = KERNELS.to_dict(packed.kernel)
    save_file(
        tensors, path, {"kernel": json.dumps(kernel), "shape": json.dumps(list(packed.shape))}
    )


def load(path: str | Path) -> Packed:
    """The packed weight that `save` wrote.

    It is decoded and packed anew, so that no index of a file reaches a kernel unchecked. Raises
    SparsityError for a file that is none of ours or is damaged.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            about = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        kernel = KERNELS.from_dict(json.loads(about["kernel"]))
        shape = tuple(int(side) for side in json.loads(about["shape"]))
        parts = {n.removeprefix(_PART): t for n, t in tensors.items() if n.startswith(_PART)}
        weight, mask = kernel.decode(parts, shape)
        return kernel.pack(weight.to(torch.float32), mask, tensors.get("bias"))
    except SparsityError:
        raise
    except _BROKEN as error:
        raise SparsityError(
            f"{path} holds no packed weight ({type(error).__name__}: {error}); save it again"
        ) from error
