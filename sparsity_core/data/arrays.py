"""Data that comes as arrays: scikit-learn's digits, npz files, OpenML."""

import zipfile
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np

from sparsity_core.data.division import dataset
from sparsity_core.data.remembered import Arrays, remembered
from sparsity_core.data.split import Dataset
from sparsity_core.errors import SparsityError

_LARGEST = 2 << 30


def digits(seed: int) -> Dataset:
    """The handwritten digits that scikit-learn carries, (N, 1, 8, 8) in 0..1."""

    def read() -> Arrays:
        from sklearn.datasets import load_digits  # 1.5 s, with all that scikit-learn imports

        x, y = load_digits(return_X_y=True)
        return {"x": x, "y": y}

    found = remembered("digits", version("scikit-learn"), read)
    return dataset(
        "digits",
        {"train": ((found["x"] / 16).reshape(-1, 1, 8, 8), found["y"])},
        tuple(map(str, range(10))),
        "scikit-learn's handwritten digits: 1,797 real 8x8 images",
        seed,
    )


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file; nothing pickled is read, and no more than 2 GiB."""
    broken = f"{path}: not a plain npz file of arrays"
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
        if declared > _LARGEST:  # before reading: 474 KiB can inflate to 500 MB and far more
            raise SparsityError(f"{path}: inflates to {declared} bytes; {_LARGEST} at most")
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except SparsityError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError) as error:
        raise SparsityError(f"{broken} ({error})") from error
    except (MemoryError, NotImplementedError, RuntimeError) as error:
        # A header that asks for absurd sizes, an unknown compression, an encrypted member.
        raise SparsityError(f"{broken} ({error or 'too large'})") from error


def npz(name: str, path: Path, seed: int) -> Dataset:
    """Arrays `x` (N, ...) and `y` (N,) of one npz file; nothing pickled is read."""
    arrays = read_npz(path)
    if missing := {"x", "y"} - set(arrays):
        raise SparsityError(f"{path}: no array {min(missing)!r}; it needs x and y")
    x, y = arrays["x"], arrays["y"]
    if not np.issubdtype(y.dtype, np.integer) or y.ndim != 1:
        raise SparsityError(f"{path}: y is {y.dtype} {y.shape}; it needs one whole number a sample")
    labels = np.unique(y)
    if not np.array_equal(labels, np.arange(len(labels))):
        raise SparsityError(
            f"{path}: labels must be 0, 1, 2, ... without gaps; found {labels[:8].tolist()}"
        )
    names = tuple(map(str, range(len(labels))))
    return dataset(name, {"train": (x, y)}, names, f"arrays in {path.name}", seed)


def openml(name: str, number: str, seed: int) -> Dataset:
    """A data set of OpenML by its number; fetched once, then read from scikit-learn's cache."""
    from sklearn.datasets import fetch_openml

    if not number.isdecimal():
        raise SparsityError(f"{name}: give the data set's number, such as openml:61")
    try:
        x, y = fetch_openml(data_id=int(number), return_X_y=True, as_frame=False)
    except (OSError, ValueError) as error:
        raise SparsityError(
            f"{name}: could not be fetched ({error}); it needs a network the first time"
        ) from error
    if y is None or not np.issubdtype(x.dtype, np.number):
        raise SparsityError(
            f"{name}: needs columns of numbers and one target; choose another data set"
        )
    names, labels = np.unique(y.astype(str), return_inverse=True)
    return dataset(
        name, {"train": (x, labels)}, tuple(map(str, names)), f"OpenML data set {number}", seed
    )
