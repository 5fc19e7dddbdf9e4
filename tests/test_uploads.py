"""Uploads are safetensors and ONNX, read apart, never programs; each tab has its own."""

import io
import json
import math
import struct
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save

from app import cache, launch, uploads
from sample_models.card import WEIGHTS
from sparsity_core import quarantine
from sparsity_core.errors import SparsityError
from sparsity_core.intake.onnx_file import Graph, Node
from sparsity_core.intake.onnx_plain import load_graph, save_graph
from sparsity_core.intake.uploaded import uploads_folder
from sparsity_core.quarantine import LARGEST, Admitted, admit, refusal, shown
from sparsity_core.task import load_task
from sparsity_core.tryout import Tried, tried
from tests.app_session import open_page, own_store, texts  # noqa: F401

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


def named(**tensors):
    return save(tensors)


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


# On the page


def done(result):
    future = Future()
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
    return future


@pytest.mark.usefixtures("own_store")
def test_two_tabs_have_their_own_models(tmp_path):
    token = "a" * 32
    uploads_folder().mkdir(parents=True)
    (uploads_folder() / f"{token}.json").write_text(json.dumps({"reference": "digits-mlp"}))
    reference = f"upload:{token}"
    first, second = open_page("model", model="digits-mlp"), open_page("model", model="digits-mlp")
    first.session_state["upload under way"] = uploads.Pending(
        "mine.onnx", done(Admitted(reference, "mine.onnx", ("a note",)))
    )
    first.run()  # the fragment takes it
    first.run()
    assert not first.exception
    options = first.selectbox(key="model").options
    assert "yours: mine.onnx" in options
    second.run()
    assert "yours: mine.onnx" not in second.selectbox(key="model").options
    first.button(key=f"use {reference}").click().run()
    assert first.title[0].value == "yours: mine.onnx"
    assert not first.exception
    # A link with the first tab's model is no way in.
    third = open_page("model", model=reference)
    assert third.title[0].value != "yours: mine.onnx"
    assert any("cannot be had here" in toast.value for toast in third.toast)


def test_a_run_names_an_upload_by_its_file_and_only_in_its_own_tab(monkeypatch):
    own, other = f"upload:{'a' * 32}", f"upload:{'b' * 32}"
    monkeypatch.setattr(uploads, "models", lambda: {own: Admitted(own, "mine.onnx", ())})
    assert uploads.in_words(f"{own}: 3 layers") == "yours: mine.onnx: 3 layers"
    assert uploads.in_words(f"{other}: 3 layers") == "an upload, gone or of another tab: 3 layers"


@pytest.mark.usefixtures("own_store")
def test_why_a_file_was_refused_is_shown_as_plain_text():
    app = open_page("model", model="digits-mlp")
    app.session_state["upload under way"] = uploads.Pending(
        "x", done(SparsityError("<b>evil</b> is no model; export it"))
    )
    app.run()
    app.run()
    assert any("<b>evil</b> is no model" in code.value for code in app.code)
    assert "<b>evil" not in texts(app)


@pytest.mark.usefixtures("own_store")
def test_code_is_asked_for_only_where_the_server_allows_it(monkeypatch):
    app = open_page("model", model="digits-mlp")
    assert not [box for box in app.text_input if box.key == "upload code"]
    monkeypatch.setattr(launch.sys, "argv", ["main.py", "--allow-code"])
    app.run()
    assert [box for box in app.text_input if box.key == "upload code"]


def test_code_with_a_metric_whose_name_does_not_tell_its_unit_is_refused(monkeypatch):
    """A stored run knows the metric by its name, and charts must not make per cent of degrees."""
    monkeypatch.setattr(uploads, "tried", lambda _reference: Tried(("a note",), "mse", False))
    assert uploads._by_code("my.models:make").notes == ("a note",)
    monkeypatch.setattr(uploads, "tried", lambda _reference: Tried((), "degrees", False))
    with pytest.raises(SparsityError, match="'degrees' is no share, which its name does not tell"):
        uploads._by_code("my.models:make")


def test_code_is_opened_apart_and_in_time(tmp_path, monkeypatch):
    (tmp_path / "my_code.py").write_text(
        "import time\n"
        "from sparsity_core.task import load_task\n"
        "def make():\n"
        "    print('who prints is still understood')\n"
        "    return load_task('digits-mlp')\n"
        "def hang():\n"
        "    time.sleep(1e6)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert tried("my_code:make") == Tried((), "accuracy", True)
    with pytest.raises(SparsityError, match=r"within 0\.3 s; look why the model hangs"):
        tried("my_code:hang", seconds=0.3)
    with pytest.raises(SparsityError, match="unknown factory in my_code 'absent'"):
        tried("my_code:absent")


@pytest.mark.parametrize(
    ("model", "kind", "asked", "seconds"),
    [
        ("digits-mlp", "sweep", "5", math.inf),
        ("upload:0", "sweep", "", 600),
        ("my.models:make", "kernels", "", 600),
        ("my.models:make", "tickets", "", math.inf),
        ("my.models:make", "tickets", "5", 5),
    ],
)
def test_who_has_how_long_for_a_point(monkeypatch, model, kind, asked, seconds):
    monkeypatch.setenv("SPARSITY_TIME_LIMIT", asked)
    assert cache.patience(SimpleNamespace(model=model, kind=kind)) == seconds


# Who may come in


@pytest.mark.parametrize(
    ("addresses", "arguments", "has_login", "message"),
    [
        ([], [], False, ""),
        (["127.0.0.1", "::1"], [], False, ""),
        (["127.0.0.1"], ["--allow-code"], False, ""),
        (["0.0.0.0"], [], False, "on every network of this machine, and nobody is asked"),
        (["::"], [], False, "on every network"),
        (["192.168.1.7", "127.0.0.1"], [], False, "at 192.168.1.7, and nobody"),
        (["192.168.1.7"], ["--i-have-authentication"], False, ""),
        (["192.168.1.7"], [], True, ""),
        (["0.0.0.0"], ["--i-have-authentication", "--allow-code"], True, "own machine alone"),
    ],
)
def test_other_addresses_need_somebody_who_asks(addresses, arguments, has_login, message):
    found = launch.refusal(addresses, arguments, has_login)
    assert message in found
    assert bool(found) == bool(message)


@pytest.mark.usefixtures("own_store")
def test_a_server_for_everybody_shows_nothing(monkeypatch):
    monkeypatch.setattr(launch, "listens_at", lambda: frozenset({"0.0.0.0"}))
    app = open_page("model", model="digits-mlp")
    assert "nobody is asked who they are" in app.error[0].value
    assert not app.title
    assert not app.sidebar.selectbox


def test_where_a_process_listens_is_seen(monkeypatch):
    import socket

    launch.listens_at.cache_clear()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        monkeypatch.setattr(launch.st, "get_option", lambda _: server.getsockname()[1])
        assert launch.listens_at() == {"127.0.0.1"}
    launch.listens_at.cache_clear()
