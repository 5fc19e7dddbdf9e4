"""Rules that drop and grow weights, by eye and against their slow definitions."""

import pytest
import torch

from sparsity_core.dynamic import (
    RULES,
    Clock,
    Evolution,
    Mest,
    RandomGrowth,
    RigL,
    SparseMomentum,
    State,
    Static,
)
from sparsity_core.dynamic.exchange import (
    drawn,
    drawn_in_rows,
    highest,
    highest_in_rows,
    lowest,
    without_smallest,
)
from sparsity_core.dynamic.mest import importance
from sparsity_core.dynamic.sparse_momentum import shared_out
from sparsity_core.dynamic.timing import cosine_share
from sparsity_core.errors import NonFiniteError, SparsityError
from tests.dynamic_states import START, mask, some, state_of, t, vectors

__all__ = ["vectors"]


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
