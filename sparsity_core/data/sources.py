"""The data sets by name. To add one: a reader here and a line in `load_data`."""

import zipfile
from pathlib import Path

import numpy as np

from sparsity_core.data.environment import data_folder, find
from sparsity_core.data.idx import find_idx, read_idx
from sparsity_core.data.images import Images, is_archive, read_images
from sparsity_core.data.split import Dataset, checked_split, divide
from sparsity_core.errors import SparsityError, unknown

NAMES = ("digits", "mnist", "fashion-mnist", "cifar10")
PREFIXES = ("idx:", "images:", "npz:", "openml:")
_IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_CIFAR_MEAN, _CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
_CIFAR_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_FASHION_CLASSES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
_LARGEST_NPZ = 4 << 30


def load_data(name: str, seed: int = 0) -> Dataset:
    """A data set by name, with seeded splits.

    `digits`, `mnist`, `fashion-mnist`, `cifar10`, `idx:FOLDER`, `images:FOLDER-OR-ARCHIVE`,
    `npz:FILE` (arrays x and y), `openml:ID` (needs a network). Paths may be relative to
    SPARSITY_DATA. Raises SparsityError for absent or broken data, with what to do.
    """
    if (reason := missing_data(name)) is not None:
        raise SparsityError(f"{name}: {reason}")
    if name == "digits":
        return _digits(seed)
    if name == "cifar10":
        return _cifar10(seed)
    if name in ("mnist", "fashion-mnist"):
        classes = tuple(map(str, range(10))) if name == "mnist" else _FASHION_CLASSES
        return _idx(name, find(name), classes, seed)
    kind, _, value = name.partition(":")
    if kind == "idx":
        return _idx(name, find(value), None, seed)
    if kind == "images":
        return _images(name, read_images(find(value)), f"images in {value}", seed)
    if kind == "npz":
        return _npz(name, find(value), seed)
    return _openml(name, value, seed)


def missing_data(name: str) -> str | None:
    """None when the data is there, else what to do; reads nothing."""
    if name not in NAMES and not name.startswith(PREFIXES):
        raise unknown("data set", name, (*NAMES, *(p + "..." for p in PREFIXES)))
    if name in ("mnist", "fashion-mnist"):
        folder = data_folder()
        files = [stem for pair in _IDX_FILES.values() for stem in pair]
        if folder is None or not all(find_idx(folder / name, stem) for stem in files):
            return f"set SPARSITY_DATA to a folder with {name}/{files[0]}.gz and its companions"
    if name == "cifar10":
        folder = data_folder()
        if folder is None or _cifar_path(folder) is None:
            return "set SPARSITY_DATA to a folder with cifar10/train/CLASS/*.jpg or its archive"
    return None


def _digits(seed: int) -> Dataset:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return _three_way(
        "digits",
        (x / 16).reshape(-1, 1, 8, 8),
        y,
        tuple(map(str, range(10))),
        "scikit-learn's handwritten digits: 1,797 real 8x8 images",
        seed,
    )


def _three_way(
    name: str, x: np.ndarray, y: np.ndarray, classes: tuple[str, ...], source: str, seed: int
) -> Dataset:
    """60 % train, 20 % validation, 20 % test, stratified."""
    rest, test = divide(y, 0.2, seed)
    train, validation = divide(y[rest], 0.25, seed)
    parts = {"train": rest[train], "validation": rest[validation], "test": test}
    splits = {k: checked_split(x[i], y[i], len(classes), f"{name} {k}") for k, i in parts.items()}
    return Dataset(name, **splits, classes=classes, source=source)


def _held_out(
    name: str,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    classes: tuple[str, ...],
    source: str,
    seed: int,
) -> Dataset:
    """The given test split; a tenth of train, 5,000 samples at most, becomes validation."""
    x, y = train
    fit, chosen = divide(y, min(5000, max(len(classes), len(y) // 10)), seed)
    return Dataset(
        name,
        checked_split(x[fit], y[fit], len(classes), f"{name} train"),
        checked_split(x[chosen], y[chosen], len(classes), f"{name} validation"),
        checked_split(*test, len(classes), f"{name} test"),
        classes,
        source,
    )


def _idx(name: str, folder: Path, classes: tuple[str, ...] | None, seed: int) -> Dataset:
    pairs = {}
    for split, stems in _IDX_FILES.items():
        paths = [find_idx(folder, stem) for stem in stems]
        for stem, path in zip(stems, paths, strict=True):
            if path is None:
                raise SparsityError(f"{folder}: no {stem} or {stem}.gz in it")
        images, labels = (read_idx(path) for path in paths if path)
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise SparsityError(
                f"{folder}: {stems[0]} has shape {images.shape}, {stems[1]} {labels.shape}; "
                "they must be (N, height, width) and (N,)"
            )
        pairs[split] = (images[:, None].astype(np.float32) / 255, labels)
    # One mean and deviation for all splits, from train alone.
    mean, std = pairs["train"][0].mean(), pairs["train"][0].std()
    train, test = (((x - mean) / std, y) for x, y in (pairs["train"], pairs["test"]))
    names = classes or tuple(map(str, range(int(pairs["train"][1].max()) + 1)))
    return _held_out(name, train, test, names, f"IDX files in {folder.name}/", seed)


def _cifar_path(folder: Path) -> Path | None:
    root = folder / "cifar10"
    if (root / "train").is_dir():
        return root
    archives = sorted(p for p in root.iterdir() if is_archive(p)) if root.is_dir() else []
    return archives[0] if archives else None


def _cifar10(seed: int) -> Dataset:
    path = _cifar_path(data_folder() or Path())
    assert path is not None  # missing_data said so
    source = f"CIFAR-10 as JPEG images (lossy) in {path.name}"
    return _images("cifar10", read_images(path), source, seed, _CIFAR_MEAN, _CIFAR_STD)


def _images(
    name: str,
    found: Images,
    source: str,
    seed: int,
    mean: tuple[float, ...] = (0.5, 0.5, 0.5),
    std: tuple[float, ...] = (0.5, 0.5, 0.5),
) -> Dataset:
    classes = tuple(sorted({str(label) for _, labels in found.values() for label in labels}))
    index = {label: i for i, label in enumerate(classes)}

    def arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
        pixels, labels = found[split]
        x = pixels.astype(np.float32)
        x /= 255
        x -= np.array(mean, np.float32)
        x /= np.array(std, np.float32)
        return x.transpose(0, 3, 1, 2), np.array([index[str(label)] for label in labels])

    if "test" not in found:
        return _three_way(name, *arrays("train"), classes, source, seed)
    if "validation" not in found:
        return _held_out(name, arrays("train"), arrays("test"), classes, source, seed)
    splits = {
        split: checked_split(*arrays(split), len(classes), f"{name} {split}")
        for split in ("train", "validation", "test")
    }
    return Dataset(name, **splits, classes=classes, source=source)


def _npz(name: str, path: Path, seed: int) -> Dataset:
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
        if declared > _LARGEST_NPZ:  # 474 KiB can inflate to 500 MB and far more
            raise SparsityError(f"{path}: inflates to {declared} bytes; {_LARGEST_NPZ} at most")
        with np.load(path, allow_pickle=False) as arrays:
            if missing := {"x", "y"} - set(arrays):
                raise SparsityError(f"{path}: no array {min(missing)!r}; it needs x and y")
            x, y = arrays["x"], arrays["y"]
    except (zipfile.BadZipFile, ValueError) as error:
        raise (
            error
            if isinstance(error, SparsityError)
            else SparsityError(f"{path}: not a plain npz file ({error})")
        ) from error
    if len(x) != len(y) or y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise SparsityError(
            f"{path}: x has shape {x.shape}, y {y.shape} of {y.dtype}; "
            "y needs one whole number a sample"
        )
    classes = tuple(map(str, range(int(y.max()) + 1))) if len(y) else ()
    return _three_way(name, x.astype(np.float32), y, classes, f"arrays in {path.name}", seed)


def _openml(name: str, number: str, seed: int) -> Dataset:
    from sklearn.datasets import fetch_openml

    if not number.isdigit():
        raise SparsityError(f"{name}: give the data set's number, such as openml:61")
    try:
        x, y = fetch_openml(data_id=int(number), return_X_y=True, as_frame=False)
    except (OSError, ValueError) as error:
        raise SparsityError(
            f"{name}: could not be fetched ({error}); it needs a network once"
        ) from error
    if not np.issubdtype(x.dtype, np.number):
        raise SparsityError(f"{name}: has columns that are not numbers; choose another data set")
    names, targets = np.unique(y.astype(str), return_inverse=True)
    return _three_way(
        name, x.astype(np.float32), targets, tuple(names), f"OpenML data set {number}", seed
    )
