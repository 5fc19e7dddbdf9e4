"""Checkpoints that are hostile or broken: nothing is obeyed, and it is said what to do."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sparsity_core.errors import SparsityError
from sparsity_core.intake.checkpoint import open_checkpoint
from sparsity_core.intake.fit import load_
from tests.checkpoint_models import (
    BURNT,
    STATE,
    TRAINED,
    Config,
    _nothing_was_executed,
    same,
    small,
)

__all__ = ["_nothing_was_executed"]


class Evil:
    def __reduce__(self):
        return (Path.touch, (BURNT,))


# Hostile and broken files


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_pickle_that_calls_something_is_not_obeyed(tmp_path, legacy):
    path = tmp_path / "evil.pt"
    torch.save(
        {"model": STATE, "hook": Evil(), "again": [Evil()]},
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    model = small(2)
    notes = load_(model, path)
    assert same(model, TRAINED)
    assert any("pathlib.Path" in note for note in notes)


@pytest.mark.parametrize(
    "program",
    [
        b"cposix\nsystem\n(S'touch /tmp/intake-burnt'\ntR.",
        b"(S'touch /tmp/intake-burnt'\niposix\nsystem\n.",
        b'c__builtin__\neval\n(S\'open("/tmp/intake-burnt", "w")\'\ntR.',
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x17touch /tmp/intake-burnt\x85R.",
        b"\x80\x02ctorch\nload\n(S'/etc/passwd'\ntR.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x03tR.",
        b"\x80\x02ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR.",
    ],
)
def test_the_reader_itself_imports_and_calls_nothing(tmp_path, program):
    path = tmp_path / "evil.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
    with pytest.raises(SparsityError):
        open_checkpoint(path)


def legacy_bytes():
    file = io.BytesIO()
    torch.save({"model": STATE, "cfg": Config()}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def zip_bytes(content=None):
    file = io.BytesIO()
    torch.save(content or {"model": STATE, "cfg": Config()}, file)
    return file.getvalue()


def rezipped(change, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    source = zipfile.ZipFile(io.BytesIO(zip_bytes()))
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name in source.namelist():
            if (content := change(name, source.read(name))) is not None:
                archive.writestr(name, content)
    return file.getvalue()


def lying_safetensors():
    header = b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'
    return struct.pack("<Q", len(header)) + header + b"\0" * 16


class Script(nn.Module):
    def forward(self, x):
        return x + 1


def torchscript():
    file = io.BytesIO()
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.trace(Script(), torch.zeros(1)), file)
    return file.getvalue()


def exported():
    file = io.BytesIO()
    torch.export.save(torch.export.export(Script(), (torch.zeros(1),)), file)
    return file.getvalue()


def npz():
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3))
    return file.getvalue()


BROKEN = {
    "lfs": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n",
        "pointer of Git LFS.*git lfs pull",
    ),
    "empty": (lambda: b"", "is empty"),
    "web page": (lambda: b"<!DOCTYPE html><html>404</html>", "web page"),
    "keras": (lambda: b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "HDF5.*tf2onnx"),
    "npz": (npz, "NumPy arrays; save the weights alone"),
    "torchscript": (torchscript, "TorchScript, which is code.*torch.onnx.export"),
    "pt2": (exported, "pt2 of torch.export, and opening one runs code.*torch.onnx.export"),
    "noise": (lambda: bytes(range(200, 256)) * 9, "neither safetensors nor"),
    "plain pickle": (lambda: pickle.dumps(Evil()), "none that torch.save wrote"),
    "lying safetensors": (lying_safetensors, "damaged safetensors"),
    "compressed": (lambda: rezipped(lambda _, c: c, zipfile.ZIP_DEFLATED), "holds compressed"),
    "cut": (lambda: zip_bytes()[:-400], "damaged"),
    "cut, legacy": (lambda: legacy_bytes()[:-100], "cut off"),
    "storage gone": (
        lambda: rezipped(lambda n, c: None if n.endswith("data/0") else c),
        "numbers are not there",
    ),
    "storage short": (
        lambda: rezipped(lambda n, c: c[:8] if n.endswith("data/0") else c),
        "does not fit the 2 numbers",
    ),
    "no weights": (lambda: zip_bytes({"epoch": 3}), "no tensors by name"),
    "absent": (None, "cannot be read"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_say_what_to_do(tmp_path, case):
    make, message = BROKEN[case]
    path = tmp_path / "best.pt"
    if make:
        path.write_bytes(make())
    model = small(2)
    with pytest.raises(SparsityError, match=message) as caught:
        load_(model, path)
    assert str(path) in str(caught.value)
    assert same(model, small(2))


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (0, (10**12,), (0,)),  # one number repeated until the memory is full
        (0, (4, 4), (4, 1)),
        (3, (2,), (1,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, ("2",), (1,)),
    ],
)
def test_a_tensor_that_lies_about_its_numbers(offset, shape, stride):
    from sparsity_core.intake.inert import Stored, _tensor

    with pytest.raises(SparsityError, match="does not fit the 4 numbers"):
        _tensor(Stored("0", torch.float32, offset, shape, stride), b"\0" * 16)


def test_a_file_that_refers_to_itself_ends(tmp_path):
    endless = {"model": STATE}
    endless["self"] = endless
    wide = [{"a": torch.zeros(1)}]
    for _ in range(60):  # 2^60 ways through it
        wide = {"left": wide, "right": wide}
    torch.save(endless | {"wide": wide, "cfg": Config()}, tmp_path / "endless.pt")
    model = small(2)
    load_(model, tmp_path / "endless.pt")
    assert same(model, TRAINED)
