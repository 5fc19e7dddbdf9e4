"""How kernels are timed: what a row says, what interleaving does, where kernels break even."""

import dataclasses
import math
import time

import pytest
import torch

from sparsity_core.errors import SparsityError
from sparsity_core.kernels.bench import (
    ALWAYS,
    KernelPlan,
    KernelPoint,
    KernelRow,
    break_even,
    measure,
    refusals,
)
from sparsity_core.kernels.peaks import Peaks, cache_bytes, cpu_label, peaks
from sparsity_core.kernels.timing import interleaved, on_threads

SMALL = KernelPoint(rows=64, cols=96, sparsity=0.9, batch=4, repeats=3)


def test_a_point_becomes_rows_with_every_column():
    rows = measure(SMALL)
    names = [row.kernel for row in rows]
    assert set(ALWAYS) <= set(names)
    assert {"permute", "balanced", "tiled", "blocks"} <= set(names)
    dense = [r for r in rows if r.kernel in ("dense", "dense-transposed", "dense-onednn")]
    assert max(r.speedup_vs_dense for r in dense) == 1
    best = min(r.p50 for r in dense)
    for row in rows:
        assert 0 < row.p20 <= row.p50 <= row.p80
        assert row.speedup_vs_dense == pytest.approx(best / row.p50)
        assert (row.rows, row.cols, row.batch, row.threads) == (64, 96, 4, 1)
        assert row.limit_fraction > 0
        assert "numba" in row.versions
        assert cpu_label() in row.device
        assert row.dtype == ("bfloat16" if "bf16" in row.kernel else "float32")
    found = {row.kernel: row for row in rows}
    assert found["csr"].speedup_vs_csr == 1
    assert found["balanced"].structure == "3:32"
    assert found["balanced"].sparsity == pytest.approx(1 - 3 / 32)
    assert found["blocks"].structure == "4x1"
    assert found["dense"].bytes == 4 * 64 * 96
    assert found["csr"].sparsity == pytest.approx(0.9, abs=1e-4)


def test_a_cold_cache_rotates_copies():
    row = measure(dataclasses.replace(SMALL, cache="cold", kernels=("permute",)))[-1]
    assert (row.kernel, row.cache) == ("permute", "cold")


def test_what_cannot_take_a_shape_is_named():
    point = dataclasses.replace(SMALL, rows=63, cols=95)
    reasons = refusals(point)
    assert "multiple of 32 inputs" in reasons["balanced"]
    assert "multiple of 4 outputs" in reasons["blocks"]
    assert {row.kernel for row in measure(point)}.isdisjoint(reasons)


def test_a_plan_lists_its_points():
    plan = KernelPlan(
        shapes=((8, 32), (4, 64)), sparsities=(0.5,), batches=(1, 2), caches=("cold",)
    )
    assert [(p.rows, p.cols, p.batch) for p in plan.points()] == [
        (8, 32, 1),
        (8, 32, 2),
        (4, 64, 1),
        (4, 64, 2),
    ]
    assert all(p.cache == "cold" for p in plan.points())
    assert KernelPoint(**dataclasses.asdict(plan.points()[0])) == plan.points()[0]


def test_wrong_points_name_the_remedy():
    with pytest.raises(SparsityError, match=r"write 0\.9 for 90 %"):
        dataclasses.replace(SMALL, sparsity=90.0)
    with pytest.raises(SparsityError, match="1 or more"):
        dataclasses.replace(SMALL, batch=0)
    with pytest.raises(SparsityError, match="hot or cold"):
        dataclasses.replace(SMALL, cache="warm")
    with pytest.raises(SparsityError, match="unknown kernel 'permut'; did you mean 'permute'"):
        measure(dataclasses.replace(SMALL, kernels=("permut",)))


def test_break_even_by_eye():
    row = measure(dataclasses.replace(SMALL, kernels=()))[0]

    def at(kernel, *pairs):
        return [
            dataclasses.replace(row, kernel=kernel, sparsity=s, speedup_vs_dense=speed)
            for s, speed in pairs
        ]

    rows = [
        *at("halfway", (0.8, 0.5), (0.9, 2.0)),
        *at("always", (0.8, 1.5), (0.9, 2.0)),
        *at("never", (0.8, 0.5), (0.9, 0.9)),
        *at("again", (0.5, 2.0), (0.7, 0.5), (0.9, 2.0)),
    ]
    found = {key[0]: value for key, value in break_even(reversed(rows)).items()}
    assert found["halfway"] == pytest.approx(0.85)
    assert found["always"] == 0.8
    assert found["never"] is None
    assert found["again"] == pytest.approx(0.8)


def test_interleaving_tells_slow_from_fast():
    times = interleaved(
        {"short": [lambda: time.sleep(0.001)], "long": [lambda: time.sleep(0.003)]}, 5
    )
    assert times["short"].p50 < times["long"].p50
    assert times["long"].p20 >= 0.003


def test_threads_and_affinity_are_put_back():
    before = torch.get_num_threads()
    with on_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_peaks_are_measured_in_under_five_seconds():
    peaks.cache_clear()
    start = time.thread_time()
    found = peaks()
    assert time.thread_time() - start < 5
    assert found.multiply_adds > 1e8
    assert all(math.isfinite(rate) and rate > 1e7 for _, rate in found.read)


def test_bandwidth_is_that_of_the_smallest_cache_that_holds_it():
    given = Peaks(1.0, ((1000, 40.0), (2000, 20.0), (9000, 10.0)))
    assert given.bandwidth(1000) == 40
    assert given.bandwidth(1001) == 20
    assert given.bandwidth(10**6) == 10
    assert given.bandwidth(10, cold=True) == 10
    assert cache_bytes(1) < cache_bytes(2)


def test_the_columns_that_are_promised_come_first():
    promised = (
        "kernel structure rows cols batch dtype threads sparsity p20 p50 p80 speedup_vs_dense "
        "speedup_vs_csr bytes limit_fraction device versions"
    ).split()
    assert [field.name for field in dataclasses.fields(KernelRow)][: len(promised)] == promised
