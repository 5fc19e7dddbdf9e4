"""Data: the splits are what they say, and a hostile or broken file gives one clear line."""

import gzip
import io
import struct

import numpy as np
import pytest
import torch

from sparsity_core.data import Split, load_data, missing_data
from sparsity_core.data.idx import FILES
from sparsity_core.errors import SparsityError
from tests.conftest import data_folder
from tests.test_data_images import write_zip

needs_data = pytest.mark.skipif(data_folder() is None, reason="SPARSITY_DATA is not set")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch, request):
    if "cifar10" not in request.node.name:  # decoding that takes half a minute
        monkeypatch.setenv("SPARSITY_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def no_data(monkeypatch):
    monkeypatch.delenv("SPARSITY_DATA", raising=False)


# Splits


def test_a_split_takes_and_batches():
    split = Split(torch.arange(10.0).reshape(5, 2), torch.arange(5))
    assert [len(t) for _, t in split.batches(2)] == [2, 2, 1]
    assert split.take(2).targets.tolist() == [0, 1]
    assert split.take(torch.tensor([4, 1])).inputs.tolist() == [[8, 9], [2, 3]]


def test_a_digest_sees_every_value():
    inputs, targets = torch.zeros(3, 2), torch.tensor([0, 1, 2])
    digest = Split(inputs, targets).digest
    assert digest == Split(inputs.clone(), targets.clone()).digest
    changed = inputs.clone()
    changed[2, 1] = 1e-6
    assert digest != Split(changed, targets).digest
    assert digest != Split(inputs, targets.flip(0)).digest


def test_unequal_lengths_are_refused():
    with pytest.raises(SparsityError, match="3 inputs but 2 targets"):
        Split(torch.zeros(3, 1), torch.zeros(2, dtype=torch.long))


# Digits


def test_digits_are_divided_without_overlap_and_by_class():
    data = load_data("digits")
    parts = [data.train, data.validation, data.test]
    assert [len(p) for p in parts] == [1077, 360, 360]
    assert data.train.inputs.shape == (1077, 1, 8, 8)
    assert data.train.inputs.dtype == torch.float32
    assert data.train.targets.dtype == torch.int64
    assert all(p.inputs.min() >= 0 and p.inputs.max() <= 1 for p in parts)
    for part in parts:
        share = torch.bincount(part.targets) / len(part)
        assert (share - 0.1).abs().max() < 0.01

    from sklearn.datasets import load_digits

    everything = load_digits().data / 16
    found = torch.cat([p.inputs for p in parts]).reshape(1797, 64).numpy()
    assert sorted(map(bytes, found)) == sorted(map(bytes, everything.astype(np.float32)))


def test_splits_depend_on_the_seed_alone():
    assert load_data("digits").test.digest == load_data("digits").test.digest
    assert load_data("digits").test.digest != load_data("digits", seed=1).test.digest


def test_unknown_names_the_nearest():
    with pytest.raises(SparsityError, match="did you mean 'mnist'"):
        load_data("mnits")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "npz:absent.npz"])
def test_missing_data_says_what_to_do(no_data, name):
    assert "SPARSITY_DATA" in missing_data(name)
    with pytest.raises(SparsityError, match="SPARSITY_DATA"):
        load_data(name)


def test_looking_for_data_reads_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSITY_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    for stems in FILES.values():
        for stem in stems:
            (tmp_path / "mnist" / stem).write_bytes(b"not data at all")
    assert missing_data("mnist") is None
    with pytest.raises(SparsityError, match="not an IDX file"):
        load_data("mnist")


# IDX


def idx_bytes(array, claimed=None):
    shape = claimed or array.shape
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "clothes"
    folder.mkdir()
    for split, count in (("train", 60), ("test", 20)):
        images, labels = FILES[split]
        content = idx_bytes(rng.integers(256, size=(count, 6, 5), dtype=np.uint8))
        (folder / f"{images}.gz").write_bytes(gzip.compress(content))
        (folder / labels).write_bytes(idx_bytes(np.arange(count, dtype=np.uint8) % 3))
    return folder


def test_idx_is_read_plain_and_gzipped(idx_folder):
    data = load_data(f"idx:{idx_folder}")
    assert data.classes == ("0", "1", "2")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [54, 6, 20]
    assert data.test.inputs.shape == (20, 1, 6, 5)
    used = torch.cat([data.train.inputs, data.validation.inputs])
    assert abs(used.mean().item()) < 1e-5
    assert used.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert data.test.targets.tolist() == [i % 3 for i in range(20)]


def test_paths_may_be_relative_to_the_data_folder(idx_folder, monkeypatch):
    monkeypatch.setenv("SPARSITY_DATA", str(idx_folder.parent))
    assert len(load_data("idx:clothes").test) == 20


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (FILES["train"][1], b"", "not an IDX file"),
        (FILES["train"][1], b"\0\0\x08\x03\0\0", "header is cut off"),
        (FILES["train"][1], idx_bytes(np.zeros(5, np.uint8), (60,)), "does not match the file"),
        (FILES["train"][1], idx_bytes(np.zeros(60, np.uint8), (59,)), "does not match the file"),
        (FILES["train"][1], idx_bytes(np.zeros(1, np.uint8), (2**31, 8)), "asks for 17179869184"),
        (FILES["train"][1], idx_bytes(np.zeros(0, np.uint8)), "asks for 0 bytes"),
        (FILES["train"][1], idx_bytes(np.zeros(59, np.uint8)), "one label a sample"),
        (FILES["test"][1], idx_bytes(np.full(20, 7, np.uint8)), "label 7 is out of range for 3"),
        (FILES["train"][1], idx_bytes(np.repeat([0, 2], 30).astype(np.uint8)), "class 1 has no"),
        (FILES["train"][0] + ".gz", b"\x1f\x8b\x08 cut", "fetch the file again"),
        (
            FILES["train"][0] + ".gz",
            gzip.compress(bytes(99), mtime=0)[:-9],  # the time would be part of the test's name
            "fetch the file again|not an",
        ),
        (
            FILES["test"][0] + ".gz",
            gzip.compress(idx_bytes(np.zeros((20, 9, 9), np.uint8)), mtime=0),
            "size",
        ),
    ],
)
def test_broken_idx_files(idx_folder, file, content, message):
    (idx_folder / file).write_bytes(content)
    with pytest.raises(SparsityError, match=message):
        load_data(f"idx:{idx_folder}")


def test_an_absent_idx_file_is_named(idx_folder):
    (idx_folder / FILES["test"][1]).unlink()
    with pytest.raises(SparsityError, match=FILES["test"][1]):
        load_data(f"idx:{idx_folder}")


# npz


def arrays(count=30, **changes):
    return {"x": np.random.default_rng(0).random((count, 4)), "y": np.arange(count) % 3} | changes


def test_npz(tmp_path):
    np.savez(tmp_path / "some.npz", **arrays())
    data = load_data(f"npz:{tmp_path / 'some.npz'}")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [18, 6, 6]
    assert data.classes == ("0", "1", "2")
    rows = {tuple(row) for row in arrays()["x"].astype(np.float32).tolist()}
    assert {tuple(row) for row in data.test.inputs.tolist()} < rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.full((30, 4), np.nan)}, "NaN or infinity"),
        ({"x": np.full((30, 4), 1e300)}, "NaN or infinity"),
        ({"x": np.full((30, 4), "a")}, "give numbers"),
        ({"x": np.zeros((29, 4))}, "one label a sample"),
        ({"x": np.zeros(30)}, "one label a sample"),
        ({"x": np.float64(3)}, "one label a sample"),
        ({"x": np.zeros((30, 0))}, "no samples"),
        ({"y": np.arange(30) % 3 - 1}, "without gaps"),
        ({"y": np.arange(30) % 2 * 10**12}, "without gaps"),
        ({"y": np.zeros(30)}, "one whole number a sample"),
        ({"y": np.zeros((30, 1), int)}, "one whole number a sample"),
        ({"y": np.arange(30)}, "cannot be split"),
        ({"x": np.zeros((0, 4)), "y": np.zeros(0, int)}, "no samples"),
        ({"x": np.array([{}] * 30)}, "Object arrays"),
    ],
)
def test_broken_npz(tmp_path, changes, message):
    np.savez(tmp_path / "some.npz", **arrays(**changes))
    with pytest.raises(SparsityError, match=message):
        load_data(f"npz:{tmp_path / 'some.npz'}")


def test_npz_without_labels(tmp_path):
    np.savez(tmp_path / "some.npz", x=np.zeros((3, 2)))
    with pytest.raises(SparsityError, match="no array 'y'"):
        load_data(f"npz:{tmp_path / 'some.npz'}")


def test_an_npz_that_inflates_is_not_read(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((3_000_000, 100), np.uint8), y=[0])
    assert (tmp_path / "bomb.npz").stat().st_size < 1 << 20
    monkeypatch.setattr("sparsity_core.data.arrays._LARGEST", 200 << 20)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("was read"))
    with pytest.raises(SparsityError, match="inflates to 300000"):
        load_data(f"npz:{tmp_path / 'bomb.npz'}")


def test_an_npz_whose_header_lies(tmp_path):
    buffer = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**14, 4)}
    np.lib.format.write_array_header_1_0(buffer, header)
    y = io.BytesIO()
    np.save(y, np.zeros(3, int))
    write_zip(tmp_path / "lie.npz", {"x.npy": buffer.getvalue(), "y.npy": y.getvalue()})
    with pytest.raises(SparsityError, match="not a plain npz"):
        load_data(f"npz:{tmp_path / 'lie.npz'}")


@pytest.mark.parametrize("content", [b"", b"words", b"PK\x03\x04 cut off"])
def test_files_that_are_no_npz(tmp_path, content):
    (tmp_path / "some.npz").write_bytes(content)
    with pytest.raises(SparsityError, match="not a plain npz"):
        load_data(f"npz:{tmp_path / 'some.npz'}")


# OpenML


def test_openml_without_a_network(monkeypatch):
    def unreachable(**_):
        raise OSError("no route to host")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", unreachable)
    with pytest.raises(SparsityError, match="no route to host.*network"):
        load_data("openml:61")


def test_openml_names_become_classes(monkeypatch):
    x, y = np.random.default_rng(0).random((30, 4)), np.array(["b", "a", "c"] * 10, object)
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda **_: (x, y))
    data = load_data("openml:61")
    assert data.classes == ("a", "b", "c")
    by_row = dict(zip(map(tuple, x.astype(np.float32).tolist()), y, strict=True))
    for row, target in zip(data.test.inputs.tolist(), data.test.targets, strict=True):
        assert by_row[tuple(row)] == data.classes[target]


def test_openml_needs_a_number():
    with pytest.raises(SparsityError, match="openml:61"):
        load_data("openml:iris")


# The real ones


@needs_data
@pytest.mark.parametrize(
    ("name", "sizes", "shape"),
    [
        ("mnist", [55_000, 5_000, 10_000], (1, 28, 28)),
        ("cifar10", [45_000, 5_000, 10_000], (3, 32, 32)),
    ],
)
def test_real_data(name, sizes, shape):
    if missing_data(name):
        pytest.skip(missing_data(name))
    data = load_data(name)
    assert [len(s) for s in (data.train, data.validation, data.test)] == sizes
    assert data.train.inputs.shape[1:] == shape
    assert abs(data.train.inputs.mean().item()) < 0.05
    assert data.train.inputs.std().item() == pytest.approx(1, abs=0.05)
    shares = torch.bincount(data.validation.targets) / torch.bincount(data.train.targets)
    assert shares.max() / shares.min() < 1.02
