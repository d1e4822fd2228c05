"""Upper bounds of all products of unit rows at once, by a matrix product of little more than half the size.

With p the leading principal components of a row and r the length of what they leave of it, x.y <= p.p' + r r' (Cauchy-Schwarz). So the
product of the rows [p, r] is an upper bound of that of the rows themselves, whatever the data. How near it comes depends on them: where
most pairs would have to be looked at all the same, `Bounds.useful` soon says no.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datasette_embeddings.components import leading
from datasette_embeddings.limits import SEARCH_CHUNK_ROWS
from datasette_embeddings.sketches import rest, rounding
from datasette_embeddings.vectors import SCORE_DECIMALS

if TYPE_CHECKING:
    from datasette_embeddings.vectors import Vector

VARIANCE = 0.93
"""Of a sample of the rows, held by the components. 200,000 embeddings of short texts, 384 dimensions: 240 components, which leave some 25
pairs a row when its tenth best is known; 192 leave 90, 160 leave 340."""

STEP = 16
"""Numbers of components are multiples of this, as processors take them."""

MOST_SIZE = 0.75
"""Of the dimensions: more components save too little of a product."""

LEFT = 1 / 32
"""Of the pairs of a tile, whose products cost, one by one, what is saved."""

MOST_PAUSE = 16
"""Tiles without bounds after bounds were of no use again and again: soon enough for what earlier tiles raise."""


class Bounds:
    """Rows [p, r] of some unit rows and of those that they are compared with, and whether they are of use."""

    def __init__(self, chosen: Vector, against: Vector | None, basis: Vector) -> None:
        self.chosen = extended(chosen, basis)
        self.against = self.chosen if against is None else extended(against, basis)
        self.slack = slack(basis.shape)
        self._pause = self._left = 0

    def of(self, left: slice, right: slice) -> Vector:
        """Return what the products of some of the chosen rows and some of the others cannot exceed by more than *slack*."""
        return self.chosen[left] @ self.against[right].T

    def useful(self) -> bool:
        """Tell whether to try bounds for the next tile: after each that was in vain, twice as many go without."""
        if self._left:
            self._left -= 1
            return False
        return True

    def learn(self, pairs: int, of: int) -> bool:
        """Tell whether so few *pairs* of a tile of so many are left that looking at each costs less than the product of all."""
        if pairs <= LEFT * of:
            self._pause = 0
            return True
        self._pause = min(MOST_PAUSE, max(1, 2 * self._pause))
        self._left = self._pause
        return False


def extended(rows: Vector, basis: Vector) -> Vector:
    """Return [p, r] of unit rows (n, d): (n, m + 1) float32."""
    size = len(basis)
    found = np.empty((len(rows), size + 1), np.float32)
    for start in range(0, len(rows), SEARCH_CHUNK_ROWS):
        part = slice(start, start + SEARCH_CHUNK_ROWS)
        components = rows[part] @ basis.T
        found[part, :size] = components
        found[part, size] = rest(np.vecdot(components, components), basis.shape)
    return found


def slack(shape: tuple[int, ...]) -> np.float32:
    """Return how far a float32 product of [p, r] of m components can lie below the score of the pair.

    The components are wrong by `rounding` at most, in either row; the sum of m + 1 products of rows of length 1, hardly more, by (m + 3)
    2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., eq. 3.5), for which 8 m 2^-24 is taken as it covers the rounding
    of r and of this sum too. The last is the rounding of scores.
    """
    return np.float32(2 * rounding(shape) + 8 * shape[0] * 2.0**-24 + 10.0**-SCORE_DECIMALS)


def bounds_of(chosen: Vector, against: Vector | None = None) -> Bounds | None:
    """Return the bounds of the products of unit rows with others, or among themselves; None where they would not save much."""
    basis = leading(chosen if against is None else against, VARIANCE, STEP)
    return Bounds(chosen, against, basis) if len(basis) <= MOST_SIZE * chosen.shape[1] else None
