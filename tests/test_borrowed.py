"""A model over another's weights: masked for a while, and the other never knows."""

import copy

import pytest
import torch
from torch import nn

from sparsity_core.borrowed import Borrowed
from sparsity_core.copied import copied
from sparsity_core.weights import mask_, prunable

MASK = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)


class Net(nn.Module):
    """A weight under two names, buffers, and a layer that keeps a list of its weights."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.tied = nn.Linear(4, 3)
        self.tied.weight = self.fc.weight
        self.memory = nn.LSTM(3, 2)

    def forward(self, x):
        return self.memory(self.norm(self.fc(x)) + self.tied(x))[0]


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = Net()
    made.fc.weight.data[0, 1:3] = torch.tensor([float("nan"), -0.0])  # the first of them masked
    return made


def bits(model):
    return model.fc.weight.detach().clone().view(torch.int32)


def test_it_is_the_masked_model_and_the_other_stays_dense(net):
    x, before = torch.randn(5, 4), bits(net)
    mask_(expected := copy.deepcopy(net).eval(), {"fc.weight": MASK})
    borrowed = Borrowed(net, "cpu")
    for _ in range(2):
        with borrowed.masked({"fc.weight": MASK}) as found:
            assert found is borrowed.model
            assert torch.equal(found(x), expected(x))
            assert torch.equal(bits(net), before)
        assert torch.equal(bits(borrowed.model), before)
    assert (net.training, borrowed.model.training) == (True, False)


def test_it_is_dense_again_after_an_error(net):
    borrowed, before = Borrowed(net, "cpu"), bits(net)
    with pytest.raises(ValueError, match="broken"), borrowed.masked({"fc.weight": MASK}):
        raise ValueError("broken")
    assert torch.equal(bits(borrowed.model), before)


class Twins(nn.Module):
    """Two parameters over one memory."""

    def __init__(self):
        super().__init__()
        self.fc, self.twin = nn.Linear(4, 3), nn.Linear(4, 3)
        self.twin.weight = nn.Parameter(self.fc.weight.detach())

    def forward(self, x):
        return self.fc(x) + self.twin(torch.relu(x))


def test_twins_stay_one_in_copies_and_are_masked_together():
    torch.manual_seed(0)
    twins, x = Twins().eval(), torch.randn(5, 4)
    assert prunable(twins)["fc.weight"].aliases == ("twin.weight",)
    copy_of_twins, borrowed = copied(twins), Borrowed(twins, "cpu")
    assert copy_of_twins.fc.weight is copy_of_twins.twin.weight
    assert copy_of_twins.fc.weight.data_ptr() != twins.fc.weight.data_ptr()
    assert copy_of_twins.state_dict().keys() == twins.state_dict().keys()
    dense = twins(x)
    mask_(copy_of_twins, {"fc.weight": MASK})
    with borrowed.masked({"fc.weight": MASK}) as found:
        assert torch.equal(found(x), copy_of_twins(x))
        assert torch.equal(twins(x), dense)
    mask_(twins, {"fc.weight": MASK})  # in place both see it
    assert torch.equal(twins(x), copy_of_twins(x))


def test_weights_are_there_once_and_buffers_twice(net):
    borrowed = Borrowed(net, "cpu").model
    for one, other in zip(net.parameters(), borrowed.parameters(), strict=True):
        assert one is not other
        assert one.data_ptr() == other.data_ptr()
    assert borrowed.tied.weight is borrowed.fc.weight
    assert borrowed.norm.running_mean.data_ptr() != net.norm.running_mean.data_ptr()
