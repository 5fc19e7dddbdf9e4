"""Every scorer with every structure and every allocation.

All three together on digits-lenet and on a model of every kind of layer, in every type of number;
every two of them on each of the other sample models, small and large.
"""

import itertools

import pytest
import torch
from torch import nn

from sample_models.card import load_weights_
from sample_models.samples import SAMPLES as SAMPLE_MODELS
from sparsity_core.allocations import ALLOCATIONS, Manual, Sensitivity
from sparsity_core.errors import SparsityError
from sparsity_core.probe import Probe
from sparsity_core.prune import prune, refusals
from sparsity_core.recipe import Recipe
from sparsity_core.scorers import SCORERS
from sparsity_core.selection import count_pruned
from sparsity_core.structures import STRUCTURES
from tests.test_sample_models import IMAGE

SAMPLES = 4
# As good for what a mask may do, and quicker than the usual 50 and 20 steps and 16 draws.
FEW = {
    "movement": {"steps": 2},
    "integrated-gradients": {"steps": 4},
    "conductance": {"steps": 4},
    "obd": {"draws": 2},
}
LEVELS = (0.3, 0.6)
# Why a combination may be refused; anything else is a fault.
REASONS = ("no layer can be pruned", "always removes", "keeps a fifth")
PAIRS = list(itertools.product(STRUCTURES, ALLOCATIONS))


def some_pairs(scorer):
    """Each structure and each allocation once: over all scorers every two of the three meet."""
    turn, structures = SCORERS.kinds().index(scorer), STRUCTURES.kinds()
    return [
        (structures[(turn + i) % len(structures)], allocation)
        for i, allocation in enumerate(ALLOCATIONS)
    ]


class Mixed(nn.Module):
    """A convolution with a norm, a depthwise one, attention, a tied layer, one never called."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.idle = nn.Linear(8, 8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.depthwise(self.relu(self.norm(self.conv(x))))
        x = x.flatten(2).transpose(1, 2)
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.fc(self.second(torch.tanh(self.first(x))).mean(1))


def allocation_of(kind, names):
    if kind == "manual":
        return Manual(tuple((name, 0.5) for name in names[::2]))
    if kind == "sensitivity":
        return Sensitivity(tuple((n, ((0.5, 0.1 + i), (1.0, 9.0))) for i, n in enumerate(names)))
    return ALLOCATIONS.make(kind)


def check(probe, scorer, structure, allocation):
    """The promises of one combination at two sparsities."""
    made = STRUCTURES.make(structure)
    refused = refusals(probe, scorer, made)
    names = [name for name in probe.layers if name not in refused]
    levels = LEVELS if made.fixed_sparsity is None else (0.0, made.fixed_sparsity)
    before = None
    for sparsity in levels:
        recipe = Recipe(sparsity, scorer, made, allocation_of(allocation, names))
        try:
            pruning = prune(probe, recipe)
        except SparsityError as error:
            if not any(reason in str(error) for reason in REASONS):
                raise
            continue
        assert pruning.sparsities.keys() | pruning.skipped.keys() == probe.layers.keys()
        assert not pruning.sparsities.keys() & pruning.skipped.keys()
        check_budget(probe, recipe, pruning)
        for name, mask in pruning.masks.items():
            assert mask.dtype == torch.bool
            if before and name in before:
                assert not (mask & ~before[name]).any(), (name, sparsity)
        before = pruning.masks
    return before


def check_budget(probe, recipe, pruning):
    """Whole units nearest to what each layer was to give; together the target or just below."""
    asked, slack, gone, total = 0.0, 0.0, 0, 0
    for name, sparsity in pruning.sparsities.items():
        layer, units = probe.layers[name], pruning.units[name]
        rows = units.shape[0] if recipe.structure.within_row and units.dim() > 1 else 1
        count = units.numel() // rows
        pruned = int((~pruning.masks[name]).sum())
        if recipe.structure.fixed_sparsity is None:
            assert pruned == count_pruned(count, sparsity) * layer.size // count
            # Half a unit of each row, or all of it where it is the last, which stays.
            slack += layer.size / count * (1 if pruned == layer.size - layer.size // count else 0.5)
        else:
            assert pruned == round(sparsity * layer.size)
        weight = probe.macs[name] if recipe.allocation.budget == "macs" else layer.size
        asked += sparsity * weight
        total += weight
        gone += pruned
    if recipe.allocation.budget is not None:
        largest = max(
            (probe.macs[n] if recipe.allocation.budget == "macs" else probe.layers[n].size)
            / pruning.units[n].numel()
            for n in pruning.sparsities
        )
        # Rankings stop before the unit that would pass the budget; shapes meet it exactly.
        assert recipe.sparsity * total - largest - 0.5 <= asked <= recipe.sparsity * total + 0.5
    if recipe.allocation.budget != "macs":
        assert abs(gone - asked) <= slack + 1e-6


def check_all(model, batches, loss, kind, pairs=PAIRS):
    scorer = SCORERS.make(kind, **FEW.get(kind, {}))
    probe = Probe(model, batches, loss)
    last = {}
    for structure, allocation in pairs:
        found = check(probe, scorer, structure, allocation)
        if found:
            last[structure] = found
    again = Probe(model, batches, loss)
    for structure, masks in last.items():
        allocation = allocation_of("uniform", [])
        made = STRUCTURES.make(structure)
        recipe = Recipe(made.fixed_sparsity or 0.6, scorer, made, allocation)
        one, two = prune(probe, recipe).masks, prune(again, recipe).masks
        assert all(torch.equal(one[name], two[name]) for name in one)
        copy = Probe(model, masks=masks).model
        with torch.no_grad():
            assert torch.isfinite(copy(batches[0][0])).all()


@pytest.mark.parametrize("scorer", SCORERS.kinds())
@pytest.mark.parametrize("name", SAMPLE_MODELS)
def test_combinations_on_the_sample_models(name, scorer):
    model = SAMPLE_MODELS[name].build().eval()
    load_weights_(model, name)
    make = torch.Generator().manual_seed(0)
    # Noise: which samples they are decides no promise, and large data takes a while to read.
    inputs = torch.randn(SAMPLES, *IMAGE[SAMPLE_MODELS[name].data], generator=make)
    batches = [(inputs, torch.randint(10, (SAMPLES,), generator=make))]
    pairs = PAIRS if name == "digits-lenet" else some_pairs(scorer)
    check_all(model, batches, nn.functional.cross_entropy, scorer, pairs)


def test_no_two_choices_are_left_out_on_any_model():
    met = [(scorer, *pair) for scorer in SCORERS for pair in some_pairs(scorer)]
    for one, other in ((SCORERS, STRUCTURES), (SCORERS, ALLOCATIONS), (STRUCTURES, ALLOCATIONS)):
        pairs = {(a, b) for triple in met for a in triple for b in triple}
        assert set(itertools.product(one, other)) <= pairs


# Without a GPU test_far_device shows that nothing there mixes devices.
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scorer", SCORERS.kinds())
def test_every_combination_on_every_kind_of_layer_and_type(scorer, dtype, device):
    torch.manual_seed(0)
    model = Mixed().to(device, dtype).eval()
    batches = [
        (torch.randn(n, 3, 6, 6).to(device, dtype), torch.randint(4, (n,)).to(device))
        for n in (5, 2)
    ]
    check_all(model, batches, torch.nn.functional.cross_entropy, scorer)
    skipped = prune(Probe(model, batches), Recipe(0.5)).skipped
    assert list(skipped) == ["idle.weight"]
