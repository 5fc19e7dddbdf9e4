"""What every repair promises; biases and batch norms by eye and against one large batch."""

import copy

import pytest
import torch
from torch import nn

from sparsity_core.data import Split
from sparsity_core.errors import NonFiniteError, SparsityError
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
from sparsity_core.rounds import run
from sparsity_core.schedules import Cubic
from sparsity_core.structures import STRUCTURES, Unstructured
from sparsity_core.task import Task
from sparsity_core.weights import mask_, sparsity_of


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
