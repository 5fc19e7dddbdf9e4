"""Whole models are shrunk: the samples, attention, torch's layers, against torch-pruning."""

import pytest
import torch
import torch_pruning
from torch import nn

from sparsity_core.compress.coupling import couple
from sparsity_core.compress.resize import resize_
from sparsity_core.compress.shrink import shrink
from sparsity_core.cost import cost
from sparsity_core.errors import SparsityError
from sparsity_core.probe import Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import load_task
from tests.shrink_cases import (
    IMAGES,
    chain,
    concatenated,
    conv,
    depthwise,
    gated,
    residual,
    seeded,
    zeroed,
)

SAMPLES = ("digits-mlp", "digits-lenet", "digits-resnet", "digits-mobilenet", "digits-vit")


def test_torch_attention_says_why_heads_stay():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    model, x = seeded(Model), torch.randn(4, 5, 8)
    mask = torch.ones(24, 8, dtype=torch.bool)
    mask[16:20] = False
    masks = {"attention.in_proj_weight": mask, "attention.in_proj_bias": mask[:, 0]}
    found = shrink(model, x, masks)
    assert "1 of its heads are idle and stay: nn.MultiheadAttention" in found.kept["attention"]


@pytest.mark.parametrize("first", [True, False], ids=["norm first", "norm last"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_hidden_units_of_torchs_transformer_layers_go(first, activation):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(
                8, 2, 12, activation=activation, batch_first=True, norm_first=first
            )
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.encoder(x).mean(1))

    model, x = seeded(Model), torch.randn(4, 5, 8)
    rows, columns = torch.ones(12, 8, dtype=torch.bool), torch.ones(8, 12, dtype=torch.bool)
    rows[:5] = False  # nothing makes these five; their biases stay
    columns[:, 4:7] = False  # and nobody reads these three, of which one is among the five
    layer = "encoder.layers.0"
    masks = {f"{layer}.linear1.weight": rows, f"{layer}.linear2.weight": columns}
    masks["encoder.layers.1.linear1.weight"] = torch.zeros(12, 8, dtype=torch.bool)  # all
    found = shrink(model, x, masks)
    assert found.difference <= 1e-5
    assert found.sizes[f"{layer}.linear1.weight"] == (5, 8)
    assert found.sizes[f"{layer}.linear2.weight"] == (8, 5)
    assert found.sizes["encoder.layers.1.linear1.weight"] == (1, 8)
    left = found.masks[f"{layer}.linear2.weight"]
    assert left.any(0).nonzero().flatten().tolist() == [7, 8, 9, 10, 11]
    again = seeded(Model)
    resize_(again, found.model.state_dict(), found.settings)
    assert torch.equal(again.eval()(x), found.model(x))


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_models_with_whole_channels(name):
    task = load_task(name)
    few = task.train.take(128)
    probe = Probe(task.model, [(few.inputs, few.targets)], task.loss)
    sample = task.test.take(12).inputs
    kinds = ("out-channel", "attention-head") if name == "digits-vit" else ("out-channel",)
    for kind in kinds:
        for sparsity in (0.3, 0.6, 0.9):
            recipe = Recipe(sparsity, structure=STRUCTURES.make(kind))
            pruning = prune(probe, recipe)
            found = shrink(task.model, sample, pruning.masks)
            assert found.difference <= 1e-5
            # What is counted from masks alone is what the smaller model has, layer by layer.
            counted = cost(task.model, sample[:1], found.masks)
            real = cost(found.model, sample[:1])
            for before, after in zip(counted.layers, real.layers, strict=True):
                assert (after.parameters, after.macs) == (before.nonzeros, before.effective_macs)
            assert real.parameters < cost(task.model, sample[:1]).parameters


def test_heads_are_taken_out_where_the_code_allows_it():
    task = load_task("digits-vit")
    few = task.train.take(64)
    probe = Probe(task.model, [(few.inputs, few.targets)], task.loss)
    recipe = Recipe(0.5, structure=STRUCTURES.make("attention-head"))
    found = shrink(task.model, few.inputs, prune(probe, recipe).masks)
    assert found.settings == {"layers.0.attention.heads": 2, "layers.1.attention.heads": 2}
    assert found.sizes["layers.0.attention.qkv.weight"] == (48, 32)
    assert found.sizes["layers.0.attention.out.weight"] == (32, 16)
    assert found.kept == {}


@pytest.mark.parametrize("build", [chain, residual, concatenated, depthwise, gated])
def test_channels_go_together_as_torch_pruning_has_it(build):
    """The oracle for coupling: its dependency graph, channel by channel."""
    model = seeded(build)
    if build is depthwise:  # torch-pruning takes as many outputs as groups
        model.b, model.n, model.c = conv(6, 6, 3, groups=6), nn.BatchNorm2d(6), conv(6, 4, 1)
        model.eval()
    ours = couple(model, IMAGES)
    graph = torch_pruning.DependencyGraph().build_dependency(model, IMAGES)
    paths = {module: path for path, module in model.named_modules()}
    ends = set(ours.producers()) - {"c", "fc"}
    for path in ends & {mix.path for mix in ours.mixes}:
        module = model.get_submodule(path)
        for channel in range(len(module.weight)):
            group = graph.get_pruning_group(
                module, torch_pruning.prune_conv_out_channels, [channel]
            )
            theirs = set()
            for dependency, places in group:
                kind = "in" if "in_channels" in str(dependency.handler) else "out"
                target = paths.get(dependency.target.module)
                if target is not None:
                    theirs |= {(target, kind, place) for place in places}
            name = ours.classes.of(ours.producers()[path][channel])
            mine = {
                (p, "out", i)
                for p, ids in ours.producers().items()
                for i, c in enumerate(ids)
                if ours.classes.of(c) == name
            }
            mine |= {
                (mix.path, "in", i)
                for mix in ours.mixes
                for i, c in enumerate(mix.inputs.ids)
                if ours.classes.of(c) == name
            }
            assert {(p, k if p not in ours.bound else "out", i) for p, k, i in theirs} == mine


def test_a_shrunk_state_fits_the_architecture_again():
    model = zeroed(seeded(depthwise), {"b": [2, 3, 9]})
    found = shrink(model, IMAGES)
    assert found.settings == {"b.groups": 5}
    fresh = seeded(depthwise)
    resize_(fresh, found.model.state_dict(), found.settings)
    assert torch.equal(fresh(IMAGES), found.model(IMAGES))
    assert (fresh.b.groups, fresh.a.out_channels, fresh.n.num_features) == (5, 5, 10)
    with pytest.raises(SparsityError, match="unknown tensor"):
        resize_(fresh, fresh.state_dict() | {"d.weight": torch.ones(1)})
    with pytest.raises(SparsityError, match="lack it"):
        resize_(fresh, {})
    with pytest.raises(SparsityError, match="unknown setting"):
        resize_(fresh, fresh.state_dict(), {"b.stride": 2})
