"""Folders of images, or an archive of one: `train/CLASS/*.jpg` and `test/CLASS/*.jpg`.

Archives are read member by member in memory; nothing is written where an archive says.
"""

import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from sparsity_core.data.environment import cache_folder
from sparsity_core.data.remembered import write_arrays
from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}
_FORMATS = ("JPEG", "PNG", "BMP")  # whatever the suffix says, other decoders stay shut
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_LARGEST_FILE = 32 << 20  # bytes
_LARGEST_TOTAL = 4 << 30  # bytes: of all files, and of all pixels
_LARGEST_SIDE = 4096  # pixels

Images = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> (N, H, W, 3) uint8, class names (N,)
Size = tuple[int, int]  # height, width
File = tuple[str, int, Any]  # name, size in bytes, a function that reads it


def is_archive(path: Path) -> bool:
    """Does the name look like an archive that `read_images` reads?"""
    return path.name.lower().endswith(_ARCHIVES)


def read_images(path: Path, size: Size | None = None, most: int = 0) -> Images:
    """All images by split; without split folders everything is `train`. Raises SparsityError.

    With a size (height, width) each is scaled until its shorter side is 8/7 of that, and the middle
    is cut out; without, all images must have one size. `most`: so many at most, evenly spaced over
    the names. Decoding 60,000 files takes half a minute, so the pixels are kept
    in the cache folder under the name, size and time of what was read.
    """
    asked = [*(size or ()), most] if size or most else []
    cached = cache_folder() / f"images-{digest_of([*_stamp(path), *asked])}.npz"
    if not cached.is_file():
        arrays: dict[str, Any] = {}
        for split, (pixels, labels) in _decode(path, size, most).items():
            arrays |= {f"{split}/pixels": pixels, f"{split}/labels": labels}
        write_arrays(cached, arrays)
    try:
        with cached.open("rb") as copy, np.load(copy, allow_pickle=False) as found:
            splits = dict.fromkeys(key.split("/")[0] for key in found)
            return {s: (found[f"{s}/pixels"], found[f"{s}/labels"]) for s in splits}
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError) as error:
        raise SparsityError(f"{cached}: {error}; delete this file, it is only a copy") from error


def _stamp(path: Path) -> list[Any]:
    """What changes when the content does: names are cheap to list, pixels are not."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    stats = [file.stat() for file in files]
    size, newest = sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)
    return [str(path.resolve()), len(files), size, newest]


def _decode(path: Path, size: Size | None, most: int) -> Images:
    pixels: dict[str, list[np.ndarray]] = {}
    labels: dict[str, list[str]] = {}
    shape: tuple[int, ...] | None = None
    total = 0
    for name, content in sorted(_contents(path, most), key=lambda item: item[0]):
        folders = PurePosixPath(name).parts[:-1]
        split = next((_SPLITS[f] for f in folders if f in _SPLITS), "train")
        if not folders or folders[-1] in _SPLITS:
            raise SparsityError(f"{path}: {name} lies in no class folder; use CLASS/{name}")
        image = _pixels(path, name, content, size)
        shape = shape or image.shape
        total += image.size
        if image.shape != shape:
            raise SparsityError(
                f"{path}: {name} is {image.shape[1]}x{image.shape[0]} pixels, others are "
                f"{shape[1]}x{shape[0]}; bring all images to one size"
            )
        if total > _LARGEST_TOTAL:
            raise SparsityError(f"{path}: more than {_LARGEST_TOTAL} bytes of pixels; use fewer")
        pixels.setdefault(split, []).append(image)
        labels.setdefault(split, []).append(folders[-1])
    if not pixels:
        raise SparsityError(f"{path}: no images ({', '.join(sorted(_SUFFIXES))}) in it")
    return {split: (np.stack(pixels[split]), np.array(labels[split])) for split in pixels}


def _pixels(path: Path, name: str, content: bytes, size: Size | None) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if max(image.size) > _LARGEST_SIDE:  # before decoding: a small file can be a huge image
                raise SparsityError(
                    f"{path}: {name} is {image.width}x{image.height} pixels; "
                    f"{_LARGEST_SIDE} a side at most"
                )
            colours = image.convert("RGB")
            return np.asarray(_middle(colours, size) if size else colours)
    except SparsityError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SparsityError(f"{path}: {name} is no readable image ({error})") from error


def _middle(image: Image.Image, size: Size) -> Image.Image:
    """The shorter side scaled to 8/7 of what is wanted, as 256 for 224, and the middle of that."""
    height, width = size
    scale = max(height / image.height, width / image.width) * 8 / 7
    large = image.resize(
        (round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR
    )
    left, top = (large.width - width) // 2, (large.height - height) // 2
    return large.crop((left, top, left + width, top + height))


def _contents(path: Path, most: int) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every image file, with names and sizes checked before reading."""
    total = 0
    try:
        wanted = _spread(path, most) if most else None
        for name, size, read in _files(path):
            total += size if wanted is None or name in wanted else 0
            if total > _LARGEST_TOTAL:
                raise SparsityError(f"{path}: holds more than {_LARGEST_TOTAL} bytes; use fewer")
            pure = PurePosixPath(name)
            if pure.suffix.lower() not in _SUFFIXES or pure.name.startswith("."):
                continue
            if pure.is_absolute() or ".." in pure.parts or not name.isprintable():
                raise SparsityError(f"{path}: {name!r} is no plain name; pack the archive anew")
            if size > _LARGEST_FILE:
                raise SparsityError(f"{path}: {name} has {size} bytes; {_LARGEST_FILE} at most")
            if wanted is None or name in wanted:
                yield name, read()
    except SparsityError:
        raise
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise SparsityError(f"{path}: {error}; fetch it again") from error
    except (NotImplementedError, RuntimeError) as error:
        # An unknown compression, or an encrypted member.
        raise SparsityError(f"{path}: {error}; pack the archive anew") from error


def _spread(path: Path, most: int) -> set[str]:
    """So many names of images at most, evenly spaced."""
    names = sorted(n for n, _, _ in _files(path) if PurePosixPath(n).suffix.lower() in _SUFFIXES)
    places = np.linspace(0, len(names) - 1, min(most, len(names))).astype(int)
    return {names[place] for place in places}


def _files(path: Path) -> Iterator[File]:
    """Every file of a folder, a zip or a tar."""
    if path.is_dir():
        for file in path.rglob("*"):
            if file.is_file():
                yield file.relative_to(path).as_posix(), file.stat().st_size, file.read_bytes
    elif path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                yield entry.filename, entry.file_size, lambda entry=entry: archive.read(entry)
    else:
        if path.suffix.lower() == ".tar" and any(_tail(path)):
            # tarfile takes the end of a cut file for the end of the archive.
            raise SparsityError(f"{path}: the archive is cut off; fetch it again")
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile():
                    yield member.name, member.size, lambda member=member: _extract(tar, member)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(member)
    assert content is not None  # a regular file always has content
    return content.read()


def _tail(path: Path) -> bytes:
    """The last block, which is empty in a whole tar."""
    with path.open("rb") as file:
        file.seek(-min(512, path.stat().st_size), os.SEEK_END)
        return file.read()
