"""How often early answers are wrong, in populations that are known: never more than stated."""

import itertools
from collections import Counter
from functools import cache

import numpy as np
import pytest
from scipy import stats

from sparsity_core.sweep.betting import capital, interval
from sparsity_core.sweep.order import Order, order_of
from sparsity_core.sweep.sequential import Question, Standing, rounds
from tests.populations import RATES, even, numbers, population_of


def orders_of(rates):
    """Every order of samples with these rates, and its probability."""
    for samples in itertools.permutations(range(len(rates))):
        in_order = rates[list(samples)]
        chance = np.prod(in_order / np.cumsum(in_order[::-1])[::-1])
        yield Order(np.array(samples), in_order, np.arange(1.0, len(rates) + 1)), chance


@pytest.mark.parametrize("rates", RATES.values(), ids=RATES)
def test_bets_are_fair_in_every_population(rates):
    """The oracle: over all orders of each population, the expected capital at the truth is 1."""
    for population in itertools.product((-1.0, 0.0, 0.3, 1.0), repeat=4):
        numbered = numbers(*population)
        for above in (True, False):
            expected = sum(
                chance * capital(numbered[order.samples], order, numbered.mean(), above)
                for order, chance in orders_of(rates)
            )
            assert expected == pytest.approx(np.ones(4), abs=1e-9)


def wrong_share(rates, error, bounds):
    """The exact probability, for each population, that the truth is ever outside."""
    orders = list(orders_of(rates))
    all_even = (rates == rates[0]).all()
    # At equal rates all orders are one, and so are all populations of the same numbers.
    look = cache(lambda drawn, at: bounds(numbers(*drawn), orders[at][0], error))
    kinds = itertools.combinations_with_replacement((-1.0, 0.0, 1.0), len(rates))
    shares = []
    for population in kinds if all_even else itertools.product((-1.0, 0.0, 1.0), repeat=4):
        numbered, wrong = numbers(*population), 0.0
        for at, (order, chance) in enumerate(orders):
            drawn = tuple(numbered[order.samples])
            looks = (look(drawn[:n], 0 if all_even else at) for n in range(1, len(rates) + 1))
            outside = (not low - 1e-9 <= numbered.mean() <= high + 1e-9 for low, high in looks)
            wrong += chance * any(outside)
        shares.append(wrong)
    return shares


def test_exact_error_in_all_tiny_populations():
    """Every order of every population: no probability of an error exceeds what is promised."""
    shares = wrong_share(np.ones(6), 0.4, interval)
    assert max(shares) <= 0.4
    assert max(shares) > 0.1  # and the bound is not empty at this size
    assert max(wrong_share(numbers(1, 1, 2, 4), 0.8, interval)) <= 0.8


def test_the_exhaustive_check_can_fail():
    """Intervals at five times the error, or made for one look, are found out."""
    assert max(wrong_share(np.ones(6), 0.4, lambda *a: interval(a[0], a[1], 1.99))) > 0.4

    def one_look(drawn, order, error):
        half = stats.norm.ppf(1 - error / 2) * drawn.std() / np.sqrt(len(drawn))
        return drawn.mean() - half, drawn.mean() + half

    assert max(wrong_share(np.ones(6), 0.4, one_look)) > 0.4


def tolerated(trials, rate):
    """So many errors are not seen once in 10,000 where the rate is as promised."""
    return stats.binom.ppf(1 - 1e-4, trials, rate)


# (population, lost, won, threshold): truth exactly at the threshold, or the least above it.
NEAR = [
    (400, 4, 0, 0.01),
    (400, 24, 20, 0.01),
    (300, 16, 1, 0.05),
    (300, 100, 85, 0.05),
    (400, 5, 0, 0.01),
    (400, 60, 55, 0.01),
    (300, 16, 0, 0.05),
    (300, 150, 134, 0.05),
]


@pytest.mark.parametrize("case", NEAR, ids=str)
def test_error_rate_at_the_threshold(case):
    """400 random orders of each population, looked at after every round, error rate 0.2."""
    size, lost, won, threshold = case
    question = Question(threshold, error=0.2)
    right = "more than" if lost - won > threshold * size else "at most"
    make = np.random.default_rng(list(NEAR).index(case))
    wrong = Counter()
    for _ in range(400):
        order = make.permutation(population_of(size, lost, won))
        wrong["answers"] += settled_answer(question, order) != right
        if won > 10:
            wrong["one look"] += naive_answer(order, threshold, 0.2) not in (right, "undecided")
    assert wrong["answers"] <= tolerated(400, 0.2)
    # The same check finds out who looks again and again at an interval made for one look.
    assert won <= 10 or wrong["one look"] > tolerated(400, 0.2)


def settled_answer(question, order):
    standing = Standing(question, even(len(order)))
    for where in rounds(len(order)):
        standing = standing.after(order[where])
        if standing.settled:
            break
    return standing.verdict


def naive_answer(order, threshold, error):
    z = stats.norm.ppf(1 - error / 2)
    for end in range(10, len(order)):
        drawn = order[:end]
        half = z * drawn.std() / np.sqrt(end)
        if half and abs(drawn.mean() - threshold) > half:
            return "more than" if drawn.mean() > threshold else "at most"
    return "undecided"


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (3, 1), (40, 30), (150, 20), (290, 0)])
def test_coverage_at_all_times(lost, won):
    population, truth, missed = population_of(300, lost, won), (lost - won) / 300, 0
    make = np.random.default_rng(7)
    for _ in range(200):
        order = make.permutation(population)
        before = (-1.0, 1.0)
        outside = False
        for end in (20, 60, 120, 200, 260, 300):
            low, high = interval(order[:end], even(300), 0.2)
            # Nested, but for the steps of the bisection, until one is found to be wrong.
            assert outside or (low >= before[0] - 1e-4 and high <= before[1] + 1e-4)
            outside |= not low - 1e-9 <= truth <= high + 1e-9
            before = (low, high)
        missed += outside
        assert before == (truth, truth)
    assert missed <= tolerated(200, 0.2)


def test_the_whole_family_is_right():
    """40 points that share their order, family error 0.3: any wrong answer spoils a family."""
    make = np.random.default_rng(3)
    question = Question(0.05, error=0.3, points=40)
    spoiled = 0
    points = np.stack([population_of(300, 15 + w + (i % 2), w) for i, w in enumerate(range(40))])
    for _ in range(60):
        order = make.permutation(300)
        answers = [settled_answer(question, point[order]) for point in points]
        truths = ["more than" if p.sum() > 15 else "at most" for p in points]
        spoiled += answers != truths
    assert spoiled <= tolerated(60, 0.3)


def test_coverage_in_uneven_orders():
    """Numbers that are no counts, and what is hard comes far sooner."""
    make = np.random.default_rng(11)
    population = make.random(200) ** 3
    missed = 0
    for seed in range(400):
        order = order_of(1 + 5 * population, seed)
        drawn = population[order.samples]
        looks = [interval(drawn[:end], order, 0.2) for end in (30, 90, 150, 190)]
        missed += any(not low <= population.mean() <= high for low, high in looks)
    assert missed <= tolerated(400, 0.2)
    assert looks[-1][1] - looks[-1][0] < 0.2
