"""A sweep under way on the Sensitivity page: seen by others, cancelled, no brake on the page."""

import time

import torch

from app import cache
from sparsity_core.executors import WorkerProcesses
from tests.app_session import Held, open_page, own_store

__all__ = ["own_store"]


def test_a_running_job_is_seen_by_another_session(own_store, monkeypatch):
    monkeypatch.setattr(cache, "WorkerProcesses", lambda *_: Held(1))
    first = open_page("sensitivity", model="digits-lenet")
    first.button(key="start").click().run()
    (job,) = cache.queue().jobs()
    second = open_page("sensitivity", model="digits-mlp")
    assert any("Also" in caption.value for caption in second.caption)
    same = open_page("sensitivity", model="digits-lenet")
    assert [b.label for b in same.button if b.label == "Cancel"]
    job.cancel()
    assert job.wait(30)
    assert len(cache.queue().jobs()) == 1


def test_cancel_keeps_what_is_stored_and_the_rest_can_be_run(own_store, monkeypatch):
    monkeypatch.setattr(cache, "WorkerProcesses", lambda *_: Held(3))
    app = open_page("sensitivity", model="digits-mlp")
    app.button(key="start").click().run()
    (job,) = cache.queue().jobs()
    while job.view.done < 3:
        assert job.view.active
        time.sleep(0.05)
    next(b for b in app.run().button if b.label == "Cancel").click().run()
    assert job.wait(30)
    app.run()
    assert job.view.done == 3
    assert any("cancelled" in warning.value for warning in app.warning)
    assert app.button(key="start").label.startswith(f"Run {job.total - 3} new points (3 stored")


def test_the_page_stays_quick_while_a_sweep_runs(own_store, monkeypatch):
    monkeypatch.setattr(cache, "WorkerProcesses", WorkerProcesses)
    torch.set_num_threads(1)
    app = open_page("sensitivity", model="digits-resnet")
    app.button(key="start").click().run()
    (job,) = cache.queue().jobs()
    while job.view.active and not job.view.done:
        time.sleep(0.1)
    times = []
    for _ in range(10):
        begun = time.process_time()  # not by the clock: a busy machine is not a slow page
        app.run()
        times.append(time.process_time() - begun)
    assert not app.exception
    job.cancel()
    assert job.wait(10)
    cache.queue().close()
    print("a run of the script but for the slowest, in s of this process:", sorted(times)[-2])
    # The promise is 1 s; a slow test machine gets twice that, a page that computes does not.
    assert sorted(times)[-2] < 2.0, times
