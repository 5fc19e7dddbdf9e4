"""One line names a model of one's own: its weights, its card, every command."""

import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from sparsity_core.cli import main
from sparsity_core.errors import SparsityError
from sparsity_core.task import Task, load_task

# References


def test_one_line_opens_the_same_model_again(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(
        "from torch import nn\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    torch.manual_seed(3)
    trained = nn.Sequential(OrderedDict({"0": nn.Flatten(), "1": nn.Linear(12, 3)}))
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "best.pt")
    import numpy as np

    np.savez(tmp_path / "val.npz", x=np.random.rand(30, 3, 2, 2), y=np.arange(30) % 3)
    reference = f"my_models:make?weights={tmp_path}/best.pt&data={tmp_path}/val.npz&metric=loss"
    task, again = load_task(reference), load_task(reference)
    assert isinstance(task, Task)
    assert task.name == reference
    assert torch.equal(task.model[1].weight, trained[1].weight)
    assert task.metric.name == "loss"
    assert (task.model_digest, task.validation.digest) == (
        again.model_digest,
        again.validation.digest,
    )
    with pytest.raises(SparsityError, match="unknown option of a model 'wieghts'.*'weights'"):
        load_task("my_models:make?wieghts=best.pt")
    with pytest.raises(SparsityError, match="say which with --data"):
        load_task("my_models:make")


def test_weights_far_below_the_card_of_their_model_are_called_out(tmp_path):
    task = load_task("digits-mlp")
    weak = {name: torch.zeros_like(tensor) for name, tensor in task.model.state_dict().items()}
    torch.save(weak, tmp_path / "weak.pt")
    said = " ".join(load_task(f"digits-mlp?weights={tmp_path}/weak.pt").notes)
    assert "is on the model's card: is the preprocessing right?" in said
    torch.save(task.model.state_dict(), tmp_path / "same.pt")
    assert "card" not in " ".join(load_task(f"digits-mlp?weights={tmp_path}/same.pt").notes)


def test_a_catalog_model_takes_other_weights(tmp_path):
    task = load_task("digits-mlp")
    other = {name: tensor * 0.5 for name, tensor in task.model.state_dict().items()}
    torch.save(other, tmp_path / "half.pt")
    half = load_task(f"digits-mlp?weights={tmp_path}/half.pt")
    assert half.model_digest != task.model_digest
    assert half.card is None
    with pytest.raises(SparsityError, match="brings its own data; input-size cannot be said"):
        load_task("digits-mlp?input-size=3x2x2")


@pytest.mark.parametrize(("reference", "message"), [
    ("timm:resnet18?data=val", "pip install 'sparsity-explorer.timm.'"),
    ("hf:/nowhere?data=val", "pip install 'sparsity-explorer.hf.'"),
])  # fmt: skip
def test_extras_that_are_absent_say_how_to_get_them(reference, message, monkeypatch):
    for package in ("timm", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(SparsityError, match=message):
        load_task(reference)


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "tiny_make:make", "--rules", "set", "--steps", "2", "--interval", "1"),
        ("tickets", "tiny_make:make", "--rounds", "1", "--steps", "2"),
        ("kernels", "--model", "tiny_make:make", "--layer", "last", "--sparsities", ".5",
         "--batches", "1", "--formats", "csr", "--repeats", "2"),
    ],
)  # fmt: skip
def test_every_command_takes_a_model_of_ones_own(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path))
    (tmp_path / "tiny_make.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    np.savez(tmp_path / "own.npz", x=np.ones((60, 4), np.float32), y=np.arange(60) % 3)
    out = tmp_path / "rows.csv"
    assert main([*arguments, "--data", str(tmp_path / "own.npz"), "--out", str(out)]) == 0
    assert "note: the data came undivided" in capsys.readouterr().err
    assert out.read_text().count("\n") > 1
