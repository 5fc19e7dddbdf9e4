"""IDX files, the format of MNIST: a magic number, sizes, then bytes."""

import gzip
import math
import struct
from pathlib import Path

import numpy as np

from sparsity_core.errors import SparsityError

_UNSIGNED_BYTE = 0x08
_LARGEST = 1 << 31


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
            if size > _LARGEST:
                raise SparsityError(f"{path}: the header asks for {size} bytes; 2 GiB at most")
            content = file.read(size + 1)
    except (EOFError, gzip.BadGzipFile) as error:
        raise SparsityError(f"{path}: {error}; fetch the file again") from error
    if len(content) != size:
        raise SparsityError(f"{path}: the header {shape} does not match the file's length")
    return np.frombuffer(content, np.uint8).reshape(shape)


def find_idx(folder: Path, stem: str) -> Path | None:
    """The file `stem`, plain or gzipped, in a folder."""
    for name in (f"{stem}.gz", stem):
        if (folder / name).is_file():
            return folder / name
    return None
