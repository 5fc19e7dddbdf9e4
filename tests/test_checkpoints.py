"""Checkpoints as they are in the wild: the weights get in, and no code runs."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sparsity_core.errors import SparsityError
from sparsity_core.intake.checkpoint import open_checkpoint
from sparsity_core.intake.fit import load_

BURNT = Path("/tmp/intake-burnt")


def small(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), fc=nn.Linear(4, 2))
    ).eval()


def same(a, b):
    other = b.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in a.state_dict().items())


class Config:
    """Stands for a class that only the author's machine has."""

    def __init__(self):
        self.depth = 3


class Evil:
    def __reduce__(self):
        return (Path.touch, (BURNT,))


@pytest.fixture(autouse=True)
def _nothing_was_executed():
    BURNT.unlink(missing_ok=True)
    yield
    assert not BURNT.exists()


# Wrapping, prefixes, types

TRAINED = small(1)
STATE = TRAINED.state_dict()


def renamed(change):
    return {change(name): tensor for name, tensor in STATE.items()}


def optimizer():
    found = torch.optim.Adam(TRAINED.parameters())
    for p in TRAINED.parameters():
        p.grad = torch.ones_like(p)
    state = found.state_dict()
    return state | {"state": {0: {"exp_avg": torch.zeros(4, 3, 3, 3), "step": torch.tensor(1.0)}}}


WILD = {
    "plain": STATE,
    "state_dict": {"state_dict": STATE, "epoch": 7, "best_acc1": 76.1},
    "model, optimizer": {"model": STATE, "optimizer": optimizer(), "epoch": 3, "lr": 0.1},
    "DataParallel": {"state_dict": renamed(lambda n: f"module.{n}")},
    "compiled": renamed(lambda n: f"_orig_mod.{n}"),
    "both": renamed(lambda n: f"module._orig_mod.{n}"),
    "inside": renamed(lambda n: n.replace("conv.", "conv.module.")),
    "Lightning": {"state_dict": renamed(lambda n: f"model.{n}"), "hyper_parameters": {"a": 1}},
    "ema only": {"ema": STATE},
    "weights and ema": {"model": STATE, "ema": {n: t * 0 for n, t in STATE.items()}},
    "numpy scalar": {"state_dict": STATE, "loss": np.float64(0.5)},
    "parts": {"conv": TRAINED.conv.state_dict(), "norm": TRAINED.norm.state_dict()}
    | {"fc": TRAINED.fc.state_dict()},
    "whole module": TRAINED,
    "whole module in a dict": {"model": TRAINED, "args": Config()},
    "foreign class": {"model": STATE, "cfg": Config(), "rng": np.random.default_rng(0)},
    "operation counts": STATE | {"total_ops": torch.zeros(1), "conv.total_params": torch.ones(1)},
    "without counters": {n: t for n, t in STATE.items() if "num_batches" not in n},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("case", WILD)
def test_weights_are_found_whatever_is_around_them(tmp_path, case, legacy):
    path = tmp_path / "best.pth"
    torch.save(WILD[case], path, _use_new_zipfile_serialization=not legacy)
    model = small(2)
    notes = load_(model, path)
    assert same(model, TRAINED)
    assert "loaded" in notes[0]


def test_safetensors(tmp_path):
    save_file(renamed(lambda n: f"module.{n}"), tmp_path / "best.safetensors")
    model = small(2)
    notes = load_(model, tmp_path / "best.safetensors")
    assert same(model, TRAINED)
    assert any("names were changed: module." in note for note in notes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("foreign", [False, True])
def test_other_precisions_become_the_models_own(tmp_path, dtype, foreign):
    halves = {n: t.to(dtype) if t.is_floating_point() else t for n, t in STATE.items()}
    torch.save({"model": halves} | ({"cfg": Config()} if foreign else {}), tmp_path / "half.pt")
    model = small(2)
    notes = load_(model, tmp_path / "half.pt")
    assert model.conv.weight.dtype == torch.float32
    assert torch.equal(model.conv.weight, TRAINED.conv.weight.to(dtype).float())
    assert any(str(dtype) in note for note in notes)


def test_what_was_left_aside_is_said(tmp_path):
    torch.save(WILD["model, optimizer"] | {"cfg": Config()}, tmp_path / "best.pt")
    notes = "\n".join(load_(small(2), tmp_path / "best.pt"))
    assert "left aside: optimizer, epoch, lr" in notes
    assert "not opened: tests.test_checkpoints.Config" in notes


def test_one_of_several_sets_can_be_asked_for(tmp_path):
    torch.save(WILD["weights and ema"], tmp_path / "best.pt")
    model = small(2)
    assert any("weights at: 'ema'" in note for note in load_(model, tmp_path / "best.pt"))
    load_(model, tmp_path / "best.pt", "ema")
    assert not model.conv.weight.any()
    with pytest.raises(SparsityError, match="unknown place in .*'eam'; did you mean 'ema'"):
        load_(model, tmp_path / "best.pt", "eam")


def test_a_tied_weight_need_be_there_once(tmp_path):
    def tied():
        model = nn.Sequential(OrderedDict(embed=nn.Embedding(5, 3), head=nn.Linear(3, 5, False)))
        model.head.weight = model.embed.weight
        return model

    first, second = tied(), tied()
    torch.save({"embed.weight": first.embed.weight.data}, tmp_path / "tied.pt")
    load_(second, tmp_path / "tied.pt")
    assert torch.equal(second.head.weight, first.head.weight)


# What does not fit


def test_what_does_not_fit_is_one_table_and_nothing_is_half_loaded(tmp_path):
    wrong = dict(STATE)
    wrong["conv_first.weight"] = wrong.pop("conv.weight")
    wrong["fc.weight"] = torch.zeros(10, 4)
    torch.save(wrong, tmp_path / "wrong.pt")
    model = small(2)
    with pytest.raises(SparsityError) as caught:
        load_(model, tmp_path / "wrong.pt")
    first, *table = str(caught.value).splitlines()
    assert "does not fit Sequential, of whose tensors it has 7 of 9; nothing was loaded" in first
    assert table == [
        "  shape differs  fc.weight  model 2x4, file 10x4",
        "  missing        conv.weight  4x3x3x3  nearest: conv_first.weight",
        "  unexpected     conv_first.weight  4x3x3x3  nearest: conv.weight",
    ]
    assert same(model, small(2))


def test_a_long_table_is_cut(tmp_path):
    torch.save({f"layer{i}.weight": torch.zeros(1) for i in range(5000)}, tmp_path / "other.pt")
    with pytest.raises(SparsityError) as caught:
        load_(small(), tmp_path / "other.pt")
    assert "... and 4980 more are unexpected" in str(caught.value)
    assert len(str(caught.value).splitlines()) < 50


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
