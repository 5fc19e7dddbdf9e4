"""Data sets that Hugging Face's `datasets` saved to disk, read without it."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sparsity_core.errors import SparsityError
from sparsity_core.intake.arrays import normalised, shaped
from sparsity_core.intake.how import How
from sparsity_core.intake.pictures import IMAGENET
from sparsity_core.intake.table import arrays_of_table

_LARGEST = 2 << 30  # bytes
_LABELS = ("label", "labels", "target", "fine_label")
_LARGEST_SIDE = 4096


def is_saved_dataset(path: Path) -> bool:
    """Did `save_to_disk` write this folder?"""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def table_of_dataset(path: Path, how: How) -> tuple[Any, tuple[str, ...]]:
    """The splits of a folder, or its one set, and the names of the classes."""
    if (path / "dataset_dict.json").is_file():
        names = sorted(p.name for p in path.iterdir() if (p / "state.json").is_file())
        read = {name: _read(path / name, how) for name in names}
        if not read:
            raise SparsityError(f"{path}: no split in it; save it again with save_to_disk")
        return {n: pair for n, (pair, _) in read.items()}, next(iter(read.values()))[1]
    return _read(path, how)


def _read(path: Path, how: How) -> tuple[Any, tuple[str, ...]]:
    import pyarrow as pa

    files = sorted(path.glob("data-*.arrow")) or sorted(path.glob("*.arrow"))
    if not files or sum(file.stat().st_size for file in files) > _LARGEST:
        raise SparsityError(f"{path}: no .arrow files, or more than {_LARGEST} bytes of them")
    try:
        features = json.loads((path / "dataset_info.json").read_text()).get("features") or {}
        tables = [pa.ipc.open_stream(pa.memory_map(str(file))).read_all() for file in files]
        table = pa.concat_tables(tables)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SparsityError(f"{path}: cannot be read ({error}); save it again") from error
    label = how.label or next((n for n in _LABELS if n in table.column_names), "")
    classes = tuple((features.get(label) or {}).get("names") or how.classes)
    targets = np.array(table[label].to_pylist()) if label else None
    others = [name for name in table.column_names if name != label]
    image = next((name for name in others if pa.types.is_struct(table[name].type)), None)
    if image:
        return (_images(table[image].to_pylist(), how, path), targets), classes
    nested = [name for name in others if pa.types.is_nested(table[name].type)]
    if nested:
        x = np.array(table[nested[0]].to_pylist())
        return (shaped(x, how, f"{path} {nested[0]}"), targets), classes
    pair, named = arrays_of_table(pd.DataFrame(table.to_pydict()), how)
    return pair, classes or named


def _images(cells: list[Any], how: How, path: Path) -> np.ndarray:
    """Images from the bytes in the table; a path that a cell names is never followed."""
    if len(how.input_size) != 3:
        raise SparsityError(f"{path}: images need an input size, such as 3x224x224")
    channels, height, width = how.input_size
    pixels = []
    for cell in cells:
        content = (cell or {}).get("bytes")
        if not content:
            raise SparsityError(f"{path}: an image is named but not in the table; embed the files")
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "BMP")) as image:
            if max(image.size) > _LARGEST_SIDE:
                raise SparsityError(f"{path}: an image is larger than {_LARGEST_SIDE} a side")
            scaled = image.convert("RGB" if channels == 3 else "L").resize((width, height))
            pixels.append(np.asarray(scaled).reshape(height, width, -1))
    x = np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32) / 255
    plain = how.mean or how.std or channels == 1
    return normalised(x, how if plain else How(mean=IMAGENET[0], std=IMAGENET[1]))
