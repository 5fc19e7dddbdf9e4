"""One round of pruning: the four questions together, and everything that can go wrong."""

import copy
import itertools
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from sparsity_core.allocations import ALLOCATIONS, Manual
from sparsity_core.errors import NonFiniteError, SparsityError
from sparsity_core.probe import Probe
from sparsity_core.prune import prune, refusals
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import SCORERS, Random, Wanda
from sparsity_core.selection import count_pruned
from sparsity_core.structures import STRUCTURES, InChannel, NofM, OutChannel
from sparsity_core.weights import mask_

COMBINATIONS = list(
    itertools.product(
        SCORERS.kinds(),
        ["unstructured", "out-channel", "in-channel", "kernel", "2x2", "2:4", "constant-fan-in"],
        [kind for kind in ALLOCATIONS.kinds() if kind not in ("manual", "sensitivity")],
    )
)
# Those that can tell the weights of an output apart.
OF_WEIGHTS = [kind for kind in SCORERS.kinds() if SCORERS.make(kind).ranks == "weights"]


def recipe(scorer="magnitude", structure="unstructured", allocation="uniform", **options):
    return Recipe(
        scorer=SCORERS.make(scorer),
        structure=STRUCTURES.make(structure),
        allocation=ALLOCATIONS.make(allocation),
        **options,
    )


def test_by_eye():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[0].weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    model[1].weight.data = torch.tensor([[8.0, 7.0], [6.0, 5.0]])
    probe = Probe(model)
    uniform = prune(probe, recipe(sparsity=0.5))
    assert uniform.masks["0.weight"].tolist() == [[False, False], [True, True]]
    assert uniform.masks["1.weight"].tolist() == [[True, True], [False, False]]
    everywhere = prune(probe, recipe(allocation="global", sparsity=0.5))
    assert everywhere.emptied == ["0.weight"]
    assert everywhere.masks["1.weight"].all()


@pytest.mark.parametrize(("scorer", "structure", "allocation"), COMBINATIONS)
def test_every_combination_meets_its_budget_or_says_why(
    scorer, structure, allocation, small_conv, batches
):
    probe = Probe(small_conv, batches)
    refused = refusals(probe, SCORERS.make(scorer), STRUCTURES.make(structure))
    if scorer not in OF_WEIGHTS and refused.keys() == probe.layers.keys():
        with pytest.raises(SparsityError, match="no layer can be pruned: .*; .*another scorer"):
            prune(probe, recipe(scorer, structure, allocation, sparsity=0.5))
        return
    half_by_chance = (scorer, allocation) == ("obs", "lamp")  # of both layers, as 2:4 needs
    if structure == "2:4" and allocation != "uniform" and not half_by_chance:
        with pytest.raises(SparsityError, match=r"2:4 always removes 0\.5|cannot reach"):
            prune(probe, recipe(scorer, structure, allocation, sparsity=0.5))
        return
    if structure == "kernel" and allocation == "uniform-plus":  # here the two convolutions alone
        with pytest.raises(SparsityError, match=r"keeps a fifth, .* cannot reach"):
            prune(probe, recipe(scorer, structure, allocation, sparsity=0.5))
        return
    before = None
    for sparsity in (0.25, 0.5) if structure != "2:4" else (0.0, 0.5):
        pruning = prune(probe, recipe(scorer, structure, allocation, sparsity=sparsity))
        assert pruning.masks.keys() & pruning.skipped.keys() == set()
        for name, wanted in pruning.sparsities.items():
            units = pruning.units[name].shape[-1 if structure == "constant-fan-in" else 0 :].numel()
            expected = wanted if structure == "2:4" else count_pruned(units, wanted) / units
            assert pruning.achieved[name] == pytest.approx(expected)
        if before:
            for name, mask in pruning.masks.items():
                assert not (mask & ~before[name]).any()
        before = pruning.masks


@pytest.mark.parametrize("scorer", OF_WEIGHTS)
def test_masks_are_equal_on_repeated_runs(scorer, small_conv, batches):
    one = prune(Probe(small_conv, batches), recipe(scorer, sparsity=0.7)).masks
    two = prune(Probe(copy.deepcopy(small_conv), batches), recipe(scorer, sparsity=0.7)).masks
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_masks_are_equal_in_another_process():
    program = """
import hashlib, torch
from sparsity_core.probe import Probe
from sparsity_core.prune import prune, refusals
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import Random, Taylor
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 5))
batch = (torch.randn(16, 20), torch.randint(5, (16,)))
state = hashlib.sha256()
for scorer in (Random(), Taylor()):
    for name, mask in prune(Probe(model, [batch], seed=7), Recipe(0.7, scorer)).masks.items():
        state.update(name.encode() + mask.numpy().tobytes())
print(state.hexdigest())
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1] != ""


def test_rounds_never_bring_a_weight_back(small_conv, batches):
    first = prune(Probe(small_conv, batches), recipe("random", sparsity=0.5))
    for scorer in OF_WEIGHTS:
        probe = Probe(small_conv, batches, masks=first.masks, seed=99)
        second = prune(probe, recipe(scorer, sparsity=0.8))
        for name in second.sparsities:
            assert not (second.masks[name] & ~first.masks[name]).any()
            assert second.achieved[name] == pytest.approx(
                count_pruned(second.masks[name].numel(), 0.8) / second.masks[name].numel()
            )


def test_dead_weights_go_before_live_ones_with_an_equal_score(small_conv):
    small_conv.fc.weight.data[:] = 0  # live weights score zero, as masked ones do
    masks = {"fc.weight": torch.ones(5, 72, dtype=torch.bool)}
    masks["fc.weight"][:, :36] = False
    pruning = prune(Probe(small_conv, masks=masks), recipe(sparsity=0.5))
    assert torch.equal(pruning.masks["fc.weight"], masks["fc.weight"])


def test_wanda_takes_the_same_share_of_every_row(small_conv, batches):
    pruning = prune(Probe(small_conv, batches), recipe("wanda", sparsity=0.5))
    for name in pruning.sparsities:
        rows = pruning.masks[name].flatten(1).sum(1)
        assert rows.max() - rows.min() <= 1
    scores = Wanda().score(Probe(small_conv, batches))["fc.weight"]
    for row, mask in zip(scores, pruning.masks["fc.weight"], strict=True):
        assert set(row.topk(36).indices.tolist()) == set(mask.nonzero()[:, 0].tolist())


def test_removing_an_output_also_zeroes_its_bias(small_conv):
    probe = Probe(small_conv)
    pruning = prune(probe, Recipe(0.5, structure=OutChannel()))
    gone = ~pruning.masks["conv1.bias"]
    assert torch.equal(~pruning.masks["conv1.weight"].flatten(1).any(1), gone)
    assert gone.sum() == 4
    mask_(small_conv, pruning.masks)
    assert (small_conv.conv1(torch.randn(1, 3, 6, 6))[0, gone] == 0).all()
    assert "conv1.bias" not in prune(probe, Recipe(0.5)).masks
    assert "conv1.bias" not in pruning.achieved


def test_layers_that_do_not_fit_stay_dense_and_are_named(small_conv):
    pruning = prune(Probe(small_conv), Recipe(0.5, structure=NofM(2, 4)))
    assert pruning.skipped == {
        "conv1.weight": "needs a multiple of 4 inputs, got 3; "
        "skip this layer or choose another structure"
    }
    assert "conv1.weight" not in pruning.masks


def test_skipping_layers(small_conv):
    pruning = prune(Probe(small_conv), Recipe(0.5, skip=("first", "fc")))
    assert list(pruning.masks) == ["conv2.weight"]
    assert pruning.skipped["fc.weight"] == "left out by the recipe"
    with pytest.raises(SparsityError, match="did you mean 'conv2"):
        prune(Probe(small_conv), Recipe(0.5, skip=("conv3.weight",)))
    with pytest.raises(SparsityError, match="no layer can be pruned"):
        prune(Probe(small_conv), Recipe(0.5, skip=("conv1", "conv2", "fc")))


def test_one_filter_and_depthwise_layers():
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 1, 1), nn.Flatten(), nn.Linear(16, 3)
    )
    out = prune(Probe(model), Recipe(0.9, structure=OutChannel()))
    assert "1 output" in out.skipped["1.weight"]
    assert out.masks["0.weight"].flatten(1).any(1).sum() == 1  # rounding never empties a layer
    inside = prune(Probe(model), Recipe(0.5, structure=InChannel()))
    assert "in 4 groups" in inside.skipped["0.weight"]


def test_a_layer_that_is_never_called_is_refused(batches, small_conv):
    small_conv.spare = nn.Linear(4, 4)
    pruning = prune(Probe(small_conv, batches), Recipe(0.5))
    assert "never used in the forward pass" in pruning.skipped["spare.weight"]


def test_tied_weights_are_pruned_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    pruning = prune(Probe(model), Recipe(0.5))
    assert list(pruning.masks) == ["0.weight"]
    mask_(model, pruning.masks)
    assert (model[1].weight == 0).sum() == 8


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -math.inf])
def test_broken_weights_are_named(value, small_conv):
    small_conv.fc.weight.data[1, 2] = value
    with pytest.raises(NonFiniteError, match=r"fc\.weight: 1 of 360 weights are NaN or infinite"):
        prune(Probe(small_conv), Recipe(0.5))
    assert prune(Probe(small_conv), Recipe(0.5, skip=("fc",))).masks


def test_sparsity_zero_and_one(small_conv, batches):
    probe = Probe(small_conv, batches)
    for kind in OF_WEIGHTS:
        assert all(m.all() for m in prune(probe, recipe(kind, sparsity=0.0)).masks.values())
        emptied = prune(probe, recipe(kind, sparsity=1.0))
        assert emptied.emptied == ["conv1.weight", "conv2.weight", "fc.weight"]


def test_a_model_that_is_already_sparse(small_conv):
    small_conv.fc.weight.data[:, :54] = 0  # 75 % zeros
    pruning = prune(Probe(small_conv), Recipe(0.5))
    removed = small_conv.fc.weight[~pruning.masks["fc.weight"]]
    assert len(removed) == 180
    assert (removed == 0).all()


def test_manual_sparsities(small_conv):
    manual = Recipe(0.5, allocation=Manual((("fc.weight", 0.25),)))
    assert prune(Probe(small_conv), manual).achieved == {
        "conv1.weight": 0.0,
        "conv2.weight": 0.0,
        "fc.weight": 0.25,
    }


def test_pruning_does_not_change_the_model(small_conv, batches):
    before = copy.deepcopy(small_conv.state_dict())
    prune(Probe(small_conv, batches), Recipe(0.9, Random()))
    assert all(torch.equal(before[k], v) for k, v in small_conv.state_dict().items())
