"""The data sets by name. To add one: a reader beside this file and a line in `load_data`."""

from pathlib import Path

import numpy as np

from sparsity_core.data.arrays import digits, npz, openml
from sparsity_core.data.division import dataset
from sparsity_core.data.environment import data_folder, find
from sparsity_core.data.idx import FILES, find_idx, idx
from sparsity_core.data.images import is_archive, read_images
from sparsity_core.data.split import Dataset
from sparsity_core.errors import SparsityError, unknown

NAMES = ("digits", "mnist", "fashion-mnist", "cifar10")
PREFIXES = ("idx:", "images:", "npz:", "openml:")
_DIGITS = tuple(map(str, range(10)))
_FASHION = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
_CIFAR_MEAN, _CIFAR_DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_HALF = (0.5, 0.5, 0.5)
_IMAGES = 64  # prepared at a time: in the cache that takes half as long as all at once


def load_data(name: str, seed: int = 0) -> Dataset:
    """A data set by name, with seeded splits.

    `digits`, `mnist`, `fashion-mnist`, `cifar10`, `idx:FOLDER`, `images:FOLDER-OR-ARCHIVE`,
    `npz:FILE` (arrays x and y), `openml:NUMBER` (needs a network). Paths may be relative to
    SPARSITY_DATA. Raises SparsityError for absent or broken data, with what to do.
    """
    if (reason := missing_data(name)) is not None:
        raise SparsityError(f"{name}: {reason}")
    if name == "digits":
        return digits(seed)
    if name in ("mnist", "fashion-mnist"):
        return idx(name, find(name), _DIGITS if name == "mnist" else _FASHION, seed)
    if name == "cifar10":
        path = _cifar_path()
        assert path is not None  # missing_data said so
        source = f"CIFAR-10 as JPEG images (lossy) in {path.name}"
        return _images(name, path, source, seed, _CIFAR_MEAN, _CIFAR_DEVIATION)
    kind, _, value = name.partition(":")
    if kind == "openml":
        return openml(name, value, seed)
    path = find(value)
    if kind == "idx":
        return idx(name, path, None, seed)
    if kind == "npz":
        return npz(name, path, seed)
    return _images(name, path, f"images in {path.name}", seed)


def missing_data(name: str) -> str | None:
    """None when the data is there, else what to do; looks for files and reads none."""
    if name in ("mnist", "fashion-mnist"):
        folder = data_folder()
        stems = [stem for pair in FILES.values() for stem in pair]
        if folder is None or not all(find_idx(folder / name, stem) for stem in stems):
            return f"set SPARSITY_DATA to a folder with {name}/{stems[0]}.gz and its companions"
    elif name == "cifar10":
        if _cifar_path() is None:
            return "set SPARSITY_DATA to a folder with cifar10/train/CLASS/*.jpg or its archive"
    elif name.startswith(PREFIXES):
        kind, _, value = name.partition(":")
        if kind != "openml":
            try:
                find(value)
            except SparsityError as error:
                return str(error)
    elif name not in NAMES:
        raise unknown("data set", name, (*NAMES, *(p + "..." for p in PREFIXES)))
    return None


def _cifar_path() -> Path | None:
    root = (data_folder() or Path()) / "cifar10"
    if data_folder() is None or not root.is_dir():
        return None
    if (root / "train").is_dir():
        return root
    return next((p for p in sorted(root.iterdir()) if is_archive(p)), None)


def _images(
    name: str,
    path: Path,
    source: str,
    seed: int,
    mean: tuple[float, ...] = _HALF,
    deviation: tuple[float, ...] = _HALF,
) -> Dataset:
    found = read_images(path)
    classes = sorted({str(label) for _, labels in found.values() for label in np.unique(labels)})
    numbered = {
        split: (pixels, np.searchsorted(classes, labels))
        for split, (pixels, labels) in found.items()
    }

    def prepare(pixels: np.ndarray) -> np.ndarray:
        ready = np.empty((len(pixels), 3, *pixels.shape[1:3]), np.float32)  # (N, 3, H, W)
        for start in range(0, len(pixels), _IMAGES):
            x = pixels[start : start + _IMAGES].astype(np.float32)  # (n, H, W, 3)
            x /= 255
            x -= np.array(mean, np.float32)
            x /= np.array(deviation, np.float32)
            ready[start : start + _IMAGES] = x.transpose(0, 3, 1, 2)
        return ready

    return dataset(name, numbered, classes, source, seed, prepare)
