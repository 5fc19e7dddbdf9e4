"""GPU kernels in a plan, and NVIDIA's counter of energy, with stand-ins for both."""

import ctypes
import dataclasses

import pytest
import torch

from app.kernel_run import formats_of, view_of
from app.kernel_words import kernels_command, kernels_python
from sparsity_core.cli import main
from sparsity_core.cli.main import _parser
from sparsity_core.errors import SparsityError
from sparsity_core.executors import InProcess
from sparsity_core.jobs import submit
from sparsity_core.kernels import gpu_bench, gpu_race, plan
from sparsity_core.kernels.energy import per_call
from sparsity_core.kernels.gpu_race import GPU
from sparsity_core.kernels.gpu_timing import GpuSample, GpuTimes
from sparsity_core.kernels.nvml import gpu_counter
from sparsity_core.kernels.plan import KernelPlan, plan_kernels
from sparsity_core.kernels.words import in_words
from sparsity_core.store import Store
from sparsity_core.task import load_task
from tests.test_gpu_bench import stand_ins

__all__ = ["stand_ins"]

TINY = {"shapes": [(64, 128)], "sparsities": [0.9], "batches": [4]}


class Nvml:
    """A driver that counts; `fails`: the functions that refuse."""

    def __init__(self, *fails):
        self.fails, self.asked, self.millijoules = fails, b"", 5

    def nvmlInit_v2(self):  # noqa: N802
        return int("init" in self.fails)

    def nvmlDeviceGetHandleByUUID(self, uuid, handle):  # noqa: N802, ARG002
        self.asked = uuid
        return 2 * ("handle" in self.fails)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, used):  # noqa: N802, ARG002
        ctypes.cast(used, ctypes.POINTER(ctypes.c_ulonglong))[0] = self.millijoules
        return 3 * ("energy" in self.fails)


def test_the_counter_tells_microjoules():
    driver = Nvml()
    read = gpu_counter("1234-ab", driver)
    assert driver.asked == b"GPU-1234-ab"
    assert read() == 5000

    def call():
        driver.millijoules += 2

    assert per_call(call, [read], 0.01) == pytest.approx(2000)
    assert per_call(lambda: None, [read], 0.01) is None  # the counter stood still


@pytest.mark.parametrize("what", ["init", "handle", "energy"])
def test_a_driver_that_refuses_is_no_counter(what):
    assert gpu_counter("x", Nvml(what)) is None


def test_a_counter_that_ends_says_so():
    driver = Nvml()
    read = gpu_counter("x", driver)
    driver.fails = ("energy",)
    with pytest.raises(OSError, match="stopped telling"):
        read()


@pytest.fixture
def gpu(stand_ins, monkeypatch):
    for module in (plan, gpu_race):
        monkeypatch.setattr(module, "device_label", lambda _: "no GPU")


def test_a_plan_of_the_gpu_has_rows_of_the_same_columns(gpu, monkeypatch, tmp_path):
    driver = Nvml()

    def burst(call, counters, least):
        call()
        return 100.0 * (counters[0]() > 0)

    monkeypatch.setattr(gpu_bench, "_counter", lambda: gpu_counter("x", driver))
    monkeypatch.setattr(gpu_bench, "per_call", burst)
    sample = GpuSample(run=lambda: None, calls=5, graph=True)
    monkeypatch.setattr(gpu_bench, "sample_of", lambda _: sample)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    kernels = ["gpu-csr", "gpu-2:4"]
    asked = plan_kernels(**TINY, device="cuda", dtype="float32", kernels=kernels)
    assert KernelPlan.from_dict(asked.to_dict()) == asked
    assert asked.kernels == ("gpu-dense", "gpu-csr", "gpu-2:4")
    store = Store(tmp_path)
    assert submit(asked, store, InProcess()).wait(60)
    dense, csr, two = store.rows(asked)
    assert (dense.kernel, dense.p50, dense.speedup_vs_dense) == ("gpu-dense", 8.0, 1.0)
    assert (csr.p50, csr.speedup_vs_dense, csr.speedup_vs_csr) == (16.0, 0.5, 1.0)
    assert (csr.energy, csr.energy_source) == (2.0, "nvml")  # 100 for 10 samples of 5 calls
    assert (csr.asked, csr.threads, csr.device) == (0.9, 1, "no GPU")
    assert csr.multiply_adds == round(64 * 128 * 0.1) * 4
    assert (two.status, two.p50) == ("skipped", None)
    assert "choose one of float16, bfloat16" in two.message
    assert "at batch 4 on this GPU: the best, gpu-csr, takes 2.00 times" in in_words([dense, csr])
    other = dataclasses.replace(asked, dtype="bfloat16")
    assert not {p.id for p in asked.points()} & {p.id for p in other.points()}
    assert all(row.status == "failed" for row in [asked.unmeasured(p, "failed", "") for p in
                                                  asked.points()])  # fmt: skip


def test_its_words_and_its_form_say_the_same(gpu):
    asked = plan_kernels(**TINY, device="cuda", dtype="float16")
    assert asked.kernels == GPU
    chosen = _parser().parse_args(kernels_command(asked).split()[1:])
    assert (chosen.device, chosen.dtype) == ("cuda", "float16")
    scope: dict = {}
    exec(kernels_python(asked).partition("rows =")[0], scope)
    assert scope["plan"] == asked
    view = view_of(asked)
    assert (view["kernels-device"], view["kernels-dtype"]) == ("GPU", "float16")
    assert formats_of(asked) == {f"kernels-formats {len(GPU)}": []}
    with pytest.raises(SparsityError, match="conv1.weight is a convolution: GPU kernels"):
        plan_kernels(load_task("digits-lenet"), "conv1.weight", device="cuda")


def test_a_layer_of_a_model_is_timed_with_its_own_weights_and_tokens(gpu, monkeypatch):
    task = load_task("digits-vit")
    layer = next(name for name in dict(task.model.named_parameters()) if "qkv.weight" in name)
    calls = {}

    def timed(given, repeats, seed=0):
        calls.update(given)
        return {name: GpuTimes(*[1e-6] * 3, graph=True) for name in given}

    monkeypatch.setattr(gpu_bench, "interleaved_on_gpu", timed)
    options = {"sparsities": [0.5], "batches": [3], "kernels": ["gpu-csr"], "dtype": "float32"}
    asked = plan_kernels(task, layer, device="cuda", **options)
    dense, csr = asked.run(task, asked.points())
    rows, cols = task.model.get_parameter(layer).shape
    assert asked.shapes == ((rows, cols),)
    assert (dense.layer, dense.status) == (layer, "ok"), dense.message
    (call,) = calls["gpu-dense"]
    batch, tokens, outputs = call().shape
    assert (batch, outputs) == (3, rows)
    assert dense.multiply_adds == batch * tokens * rows * cols
    assert csr.multiply_adds == batch * tokens * round(rows * cols / 2)


def test_without_a_gpu_the_reason_is_said(capsys):
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(SparsityError, match="torch finds no GPU here"):
        plan_kernels(device="cuda")
    with pytest.raises(SparsityError, match="take float32; choose device cuda"):
        plan_kernels(dtype="bfloat16")
    assert main(["kernels", "--device", "cuda"]) == 2
    assert "torch finds no GPU here" in capsys.readouterr().err
