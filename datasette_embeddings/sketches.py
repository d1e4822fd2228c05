"""The nearest rows of a large matrix, exactly, without scoring all of it: a sketch of each row bounds its score from above.

A sketch is a row's leading principal components as int8. Of what it leaves out a score can gain no more than its length times that of what
is left out of the query (Cauchy-Schwarz). Rows whose bound lies below the k-th best of some that were scored cannot be among the k best; all
others are scored as ever. So the answer is that of scoring every row, whatever the data; only how many must be scored depends on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from datasette_embeddings.components import leading
from datasette_embeddings.vectors import SCORE_DECIMALS, UNIT_TOLERANCE, score_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from datasette_embeddings.vectors import Vector

    Positions = NDArray[np.int64]
    Take = Callable[[Positions], Vector]

VARIANCE = 0.95
"""Of a sample of the rows, held by the components of a sketch. 200,000 embeddings of short texts, 384 dimensions: 256 components, which leave
some 40 rows to be scored for ten results."""

HEAD_VARIANCE = 0.75
"""Likewise of its head: 128 components, which leave some 600 of those rows, and 31,000 at worst. 96 are read a third faster, and leave 4,000,
and 120,000 at worst."""


class Worth(NamedTuple):
    """Of the rows, how many may be left by the heads, and then by the rest of the sketches; scoring all costs less than more of them."""

    by_heads: float
    by_sketches: float


def in_memory(dimensions: int) -> Worth:
    """Return what is worth it where all vectors are in memory: the rest of a sketch costs as much as 1,536 components of a vector."""
    return Worth(dimensions / 1_536, 0.1)


IN_FILE = Worth(1.0, 0.05)
"""Of rows whose vectors are read from a file one by one: reading all takes as long as hundreds of searches."""

STEP = 32
"""Numbers of components are multiples of this, as processors take them."""

BLOCK = 128
"""Bounds looked at together when the highest are sought: one of a block is enough to begin with."""

PROMISING = 6
"""Rows whose whole sketches are looked at for each that is scored at first; they are the better chosen for it."""

SEEDS = 3
"""Rows scored at first for each result wanted, which give a k-th best score to begin with."""

ROWS_AT_ONCE = 8_192


@dataclass(frozen=True)
class Sketches:
    """What is known of each row without reading it.

    *basis* (m, d) float32: orthonormal rows, the first *head* of which make the head. *codes* (n, m) int8: components in units of *units* (n,)
    float32. *rests* (2, n) float32: upper bounds of the length of what of a row is not in the head, and not in any component. *error*: an upper
    bound of the length of what int8 leaves out of any row's components.
    """

    basis: Vector
    head: int
    codes: NDArray[np.int8]
    units: Vector
    rests: Vector
    error: float


def sketched(rows: Vector) -> Sketches:
    """Return the sketches of unit rows (n, d)."""
    return sketched_in_parts(rows, [rows], len(rows))


def sketched_in_parts(sample: Vector, parts: Iterable[Vector], count: int) -> Sketches:
    """Return the sketches of *count* unit rows, or fewer, that come in parts (n, d); their components are those of a *sample*."""
    basis = leading(sample, VARIANCE, STEP)
    head = len(leading(sample, HEAD_VARIANCE, STEP))
    codes = np.empty((count, len(basis)), np.int8)
    units = np.empty(count, np.float32)
    rests = np.empty((2, count), np.float32)
    error, done = 0.0, 0
    for rows in _smaller(parts):
        part = slice(done, done + len(rows))
        components = rows @ basis.T
        rests[0, part] = rest(np.vecdot(components[:, :head], components[:, :head]), basis.shape)
        rests[1, part] = rest(np.vecdot(components, components), basis.shape)
        codes[part], units[part] = coded(components)
        left_out = components - codes[part] * units[part][:, None]
        error = max(error, float(np.vecdot(left_out, left_out).max(initial=0.0)))
        done += len(rows)
    error = float(np.sqrt(error)) + rounding(basis.shape)
    return Sketches(basis, head, codes[:done], units[:done], rests[:, :done], error)


def _smaller(parts: Iterable[Vector]) -> Iterator[Vector]:
    for part in parts:
        for start in range(0, len(part), ROWS_AT_ONCE):
            yield part[start : start + ROWS_AT_ONCE]


def coded(components: Vector) -> tuple[NDArray[np.int8], Vector]:
    """Return rows (n, m) as int8, and how much one of it stands for in each row."""
    units = np.maximum(np.abs(components).max(axis=1), np.float32(1e-12)) / np.float32(127)
    return np.rint(components / units[:, None]).astype(np.int8), units


def rest(held: NDArray[np.float32] | float, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return an upper bound of the length of what is left of a unit vector of whose square its components hold *held*.

    What is added is what unit vectors and the float32 sums behind *held* can be wrong by.
    """
    return np.sqrt(np.maximum(0.0, 1.0 - np.asarray(held, np.float64)) + 2 * UNIT_TOLERANCE + 2 * rounding(shape))


def rounding(shape: tuple[int, ...]) -> float:
    """Return an upper bound of the length of the float32 error in the components of a unit vector.

    Each of the m components is a sum of d products and so wrong by (d + 2) 2^-24 at most, that of the basis included (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., eq. 3.5).
    """
    size, dimensions = shape
    return float(size**0.5 * (dimensions + 2) * 2.0**-24)


class Screen:
    """Sketches made ready to search with: their heads are looked at first, of all rows, and the rest of those that these leave.

    The heads are int8 for numkong, where that is installed, else float32.
    """

    def __init__(self, sketches: Sketches) -> None:
        size = sketches.head
        self._in_int8 = kernel_works()
        self._basis, self._head = sketches.basis, size
        self._units, self._rests, self._error = sketches.units, sketches.rests, sketches.error
        self._heads: Any = sketches.codes[:, :size]
        if self._in_int8:
            self._heads = np.ascontiguousarray(self._heads)
        else:
            self._heads = self._heads * self._units[:, None]
        self._tails = np.ascontiguousarray(sketches.codes[:, size:])
        self._slack = 2 * rounding(self._basis.shape) + 8 * len(self._basis) * 2.0**-24 + 10.0**-SCORE_DECIMALS

    @property
    def nbytes(self) -> int:
        """The memory it takes, in bytes."""
        held: list[NDArray[Any]] = [self._heads, self._tails, self._rests, self._units, self._basis]
        return sum(array.nbytes for array in held)

    def nearest(
        self, query: Vector, k: int, take: Take, among: Positions | None = None, worth: Worth | None = None
    ) -> tuple[Positions, NDArray[np.float64]] | None:
        """Return positions and scores of rows, of *among* where given, that hold the *k* best and all that score as the last of these.

        *take* gives the unit rows at sorted positions. None where more rows are left than it is *worth*, by default of vectors
        in memory.
        """
        worth = worth or in_memory(len(query))
        components = self._basis @ query
        products, bounds = self._by_heads(components)
        if among is not None:
            products, bounds = products[among], bounds[among]

        def closer(places: Positions) -> Vector:
            return self._by_all(components, places if among is None else among[places], products[places])

        def scores(places: Positions) -> NDArray[np.float64]:
            return score_rows(take(places if among is None else among[places]), query)

        seeds = promising(bounds, PROMISING * SEEDS * k)
        seeds = np.sort(seeds[highest(closer(seeds), SEEDS * k)])
        if len(seeds) < k:
            return None
        known = scores(seeds)
        floor = _last_of(known, k)
        left = np.flatnonzero(bounds >= floor)
        if len(left) > max(worth.by_heads * len(bounds), SEEDS * k):
            return None
        left = left[closer(left) >= floor]
        if len(left) > max(worth.by_sketches * len(bounds), SEEDS * k):
            return None
        more = np.setdiff1d(left, seeds, assume_unique=True)
        places, found = np.concatenate([seeds, more]), np.concatenate([known, scores(more)])
        return places if among is None else among[places], found

    def _by_heads(self, components: Vector) -> tuple[Vector, Vector]:
        """Return the product of each row's head with that of a query, and what its score cannot exceed: (n,) float32."""
        head = components[: self._head]
        held = float(np.vecdot(head, head))
        if self._in_int8:
            products, lost = self._int8_products(head, self._heads, self._units)
        else:
            products, lost = np.vecdot(self._heads, head), 0.0
        bounds = self._rests[0] * np.float32(rest(held, self._basis.shape))
        bounds += products
        bounds += np.float32(lost + self._error * held**0.5 + self._slack)
        return products + np.float32(lost), bounds

    def _by_all(self, components: Vector, positions: Positions, products: Vector) -> Vector:
        """Return what the score of some rows cannot exceed, by all of their components. *products*: those of the heads, at least."""
        tail = components[self._head :]
        held = float(np.vecdot(components, components))
        bounds = np.empty(len(positions), np.float32)
        for start in range(0, len(positions), ROWS_AT_ONCE):
            part = positions[start : start + ROWS_AT_ONCE]
            tails, units = self._tails[part], self._units[part]
            if self._in_int8:
                found, lost = self._int8_products(tail, tails, units)
            else:
                found, lost = np.vecdot(tails.astype(np.float32), tail) * units, 0.0
            found += self._rests[1][part] * np.float32(rest(held, self._basis.shape))
            found += np.float32(lost)
            bounds[start : start + ROWS_AT_ONCE] = found
        bounds += products
        bounds += np.float32(self._error * held**0.5 + self._slack)
        return bounds

    def _int8_products(self, query: Vector, rows: NDArray[np.int8], units: Vector) -> tuple[Vector, float]:
        """Return the product of each row with a query, and by how much these may be too low, as the query is made int8 as well."""
        if not query.size or not len(rows):
            return np.zeros(len(rows), np.float32), 0.0
        codes, unit = coded(query[None])
        products = np.multiply(kernel_products(codes, rows), units, dtype=np.float32, casting="unsafe")
        products *= unit[0]
        return products, (1.0 + self._error) * float(np.linalg.norm(query - codes[0] * unit[0]))


def _last_of(scores: NDArray[np.float64], k: int) -> np.float32:
    """Return the k-th best score, as float32 rounded downwards."""
    last = np.float32(np.partition(scores, len(scores) - k)[len(scores) - k])
    return np.float32(np.nextafter(last, np.float32(-2)))


def promising(bounds: Vector, count: int) -> Positions:
    """Return the places of about *count* of the highest bounds: the highest of each of the blocks that have such."""
    whole = len(bounds) // BLOCK * BLOCK
    best = bounds[:whole].reshape(-1, BLOCK).argmax(axis=1) + np.arange(0, whole, BLOCK)
    return np.asarray(best[highest(bounds[best], count)]) if len(best) > count else highest(bounds, count)


def highest(values: Vector, count: int) -> Positions:
    """Return the places of the *count* highest values, or of all."""
    if len(values) <= count:
        return np.arange(len(values))
    return np.argpartition(values, len(values) - count)[len(values) - count :]


def kernel_products(query: NDArray[np.int8], rows: NDArray[np.int8]) -> NDArray[np.int32]:
    """Return the product of each of *rows* (n, m) with *query* (1, m), by numkong: (n,) int32."""
    from numkong import dots_pack, dots_packed

    return np.asarray(dots_packed(rows, dots_pack(query, "int8"))).reshape(-1)


@cache
def kernel_works() -> bool:
    """Tell whether numkong is installed and multiplies int8 as numpy does, at sizes around those of its registers."""
    random = np.random.default_rng(0)
    for size in range(STEP, 40 * STEP, 5 * STEP):
        one = random.integers(-127, 128, (1, size), np.int8)
        others = random.integers(-127, 128, (7, size), np.int8)
        try:
            found = kernel_products(one, others)
        except (ImportError, AttributeError, TypeError, ValueError):
            return False
        if found.tolist() != (others.astype(np.int64) @ one[0].astype(np.int64)).tolist():
            return False
    return True
