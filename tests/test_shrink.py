"""Shrinking: zeroed channels are gone, outputs are as they were, and what stays says why."""

import copy

import pytest
import torch
import torch_pruning
from torch import Tensor, nn

from sparsity_core.compress.coupling import couple
from sparsity_core.compress.resize import resize_
from sparsity_core.compress.shrink import TOLERANCE, shrink
from sparsity_core.cost import cost
from sparsity_core.errors import SparsityError
from sparsity_core.probe import Probe
from sparsity_core.prune import prune
from sparsity_core.recipe import Recipe
from sparsity_core.structures import STRUCTURES
from sparsity_core.task import load_task

SAMPLES = ("digits-mlp", "digits-lenet", "digits-resnet", "digits-mobilenet", "digits-vit")


def seeded(build):
    torch.manual_seed(0)
    model = build().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # as training leaves it: shifts and scales
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def zeroed(model, outputs):
    """The model with these outputs of these layers zeroed, biases too: {path: [outputs]}."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for path, rows in outputs.items():
            module = model.get_submodule(path)
            module.weight[rows] = 0
            if module.bias is not None:
                module.bias[rows] = 0
    return model


@torch.no_grad()
def same(shrunk, model, sample):
    """Both models say the same, of this sample and of half of it."""
    for x in (sample, sample[: len(sample) // 2]):
        expected = model(x)
        limit = TOLERANCE * max(1, float(expected.abs().max()))
        assert float((shrunk.model(x) - expected).abs().max()) <= limit


IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(3))


class Wired(nn.Module):
    """Modules by name, and what to do with them: `wiring(self, x)`."""

    def __init__(self, wiring, **modules) -> None:
        super().__init__()
        self.wiring = wiring
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.wiring(self, x)


def conv(*a, **k):
    return nn.Conv2d(*a, **k)


def chain():
    return Wired(
        lambda m, x: m.fc(m.b(m.a(x).relu()).relu().flatten(1)),
        a=conv(3, 6, 3),
        b=conv(6, 5, 3),
        fc=nn.Linear(5 * 16, 4),
    )


def residual():
    return Wired(
        lambda m, x: m.fc((m.n2(m.b(m.n1(m.a(x)).relu())) + m.side(x)).relu().mean((2, 3))),
        a=conv(3, 6, 3, padding=1, bias=False),
        n1=nn.BatchNorm2d(6),
        b=conv(6, 6, 1, bias=False),
        n2=nn.BatchNorm2d(6),
        side=conv(3, 6, 1),
        fc=nn.Linear(6, 4),
    )


def concatenated():
    return Wired(
        lambda m, x: m.c(torch.cat([m.a(x).relu(), m.b(x)], 1)).amax((2, 3)),
        a=conv(3, 4, 1),
        b=conv(3, 5, 1),
        c=conv(9, 4, 3, padding=1),
    )


def depthwise():
    return Wired(
        lambda m, x: m.c(m.n(m.b(m.a(x).relu())).relu()).mean((2, 3)),
        a=conv(3, 6, 1),
        b=conv(6, 12, 3, padding=1, groups=6),
        n=nn.BatchNorm2d(12),
        c=conv(12, 4, 1),
    )


def grouped():
    return Wired(
        lambda m, x: m.c(m.b(m.a(x).relu()).relu()).mean((2, 3)),
        a=conv(3, 8, 1),
        b=conv(8, 8, 3, groups=2),
        c=conv(8, 4, 1),
    )


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = conv(8, 4, 1), conv(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.down(x.mean((2, 3), keepdim=True)).relu()
        return x * self.up(squeezed).sigmoid()


def gated():
    """Squeeze and excitation."""
    return Wired(
        lambda m, x: m.c(m.gate(m.a(x).relu())).mean((2, 3)),
        gate=Gate(),
        a=conv(3, 8, 1),
        c=conv(8, 4, 1),
    )


def test_by_eye():
    """relu(2x + 1) and relu(0x + 3), then 5a + 7b + 1: the second is 21 for every x."""
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[2.0], [0.0]]))
        model[0].bias.copy_(torch.tensor([1.0, 3.0]))
        model[2].weight.copy_(torch.tensor([[5.0, 7.0]]))
        model[2].bias.fill_(1.0)
    found = shrink(model, torch.tensor([[1.0], [-4.0]]))
    assert found.sizes == {"0.weight": (1, 1), "0.bias": (1,), "2.weight": (1, 1), "2.bias": (1,)}
    assert found.model[2].bias.item() == 22
    assert found.model(torch.tensor([[1.0]])).item() == 37
    assert found.masks["0.weight"].tolist() == [[True], [False]]
    assert found.masks["2.weight"].tolist() == [[True, False]]
    assert found.kept == {}
    assert model[0].weight.shape == (2, 1)  # the given model is as it was


@pytest.mark.parametrize(
    ("build", "outputs", "sizes"),
    [
        (chain, {"a": [0, 3], "b": [4]}, {"a": (4, 3), "b": (4, 4), "fc": (4, 64)}),
        (residual, {"b": [1, 2], "side": [2, 5]}, {"b": (5, 6), "side": (5, 3), "fc": (4, 5)}),
        (concatenated, {"a": [1], "b": [0, 4]}, {"a": (3, 3), "b": (3, 3), "c": (4, 6)}),
        (depthwise, {"b": [2, 3, 9]}, {"a": (5, 3), "b": (10, 1), "c": (4, 10)}),
        (depthwise, {"c": [0, 1]}, {"a": (6, 3), "b": (12, 1), "c": (4, 12)}),
        (grouped, {"a": [0, 1, 4]}, {"a": (6, 3), "b": (8, 3), "c": (4, 8)}),
        (grouped, {"b": [0, 1, 2, 3]}, {"a": (4, 3), "b": (4, 4), "c": (4, 4)}),
        (gated, {"a": [0, 7], "gate.down": [1]}, {"gate.down": (3, 6), "gate.up": (6, 3)}),
    ],
    ids="chain residual concatenated depthwise untouched grouped whole-group gated".split(),
)  # fmt: skip
def test_zeroed_channels_are_gone(build, outputs, sizes):
    model = zeroed(seeded(build), outputs)
    found = shrink(model, IMAGES)
    same(found, model, IMAGES)
    shapes = {name: found.model.get_submodule(name).weight.shape[:2] for name in sizes}
    assert shapes == {name: torch.Size(size) for name, size in sizes.items()}


def test_a_residual_channel_stays_while_one_branch_makes_it():
    model = zeroed(seeded(residual), {"b": [1, 2], "side": [2, 5]})
    found = shrink(model, IMAGES)
    assert found.kept["b"] == "1 of its zeroed outputs: varies and is read by fc"
    assert found.kept["side"] == "1 of its zeroed outputs: varies and is read by fc"


def test_behind_a_batch_norm_one_channel_carries_the_constants_to_a_padded_convolution():
    model = seeded(
        lambda: nn.Sequential(
            conv(3, 8, 3, bias=False), nn.BatchNorm2d(8), conv(8, 4, 3, padding=1), nn.Flatten()
        )
    )
    model = zeroed(model, {"0": [1, 4, 6]})
    found = shrink(model, IMAGES)
    same(found, model, IMAGES)
    assert found.model[2].weight.shape[:2] == (4, 6)  # two of three are gone
    assert "carries the other constant channels" in found.kept["0"]
    with torch.no_grad():  # without a shift nothing has to be carried
        for tensor in (model[1].bias, model[1].running_mean):
            tensor[[1, 4, 6]] = 0
    found = shrink(model, IMAGES)
    same(found, model, IMAGES)
    assert found.model[2].weight.shape[:2] == (4, 5)
    assert "0" not in found.kept


def test_a_constant_that_meets_padding_in_a_depthwise_convolution_stays():
    model = zeroed(seeded(depthwise), {"a": [0]})
    with torch.no_grad():
        model.a.bias[0] = 1.0  # relu(1) at every place, but less at the borders of b
    found = shrink(model, IMAGES)
    assert found.model.a.weight.shape[0] == 6
    assert found.kept["a"] == "1 of its zeroed outputs: varies and is read by c"


def test_what_is_not_read_goes_too():
    model = seeded(chain)
    with torch.no_grad():
        model.fc.weight.unflatten(1, (5, 16))[:, 2] = 0  # nobody reads the third output of b
    found = shrink(model, IMAGES)
    same(found, model, IMAGES)
    assert found.model.b.weight.shape[0] == 4


@pytest.mark.parametrize("padding", [0, 1])
def test_a_layer_keeps_its_last_output(padding):
    """The branch is dead, the shortcut lives on."""
    model = seeded(
        lambda: Wired(
            lambda m, x: (m.b(m.n(m.a(x)).relu()) + m.side(x)).flatten(1),
            a=conv(3, 4, 1),
            n=nn.BatchNorm2d(4),
            b=conv(4, 2, 3, padding=padding),
            side=conv(3, 2, 3, padding=padding),
        )
    )
    model = zeroed(model, {"a": [0, 1, 2, 3]})
    found = shrink(model, IMAGES)
    same(found, model, IMAGES)
    assert found.model.a.weight.shape[0] == 1


def test_one_filter_is_no_special_case():
    model = seeded(lambda: nn.Sequential(conv(3, 1, 3), nn.ReLU(), conv(1, 2, 3), nn.Flatten()))
    found = shrink(model, IMAGES)
    assert found.sizes == {name: tuple(p.shape) for name, p in model.named_parameters()}


def test_a_model_without_its_input_is_refused():
    model = seeded(chain)
    with pytest.raises(SparsityError, match="nothing of the input reaches the output"):
        shrink(zeroed(model, {"a": list(range(6))}), IMAGES)


def test_code_that_names_the_width_keeps_it():
    model = seeded(
        lambda: Wired(
            lambda m, x: m.fc(m.a(x).view(-1, 6 * 36)), a=conv(3, 6, 3), fc=nn.Linear(6 * 36, 4)
        )
    )
    found = shrink(zeroed(model, {"a": [0]}), IMAGES)
    assert found.model.a.weight.shape[0] == 6
    assert "whose code says 216 where channels lie; write -1" in found.kept["a"]


def test_tied_layers_stay():
    def build():
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
        model[2].weight = model[0].weight
        return model

    found = shrink(zeroed(seeded(build), {"0": [1]}), torch.randn(6, 4))
    assert found.model[0].weight.shape == (4, 4)
    assert "shared with another layer" in found.kept["0"]


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
