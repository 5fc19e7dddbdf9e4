"""The time left: work over pace, points that are done in parts, points that others have done."""

import pytest

from sparsity_core.groups_left import GroupsLeft
from sparsity_core.time_left import Done, TimeLeft


def test_the_time_left_is_work_over_pace():
    left = TimeLeft({"a": 1.0, "b": 3.0, "c": 4.0}, "abc")
    assert left.seconds(0.0) is None
    left.note(Done("a", 1.0, 10.0))  # also took the start
    assert left.seconds(10.0) is None
    left.note(Done("b", 1.0, 13.0))  # 3 in 3 s
    assert left.seconds(13.0) == pytest.approx(4.0)
    assert left.seconds(14.5) == pytest.approx(2.5)
    left.drop("c")
    assert (left.left, left.seconds(13.0)) == (0.0, 0.0)


def test_a_point_is_done_in_parts_and_may_be_settled_before_its_end():
    left = TimeLeft({"a": 8.0, "b": 8.0}, "ab")
    left.note(Done("a", 0.25, 0.0, settled=False))
    left.note(Done("b", 0.25, 1.0, settled=False))  # 2 in 1 s
    assert left.left == 12.0
    assert left.seconds(1.0) == pytest.approx(6.0)
    left.note(Done("a", 0.5, 2.0))  # its other half need not be done
    assert left.left == 6.0
    assert left.seconds(2.0) == pytest.approx(3.0)
    left.note(Done("a", 1.0, 3.0))  # no longer its own
    assert left.left == 6.0


@pytest.mark.parametrize("kind", [TimeLeft, lambda work, ids: GroupsLeft(work, [ids])])
def test_every_kind_hears_the_same_and_leaves_the_points_of_others_alone(kind):
    left = kind({"a": 2.0, "b": 2.0}, "ab")
    assert left.seconds(0.0) is None
    for now, point in ((1.0, "other"), (2.0, "a"), (4.0, "other"), (4.0, "b")):
        left.note(Done(point, 1.0, now, seconds=2.0))
    assert (left.left, left.seconds(4.0)) == (0.0, 0.0)
