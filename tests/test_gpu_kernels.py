"""GPU kernels on a machine without one: formats, reasons, and our products in an interpreter."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.sparse._semi_structured_conversions import sparse_semi_structured_from_dense_cutlass

from sparsity_core.errors import SparsityError
from sparsity_core.kernels import KERNELS, gpu_timing, load, save, semi_structured, sparsify
from sparsity_core.kernels.choice import candidates
from sparsity_core.kernels.gpu_timing import GpuTimes, quickest
from sparsity_core.structures import STRUCTURES

GPU = [kind for kind in KERNELS if KERNELS.make(kind).device == "cuda"]
EACH = [(kind, dtype) for kind in GPU for dtype in KERNELS.make(kind).dtypes]
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")


def weight_and_mask(kind, shape=(64, 128), sparsity=0.8):
    torch.manual_seed(0)
    structure = KERNELS.make(kind).pattern(sparsity)
    scores = structure.units(torch.rand(shape))
    return torch.randn(shape), structure.expand(structure.choose(scores, sparsity), shape)


@pytest.mark.parametrize(("kind", "dtype"), EACH)
def test_to_and_from_dense_and_file(kind, dtype, tmp_path):
    kernel = KERNELS.make(kind, dtype=dtype)
    weight, mask = weight_and_mask(kind)
    row, column = mask.nonzero()[11].tolist()
    weight[row, column] = -0.0
    packed = kernel.pack(weight, mask, torch.randn(64))  # a format is data: no GPU is needed
    kept = weight.masked_fill(~mask, 0).to(kernel.stores)
    assert torch.equal(packed.dense(), kept)
    assert torch.equal(packed.dense().signbit(), kept.signbit())
    assert packed.kept == int(mask.sum())
    save(packed, tmp_path / "weight.safetensors")
    again = load(tmp_path / "weight.safetensors")
    assert again.kernel == kernel
    assert torch.equal(again.dense(), kept)
    assert {name: part.dtype for name, part in again.parts.items()} == {
        name: part.dtype for name, part in packed.parts.items()
    }


@pytest.mark.parametrize("kind", ["gpu-dense", "gpu-csr"])
@pytest.mark.parametrize("batch", [0, 1, 3, 64])
def test_what_torch_multiplies_equals_dense_on_the_cpu_as_well(kind, batch):
    mask = torch.rand(37, 53) < 0.2
    mask[3], mask[4] = False, True
    weight, bias, x = torch.randn(37, 53), torch.randn(37), torch.randn(53, batch).T
    packed = KERNELS.make(kind, dtype="float32").pack(weight, mask, bias)
    expected = x.double() @ (weight * mask).double().T + bias
    y = packed.product(x)
    assert y.is_contiguous()
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)


CASES = {"gpu-unstructured": 50, "gpu-condensed": 40, "gpu-balanced": 45, "gpu-bsr": 10}


@pytest.fixture(scope="module", params=["in the interpreter", "on the GPU"])
def products(request):
    """What all kinds give, in one process: to start it takes 3 s."""
    near = request.param == "in the interpreter"
    if not near and not torch.cuda.is_available():
        pytest.skip("no GPU is here")
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed: pip install 'sparsity-explorer[gpu]'")
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.triton_cases", *CASES],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"TRITON_INTERPRET": str(int(near))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("kind", CASES)
def test_triton_products_equal_dense(products, kind):
    assert products[kind]["wrong"] == []
    assert products[kind]["products"] >= CASES[kind]


def test_two_of_four_by_eye():
    weight = torch.zeros(16, 16)
    weight[0, :8] = torch.tensor([0.0, 5, 0, 7, 3, 0, 0, 0])
    parts = KERNELS.make("gpu-2:4").encode(weight, weight != 0)
    assert parts["values"][0, :4].tolist() == [5, 7, 3, 0]
    # Places 1 and 3; then 0 and, to fill up, 1: from the low bits 1 + 3 * 4 + 0 + 1 * 64.
    assert parts["places"][0].tolist() == [1 + 12 + 64, 0b01000100]
    packed = KERNELS.make("gpu-2:4").pack(weight, weight != 0)
    assert packed.bytes == 16 * 16 // 2 * 2 + 16 * 16 // 8


def test_two_of_four_holds_the_values_that_torch_holds():
    weight, mask = weight_and_mask("gpu-2:4")
    parts = KERNELS.make("gpu-2:4", dtype="float16").encode(weight * mask, mask)
    values, _ = sparse_semi_structured_from_dense_cutlass((weight * mask).half())
    assert torch.equal(parts["values"], values)


ALGORITHM = 3


@pytest.fixture
def libraries(monkeypatch):
    """Dense stand-ins for cuSPARSELt, with one algorithm, and CUTLASS; as strict as these are."""
    calls = []

    def multiply(weight, inputs, bias):
        assert inputs.shape[1] % 8 == 0
        assert inputs.T.is_contiguous()
        y = weight @ inputs
        return y if bias is None else y + bias[:, None]

    def cusparselt(weight, inputs, bias, transpose_result, alg_id):
        if alg_id != ALGORITHM:
            raise RuntimeError("no such algorithm")
        calls.append(("cusparselt", inputs.shape[1], alg_id))
        y = multiply(weight, inputs, bias)
        return y.T.contiguous() if transpose_result else y

    class Packs:
        def __init__(self, weight):
            self.packed, self.meta = weight, torch.zeros(1)

        from_dense = classmethod(lambda cls, weight: cls(weight))

    def cutlass(bias, packed, meta, inputs):
        calls.append(("cutlass", inputs.shape[1], None))
        return multiply(packed, inputs, bias)

    def without_bias(packed, meta, inputs):
        return cutlass(None, packed, meta, inputs)

    monkeypatch.setattr(torch, "_cslt_compress", lambda weight: weight, raising=False)
    monkeypatch.setattr(torch, "_cslt_sparse_mm", cusparselt, raising=False)
    monkeypatch.setattr(torch, "_sparse_semi_structured_addmm", cutlass)
    monkeypatch.setattr(torch, "_sparse_semi_structured_mm", without_bias)
    monkeypatch.setattr(semi_structured, "SparseSemiStructuredTensorCUTLASS", Packs)
    return calls


@pytest.mark.parametrize("backend", ["cusparselt", "cutlass"])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_two_of_four_pads_rows_and_turns_outputs(libraries, backend, batch):
    weight, mask = weight_and_mask("gpu-2:4")
    for bias in (torch.randn(64), None):
        packed = KERNELS.make("gpu-2:4", backend=backend).pack(weight, mask, bias)
        x = torch.randn(128, batch).bfloat16().T
        y = packed.product(x)
        expected = x.float() @ (weight * mask).bfloat16().float().T
        expected = expected if bias is None else expected + bias
        torch.testing.assert_close(y.float(), expected, rtol=2e-2, atol=2e-2)
        assert y.is_contiguous()
    rows = -(-batch // 8) * 8
    assert set(libraries) == {(backend, rows, ALGORITHM if backend == "cusparselt" else None)}


def test_two_of_four_takes_the_quicker_backend_for_each_number_of_rows(libraries, monkeypatch):
    def timed(calls, repeats):
        assert list(calls) == ["cusparselt", "cutlass"]
        return {"cusparselt": GpuTimes(2, 2, 2, True), "cutlass": GpuTimes(1, 1, 1, True)}

    monkeypatch.setattr(gpu_timing, "interleaved_on_gpu", timed)
    packed = KERNELS.make("gpu-2:4").pack(*weight_and_mask("gpu-2:4"))
    packed.product(torch.randn(3, 128).bfloat16())
    libraries.clear()
    packed.product(torch.randn(3, 128).bfloat16())
    assert libraries == [("cutlass", 8, None)]


def test_quickest_leaves_out_what_fails():
    def fails(x):
        raise RuntimeError("not on this GPU")

    def no_product():
        raise RuntimeError("no such library")

    product = quickest({"a": no_product, "b": lambda: fails, "c": lambda: torch.neg})
    assert product(torch.ones(2, 2)).tolist() == [[-1, -1], [-1, -1]]
    with pytest.raises(SparsityError, match=r"no such library.*not on this GPU"):
        quickest({"a": no_product, "b": lambda: fails})(torch.ones(2, 2))


@needs_no_gpu
def test_reasons_name_the_machine_and_the_format():
    two_of_four, plain = STRUCTURES.make("2:4"), STRUCTURES.make("unstructured")
    for kind in GPU:
        kernel = KERNELS.make(kind)
        pattern = kernel.pattern(0.9)
        assert kernel.why_not(pattern, (64, 128)) == "needs a CUDA GPU, not the cpu"
        reason = kernel.why_not(pattern, (64, 128), "cuda")
        assert "torch finds none here" in reason or "pip install" in reason
        assert "float64" in kernel.why_not(pattern, (64, 128), "cuda", torch.float64)
        assert "axes" in kernel.why_not(pattern, (64, 128, 3, 3), "cuda")
    kernel = KERNELS.make("gpu-2:4")
    assert kernel.why_not(two_of_four, (64, 100)) == (
        "needs a CUDA GPU, not the cpu; needs multiples of 16 x 16, got 64 x 100"
    )
    assert "takes masks of 2:4" in kernel.why_not(plain, (64, 128))
    assert "32 x 64" in KERNELS.make("gpu-2:4", backend="cutlass").why_not(two_of_four, (16, 16))
    assert KERNELS.make("gpu-2:4").backends((16, 16)) == ["cusparselt"]
    assert KERNELS.make("gpu-2:4").backends((32, 64)) == ["cusparselt", "cutlass"]
    assert "constant fan-in" in KERNELS.make("gpu-condensed").why_not(plain, (64, 128))
    assert "multiple of 32" in KERNELS.make("gpu-balanced").why_not(two_of_four, (64, 100))
    assert "multiples of 64" in KERNELS.make("gpu-bsr").why_not(plain, (64, 100))


def test_errors_name_what_is_wrong():
    weight = torch.randn(16, 16)
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[2, 4:7] = True
    with pytest.raises(SparsityError, match="output 2 keeps 3 of inputs 4 to 7"):
        KERNELS.make("gpu-2:4").pack(weight, mask)
    with pytest.raises(SparsityError, match="multiples of 16 x 16, got 4 x 16"):
        KERNELS.make("gpu-2:4").pack(weight[:4], mask[:4])
    with pytest.raises(SparsityError, match=r"output 2 keeps 3 weights, output 0 keeps 0"):
        KERNELS.make("gpu-condensed").pack(weight, mask)
    with pytest.raises(SparsityError, match=r"16 inputs are no multiple of 32"):
        KERNELS.make("gpu-balanced").pack(weight, mask)
    for kind, options in {
        "gpu-2:4": {"dtype": "float32"},
        "gpu-dense": {"dtype": "float64"},
        "gpu-bsr": {"side": 24},
        "gpu-condensed": {"samples": 3},
    }.items():
        with pytest.raises(SparsityError):
            KERNELS.make(kind, **options)
    with pytest.raises(SparsityError, match="auto, cusparselt, cutlass"):
        KERNELS.make("gpu-2:4", backend="cublas")


def test_inputs_on_the_cpu_are_refused_and_not_run_there():
    for kind in GPU:
        kernel = KERNELS.make(kind)
        packed = kernel.pack(*weight_and_mask(kind))
        with pytest.raises(SparsityError, match=r"on the cuda, got .* on cpu"):
            packed(torch.randn(2, 128).to(kernel.takes))


def test_a_model_on_the_cpu_is_offered_no_gpu_kernel():
    assert set(GPU) == set(candidates("cuda"))
    assert not set(GPU) & set(candidates("cpu"))
    assert "dense-bf16" not in candidates("cpu")
    model, x = nn.Sequential(nn.Linear(32, 64)), torch.randn(2, 32)
    masks = {"0.weight": torch.rand(64, 32) < 0.5}
    assert not set(GPU) & set(sparsify(model, masks, sample=x).layers[0].refused)
    with pytest.raises(SparsityError, match=r"0\.weight.*float16 or bfloat16|float32"):
        sparsify(model, masks, "gpu-2:4", sample=x)
    with pytest.raises(SparsityError, match="on the cuda, got"):
        sparsify(model, masks, "gpu-unstructured", sample=x)
