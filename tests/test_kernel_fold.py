"""Batch norms folded into the layers before them: equal outputs, and what must stay as it is."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sample_models.card import load_weights_
from sample_models.samples import SAMPLES
from sparsity_core.kernels import fold_batch_norms_, sparsify
from sparsity_core.weights import prunable


def shaken(model):
    """With batch norms that do something."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


def test_by_eye():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1)).eval()
    nn.init.constant_(model[0].weight, 3.0)
    norm = model[1]
    norm.weight.data[:], norm.bias.data[:] = 2.0, 5.0
    norm.running_mean[:], norm.running_var[:], norm.eps = 7.0, 3.0, 1.0
    assert fold_batch_norms_(model, torch.ones(1, 1)) == ["1"]
    assert isinstance(model[1], nn.Identity)
    assert (model[0].weight.item(), model[0].bias.item()) == (3.0, -2.0)  # 2 (3x - 7) / 2 + 5


@pytest.mark.parametrize("name", ["digits-mobilenet", "digits-resnet"])
def test_a_sample_model_gives_the_same_outputs(name):
    model = SAMPLES[name].build()
    load_weights_(model, name)
    model, x = shaken(model), torch.randn(4, 1, 8, 8)
    norms = [path for path, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    masks = {name: torch.rand(layer.shape) > 0.7 for name, layer in prunable(model).items()}
    plain = sparsify(model, masks, {}, sample=x)
    folded = sparsify(model, masks, {}, sample=x, fold=True)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in plain.modules()) == len(norms) > 3
    expected = plain(x)
    torch.testing.assert_close(folded(x), expected, rtol=1e-4, atol=1e-4 * expected.abs().max())
    weights = dict(folded.model.named_parameters())
    assert all(bool((weights[name][~mask] == 0).all()) for name, mask in masks.items())


def test_packed_layers_have_the_folded_weights(small_conv):
    model = shaken(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()))
    x, masks = torch.randn(2, 3, 6, 6), {"0.weight": torch.rand(8, 3, 3, 3) > 0.5}
    expected = sparsify(model, masks, {}, sample=x)(x)
    found = sparsify(model, masks, "sparse-convolution", sample=x, fold=True)
    assert [choice.kernel for choice in found.layers] == ["sparse-convolution"]
    torch.testing.assert_close(found(x), expected, rtol=1e-4, atol=1e-5)


class Read(nn.Module):
    """A convolution whose outputs, layer or norm somebody else uses as well."""

    def __init__(self, how):
        super().__init__()
        self.conv, self.norm, self.how = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), how
        self.other = nn.Conv2d(2, 2, 1)
        if how == "weight shared":
            self.other.weight = self.conv.weight

    def forward(self, x):
        y = self.conv(x)
        if self.how == "outputs read twice":
            return self.norm(y) + y
        if self.how == "layer used twice":
            return self.norm(y) + self.conv(x)
        if self.how == "norm used twice":
            return self.norm(self.norm(y))
        if self.how == "activation between":
            return self.norm(F.relu(y))
        return self.norm(y) + self.other(x)


@pytest.mark.parametrize(
    "how",
    [
        *("outputs read twice", "layer used twice", "norm used twice", "activation between"),
        "weight shared",
    ],
)
def test_what_others_use_is_not_folded(how):
    model, x = shaken(Read(how)), torch.randn(3, 2, 4, 4)
    before = copy.deepcopy(model)
    assert fold_batch_norms_(model, x) == []
    assert torch.equal(model(x), before(x))
