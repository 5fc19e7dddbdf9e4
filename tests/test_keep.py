"""Zeros where a mask is False: by eye, and each way against torch's own."""

import pytest
import torch

from sparsity_core.keep import keep_


def test_what_is_not_kept_is_plus_zero_even_of_nan_and_negative_numbers():
    values = torch.tensor([1.0, -2.0, torch.nan, -torch.inf, -3.0])
    keep_(values, torch.tensor([True, False, False, False, True]))
    assert values.tolist() == [1, 0, 0, 0, -3]
    assert not values[1:4].signbit().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("laid_out", ["in rows", "by columns", "parameter"])
def test_as_masked_fill_whatever_the_numbers_and_their_order(dtype, laid_out):
    make = torch.Generator().manual_seed(1)
    values = torch.randn(37, 21, generator=make).to(dtype)
    mask = torch.rand(37, 21, generator=make) < 0.3
    if laid_out == "by columns":
        values = values.t().contiguous().t()
    expected = values.masked_fill(~mask, 0)
    if laid_out == "parameter":
        values = torch.nn.Parameter(values)
    with torch.no_grad():
        keep_(values, mask)
    assert torch.equal(values.detach(), expected)
