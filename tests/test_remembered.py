"""What is kept in the cache folder is what was made, and the cache may be anything."""

import dataclasses

import numpy as np
import pytest
import torch

from sparsity_core import workbench as workbench_module
from sparsity_core.data import load_data
from sparsity_core.data import remembered as remembered_module
from sparsity_core.data.remembered import remembered
from sparsity_core.setting import setting_of
from sparsity_core.task import load_task
from sparsity_core.workbench import Workbench


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache that keeps everything."""
    monkeypatch.setenv("SPARSITY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered_module, "_WORTH", 0)
    return tmp_path / "cache"


def make(calls, number=3):
    calls.append(number)
    return {"x": np.full(number, 0.1)}


def test_what_was_made_is_made_once_for_a_key(cache):
    calls = []
    for key in ([1, "a"], [1, "a"], [1, "b"]):
        found = remembered("thing", key, lambda: make(calls))
        np.testing.assert_array_equal(found["x"], np.full(3, 0.1))
    assert len(calls) == 2
    assert len(list(cache.iterdir())) == 2


def test_what_is_soon_made_is_not_kept(cache, monkeypatch):
    monkeypatch.setattr(remembered_module, "_WORTH", 60)
    remembered("thing", 1, lambda: make([]))
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"no archive", "cut"])
def test_a_broken_copy_is_made_again(cache, damage):
    calls = []
    remembered("thing", 1, lambda: make(calls, 5000))
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-200] if damage == "cut" else damage)
    for _ in range(2):
        assert len(remembered("thing", 1, lambda: make(calls, 5000))["x"]) == 5000
    assert len(calls) == 2


def test_without_a_cache_it_is_made_each_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SPARSITY_CACHE", str(tmp_path / "file" / "cache"))
    assert len(remembered("thing", 1, lambda: make([]))["x"]) == 3


def test_a_full_disk_loses_nothing(cache, monkeypatch):
    def full(*_args, **_arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert len(remembered("thing", 1, lambda: make([]))["x"]) == 3
    assert list(cache.iterdir()) == []


def test_the_dense_numbers_of_a_model_of_the_catalog_are_read_again(cache, monkeypatch):
    task = load_task("digits-mlp")
    setting = setting_of(task, device="cpu")
    first = Workbench(task, setting).dense
    monkeypatch.setattr(
        workbench_module, "evaluate", lambda *_, **__: pytest.fail("measured again")
    )
    again = Workbench(task, setting).dense
    for field in dataclasses.fields(first):
        mine, other = getattr(first, field.name), getattr(again, field.name)
        same = torch.equal(mine, other) if isinstance(mine, torch.Tensor) else mine == other
        assert same, field.name


def test_the_digits_are_read_again_without_scikit_learn(cache, monkeypatch):
    first = load_data("digits")
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda **_: pytest.fail("loaded again"))
    again = load_data("digits")
    for split in ("train", "validation", "test"):
        assert getattr(first, split).digest == getattr(again, split).digest


@pytest.mark.parametrize("own", [{"name": "mine"}, {"loss": lambda outputs, _: outputs.sum(1)}])
def test_those_of_another_model_or_loss_are_measured_each_time(cache, own):
    task = dataclasses.replace(load_task("digits-mlp"), **own)
    for _ in range(2):
        _ = Workbench(task, setting_of(task, device="cpu")).dense
    assert not list(cache.glob("dense-*"))
