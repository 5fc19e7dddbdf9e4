"""What a file of weights really is, told from its content and never from its name alone."""

import struct
import zipfile
from pathlib import Path

from sparsity_core.errors import SparsityError

_LFS = b"version https://git-lfs.github.com/spec/"
SAVE_WEIGHTS = "save the weights alone: torch.save(model.state_dict(), 'weights.pt')"
_EXPORT = "or export the model: torch.onnx.export(model, inputs, 'model.onnx', dynamo=True)"

# Beginnings of files that cannot be weights for us, and what to do instead.
_OTHERS = {
    b"\x89HDF\r\n\x1a\n": "is an HDF5 file of Keras; convert it to ONNX with tf2onnx",
    b"GGUF": "is a GGUF file, whose weights are quantized; take the model's safetensors instead",
    b"\x1f\x8b": "is compressed with gzip; unpack it first",
    b"<!DOCTYPE": "is a web page, so the download went wrong; fetch the file again",
    b"<html": "is a web page, so the download went wrong; fetch the file again",
}


def kind_of(path: Path, remedy: str = SAVE_WEIGHTS) -> str:
    """`safetensors`, `zip` (torch.save since 1.6) or `pickle` (torch.save before).

    Reads a few bytes and a zip's list of names. Raises SparsityError, with what to do instead
    (`remedy`, where the weights have to be saved in another way), for anything else: Git LFS
    pointers, TorchScript, `.pt2`, ONNX, web pages, empty or absent files.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise SparsityError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if not start:
        raise SparsityError(f"{path}: is empty; fetch it again")
    if start.startswith(_LFS):
        raise SparsityError(
            f"{path}: is a pointer of Git LFS and not the weights; fetch them with: git lfs pull"
        )
    for beginning, advice in _OTHERS.items():
        if start.startswith(beginning):
            raise SparsityError(f"{path}: {advice}")
    if start[:4] == b"PK\x03\x04":
        _check_archive(path, size, remedy)
        return "zip"
    if len(start) > 8 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < size:
        return "safetensors"
    if start[:1] == b"\x80" and start[1] < 6:
        return "pickle"
    if path.suffix == ".onnx":
        raise SparsityError(
            f"{path}: is a model and not weights; name it as the model: onnx:{path}"
        )
    if start.startswith(b"\x93NUMPY"):
        raise SparsityError(f"{path}: is a single array of NumPy; {remedy}")
    raise SparsityError(f"{path}: neither safetensors nor a file of torch.save; {remedy}")


def _check_archive(path: Path, size: int, remedy: str) -> None:
    """Refuse archives that are code, and those that say they hold more than they weigh."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise SparsityError(f"{path}: a damaged file ({error}); fetch it again") from error
    names = [entry.filename for entry in entries]
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise SparsityError(
            f"{path}: is TorchScript, which is code and is not run; {remedy}, {_EXPORT}"
        )
    exported = ("archive_format", "serialized_exported_program.json")
    if path.suffix == ".pt2" or any(name.rpartition("/")[2] in exported for name in names):
        raise SparsityError(
            f"{path}: is a .pt2 of torch.export, and opening one runs code; {remedy}, {_EXPORT}"
        )
    if any(name.endswith(".npy") for name in names):
        raise SparsityError(f"{path}: is an archive of NumPy arrays; {remedy}")
    if not any(name.endswith("data.pkl") for name in names):
        raise SparsityError(f"{path}: is a zip, but none that torch.save wrote; {remedy}")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        # torch.save never compresses, so this is no way to make a small file of much.
        raise SparsityError(f"{path}: holds compressed parts; {remedy}")
    if sum(entry.file_size for entry in entries) > size:
        raise SparsityError(f"{path}: its parts overlap or lie about their sizes; fetch it again")
