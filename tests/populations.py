"""Populations of right and wrong answers whose mean is known."""

from functools import cache

import numpy as np

from sparsity_core.sweep.order import order_of


def numbers(*values):
    return np.array(values, dtype=float)


def population_of(size, lost, won):
    return np.repeat([1.0, -1.0, 0.0], [lost, won, size - lost - won])


@cache
def even(size):
    """An order in which each sample is as likely to come next as any other."""
    return order_of(np.ones(size), seed=0)


RATES = {"even": np.ones(4), "hard first": numbers(1, 1, 3, 7)}
