"""A folder of images, or an archive of one, at the size that a model wants."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sparsity_core.data.images import read_images
from sparsity_core.errors import SparsityError
from sparsity_core.intake.arrays import normalisation, normalised
from sparsity_core.intake.how import How

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_MEMORY = 2 << 30  # bytes that the inputs may take, unless a limit is given


def pictures(path: Path, how: How) -> tuple[Any, tuple[str, ...], tuple[str, ...]]:
    """Images by split with the number of their class's folder, the classes, and notes.

    With an input size the shorter side becomes 8/7 of it, then the middle is cut out, as image
    models are usually evaluated. Colour images are normalised by the means of ImageNet unless told
    otherwise. Too many for the memory, or more than the limit, are thinned out evenly.
    """
    channels, height, width = how.input_size if len(how.input_size) == 3 else (3, 0, 0)
    if (how.input_size and len(how.input_size) != 3) or channels not in (1, 3):
        raise SparsityError(
            f"{path}: images need an input size of three numbers, such as 3x224x224, with 1 or 3 "
            "channels"
        )
    most = how.limit or (_MEMORY // (4 * channels * height * width) if height else 0)
    found = read_images(path, size=(height, width) if height else None, most=most)
    names = {str(label) for _, labels in found.values() for label in np.unique(labels)}
    classes = how.classes or tuple(sorted(names))
    if strange := sorted(names - set(classes)):
        raise SparsityError(
            f"{path}: class {strange[0]!r} is not among the classes given; "
            "name every folder, in the order of the model's outputs"
        )
    number = {name: i for i, name in enumerate(classes)}
    if channels == 3 and not how.mean and not how.std:
        how = replace(how, mean=IMAGENET[0], std=IMAGENET[1])
    split = {
        name: (
            normalised(_channels(pixels, channels), how),
            np.array([number[str(label)] for label in labels]),
        )
        for name, (pixels, labels) in found.items()
    }
    notes = [normalisation(how)]
    count = sum(len(labels) for _, labels in found.values())
    if most and count == most:
        notes.append(f"{count:,} images were read, evenly spaced; ask for more with a limit")
    return split, classes, tuple(notes)


def _channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """(N, H, W, 3) bytes as (N, C, H, W) in 0..1; grey by the weights of ITU-R 601."""
    x = pixels.astype(np.float32) / 255
    if channels == 1:
        x = x @ np.array([[0.299], [0.587], [0.114]], np.float32)
    return x.transpose(0, 3, 1, 2)
