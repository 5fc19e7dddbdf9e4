"""What is taken away comes back bit for bit: checkpoints, masks, recipe, folder, ONNX."""

import json

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save
from torch import nn

from sparsity_core.check import Finding, Requirements, check
from sparsity_core.cli import main
from sparsity_core.compress.resize import resize_
from sparsity_core.errors import SparsityError
from sparsity_core.export import onnx_file
from sparsity_core.export.files import read_tensors, tensor_bytes
from sparsity_core.export.masks_file import masks_bytes, read_masks
from sparsity_core.export.onnx_file import onnx_model
from sparsity_core.export.package import Wanted, write_package
from sparsity_core.export.pruned import carry_out, shrunk
from sparsity_core.export.sparse_file import LAYOUTS, read_sparse, sparse_bytes
from sparsity_core.kernels.timing import Times
from sparsity_core.recipe import Recipe, Training
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import load_task
from sparsity_core.weights import mask_


def written(tmp_path, content, name="file.safetensors"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def same_bits(a, b):
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert (
        a.contiguous().view(-1).view(torch.uint8).tolist()
        == b.reshape(-1).view(torch.uint8).tolist()
    )


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


@pytest.fixture(scope="module")
def pruned():
    recipe = Recipe(
        0.5,
        structure=STRUCTURES.make("out-channel"),
        skip=("last",),
        training=Training(epochs=1, rate=0.01),
    )
    return carry_out(load_task("digits-lenet"), recipe, device="cpu")


def test_a_folder_holds_the_model_its_recipe_and_masks(tmp_path, pruned):
    card = write_package(pruned, tmp_path / "new", Wanted("smallest", shrunk=True, batch=4))
    folder = tmp_path / "new"
    assert {p.name: p.stat().st_size for p in folder.iterdir() if p.name != "card.json"} == card[
        "files"
    ]
    assert json.loads((folder / "card.json").read_text()) == card
    state, _ = read_sparse(folder / "model.safetensors")
    for name, tensor in pruned.model.state_dict().items():
        same_bits(tensor, state[name])
    masks = read_masks(folder / "masks.safetensors")
    assert set(masks) == set(pruned.masks)
    assert all(torch.equal(masks[name], mask) for name, mask in pruned.masks.items())
    recipe = Recipe.from_yaml((folder / "recipe.yaml").read_text())
    assert recipe == pruned.recipe
    # The masks are those of the model, and nothing else was set to zero.
    kept = load_task("digits-lenet").model
    mask_(kept, {name: ~mask for name, mask in masks.items()})
    again = load_task("digits-lenet").model
    again.load_state_dict(state)
    inputs = pruned.task.test.inputs[:9]
    assert torch.equal(again(inputs), pruned.model(inputs))
    smaller, settings = read_sparse(folder / "shrunk.safetensors")
    resize_(again, smaller, settings)
    assert again.conv1.out_channels == 8
    assert torch.allclose(again(inputs), pruned.model(inputs), atol=1e-5)
    assert card["shrunk"]["predicted_multiply_adds"] == card["shrunk"]["multiply_adds"]
    assert card["value"] == pruned.comparison.value
    assert card["data_digest"] == pruned.task.test.digest


def test_a_collapsed_model_is_not_carried_out():
    with pytest.raises(SparsityError, match="no weight is left in"):
        carry_out(load_task("digits-mlp"), Recipe(1.0), device="cpu")


class Small(nn.Module):
    """A padded, a depthwise and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.b = nn.Conv2d(6, 6, 3, groups=6)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(self.b(self.n(self.a(x)).relu()).relu().mean((2, 3)))


def test_onnx_says_what_torch_says_with_all_zeros():
    from sparsity_core.compress.shrink import shrink

    torch.manual_seed(0)
    model = Small().eval()
    with torch.no_grad():
        model.b.weight[[1, 4]] = 0
        model.fc.weight[:, :3].fill_(0)
        model.n.running_mean.normal_()
    sample = torch.randn(3, 3, 8, 8)
    found = onnx_model(model, sample)
    assert found.batches == (1, 3)
    assert found.difference <= 1e-5
    assert found.zeros == int((model.b.weight == 0).sum() + (model.fc.weight == 0).sum())
    smaller = shrink(model, sample).model
    assert len(onnx_model(smaller, sample).content) < len(found.content)

    import onnx
    import onnxruntime

    session = onnxruntime.InferenceSession(found.content, providers=["CPUExecutionProvider"])
    larger = torch.randn(11, 3, 8, 8)  # a batch that was never exported
    (given,) = session.run(None, {"input": larger.numpy()})
    assert np.abs(given - model(larger).detach().numpy()).max() <= 1e-5
    other = Small().eval()
    with pytest.raises(SparsityError, match="gives other outputs"):
        onnx_file._difference(other, session, sample)
    with torch.no_grad():
        model.a.weight[0] = 0  # a zero that the file does not have
    with pytest.raises(SparsityError, match=r"a\.weight: zeros were lost"):
        onnx_file._check_zeros(model, onnx.load_model_from_string(found.content))
    with pytest.raises(SparsityError, match="two inputs or more"):
        onnx_model(model, sample[:1])


def test_onnx_without_its_packages_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(SparsityError, match=r"pip install 'sparsity-explorer\[onnx\]'"):
        onnx_model(nn.Linear(2, 2), torch.ones(2, 2))


def test_a_check_compares_what_is_measured_with_what_is_asked(pruned):
    drop = 100 * pruned.comparison.drop
    met = check(pruned, Requirements(max_drop=drop, min_speedup=1e-6))
    assert [finding.met for finding in met] == [True, True]
    assert f"{drop:+.2f} points" in met[0].measured
    assert "360 test samples" in met[0].measured
    missed = check(pruned, Requirements(max_drop=drop - 0.01, min_speedup=1e6))
    assert [finding.met for finding in missed] == [False, False]
    assert "shrink" in missed[1].measured
    assert "sparsify" in missed[1].measured
    high = 100 * pruned.comparison.drop_high
    (certain,) = check(pruned, Requirements(max_drop=(drop + high) / 2, confident=True))
    assert not certain.met


def test_a_speedup_is_the_quickest_way_over_dense(monkeypatch, pruned):
    def times(models, sample, threads):
        seconds = {"dense": 6.0, "shrink": 3.0, "sparsify": 4.0}
        return {name: Times(seconds[name], seconds[name], seconds[name]) for name in models}

    monkeypatch.setattr("sparsity_core.check.speeds", times)
    monkeypatch.setattr("sparsity_core.check.sparsify", lambda model, *_, **__: model)
    (found,) = check(pruned, Requirements(min_speedup=2.0))
    assert found == Finding("speedup", "at least 2x", found.measured, True)
    assert found.measured.startswith("2.00x by shrink; dense 6e+03 ms")


@pytest.mark.parametrize(
    "given",
    [{}, {"min_speedup": 0.0}, {"max_drop": float("nan")}, {"max_drop": 1.0, "batch": 0}],
)
def test_senseless_requirements_are_refused(given):
    with pytest.raises(SparsityError):
        Requirements(**given)


def recipe_file(tmp_path, **given):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"sparsity": 0.3, "structure": "out-channel"} | given))
    return ["--recipe", str(path), "--device", "cpu"]


def test_the_command_checks_and_prunes(tmp_path, capsys):
    how = ["digits-mlp", *recipe_file(tmp_path, skip=["last"])]
    assert main(["check", *how, "--max-drop", "100"]) == 0
    assert capsys.readouterr().out.startswith("ok   drop of accuracy: at most 100 points; measured")
    assert main(["check", *how, "--max-drop", "-100"]) == 1
    assert capsys.readouterr().out.startswith("FAIL drop of accuracy")
    out = tmp_path / "out"
    assert main(["prune", *how, "--out", str(out), "--layout", "bitmask", "--sparsity", ".4"]) == 0
    said = capsys.readouterr().out
    assert "drop" in said
    assert str(out / "model.safetensors") in said
    assert json.loads((out / "card.json").read_text())["recipe"]["sparsity"] == 0.4
    assert shrunk(carry_out(load_task("digits-mlp"), Recipe(0.0), device="cpu")).difference <= 1e-5


def test_a_sparsity_alone_is_recipe_enough(capsys):
    how = ["check", "digits-mlp", "--device", "cpu", "--max-drop", "100"]
    assert main([*how, "--sparsity", ".3"]) == 0
    expected = carry_out(load_task("digits-mlp"), Recipe(0.3), device="cpu").comparison.value
    assert f"{expected:.2%} pruned" in capsys.readouterr().out
    assert main(how) == 2
    assert "give --recipe FILE, or --sparsity S" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "digits-mlp", "--recipe", "absent.yaml", "--max-drop", "1"],
        ["check", "digits-mlp", "--max-drop", "1", "--sparsity", "50"],
        ["check", "digits-mlp"],
        ["check", "no-such-model", "--max-drop", "1"],
        ["check", "digits-mlp", "--max-drop", "1", "--split", "none"],
        ["prune", "digits-mlp", "--out", "x", "--layout", "coo"],
        ["prune", "digits-mlp", "--out", "/dev/null/x"],
    ],
)
def test_bad_input_is_one_line_and_2(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    how = [] if "--recipe" in arguments else recipe_file(tmp_path)
    assert main([*arguments, *how]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("sparsity: ")
