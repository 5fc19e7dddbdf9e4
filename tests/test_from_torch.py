"""Data as it lies in notebooks: a torch Dataset, a DataLoader, one for each split."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from sparsity_core.errors import SparsityError
from sparsity_core.intake import from_torch
from sparsity_core.intake.from_torch import read_torch_data
from sparsity_core.intake.how import How
from sparsity_core.task import task_of

X = torch.arange(40.0).view(10, 4)
Y = torch.arange(10) % 3
PAIRS = TensorDataset(X, Y)


class Named(Dataset):
    """Mappings, as transformers have them."""

    classes = ("a", "b", "c")

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return {"input": X[i], "more": X[i, :2], "labels": int(Y[i])}


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


@pytest.mark.parametrize(
    "data",
    [
        PAIRS,
        DataLoader(PAIRS, batch_size=3, shuffle=True),
        [(x, int(y)) for x, y in PAIRS],
        Stream(),
        DataLoader(Stream(), batch_size=3),
    ],
    ids=["Dataset", "DataLoader", "list of pairs", "stream", "stream in batches"],
)
def test_samples_in_their_own_order(data):
    if isinstance(data, list):
        data = DataLoader(data, batch_size=3)  # a list is several inputs, its loader is data
    found = read_torch_data("all", data, How())
    inputs, targets = found.content
    assert torch.equal(inputs, X)
    assert torch.equal(targets, Y)
    assert found.note == ""


def test_mappings_have_targets_and_inputs_by_name():
    found = read_torch_data("all", Named(), How())
    inputs, targets = found.content
    assert inputs.keys() == {"input", "more"}
    assert torch.equal(inputs["more"], X[:, :2])
    assert torch.equal(targets, Y)
    assert found.classes == ("a", "b", "c")
    inputs, targets = read_torch_data("all", Named(), How(label="more")).content
    assert torch.equal(targets, X[:, :2])
    assert torch.equal(inputs["labels"], Y)


def test_inputs_alone_are_data_without_targets():
    found = read_torch_data("all", TensorDataset(X), How())
    assert torch.equal(found.content, X)


def test_too_many_are_thinned_out_evenly(monkeypatch):
    found = read_torch_data("val", PAIRS, How(limit=4))
    assert found.content[1].tolist() == Y[[0, 3, 6, 9]].tolist()
    assert found.note == "val: 4 of 10 samples were read, evenly spaced"
    monkeypatch.setattr(from_torch, "_MEMORY", 5 * 4 * 5)  # five samples of four floats and a label
    assert len(read_torch_data("val", PAIRS, How()).content[0]) == 5
    monkeypatch.setattr(from_torch, "_BATCH", 2)
    assert len(read_torch_data("val", Stream(), How(limit=4)).content[0]) == 4


def test_lists_are_samples():
    plain = task_of(nn.Linear(4, 3), (X.tolist(), Y.tolist()))
    stacked = task_of(nn.Linear(4, 3), (list(X), Y))
    whole = task_of(nn.Linear(4, 3), (X, Y))
    for task in (plain, stacked):
        assert torch.equal(task.test.inputs, whole.test.inputs)
        assert torch.equal(task.test.targets, whole.test.targets)
    with pytest.raises(SparsityError, match="not an array of numbers"):
        task_of(nn.Linear(4, 3), ([torch.zeros(2), torch.zeros(3)], [0, 1]))


def test_what_does_not_become_tensors_says_why():
    with pytest.raises(SparsityError, match="all: the samples of DataLoader do not become tensors"):
        read_torch_data("all", DataLoader([torch.zeros(2), torch.zeros(3)]), How())


def test_a_task_takes_loaders_by_split():
    loader = DataLoader(PAIRS, batch_size=4)
    task = task_of(nn.Linear(4, 3), {"train": loader, "val": loader, "test": PAIRS})
    assert (len(task.train), len(task.validation), len(task.test)) == (10, 10, 10)
    assert torch.equal(task.test.inputs, X)
