"""The mean of numbers in -1..1, bounded at every moment while they are being drawn.

Whoever claims that the mean is m offers fair bets on the next draw. We bet against the claim; our
capital, 1 at the start, is expected to stay 1 as long as the claim is true, so it ever reaches
1 / error with a probability of at most `error` (Ville). A claim that has made us that rich is
given up, and what is left at any moment is an interval that may be looked at as often as one likes.
Waudby-Smith & Ramdas 2023, "Estimating means of bounded random variables by betting", section 5;
with unequal chances of being drawn: Shekhar, Xu, Lipton, Liang & Ramdas 2023, "Risk-limiting
financial audits via weighted sampling without replacement".
"""

from collections.abc import Callable

import numpy as np

from sparsity_core.sweep.order import Numbers, Order

# Shares of the capital that are put at stake, each by its own purse, and what the purses start
# with. Nobody need guess the best share: the purses together grow as the best of them, less its
# start. A full stake is best where nothing changes, 1/64 where the mean is very near the claim.
SHARES: Numbers = 2.0 ** (-np.arange(13) / 2)
PURSES: Numbers = 0.75 ** np.arange(13) / (0.75 ** np.arange(13)).sum()

_HALVINGS = 18  # of the interval: its ends are found to 1/260,000 of the limits' distance


def interval(
    drawn: Numbers, order: Order, error: float, first: float | None = None
) -> tuple[float, float]:
    """Where the mean of all numbers lies, given those drawn so far; `drawn` (n,), n <= N.

    With probability 1 - `error` the mean is in all the intervals that there are from the first
    draw to the last, which are nested; the last has no width. `first` is the value whose claim is
    tested first, so that a bound that reaches it also says so.
    """
    low, high = certain(drawn, len(order))
    if low == high:
        return low, high
    middle = first if first is not None and low < first < high else (low + high) / 2

    def given_up(claim: float, above: bool) -> bool:
        return peak(drawn, order, claim, above) >= 2 / error

    at_least = _last(lambda claim: given_up(claim, True), low, high, middle)
    at_most = _last(lambda claim: given_up(claim, False), high, low, middle)
    # They cross only where one of them is wrong.
    return min(at_least, at_most), max(at_least, at_most)


def certain(drawn: Numbers, population: int) -> tuple[float, float]:
    """Where the mean lies whatever is still to come."""
    rest = population - len(drawn)
    total = float(drawn.sum())
    return (total - rest) / population, (total + rest) / population


def peak(drawn: Numbers, order: Order, claim: float, above: bool) -> float:
    """The most that a bet against "the mean is `claim`" ever had; see `capital`."""
    # What overflowed is infinite for a moment and may be undefined afterwards; fmax passes that by.
    return float(np.fmax.reduce(capital(drawn, order, claim, above), initial=1.0))


def capital(drawn: Numbers, order: Order, claim: float, above: bool) -> Numbers:
    """Our capital after each draw, when the mean is said to be `claim` and we bet on more or less.

    capital_n = sum_j purse_j prod_{i<=n} (1 - share_j + share_j pay_i). With z_i the i-th number
    times its worth, which lies within -most_i and most_i and whose expectation rest_i the claim
    knows, a bet on more pays pay_i = (most_i + z_i) / (most_i + rest_i), one on less
    (most_i - z_i) / (most_i - rest_i). It falls as the claim moves towards what we bet on, so one
    claim given up stands for all those beyond it. Shapes: (n,) -> (n,).
    """
    n = len(drawn)
    rest = claim - (np.cumsum(drawn) - drawn) / len(order)
    side, most = 1 if above else -1, order.most[:n]
    won, at_stake = most + side * drawn * order.worth[:n], most + side * rest
    # Where the claim says that all that come are at the limit, there is nothing to bet on.
    pay = np.divide(won, at_stake, out=np.ones_like(won), where=at_stake > 1e-9 * most)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        purses = np.cumprod(1 - SHARES[:, None] + SHARES[:, None] * pay, axis=1)
        return PURSES @ purses


def _last(given_up: Callable[[float], bool], start: float, end: float, middle: float) -> float:
    """The last claim known to be given up on the way from `start`, which is sure, to `end`."""
    for _ in range(_HALVINGS):
        if given_up(middle):
            start = middle
        else:
            end = middle
        middle = (start + end) / 2
    return start
