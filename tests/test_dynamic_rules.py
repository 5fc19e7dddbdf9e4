"""Rules of moving masks: each by eye once, each against vectors or a slow reference once."""

import json
from pathlib import Path

import pytest
import torch

from sparsity_core.dynamic import (
    RULES,
    AlternatingCompression,
    AutoSparse,
    Clock,
    Evolution,
    GradualMagnitude,
    Mest,
    NeuronThresholds,
    RandomGrowth,
    RigL,
    SoftThreshold,
    SparseMomentum,
    SRigL,
    SRigLNofM,
    SrSte,
    State,
    Static,
    TopKast,
)
from sparsity_core.dynamic.dst import long_tailed
from sparsity_core.dynamic.exchange import (
    drawn,
    drawn_in_rows,
    highest,
    highest_in_rows,
    lowest,
    without_smallest,
)
from sparsity_core.dynamic.mest import importance
from sparsity_core.dynamic.soft import ALPHAS
from sparsity_core.dynamic.sparse_momentum import shared_out
from sparsity_core.dynamic.srigl import exchanged_by_rows
from sparsity_core.dynamic.timing import cosine_share
from sparsity_core.dynamic.top_kast import penalty
from sparsity_core.errors import NonFiniteError, SparsityError
from sparsity_core.gradual import Gradual

START = Clock(1, 1_000_000, 10)  # where a cosine has not fallen yet


@pytest.fixture(scope="module")
def vectors():
    return json.loads((Path(__file__).parent / "vectors_dynamic.json").read_text())


def t(*values):
    return torch.tensor(values)


def mask(*values):
    return torch.tensor(values, dtype=torch.bool)


def state_of(weights, masks, gradients=None, *, clock=START, kept=None, last="", averages=None):
    wrap = {"layer": weights * masks}
    return State(
        clock=clock,
        weights=wrap,
        gradients={} if gradients is None else {"layer": gradients},
        masks={"layer": masks},
        kept={"layer": int(masks.sum()) if kept is None else kept},
        last=last,
        averages={} if averages is None else {"layer": averages},
    )


def some(shape, seed, share=None):
    make = torch.Generator().manual_seed(seed)
    if share is None:
        # Few values, so that ties are frequent.
        return torch.randint(-4, 5, shape, generator=make) / 4.0
    return torch.rand(shape, generator=make) < share


# Selection


def test_selection_by_eye():
    scores = t(3.0, 1.0, 1.0, 2.0)
    every = torch.ones(4, dtype=torch.bool)
    assert lowest(scores, every, 1).tolist() == [False, False, True, False]  # the last of equals
    assert highest(scores, every, 3).tolist() == [True, True, False, True]  # the first of equals
    assert highest(scores, mask(0, 1, 1, 0), 1).tolist() == [False, True, False, False]
    assert without_smallest(mask(1, 1, 0, 1), scores, 0.5)[0].tolist() == [True, False, False, True]


@pytest.mark.parametrize("count", [0, 1, 7, 20])
def test_selection_is_a_stable_sort(count):
    scores, among = some((6, 8), 1), some((6, 8), 2, 0.5)
    places = [i for i in range(48) if among.view(-1)[i]]
    flat = scores.view(-1).tolist()
    for chosen, key in (
        (highest(scores, among, count), lambda i: (-flat[i], i)),
        (lowest(scores, among, count), lambda i: (flat[i], -i)),
    ):
        assert chosen.view(-1).nonzero().squeeze(1).tolist() == sorted(
            sorted(places, key=key)[:count]
        )
    assert int(drawn(among, count, torch.Generator().manual_seed(0)).sum()) == count
    with pytest.raises(SparsityError, match="asked for 49 of"):
        highest(scores, among, 49)


def test_selection_in_rows_is_selection_row_by_row():
    scores, among = some((6, 8), 3), some((6, 8), 4, 0.6)
    counts = torch.minimum(t(0, 1, 2, 3, 8, 2), among.sum(1))
    chosen = highest_in_rows(scores, among, counts)
    for i in range(6):
        assert torch.equal(chosen[i], highest(scores[i], among[i], int(counts[i])))
    assert drawn_in_rows((6, 8), counts, torch.Generator()).sum(1).tolist() == counts.tolist()


def test_drawing_is_fair():
    make = torch.Generator().manual_seed(0)
    among = mask(1, 1, 0, 1, 1)
    times = sum(drawn(among, 2, make).int() for _ in range(4000))
    assert times[2] == 0
    assert times[among].tolist() == pytest.approx([2000] * 4, rel=0.08)


# RigL


def test_rigl_by_eye():
    # Two of four live weights go: 0.1 and -0.2. Of the places that are not kept, the largest
    # gradients are at the emptied place of 0.1 (7) and at the last (6).
    weights = t(0.1, -0.2, 3.0, 4.0, 0.0, 0.0)
    live = mask(1, 1, 1, 1, 0, 0)
    masks, _ = RigL(drop=0.51).update(state_of(weights, live, t(7.0, 0.0, 9.0, 9.0, 5.0, -6.0)))
    assert masks["layer"].tolist() == [True, False, True, True, False, True]


def slow_rigl(weights, gradients, live, share):
    places = range(weights.numel())
    w, g, m = (x.view(-1).tolist() for x in (weights.abs(), gradients.abs(), live))
    alive = [i for i in places if m[i]]
    count = int(share * len(alive))
    dropped = sorted(alive, key=lambda i: (w[i], -i))[:count]
    kept = [i for i in alive if i not in dropped]
    grown = sorted((i for i in places if i not in kept), key=lambda i: (-g[i], i))[:count]
    return sorted(kept + grown)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_rigl_is_its_definition(share, density):
    weights, gradients, live = some((5, 7), 5), some((5, 7), 6), some((5, 7), 7, density)
    masks, _ = RigL(drop=share).update(state_of(weights, live, gradients))
    expected = slow_rigl(weights * live, gradients, live, cosine_share(share, 1, 750_000))
    assert masks["layer"].view(-1).nonzero().squeeze(1).tolist() == expected


def test_the_cosine(vectors):
    found = vectors["rigl_cosine"]
    for step, share in found["f"].items():
        assert cosine_share(found["alpha"], int(step), found["T_end"]) == pytest.approx(
            share, rel=1e-4
        )
    found = vectors["sparse_momentum_cosine"]
    for step, share in found["f"].items():
        rule = SparseMomentum(drop=found["prune_rate"], least=found["eta_min"])
        assert rule.share(Clock(int(step), found["T"], 1)) == pytest.approx(share)


def test_when():
    rule = RigL(every=100, until=0.75)
    due = [step for step in range(1000) if rule.due(Clock(step, 1000, 10))]
    assert due == [100, 200, 300, 400, 500, 600, 700]
    assert Evolution().due(Clock(20, 100, 10))
    assert not Evolution().due(Clock(25, 100, 10))
    assert not any(Static().due(Clock(step, 10, 2)) for step in range(10))


# SET


def test_set_by_eye():
    # Half of two positive and of two negative weights go: 1 and -1; the live zero goes too.
    weights, live = t(1.0, 2.0, -1.0, -2.0, 0.0, 0.0, 0.0), mask(1, 1, 1, 1, 1, 0, 0)
    masks, report = Evolution(drop=0.5).update(state_of(weights, live))
    found = masks["layer"]
    assert found[[1, 3]].all()
    assert int(found.sum()) == 5
    assert torch.equal(report.reborn["layer"], found & live & mask(1, 0, 1, 0, 1, 0, 0))


def test_set_drops_each_sign_apart():
    weights, live = some((20, 20), 8), some((20, 20), 9, 0.5)
    weights = torch.where(weights == 0, 0.1, weights)
    masks, report = Evolution(drop=0.3).update(state_of(weights, live))
    kept = masks["layer"] & live & ~report.reborn["layer"]
    for sign in (1, -1):
        sizes = (sign * weights)[live & (sign * weights > 0)].sort().values
        left = (sign * weights)[kept & (sign * weights > 0)].sort().values
        assert torch.equal(left, sizes[int(0.3 * len(sizes)) :])
    values = Evolution().newborn((200, 200), torch.Generator().manual_seed(0))
    assert (values.mean().item(), values.std().item()) == pytest.approx((0, 0.1), abs=2e-3)


def test_set_of_the_rigl_paper_by_eye():
    weights, live = t(0.1, -3.0, 2.0, 1.0, 0.0), mask(1, 1, 1, 1, 0)
    masks, _ = RandomGrowth(drop=0.26).update(state_of(weights, live))
    assert masks["layer"][1:4].all()
    assert int(masks["layer"].sum()) == 4
    grown = [
        int(
            RandomGrowth(drop=0.26).update(state_of(weights, live, clock=Clock(s, 10**6, 1)))[0][
                "layer"
            ][4]
        )
        for s in range(1, 40)
    ]
    assert 0 < sum(grown) < 39  # in place or elsewhere, by chance


# SRigL


def test_srigl_by_eye():
    # Three neurons with two inputs each, K = 2. Salient: the four largest weights (two of the
    # first, two of the second neuron) and the two largest dead gradients (both of the first). The
    # third has none and is ablated; its inputs go to the others: fan-in 3.
    weights = t([4.0, 3.0, 0.0, 0.0], [2.0, 0.0, 1.0, 0.0], [0.1, 0.2, 0.0, 0.0])
    gradients = t([0.0, 0.0, 9.0, 8.0], [0.0, 5.0, 0.0, 6.0], [0.0, 0.0, 1.0, 1.0])
    rule = SRigL(drop=0.34, ablate=1.0)
    masks, report = rule.update(state_of(weights, weights != 0, gradients))
    assert masks["layer"].int().tolist() == [[1, 1, 1, 0], [1, 0, 1, 1], [0, 0, 0, 0]]
    assert report.ablated == {"layer": 1}
    masks, report = rule.update(state_of(weights, weights != 0, gradients, last="layer"))
    assert masks["layer"].sum(1).tolist() == [2, 2, 2]
    assert report.ablated == {"layer": 0}


def slow_srigl(weights, gradients, live, kept, share, ablate):
    """Row by row, in lists."""
    rows, width = weights.shape
    w, g = weights.tolist(), gradients.tolist()
    alive = [(i, j) for i in range(rows) for j in range(width) if live[i, j]]
    dead = [(i, j) for i in range(rows) for j in range(width) if not live[i, j]]
    moving = int(share * len(alive))
    by_size = sorted(alive, key=lambda p: (-w[p[0]][p[1]], p))
    by_slope = sorted(dead, key=lambda p: (-g[p[0]][p[1]], p))
    salient = set(by_size[: len(alive) - moving]) | set(by_slope[:moving])
    counts = [sum(i == row for i, _ in salient) for row in range(rows)]
    least = max(1, int(ablate * (kept // rows)))
    living = [row for row in range(rows) if counts[row] >= least]
    ranked = sorted(range(rows), key=lambda row: (-counts[row], row))
    if len(living) < -(-kept // width):
        living = ranked[: -(-kept // width)]
    if len(living) > kept:
        living = ranked[:kept]
    fan_in = min(kept // max(len(living), 1), width)
    left = by_size[: len(alive) - moving]
    result = []
    for row in living:
        own = [p for p in left if p[0] == row][:fan_in]
        others = [(row, j) for j in range(width) if (row, j) not in own]
        others.sort(key=lambda p: (-g[p[0]][p[1]], p))
        result += own + others[: fan_in - len(own)]
    return sorted(result)


@pytest.mark.parametrize("ablate", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kept", [0, 3, 20, 56])
def test_srigl_is_its_definition(ablate, share, kept):
    weights, gradients = some((8, 7), 11).abs(), some((8, 7), 12).abs()
    live = SRigL().first({"layer": weights}, {"layer": kept}, 3)["layer"]
    args = (weights * live, gradients, live)
    found = exchanged_by_rows(*args, kept=kept, share=share, ablate=ablate)
    expected = slow_srigl(*args, kept, share, ablate)
    assert [tuple(place) for place in found.nonzero().tolist()] == expected
    counts = found.sum(1)
    assert len(set(counts[counts > 0].tolist())) <= 1


@pytest.mark.parametrize("kept", [0, 3, 20, 56])
def test_srigl_begins_with_a_constant_fan_in(kept):
    live = SRigL().first({"layer": torch.zeros(8, 7)}, {"layer": kept}, 3)["layer"]
    assert set(live.sum(1).tolist()) <= ({0, 1} if kept < 8 else {kept // 8})
    assert int(live.sum()) == (kept if kept < 8 else kept // 8 * 8)


def test_srigl_under_two_of_four():
    weights, gradients = some((6, 8, 3), 13), some((6, 8, 3), 14)
    rule = SRigLNofM(drop=0.5)
    live = rule.first({"layer": weights}, {"layer": 72}, 0)["layer"]
    masks, _ = rule.update(state_of(weights, live, gradients))
    for found in (live, masks["layer"]):
        # Neighbouring inputs at one kernel position, never along flat memory.
        groups = found.movedim(1, -1).reshape(-1, 4)
        assert groups.sum(1).tolist() == [2] * 36
    assert RULES.make("srigl-2:4") == SRigLNofM()
    assert rule.fits((4, 6)) == "needs a multiple of 4 inputs, got 6"


# MEST


def test_importance(vectors):
    found = vectors["mest_importance"]
    weight, gradient = torch.tensor(found["w"]), torch.tensor(found["g"])
    assert importance(weight, gradient, 0.01).tolist() == pytest.approx(found["score"])
    assert importance(weight, gradient, 0.1).tolist() == pytest.approx(found["score_lam_0_1"])


@pytest.mark.parametrize(("soft", "name"), [(False, "EM"), (True, "EM_S")])
def test_mest_has_the_bounds_of_its_stages(vectors, soft, name):
    found = vectors["mest_bounds"]
    size, kept = found["n"], 1000
    rule = Mest(soft=soft, every=5)
    stages = [Clock(epoch, 160, 1) for epoch in (5, 90, 120)]
    bounds = [rule.bounds(size, kept, clock) for clock in stages]
    assert [upper for _, upper in bounds] == found[name]["nnz_train"]
    assert [lower for lower, _ in bounds] == found[name]["pruned_to"]
    assert [upper - lower for lower, upper in bounds] == found[name]["grown"]
    due = [epoch for epoch in range(161) if rule.due(Clock(epoch, 160, 1))]
    assert due == list(range(5, 121, 5))


def test_mest_by_eye():
    # Of four live weights the lower bound keeps the two largest; two come anywhere else.
    weights, live = t(1.0, 4.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0), mask(1, 1, 1, 1, 0, 0, 0, 0)
    rule = Mest(every=1, extra=(0.5, 0.0), stages=(0.5,))
    masks, _ = rule.update(state_of(weights, live))
    assert masks["layer"][[1, 3]].all()
    assert int(masks["layer"].sum()) == 4


# Sparse momentum


def test_sharing_out_by_eye():
    assert shared_out(10, {"a": 3.0, "b": 1.0}, {"a": 20, "b": 20}) == {"a": 8, "b": 2}
    assert shared_out(10, {"a": 3.0, "b": 1.0}, {"a": 4, "b": 20}) == {"a": 4, "b": 6}
    assert shared_out(3, {"a": 0.0, "b": 0.0}, {"a": 1, "b": 2}) == {"a": 1, "b": 2}


def test_sparse_momentum_by_eye():
    # Half of each layer goes (2 and 1). Mean |momentum| of what is left: 1 and 3, so the three
    # places are shared 1 to 2, at the largest momentum among the dead.
    weights = {"a": t(1.0, 2.0, 3.0, 4.0, 0.0, 0.0), "b": t(1.0, 5.0, 0.0, 0.0, 0.0)}
    averages = {"a": t(9.0, 0.0, 1.0, -1.0, 0.0, 0.0), "b": t(0.0, 3.0, 0.0, 5.0, 6.0)}
    masks = {name: weight != 0 for name, weight in weights.items()}
    state = State(START, weights, {}, masks, {"a": 4, "b": 2}, "b", averages)
    found, _ = SparseMomentum(drop=0.5, least=0.5).update(state)
    assert found["a"].int().tolist() == [1, 0, 1, 1, 0, 0]
    assert found["b"].int().tolist() == [0, 1, 0, 1, 1]


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


# All


@pytest.mark.parametrize("kind", RULES.kinds())
def test_broken_numbers_are_refused(kind):
    rule = RULES.make(kind)
    weights, live = some((4, 8), 30), torch.ones(4, 8, dtype=torch.bool)
    broken = weights.clone()
    broken[0, 0] = torch.nan
    moves = kind not in ("dense", "static", "str", "autosparse", "dst", "sr-ste")
    if rule.needs_gradients:
        with pytest.raises(NonFiniteError, match="gradients are NaN"):
            rule.update(state_of(weights, live, broken, kept=16))
    if rule.averages_gradients:
        with pytest.raises(NonFiniteError, match="gradients are NaN"):
            rule.update(state_of(weights, live, averages=broken, kept=16))
    elif moves:
        clock = Clock(10, 100, 1)
        with pytest.raises(NonFiniteError, match="weights are NaN"):
            rule.update(state_of(broken, live, weights, kept=16, clock=clock))


@pytest.mark.parametrize("kind", RULES.kinds())
def test_rules_are_plain_data(kind):
    rule = RULES.make(kind)
    assert RULES.from_dict(RULES.to_dict(rule)) == rule
    assert len(RULES.describe(kind).splitlines()[0]) < 100


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("rigl", {"drop": 2.0}),
        ("rigl", {"every": -1}),
        ("set", {"until": 2.0}),
        ("srigl", {"ablate": -1.0}),
        ("mest", {"extra": (0.1,)}),
        ("sparse-momentum", {"least": 0.9}),
        ("gmp", {"begin": 0.9}),
        ("top-kast", {"reserve": -1.0}),
        ("autosparse", {"first_alpha": 2.0}),
        ("dst", {"penalty": -1.0}),
        ("sr-ste", {"n": 5}),
    ],
)
def test_nonsense_is_refused(kind, options):
    with pytest.raises(SparsityError):
        RULES.make(kind, **options)
