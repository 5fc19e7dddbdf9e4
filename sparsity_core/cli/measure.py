"""`sparsity sweep`, and what all measure by: run with a progress bar, print, write."""

import argparse
import math
import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sparsity_core.cli.files import check_target, write_rows
from sparsity_core.cli.own import reference, tell
from sparsity_core.cli.table import print_rows
from sparsity_core.errors import SparsityError
from sparsity_core.executors import Executor, InProcess, WorkerProcesses
from sparsity_core.jobs import submit
from sparsity_core.plans import Plan
from sparsity_core.store import Store
from sparsity_core.sweep.engine import held_bytes
from sparsity_core.sweep.plan import SweepPlan, plan_sweep
from sparsity_core.sweep.rerun import BUDGET
from sparsity_core.sweep.sequential import Question
from sparsity_core.sweep.work import speed_of, work_of
from sparsity_core.task import Task, load_task
from sparsity_core.weights import prunable

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def sweep(chosen: argparse.Namespace) -> int:
    """`sparsity sweep`."""
    check_target(chosen.out)
    task = load_task(reference(chosen))
    tell(task.notes)
    plan = plan_sweep(
        task,
        layers=names(chosen.layers),
        scorers=names(chosen.scorers),
        structures=names(chosen.structures),
        engine=chosen.engine,
        question=_question(chosen),
        memory=_bytes(chosen.memory) if chosen.memory else BUDGET,
        **shared(chosen),
    )
    return execute(plan, task, chosen)


def execute(plan: Plan, task: Task | None, chosen: argparse.Namespace) -> int:
    """Run what is missing of a plan, print and write it. Exit code as for `main`."""
    rows = collect(plan, task, chosen)
    if rows is None:
        return 130
    print_rows(plan.kind, rows)
    if chosen.out:
        write_rows(rows, chosen.out)
        print(f"{len(rows)} rows -> {chosen.out}", file=sys.stderr)
    return 1 if any(row.status in ("failed", "nan") for row in rows) else 0


def collect(plan: Plan, task: Task | None, chosen: argparse.Namespace) -> list[Any] | None:
    """Run what is missing of a plan; all its rows, or None after Ctrl-C, which keeps what is
    stored."""
    store = Store(chosen.store)
    patience = getattr(chosen, "time_limit", None)
    if patience is not None and not chosen.workers:
        raise SparsityError("--time-limit ends a worker process; give --workers 1 or more with it")
    executor: Executor = InProcess(task)
    if chosen.workers:
        executor = WorkerProcesses(chosen.workers, math.inf if patience is None else patience)
    if task and isinstance(plan, SweepPlan) and plan.engine != "reference":
        print(_memory_of(plan, task), file=sys.stderr)
    work = None
    if task and isinstance(plan, SweepPlan):
        work = work_of(plan, speed_of(task.model, task.train.inputs), prunable(task.model))
    job = submit(plan, store, executor, retry_failed=True, work=work)
    if job.view.done:
        print(f"{job.view.done} of {job.total} points are stored already", file=sys.stderr)
    if isinstance(plan, SweepPlan) and (begun := store.parts([p.id for p in job.missing])):
        print(f"{len(begun)} points are measured in part; only the rest runs", file=sys.stderr)
    try:
        with _progress() as progress:
            told = ""
            bar = progress.add_task("points", total=job.total, completed=job.view.done, left="")
            while not job.wait(0.1):
                view = job.view
                most = "at most " if view.at_most else ""
                if view.unsaved and view.unsaved != told:
                    progress.console.print(view.unsaved, markup=False)
                told = view.unsaved
                left = "" if view.eta is None else f"{most}about {view.eta:,.0f} s left"
                progress.update(bar, completed=view.done, left=left)
            progress.update(bar, completed=job.view.done)
    except KeyboardInterrupt:
        job.cancel()
        job.wait(5)
        executor.close()
        done = job.view.done
        print(
            f"\nstopped; {done} of {job.total} points are stored. The same command, or "
            f"`sparsity runs {job.id[:8]} --resume`, runs the rest",
            file=sys.stderr,
        )
        return None
    executor.close()
    if job.view.state == "failed":
        raise SparsityError(job.view.message)
    return store.rows(plan)


def _question(chosen: argparse.Namespace) -> Question | None:
    """What each point has to answer before it stops."""
    error = round(chosen.error / 100, 8)
    if chosen.drop_over is not None:
        return Question(threshold=round(chosen.drop_over / 100, 8), error=error)
    if chosen.drop_within is not None:
        return Question(width=round(chosen.drop_within / 100, 8), error=error)
    return None


def _memory_of(plan: SweepPlan, task: Task) -> str:
    """What a sweep holds, before it runs."""
    try:
        held = held_bytes(task, plan.setting, plan.engine, plan.memory)
    except Exception:  # noqa: BLE001 - a model that cannot run: its points' rows say why
        held = plan.memory
    return (
        f"engine {plan.engine}: each process keeps up to {held / 2**20:,.0f} MiB of dense values "
        f"between layers (--memory {plan.memory / 2**20:,.0f}M)"
    )


def _bytes(text: str) -> int:
    """512M or 2G; a plain number is bytes."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    try:
        return round(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError) as error:
        raise SparsityError(f"memory: {text!r} is no size; write 512M or 2G") from error


def names(text: str) -> list[str]:
    """The parts of a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(text: str, what: str, kind: type[int] | type[float]) -> list[Any]:
    """The same as numbers; raises SparsityError naming `what` for a part that is none."""
    found = []
    for part in names(text):
        try:
            found.append(kind(part))
        except ValueError as error:
            raise SparsityError(f"{what}: {part!r} is not a number") from error
    return found


def shared(chosen: argparse.Namespace) -> dict[str, Any]:
    """What sweep and curve share, as the keywords of their plans."""
    return {
        "sparsities": numbers(chosen.sparsities, "sparsities", float),
        "seeds": numbers(chosen.seeds, "seeds", int),
        "split": chosen.split,
        "samples": chosen.samples,
        "score_samples": chosen.score_samples,
        "device": chosen.device,
    }


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
