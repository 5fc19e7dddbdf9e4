"""Counts by hand, and against torch's own counter."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sparsity_core.cost import FORMATS, bytes_by_format, cost
from sparsity_core.probe import Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe
from sparsity_core.structures import NofM


def test_lenet_300_100_by_hand():
    model = nn.Sequential(nn.Linear(784, 300), nn.Linear(300, 100), nn.Linear(100, 10))
    found = cost(model, torch.zeros(1, 784))
    assert found.parameters == 266_610  # the number in every paper
    assert found.macs == found.effective_macs == 266_200
    assert [layer.macs for layer in found.layers] == [235_200, 30_000, 1_000]
    assert found.total_bytes("dense") == 4 * 266_610


def test_a_layer_on_transposed_inputs_counts_for_a_single_sample_too():
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(4, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.embed(x.transpose(1, 2))  # (N, 16, 8); torch multiplies batch by batch

    for samples in (1, 2):
        (embed,) = cost(Patches(), torch.zeros(samples, 4, 16)).layers
        assert embed.macs == samples * 16 * 4 * 8


def test_convolution_by_hand(small_conv):
    found = cost(small_conv, torch.zeros(1, 3, 6, 6))
    conv1, conv2, fc = found.layers
    assert conv1.macs == 8 * 3 * 9 * 36
    assert conv2.macs == 8 * 4 * 9 * 9  # half of the inputs, 3 x 3 places
    assert fc.macs == 5 * 72


def test_against_torchs_counter(small_conv):
    sample = torch.zeros(1, 3, 6, 6)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        small_conv(sample)
    found = cost(small_conv, sample)
    assert 2 * found.macs == flops.get_total_flops()
    assert found.other_macs == 0


def test_attention_products_are_counted_apart():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    found = cost(Attention(), torch.zeros(1, 5, 8))
    assert {layer.name: layer.macs for layer in found.layers} == {
        "attention.in_proj_weight": 5 * 8 * 24,
        "attention.out_proj.weight": 5 * 8 * 8,
    }
    assert found.other_macs == 2 * 5 * 5 * 8  # q k^T and its product with v


def test_a_weight_used_twice_costs_twice():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    (layer,) = cost(model, torch.zeros(1, 4)).layers
    assert (layer.parameters, layer.macs) == (16, 32)


def test_masks_lower_the_effective_count(small_conv, batches):
    pruning = prune(Probe(small_conv, batches), Recipe(0.75))
    found = cost(small_conv, torch.zeros(1, 3, 6, 6), pruning.masks)
    assert found.sparsity == pytest.approx(0.75)
    assert found.effective_macs == pytest.approx(found.macs / 4)
    assert found.compression == found.parameters / found.nonzeros
    assert cost(small_conv, torch.zeros(1, 3, 6, 6)).sparsity == 0  # the model is not changed


def test_bytes_by_hand():
    alive = torch.zeros(2, 8, dtype=torch.bool)
    alive[0, :2] = alive[1, 4:6] = True
    assert bytes_by_format(alive, 4) == {
        "dense": 64,
        "bitmask": 2 + 4 * 4,
        "csr": 4 * 8 + 3 * 4,
        "2:4": 8 * 4 + 2,
    }
    assert bytes_by_format(torch.ones(2, 8, dtype=torch.bool), 4)["2:4"] is None


@pytest.mark.filterwarnings("ignore:Sparse (CSR|invariant)")
def test_csr_bytes_are_what_torch_stores():
    torch.manual_seed(0)
    weight = torch.rand(7, 13) * (torch.rand(7, 13) > 0.6)
    stored = weight.to_sparse_csr()
    parts = (stored.values(), stored.crow_indices().int(), stored.col_indices().int())
    size = sum(part.numel() * part.element_size() for part in parts)
    assert bytes_by_format(weight != 0, 4)["csr"] == size


def test_formats_that_cannot_hold_a_layer_give_no_total(small_conv):
    pruning = prune(Probe(small_conv), Recipe(0.5, structure=NofM(2, 4)))
    found = cost(small_conv, torch.zeros(1, 3, 6, 6), pruning.masks)
    assert [layer.bytes["2:4"] is None for layer in found.layers] == [True, False, False]
    assert found.total_bytes("2:4") is None
    assert all(found.total_bytes(f) for f in FORMATS if f != "2:4")


def test_counting_leaves_the_model_in_its_mode(small_conv):
    small_conv.train()
    cost(small_conv, torch.zeros(1, 3, 6, 6))
    assert small_conv.training
