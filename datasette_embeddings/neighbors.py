"""The k nearest items of every item: exact, in tiles of one symmetric matrix product, on every core.

A fast pass (a float32 matrix product) only chooses candidates, within its proven error of the k-th score; every score that
is kept comes from `vectors.score_rows`. So a pair's score depends on that pair alone, and an incremental update gives the
same table, bit for bit, as one from scratch.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from datasette_embeddings.limits import TILE_ROWS
from datasette_embeddings.vectors import score_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    Positions = TypeVar("Positions", bound=np.integer)
    Matrix = NDArray[np.float32]
    Progress = Callable[[int, int], None]
    Candidates = tuple[NDArray[np.uint16], NDArray[np.int32], NDArray[np.float32]]
    Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

SCORED_AT_ONCE = 4_096
"""Pairs whose scores are computed at once: 12 MB at 384 dimensions."""

POOL_PER_ROW = 128
"""Candidates a row may collect on average before its block is cut back to the k best; 8 bytes each."""


@dataclass(frozen=True)
class Neighbors:
    """The nearest items of some rows, flat and sorted by row, then score descending, then position.

    *rows* (m,) int64 and *others* (m,) int64 are positions in the matrix, *scores* (m,) float64.
    """

    rows: NDArray[np.int64]
    others: NDArray[np.int64]
    scores: NDArray[np.float64]


def score_error(dimensions: int) -> float:
    """Return how far a float32 matrix product of unit rows and the rounded score of the pair can lie apart.

    Each of the two sums differs from the true one by at most d * 2^-24 (Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd ed., eq. 3.5, for any order of summation); the rest covers norms and the rounding to 6 decimals.
    """
    return 2.2 * dimensions * 2.0**-24 + 1e-6


def all_neighbors(matrix: Matrix, k: int, progress: Progress | None = None) -> Neighbors:
    """Return the k nearest rows of every row of unit rows (n, d), itself excluded; ties go to the lower position.

    Equal rows are computed once, so that a table of one text repeated costs no more than one of distinct texts.
    """
    first, group = _distinct(matrix)
    if len(first) == len(matrix):
        return _all_distinct(matrix, k, progress)
    return _for_members(_all_distinct(matrix[first], k, progress), matrix, first, group, k)


def _all_distinct(matrix: Matrix, k: int, progress: Progress | None) -> Neighbors:
    blocks = _blocks(len(matrix))
    engine = _Engine(matrix, k, np.arange(len(matrix)))
    pairs = [(i, j) for i in range(len(blocks)) for j in range(i, len(blocks))]

    def tile(pair: tuple[int, int]) -> None:
        left, right = blocks[pair[0]], blocks[pair[1]]
        product = matrix[left] @ matrix[right].T
        if left == right:
            np.fill_diagonal(product, -np.inf)
        else:
            engine.offer(right, left, product.T)
        engine.offer(left, right, product)

    engine.run(tile, pairs, progress)
    return engine.result()


def _distinct(matrix: Matrix) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions (g,) of the first of each set of equal rows, ascending, and the set (n,) of each row.

    Equal rows have equal products with one random vector; only rows whose product is not theirs alone are compared.
    """
    count = len(matrix)
    products = np.vecdot(matrix, np.random.default_rng(0).standard_normal(matrix.shape[1], np.float32))
    order = np.argsort(products)
    same = products[order[1:]] == products[order[:-1]]
    first = np.arange(count)
    numbers: dict[bytes, int] = {}
    shared = np.union1d(order[1:][same], order[:-1][same])
    for position in shared.tolist():
        first[position] = numbers.setdefault(matrix[position].tobytes(), position)
    firsts = np.flatnonzero(first == np.arange(count))
    return firsts, np.searchsorted(firsts, first)


def _for_members(
    distinct: Neighbors, matrix: Matrix, first: NDArray[np.int64], group: NDArray[np.int64], k: int
) -> Neighbors:
    """Return the neighbours of every row from those between sets of equal rows.

    A set outside the k nearest is beaten by the first row of each of those k, so nothing is missed; of each set, its
    first k + 1 rows can matter.
    """
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(first)))
    sizes = np.minimum(np.bincount(group, minlength=len(first)), k + 1)
    sets = np.arange(len(first))
    rows = np.concatenate([distinct.rows, sets])
    others = np.concatenate([distinct.others, sets])
    scores = np.concatenate([distinct.scores, score_rows(matrix[first], matrix[first])])
    rows, scores = np.repeat(rows, sizes[others]), np.repeat(scores, sizes[others])
    members = order[np.concatenate([np.arange(starts[o], starts[o] + sizes[o]) for o in others])]
    rows, members, scores = best_of_each(rows, members, scores, k + 1)
    begin, length = np.searchsorted(rows, sets), np.bincount(rows, minlength=len(first))
    items = np.repeat(np.arange(len(group)), length[group])
    source = np.concatenate([np.arange(begin[g], begin[g] + length[g]) for g in group])
    others, scores = members[source], scores[source]
    real = others != items
    items, others, scores = items[real], others[real], scores[real]
    kept = _rank(items) < k
    return Neighbors(items[kept], others[kept], scores[kept])


def neighbors_of(matrix: Matrix, rows: NDArray[np.int64], k: int, progress: Progress | None = None) -> Neighbors:
    """Return the k nearest rows of the rows at the given sorted positions only."""
    engine = _Engine(matrix, k, rows)
    chosen = matrix[rows]
    pairs = [(left, right) for left in _blocks(len(rows)) for right in _blocks(len(matrix))]

    def tile(pair: tuple[slice, slice]) -> None:
        left, right = pair
        product = chosen[left] @ matrix[right].T
        itself = np.flatnonzero((rows[left] >= right.start) & (rows[left] < right.stop))
        product[itself, rows[left][itself] - right.start] = -np.inf
        engine.offer(left, right, product)

    engine.run(tile, pairs, progress)
    return engine.result()


def challengers(matrix: Matrix, changed: NDArray[np.int64], floor: NDArray[np.float64]) -> Neighbors:
    """Return every pair (row, changed row) whose score reaches the row's *floor* (n,), itself excluded."""
    error = score_error(matrix.shape[1])
    found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for block in _blocks(len(matrix)):
        for part in _blocks(len(changed), 8 * TILE_ROWS):
            product = matrix[block] @ matrix[changed[part]].T
            row, column = _reaching(product, (floor[block] - error).astype(np.float32))
            found.append((row + block.start, changed[part][column]))
    rows = np.concatenate([row for row, _ in found]) if found else np.zeros(0, np.int64)
    others = np.concatenate([other for _, other in found]) if found else np.zeros(0, np.int64)
    rows, others = rows[rows != others], others[rows != others]
    scores = np.concatenate(
        [score_rows(matrix[rows[p]], matrix[others[p]]) for p in _blocks(len(rows))] or [np.zeros(0)]
    )
    reached = scores >= floor[rows]
    return Neighbors(rows[reached], others[reached], scores[reached])


def _reaching(product: Matrix, floor: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where rows of a product, which may be transposed, reach their floors: `np.nonzero`, ten times as fast where that is rare."""
    if product.flags.c_contiguous:
        return np.divmod(np.flatnonzero(product >= floor[:, None]), product.shape[1])
    columns = product.T
    other, row = np.divmod(np.flatnonzero(columns >= floor), columns.shape[1])
    return row, other


def _blocks(count: int, size: int = TILE_ROWS) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


@dataclass
class _Pool:
    """Candidates of one block of rows: (row within the block, position of the other, product), and the lock of who adds some."""

    parts: list[Candidates] = field(default_factory=list)
    size: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Engine:
    """Collects candidates for the rows at *targets* and cuts them back to the k best of each."""

    def __init__(self, matrix: Matrix, k: int, targets: NDArray[np.int64]) -> None:
        self.matrix = matrix
        self.k = min(k, max(len(matrix) - 1, 0))
        self.targets = targets
        self.error = score_error(matrix.shape[1])
        self.floor = np.full(len(targets), -np.inf, np.float32)
        self.pools = [_Pool() for _ in _blocks(len(targets))]
        self.found: list[Found] = []

    def run(self, tile: Callable, work: Sequence, progress: Progress | None) -> None:  # type: ignore[type-arg]
        """Do all tiles on as many threads as there are cores, each with a single-threaded BLAS."""
        if self.k == 0:
            return
        threads = os.cpu_count() or 1
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            for done, _ in enumerate(pool.map(tile, work), 1):
                if progress:
                    progress(done, len(work))
            self.found = list(pool.map(self._finished, range(len(self.pools))))

    def offer(self, rows: slice, others: slice, product: Matrix) -> None:
        """Take from a tile what may be among the k best of its rows."""
        pool, floor = self.pools[rows.start // TILE_ROWS], self.floor[rows]
        if not pool.size and self.k < product.shape[1]:
            floor = np.partition(product, product.shape[1] - self.k, axis=1)[:, -self.k]
        row, other = _reaching(product, floor)
        if not len(row):
            return
        found = row.astype(np.uint16), (other + others.start).astype(np.int32), product[row, other]
        with pool.lock:
            pool.parts.append(found)
            pool.size += len(row)
            if pool.size > (POOL_PER_ROW + self.k) * TILE_ROWS:
                self._cut(rows.start, pool)

    def _cut(self, start: int, pool: _Pool) -> None:
        """Keep of each row of a block what may be among the k best by its product, and raise the floor.

        Where that leaves too many, as of rows that are almost alike, their real scores decide.
        """
        rows, others, products = (np.concatenate(column) for column in zip(*pool.parts, strict=True))
        order = np.argsort(rows, kind="stable")  # by counting, as these are small numbers
        rows, others, products = rows[order], others[order], products[order]
        floor = self.floor[start : start + TILE_ROWS]
        counts = np.bincount(rows, minlength=len(floor))
        full = counts >= self.k
        table = np.full((len(floor), counts.max()), -np.inf, np.float32)
        table[np.arange(table.shape[1]) < counts[:, None]] = products
        if full.any():
            table.partition(table.shape[1] - self.k, axis=1)
            floor[full] = table[full, -self.k] - np.float32(2 * self.error)
        kept = products >= floor[rows]
        rows, others, products = rows[kept], others[kept], products[kept]
        if len(rows) > (POOL_PER_ROW // 2 + self.k) * TILE_ROWS:
            items, found, scores = self._best(start + rows.astype(np.int64), others.astype(np.int64))
            rows, others, products = (
                (items - start).astype(np.uint16),
                found.astype(np.int32),
                scores.astype(np.float32),
            )
        pool.parts, pool.size = [(rows, others, products)], len(rows)

    def _finished(self, number: int) -> Found:
        """Return the k best of each row of a block."""
        pool, start = self.pools[number], number * TILE_ROWS
        if not pool.size:
            return NOTHING
        self._cut(start, pool)
        rows, others, _ = pool.parts[0]
        return self._best(start + rows.astype(np.int64), others.astype(np.int64))

    def _best(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> Found:
        """Return the k best of each row by their real scores, sorted by row, score descending and position."""
        scores = np.empty(len(rows))
        for part in _blocks(len(rows), SCORED_AT_ONCE):
            scores[part] = score_rows(self.matrix[self.targets[rows[part]]], self.matrix[others[part]])
        return best_of_each(rows, others, scores, self.k)

    def result(self) -> Neighbors:
        """Return the k best of every target."""
        rows, others, scores = (np.concatenate(column) for column in zip(*self.found, NOTHING, strict=True))
        return Neighbors(self.targets[rows], others, scores)


NOTHING: Found = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def best_of_each(
    rows: NDArray[Positions], others: NDArray[Positions], scores: NDArray[np.float64], k: int
) -> tuple[NDArray[Positions], NDArray[Positions], NDArray[np.float64]]:
    """Return the k entries of each row with the highest scores, sorted by row, score descending, then position."""
    order = np.lexsort((others, -scores, rows))
    rows, others, scores = rows[order], others[order], scores[order]
    kept = _rank(rows) < k
    return rows[kept], others[kept], scores[kept]


def _rank(rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the place of each entry within its run of equal values.

    >>> _rank(np.array([4, 4, 4, 7, 7]))
    array([0, 1, 2, 0, 1])
    """
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    lengths = np.diff(np.append(starts, len(rows)))
    return np.arange(len(rows)) - np.repeat(starts, lengths)


def positions_of(ids: Sequence[str], wanted: Iterable[str]) -> NDArray[np.int64]:
    """Return the sorted positions in *ids* of those of *wanted* that are there."""
    place = {item: position for position, item in enumerate(ids)}
    return np.array(sorted(place[item] for item in wanted if item in place), dtype=np.int64)
