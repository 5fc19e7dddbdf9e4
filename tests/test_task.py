"""Tasks: what makes one, its digest, and how a reference becomes one."""

import copy

import pytest
import torch
from torch import nn

from sparsity_core import task as task_module
from sparsity_core.data import Split
from sparsity_core.errors import SparsityError
from sparsity_core.task import ACCURACY, Task, catalog, cross_entropy, load_task


def split_of(count=5):
    return Split(torch.arange(count * 4.0).reshape(count, 4), torch.arange(count) % 3)


def make_task(model=None):
    model = model or nn.Linear(4, 3)
    return Task("some", model.eval(), split_of(), split_of(6), split_of(7))


def test_loss_and_metric_are_one_number_a_sample():
    outputs = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
    targets = torch.tensor([0, 1, 0])
    assert ACCURACY.per_sample(outputs, targets).tolist() == [1, 0, 0]
    shares = outputs.exp() / outputs.exp().sum(1, keepdim=True)
    expected = -shares[torch.arange(3), targets].log()
    assert torch.allclose(cross_entropy(outputs, targets), expected)


def test_splits_by_name():
    task = make_task()
    assert [len(task.split(name)) for name in ("train", "validation", "test")] == [5, 6, 7]
    with pytest.raises(SparsityError, match="unknown split 'tets'; did you mean 'test'"):
        task.split("tets")


def test_a_model_that_is_not_ready_is_refused():
    with pytest.raises(SparsityError, match=r"training mode; call model.eval\(\)"):
        Task("some", nn.Linear(4, 3), split_of(), split_of(), split_of())
    with pytest.raises(SparsityError, match="weight is torch.float64 on cpu"):
        make_task(nn.Linear(4, 3).double())
    with pytest.raises(SparsityError, match="on meta"):
        make_task(nn.Linear(4, 3, device="meta"))


class Renamed(nn.Linear):
    pass


def test_the_digest_sees_every_bit_and_the_class():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    digest = make_task(model).model_digest
    assert make_task(copy.deepcopy(model)).model_digest == digest

    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed[2].weight[1, 1] = torch.nextafter(changed[2].weight[1, 1], torch.tensor(9.0))
    assert make_task(changed).model_digest != digest

    statistics = copy.deepcopy(model)
    statistics[1].running_mean[0] += 1
    assert make_task(statistics).model_digest != digest

    plain, renamed = nn.Linear(4, 3), Renamed(4, 3)
    renamed.load_state_dict(plain.state_dict())
    assert make_task(plain).model_digest != make_task(renamed).model_digest


# References


def test_an_unknown_name_has_a_nearest_one():
    with pytest.raises(SparsityError, match="unknown model 'digits-lent'.*'digits-lenet'"):
        load_task("digits-lent")


def test_a_known_name_without_its_data_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSITY_DATA", str(tmp_path))
    with pytest.raises(SparsityError, match="mnist-lenet5: its data is missing; set SPARSITY_DATA"):
        load_task("mnist-lenet5")


def test_a_listed_model_that_cannot_be_made_is_named(monkeypatch):
    def load(seed):
        raise RuntimeError("no such layer")

    entry = task_module.CatalogEntry("odd", "Breaks", load, lambda: None, lambda: None)
    monkeypatch.setattr(task_module, "catalog", lambda: {"odd": entry})
    with pytest.raises(SparsityError, match="odd cannot be opened: RuntimeError: no such layer"):
        load_task("odd")


def test_a_broken_plug_in_is_named(monkeypatch):
    class Point:
        value = "their_package:MODELS"

        def load(self):
            raise ModuleNotFoundError("No module named 'their_package'")

    monkeypatch.setattr(task_module, "entry_points", lambda **_: [Point()])
    with pytest.raises(SparsityError, match=r"their_package:MODELS could not.*No module named"):
        catalog()


FACTORIES = """
import torch
from torch import nn
from sparsity_core.data import Split
from sparsity_core.task import Task

SPLIT = Split(torch.zeros(3, 2), torch.zeros(3, dtype=torch.long))
NUMBER = 3

def make():
    return Task("own name", nn.Linear(2, 2).eval(), SPLIT, SPLIT, SPLIT)

def seeded(seed=0):
    torch.manual_seed(seed)
    return make()

def wrong():
    return nn.Linear(2, 2)

def failing():
    raise KeyError("the file")

def needs(path):
    return make()
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "their_factories.py").write_text(FACTORIES)
    (tmp_path / "their_broken.py").write_text("1 +")
    (tmp_path / "their_needy.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("factories")
def test_a_factory_makes_a_task_that_bears_the_reference():
    # A worker process loads the task again by its name.
    assert load_task("their_factories:make").name == "their_factories:make"


@pytest.mark.usefixtures("factories")
def test_a_factory_may_take_the_seed():
    first, again, other = (load_task("their_factories:seeded", seed) for seed in (1, 1, 2))
    assert first.model_digest == again.model_digest
    assert first.model_digest != other.model_digest


@pytest.mark.usefixtures("factories")
@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("their_factories:wrong", "returned Linear; a factory must return a sparsity_core.task.T"),
        ("their_factories:failing", "the factory failed .KeyError: 'the file'"),
        ("their_factories:needs", "the factory failed .TypeError.*'path'"),
        ("their_factories:mke", "unknown factory in their_factories 'mke'; did you mean 'make'"),
        ("their_factories:NUMBER", "unknown factory in their_factories"),
        ("their_factories:", "unknown factory in their_factories"),
        ("their_factory:make", "module 'their_factory' could not be imported.*PYTHONPATH"),
        ("their_broken:make", "'their_broken' could not be imported .SyntaxError"),
        ("their_needy:make", "'their_needy' could not be imported.*not_there_at_all"),
        (":make", "module '' could not be imported"),
    ],
)
def test_references_that_lead_nowhere(reference, message):
    with pytest.raises(SparsityError, match=message) as caught:
        load_task(reference)
    assert "\n" not in str(caught.value)
