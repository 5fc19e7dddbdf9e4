"""Uploads: what is refused unread, what a process of its own reads, and how it is ended."""

import io
import json
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save

from app import launch, uploads
from sample_models.card import WEIGHTS
from sparsity_core import quarantine
from sparsity_core.errors import SparsityError
from sparsity_core.intake.onnx_file import Graph, Node
from sparsity_core.intake.onnx_plain import load_graph, save_graph
from sparsity_core.intake.uploaded import uploads_folder
from sparsity_core.quarantine import LARGEST, admit, refusal, shown
from sparsity_core.task import load_task

LENET = (WEIGHTS / "digits-lenet.safetensors").read_bytes()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path))


def product(width=3, second=None):
    """A model x (N, 4) -> (N, width); with `second`, one that makes all memory of its inputs."""
    arrays = {"w": np.ones((4, width), np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    if second is not None:
        arrays |= {"a": np.ones((second, 1), np.float32), "b": np.ones((1, second), np.float32)}
        nodes = [
            helper.make_node("MatMul", ["a", "b"], ["c"]),
            helper.make_node("ReduceSum", ["c"], ["d"]),
            helper.make_node("MatMul", ["x", "w"], ["e"]),
            helper.make_node("Add", ["e", "d"], ["y"]),
        ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opset = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


# What is not even looked at


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("best.pt", 10, "may be a pickle, which is a program.*safetensors.*torch.onnx.export"),
        ("best.PTH", 10, "may be a pickle"),
        ("pytorch_model.bin", 10, "may be a pickle"),
        ("model.pt2", 10, "program of torch.export.*torch.onnx.export"),
        ("model.exe", 10, "none of .safetensors, .onnx"),
        ("model", 10, "none of"),
        ("model.onnx", 0, "has 0 bytes"),
        ("model.onnx", 2 << 30, "2,147,483,648 bytes, and 209,715,200 at most.*sparsity sweep"),
        ("model.onnx.pt", 10, "may be a pickle"),
    ],
)
def test_what_is_refused_by_name_and_size_says_what_to_do(name, size, message):
    import re

    assert re.search(message, refusal(name, size))


def test_the_servers_limit_is_ours():
    config = (Path(launch.__file__).parent / ".streamlit" / "config.toml").read_text()
    assert f"maxUploadSize = {LARGEST >> 20}" in config
    assert 'address = "localhost"' in config


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd.onnx", "passwd.onnx"),
        ("C:\\evil\\m.onnx", "m.onnx"),
        ("<script>alert(1)</script>.onnx", "script?.onnx"),
        ("a\x00\x1b[31m\u202eb.onnx", "a???31m?b.onnx"),
        ("**bold** [link](x).onnx", "??bold?? ?link?(x).onnx"),
        ("x" * 500 + ".onnx", "x" * 80),
        ("/", "?"),
    ],
)
def test_a_file_name_is_harmless_on_screen(name, expected):
    assert shown(name) == expected


# In the separate process


def test_an_upload_is_read_apart_and_opened_by_its_token():
    admitted = admit(
        "../<b>m.onnx", product(), arrays=npz(x=np.eye(4, dtype=np.float32).repeat(9, 0))
    )
    assert admitted.label == "?b?m.onnx"
    assert any("agree with onnxruntime's" in note for note in admitted.notes)
    task = load_task(admitted.reference)
    assert task.name == admitted.reference
    assert task.metric.name == "agreement"
    token = admitted.reference.removeprefix("upload:")
    assert {p.suffix for p in uploads_folder().iterdir()} == {".json", ".safetensors", ".npz"}
    # Whoever opens it reads what the separate process wrote, not what was sent.
    assert json.loads((uploads_folder() / f"{token}.json").read_text())["reference"].startswith(
        f"onnx:{uploads_folder() / token}.safetensors"
    )
    uploads.forget(token)
    assert not list(uploads_folder().iterdir())
    with pytest.raises(SparsityError, match="this upload is gone"):
        load_task(admitted.reference)


def test_one_that_wants_all_memory_is_refused_and_nothing_is_kept():
    with pytest.raises(SparsityError, match="memory|allocate|could not be run"):
        admit("m.onnx", product(second=60_000), arrays=npz(x=np.ones((9, 4), np.float32)))
    assert not list(uploads_folder().iterdir())


def test_one_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(quarantine, "_SECONDS", 0.01)  # no process starts within that
    started = time.monotonic()
    with pytest.raises(SparsityError, match="could not be opened within 0.01 s"):
        admit("m.onnx", product(), data="digits")
    assert time.monotonic() - started < 60
    assert not list(uploads_folder().iterdir())


# What that process does, in this one: starting it takes seconds


def opened(kind, content, **job):
    folder = uploads_folder()
    folder.mkdir(parents=True, exist_ok=True)
    token = "0" * 32
    (folder / f"{token}.given").write_bytes(content)
    job = {"token": token, "kind": kind, "model": "", "data": "", "label": "theirs"} | job
    return quarantine._open(job, folder)


def header(text):
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LENET, ""),
        (b"PK\x03\x04" + b"\0" * 60, "damaged"),
        (b"\x80\x02}q\x00.", "no safetensors file, whatever its name says"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (header(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'), "damaged"),
        (struct.pack("<Q", 1 << 60) + b"{" + b" " * 60, "neither safetensors"),
        # Of what this page takes, and not of weights.pt, which it does not.
        (b"garbage" * 9, r"torch.save; save the weights as safetensors: .* or export the model"),
        (b"\x93NUMPY\x01\0", "single array of NumPy; save the weights as safetensors"),
        (save({"../../a": torch.zeros(1)}), "no name of a parameter"),
        (save({"a\x1b[2J": torch.zeros(1)}), "no name of a parameter"),
        (save({"fc1.weight": torch.full((2,), float("nan"))}), "holds NaN"),
        (save({"<img src=x>": torch.zeros(1)}), "does not fit"),
    ],
)
def test_weights_that_are_broken_or_hostile(content, message):
    if not message:
        assert "8 tensors loaded" in opened(".safetensors", content, model="digits-lenet")[0]
        return
    with pytest.raises(SparsityError, match=message):
        opened(".safetensors", content, model="digits-lenet")


@pytest.mark.parametrize("content", [b"", b"not onnx", LENET])
def test_graphs_that_are_none(content):
    with pytest.raises(SparsityError):
        opened(".onnx", content, data="digits")


@pytest.mark.parametrize(
    "reference",
    [
        "upload:../../../etc/passwd",
        "upload:",
        f"upload:{'0' * 31}",
        f"upload:{'f' * 32}",
        "upload:*",
    ],
)
def test_tokens_that_lead_nowhere(reference):
    with pytest.raises(SparsityError, match="no upload|is gone"):
        load_task(reference)


def test_a_graph_is_the_same_after_being_plain_data(tmp_path):
    attributes = {"axis": 1, "alpha": 0.5, "mode": "max", "pads": [0, 1], "value": np.array([7])}
    arrays = {"w": np.ones((2, 3), np.float32), "scalar": np.array(3), "flag": np.array([True])}
    nodes = (Node("Constant", (), ("a",), {"value": np.array(2.5)}),
             Node("Some", ("x", "", "w"), ("y",), attributes))  # fmt: skip
    save_graph(Graph(("x",), ("y",), nodes, arrays), tmp_path / "g.safetensors")
    again = load_graph(tmp_path / "g.safetensors")
    assert (again.inputs, again.outputs) == (("x",), ("y",))
    assert again.nodes[0].attributes["value"].shape == ()
    assert {k: v for k, v in again.nodes[1].attributes.items() if k != "value"} == {
        k: v for k, v in attributes.items() if k != "value"
    }
    assert {n: (a.shape, a.dtype) for n, a in again.arrays.items()} == {
        n: (a.shape, a.dtype) for n, a in arrays.items()
    }
