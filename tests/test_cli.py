"""The command `sparsity`, as a person types it."""

import csv
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from sparsity_core.cli import main, measure
from sparsity_core.recipe import STAGES
from sparsity_core.repairs import REPAIRS, repairs_label
from sparsity_core.store import Store
from sparsity_core.sweep.plan import plan_sweep
from sparsity_core.task import catalog, load_task
from sparsity_core.variants import BRIEF

ROOT = Path(__file__).parent.parent
COLUMNS = (
    "model layer scorer structure sparsity achieved_sparsity metric value dense_value drop "
    "drop_low drop_high samples split seed status message seconds point_id"
).split()


@pytest.fixture(autouse=True)
def _own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSITY_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "200")


def command(*arguments):
    program = Path(sys.executable).with_name("sparsity")
    return subprocess.run(
        [str(program), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_sweep_end_to_end(tmp_path):
    file = tmp_path / "rows.csv"
    done = command(
        *("sweep", "digits-lenet", "--scorers", "magnitude,taylor"),
        *("--structures", "unstructured,out-channel,2:4", "--sparsities", ".5,.8,.9"),
        *("--out", str(file)),
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(file.read_text().splitlines()))
    layers = {row["layer"] for row in rows}
    assert len(rows) == len(layers) * 2 * 3 * 3
    assert set(COLUMNS) <= set(rows[0])
    assert {row["status"] for row in rows} == {"ok", "skipped"}
    for row in rows:
        if row["status"] == "skipped":
            assert row["value"] == ""
            assert "2:4" in row["message"] or "multiple of 4" in row["message"]
        else:
            drop = float(row["dense_value"]) - float(row["value"])
            assert float(row["drop"]) == pytest.approx(drop)
            assert row["samples"] == "360"
    assert "accuracy on 360 samples of validation" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_engine_is_named_in_every_row_and_memory_is_said_before(tmp_path, capsys):
    file = tmp_path / "rows.json"
    arguments = f"sweep digits-mlp --sparsities .5 --engine bitwise --memory 64M --out {file}"
    assert main(arguments.split()) == 0
    assert {row["engine"] for row in json.loads(file.read_text())} == {"bitwise"}
    assert "MiB of dense values between layers (--memory 64M)" in capsys.readouterr().err


def test_out_files_hold_the_same_rows(tmp_path, capsys):
    base = ["sweep", "digits-mlp", "--layers", "first", "--sparsities", ".5,.9"]
    tables = {}
    for suffix, read in ((".csv", pd.read_csv), (".json", pd.read_json)):
        assert main([*base, "--out", str(tmp_path / f"rows{suffix}")]) == 0
        tables[suffix] = read(tmp_path / f"rows{suffix}")
    assert main([*base, "--out", str(tmp_path / "rows.parquet")]) == 0
    tables[".parquet"] = pd.read_parquet(tmp_path / "rows.parquet")
    for table in tables.values():
        assert table["point_id"].tolist() == tables[".csv"]["point_id"].tolist()
        assert table["value"].tolist() == pytest.approx(tables[".csv"]["value"].tolist())
    assert "2 of 2 points are stored already" in capsys.readouterr().err


def test_curve_before_and_after_fine_tuning_with_the_random_baseline(tmp_path):
    file = tmp_path / "curve.json"
    arguments = "curve digits-mlp --sparsities .95 --finetune-epochs 2 --seeds 0,1 --random"
    assert main([*arguments.split(), "--rate", "0.02", "--out", str(file)]) == 0
    rows = json.loads(file.read_text())
    found = {(r["scorer"], r["finetune_epochs"], r["seed"]): r["value"] for r in rows}
    assert len(found) == 2 * 2 * 2
    for seed in (0, 1):
        assert found["magnitude", 2, seed] > found["magnitude", 0, seed]
        assert found["magnitude", 0, seed] > found["random", 0, seed]


@pytest.mark.parametrize(
    ("words", "repairs", "epochs"),
    [
        ("curve digits-resnet", ["", "batch-norm"], [0, 1]),
        ("curve digits-mlp", [""], [0, 1]),
        ("curve digits-resnet --repair none --finetune-epochs 0", [""], [0]),
        ("curve digits-resnet --repair least-squares", ["least-squares"], [0, 1]),
        ("curve tests.test_cli:frozen", [""], [0]),
    ],
)
def test_a_curve_is_raw_with_batch_norms_anew_and_fine_tuned(
    words, repairs, epochs, capsys, monkeypatch
):
    planned = []
    monkeypatch.setattr(measure, "execute", lambda plan, *_: planned.append(plan) or 0)
    assert main([*words.split(), "--sparsities", ".5,.9", "--samples", "50"]) == 0
    (plan,) = planned
    found = [(repairs_label(r.repair), r.training) for r in plan.recipes]
    assert found == [(r, BRIEF if n else None) for n in epochs for r in repairs]
    points = 2 * len(found)
    told = f"{points} points to measure, {points - 2 * len(repairs)} of them fine-tuned: about "
    assert told in capsys.readouterr().err


def frozen():
    """A task whose model has nothing to train."""
    task = load_task("digits-mlp")
    task.model.requires_grad_(False)
    return dataclasses.replace(task, name="tests.test_cli:frozen")


@pytest.mark.parametrize("stage", [*STAGES, "repair", "model"])
def test_lists_show_every_choice(stage, capsys):
    assert main([f"{stage}s"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in {**STAGES, "repair": REPAIRS, "model": catalog()}[stage])


def test_a_curve_is_mended_and_has_its_controls(tmp_path):
    file = tmp_path / "curve.json"
    arguments = "curve digits-lenet --structure out-channel --schedule geometric --rounds 2"
    arguments += " --sparsities .5 --samples 100 --repair least-squares+batch-norm --shuffled"
    more = f"--scored-once --finetune-epochs 0 --out {file}"
    assert main([*arguments.split(), *more.split()]) == 0
    rows = json.loads(file.read_text())
    assert {(row["scorer"], row["schedule"]) for row in rows} == {
        ("magnitude", "geometric(rounds=2)"),
        ("magnitude, shuffled", "geometric(rounds=2)"),
        ("magnitude", "geometric(rounds=2), scored once"),
        ("magnitude, shuffled", "geometric(rounds=2), scored once"),
    }
    assert {row["repair"] for row in rows} == {"least-squares + batch-norm"}


def test_sensitivity_goes_by_a_stored_sweep(tmp_path, capsys):
    assert main("sweep digits-mlp --sparsities .5,.9,1 --samples 50".split()) == 0
    run = Store().runs()[0].id
    curve = "curve digits-mlp --sparsities .8 --samples 50 --finetune-epochs 0".split()
    curve += ["--allocation", "sensitivity"]
    assert main([*curve, "--curves", run[:8], "--out", str(tmp_path / "curve.json")]) == 0
    (row,) = json.loads((tmp_path / "curve.json").read_text())
    assert row["allocation"].startswith("sensitivity(curves")
    assert row["achieved_sparsity"] == pytest.approx(0.8, abs=1e-3)
    assert main([*curve, "--scorer", "wanda", "--curves", run[:8]]) == 2
    assert "no sound point with wanda and unstructured" in capsys.readouterr().err
    assert main([*curve[:-1], "uniform", "--curves", run[:8]]) == 2
    assert "choose that one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sweep digits-mlp --sparsities -0.1", "0 to 1"),
        ("sweep digits-mlp --sparsities 1.5", "write 0.015"),
        ("sweep digits-mlp --sparsities 90", "write 0.9"),
        ("sweep digits-mlp --sparsities nan", "not a number"),
        ("sweep digits-mlp --sparsities half", "'half' is not a number"),
        ("sweep digits-mlp --sparsities ,", "no sparsities chosen"),
        ("sweep digits-mlp --scorers magnitud", "did you mean 'magnitude'"),
        ("sweep digits-mlp --scorers ,", "no scorers chosen"),
        ("sweep digits-mlp --structures unstructurd", "did you mean 'unstructured'"),
        ("sweep digits-mlp --structures 5:4", "n:m needs 1 <= n <= m"),
        ("sweep digits-mlp --layers fc9.weight", "did you mean 'fc"),
        ("sweep digits-mpl", "did you mean 'digits-mlp'"),
        ("sweep no.module:here", "no.module"),
        ("sweep digits-mlp --split tset", "did you mean 'test'"),
        ("sweep digits-mlp --samples 0", "samples must be 1 or more"),
        ("sweep digits-mlp --device gpu", "choose one of auto, cpu, cuda"),
        ("sweep digits-mlp --engine fats", "did you mean 'fast'"),
        ("sweep digits-mlp --memory much", "write 512M or 2G"),
        ("sweep digits-mlp --workers -1", "workers must be 1 or more"),
        ("sweep digits-mlp --out rows.xlsx", "use .csv, .parquet, .json"),
        ("sweep digits-mlp --out /nowhere/rows.csv", "cannot be written there"),
        (f"sweep digits-mlp --out {'x' * 300}.csv", "name too long; choose another file"),
        ("runs --store ~nobody-knows/store", "cannot be made"),
        ("curve digits-mlp --allocation erkk", "did you mean 'erk'"),
        ("curve digits-mlp --schedule geometrc", "did you mean 'geometric'"),
        ("curve digits-mlp --finetune-epochs -1", "epochs must be a whole number"),
        ("curve digits-mlp --skip fc9", "unknown layer 'fc9'"),
        ("runs zzz", "unknown run 'zzz'"),
        ("runs --delete", "which run"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert main(arguments.split()) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert len(shown.err.strip().splitlines()) == 1
    assert shown.out == ""


def test_a_broken_store_is_one_line_too(tmp_path, capsys):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "results.sqlite").write_text("no store" * 1000)
    assert main(["runs"]) == 2
    assert "choose another store" in capsys.readouterr().err


def test_runs_are_listed_shown_exported_and_deleted(tmp_path, capsys):
    main(["sweep", "digits-mlp", "--layers", "last", "--sparsities", ".5"])
    capsys.readouterr()
    assert main(["runs"]) == 0
    listed = capsys.readouterr().out
    (run,) = re.findall(r"^ *([0-9a-f]{8}) ", listed, re.MULTILINE)
    assert "1 of 1" in listed
    assert main(["runs", run, "--out", str(tmp_path / "again.csv")]) == 0
    assert len((tmp_path / "again.csv").read_text().splitlines()) == 2
    assert main(["runs", run, "--delete"]) == 0
    assert "and 1 points" in capsys.readouterr().out
    assert Store().runs() == []


def test_brackets_in_a_message_are_no_markup(tmp_path, capsys):
    store, plan = Store(), plan_sweep(load_task("digits-mlp"), sparsities=[0.5])
    store.save_run(plan)
    store.set_state(plan.digest, "failed", "the factory failed ([/data] is [dim]) twice")
    assert main(["runs"]) == 0
    assert "([/data] is [dim]) twice" in " ".join(capsys.readouterr().out.split())


def test_a_failed_point_gives_exit_code_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EXECUTIONS", str(tmp_path / "log"))
    (tmp_path / "broken_model.py").write_text(
        "import dataclasses\nfrom tests.count_executions import task\n"
        "def make():\n"
        "    made = task()\n"
        "    made.model.fc2.weight.data[0, 0] = float('nan')\n"
        "    return made\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["sweep", "broken_model:make"]) == 1
    assert "NaN or infinite" in capsys.readouterr().out


def test_ctrl_c_keeps_what_is_stored_and_says_how_to_go_on(tmp_path):
    program = Path(sys.executable).with_name("sparsity")
    sweep = subprocess.Popen(
        [str(program), "sweep", "tests.count_executions:task", "--workers", "1"],
        cwd=ROOT,
        env=os.environ
        | {"EXECUTIONS": str(tmp_path / "log"), "HELD_AFTER": "0", "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever runs the tests in the background has it ignored, and children inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 180
    while not (tmp_path / "log").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does, to the command and all it started
    try:
        _, errors = sweep.communicate(timeout=60)
    finally:
        sweep.kill()
    assert sweep.returncode == 130
    assert "--resume" in errors
    assert "Traceback" not in errors
    (info,) = Store().runs()
    assert info.state == "cancelled"


def test_help_does_not_load_torch():
    program = "import sys; from sparsity_core.cli import main\ntry: main(['--help'])\nfinally: "
    done = subprocess.run(
        [sys.executable, "-c", program + "print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert "sparsity sweep digits-lenet" in done.stdout
