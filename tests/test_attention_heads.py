"""Attention heads as units: queries, keys and values together; pruned, they add nothing."""

import pytest
import torch
from torch import nn

from sample_models.vit import Attention
from sparsity_core.probe import Probe
from sparsity_core.prune import masks_from_units, unit_scores
from sparsity_core.scorers import Magnitude
from sparsity_core.structures import STRUCTURES
from sparsity_core.weights import mask_
from tests.test_structures import mask_of


def test_a_head_is_its_queries_keys_and_values():
    # Two heads of two rows: rows 0-3 are queries, 4-7 keys, 8-11 values.
    scores = torch.zeros(12, 5)
    scores[6] = 1.0  # a key of the second head
    mask = mask_of("attention-head(2)", scores, 0.5)
    assert mask.all(1).nonzero()[:, 0].tolist() == [2, 3, 6, 7, 10, 11]
    assert mask.any(1).sum() == 6


@pytest.mark.parametrize("fused", [True, False])
def test_a_pruned_head_adds_nothing(fused):
    torch.manual_seed(0)
    if fused:
        model = nn.MultiheadAttention(8, 4, batch_first=True).eval()
        nn.init.normal_(model.in_proj_bias)
    else:
        model = Attention(8, 4).eval()
    probe = Probe(model)
    name = "in_proj_weight" if fused else "qkv.weight"
    layer = probe.layers[name]
    assert layer.heads == 4
    scores = torch.zeros(24, 8)
    scores[:2], scores[6:8] = 1.0, 1.0  # queries of heads 0 and 3
    structure = STRUCTURES.make("attention-head")
    units = unit_scores(probe, name, scores, Magnitude(), structure)
    masks = masks_from_units(layer, units, structure, 0.5)
    mask_(model, masks)
    x = torch.randn(3, 5, 8)
    with torch.no_grad():
        one = model(x, x, x)[0] if fused else model(x)
        out = model.out_proj if fused else model.out
        out.weight[:, 2:6] = 99.0  # what reads heads 1 and 2
        other = model(x, x, x)[0] if fused else model(x)
    assert torch.equal(one, other)
