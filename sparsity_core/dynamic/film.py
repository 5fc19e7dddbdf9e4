"""The film of a training: every layer's mask at every look, in a few bits a change."""

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LARGEST = 2**19  # weights of a layer that is filmed

Mask = NDArray[np.bool_]


class Film:
    """Masks by step and layer; each frame is kept as its difference to the one before."""

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        steps: list[int] | None = None,
        frames: Mapping[str, list[bytes]] | None = None,
    ) -> None:
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.steps = list(steps or [])
        self._frames = {name: list((frames or {}).get(name, [])) for name in self.shapes}
        self._last: dict[str, Mask] = {}

    @classmethod
    def of(cls, masks: Mapping[str, Tensor]) -> "Film":
        """An empty film of the layers that are small enough for one."""
        return cls({n: tuple(m.shape) for n, m in masks.items() if m.numel() <= _LARGEST})

    def add_(self, step: int, masks: Mapping[str, Tensor]) -> None:
        """A frame more."""
        for name in self.shapes:
            new = masks[name].reshape(-1).cpu().numpy()
            before = self._last[name] if name in self._last else self._newest(name)
            self._frames[name].append(zlib.compress(np.packbits(new ^ before).tobytes(), 9))
            self._last[name] = new.copy()
        self.steps.append(step)

    def masks(self, name: str) -> list[Mask]:
        """A layer's mask at each step, in the weight's shape."""
        found, size = [], int(np.prod(self.shapes[name]))
        now: Mask = np.zeros(size, bool)
        for frame in self._frames[name]:
            now = now ^ _bits(frame, size)
            found.append(now.reshape(self.shapes[name]))
        return found

    def _newest(self, name: str) -> Mask:
        if not self.steps:
            return np.zeros(int(np.prod(self.shapes[name])), bool)
        return self.masks(name)[-1].reshape(-1)

    def to_dict(self) -> dict[str, Any]:
        """Plain data and tensors of bytes, for `checkpoint.save`; `from_dict` reads it back."""
        return {
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "steps": list(self.steps),
            "frames": {
                name: [torch.frombuffer(bytearray(f), dtype=torch.uint8) for f in frames]
                for name, frames in self._frames.items()
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Film":
        """The film that `to_dict` described."""
        frames = {n: [f.numpy().tobytes() for f in own] for n, own in data["frames"].items()}
        return cls({n: tuple(s) for n, s in data["shapes"].items()}, data["steps"], frames)


def packed(film: Film) -> dict[str, Any]:
    """A film as plain texts and numbers; `unpacked` reads it back."""
    data = film.to_dict()
    frames = {
        name: [base64.b64encode(frame.numpy().tobytes()).decode() for frame in own]
        for name, own in data["frames"].items()
    }
    return data | {"frames": frames}


def unpacked(data: Mapping[str, Any]) -> Film:
    """The film that `packed` described."""
    frames = {
        name: [torch.frombuffer(bytearray(base64.b64decode(f)), dtype=torch.uint8) for f in own]
        for name, own in data["frames"].items()
    }
    return Film.from_dict({**data, "frames": frames})


def _bits(frame: bytes, size: int) -> Mask:
    bits = np.frombuffer(zlib.decompress(frame), np.uint8)
    return np.unpackbits(bits, count=size).astype(bool)
