"""Every kernel against the dense product in float64; what packing promises; files; errors."""

import contextlib
import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sparsity_core.errors import SparsityError
from sparsity_core.kernels import KERNELS, Csr, Dense, load, save
from sparsity_core.structures import STRUCTURES

# Kernels of a pattern, and the structure whose masks they take; the others take any mask.
PATTERN = {"balanced": "3:32", "balanced-bf16": "2:4", "blocks": "4x1"}
ON_CPU = [kind for kind in KERNELS if KERNELS.make(kind).device == "cpu"]  # see test_gpu_kernels
MATRIX = [kind for kind in ON_CPU if KERNELS.make(kind).rank == 2]
SHAPES = [(37, 53), (64, 96), (5, 200), (130, 31), (1, 1)]


def runnable(kind):
    reason = KERNELS.make(kind).why_not(STRUCTURES.make("unstructured"), (64, 96))
    if kind == "dense-bf16" and reason:
        pytest.skip(reason)
    return KERNELS.make(kind)


def weight_and_mask(kind, shape, sparsity=0.8, seed=0):
    """Random weights and a mask that the kernel takes, or None where the shape is not for it."""
    make = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=make)
    structure = STRUCTURES.make(PATTERN.get(kind, "unstructured"))
    kernel = KERNELS.make(kind)
    if kernel.why_not(structure, shape) or structure.fits(shape):
        return None
    scores = structure.units(torch.rand(shape, generator=make))
    return weight, structure.expand(structure.choose(scores, sparsity), shape)


def assert_product(kernel, weight, mask, bias, x):
    packed = kernel.pack(weight, mask, bias)
    with torch.no_grad():
        y = packed(x)
    kept = weight.masked_fill(~mask, 0)
    expected = x.double() @ kept.double().T
    size = x.double().abs() @ kept.double().abs().T
    if bias is not None:
        expected, size = expected + bias, size + bias.abs()
    # Sums of n rounded products are wrong by at most n/2 ulp of the sum of sizes; in bfloat16
    # weights, inputs and outputs are rounded, by half an ulp each.
    ulp = 2**-7 if kernel.stores == torch.bfloat16 else 2**-24 * (weight.shape[1] + 2)
    assert y.dtype == torch.float32
    assert y.is_contiguous()
    assert y.shape == expected.shape
    assert bool(((y - expected).abs() <= 2 * ulp * size + 1e-30).all())
    return packed


@pytest.mark.parametrize("kind", MATRIX)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("batch", [1, 3, 8, 17, 64])
def test_equals_the_dense_product(kind, shape, batch):
    kernel, found = runnable(kind), weight_and_mask(kind, shape)
    if found is None:
        return  # which shapes those are is pinned in test_refusals_name_a_reason
    x = torch.randn(batch, shape[1])
    assert_product(kernel, *found, torch.randn(shape[0]) if batch != 3 else None, x)


@pytest.mark.parametrize("kind", [kind for kind in MATRIX if kind not in PATTERN])
@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("masked", ["all", "nothing", "rows", "one"])
def test_empty_and_full_rows(kind, batch, masked):
    mask = torch.zeros(64, 96, dtype=torch.bool)
    if masked == "nothing":
        mask[:] = True
    elif masked == "rows":
        mask[3], mask[17:40], mask[63, ::7] = True, torch.rand(23, 96) < 0.2, True
    elif masked == "one":
        mask[63, 95] = True
    assert_product(
        runnable(kind), torch.randn(64, 96), mask, torch.randn(64), torch.randn(batch, 96)
    )


@pytest.mark.parametrize("kind", MATRIX)
def test_inputs_may_have_any_strides_and_axes(kind):
    kernel = runnable(kind)
    weight, mask = weight_and_mask(kind, (64, 96))
    for batch in (1, 20):
        assert_product(kernel, weight, mask, None, torch.randn(96, batch).T)
        assert_product(kernel, weight, mask, None, torch.randn(batch, 2 * 96)[:, ::2])
        assert_product(kernel, weight, mask, None, torch.randn(2, batch, 96))
        # One float past an aligned address.
        assert_product(kernel, weight, mask, None, torch.randn(batch * 96 + 1)[1:].view(batch, 96))
    assert_product(kernel, weight, mask, None, torch.randn(96))
    assert kernel.pack(weight, mask)(torch.randn(0, 96)).shape == (0, 64)


@pytest.mark.parametrize("kind", MATRIX)
@pytest.mark.parametrize("batch", [1, 16])
def test_nan_and_infinity_arrive_where_they_are_read(kind, batch):
    kernel = runnable(kind)
    weight, mask = weight_and_mask(kind, (64, 96))
    row, column = mask.nonzero()[7].tolist()
    weight[row, column] = math.nan
    y = kernel.pack(weight, mask)(torch.ones(batch, 96))
    assert bool(y[:, row].isnan().all())
    assert int(y.isnan().any(0).sum()) == 1
    weight[row, column] = math.inf
    assert bool(kernel.pack(weight, mask)(torch.ones(batch, 96))[:, row].isposinf().all())
    weight[row, column] = 1.0
    x = torch.ones(batch, 96)
    x[0, column] = math.inf
    reads = (weight.masked_fill(~mask, 0)[:, column] != 0).nonzero()[:, 0]
    assert bool((~kernel.pack(weight, mask)(x)[0, reads].isfinite()).all())


@pytest.mark.parametrize(
    "kind",
    [
        k
        for k in MATRIX
        if k
        not in (
            "dense",
            "dense-transposed",
            "dense-onednn",
            "dense-bf16",
            "bsr",
            "channels-removed",
        )
    ],
)
def test_sparse_kernels_never_multiply_what_is_pruned(kind):
    # 0 * inf is NaN: padding and masked weights must not touch other outputs or inputs.
    weight, mask = weight_and_mask(kind, (64, 96))
    for batch in (1, 8, 16):
        for column in (0, 41, 95):
            x = torch.ones(batch, 96)
            x[:, column] = math.inf
            y = KERNELS.make(kind).pack(weight.abs() + 0.1, mask)(x)
            assert torch.equal(y.isposinf(), mask[:, column].expand_as(y))
            assert not bool(y.isnan().any())


@pytest.mark.parametrize("kind", MATRIX)
def test_to_and_from_dense_and_file(kind, tmp_path):
    kernel = runnable(kind)
    weight, mask = weight_and_mask(kind, (64, 96))
    row, column = mask.nonzero()[11].tolist()
    weight[row, column] = -0.0
    packed = kernel.pack(weight, mask, torch.randn(64))
    kept = weight.masked_fill(~mask, 0).to(kernel.stores)
    assert torch.equal(packed.dense().float(), kept.float())
    assert torch.equal(packed.dense().signbit(), kept.signbit())
    assert packed.kept == int(mask.sum())
    assert packed.bytes_per_weight == packed.bytes / packed.kept
    save(packed, tmp_path / "weight.safetensors")
    again = load(tmp_path / "weight.safetensors")
    assert again.kernel == kernel
    assert torch.equal(again.dense(), packed.dense())
    x = torch.randn(5, 96)
    assert torch.equal(again(x), packed(x))


def test_bytes_by_eye():
    weight = torch.arange(12.0).reshape(3, 4)
    mask = weight >= 8
    assert Dense().pack(weight, mask).bytes == 48
    csr = Csr().pack(weight, mask)
    assert csr.bytes == 4 * 4 + 4 * 4 + 4 * 4  # values, columns, starts of 3 rows and the end
    assert csr.bytes_per_weight == 12
    assert csr.parts["starts"].tolist() == [0, 0, 0, 4]
    assert Csr().pack(weight, mask & False).bytes_per_weight == math.inf


def test_refusals_name_a_reason():
    plain = STRUCTURES.make("unstructured")
    for kind in ON_CPU:
        kernel = KERNELS.make(kind)
        shape = (64, 96, 3, 3)[: kernel.rank]
        assert "not on cuda" in kernel.why_not(plain, shape, "cuda")
        assert "float16" in kernel.why_not(plain, shape, dtype=torch.float16)
        assert "axes" in kernel.why_not(plain, (64, 96, 3))
        assert "without elements" in kernel.why_not(plain, (0, 96, 3, 3)[: kernel.rank])
    assert "multiples of 32" in KERNELS.make("bsr").why_not(plain, (64, 97))
    with pytest.raises(SparsityError, match="do not divide"):
        KERNELS.make("bsr").pack(torch.randn(64, 97), torch.ones(64, 97))


def test_errors_name_what_is_wrong(tmp_path):
    packed = Csr().pack(torch.randn(4, 6), torch.ones(4, 6))
    with pytest.raises(SparsityError, match=r"\.\.\., 6\).*got torch.float32 \(2, 5\)"):
        packed(torch.randn(2, 5))
    with pytest.raises(SparsityError, match="float64"):
        packed(torch.randn(2, 6).double())
    with pytest.raises(SparsityError, match="no_grad"):
        packed(torch.randn(2, 6, requires_grad=True))
    with pytest.raises(SparsityError, match=r"mask must be \(4, 6\)"):
        Csr().pack(torch.randn(4, 6), torch.ones(4, 5))
    with pytest.raises(SparsityError, match=r"bias must be \(4,\)"):
        Csr().pack(torch.randn(4, 6), torch.ones(4, 6), torch.ones(6))
    with pytest.raises(SparsityError, match="float64"):
        Csr().pack(torch.randn(4, 6).double(), torch.ones(4, 6))
    (tmp_path / "x").write_bytes(b"nothing")
    with pytest.raises(SparsityError, match="holds no packed weight"):
        load(tmp_path / "x")


def test_a_file_with_a_lying_index_is_refused(tmp_path):
    packed = Csr().pack(torch.randn(4, 6), torch.ones(4, 6))
    packed.parts["columns"][3] = 10**6
    save(packed, tmp_path / "x")
    with pytest.raises(SparsityError, match="holds no packed weight"):
        load(tmp_path / "x")


OURS = [kind for kind in MATRIX if "threads" in KERNELS.options_of(kind)]


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("batch", [1, 7, 70])
def test_threads_agree(kind, batch):
    weight, mask = weight_and_mask(kind, (64, 96))
    bias, x = torch.randn(64), torch.randn(batch, 96)
    one, three = (KERNELS.make(kind, threads=n).pack(weight, mask, bias) for n in (1, 3))
    assert torch.equal(one(x), three(x))


def test_one_packed_weight_serves_several_callers_at_once():
    with ThreadPoolExecutor(4) as callers:
        for kind in OURS:
            packed = KERNELS.make(kind).pack(*weight_and_mask(kind, (64, 96)))
            inputs = [torch.randn(n, 96) for n in (1, 40, 1, 64) * 8]
            found = list(callers.map(packed, inputs))
            for x, y in zip(inputs, found, strict=True):
                assert torch.equal(y, packed(x))


def test_no_thread_is_an_error():
    with pytest.raises(SparsityError, match="1 thread or more"):
        KERNELS.make("permute", threads=0)


@pytest.mark.parametrize("kind", MATRIX)
def test_a_damaged_file_is_refused_or_packed_anew(kind, tmp_path):
    packed = runnable(kind).pack(*weight_and_mask(kind, (64, 96)))
    for name, part in packed.parts.items():
        flat = part.flatten()
        for damaged in (flat[:-1], flat[:0], torch.cat([flat, flat]), ~flat.view(torch.uint8)):
            parts = dict(packed.parts) | {name: damaged.clone()}
            save(dataclasses.replace(packed, parts=parts), tmp_path / "x")
            with contextlib.suppress(SparsityError):  # and nothing else
                assert load(tmp_path / "x")(torch.randn(3, 96)).shape == (3, 64)


@pytest.mark.parametrize("kind", MATRIX)
def test_every_bit_survives_packing_and_a_file(kind, tmp_path):
    kernel = runnable(kind)
    weight, mask = weight_and_mask(kind, (64, 96))
    rows, columns = mask.nonzero()[::5].T
    patterns = torch.tensor(
        [0x7FC00001, 0x7F800000, -0x800000, 0x00000001, -0x80000000, 0x00800000, 0x7F7FFFFF],
        dtype=torch.int64,
    ).to(torch.int32)  # a NaN with a payload, both infinities, the least, -0, normal ends
    cycle = patterns.repeat(-(-len(rows) // len(patterns)))[: len(rows)]
    weight[rows, columns] = cycle.view(torch.float32)
    bias = torch.randn(64)
    packed = kernel.pack(weight, mask, bias)
    kept = weight.masked_fill(~mask, 0).to(kernel.stores)
    save(packed, tmp_path / "weight.safetensors")
    again = load(tmp_path / "weight.safetensors")
    bits = {2: torch.int16, 4: torch.int32}[kept.element_size()]
    for found in (packed.dense(), again.dense()):
        assert torch.equal(found.view(bits), kept.view(bits))
    assert torch.equal(again.bias, bias)
    assert again.bytes == packed.bytes
    if kernel.stores == torch.float32:  # as bfloat16 the least float is 0, and not kept by dense
        assert again.kept == packed.kept


def test_options_of_a_kernel_are_in_its_file(tmp_path):
    kernel = KERNELS.make("bsr", rows=8, cols=16)
    save(kernel.pack(torch.randn(16, 32), torch.rand(16, 32) > 0.5), tmp_path / "w")
    assert load(tmp_path / "w").kernel == kernel
    kernel = KERNELS.make("tiled", threads=2)
    save(kernel.pack(torch.randn(16, 32), torch.rand(16, 32) > 0.5), tmp_path / "w")
    assert load(tmp_path / "w").kernel == kernel
    kernel = KERNELS.make("sparse-convolution", stride=(2, 1), padding=(1, 0))
    packed = kernel.pack(torch.randn(4, 3, 3, 3), torch.rand(4, 3, 3, 3) > 0.5)
    save(packed, tmp_path / "w")
    assert load(tmp_path / "w").kernel == kernel
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(load(tmp_path / "w")(x), packed(x))
