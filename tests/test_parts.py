"""Points measured in parts: begun by an early answer and completed, or cut along the samples."""

import dataclasses
import json
import os
import signal

import pytest
import torch

from sparsity_core.executors import InProcess, WorkerProcesses
from sparsity_core.jobs import Job, submit
from sparsity_core.plans import row_from_dict, units_named
from sparsity_core.store import Store
from sparsity_core.sweep.cut import spans
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.sweep.point import Result
from sparsity_core.sweep.sequential import Question
from sparsity_core.sweep.share import Part, Share, combined, fitting
from sparsity_core.task import catalog, load_task
from tests.logged_plan import wait_until
from tests.test_sweep import tiny_task

DIGITS = [name for name in catalog() if name.startswith("digits-")]
LOSSES = ("loss", "loss_rise", "loss_rise_low", "loss_rise_high", "dense_loss")


def done(plan, store, task):
    """Run a plan to its end in this process; what came on the way."""
    seen = []

    class Told(InProcess):
        def run(self, plan, groups, stopped):
            for row in super().run(plan, groups, stopped):
                seen.append(row)
                yield row

    job = Job(plan, store)
    job.run(Told(task))
    assert (job.view.state, job.view.done) == ("done", job.total), job.view
    return seen


def same(found, expected):
    """Equal in every column; losses but for rounding."""
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        for name in LOSSES:
            assert getattr(row, name) == pytest.approx(getattr(other, name), abs=1e-5, rel=1e-5)
        plain = dict.fromkeys((*LOSSES, "seconds"))
        assert dataclasses.replace(row, **plain) == dataclasses.replace(other, **plain)


def counts(rows):
    return {(r.layer, r.sparsity): r.value and round(r.value * r.samples) for r in rows}


@pytest.mark.parametrize("model", DIGITS)
def test_a_stopped_point_is_completed_by_the_samples_it_has_not_seen(model, tmp_path):
    task = load_task(model)
    options = {"sparsities": [0.5, 0.9, 0.97], "samples": 347, "device": "cpu", "engine": "exact"}
    plan = plan_sweep(task, **options, question=Question(0.05))
    store = Store(tmp_path)
    early = {p.owner: p for p in done(plan, store, task) if isinstance(p, Part)}
    stopped = [row for row in store.rows(plan) if row.samples < 347]
    assert len(stopped) > len(plan.points()) / 3
    told = done(plan.whole, store, task)
    parts = [part for part in told if isinstance(part, Part)]
    assert parts
    for part in parts:
        assert (part.first, part.stop) == (early[part.owner].stop, 347)
    # Those without a part had a prediction that only the batch of all samples decides.
    again = [row.point_id for row in told if isinstance(row, Result)]
    assert not set(again) & set(early)
    assert len(again) + len(early) == len(plan.points())
    assert len(again) < len(plan.points()) / 2
    full = store.rows(plan.whole)
    same(full, list(plan.whole.run(task, plan.whole.points())))
    slow = plan_sweep(task, **options | {"engine": "reference"})
    assert counts(full) == counts(slow.run(task, slow.points()))
    assert not store.parts([point.id for point in plan.whole.points()])


def test_completing_over_several_batches_the_last_one_uneven(tmp_path):
    task, store = tiny_task(samples=1100), Store(tmp_path)
    plan = plan_sweep(task, sparsities=[0.3, 0.5, 0.9], question=Question(0.3), engine="exact")
    done(plan, store, task)
    assert {row.samples < 1100 for row in store.rows(plan)} == {True}
    done(plan.whole, store, task)
    same(store.rows(plan.whole), list(plan.whole.run(task, plan.whole.points())))


def test_a_point_that_has_seen_every_sample_is_completed_without_any(tmp_path):
    task, store = load_task("digits-lenet"), Store(tmp_path)
    plan = plan_sweep(task, sparsities=[0.8], engine="exact", question=Question(width=0))
    done(plan, store, task)
    assert done(plan.whole, store, task) == []
    same(store.rows(plan.whole), list(plan.whole.run(task, plan.whole.points())))


@pytest.fixture(scope="module")
def begun():
    """A task, an early plan, and the parts that it leaves."""
    task = load_task("digits-lenet")
    plan = plan_sweep(
        task, layers=["fc1", "fc2"], sparsities=[0.5, 0.9], engine="exact", question=Question(0.2)
    )
    parts = [row for row in plan.watch(task, plan.points()) if isinstance(row, Part)]
    assert len(parts) == 4
    return task, plan.whole, parts


def test_parts_are_plain_data(begun):
    for part in begun[2]:
        assert row_from_dict("sweep", json.loads(json.dumps(dataclasses.asdict(part)))) == part


def test_where_the_order_is_another_all_samples_are_measured(begun, tmp_path):
    task, plan, parts = begun
    store = Store(tmp_path)
    for part in parts:
        name = part.point_id.split("@")[0] + "@0.00000000"
        store.add("sweep part", [dataclasses.replace(part, order="0.00000000", point_id=name)])
    told = done(plan, store, task)
    assert {(part.first, part.stop) for part in told} == {(0, len(task.validation))}
    same(store.rows(plan), list(plan.run(task, plan.points())))


@pytest.mark.parametrize("other", [{"versions": "older"}, {"device": "elsewhere"}])
def test_parts_of_another_machine_or_version_are_not_used(begun, tmp_path, other):
    task, plan, parts = begun
    store = Store(tmp_path)
    store.add("sweep part", [dataclasses.replace(part, **other) for part in parts])
    assert {type(row) for row in done(plan, store, task)} == {Result}


def test_what_has_the_bits_of_whole_batches_is_not_begun(begun):
    task, *_ = begun
    early = plan_sweep(
        task, layers=["fc2"], sparsities=[0.5], engine="bitwise", question=Question(0.2)
    )
    assert [type(row) for row in early.watch(task, early.points())] == [Result]


def test_what_a_run_has_begun_goes_with_it(begun, tmp_path):
    task, plan, _ = begun
    store = Store(tmp_path)
    early = dataclasses.replace(plan, question=Question(0.2, points=4))
    done(early, store, task)
    ids = [point.id for point in plan.points()]
    assert set(store.parts(ids)) == set(ids)
    store.save_run(plan, "cancelled")
    store.delete_run(early.digest)
    assert set(store.parts(ids)) == set(ids)  # the other run goes on from them
    store.delete_run(plan.digest)
    assert store.parts(ids) == {}
    done(plan, store, task)
    done(early, store, task)  # too late to begin anything
    assert store.parts(ids) == {}


def test_a_screened_answer_is_completed_to_the_same_counts(begun, tmp_path, monkeypatch):
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no bfloat16 here")
    monkeypatch.setattr("sparsity_core.sweep.engines.check_fast_bf16", lambda _: None)
    monkeypatch.setattr("sparsity_core.sweep.ways.check_fast_bf16", lambda _: None)
    task, whole, _ = begun
    store = Store(tmp_path)
    plan = dataclasses.replace(whole, engine="verified", question=Question(0.2, points=4))
    done(plan, store, task)
    told = done(plan.whole, store, task)
    assert any(isinstance(row, Part) for row in told)
    rows = store.rows(plan.whole)
    assert counts(rows) == counts(whole.run(task, whole.points()))
    assert all("the loss is approximate" in r.message for r in rows if r.engine == "verified")


@pytest.mark.parametrize("model", DIGITS)
def test_shares_of_an_odd_number_of_samples_add_up_to_the_uncut_rows(model):
    task = load_task(model)
    options = {"sparsities": [0.6, 0.95], "samples": 347, "device": "cpu"}
    plan = plan_sweep(task, **options, engine="exact")
    points = {point.id: point for point in plan.points()}
    cuts = spans(plan, part=1.0, workers=3)
    assert [stop - first for first, stop in cuts] == [64, 64, 64, 64, 64, 27]
    names = [Share(point, *cut).id for cut in reversed(cuts) for point in points.values()]
    parts = {}
    for part in plan.watch(task, units_named(points, names)):
        parts.setdefault(part.owner, []).append(part)
    rows = [combined(plan.setting, points[i], fitting(own)) for i, own in parts.items()]
    expected = list(plan.run(task, plan.points()))
    same(rows, expected)
    slow = plan_sweep(task, **options, engine="reference")
    assert counts(rows) == counts(slow.run(task, slow.points()))


@pytest.mark.parametrize("engine", ["reference", "bitwise", "exact"])
@pytest.mark.parametrize("first", [512, 500])
def test_shares_of_several_batches(engine, first):
    """Cut between batches or within one, which is then run as a whole where bits count."""
    task = tiny_task(samples=1100)
    plan = plan_sweep(task, sparsities=[0.5], engine=engine, structures=["out-channel", "2:4"])
    for point, expected in zip(plan.points(), plan.run(task, plan.points()), strict=True):
        shares = [Share(point, *cut) for cut in ((0, first), (first, 1100))]
        parts = list(plan.watch(task, shares))
        if expected.status == "ok":
            same([combined(plan.setting, point, fitting(parts))], [expected])
        else:
            told = {(part.status, part.message) for part in parts}
            assert told == {(expected.status, expected.message)}


def test_where_a_sweep_is_cut():
    task = tiny_task(samples=1100)
    plan = plan_sweep(task, engine="exact", device="cpu")
    whole = [(0, 1100)]
    assert spans(plan, part=1 / 4, workers=2) == whole  # two units for each worker
    assert spans(plan, part=1.0, workers=1) == whole
    assert spans(plan, part=1 / 3, workers=2) == [(0, 1024), (1024, 1100)]  # between batches
    assert spans(plan, part=1.0, workers=2)[:2] == [(0, 320), (320, 640)]
    slow = plan_sweep(task, engine="reference")
    assert spans(slow, part=1.0, workers=100) == [(0, 512), (512, 1024), (1024, 1100)]
    assert len(spans(plan, part=1.0, workers=100_000)) == 18  # 64 samples or more, the last apart
    assert spans(dataclasses.replace(plan, question=Question(0.1)), 1.0, 2) == whole
    many = dataclasses.replace(plan, setting=dataclasses.replace(plan.setting, samples=100_000))
    assert len(spans(many, part=0.02, workers=2)) == 4
    mean = dataclasses.replace(plan.setting, metric="perplexity")
    assert spans(dataclasses.replace(plan, setting=mean), 1.0, 2) == whole


def test_a_share_that_is_done_is_not_done_again(tmp_path):
    task, store = load_task("digits-mlp"), Store(tmp_path)
    plan = plan_sweep(task, layers=["fc1"], sparsities=[0.5, 0.9], engine="exact", device="cpu")
    measured = []

    class Many(InProcess):
        count = 3

        def run(self, plan, groups, stopped):
            for row in super().run(plan, groups, stopped):
                measured.append((row.owner, row.span))
                yield row
                if len(measured) == killed_after:
                    raise KeyboardInterrupt  # the process is gone

    killed_after = 5
    with pytest.raises(KeyboardInterrupt):
        Job(plan, store).run(Many(task))
    killed_after = -1
    assert store.rows(plan) == []
    job = Job(plan, store)
    job.run(Many(task))
    assert (job.view.state, job.view.done) == ("done", 2)
    expected = {(p.id, span) for p in plan.points() for span in spans(plan, 1.0, 3)}
    assert len(expected) == 12
    assert sorted(measured) == sorted(expected)
    same(store.rows(plan), list(plan.run(task, plan.points())))


def test_two_processes_share_a_layer(tmp_path):
    task, store = load_task("digits-mlp"), Store(tmp_path)
    plan = plan_sweep(task, layers=["fc1"], sparsities=[0.5, 0.9], engine="exact", device="cpu")
    workers = WorkerProcesses(2)
    job = submit(plan, store, workers)
    wait_until(lambda: job.view.done or store.parts([p.id for p in plan.points()]))
    os.kill(workers._workers[0].process.pid, signal.SIGKILL)
    assert job.wait(180)
    workers.close()
    assert (job.view.state, job.view.failed) == ("done", 0), job.view
    same(store.rows(plan), list(plan.run(task, plan.points())))
