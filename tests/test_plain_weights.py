"""Models and files in which weights are made anew in each pass: pruned by torch, normed, bound."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from sparsity_core.copied import copied
from sparsity_core.intake.fit import load_
from sparsity_core.intake.plain_weights import plain_weights_
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import task_of
from sparsity_core.weights import prunable, unprunable


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3)).eval()


def pruned(model):
    prune.ln_structured(model[0], "weight", 0.25, n=2, dim=0)
    prune.l1_unstructured(model[0], "weight", 0.5)  # one after another: a container of both
    prune.l1_unstructured(model[3], "weight", 0.5)
    prune.l1_unstructured(model[3], "bias", 1)


def normed(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that it is old
        for module in (model[0], model[3]):
            nn.utils.weight_norm(module)
            module.weight_g.data *= 1.5


def newly_normed(model):
    for module in (model[0], model[3]):
        parametrizations.weight_norm(module)
        module.parametrizations.weight.original0.data *= 1.5


def spectral(model):
    nn.utils.spectral_norm(model[0])
    parametrizations.spectral_norm(model[3])


def orthogonal(model):
    parametrizations.orthogonal(model[3])


KINDS = {
    pruned: {"0.weight", "3.weight", "3.bias"},
    normed: {"0.weight", "3.weight"},
    newly_normed: {"0.weight", "3.weight"},
    spectral: {"0.weight", "3.weight"},
    orthogonal: {"3.weight"},
}
IMAGES = torch.randn(9, 1, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def used(kind):
    """A model of a kind after a step of training, which leaves what it computed in it."""
    model = net()
    kind(model)
    model.train()(IMAGES).sum().backward()
    return model.eval()


def test_copies_of_used_models_answer_the_same(kind):
    model = used(kind)
    expected = model(IMAGES)
    assert torch.equal(copied(model)(IMAGES), expected)


def test_plain_weights_answer_the_same_and_can_be_copied_and_pruned(kind):
    model = used(kind)
    expected = model(IMAGES)
    found = plain_weights_(model)
    torch.testing.assert_close(model(IMAGES), expected, rtol=0, atol=1e-6)
    assert found.keys() == KINDS[kind]
    assert set(copy.deepcopy(model).state_dict()) == set(net().state_dict())
    assert list(prunable(model)) == ["0.weight", "3.weight"]
    assert plain_weights_(model) == {}


def test_of_what_makes_a_weight_the_remedy_is_said():
    model = used(pruned)
    assert "make that plain first" in unprunable(model)["3.weight_orig"]
    assert unprunable(model)["3.bias_orig"] == "biases and norms are not pruned"
    assert "make that plain first" in unprunable(used(normed))["0.weight_v"]


def test_weights_of_a_frozen_model_stay_parameters():
    model = net()
    newly_normed(model)
    plain_weights_(model.requires_grad_(False))
    assert list(prunable(model)) == ["0.weight", "3.weight"]


def test_a_pruned_model_is_swept_as_it_acts():
    model = used(pruned)
    task = task_of(model, (IMAGES, model(IMAGES).argmax(1)))
    assert any("made plain, as they act: 0.weight (torch.nn.utils.prune)" in n for n in task.notes)
    plan = plan_sweep(task, sparsities=[0.5])
    rows = list(plan.run(task, plan.points()))
    assert [(row.layer, row.status) for row in rows] == [("0.weight", "ok"), ("3.weight", "ok")]
    assert prune.is_pruned(model)  # theirs is as it was


@pytest.mark.parametrize("kind", [pruned, normed, newly_normed], ids=lambda kind: kind.__name__)
def test_files_of_such_models_fit_plain_ones_and_their_own(kind, tmp_path):
    model = used(kind)
    torch.save(model.state_dict(), tmp_path / "best.pth")
    plain, own = net(), net()
    notes = load_(plain, tmp_path / "best.pth")
    torch.testing.assert_close(plain(IMAGES), model(IMAGES), rtol=0, atol=1e-6)
    assert any("left in parts were put together" in note for note in notes)
    kind(own)
    own[3].bias = nn.Parameter(own[3].bias.detach() + 1) if kind is not pruned else own[3].bias
    notes = load_(own, tmp_path / "best.pth")
    assert torch.equal(own(IMAGES), model(IMAGES))
    assert not any("put together" in note for note in notes)


@pytest.mark.parametrize("length", [(5, 1, 1), (1, 2, 1), ()])
def test_lengths_and_directions_by_the_definition(length, tmp_path):
    direction = torch.randn(5, 2, 3)
    lengths = torch.rand(length) + 1
    torch.save({"weight_v": direction, "weight_g": lengths}, tmp_path / "file.pt")
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(5, 2, 3))
    load_(model, tmp_path / "file.pt")
    others = tuple(axis for axis in range(3) if not length or length[axis] == 1)
    norms = (direction**2).sum(others, keepdim=True).sqrt()
    torch.testing.assert_close(model.weight.detach(), lengths * direction / norms)
