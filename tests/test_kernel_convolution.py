"""Sparse convolutions against torch's in float64, on odd images, strides, paddings, dilations."""

import math

import pytest
import torch
import torch.nn.functional as F

from sparsity_core.errors import SparsityError
from sparsity_core.kernels import KERNELS, SparseConvolution, load, save

CONVOLUTIONS = [kind for kind in KERNELS if KERNELS.make(kind).rank == 4]
GEOMETRIES = {
    "1x1": ((40, 24, 1, 1), {}),  # in place for the 8 x 8 image
    "1x1 stride 2": ((8, 24, 1, 1), {"stride": (2, 2)}),
    "1x1 padded": ((4, 3, 1, 1), {"padding": (1, 2)}),
    "2x2 wide padding": ((4, 3, 2, 2), {"padding": (2, 2)}),
    "3x3": ((17, 30, 3, 3), {"padding": (1, 1)}),
    "3x3 no padding": ((5, 3, 3, 3), {}),
    "3x3 stride 2": ((16, 8, 3, 3), {"stride": (2, 2), "padding": (1, 1)}),
    "3x3 dilated": ((6, 5, 3, 3), {"padding": (2, 2), "dilation": (2, 2)}),
    "5x2 uneven": ((6, 5, 5, 2), {"stride": (1, 3), "padding": (0, 2), "dilation": (1, 2)}),
    "7x7 stride 2": ((9, 3, 7, 7), {"stride": (2, 2), "padding": (3, 3)}),
}
IMAGES = [(1, 8, 8), (2, 7, 9), (3, 5, 16), (1, 33, 20)]


def layer(shape, sparsity=0.8):
    make = torch.Generator().manual_seed(0)
    return (
        torch.randn(shape, generator=make),
        torch.rand(shape, generator=make) >= sparsity,
        torch.randn(shape[0], generator=make),
    )


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("image", IMAGES, ids=str)
def test_equals_the_dense_convolution(kind, name, image):
    shape, geometry = GEOMETRIES[name]
    weight, mask, bias = layer(shape)
    n, height, width = image
    x = torch.randn(n, shape[1], height, width)
    kept = weight.masked_fill(~mask, 0)
    expected = F.conv2d(x.double(), kept.double(), bias.double(), **geometry)
    size = F.conv2d(x.double().abs(), kept.double().abs(), bias.double().abs(), **geometry)
    packed = KERNELS.make(kind, **geometry).pack(weight, mask, bias)
    for images in (x, x.contiguous(memory_format=torch.channels_last)):
        y = packed(images)
        assert y.shape == expected.shape
        assert y.is_contiguous()
        allowed = 2**-22 * math.prod(shape[1:]) * size
        assert bool(((y - expected).abs() <= allowed + 1e-30).all())


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_empty_and_full_filters_and_changing_sizes(kind):
    weight, mask, _ = layer((9, 6, 3, 3))
    mask[2], mask[5] = False, True
    packed = KERNELS.make(kind, padding=(1, 1)).pack(weight, mask)
    kept = weight.masked_fill(~mask, 0)
    for size in (8, 11, 8):
        x = torch.randn(2, 6, size, size)
        torch.testing.assert_close(packed(x), F.conv2d(x, kept, padding=1), rtol=1e-4, atol=1e-4)


def test_infinity_stays_where_it_is_read():
    weight, mask = torch.ones(2, 2, 3, 3), torch.zeros(2, 2, 3, 3, dtype=torch.bool)
    mask[1, 0, 1, 1] = True
    x = torch.ones(1, 2, 6, 6)
    x[0, 0, 2, 3] = math.inf
    x[0, 1] = math.nan  # a channel that nothing reads
    y = SparseConvolution(padding=(1, 1)).pack(weight, mask)(x)
    assert bool((y[0, 0] == 0).all())
    assert y[0, 1].isposinf().nonzero().tolist() == [[2, 3]]
    assert not bool(y.isnan().any())


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_to_and_from_a_file(kind, tmp_path):
    weight, mask, bias = layer((9, 6, 3, 3))
    kernel = KERNELS.make(kind, padding=(1, 1), stride=(2, 1))
    packed = kernel.pack(weight, mask, bias)
    assert torch.equal(packed.dense(), weight.masked_fill(~mask, 0))
    save(packed, tmp_path / "x")
    again = load(tmp_path / "x")
    assert again.kernel == kernel
    x = torch.randn(2, 6, 9, 9)
    assert torch.equal(again(x), packed(x))


def test_threads_agree():
    weight, mask, bias = layer((9, 6, 3, 3))
    x = torch.randn(3, 6, 20, 20)
    one, two = (
        SparseConvolution(padding=(1, 1), threads=threads).pack(weight, mask, bias)
        for threads in (1, 2)
    )
    assert torch.equal(one(x), two(x))


def test_errors_name_what_is_wrong():
    packed = SparseConvolution().pack(torch.randn(4, 3, 3, 3), torch.ones(4, 3, 3, 3))
    with pytest.raises(SparsityError, match=r"takes float32 images \(n, 3, height, width\)"):
        packed(torch.randn(1, 4, 8, 8))
    with pytest.raises(SparsityError, match="does not fit an image of 2 x 8"):
        packed(torch.randn(1, 3, 2, 8))
    with pytest.raises(SparsityError, match="stride"):
        SparseConvolution(stride=(0, 1))


def test_layers_that_share_buffers_leave_earlier_outputs_alone():
    torch.manual_seed(0)
    kernel = KERNELS.make("sparse-convolution")
    packed = [kernel.pack(torch.randn(n, 3, 1, 1), torch.rand(n, 3, 1, 1) > 0.3) for n in (1, 1, 4)]
    x = torch.randn(1, 3, 5, 7)
    expected = [F.conv2d(x, one.dense()) for one in packed]
    found = [one(x) for one in packed]
    again = [one(2 * x) for one in packed]
    for want, got, twice in zip(expected, found, again, strict=True):
        torch.testing.assert_close(got, want)
        torch.testing.assert_close(twice, 2 * want)
    padded = KERNELS.make("sparse-convolution", padding=(1, 1), stride=(2, 2))
    layers = [padded.pack(torch.randn(2, 3, 3, 3), torch.ones(2, 3, 3, 3) > 0) for _ in range(2)]
    for one in layers:
        want = F.conv2d(x, one.dense(), stride=2, padding=1)
        torch.testing.assert_close(one(x), want, rtol=1e-5, atol=1e-5)
