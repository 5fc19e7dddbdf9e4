"""The GPU benchmark where no GPU is: its table, and its course with stand-ins for the timings."""

import dataclasses
import math

import pandas as pd
import pytest
import torch

from benchmarks import kernels_gpu
from benchmarks.kernels_gpu import GOALS, OPTIONS, Goal, reached, table, variants
from sparsity_core.errors import SparsityError
from sparsity_core.kernels import KERNELS, gpu_bench
from sparsity_core.kernels.gpu import GpuKernel
from sparsity_core.kernels.gpu_bench import GpuPeaks, GpuPoint, GpuRow, measure_on_gpu
from sparsity_core.kernels.gpu_timing import GpuTimes
from sparsity_core.kernels.row import COLUMNS

POINT = GpuPoint(64, 128, 0.9, 4, "float32")


@pytest.fixture
def stand_ins(monkeypatch):
    """The CPU for a GPU, and seconds by name: dense 8, csr 16, the n-th of ours 8 / n."""

    def timed(calls, repeats, seed=0):
        for copies in calls.values():
            assert all(copy().shape == (4, 64) for copy in copies)
        seconds = {"gpu-dense": 8.0, "dense, again": 8.0, "gpu-csr": 16.0}
        ours = [name for name in calls if name not in seconds]
        seconds |= {name: 8.0 / n for n, name in enumerate(ours, 2)}
        return {name: GpuTimes(*[seconds[name] * 1e-6] * 3, graph=True) for name in calls}

    monkeypatch.setattr(gpu_bench, "_DEVICE", "cpu")
    monkeypatch.setattr(gpu_bench, "_counter", lambda: None)
    monkeypatch.setattr(gpu_bench, "interleaved_on_gpu", timed)
    for module in (gpu_bench, kernels_gpu):
        monkeypatch.setattr(module, "gpu_peaks", lambda _: GpuPeaks(1e15, 1e10))
    monkeypatch.setattr(gpu_bench, "device_label", lambda _: "no GPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "no GPU")
    monkeypatch.setattr(GpuKernel, "lacks", lambda _: None)
    monkeypatch.setattr(GpuKernel, "accepts", lambda *_: True)


def test_rows_say_what_was_measured(stand_ins):
    kernels = {
        "ours": KERNELS.make("gpu-csr", dtype="float32"),
        "gpu-csr": KERNELS.make("gpu-csr", dtype="float32"),
        "two": KERNELS.make("gpu-2:4"),
    }
    rows, failed = measure_on_gpu(POINT, kernels)
    dense, ours, csr = rows
    assert (dense.kernel, ours.kernel, csr.kernel) == ("gpu-dense", "ours", "gpu-csr")
    assert (dense.p50, ours.p50) == pytest.approx((8, 4))
    assert (ours.speedup_vs_dense, ours.speedup_vs_csr) == pytest.approx((2, 4))
    assert ours.sparsity == pytest.approx(0.9, abs=1e-4)
    assert ours.limit == "bytes"
    moved = ours.bytes + 4 * 4 * (64 + 128)
    assert ours.limit_fraction == pytest.approx(moved / 1e10 / 4e-6)
    assert ours.graph
    assert [field.name for field in dataclasses.fields(GpuRow)][: len(COLUMNS)] == list(COLUMNS)
    assert "bfloat16" in failed["two"]
    rows, _ = measure_on_gpu(GpuPoint(64, 128, 0.9, 4, "float32", seed=1), {})
    assert math.isnan(rows[0].speedup_vs_csr)


def test_a_wrong_product_has_no_row(stand_ins, monkeypatch):
    wrong = {"float32": -1.0}
    monkeypatch.setattr(gpu_bench, "_WRONG", wrong)
    with pytest.raises(SparsityError, match="dense cannot be timed: is wrong by"):
        measure_on_gpu(POINT, {})


def test_the_table_says_met_missed_or_did_not_run(stand_ins):
    kernel = KERNELS.make("gpu-csr", dtype="float32")
    rows, _ = measure_on_gpu(POINT, {"gpu-csr (a 1)": kernel, "gpu-csr (a 2)": kernel})
    goals = [
        Goal("gpu-csr", POINT, 2.5),
        Goal("gpu-csr", POINT, 3.5),
        Goal("gpu-bsr", POINT, 1.0),
        Goal("gpu-csr", POINT, 0.6, "bandwidth"),
    ]
    assert reached(goals[0], rows) == (pytest.approx(3), "gpu-csr (a 2)")
    head, *lines = table(goals, {POINT: rows})
    assert "reached" in head
    assert lines[0].split()[-6:] == ["3.00", "2.50", "met", "gpu-csr", "(a", "2)"]
    assert "3.00   3.50  MISSED" in lines[1]
    assert "did not run" in lines[2]
    assert "bandwidth" in lines[3]
    assert "did not run" in table(goals[:1], {})[1]


def test_every_goal_names_settings_that_exist():
    for goal in GOALS:
        kernels = variants(goal.kernel, goal.point.dtype)
        assert len(kernels) == len(OPTIONS[goal.kernel])
        assert all(name.partition(" (")[0] == goal.kernel for name in kernels)
        shape = (goal.point.rows, goal.point.cols)
        for kernel in kernels.values():
            reason = kernel.why_not(kernel.pattern(goal.point.sparsity), shape, "cuda")
            assert reason is None or ";" not in reason  # the machine's lack, nothing else


def test_the_script_runs_through(stand_ins, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(kernels_gpu, "GOALS", [Goal("gpu-csr", POINT, 2.0)])
    monkeypatch.setattr(kernels_gpu, "BESIDE", {})
    monkeypatch.setattr(kernels_gpu, "never_slower", lambda: ["auto: gpu-dense"])
    monkeypatch.setattr("sys.argv", ["kernels_gpu", "--out", str(tmp_path / "rows.csv")])
    kernels_gpu.main()
    said = capsys.readouterr().out
    assert "auto: gpu-dense" in said
    assert "gpu-csr vs dense, 64x128, batch 4" in said
    assert list(pd.read_csv(tmp_path / "rows.csv").kernel) == ["gpu-dense", "gpu-csr"]


def test_without_a_gpu_nothing_is_measured():
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(SparsityError, match="torch finds none here"):
        measure_on_gpu(POINT, {})
