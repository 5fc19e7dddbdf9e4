"""Rules by magnitude or in the forward pass: cubic, AC/DC, Top-KAST, thresholds, SR-STE."""

import pytest
import torch

from sparsity_core.dynamic import (
    AlternatingCompression,
    AutoSparse,
    Clock,
    GradualMagnitude,
    NeuronThresholds,
    SoftThreshold,
    SrSte,
    State,
    TopKast,
)
from sparsity_core.dynamic.dst import long_tailed
from sparsity_core.dynamic.soft import ALPHAS
from sparsity_core.dynamic.top_kast import penalty
from sparsity_core.errors import SparsityError
from sparsity_core.gradual import Gradual
from tests.dynamic_states import START, mask, some, state_of, t, vectors

__all__ = ["vectors"]


# Magnitude


def test_gmp_follows_the_cubic(vectors):
    found = vectors["gmp_cubic"]
    rule = GradualMagnitude(every=100, begin=0.4, until=0.8)
    for step, sparsity in found["s"].items():
        assert 0.9 * rule.progress(Clock(int(step), 2500, 1)) == pytest.approx(sparsity, abs=1e-6)
    other = Gradual(1000, 2000, 100)
    assert [s for s in range(2500) if rule.due(Clock(s, 2500, 1))] == other.steps()


def test_gmp_by_eye():
    weights, every = t(1.0, -4.0, 2.0, 3.0), mask(1, 1, 1, 1)
    rule = GradualMagnitude(until=0.5)
    masks, _ = rule.update(state_of(weights, every, clock=Clock(50, 100, 1), kept=2))
    assert masks["layer"].tolist() == [False, True, False, True]
    masks, _ = rule.update(state_of(weights, every, clock=Clock(0, 100, 1), kept=2))
    assert masks["layer"].all()


def test_ac_dc_has_the_phases_of_the_paper(vectors):
    found = vectors["acdc_imagenet_100ep"]
    rule = AlternatingCompression()
    clocks = [Clock(epoch, 100, 1) for epoch in range(100)]
    assert "".join("S" if rule.compressed(clock) else "D" for clock in clocks) == found["phases"]
    turns = [clock.step for clock in clocks if rule.due(clock)]
    assert turns == sorted(found["prune_at"] + found["restore_at"])
    with pytest.raises(SparsityError, match="take turns"):
        AlternatingCompression(prune=(0.1, 0.2), restore=(0.3,))


def test_ac_dc_ranks_all_layers_together():
    weights = {"a": t(1.0, 2.0, 3.0), "b": t(0.1, 5.0)}
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    state = State(Clock(10, 100, 1), weights, {}, masks, {"a": 1, "b": 1}, "b")
    found, _ = AlternatingCompression().update(state)
    assert {name: m.int().tolist() for name, m in found.items()} == {"a": [0, 0, 1], "b": [0, 1]}
    back, _ = AlternatingCompression().update(State(Clock(15, 100, 1), weights, {}, found, {}, "b"))
    assert all(m.all() for m in back.values())


# Forward rules


def test_top_kast(vectors):
    found = vectors["topkast"]
    theta = torch.tensor(found["theta"])
    rule = TopKast(reserve=1.0, decay=0.01)
    used = rule.first({"layer": theta}, {"layer": 2}, 0)["layer"]
    trained = rule.trained(theta, used, 2, START)
    assert used.int().tolist() == found["A"]
    assert trained.int().tolist() == found["B"]
    assert rule.used(theta, used, None).tolist() == found["alpha"]
    assert penalty(theta, used, trained, 1).item() == pytest.approx(found["reg_L1"])
    assert penalty(theta, used, trained, 2).item() == pytest.approx(found["reg_L2"])
    variable = theta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(0.01 * penalty(variable, used, trained), variable)
    own, _ = rule.gradients(torch.zeros(8), theta, used, None, START)
    assert torch.allclose(own.masked_fill(~trained, 0), slope)
    assert torch.equal(rule.trained(theta, used, 2, Clock(80, 100, 1)), used)


def test_soft_threshold(vectors):
    found = vectors["str_softthreshold"]
    weight, s = torch.tensor(found["w"]), torch.tensor(found["s"])
    rule, every = SoftThreshold(), torch.ones(4, dtype=torch.bool)
    assert rule.used(weight, every, s).tolist() == pytest.approx(found["sparse_w"], abs=1e-6)
    own, besides = rule.gradients(torch.tensor(found["upstream_grad"]), weight, every, s, START)
    assert own.tolist() == found["grad_w"]
    assert besides.item() == pytest.approx(found["grad_s"], abs=1e-6)


def test_soft_threshold_is_what_autograd_says():
    weight, upstream = some((5, 6), 21) + 0.01, some((5, 6), 22)
    w, s = weight.clone().requires_grad_(), torch.tensor(-1.0, requires_grad=True)
    (w.sign() * (w.abs() - s.sigmoid()).relu() * upstream).sum().backward()
    every = torch.ones(5, 6, dtype=torch.bool)
    own, besides = SoftThreshold().gradients(upstream, weight, every, s.detach(), START)
    assert torch.allclose(own, w.grad)
    assert torch.allclose(besides, s.grad)


def test_autosparse_anneals(vectors):
    found = vectors["autosparse_alpha_decay"]
    names = {"cosine": "cosine", "sigmoid": "sigmoid", "sigmoid-cosine": "sigmoid_cosine_max"}
    for schedule, name in names.items():
        shares = [found["alpha0"] * ALPHAS[schedule](step / 100) for step in found["t"]]
        assert shares == pytest.approx(found[name], abs=1e-9)
    rule = AutoSparse(schedule="linear", until=0.5)
    assert [rule.alpha(Clock(s, 100, 1)) for s in (0, 25, 50, 80)] == [0.75, 0.375, 0, 0]
    assert AutoSparse(schedule="constant").alpha(Clock(99, 100, 1)) == 0.75
    with pytest.raises(SparsityError, match="alpha schedule"):
        AutoSparse(schedule="cosinus")


def test_autosparse_lets_gradients_through_below_the_threshold():
    # By eye: threshold 0.5; the first weight is above, the second below and gets 0.75 of it.
    weight, s = t(0.6, -0.4), torch.tensor(0.0)
    own, besides = AutoSparse().gradients(t(1.0, 2.0), weight, mask(1, 1), s, Clock(0, 10, 1))
    assert own.tolist() == [1.0, 1.5]
    assert besides.item() == pytest.approx(-(1.0 - 1.5) * 0.25)


def test_neuron_thresholds_by_eye():
    weight, thresholds = t([0.5, -0.2], [0.05, 2.0]), t(0.3, 0.0)
    rule, every = NeuronThresholds(penalty=0.1), torch.ones(2, 2, dtype=torch.bool)
    used = rule.used(weight, every, thresholds)
    assert torch.equal(used, t([0.5, 0.0], [0.05, 2.0]))
    assert long_tailed(t(-0.2, 0.4, -0.41, 1.0, 1.01)).tolist() == pytest.approx(
        [1.2, 0.4, 0.4, 0.4, 0.0]
    )
    own, besides = rule.gradients(torch.ones(2, 2), weight, every, thresholds, START)
    # |w| - t = 0.2, -0.1, 0.05, 2.0; slopes 1.2, 1.6, 1.8, 0.
    assert torch.allclose(own, t([1 + 0.5 * 1.2, 0.2 * 1.6], [1 + 0.05 * 1.8, 1.0]))
    expected = t(-(0.5 * 1.2 - 0.2 * 1.6), -0.05 * 1.8) - 0.1 * torch.exp(-thresholds)
    assert torch.allclose(besides, expected)


def test_neuron_thresholds_begin_again_when_hardly_anything_is_left():
    weight = torch.full((2, 100), 0.1)
    weight[0, :2] = 1.0
    rule = NeuronThresholds()
    assert rule.settled(weight, t(0.5, 0.5)).tolist() == [0.0, 0.0]  # 2 of 200 are left
    weight[0, 2] = 1.0
    assert rule.settled(weight, t(0.5, 0.5)).tolist() == [0.5, 0.5]


def test_sr_ste(vectors):
    found = vectors["sr_ste_grad"]
    weight, every = torch.tensor(found["w"])[None], torch.ones(1, 8, dtype=torch.bool)
    rule = SrSte(refine=found["lam"])
    assert rule.live(weight, every, None)[0].int().tolist() == found["mask"]
    own, _ = rule.gradients(torch.tensor(found["upstream"])[None], weight, every, None, START)
    assert own[0].tolist() == pytest.approx(found["grad"], abs=1e-7)
