"""95 % intervals that hold 95 % of the time."""

import math

import pytest
import torch
from scipy import stats

from sparsity_core.intervals import paired_difference, proportion


def test_wilson_by_hand():
    # Brown, Cai & DasGupta 2001, equation 4, with 8 of 10.
    z, n, p = 1.959964, 10, 0.8
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert proportion(8, 10) == pytest.approx((0.8, centre - half, centre + half))


@pytest.mark.parametrize("samples", [1, 7, 360, 10_000])
def test_a_share_has_the_interval_that_scipy_gives(samples):
    for successes in {0, 1, samples // 3, samples - 1, samples}:
        bounds = stats.binomtest(successes, samples).proportion_ci(0.95, method="wilson")
        expected = (successes / samples, bounds.low, bounds.high)
        assert proportion(successes, samples) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("samples", [2, 5, 100])
def test_a_mean_of_other_numbers_has_students_interval(samples):
    before = torch.rand(samples, generator=torch.Generator().manual_seed(samples))
    found = paired_difference(before, torch.zeros(samples))
    expected = stats.ttest_1samp(before.double().numpy(), 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_the_interval_of_one_sample_has_no_bounds_unless_it_is_of_0_and_1():
    one, half = torch.ones(1), torch.full((1,), 0.5)
    assert paired_difference(one, half).bounds == (None, None)
    found = paired_difference(one, one)
    assert found.bounds == (found.low, found.high)
    assert -1 < found.low < 0 < found.high < 1


def test_no_change_still_has_a_width():
    same = torch.ones(360)
    found = paired_difference(same, same)
    assert found.value == 0
    assert found.low < 0 < found.high < 0.02


def test_agresti_min_by_hand():
    # 10 lost, 4 won, of 100: (6 +- z sqrt(15 - 36 / 102)) / 102
    before = torch.tensor([1.0] * 10 + [0.0] * 4 + [1.0] * 86)
    after = torch.tensor([0.0] * 10 + [1.0] * 4 + [1.0] * 86)
    half = 1.959964 * math.sqrt(15 - 36 / 102) / 102
    found = paired_difference(before, after)
    assert found == pytest.approx((0.06, 6 / 102 - half, 6 / 102 + half))


@pytest.mark.parametrize(("lost", "won"), [(0.02, 0.01), (0.1, 0.02), (0.5, 0.05)])
def test_the_interval_covers_the_truth(lost, won):
    make = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(1000):
        draw = torch.rand(300, generator=make)
        before, after = (draw >= won).float(), ((draw < won) | (draw >= won + lost)).float()
        found = paired_difference(before, after)
        covered += found.low <= lost - won <= found.high
    assert covered >= 930


def test_students_t_for_losses():
    before, after = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.5, 0.5, 1.5])
    found = paired_difference(before, after)  # differences 0.5, 1.5, 2.5; t(2) = 4.302653
    assert found == pytest.approx((1.5, 1.5 - 4.302653 / 3**0.5, 1.5 + 4.302653 / 3**0.5))


def test_a_batch_of_one():
    found = paired_difference(torch.tensor([0.3]), torch.tensor([0.1]))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == (-math.inf, math.inf)
