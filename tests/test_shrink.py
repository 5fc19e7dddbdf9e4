"""Channels that are zero are taken out, by eye and for every wiring; the answers stay."""

import pytest
import torch
from torch import nn

from sparsity_core.compress.shrink import TOLERANCE, shrink
from sparsity_core.errors import SparsityError
from tests.shrink_cases import (
    IMAGES,
    Wired,
    chain,
    concatenated,
    conv,
    depthwise,
    gated,
    residual,
    seeded,
    zeroed,
)


@torch.no_grad()
def same(shrunk, model, sample):
    """Both models say the same, of this sample and of half of it."""
    for x in (sample, sample[: len(sample) // 2]):
        expected = model(x)
        limit = TOLERANCE * max(1, float(expected.abs().max()))
        assert float((shrunk.model(x) - expected).abs().max()) <= limit


def grouped():
    return Wired(
        lambda m, x: m.c(m.b(m.a(x).relu()).relu()).mean((2, 3)),
        a=conv(3, 8, 1),
        b=conv(8, 8, 3, groups=2),
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
