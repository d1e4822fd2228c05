"""How good a search is, where the right answers are known: reciprocal rank and recall, with an interval of their mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

DEPTH = 10
"""Results that are looked at: what people see before they ask again."""

RESAMPLES = 10_000
"""Bootstrap samples: the ends of a 95 percent interval then vary by a hundredth of its width."""

NUMBERS_AT_ONCE = 4_000_000
"""Of the samples that are drawn, held in memory at a time: 32 MB."""


def rank(found: Sequence[str], right: Collection[str]) -> int | None:
    """Return the place of the first right item, from 1; None where there is none."""
    return next((place for place, item in enumerate(found, 1) if item in right), None)


def reciprocal_rank(found: Sequence[str], right: Collection[str], depth: int = DEPTH) -> float:
    """Return 1 / the place of the first right item among the first *depth*, 0 where there is none.

    >>> reciprocal_rank(["a", "b", "c"], {"b", "c"}), reciprocal_rank(["a", "b"], {"b"}, depth=1)
    (0.5, 0.0)
    """
    place = rank(found[:depth], right)
    return 1 / place if place else 0.0


def recall(found: Sequence[str], right: Collection[str], depth: int = DEPTH) -> float:
    """Return which share of the right items is among the first *depth*; raises ValueError where none is right.

    >>> recall(["a", "b", "c"], {"b", "d"})
    0.5
    """
    if not right:
        raise ValueError("recall is of the right items, and there are none")
    return len(set(found[:depth]) & set(right)) / len(set(right))


def interval(values: NDArray[np.float64], resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float, float]:
    """Return the mean of (n,) values and its 95 percent interval: (mean, low, high), by percentile bootstrap.

    Of paired differences, it is the interval of the difference. Raises ValueError for no values.
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    if not len(values):
        raise ValueError("an interval is of a mean, and there are no values")
    random = np.random.default_rng(seed)
    step = max(1, NUMBERS_AT_ONCE // len(values))
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    means = [values[random.integers(0, len(values), (size, len(values)))].mean(axis=1) for size in sizes]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(np.mean(values)), float(low), float(high)
