"""Early answers on their way to a person: told while under way, stored when settled, completed."""

import dataclasses
import json

import pytest

from app import cache
from app.answer_form import answer_view
from app.reproduce import sweep_command, sweep_python
from app.sensitivity_charts import heatmap
from app.sensitivity_table import frame_of
from sparsity_core.cli.main import main
from sparsity_core.executors import InProcess
from sparsity_core.jobs import Job
from sparsity_core.status import OPEN
from sparsity_core.store import Store
from sparsity_core.sweep import decide
from sparsity_core.sweep.asked import said, stopped
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.sweep.point import Result
from sparsity_core.sweep.sequential import Question
from sparsity_core.task import load_task
from tests.app_session import open_page, own_store, texts, wait_for_jobs

__all__ = ["own_store"]


@pytest.fixture(scope="module")
def task():
    return load_task("digits-mlp")


def plan_of(task, question, **options):
    return plan_sweep(task, sparsities=[0.5, 0.9, 0.95], question=question, **options)


def key(row):
    return row.layer, row.scorer, row.sparsity


def test_open_points_are_told_and_their_last_row_is_that_of_a_run(task, monkeypatch):
    monkeypatch.setattr(decide, "_TELLING", 1e9)  # all of them, however long it takes
    plan = plan_of(task, Question(width=0.02))
    told = [row for row in plan.watch(task, plan.points()) if isinstance(row, Result)]
    last = {r.point_id: dataclasses.replace(r, seconds=0) for r in told if r.status != OPEN}
    alone = list(plan.run(task, plan.points()))
    assert last == {row.point_id: dataclasses.replace(row, seconds=0) for row in alone}
    under_way = [row for row in told if row.status == OPEN]
    assert under_way
    for row in under_way:
        assert row.samples < len(task.validation)
        assert row.drop_low <= last[row.point_id].drop <= row.drop_high


def test_what_is_under_way_is_never_stored(task, tmp_path):
    plan, store, seen = plan_of(task, Question(width=0.02)), Store(tmp_path), []

    class Watching(InProcess):
        def run(self, plan, groups, stopped):
            for row in super().run(plan, groups, stopped):
                yield row
                seen.append({row.status for row in job.under_way})

    job = Job(plan, store)
    job.run(Watching(task))
    assert {OPEN} in seen
    assert job.under_way == []
    assert len(store.rows(plan)) == len(plan.points()) == job.view.done


def test_all_layers_are_dealt_out_to_the_workers(task):
    plan = plan_of(task, Question(0.01), scorers=["magnitude", "random"])
    groups = plan.groups_for(plan.points(), 2)
    assert [{p.layer for p in group} for group in groups] == [
        {"fc1.weight", "fc3.weight"},
        {"fc2.weight"},
    ] * 2
    assert sorted(p.id for group in groups for p in group) == sorted(p.id for p in plan.points())


@pytest.mark.parametrize("question", [Question(0.05), Question(width=0.3)])
def test_a_row_says_the_answer_of_its_standing(task, question):
    words = {"at most": "? no", "more than": "? yes", "narrow": "done"}
    plan = plan_of(task, question)
    for row in plan.run(task, plan.points()):
        answer = said(plan.question, row)
        # Exact and no wider than asked is narrow; a threshold question ends in one of two ways.
        assert words[answer] in row.message
        assert stopped(row) == (row.samples < len(task.validation))


def test_a_single_sample_is_all_samples(task):
    plan = plan_of(task, Question(0.01), layers=["fc1.weight"], samples=1)
    rows = list(plan.run(task, plan.points()))
    assert {(row.samples, row.loss_rise_low, stopped(row)) for row in rows} == {(1, None, False)}
    assert set(frame_of(rows, plan.question)["mark"]) == {"measured"}


def test_the_heatmap_shows_answers_in_signs(task):
    plan = plan_of(task, Question(0.05))
    rows = list(plan.run(task, plan.points()))
    table = frame_of(rows, plan.question)
    assert set(table["answer"]) == {"≤ 5", "> 5"}
    assert "> 5" in json.dumps(heatmap(table, "fc1.weight").to_dict(), ensure_ascii=False)


def test_a_stopped_point_is_completed_on_the_page(own_store, task):
    link = {"model": "digits-mlp", "sweep-answer": "drop over", "sweep-asked": "5"}
    app = open_page("sensitivity", **link, **{"sweep-random": "false", "sweep-levels": ["95"]})
    app.button(key="start").click().run()
    wait_for_jobs()
    app.run()
    assert not app.exception
    assert "the error rate of the whole sweep is at most 5 %" in texts(app)
    (job,) = cache.queue().jobs()
    early = [row for row in cache.store().rows(job.plan) if stopped(row)]
    assert early
    app.button(key="complete all").click().run()
    wait_for_jobs()
    app.run()
    assert "3 exact, on all 360" in texts(app)
    assert not [button for button in app.button if button.key == "complete all"]


def test_the_words_of_an_early_sweep_ask_the_same(task, tmp_path, capsys):
    plan = plan_of(task, Question(0.05), device="cpu")
    found: dict = {}
    exec(sweep_python(plan), found)
    assert found["plan"] == plan
    command = sweep_command(plan)
    assert "--drop-over 5 --error 5" in command
    assert main([*command.split()[1:], "--store", str(tmp_path)]) == 0
    assert "risk that any of 9 is wrong" in capsys.readouterr().out
    assert Store(tmp_path).rows(plan)


@pytest.mark.parametrize("question", [None, Question(0.01), Question(width=0.5, error=0.2)])
def test_the_form_can_say_a_usual_question(question):
    assert answer_view(question)
    assert answer_view(Question(0.01, order=3)) is None
