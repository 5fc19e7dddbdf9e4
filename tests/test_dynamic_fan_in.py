"""SRigL: rows with equally many weights, neurons that go; by eye and against a slow definition."""

import pytest
import torch

from sparsity_core.dynamic import RULES, SRigL, SRigLNofM
from sparsity_core.dynamic.srigl import exchanged_by_rows
from tests.dynamic_states import some, state_of, t

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
