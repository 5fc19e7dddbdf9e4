"""Early answers: bets and orders by hand, what is known on the way and at the end."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from sparsity_core.errors import SparsityError
from sparsity_core.sweep import betting
from sparsity_core.sweep.betting import capital, certain, interval
from sparsity_core.sweep.order import Order, order_of, rates_from
from sparsity_core.sweep.sequential import Question, Standing, rounds
from tests.populations import RATES, even, numbers, population_of


def test_a_bet_by_hand(monkeypatch):
    # Four numbers in -1..1, whose mean is said to be 0.25; everything is put on less. The first 0
    # pays 1 / (1 - 0.25) = 4/3. Then three numbers of mean 1/3 are left, and 0 pays 1 / (2/3).
    monkeypatch.setattr(betting, "SHARES", numbers(1))
    monkeypatch.setattr(betting, "PURSES", numbers(1))
    assert capital(numbers(0, 0), even(4), 0.25, above=False) == pytest.approx([4 / 3, 2])
    # On more: (0 + 1) / (0.25 + 1) = 4/5, then 1 / (4/3) = 3/4.
    assert capital(numbers(0, 0), even(4), 0.25, above=True) == pytest.approx([4 / 5, 3 / 5])
    # A lost full stake is gone for good, half of it is not.
    assert capital(numbers(1, 0), even(4), 0.25, above=False) == pytest.approx([0, 0])
    monkeypatch.setattr(betting, "SHARES", numbers(0.5))
    assert capital(numbers(1, 0), even(4), 0.25, above=False)[0] == pytest.approx(0.5)


def test_worth_by_hand():
    # Rates 3, 1: the first had 3 of 4 chances to come first, so its number counts 4/3 times, half
    # of the mean of two. The other could have counted 4 times. The last is certain.
    order = Order(np.array([0, 1]), numbers(3, 1), numbers(0.1, 0.5))
    assert order.worth == pytest.approx([4 / 3 / 2, 1 / 2])
    assert order.most == pytest.approx([4 / 2, 1 / 2])
    # Before the second clock rings at 0.5, a clock of rate 3 rings with probability 1 - e^-1.5.
    assert order.mean(numbers(1)) == pytest.approx(1 / (1 - np.exp(-1.5)) / 2)
    assert order.mean(numbers(1, 0)) == 0.5


def test_orders_follow_the_rates():
    first = Counter(int(order_of(RATES["hard first"], seed).samples[0]) for seed in range(3000))
    assert stats.chisquare([first[i] for i in range(4)], [250, 250, 750, 1750]).pvalue > 1e-4
    again = order_of(RATES["hard first"], 5)
    assert (again.samples == order_of(RATES["hard first"], 5).samples).all()
    assert sorted(again.samples) == [0, 1, 2, 3]
    assert (np.diff(again.clocks) > 0).all()


def test_the_estimate_is_unbiased():
    population, rates = numbers(1, 0, -1, 1, 0, 0, 1), numbers(1, 1, 2, 3, 1, 2, 5)
    for seen in (2, 5):
        orders = (order_of(rates, seed) for seed in range(4000))
        found = [order.mean(population[order.samples[:seen]]) for order in orders]
        wide = 4 * np.std(found) / np.sqrt(len(found))
        assert np.mean(found) == pytest.approx(population.mean(), abs=wide)


def test_rates_rise_with_the_loss_and_are_even_without():
    rates = rates_from(numbers(0, 0.5, 1, 30, np.nan))
    assert (np.diff(rates) >= 0).all()
    assert rates[0] == 1 < rates[1] < rates[2] == rates[3] == rates[4]
    assert (rates_from(np.zeros(3)) == 1).all()


def test_what_is_still_to_come_bounds_the_mean():
    assert certain(numbers(1, 0, 1), 4) == (0.25, 0.75)
    assert interval(numbers(1, 0, 1, 0), even(4), 0.05) == (0.5, 0.5)
    assert interval(numbers(), even(4), 0.05) == (-1, 1)


def test_clear_cases_are_settled_soon():
    make = np.random.default_rng(0)
    unchanged, harmed = np.zeros(10_000), make.permutation(population_of(10_000, 3000, 200))
    family = {"error": 0.05, "points": 198}
    for order, threshold, verdict, at_most in (
        (unchanged, 0.01, "at most", 1100),
        (unchanged, 0.05, "at most", 250),
        (harmed, 0.01, "more than", 150),
        (harmed, 0.05, "more than", 200),
    ):
        standing = Standing(Question(threshold, **family), even(10_000)).after(order[:at_most])
        assert standing.verdict == verdict
        low, high = standing.interval
        assert low >= threshold if verdict == "more than" else high <= threshold


def test_answers_are_exact_at_the_end():
    for lost in (99, 100, 101):
        order = np.random.default_rng(lost).permutation(population_of(10_000, lost, 0))
        standing = Standing(Question(0.01, points=10**9), even(10_000)).after(order)
        assert standing.verdict == ("more than" if lost > 100 else "at most")
        assert standing.interval == (lost / 10_000, lost / 10_000)
        assert "exact, all 10000 samples seen" in str(standing)


def test_nothing_is_known_of_no_samples():
    standing = Standing(Question(0.01), even(50))
    assert (standing.verdict, standing.interval, standing.settled) == ("undecided", (-1, 1), False)
    assert Standing(Question(1.0), even(50)).verdict == "at most"  # nothing drops by more than all


def test_batches_of_any_size_tell_the_same():
    order = np.random.default_rng(5).permutation(population_of(500, 60, 20))
    whole = Standing(Question(0.03), even(500)).after(order[:200])
    parts = Standing(Question(0.03), even(500))
    for part in np.split(order[:200], [1, 7, 64, 199]):
        parts = parts.after(torch.as_tensor(part))
    assert parts.interval == whole.interval
    assert parts.verdict == whole.verdict


def test_rounds_take_every_sample_once():
    for size in (1, 63, 64, 65, 1000, 10_000):
        found = [i for where in rounds(size) for i in range(size)[where]]
        assert found == list(range(size))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of the two"),
        ({"threshold": 0.01, "width": 0.01}, "one of the two"),
        ({"threshold": 2}, "0.01 = 1 point"),
        ({"threshold": float("nan")}, "0.01 = 1 point"),
        ({"width": -0.1}, "0.01 = 1 point"),
        ({"threshold": 0.01, "error": 0}, "usual is 0.05"),
        ({"threshold": 0.01, "points": 0}, "1 or more"),
    ],
)
def test_bad_questions_name_the_remedy(options, message):
    with pytest.raises(SparsityError, match=message):
        Question(**options)


def test_no_model_drops_by_more_than_the_dense_one_has():
    # All of 64 samples are lost, of 1,000 that the dense model gets right to 80 %.
    free = Standing(Question(0.01), even(1000)).after(np.ones(64))
    bound = Standing(Question(0.01), even(1000), dense=0.8).after(np.ones(64))
    assert min(free.drop, free.interval[1]) > 0.8
    assert (bound.drop, bound.interval[1]) == (0.8, 0.8)
    assert bound.interval[0] == min(free.interval[0], 0.8)
    gained = Standing(Question(0.01), even(1000), dense=0.8).after(-np.ones(64))
    assert (gained.drop, gained.interval[0]) == pytest.approx((-0.2, -0.2))
    assert bound.verdict == free.verdict == "more than"


def test_bad_differences_name_the_remedy():
    standing = Standing(Question(0.01), even(3))
    for wrong in ([2.0], [float("nan")]):
        with pytest.raises(SparsityError, match="scale the metric"):
            standing.after(wrong)
    with pytest.raises(SparsityError, match="count each once"):
        standing.after([0.0] * 4)
