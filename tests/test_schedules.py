"""Schedules against the published formula and what all of them promise."""

import pytest

from sparsity_core.errors import SparsityError
from sparsity_core.schedules import SCHEDULES


def test_one_shot_by_eye():
    assert SCHEDULES.make("one-shot").targets(0.7) == [0.7]


def test_geometric_by_eye():
    # Half of the rest each round: 1/2, 3/4, 7/8.
    assert SCHEDULES.make("geometric", rounds=3).targets(0.875) == pytest.approx([0.5, 0.75, 0.875])


def test_geometric_gives_the_lottery_tickets_axis(vectors):
    # The output layer loses 10 %, the hidden ones 20 % a round; here the hidden layers alone.
    twenty = SCHEDULES.make("geometric", rounds=16).targets(1 - 0.8**16)
    assert [1 - s for s in twenty] == pytest.approx([0.8**k for k in range(1, 17)])
    published = vectors["imp_lenet300100_Pm_percent"]["Pm"]["16"]
    hidden, output = 784 * 300 + 300 * 100, 100 * 10
    kept = (hidden * (1 - twenty[15]) + output * 0.9**16) / (hidden + output)
    assert 100 * kept == pytest.approx(published, rel=1e-9)


def test_linear_by_eye():
    assert SCHEDULES.make("linear", rounds=4).targets(0.8) == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_cubic_follows_zhu_and_gupta(vectors):
    example = vectors["gmp_cubic"]
    rounds = (example["end"] - example["t0"]) // example["freq"]
    targets = SCHEDULES.make("cubic", rounds=rounds).targets(example["s_f"])
    steps = range(example["t0"] + 100, example["end"] + 1, 100)
    for target, step in zip(targets, steps, strict=True):
        if str(step) in example["s"]:
            assert target == pytest.approx(example["s"][str(step)], abs=1e-12)


@pytest.mark.parametrize("kind", SCHEDULES.kinds())
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.95, 1.0])
def test_targets_rise_and_end_exactly(kind, sparsity):
    targets = SCHEDULES.make(kind).targets(sparsity)
    assert targets[-1] == sparsity
    assert targets == sorted(targets)
    assert all(0 <= t <= 1 for t in targets)


@pytest.mark.parametrize("kind", ["geometric", "cubic"])
def test_rounds_must_be_positive(kind):
    with pytest.raises(SparsityError, match="rounds must be 1 or more, got 0"):
        SCHEDULES.make(kind, rounds=0)
