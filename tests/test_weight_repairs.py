"""SparseGPT and least squares against worked examples and slow solutions."""

import copy

import pytest
import torch
from torch import nn

from sparsity_core.moments import inverse_root, layer_inputs
from sparsity_core.probe import Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe
from sparsity_core.repairs import Damage, LeastSquares, SparseGPT
from sparsity_core.repairs.sparsegpt import sweep
from sparsity_core.structures import STRUCTURES, Unstructured
from sparsity_core.weights import mask_, prunable
from tests.test_repairs import damaged


def linear(weight, dtype=torch.float64):
    layer = nn.Linear(len(weight[0]), len(weight), bias=False, dtype=dtype)
    layer.weight.data = torch.tensor(weight, dtype=dtype)
    return nn.Sequential(layer)


@pytest.fixture
def example(vectors):
    """The worked example of SparseGPT: a linear model, its samples, and what is expected."""
    given = vectors["sparsegpt_2x4"]
    inputs = torch.tensor(given["X"], dtype=torch.float64)
    expected = {
        name: torch.tensor(value, dtype=torch.float64)
        for name, value in given.items()
        if isinstance(value, list | float)
    }
    return linear(given["W"]), [(inputs, torch.zeros(len(inputs)))], expected


def output_error(model, weight, batches):
    """Mean squared change of a linear model's outputs, summed over outputs."""
    change = weight - model[0].weight.detach()
    return sum((x @ change.T).square().sum() for x, _ in batches) / sum(len(x) for x, _ in batches)


def test_sparsegpt_against_the_worked_example(example):
    model, batches, expected = example
    masked, damage = damaged(model, batches)
    masks, failed = SparseGPT(damping=0.0).repair_(masked, damage)
    assert failed == {}
    assert masks["0.weight"].int().tolist() == expected["mask_keep"].int().tolist()
    assert torch.allclose(masked[0].weight, expected["W_sparsegpt"], atol=1e-9)
    error = output_error(model, masked[0].weight, batches)
    assert error.item() == pytest.approx(expected["err_sparsegpt"].item(), abs=1e-9)


def test_first_pruned_column_is_exact_optimal_brain_surgeon(example):
    model, batches, expected = example
    masks = {"0.weight": torch.tensor([[False, True, True, True]] * 2)}
    masked = copy.deepcopy(model)
    damage = Damage(model, masks, Unstructured(), batches)
    SparseGPT(damping=0.0, choose=False).repair_(masked, damage)
    assert torch.allclose(masked[0].weight, expected["prune_col0_OBS"], atol=1e-9)


def test_least_squares_against_the_worked_example(example):
    model, batches, expected = example
    masks = {"0.weight": expected["mask_keep"].bool()}
    masked = copy.deepcopy(model)
    mask_(masked, masks)
    LeastSquares(damping=0.0).repair_(masked, Damage(model, masks, Unstructured(), batches))
    assert torch.allclose(masked[0].weight, expected["W_exact_same_mask"], atol=1e-9)


@pytest.mark.parametrize("block", [1, 3, 8, 128])
def test_layer_error_is_the_sum_of_the_squares_of_its_own_errors(block):
    make = torch.Generator().manual_seed(0)
    x = torch.randn(60, 20, generator=make).double() @ torch.randn(20, 20, generator=make).double()
    weight = torch.randn(7, 20, generator=make).double()
    kept = torch.rand(7, 20, generator=make) > 0.4
    root = inverse_root("fc", x.T @ x / 60, damping=0)
    swept = sweep(weight, root, lambda _, columns: kept[:, columns], block, block)
    exact = (x @ (swept.weight - weight).T).square().sum().item() / 60
    assert swept.error == pytest.approx(exact, rel=1e-9)
    whole = sweep(weight, root, lambda _, columns: kept[:, columns], 20, 20)
    assert torch.allclose(swept.weight, whole.weight, atol=1e-9)  # lazy updates change nothing


@pytest.mark.parametrize("block", [1, 7, 16, 128])
def test_sparsegpt_chooses_exactly_as_many_weights(small_conv, batches, block):
    masked, damage = damaged(small_conv, batches, sparsity=0.37)
    masks, _ = SparseGPT(block=block).repair_(masked, damage)
    for name, mask in masks.items():
        assert mask.sum() == damage.masks[name].sum()
        assert not torch.equal(mask, damage.masks[name])  # by other scores than the size
        assert not masked.get_parameter(name)[~mask].any()
        assert masked.get_parameter(name)[mask].all()


@pytest.mark.parametrize("structure", ["2:4", "1:4", "3:8"])
def test_sparsegpt_chooses_within_each_group_of_inputs(batches, structure):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3)).eval()
    chosen = STRUCTURES.make(structure)
    masked, damage = damaged(model, batches, structure, chosen.fixed_sparsity, skip=("0.weight",))
    mask = SparseGPT(block=10).repair_(masked, damage)[0]["2.weight"]
    assert (chosen.units(mask.int()).sum(1) == chosen.n).all()
    assert not torch.equal(mask, damage.masks["2.weight"])
    assert torch.equal(masked[2].weight != 0, mask)
    assert torch.equal(masked[0].weight, model[0].weight)  # it has no mask


def test_sparsegpt_keeps_what_earlier_rounds_took(batches):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 16), nn.ReLU(), nn.Linear(16, 5)).eval()
    taken, before = {}, model
    for sparsity in (0.2, 0.21, 0.5, 0.9, 0.95):
        recipe = Recipe(sparsity=sparsity)
        given = prune(Probe(before, batches, masks=taken), recipe).masks
        masked = copy.deepcopy(before)
        mask_(masked, given)
        damage = Damage(before, given, recipe.structure, batches)
        masks, _ = SparseGPT(block=16).repair_(masked, damage)
        for name, mask in masks.items():
            assert mask.sum() == given[name].sum()
            assert not (mask & ~taken.get(name, mask)).any()
        taken, before = masks, masked


def test_sparsegpt_without_choice_and_other_structures_keep_the_mask(small_conv, batches):
    for repair, structure in ((SparseGPT(choose=False), "unstructured"), (SparseGPT(), "kernel")):
        masked, damage = damaged(small_conv, batches, structure, skip=("fc",))
        before = copy.deepcopy(masked)
        masks, _ = repair.repair_(masked, damage)
        for name, mask in damage.masks.items():
            assert torch.equal(masks[name], mask)
            changed = masked.get_parameter(name)[mask] != before.get_parameter(name)[mask]
            assert changed.any()


def test_sparsegpt_takes_the_weights_of_inputs_that_are_always_zero():
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)).double()
    x[:, 1] = 0
    model, batches = linear([[0.5, 9.0, 0.6, 0.7], [0.6, 9.0, 0.7, 0.5]]), [(x, torch.zeros(40))]
    masked, damage = damaged(model, batches, sparsity=0.25)
    masks, _ = SparseGPT().repair_(masked, damage)
    assert (~masks["0.weight"]).nonzero().tolist() == [[0, 1], [1, 1]]
    assert torch.equal(masked[0].weight, model[0].weight.where(masks["0.weight"], 0))


def explicit(model, dense, name, batches):
    """The inputs of a layer in the model, and the outputs (without bias) that the dense gave."""
    x = torch.cat([x for _, x in layer_inputs(model, name, batches)]).double()
    d = torch.cat([d for _, d in layer_inputs(dense, name, batches)]).double()
    return x, d @ dense.get_parameter(name).flatten(1).double().T


@pytest.mark.parametrize("structure", ["unstructured", "in-channel", "out-channel"])
@pytest.mark.parametrize("bias", [True, False])
def test_least_squares_against_lstsq(structure, bias):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=bias), nn.ReLU(), nn.Conv2d(6, 4, 3, bias=bias)
    ).double()
    inputs = torch.randn(40, 3, 7, 7, dtype=torch.float64)
    batches = [(inputs, torch.zeros(40))]
    masked, damage = damaged(model, batches, structure, 0.5)
    LeastSquares(damping=0.0).repair_(masked, damage)
    for name in prunable(model):
        # Inputs of channels that are gone no longer vary: leave out their weights.
        x, y = explicit(masked, model, name, batches)
        weight, mask = masked.get_parameter(name).flatten(1), damage.masks[name].flatten(1)
        if bias:
            shift = masked.get_parameter(name.replace("weight", "bias")) - model.get_parameter(
                name.replace("weight", "bias")
            )
        for row in range(len(weight)):
            keep = mask[row] & (x.std(0) > 1e-9)
            if not keep.any():
                continue
            columns = torch.cat([x[:, keep], torch.ones(len(x), 1)], 1) if bias else x[:, keep]
            found = torch.linalg.lstsq(columns, y[:, row]).solution
            n = int(keep.sum())
            assert torch.allclose(weight[row][keep], found[:n], atol=1e-7)
            if bias:
                constant = weight[row][mask[row] & ~keep] @ x[0, mask[row] & ~keep]
                assert torch.allclose(shift[row] + constant, found[n], atol=1e-7)


@pytest.mark.parametrize("damping", [0.0001, 0.01, 1.0])
def test_least_squares_never_does_worse_than_the_masked_weights(small_conv, batches, damping):
    for structure in ("unstructured", "out-channel", "in-channel"):
        masked, damage = damaged(small_conv, batches, structure, 0.5)
        mended = copy.deepcopy(masked)
        LeastSquares(damping=damping).repair_(mended, damage)
        for name in ("conv1", "fc"):
            x, y = explicit(mended, small_conv, f"{name}.weight", batches)
            error = {}
            for model in (masked, mended):
                layer = model.get_submodule(name)
                shift = layer.bias - small_conv.get_submodule(name).bias
                alive = damage.masks.get(f"{name}.bias", torch.ones_like(shift)) != 0
                change = x @ layer.weight.flatten(1).double().T + shift - y
                error[model] = change[:, alive].square().mean().item()
            assert error[mended] <= error[masked]
