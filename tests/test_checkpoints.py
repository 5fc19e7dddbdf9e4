"""Checkpoints: weights are found whatever is around them; what does not fit is one table."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sparsity_core.errors import SparsityError
from sparsity_core.intake.fit import load_
from tests.checkpoint_models import STATE, TRAINED, Config, _nothing_was_executed, same, small

__all__ = ["_nothing_was_executed"]


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
    assert "not opened: tests.checkpoint_models.Config" in notes


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
