"""Each repair: a case by eye or a worked example, an oracle, and what all of them promise."""

import copy

import pytest
import torch
from torch import nn

from sparsity_core.data import Split
from sparsity_core.errors import NonFiniteError, SparsityError
from sparsity_core.moments import inverse_root, layer_inputs
from sparsity_core.probe import Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe
from sparsity_core.repairs import (
    REPAIRS,
    BatchNorm,
    BiasCorrection,
    Damage,
    LeastSquares,
    SparseGPT,
)
from sparsity_core.repairs.sparsegpt import sweep
from sparsity_core.rounds import run
from sparsity_core.schedules import Cubic
from sparsity_core.structures import STRUCTURES, Unstructured
from sparsity_core.task import Task
from sparsity_core.weights import mask_, prunable, sparsity_of


class Norms(nn.Module):
    """Convolutions without bias before batch norms, dropout, attention, a layer never used."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, stride=2, groups=2, bias=False)
        self.norm2 = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc = nn.Linear(8, 5)
        self.spare = nn.Linear(8, 8)

    def forward(self, x):
        x = torch.relu(self.norm1(self.conv1(x)))
        x = self.drop(torch.relu(self.norm2(self.conv2(x)))).flatten(2).mT
        return self.fc(self.attention(x, x, x)[0].mean(1))


@pytest.fixture
def norms():
    torch.manual_seed(0)
    return Norms().eval()


def damaged(model, batches, structure="unstructured", sparsity=0.5, skip=()):
    """A masked copy of the model, and what was done to it."""
    recipe = Recipe(structure=STRUCTURES.make(structure), sparsity=sparsity, skip=skip)
    masks = prune(Probe(model, batches), recipe).masks
    masked = copy.deepcopy(model)
    mask_(masked, masks)
    return masked, Damage(model, masks, recipe.structure, batches)


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


def test_bias_correction_by_eye():
    # Inputs have mean (2, 1); without the second weight the output's mean falls by 3 * 1.
    model = nn.Linear(2, 1)
    model.weight.data, model.bias.data = torch.tensor([[1.0, 3.0]]), torch.tensor([0.5])
    batches = [(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.zeros(2))]
    masks = {"weight": torch.tensor([[True, False]])}
    masked = copy.deepcopy(model)
    mask_(masked, masks)
    BiasCorrection().repair_(masked, Damage(model, masks, Unstructured(), batches))
    assert masked.bias.tolist() == [3.5]
    assert masked.weight.tolist() == [[1, 0]]


def test_bias_correction_restores_the_mean_of_every_output(small_conv, batches):
    for structure in ("unstructured", "out-channel"):
        masked, damage = damaged(small_conv, batches, structure, 0.5)
        assert BiasCorrection().repair_(masked, damage)[1] == {}
        for name in ("conv1", "conv2", "fc"):
            means = []
            for model in (small_conv, masked):
                outputs = []
                handle = model.get_submodule(name).register_forward_hook(
                    lambda _m, _x, y, outputs=outputs: outputs.append(y.transpose(0, 1).flatten(1))
                )
                with torch.no_grad():
                    for x, _ in batches:
                        model(x)
                handle.remove()
                means.append(torch.cat(outputs, 1).mean(1))
            gone = ~damage.masks.get(f"{name}.bias", torch.ones(len(means[0]), dtype=torch.bool))
            assert torch.allclose(means[1][~gone], means[0][~gone], atol=1e-6)
            assert not masked.get_submodule(name).bias[gone].any()


def test_bias_correction_reports_layers_without_bias(norms, batches):
    masked, damage = damaged(norms, batches)
    _, failed = BiasCorrection().repair_(masked, damage)
    assert list(failed) == ["conv1.weight", "conv2.weight"]
    assert "batch-norm" in failed["conv1.weight"]


def test_batch_norm_against_one_batch_of_all_samples_in_training_mode(norms):
    make = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(50, 3, 6, 6, generator=make), torch.zeros(50).long()
    for size in (50, 7, 1):
        batches = list(zip(inputs.split(size), targets.split(size), strict=True))
        masked, damage = damaged(norms, batches[:1], "out-channel")
        oracle = copy.deepcopy(masked)
        BatchNorm().repair_(masked, Damage(norms, damage.masks, damage.structure, batches))
        for norm in (oracle.norm1, oracle.norm2):
            norm.train()
            norm.momentum = None
            norm.reset_running_stats()
            with torch.no_grad():
                oracle(inputs)
            norm.eval()
        for mine, torchs in ((masked.norm1, oracle.norm1), (masked.norm2, oracle.norm2)):
            assert torch.allclose(mine.running_mean, torchs.running_mean, atol=1e-6)
            assert torch.allclose(mine.running_var, torchs.running_var, atol=1e-6)
        assert not masked.norm1._forward_pre_hooks


def test_batch_norm_reports_a_model_without_any(small_conv, batches):
    masked, damage = damaged(small_conv, batches, "out-channel")
    _, failed = BatchNorm().repair_(masked, damage)
    assert list(failed) == ["conv1.weight", "conv2.weight", "fc.weight"]
    assert "bias-correction" in failed["fc.weight"]


def test_batch_norm_needs_two_values():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    masked, damage = damaged(model, [(torch.ones(1, 2), torch.zeros(1).long())])
    with pytest.raises(SparsityError, match="1: one sample has no variance"):
        BatchNorm().repair_(masked, damage)


@pytest.mark.parametrize("kind", REPAIRS.kinds())
@pytest.mark.parametrize("structure", ["unstructured", "2:4", "out-channel", "in-channel", "2x2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_every_repair_promises(norms, kind, structure, dtype):
    make = torch.Generator().manual_seed(0)
    batches = [(torch.randn(40, 3, 6, 6, generator=make).to(dtype), torch.zeros(40).long())]
    norms.to(dtype)
    masked, damage = damaged(norms, batches, structure)
    before, kinds = copy.deepcopy(masked), {n: type(m) for n, m in masked.named_modules()}
    again = copy.deepcopy(masked)
    masks, failed = REPAIRS.make(kind).repair_(masked, damage)
    assert {n: type(m) for n, m in masked.named_modules()} == kinds
    assert masked.state_dict().keys() == before.state_dict().keys()
    changed = False
    for name, value in masked.state_dict().items():
        assert value.dtype == before.state_dict()[name].dtype
        assert torch.isfinite(value).all()
        changed |= not torch.equal(value, before.state_dict()[name])
        if name in masks:
            assert sparsity_of(masks[name]) == sparsity_of(damage.masks[name])
            assert not value[~masks[name]].any()
        if name in failed:
            assert torch.equal(value, before.state_dict()[name])
    assert changed
    assert not masked.training
    assert "spare.weight" not in damage.masks
    REPAIRS.make(kind).repair_(again, damage)
    assert all(map(torch.equal, again.state_dict().values(), masked.state_dict().values()))


@pytest.mark.parametrize("kind", ["sparsegpt", "least-squares", "bias-correction"])
def test_layers_never_used_are_reported(norms, batches, kind):
    masked, damage = damaged(norms, batches)
    damage.masks["spare.weight"] = torch.ones(8, 8, dtype=torch.bool)
    assert "never used" in REPAIRS.make(kind).repair_(masked, damage)[1]["spare.weight"]


@pytest.mark.parametrize("kind", ["sparsegpt", "least-squares"])
def test_singular_moments_are_named_and_damping_helps(batches, kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 5)).eval()  # 10 samples
    masked, damage = damaged(model, batches)
    with pytest.raises(SparsityError, match=r"1.weight: .* damping above 0"):
        REPAIRS.make(kind, damping=0.0).repair_(masked, damage)
    REPAIRS.make(kind, damping=0.01).repair_(masked, damage)
    assert torch.isfinite(masked[1].weight).all()


@pytest.mark.parametrize("kind", REPAIRS.kinds())
def test_samples_that_are_not_finite_are_named(norms, kind):
    batches = [(torch.full((4, 3, 6, 6), torch.nan), torch.zeros(4).long())]
    damage = Damage(norms, {"conv1.weight": norms.conv1.weight > 0}, Unstructured(), batches)
    if kind == "bias-correction":
        damage = Damage(norms, {"fc.weight": norms.fc.weight > 0}, Unstructured(), batches)
    masked = copy.deepcopy(norms)
    mask_(masked, damage.masks)
    with pytest.raises(NonFiniteError, match=r"(conv1.weight|fc.weight|norm1): "):
        REPAIRS.make(kind).repair_(masked, damage)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sparsegpt", {"block": 0}),
        ("sparsegpt", {"damping": -1}),
        ("least-squares", {"damping": float("nan")}),
    ],
)
def test_options_out_of_range_are_refused(kind, options):
    with pytest.raises(SparsityError, match=kind):
        REPAIRS.make(kind, **options)


def test_a_repair_needs_samples(small_conv):
    with pytest.raises(SparsityError, match="needs samples"):
        Damage(small_conv, {}, Unstructured(), [])


def test_repairs_follow_each_other_in_a_recipe(small_conv, batches):
    split = Split(*batches[0])
    task = Task("small", small_conv, split, split, split)
    recipe = Recipe(
        schedule=Cubic(2), sparsity=0.8, repair=(SparseGPT(), LeastSquares(), BiasCorrection())
    )
    *_, last = run(task, recipe)
    assert sum(map(sparsity_of, last.pruning.masks.values())) == pytest.approx(2.4, abs=0.01)
    assert last.unrepaired == {}
    assert all(
        not last.model.get_parameter(name)[~mask].any() for name, mask in last.pruning.masks.items()
    )
