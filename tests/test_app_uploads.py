"""Models of one's own on the page: whose they are, what is said, who may come in."""

import json
import math
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from app import cache, launch, uploads
from sparsity_core.errors import SparsityError
from sparsity_core.intake.uploaded import uploads_folder
from sparsity_core.quarantine import Admitted
from sparsity_core.tryout import Tried, tried
from tests.app_session import open_page, own_store, texts  # noqa: F401
from tests.test_uploads import _own_folder

__all__ = ["_own_folder"]


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
