"""Folders of images, or an archive of one: `train/CLASS/*.jpg` and `test/CLASS/*.jpg`.

Archives are read member by member in memory; nothing is written where an archive says.
"""

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from sparsity_core.data.environment import cache_folder
from sparsity_core.digest import digest_of
from sparsity_core.errors import SparsityError

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
_LARGEST_FILE = 32 << 20
_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}

Images = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> (N, H, W, C) uint8, class names (N,)


def is_archive(path: Path) -> bool:
    """Does the name look like an archive that `read_images` reads?"""
    return path.name.lower().endswith(_ARCHIVES)


def read_images(path: Path) -> Images:
    """All images by split; without split folders everything is `train`. Raises SparsityError.

    All images must have one size. Decoding 60,000 files takes half a minute, so the pixels are kept
    in the cache folder under the name, size and time of what was read.
    """
    stamp = path.stat()
    key = digest_of([str(path.resolve()), stamp.st_size, stamp.st_mtime_ns, _newest(path)])
    cached = cache_folder() / f"images-{key}.npz"
    if not cached.is_file():
        found = _decode(path)
        partial = cached.with_suffix(".partial")
        with partial.open("wb") as file:
            arrays = {f"{s}/{k}": a for s, pair in found.items() for k, a in _named(pair)}
            np.savez(file, allow_pickle=False, **arrays)
        partial.replace(cached)  # whoever reads meanwhile sees a whole file or none
    with np.load(cached, allow_pickle=False) as arrays:
        splits = dict.fromkeys(name.split("/")[0] for name in arrays)
        return {split: (arrays[f"{split}/x"], arrays[f"{split}/y"]) for split in splits}


def _named(pair: tuple[np.ndarray, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    return list(zip("xy", pair, strict=True))


def _newest(path: Path) -> int:
    """The time of the last change below a folder; an archive's own time is enough."""
    if path.is_file():
        return 0
    return max((p.stat().st_mtime_ns for p in path.rglob("*") if p.is_dir()), default=0)


def _decode(path: Path) -> Images:
    pixels: dict[str, list[np.ndarray]] = {}
    labels: dict[str, list[str]] = {}
    size: tuple[int, ...] | None = None
    for name, content in sorted(_files(path), key=lambda item: item[0]):
        folders = PurePosixPath(name).parts[:-1]
        split = next((_SPLITS[f] for f in folders if f in _SPLITS), "train")
        if not folders or folders[-1] in _SPLITS:
            raise SparsityError(f"{path}: {name} lies in no class folder; use CLASS/{name}")
        try:
            image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            raise SparsityError(f"{path}: {name} is no readable image ({error})") from error
        size = size or image.shape
        if image.shape != size:
            raise SparsityError(
                f"{path}: {name} is {image.shape[1]}x{image.shape[0]} pixels, others are "
                f"{size[1]}x{size[0]}; bring all images to one size"
            )
        pixels.setdefault(split, []).append(image)
        labels.setdefault(split, []).append(folders[-1])
    if not pixels:
        raise SparsityError(f"{path}: no images ({', '.join(sorted(_SUFFIXES))}) in it")
    return {split: (np.stack(pixels[split]), np.array(labels[split])) for split in pixels}


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every image file; a folder, a tar or a zip."""
    try:
        if path.is_dir():
            for file in path.rglob("*"):
                if file.suffix.lower() in _SUFFIXES and file.is_file():
                    _check_size(path, file.name, file.stat().st_size)
                    yield file.relative_to(path).as_posix(), file.read_bytes()
        elif path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    if PurePosixPath(entry.filename).suffix.lower() in _SUFFIXES:
                        _check_size(path, entry.filename, entry.file_size)
                        yield entry.filename, archive.read(entry)
        else:
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.isfile() and PurePosixPath(member.name).suffix.lower() in _SUFFIXES:
                        _check_size(path, member.name, member.size)
                        content = tar.extractfile(member)
                        assert content is not None  # a regular file always has content
                        yield member.name, content.read()
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise SparsityError(f"{path}: {error}; fetch the archive again") from error


def _check_size(path: Path, name: str, size: int) -> None:
    if size > _LARGEST_FILE:
        raise SparsityError(f"{path}: {name} has {size} bytes; {_LARGEST_FILE} at most an image")
