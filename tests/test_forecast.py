"""Losses of single layers, added up."""

from dataclasses import replace

import numpy as np
import pytest

from sparsity_core.errors import SparsityError
from sparsity_core.plans import row_from_dict
from sparsity_core.sweep.forecast import curves, predicted_rise
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import catalog, load_task


def shipped(scorer="magnitude", structure="unstructured"):
    rows = [row_from_dict("sweep", r) for r in catalog()["digits-lenet"].sensitivity()["rows"]]
    return [r for r in rows if (r.scorer, r.structure) == (scorer, structure)]


def point(layer, sparsity, rise, **other):
    sample = shipped()[0]
    return replace(
        sample, layer=layer, sparsity=sparsity, achieved_sparsity=sparsity, loss_rise=rise, **other
    )


BY_EYE = [
    point("a", 0.5, 0.1),
    point("a", 0.9, 0.5),
    point("b", 0.5, -0.02),
    point("b", 0.9, 1.0),
]


def test_by_eye():
    found = predicted_rise(curves(BY_EYE), {"a": 0.7, "b": 0.25})
    assert found.rises == pytest.approx({"a": 0.3, "b": -0.01})  # half way up; half way down
    assert found.total == pytest.approx(0.29)
    assert found.unknown == {}


def test_a_dense_layer_costs_nothing_even_without_a_curve():
    found = predicted_rise(curves(BY_EYE), {"a": 0.0, "c": 0.0})
    assert found.rises == {"a": 0.0, "c": 0.0}
    assert found.total == 0


def test_nothing_is_known_beyond_the_last_level_or_without_a_curve():
    found = predicted_rise(curves(BY_EYE), {"a": 0.95, "b": 0.9, "c": 0.1})
    assert found.total is None
    assert found.rises == pytest.approx({"b": 1.0})
    assert found.unknown == {
        "a": "95 % is beyond the last level measured alone, 90 %",
        "c": "no sound point of it was measured alone",
    }


def test_seeds_are_averaged_and_unsound_points_left_out():
    rows = [
        point("a", 0.5, 0.1, seed=0),
        point("a", 0.5, 0.3, seed=1),
        point("a", 1.0, 9.0, status="collapsed"),
        replace(point("a", 0.7, 0.0), status="failed", achieved_sparsity=None, loss_rise=None),
        point("b", 1.0, 9.0, status="collapsed"),
    ]
    assert curves(rows) == {"a": ((0.0, 0.0), (0.5, pytest.approx(0.2)))}


def test_requests_that_round_to_the_same_mask_are_one_level():
    rows = [replace(point("a", s, 0.4), achieved_sparsity=0.25) for s in (0.2, 0.3)]
    assert curves(rows) == {"a": ((0.0, 0.0), (0.25, pytest.approx(0.4)))}


@pytest.mark.parametrize("part", [{"scorer": "random"}, {"split": "test"}, {"samples": 7}])
def test_rows_that_do_not_belong_together_are_refused(part):
    with pytest.raises(SparsityError, match=f"rows of one {next(iter(part))} make a curve"):
        curves([BY_EYE[0], replace(BY_EYE[1], **part)])


def test_between_levels_as_numpy_interpolates():
    found = curves(shipped())
    assert len(found) == 4
    for layer, curve in found.items():
        levels, rises = map(np.array, zip(*curve, strict=True))
        for share in np.linspace(0, levels[-1], 41):
            own = predicted_rise(found, {layer: float(share)}).rises[layer]
            assert own == pytest.approx(np.interp(share, levels, rises), abs=1e-12)


def test_a_single_layer_is_predicted_as_it_was_measured():
    task = load_task("digits-mlp")
    plan = plan_sweep(task, layers=["fc1", "fc2"], sparsities=[0.5, 0.8], samples=100, device="cpu")
    rows = list(plan.run(task, plan.points()))
    known = curves(rows)
    for row in rows:
        alone = predicted_rise(known, {row.layer: row.achieved_sparsity})
        assert alone.total == pytest.approx(row.loss_rise)
