"""IDX files, the format of MNIST: a magic number, sizes, then bytes."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from sparsity_core.data.division import Arrays, dataset
from sparsity_core.data.split import Dataset
from sparsity_core.errors import SparsityError

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_UNSIGNED_BYTE = 0x08
_LARGEST = 1 << 30


def idx(name: str, folder: Path, classes: tuple[str, ...] | None, seed: int) -> Dataset:
    """The four files of an MNIST-like data set, normalised by train's mean and deviation."""
    found = {split: _pair(folder, stems) for split, stems in FILES.items()}
    train, test = found["train"][0], found["test"][0]
    if train.shape[1:] != test.shape[1:]:
        raise SparsityError(
            f"{folder}: train images are {train.shape[2:]}, test images {test.shape[2:]}; "
            "bring them to one size"
        )
    scaled = train.astype(np.float32) / 255
    mean, deviation = scaled.mean(), scaled.std() or np.float32(1)
    names = classes or tuple(map(str, range(int(found["train"][1].max()) + 1)))

    def prepare(images: np.ndarray) -> np.ndarray:
        return (images.astype(np.float32) / 255 - mean) / deviation

    return dataset(name, found, names, f"IDX files in {folder.name}/", seed, prepare)


def find_idx(folder: Path, stem: str) -> Path | None:
    """The file `stem`, plain or gzipped, in a folder."""
    for name in (f"{stem}.gz", stem):
        if (folder / name).is_file():
            return folder / name
    return None


def _pair(folder: Path, stems: tuple[str, str]) -> Arrays:
    paths = []
    for stem in stems:
        path = find_idx(folder, stem)
        if path is None:
            raise SparsityError(f"{folder}: no {stem} or {stem}.gz in it")
        paths.append(path)
    images, labels = map(read_idx, paths)
    if images.ndim != 3:
        raise SparsityError(f"{paths[0]}: has shape {images.shape}; it must be (N, height, width)")
    return images[:, None], labels


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file of unsigned bytes, plain or gzipped; lying headers are refused."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _UNSIGNED_BYTE:
                raise SparsityError(f"{path}: not an IDX file of unsigned bytes")
            header = file.read(4 * magic[3])
            if len(header) < 4 * magic[3]:
                raise SparsityError(f"{path}: the header is cut off; fetch the file again")
            shape = struct.unpack(f">{magic[3]}I", header)
            size = math.prod(shape)
            if not 0 < size <= _LARGEST:
                raise SparsityError(f"{path}: the header asks for {size} bytes; 1 to {_LARGEST}")
            content = file.read(size + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise SparsityError(f"{path}: {error}; fetch the file again") from error
    if len(content) != size:
        raise SparsityError(f"{path}: the header {shape} does not match the file's length")
    return np.frombuffer(content, np.uint8).reshape(shape)
