"""Scores of channels against torch-pruning's, another library that has them."""

import pytest
import torch
import torch.nn.functional as F
import torch_pruning
from torch import nn
from torch_pruning import importance

from sparsity_core.probe import Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import SCORERS
from sparsity_core.structures import OutChannel

FIRST = {"group_reduction": "first", "normalizer": None}
CONVS = {**FIRST, "target_types": [nn.Conv2d]}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.SiLU()),
        *(nn.Conv2d(8, 6, 3, bias=False), nn.BatchNorm2d(6), nn.SiLU()),
        *(nn.Flatten(), nn.Linear(6 * 16, 5)),
    )
    for norm in (model[1], model[4]):
        nn.init.uniform_(norm.weight, 0.2, 2)
    for conv in (model[0], model[3]):  # positive: torch-pruning's FPGM takes distances of |w|
        nn.init.uniform_(conv.weight, 0.01, 1)
    return model.eval()


@pytest.mark.parametrize("layer", [0, 3])
@pytest.mark.parametrize(
    ("theirs", "kind", "options"),
    [
        (importance.GroupTaylorImportance(multivariable=False, **CONVS), "taylor", {}),
        (importance.GroupTaylorImportance(multivariable=True, **CONVS), "taylor", {"joint": True}),
        (importance.BNScaleImportance(**FIRST), "bn-scale", {}),
        (importance.FPGMImportance(p=1, **FIRST), "geometric-median", {}),
        (importance.GroupMagnitudeImportance(p=1, **CONVS), "magnitude", {}),
        (importance.GroupMagnitudeImportance(p=2, **CONVS), "magnitude", {"norm": 2}),
    ],
    ids=["taylor", "joint taylor", "bn-scale", "fpgm", "l1", "l2"],
)
def test_channels_score_as_in_torch_pruning(model, layer, theirs, kind, options):
    x, y = torch.randn(7, 3, 6, 6), torch.randint(5, (7,))
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    conv = model[layer]
    graph = torch_pruning.DependencyGraph().build_dependency(model, x)
    cut, every = torch_pruning.prune_conv_out_channels, list(range(conv.out_channels))
    expected = theirs(graph.get_pruning_group(conv, cut, every)).detach().abs()
    recipe = Recipe(0.5, SCORERS.make(kind, **options), OutChannel())
    found = prune(Probe(model, [(x, y)]), recipe).units[f"{layer}.weight"]
    if options == {"norm": 2}:
        expected = expected.sqrt()  # theirs has no root
    # Ours are means over a channel's weights and theirs sums: equal but for a factor.
    torch.testing.assert_close(found / found.sum(), expected / expected.sum())
