"""A pruned model is carried out: a folder of files, a check, the command."""

import json

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from sparsity_core.check import Finding, Requirements, check
from sparsity_core.cli import main
from sparsity_core.compress.resize import resize_
from sparsity_core.errors import SparsityError
from sparsity_core.export import onnx_file
from sparsity_core.export.masks_file import read_masks
from sparsity_core.export.onnx_file import onnx_model
from sparsity_core.export.package import Wanted, write_package
from sparsity_core.export.pruned import carry_out, shrunk
from sparsity_core.export.sparse_file import read_sparse
from sparsity_core.kernels.timing import Times
from sparsity_core.recipe import Recipe, Training
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import load_task
from sparsity_core.weights import mask_


def same_bits(a, b):
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert (
        a.contiguous().view(-1).view(torch.uint8).tolist()
        == b.reshape(-1).view(torch.uint8).tolist()
    )


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
