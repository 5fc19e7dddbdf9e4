"""What is prunable, under which name, and what masking does."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from sparsity_core.errors import NonFiniteError, SparsityError
from sparsity_core.weights import (
    canonical_names,
    check_finite,
    mask_,
    prunable,
    sparsity_of,
    unprunable,
)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.embedding.weight
        self.again = self.inner  # one module, two names

    def forward(self, tokens):
        return self.head(self.again(self.inner(self.embedding(tokens))))


def test_kinds_and_order():
    model = nn.Sequential(
        nn.Conv1d(2, 4, 3),
        nn.BatchNorm1d(4),
        nn.Linear(5, 6),
        nn.MultiheadAttention(6, 2),
        nn.ConvTranspose1d(6, 2, 3),
        nn.LSTM(2, 3),
    )
    found = prunable(model)
    assert [(name, layer.kind) for name, layer in found.items()] == [
        ("0.weight", "conv"),
        ("2.weight", "linear"),
        ("3.in_proj_weight", "attention"),
        ("3.out_proj.weight", "linear"),
    ]
    assert found["3.in_proj_weight"].biases == ("3.in_proj_bias",)
    reasons = unprunable(model)
    assert set(found) | set(reasons) == dict(model.named_parameters()).keys()
    assert reasons["4.weight"] == "ConvTranspose1d weights are not pruned"
    assert "biases and norms" in reasons["1.weight"]


def test_separate_attention_projections():
    found = prunable(nn.MultiheadAttention(8, 2, kdim=4, vdim=6))
    assert set(found) == {"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"}
    assert found["q_proj_weight"].biases == ()


def test_tied_weights_are_one_tensor():
    model = Tied()
    found = prunable(model)
    assert list(found) == ["embedding.weight", "inner.weight"]
    assert found["embedding.weight"].aliases == ("head.weight",)
    assert found["embedding.weight"].biases == ("head.bias",)
    assert "shared with head.weight" in found["embedding.weight"].note
    assert canonical_names(model, ["head", "again.weight"]) == ["embedding.weight", "inner.weight"]


def test_two_parameters_over_one_memory_are_tied_too():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = nn.Parameter(model[0].weight.data)
    assert list(prunable(model)) == ["0.weight"]


def test_parametrized_weights_are_refused_with_a_reason():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 2))
    assert list(prunable(model)) == ["1.weight"]
    assert any("parametrized" in reason for reason in unprunable(model).values())


def test_layer_names():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    assert canonical_names(model, ["first", "0", "2.weight", "last"]) == ["0.weight", "2.weight"]
    with pytest.raises(SparsityError, match=r"unknown layer '2\.weigth'; did you mean '2\.weight'"):
        canonical_names(model, ["2.weigth"])
    with pytest.raises(SparsityError, match="nothing to prune"):
        canonical_names(nn.Sequential(nn.ReLU()), [])


def test_mask_sets_exact_zeros_even_of_nan():
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.tensor([[float("nan"), -1.0], [2.0, -3.0]])
    mask_(model, {"weight": torch.tensor([[False, False], [True, True]])})
    assert model.weight.tolist() == [[0.0, 0.0], [2.0, -3.0]]
    assert not torch.signbit(model.weight[0]).any()


def test_a_sparse_model_stays_the_same_class_with_the_same_keys(small_conv):
    keys = list(small_conv.state_dict())
    mask_(small_conv, {"fc.weight": torch.zeros(5, 72, dtype=torch.bool)})
    assert list(small_conv.state_dict()) == keys
    assert not small_conv._forward_hooks
    assert not small_conv._forward_pre_hooks


def test_masks_that_do_not_fit_are_named(small_conv):
    with pytest.raises(SparsityError, match=r"fc\.weight: the mask has shape \(5, 71\)"):
        mask_(small_conv, {"fc.weight": torch.ones(5, 71, dtype=torch.bool)})
    with pytest.raises(SparsityError, match=r"unknown parameter in masks 'fc\.wieght'"):
        mask_(small_conv, {"fc.wieght": torch.ones(5, 72, dtype=torch.bool)})


def test_sparsity_of_a_mask():
    assert sparsity_of(torch.tensor([True, False, False, False])) == 0.75
    assert sparsity_of(torch.ones(0, dtype=torch.bool)) == 0.0


def test_what_is_not_finite_is_counted():
    with pytest.raises(NonFiniteError, match=r"fc: 2 of 3 weights"):
        check_finite("fc", torch.tensor([float("nan"), 1.0, float("inf")]))
