"""Choices by name: every kind can be made, described, carried as data and read back."""

import json
import re

import pytest

from sparsity_core.allocations import ALLOCATIONS
from sparsity_core.dynamic import RULES
from sparsity_core.errors import SparsityError
from sparsity_core.repairs import REPAIRS
from sparsity_core.schedules import SCHEDULES
from sparsity_core.scorers import SCORERS
from sparsity_core.structures import STRUCTURES, NofM

REGISTRIES = [SCORERS, STRUCTURES, ALLOCATIONS, SCHEDULES, REPAIRS, RULES]
# What is no paper's own: the plain ways, the controls, what a person gives.
NOBODYS = {"random", "uniform", "flops", "manual", "one-shot", "linear", "dense", "static"}
CHOICES = [(registry, kind) for registry in REGISTRIES for kind in registry]


@pytest.mark.parametrize(("registry", "kind"), CHOICES)
def test_data_round_trip(registry, kind):
    choice = registry.make(kind)
    data = json.loads(json.dumps(registry.to_dict(choice)))
    assert registry.from_dict(data) == choice
    assert registry.kind_of(choice) == kind
    assert hash(choice) == hash(registry.make(kind))


@pytest.mark.parametrize(("registry", "kind"), CHOICES)
def test_every_kind_says_what_it_is(registry, kind):
    assert kind == kind.lower()
    assert "_" not in kind
    assert len(registry.describe(kind).splitlines()[0]) > 10
    assert registry.make(registry.label(registry.make(kind))) == registry.make(kind)


# What the field uses, all of it in reach of a click.
REQUIRED = [
    (SCORERS, "magnitude random han-threshold bn-scale geometric-median snip taylor grasp synflow"),
    (SCORERS, "movement gradient fisher obd woodfisher obs wanda mean-activation apoz"),
    (SCORERS, "integrated-gradients conductance deeplift"),
    (REPAIRS, "sparsegpt least-squares bias-correction batch-norm"),
    (STRUCTURES, "unstructured out-channel in-channel block n:m constant-fan-in attention-head"),
    (STRUCTURES, "kernel transposable-n:m"),
    (ALLOCATIONS, "uniform uniform-plus global er erk lamp sensitivity flops manual"),
    (SCHEDULES, "one-shot geometric cubic linear synflow-exponential"),
]


@pytest.mark.parametrize(("registry", "kinds"), REQUIRED)
def test_required_kinds(registry, kinds):
    assert set(kinds.split()) <= set(registry)


def test_shorthands():
    assert STRUCTURES.make("1:8") == NofM(1, 8)
    assert STRUCTURES.label(NofM(1, 8)) == "1:8"
    assert STRUCTURES.make("4x1") == STRUCTURES.make("block", rows=4, cols=1)
    assert STRUCTURES.make("block-4x1") == STRUCTURES.make("4x1")


def test_unknown_names_get_the_nearest():
    with pytest.raises(SparsityError, match="did you mean 'magnitude'"):
        SCORERS.make("magnitud")
    with pytest.raises(SparsityError, match="unknown option of structure n:m 'k'"):
        STRUCTURES.make("n:m", k=3)
    with pytest.raises(SparsityError, match="names no kind"):
        SCORERS.from_dict({"n": 1})


def test_a_label_does_not_list_every_layer():
    a, b = (ALLOCATIONS.make("manual", layers=[("conv1.weight", share)]) for share in (0.5, 0.6))
    assert re.fullmatch(r"manual\(layers #[0-9a-f]{6}\)", ALLOCATIONS.label(a))
    assert ALLOCATIONS.label(a) != ALLOCATIONS.label(b)


@pytest.mark.parametrize(("registry", "kind"), CHOICES)
def test_every_entry_names_its_paper(registry, kind):
    # A year, for papers older than arXiv as well.
    assert (re.search(r"\b(19|20)\d\d\b", registry.describe(kind)) is None) == (kind in NOBODYS)
