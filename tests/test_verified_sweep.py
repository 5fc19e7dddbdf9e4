"""The verified sweep: bfloat16 first, float32 for what that leaves in doubt, the same counts."""

from types import SimpleNamespace

import pytest
import torch

from sparsity_core.errors import SparsityError
from sparsity_core.sweep import lowered, ways
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.sweep.screen import AUDITED, Screen, _LayerScreen, _looked
from sparsity_core.task import load_task
from tests.test_fast_sweep import SAMPLES, TROUBLE, plain, rows, troubled

LOSSES = ("loss", "dense_loss", "loss_rise", "loss_rise_low", "loss_rise_high")
DIGITS = [name for name in SAMPLES if name != "digits-lenet"]

emulated = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has no bfloat16 here"
)


@pytest.fixture
def any_cpu(monkeypatch):
    """Slow bfloat16 gives the same numbers."""
    monkeypatch.setattr("sparsity_core.sweep.engines.check_fast_bf16", lambda _: None)
    monkeypatch.setattr(ways, "check_fast_bf16", lambda _: None)


def assert_same_counts(found, expected):
    assert len(found) == len(expected)
    for row, right in zip(found, expected, strict=True):
        assert plain(row, *LOSSES, "message") == plain(right, *LOSSES, "message")
        if right.loss is not None:
            assert row.loss == pytest.approx(right.loss, rel=0.05, abs=0.02)


@emulated
@pytest.mark.parametrize("name", DIGITS)
def test_verified_counts_are_the_references_on_the_sample_models(name, any_cpu):
    options = {"structures": ["unstructured", "out-channel"], "sparsities": [0.5, 0.9]}
    task = load_task(name)
    found = rows(task, "verified", **options)
    assert_same_counts(found, rows(task, "exact", **options))
    assert "verified" in {row.engine for row in found}
    for row in found:
        if row.engine == "verified, float32":
            assert "not screened: bfloat16 leaves" in row.message
        elif row.value is not None:
            assert row.engine == "verified"
            assert "loss is approximate" in row.message
            assert "audited in float32" in row.message


@emulated
@pytest.mark.parametrize("kind", TROUBLE)
def test_verified_counts_are_the_references_on_nets_made_for_trouble(kind, any_cpu):
    options = {"sparsities": [0, 0.5, 1]}
    found = rows(troubled(kind), "verified", **options)
    assert_same_counts(found, rows(troubled(kind), "reference", **options))
    assert {row.engine for row in found} <= {"verified", "verified, float32"}


@emulated
def test_a_layer_that_bfloat16_leaves_in_doubt_is_measured_in_float32_at_once(any_cpu, monkeypatch):
    monkeypatch.setattr("sparsity_core.sweep.screen._MOST", -1.0)
    task, options = load_task("digits-mlp"), {"sparsities": [0.5, 0.9]}
    found = rows(task, "verified", **options)
    assert {row.engine for row in found} == {"verified, float32"}
    assert all("not screened: bfloat16 leaves" in row.message for row in found)
    exact = rows(task, "exact", **options)
    assert [plain(row, "message") for row in found] == [plain(row, "message") for row in exact]


@emulated
def test_verified_passes_the_batches_that_memory_does_not_hold(any_cpu):
    task = load_task("digits-mlp")
    options = {"sparsities": [0.5, 0.9], "split": "train"}
    found = rows(task, "verified", memory=0, **options)
    assert_same_counts(found, rows(task, "exact", **options))


class Exact:
    """Float32 outputs that are known beforehand."""

    def __init__(self, outputs):
        self.outputs = outputs

    def some(self, _layer, asked):
        return [self.outputs[samples] for _, samples in asked]


def screened(exact, low):
    float32 = Exact(exact)
    (variant,) = variants = [_looked({}, low.clone())]
    screen = _LayerScreen(float32, "layer", variants)
    screen.begin()
    screen.settle()
    return screen, variant


def test_what_is_near_is_run_again_and_a_hundredth_of_the_rest():
    exact = torch.tensor([2.0, 0.0]).repeat(2000, 1)
    exact[::10] = torch.tensor([0.0, 0.01])  # every tenth is near
    low = exact + 0.01 * torch.tensor([1.0, -1.0])  # and wrong in bfloat16
    screen, variant = screened(exact, low)
    assert torch.equal(variant.outputs.argmax(1), exact.argmax(1))
    assert variant.exact[::10].all()
    assert screen.error == pytest.approx(0.02 / variant.spread, rel=1e-3)
    rest = 1800 - 32
    assert AUDITED * rest <= variant.audited <= AUDITED * rest + 2
    assert int(variant.exact.sum()) <= 200 + 32 + variant.audited


def test_the_share_in_doubt_is_known_after_a_look_at_a_few():
    exact = torch.tensor([2.0, 0.0]).repeat(2000, 1)
    exact[::10] = torch.tensor([0.0, 0.01])
    low = exact + 0.01 * torch.tensor([1.0, -1.0])
    variant = _looked({}, low)
    screen = _LayerScreen(Exact(exact), "layer", [variant])
    screen.begin()
    assert screen.doubt() == pytest.approx(0.1, abs=0.01)
    assert int(variant.exact.sum()) == 32


def test_one_mask_alone_is_measured_by_what_the_first_look_has_shown(monkeypatch):
    exact = torch.tensor([2.0, 0.0]).repeat(2000, 1)
    exact[::10] = torch.tensor([0.0, 0.01])
    low = exact + 0.01 * torch.tensor([1.0, -1.0])  # every tenth is wrong
    screen = object.__new__(Screen)
    screen.fused, screen.errors = Exact(exact), {}
    screen.low = SimpleNamespace(outputs=lambda *_: lambda _place: [low.clone()])
    (found,) = screen.screened("layer", [{}])
    assert torch.equal(found.outputs.argmax(1), exact.argmax(1))
    assert found.rescued > 0.1  # not only what an audit has found
    assert screen.errors["layer"] > 0
    # What is known of a layer is the start of its next look, which needs no first few samples.
    monkeypatch.setattr("sparsity_core.sweep.screen.AUDITED", 1e-9)
    (again,) = screen.screened("layer", [{}])
    assert 0.1 <= again.rescued < found.rescued
    assert torch.equal(again.outputs.argmax(1), exact.argmax(1))


def test_an_audit_that_finds_a_change_raises_the_bound():
    exact = torch.tensor([2.0, 0.0]).repeat(3000, 1)
    low = exact.clone()
    low[::3] = torch.tensor([0.9, 1.1])  # far off, and never near
    first = torch.randperm(3000, generator=_LayerScreen(None, "layer", []).draw)[:32]
    low[first] = exact[first]  # nothing in the first look hints at it
    screen, variant = screened(exact, low)
    assert screen.safety > 2
    assert torch.equal(variant.outputs.argmax(1), exact.argmax(1))


def test_a_cpu_without_fast_bfloat16_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    with pytest.raises(SparsityError, match="take the engine exact"):
        lowered.check_fast_bf16("cpu")
    with pytest.raises(SparsityError, match="AMX"):
        plan_sweep(load_task("digits-mlp"), engine="verified")
