"""Layouts of sparse checkpoints: back bit for bit, read from others, lies refused."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from sparsity_core.errors import SparsityError
from sparsity_core.export.files import read_tensors, tensor_bytes
from sparsity_core.export.masks_file import masks_bytes, read_masks
from sparsity_core.export.sparse_file import LAYOUTS, read_sparse, sparse_bytes
from tests.test_export import same_bits


def written(tmp_path, content, name="file.safetensors"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


STATE = {
    "conv.weight": torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)).relu(),
    "conv.bias": torch.tensor([1.0, 0.0, -0.0, 3.0]),
    "table": torch.tensor([[0.0, -0.0, float("nan")], [float("inf"), 0.0, 1e-45]]),
    "half.weight": torch.tensor([[0.0, 1.5], [0.0, 0.0]], dtype=torch.bfloat16),
    "gone.weight": torch.zeros(3, 9),
    "full.weight": torch.ones(2, 8),
    "norm.num_batches_tracked": torch.tensor(7),
    "empty.weight": torch.zeros(0, 4),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_checkpoint_comes_back_bit_for_bit(tmp_path, layout):
    found, settings = read_sparse(written(tmp_path, sparse_bytes(STATE, layout, {"a.groups": 3})))
    assert set(found) == set(STATE)
    for name, tensor in STATE.items():
        same_bits(tensor, found[name])
    assert settings == {"a.groups": 3}


def test_dense_is_plain_safetensors_with_the_same_keys(tmp_path):
    path = written(tmp_path, sparse_bytes(STATE))
    assert set(load_file(path)) == set(STATE)


def test_the_bitmask_layout_by_eye(tmp_path):
    weight = torch.tensor([[0, 2, 0, 0, 0, 0, 0, 0, 3], [0, 0, 0, 0, 0, 0, 0, 0, 0.0]])
    parts = load_file(written(tmp_path, sparse_bytes({"fc.weight": weight}, "bitmask")))
    assert {name: part.tolist() for name, part in parts.items()} == {
        "fc.shape": [2, 9],
        "fc.compressed": [2, 3],
        "fc.bitmask": [[0b10, 0b1], [0, 0]],  # the first column in the lowest bit
        "fc.row_offsets": [0, 2],
    }


def test_what_others_wrote_in_the_bitmask_layout_is_read(tmp_path):
    """As compressed-tensors packs a matrix: numpy's packbits of the last axis, little."""
    weight = torch.randn(5, 13, generator=torch.Generator().manual_seed(2)).relu()
    there = weight != 0
    counts = there.sum(-1)
    parts = {
        "fc.shape": torch.tensor(weight.shape),
        "fc.compressed": weight[there],
        "fc.bitmask": torch.from_numpy(np.packbits(there.numpy(), axis=-1, bitorder="little")),
        "fc.row_offsets": counts.cumsum(0) - counts,
        "fc.bias": torch.ones(5),
    }
    found, settings = read_sparse(written(tmp_path, save(parts)))
    assert set(found) == {"fc.weight", "fc.bias"}
    assert torch.equal(found["fc.weight"], weight)
    assert settings == {}


def test_smallest_is_smallest():
    state = {"a.weight": torch.zeros(64, 64), "b.weight": torch.rand(64, 64) + 1}
    state["a.weight"][0, 0] = 1
    sizes = {layout: len(sparse_bytes(state, layout)) for layout in LAYOUTS}
    assert sizes["smallest"] <= min(sizes.values()) + 200  # the header says more
    assert sizes["csr"] > sizes["dense"]


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("fc.shape", torch.tensor([2, 3000000000])),
        ("fc.shape", torch.tensor([-1, 4])),
        ("fc.bitmask", torch.tensor([[255], [255]], dtype=torch.uint8)),
        ("fc.compressed", torch.ones(3)),
    ],
)
def test_lying_bitmasks_are_refused(tmp_path, part, changed):
    weight = torch.tensor([[0, 1.0, 0, 0], [0, 0, 2.0, 0]])
    parts = load_file(written(tmp_path, sparse_bytes({"fc.weight": weight}, "bitmask")))
    with pytest.raises(SparsityError, match="do not fit together"):
        read_sparse(written(tmp_path, save(parts | {part: changed})))


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("fc.crow_indices", torch.tensor([0, 2, 1])),
        ("fc.col_indices", torch.tensor([1, 9])),
        ("fc.col_indices", torch.tensor([-1, 2])),
        ("fc.values", torch.ones(5)),
        ("fc.shape", torch.tensor([2, 3000000000])),
    ],
)
def test_lying_rows_and_columns_are_refused(tmp_path, part, changed):
    weight = torch.tensor([[0, 1.0, 0, 0], [0, 0, 2.0, 0]])
    parts = load_file(written(tmp_path, sparse_bytes({"fc.weight": weight}, "csr")))
    with pytest.raises(SparsityError, match="do not fit together"):
        read_sparse(written(tmp_path, save(parts | {part: changed})))


def test_files_that_are_none_say_so(tmp_path):
    with pytest.raises(SparsityError, match="no such file"):
        read_tensors(tmp_path / "absent.safetensors")
    with pytest.raises(SparsityError, match="no safetensors file"):
        read_tensors(written(tmp_path, b"not a tensor"))
    with pytest.raises(SparsityError, match="holds no masks"):
        read_masks(written(tmp_path, sparse_bytes(STATE)))
    damaged = tensor_bytes({"a": torch.zeros(1, dtype=torch.uint8)}, {"shapes": {"a": [3, 3]}})
    with pytest.raises(SparsityError, match="mask of a is damaged"):
        read_masks(written(tmp_path, damaged))
    with pytest.raises(SparsityError, match="unknown layout"):
        sparse_bytes(STATE, "coo")


def test_masks_are_bits(tmp_path):
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    path = written(tmp_path, masks_bytes({"fc.weight": mask, "fc.bias": mask[0]}))
    assert load_file(path)["fc.weight"].tolist() == [0b11000101, 0b1]
    found = read_masks(path)
    assert torch.equal(found["fc.weight"], mask)
    assert torch.equal(found["fc.bias"], mask[0])
