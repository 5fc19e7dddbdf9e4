"""The time left of a sweep, by what its groups of points took."""

import pytest
import torch
from torch import nn

from sparsity_core.groups_left import GroupsLeft
from sparsity_core.sweep import work
from sparsity_core.sweep.work import speed_of
from sparsity_core.time_left import Done

WORK = {"a1": 1.0, "a2": 1.0, "a3": 1.0, "b1": 2.0, "b2": 2.0, "b3": 2.0}
GROUPS = [["a1", "a2", "a3"], ["b1", "b2", "b3"]]


def told(left, *notes):
    """What is said after each (point, seconds), at the time when it comes."""
    now, said = 0.0, []
    for point, seconds in notes:
        now += seconds
        left.note(Done(point, 1.0, now, seconds=seconds))
        said.append(left.seconds(now))
    return said


def test_levels_in_turn():
    left = GroupsLeft(WORK, GROUPS)
    said = told(left, ("a1", 2.0), ("a2", 2.0), ("a3", 2.0), ("b1", 4.0), ("b2", 4.0), ("b3", 4.0))
    assert said == [None, 14.0, 12.0, 8.0, 4.0, 0.0]
    assert left.seconds(100.0) == 0.0


def test_levels_that_come_with_the_first():
    said = told(GroupsLeft(WORK, GROUPS), ("a1", 6.0), ("a2", 0.0), ("a3", 0.0), ("b1", 12.0))
    assert said == [None, 12.0, 12.0, 0.0]


def test_time_passes_and_several_work():
    left = GroupsLeft(WORK | {"c": 6.0}, [*GROUPS, ["c"]], workers=2)
    told(left, ("a1", 2.0), ("a2", 2.0), ("a3", 2.0))
    assert left.seconds(6.0) == 12.0  # b and c, 12 each, by one each
    assert left.seconds(7.5) == 10.5
    left.drop(["c"])
    assert left.seconds(6.0) == 12.0  # b is not done by two


def test_what_others_have_done_is_no_longer_left():
    left = GroupsLeft(WORK, GROUPS)
    told(left, ("a1", 2.0), ("a2", 2.0), ("a3", 2.0))
    left.begun("b1", 0.75)
    left.drop(["b2"])
    assert left.seconds(6.0) == pytest.approx(2 * (0.5 + 2.0))


def test_points_in_parts():
    left = GroupsLeft(WORK, GROUPS)
    for now, point in enumerate(WORK, start=1):
        left.note(Done(point, 0.5, 0.0, settled=False, seconds=WORK[point]))
        if now == 3:
            assert left.seconds(0.0) == pytest.approx(2 * (1.5 + 6))
    assert left.seconds(0.0) == pytest.approx(2 * 4.5)
    left.note(Done("a1", 1.0, 0.0, seconds=1.0))
    assert left.seconds(0.0) == pytest.approx(2 * 4)


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in turn"])
@pytest.mark.parametrize("each", [0.0, 0.1])
def test_uneven_layers_are_right_within_a_fifth_after_the_first_tenth(at_once, each):
    """22 layers of 9 levels, the first 100 times the last; a point costs something in any case."""
    works = [100 / (1 + layer) ** 1.5 for layer in range(22)]
    groups = [[f"{layer} {level}" for level in range(9)] for layer in range(22)]
    of = {point: w for w, group in zip(works, groups, strict=True) for point in group}
    left, now, checked = GroupsLeft(of, groups), 0.0, 0
    total = 9 * sum(w + each for w in works)
    for w, group in zip(works, groups, strict=True):
        for level, point in enumerate(group):
            spent = each + ((9 * w if level == 0 else 0.0) if at_once else w)
            now += spent
            left.note(Done(point, 1.0, now, seconds=spent))
            if total / 10 <= now <= 0.9 * total and (level or w < works[0]):
                checked += 1
                assert left.seconds(now) == pytest.approx(total - now, rel=0.2)
    assert checked > 50


def test_speed_of_a_layer_and_what_follows(monkeypatch):
    """Each look at the clock is a second: two operators a linear layer, one between."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(work.time, "perf_counter", lambda: float(next(ticks)))
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    found = speed_of(model, torch.zeros(5, 4))
    # Transposing and multiplying, twice, with the ReLU between; then the end.
    assert found.whole == 6
    assert found.behind == {"0.weight": 4, "2.weight": 1}
