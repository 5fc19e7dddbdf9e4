"""Frames of a film: what of a mask was born, has died, came back, at each look."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparsity_core.dynamic.film import Mask

KINDS = ("stays", "born", "returned", "died")
WINDOW = (40, 80)  # neurons and inputs that a frame shows one by one


@dataclass(frozen=True, eq=False)
class Frames:
    """A layer's masks as matrices (outputs, inputs), and what ever lived before each."""

    masks: Sequence[Mask]
    before: Sequence[Mask]  # lived at any earlier look

    def kinds(self, i: int) -> dict[str, Mask]:
        """What each weight is in a frame: one matrix a kind; none for what was and is dead."""
        now, ever = self.masks[i], self.before[i]
        last = self.masks[i - 1] if i else now
        return {
            "stays": now & last,
            "born": now & ~last & ~ever,
            "returned": now & ~last & ever,
            "died": last & ~now,
        }

    def counts(self) -> pd.DataFrame:
        """How many of each kind but those that stay, by frame."""
        rows = []
        for i in range(len(self.masks)):
            kinds = self.kinds(i)
            rows += [{"frame": i, "kind": k, "count": int(kinds[k].sum())} for k in KINDS[1:]]
        return pd.DataFrame(rows)

    def busiest(self) -> tuple[int, int]:
        """The first row and column of the window in which most happens."""
        moved = sum(
            (a ^ b).astype(np.int32) for a, b in zip(self.masks[1:], self.masks, strict=False)
        )
        if isinstance(moved, int):
            return 0, 0
        rows, cols = (min(n, m) for n, m in zip(moved.shape, WINDOW, strict=True))
        whole = moved[: moved.shape[0] // rows * rows, : moved.shape[1] // cols * cols]
        blocks = whole.reshape(whole.shape[0] // rows, rows, -1, cols).sum((1, 3))
        top, left = np.unravel_index(int(blocks.argmax()), blocks.shape)
        return int(top) * rows, int(left) * cols

    def window(self, i: int, top: int, left: int) -> pd.DataFrame:
        """The weights of a window that are of any kind: output, input, kind."""
        parts = []
        for kind, mask in self.kinds(i).items():
            rows, cols = np.nonzero(mask[top : top + WINDOW[0], left : left + WINDOW[1]])
            parts.append(pd.DataFrame({"output": rows + top, "input": cols + left, "kind": kind}))
        return pd.concat(parts, ignore_index=True)

    def fan_in(self, i: int) -> np.ndarray:
        """How many inputs each neuron has."""
        counts: np.ndarray = self.masks[i].sum(1)
        return counts


def frames_of(masks: Sequence[Mask]) -> Frames:
    """Frames from masks of any shape, outputs first."""
    flat = [mask.reshape(len(mask), -1) for mask in masks]
    before, ever = [], np.zeros_like(flat[0])
    for mask in flat:
        before.append(ever.copy())
        ever |= mask
    return Frames(flat, before)


def pixel_map(frames: Frames, i: int, image: Sequence[int]) -> np.ndarray | None:
    """Connections of each input pixel, channels summed: (height, width); None for no image."""
    if len(image) != 3 or int(np.prod(image)) != frames.masks[i].shape[1]:
        return None
    counts: np.ndarray = frames.masks[i].sum(0).reshape(image).sum(0)
    return counts
