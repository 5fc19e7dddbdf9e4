"""Tickets under way and finished lie in files: killed, damaged, looked at, made by workers."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from sparsity_core import checkpoint
from sparsity_core.errors import SparsityError
from sparsity_core.executors import WorkerProcesses
from sparsity_core.folder import default_folder
from sparsity_core.jobs import Job
from sparsity_core.rates import rate_at
from sparsity_core.store import Store
from sparsity_core.tickets.trial import masks_of, saved_end, seen_so_far
from tests.ticket_plan import TRAINING, _own_files, numbers, plan_of, same, task

__all__ = ["_own_files", "task"]


def test_a_damaged_file_is_named(task, tmp_path):
    checkpoint.save("some", {"a": torch.ones(2), "b": [1, None]})
    assert checkpoint.load("some")["b"] == [1, None]
    path = checkpoint.checkpoint_path("some")
    assert path.parent.parent == tmp_path
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SparsityError, match=r"some\.pt: is damaged .*delete it"):
        checkpoint.load("some")
    checkpoint.delete("some")
    assert checkpoint.load("some") is None


KILLED = """
import json, sys, torch
from sparsity_core import checkpoint
from sparsity_core.plans import plan_from_dict
from sparsity_core.task import load_task
torch.set_num_threads(1)
checkpoint._LOST = 0.0
plan = plan_from_dict(json.load(sys.stdin))
for row in plan.run(load_task(plan.model), plan.points()):
    print(row.round, flush=True)
"""


def test_killed_in_mid_round_it_goes_on_with_the_same_numbers(task, tmp_path, monkeypatch):
    training = replace(TRAINING, steps=300, optimizer="sgd", rate=0.05, rate_schedule="cosine")
    plan = plan_of(task, training=training, rewinds=[20], rounds=1, every=10)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdin.write(json.dumps(plan.to_dict()))
    process.stdin.close()
    assert process.stdout.readline() == "0\n"
    under_way = checkpoint.checkpoint_path(f"{plan.points()[1].id}-under-way")
    while not under_way.exists():
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout.read() == ""
    process.stdout.close()
    saved = torch.load(under_way, weights_only=True)
    assert 20 < saved["place"]["step"] < 300
    steps = []

    def noted(training, step, count):
        steps.append(step)
        return rate_at(training, step, count)

    monkeypatch.setattr("sparsity_core.course.rate_at", noted)
    (resumed,) = plan.run(task, plan.points()[1:])
    # The first steps lead to where weights are rewound to; what was saved is not made again.
    assert sorted(set(steps)) == [*range(20), *range(saved["place"]["step"], 300)]
    assert not under_way.exists()
    monkeypatch.undo()
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path / "elsewhere"))
    *_, whole = plan.run(task, plan.points())
    assert numbers(resumed) == numbers(whole)
    first, second = (
        torch.load(folder / "checkpoints" / f"{whole.point_id}.pt", weights_only=True)["state"]
        for folder in (tmp_path, tmp_path / "elsewhere")
    )
    assert same(first, second)


def test_worker_processes_and_the_store_carry_it(task, tmp_path):
    plan = plan_of(task, rounds=1, seeds=[0, 1], arms=["random"])
    executor = WorkerProcesses(2)
    store = Store(tmp_path / "own")
    job = Job(plan, store)
    try:
        job.run(executor)
    finally:
        executor.close()
    assert job.view.state == "done"
    rows = store.rows(plan)
    # Trainings are saved beside the job's own store, not beside the default one.
    saved = {path.stem for path in (tmp_path / "own" / "checkpoints").iterdir()}
    assert saved
    assert saved <= {row.point_id for row in rows}
    assert not (tmp_path / "checkpoints").exists()
    assert [numbers(row) for row in rows] == [
        numbers(row) | {"device": rows[0].device} for row in plan.run(task, plan.points())
    ]


def test_what_is_saved_can_be_looked_at(task, monkeypatch):
    plan = plan_of(task, rounds=1)
    dense, ticket = plan.points()
    assert saved_end(plan, ticket) is None
    assert seen_so_far(ticket) is None
    monkeypatch.setattr(checkpoint, "_LOST", 0.0)
    seen = []
    end = checkpoint.delete
    monkeypatch.setattr(
        checkpoint, "delete", lambda name: (seen.append(seen_so_far(ticket)), end(name))
    )
    *_, row = plan.run(task, [dense, ticket])
    assert seen[0] is None  # the dense training had ended, the ticket's had not begun
    assert seen[1].steps == json.loads(row.history)["step"]
    assert seen_so_far(ticket) is None
    found = saved_end(plan, ticket)
    assert numbers(found.row) == numbers(row)
    assert same(found.masks, masks_of(task, plan, ticket))
    checkpoint.free(plan.saved_under(), default_folder())
    assert saved_end(plan, ticket) is None
