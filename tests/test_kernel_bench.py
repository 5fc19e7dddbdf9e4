"""How kernels are timed: what a row says, what interleaving does, where kernels break even."""

import dataclasses
import math
import time

import pytest
import torch

from sparsity_core.errors import SparsityError
from sparsity_core.kernels import energy
from sparsity_core.kernels.bench import RIVALS, Race, measure
from sparsity_core.kernels.break_even import break_even
from sparsity_core.kernels.peaks import Peaks, cache_bytes, cpu_label, peaks
from sparsity_core.kernels.power import power_state
from sparsity_core.kernels.row import COLUMNS, KernelRow
from sparsity_core.kernels.timing import interleaved, on_threads
from sparsity_core.kernels.words import in_words
from sparsity_core.kernels.workload import layer_workload, random_workload

SMALL = Race(sparsity=0.9, batch=4, repeats=3)
WORK = random_workload(64, 96)


def test_a_point_becomes_rows_with_every_column():
    rows = measure(SMALL, WORK)
    names = [row.kernel for row in rows]
    assert set(RIVALS) <= set(names)
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
        assert row.limit_fraction * row.p50 * 1e-6 >= row.moved / row.bandwidth * (1 - 1e-9)
        assert row.energy > 0
    found = {row.kernel: row for row in rows}
    assert found["csr"].speedup_vs_csr == 1
    assert found["balanced"].structure == "3:32"
    assert found["balanced"].sparsity == pytest.approx(1 - 3 / 32)
    assert found["blocks"].structure == "4x1"
    assert found["dense"].bytes == 4 * 64 * 96
    assert found["csr"].sparsity == pytest.approx(0.9, abs=1e-4)


def test_a_cold_cache_rotates_copies():
    row = measure(dataclasses.replace(SMALL, cache="cold", kernels=("permute",)), WORK)[-1]
    assert (row.kernel, row.cache) == ("permute", "cold")


def test_what_cannot_take_a_shape_is_a_row_with_the_reason():
    rows = {row.kernel: row for row in measure(SMALL, random_workload(63, 95))}
    assert "multiple of 32 inputs" in rows["balanced"].message
    assert "multiple of 4 outputs" in rows["blocks"].message
    assert (rows["blocks"].status, rows["blocks"].p50) == ("skipped", None)
    assert rows["tiled"].status == "ok"


def test_a_convolution_is_timed_with_its_own_geometry(small_conv):
    work = layer_workload(small_conv, "conv1", torch.zeros(1, 3, 6, 6))
    assert (work.rows, work.cols, work.sample, work.positions) == (8, 27, (3, 6, 6), 36)
    race = dataclasses.replace(SMALL, kernels=("sparse-convolution",))
    rows = {row.kernel: row for row in measure(race, work)}
    assert set(rows) == {*work.rivals, "sparse-convolution"}
    assert rows["dense-convolution"].multiply_adds == 4 * 36 * 8 * 27
    assert rows["sparse-convolution"].multiply_adds == 4 * 36 * round(8 * 27 * 0.1)
    assert rows["sparse-convolution"].speedup_vs_csr is None


def test_a_layer_keeps_its_largest_weights_and_tokens_count_as_samples():
    class Tokens(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(6, 2)

        def forward(self, x):
            return self.fc(x.view(len(x), 5, 6))

    work = layer_workload(Tokens(), "fc", torch.zeros(1, 30))
    assert (work.sample, work.positions) == ((5, 6), 5)
    assert torch.equal(work.scores, work.weight.abs())
    assert work.inputs(3, 0).shape == (3, 5, 6)


def test_a_layer_that_no_kernel_runs_says_why(small_conv):
    with pytest.raises(SparsityError, match="2 groups"):
        layer_workload(small_conv, "conv2", torch.zeros(1, 3, 6, 6))


def test_wrong_points_name_the_remedy():
    with pytest.raises(SparsityError, match=r"write 0\.9 for 90 %"):
        dataclasses.replace(SMALL, sparsity=90.0)
    with pytest.raises(SparsityError, match="1 or more"):
        dataclasses.replace(SMALL, batch=0)
    with pytest.raises(SparsityError, match="hot or cold"):
        dataclasses.replace(SMALL, cache="warm")
    with pytest.raises(SparsityError, match="unknown kernel 'permut'; did you mean 'permute'"):
        dataclasses.replace(SMALL, kernels=("permut",))


@pytest.fixture(scope="module")
def a_row():
    """One measured row, of which tests change the numbers."""
    return next(row for row in measure(SMALL, WORK) if row.kernel == "permute")


def line(row, kernel, *pairs, **same):
    return [
        dataclasses.replace(row, kernel=kernel, sparsity=s, asked=s, speedup_vs_dense=x, **same)
        for s, x in pairs
    ]


def test_break_even_by_eye(a_row):
    rows = [
        *line(a_row, "halfway", (0.8, 0.5), (0.9, 2.0)),
        *line(a_row, "always", (0.8, 1.5), (0.9, 2.0)),
        *line(a_row, "never", (0.8, 0.5), (0.9, 0.9)),
        *line(a_row, "again", (0.5, 2.0), (0.7, 0.5), (0.9, 2.0)),
        *line(a_row, "unmeasured", (0.5, None)),
    ]
    found = {key[0]: value for key, value in break_even(reversed(rows)).items()}
    assert found.pop("halfway") == pytest.approx(0.85)
    assert found.pop("again") == pytest.approx(0.8)
    assert found == {"always": 0.8, "never": None}


def test_the_sentence_by_eye(a_row):
    plain = {"batch": 1, "noise": 0.03, "structure": "unstructured"}
    rows = [
        *line(a_row, "dense", (0.1, 1.0), (0.9, 1.0), **plain),
        *line(a_row, "permute", (0.1, 0.5), (0.3, 2.0), (0.9, 5.2), **plain),
        *line(a_row, "balanced", (0.9, 9.44), **plain | {"structure": "3:32"}),
    ]
    assert in_words(rows) == (
        "At 90 % this layer runs 9.4x faster than dense at batch 1 on this CPU (balanced, 3:32), "
        "5.2x with single weights removed (permute); unstructured below 20 % does not pay; 2:4 "
        "needs a GPU."
    )
    slow = line(a_row, "tiled", (0.9, 0.5), **plain)
    assert in_words(slow) == (
        "At 90 % no sparse kernel is clearly faster than dense at batch 1 on this CPU: the best, "
        "tiled, takes 2.00 times as long; unstructured does not pay up to 90 %; 2:4 needs a GPU."
    )
    within = in_words(line(a_row, "tiled", (0.9, 1.02), **plain))
    assert "gains 1.02x, within the noise; unstructured pays at all sparsities" in within
    bf16 = line(a_row, "dense-bf16", (0.9, 1.5), **plain)
    assert "dense in bf16 is itself 1.5x faster" in in_words(rows + bf16)


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
    assert list(COLUMNS) == promised
    assert [field.name for field in dataclasses.fields(KernelRow)][: len(promised)] == promised


def test_energy_is_read_where_the_cpu_tells(tmp_path):
    for name, value in (("intel-rapl:0", "100"), ("intel-rapl:0:1", "7"), ("intel-rapl:1", "?")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(value)
    (counter,) = energy.rapl_domains(tmp_path)
    assert counter.parent.name == "intel-rapl:0"
    calls = []

    def call():
        calls.append(1)
        counter.write_text(str(100 + 30 * len(calls)))

    # The first call moves the counter by 30, and so does each later one.
    assert energy.rapl(call, [counter], least=0.01) == pytest.approx(30)
    assert energy.rapl(lambda: counter.write_text("0"), [counter], least=0.01) is None


def test_the_state_of_the_machine_is_told_where_it_can_be_read(tmp_path):
    assert power_state(tmp_path) == ""
    for name, text in {
        "devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
        "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2401000",
        "class/thermal/thermal_zone0/temp": "45000",
        "class/thermal/thermal_zone1/temp": "61400",
        "class/power_supply/AC0/online": "0",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    assert power_state(tmp_path) == "powersave, 2.40 GHz, 61 C, battery"


def test_modelled_energy_by_eye():
    assert energy.modelled(1e6, 0, 0) == pytest.approx(4.6)
    assert energy.modelled(0, 1e6, 3) == pytest.approx(162.5)
    assert energy.modelled(0, 1e6, 0) == pytest.approx(2.5)
