"""Whole models on packed weights: the same outputs, obeyed requests, honest reports."""

import pytest
import torch
from torch import nn

from sparsity_core.errors import SparsityError
from sparsity_core.kernels import sparsify
from sparsity_core.kernels.choice import DENSE
from sparsity_core.weights import mask_, prunable


def masks_of(model, sparsity=0.9):
    torch.manual_seed(0)
    return {name: torch.rand(layer.shape) >= sparsity for name, layer in prunable(model).items()}


def masked(model, masks):
    mask_(model, masks)
    return model.eval()


def test_auto_gives_the_outputs_of_the_masked_model(small_conv):
    masks, x = masks_of(small_conv), torch.randn(3, 3, 6, 6)
    before = {name: p.clone() for name, p in small_conv.state_dict().items()}
    sparse = sparsify(small_conv, masks, sample=x)
    assert all(torch.equal(p, before[name]) for name, p in small_conv.state_dict().items())
    expected = masked(small_conv, masks)
    for batch in (1, 3, 5):
        x = torch.randn(batch, 3, 6, 6)
        torch.testing.assert_close(sparse(x), expected(x).detach(), rtol=1e-4, atol=1e-5)
    assert [choice.name for choice in sparse.layers] == list(masks)
    grouped = sparse.layers[1]
    assert "one group, got 2" in grouped.refused["dense-convolution"]
    assert "sparse-convolution" in grouped.seconds
    assert not any(p.requires_grad for p in sparse.parameters())


def test_a_large_sparse_layer_is_packed_and_quicker():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 16))
    masks = {"0.weight": torch.rand(2048, 2048) > 0.97}
    sparse = sparsify(model, masks, sample=torch.randn(1, 2048))
    (choice,) = sparse.layers
    assert choice.kernel != DENSE
    assert choice.speedup > 1
    assert choice.seconds[choice.kernel] == min(choice.seconds.values())
    assert choice.bytes < 4 * 2048 * 2048
    assert "keeps" in choice.refused["balanced"]
    assert sparse.sparse.p50 < sparse.dense.p50
    assert "1 of 1 masked layers run packed" in sparse.note


def test_what_no_kernel_takes_stays_dense():
    model, x = nn.Sequential(nn.Conv1d(4, 4, 3)), torch.randn(1, 4, 9)
    masks = masks_of(model, 0.5)
    sparse = sparsify(model, masks, sample=x)
    assert [choice.kernel for choice in sparse.layers] == [DENSE]
    assert "all masked layers stay dense" in sparse.note
    assert sparse.sparse.p50 <= sparse.dense.p50
    assert torch.equal(sparse(x), masked(model, masks)(x))


def test_a_request_is_obeyed_or_fails():
    model = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 8))
    masks, x = masks_of(model), torch.randn(2, 64)
    sparse = sparsify(model, masks, "permute", sample=x)
    assert [choice.kernel for choice in sparse.layers] == ["permute", "permute"]
    sparse = sparsify(model, masks, {"2.weight": "csr"}, sample=x)
    assert [choice.kernel for choice in sparse.layers] == [DENSE, "csr"]
    torch.testing.assert_close(sparse(x), masked(model, masks)(x).detach())
    with pytest.raises(SparsityError, match=r"0\.weight cannot run on balanced"):
        sparsify(model, masks, "balanced", sample=x)
    with pytest.raises(SparsityError, match=r"2 axes|4 axes"):
        sparsify(model, masks, "sparse-convolution", sample=x)
    with pytest.raises(SparsityError, match="unknown kernel 'permut'"):
        sparsify(model, masks, "permut", sample=x)
    with pytest.raises(SparsityError, match="unknown layer among the masks"):
        sparsify(model, masks, {"1.weight": "csr"}, sample=x)


def test_a_lone_layer_and_a_layer_used_twice():
    lone = nn.Linear(32, 16)
    masks, x = {"weight": torch.rand(16, 32) > 0.5}, torch.randn(4, 32)
    sparse = sparsify(lone, masks, "csr", sample=x)
    torch.testing.assert_close(sparse(x), masked(lone, masks)(x).detach())

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    model, x = Twice(), torch.randn(4, 8)
    masks = {"a.weight": torch.rand(8, 8) > 0.5}
    sparse = sparsify(model, masks, "permute", sample=x)
    torch.testing.assert_close(sparse(x), masked(model, masks)(x).detach())
    assert [choice.kernel for choice in sparse.layers] == ["permute", "permute"]


def test_attention_stays_dense_and_its_feed_forward_is_packed():
    model = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    masks, x = masks_of(model, 0.5), torch.randn(2, 5, 16)
    with pytest.raises(SparsityError, match="MultiheadAttention"):
        sparsify(model, masks, "permute", sample=x)
    asked = {"linear1.weight": "permute", "linear2.weight": "tiled"}
    sparse = sparsify(model, masks, asked, sample=x)
    kernels = {choice.name: choice.kernel for choice in sparse.layers}
    assert kernels["linear1.weight"] == "permute"
    assert kernels["self_attn.in_proj_weight"] == DENSE
    expected = masked(model, masks)(x).detach()
    torch.testing.assert_close(sparse(x), expected, rtol=1e-4, atol=1e-5)
