"""Early answers about a model: their rows beside full ones, on the way and at the end."""

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F

from sparsity_core.plans import plan_from_dict, row_from_dict
from sparsity_core.sweep.decide import follow, whole_model
from sparsity_core.sweep.engines import SAMPLERS
from sparsity_core.sweep.order import order_of, rates_from
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.sweep.sequential import Question, rounds
from sparsity_core.sweep.trials import Trials
from sparsity_core.task import Metric, load_task
from sparsity_core.workbench import workbench
from tests.test_sweep import tiny_task


def digits_plan(question, engine="reference"):
    task = load_task("digits-lenet")
    structures = ["unstructured", "out-channel"]
    levels = [0.5, 0.8, 0.95]
    options = {"structures": structures, "sparsities": levels, "engine": engine}
    return task, plan_sweep(task, **options, question=question)


@pytest.mark.parametrize(
    ("threshold", "engine"), [(0.01, "reference"), (0.05, "bitwise"), (0.05, "exact")]
)
def test_early_rows_agree_with_full_ones(threshold, engine):
    task, plan = digits_plan(Question(threshold), engine)
    _, full = digits_plan(None)
    exact = {row.point_id: row for row in full.run(task, full.points())}
    early = {row.point_id: row for row in plan.run(task, plan.points())}
    assert len(early) == len(plan.points()) == plan.question.points
    stopped = 0
    for point, whole in zip(plan.points(), full.points(), strict=True):
        row, truth = early[point.id], exact[whole.id]
        assert (row.layer, row.sparsity, row.engine) == (
            truth.layer,
            truth.sparsity,
            f"decide, {plan.engine}",
        )
        assert row.status == truth.status
        # The order is fixed, so this holds or not: at 5 % for the whole family it is to hold.
        assert row.drop_low <= truth.drop <= row.drop_high
        assert row.drop_low <= row.drop <= row.drop_high
        assert row.dense_value == truth.dense_value
        verdict = "yes" if truth.drop > threshold else "no"
        assert row.message.startswith(f"drop over {100 * threshold:g} point")
        assert f"? {verdict}" in row.message
        assert (row.achieved_sparsity, row.removed) == (truth.achieved_sparsity, truth.removed)
        if row.samples == truth.samples:
            assert row.drop_low == row.drop_high == pytest.approx(truth.drop, abs=1e-12)
            assert row.value == pytest.approx(truth.value, abs=1e-12)
            assert row.loss == pytest.approx(truth.loss, abs=1e-6)
            assert row.loss_rise_low is not None
        else:
            stopped += 1
            assert row.loss_rise_low is row.loss_rise_high is None
            assert f"{row.samples} of {truth.samples} samples" in row.message
    assert stopped > len(early) / 4


@pytest.mark.parametrize("engine", [name for name in SAMPLERS if name != "reference"])
@pytest.mark.parametrize("model", ["digits-mobilenet", "digits-vit", "digits-resnet"])
def test_fast_samplers_see_what_the_whole_model_sees(model, engine, monkeypatch):
    if engine == "verified":
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            pytest.skip("oneDNN has no bfloat16 here")
        # Slow bfloat16 gives the same numbers, and rounds of few samples are screened like others.
        monkeypatch.setattr("sparsity_core.sweep.engines.check_fast_bf16", lambda _: None)
        monkeypatch.setattr("sparsity_core.sweep.ways.check_fast_bf16", lambda _: None)
        monkeypatch.setattr("sparsity_core.sweep.sampling._SCREENED", 24)
    task = load_task(model)
    options = {"sparsities": [0.6, 0.9], "question": Question(width=0)}
    whole, fast = (plan_sweep(task, **options, engine=e) for e in ("reference", engine))
    expected = {(r.layer, r.sparsity): r for r in whole.run(task, whole.points())}
    for row in fast.run(task, fast.points()):
        other = expected[row.layer, row.sparsity]
        assert (row.status, row.samples) == ("ok", len(task.validation))
        assert (row.drop, row.value) == (other.drop, other.value)
        near = 0.02 if engine == "verified" else 1e-6
        assert row.loss == pytest.approx(other.loss, abs=near, rel=near)


def test_masks_are_made_from_what_a_layer_shares_and_go_with_its_last_point():
    task = tiny_task(samples=300)
    plan = plan_sweep(
        task,
        layers=["0"],
        sparsities=[0.3, 0.5, 0.9],
        question=Question(width=0),
        structures=["out-channel", "unstructured"],
    )
    bench, points = workbench(task, plan.setting), plan.points()
    trials = Trials(bench, points, plan.question, whole_model(bench))
    held = []
    for where in rounds(300):
        trials.begin(where, points)
        for point in points:
            if point.id in trials.seen or where.start == 0:
                trials.see(point)
                held.append(len(trials.levels))
    assert max(held) == 2  # of six points
    assert held[-1] == 0


def test_a_width_is_reached():
    task, plan = digits_plan(Question(width=0.2, error=0.5))
    for row in plan.run(task, plan.points()):
        assert row.drop_high - row.drop_low <= 0.2
        assert "done" in row.message or row.samples == len(task.validation)


def test_values_are_estimates_from_the_samples_seen():
    """The whole of a row by a plain loop over the first samples of the order."""
    task = tiny_task(samples=300)
    plan = plan_sweep(
        task, layers=["0"], sparsities=[0.5], question=Question(0.4, error=0.2, order=3)
    )
    (row,) = plan.run(task, plan.points())
    assert row.samples < 300
    inputs, targets = task.test.inputs, task.test.targets
    weight = task.model[0].weight
    with torch.no_grad():
        before = task.model(inputs)
        weight.view(-1)[weight.abs().flatten().argsort()[:24]] = 0
        after = task.model(inputs)
    dense_loss, loss = (F.cross_entropy(x, targets, reduction="none") for x in (before, after))
    dense, pruned = ((x.argmax(1) == targets).double() for x in (before, after))
    order = order_of(rates_from(dense_loss.double().numpy()), 3)
    first = order.samples[: row.samples]
    assert row.dense_value == dense.mean().item()
    assert row.dense_loss == pytest.approx(dense_loss.mean().item())
    assert row.drop == pytest.approx(order.mean((dense - pruned)[first].numpy()))
    assert row.value == pytest.approx(row.dense_value - row.drop)
    rise = order.mean((loss - dense_loss)[first].double().numpy())
    assert row.loss_rise == pytest.approx(rise, abs=1e-6)
    assert row.loss == pytest.approx(row.dense_loss + rise, abs=1e-6)
    assert row.drop_low <= row.drop <= row.drop_high


def test_intervals_shrink_on_the_way():
    task = tiny_task(samples=400)
    plan = plan_sweep(task, sparsities=[0.3, 0.6], question=Question(width=0.01))
    widths, seconds = {}, {}
    for early in follow(task, plan.setting, plan.points(), plan.question):
        low, high = early.standing.interval
        widths.setdefault(early.point.id, []).append(high - low)
        assert early.seconds >= seconds.get(early.point.id, 0)
        seconds[early.point.id] = early.seconds
        assert (early.row is None) == (not early.standing.settled)
    assert len(widths) == 4
    for found in widths.values():
        assert len(found) > 3
        assert found == sorted(found, reverse=True)
        assert found[-1] <= 0.01


def test_what_cannot_be_measured_is_one_row():
    task = tiny_task(samples=200)
    options = {"layers": ["0"], "sparsities": [0.5], "question": Question(0.3)}
    plan = plan_sweep(task, **options, structures=["2:4", "unstructured"])
    rows = list(plan.run(task, plan.points()))
    assert sorted(row.status for row in rows) == ["ok", "skipped"]
    assert {row.engine for row in rows} == {f"decide, {plan.engine}"}
    broken = tiny_task(samples=200)
    broken.model[2].weight.data[0, 0] = float("nan")
    plan = plan_sweep(broken, **options)
    (row,) = plan.run(broken, plan.points())
    assert (row.status, row.value) == ("nan", None)


def test_a_point_that_breaks_halfway_ends_there():
    task = tiny_task(samples=200)
    plan = plan_sweep(task, layers=["0"], sparsities=[0.5, 0.6], question=Question(width=0.01))
    broken = plan.points()[0].id

    def sampling(bench):
        whole, seen = whole_model(bench), []

        def sampler(layer, variants, samples):
            own = whole(layer, variants, samples)

            def of(place):
                left = int(variants[place]["0.weight"].sum())
                if seen and left == max(seen):
                    raise RuntimeError("out of luck")
                seen.append(left)
                return own(place)

            return of

        return sampler

    found = list(follow(task, plan.setting, plan.points(), plan.question, sampling))
    rows = {early.point.id: early.row for early in found if early.row}
    assert [row.status for row in rows.values()] == ["failed", "ok"]
    assert "out of luck" in rows[broken].message
    assert sum(early.point.id == broken for early in found) == 2


def test_a_metric_without_bounds_is_refused():
    task = tiny_task()
    far = Metric("distance", lambda outputs, targets: 3 * (outputs[:, 0] + targets))
    task = dataclasses.replace(task, metric=far)
    plan = plan_sweep(task, layers=["0"], sparsities=[0.5], question=Question(0.1))
    (row,) = plan.run(task, plan.points())
    assert row.status == "failed"
    assert "between 0 and 1" in row.message


def test_the_question_is_part_of_the_plan():
    task = tiny_task()
    base = {"layers": ["0"], "sparsities": [0.5]}
    plain = plan_sweep(task, **base)
    asked = [
        plan_sweep(task, **base, question=question)
        for question in (
            Question(0.01),
            Question(0.05),
            Question(width=0.01),
            Question(0.01, error=0.1),
            Question(0.01, order=1),
        )
    ]
    assert len({plan.points()[0].id for plan in [plain, *asked]}) == 6
    assert "question" not in plain.to_dict()
    again = plan_from_dict(json.loads(json.dumps(asked[2].to_dict())))
    assert again == asked[2]
    assert again.points() == asked[2].points()
    assert "drop to within 1 point" in again.title
    row = next(again.run(task, again.points()))
    assert row_from_dict("sweep", json.loads(json.dumps(dataclasses.asdict(row)))) == row
    more = plan_sweep(task, sparsities=[0.5, 0.7], question=Question(0.01))
    assert more.question.points == 4


def test_ids_without_a_question_are_as_they_always_were():
    plan = plan_sweep(tiny_task(), engine="reference")
    assert plan.digest == "20b0919ea8ed0cd2"
    assert plan.points()[3].id == "30e496577fa770f4"
