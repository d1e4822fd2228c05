"""The k nearest items of every item: exact, in tiles of one symmetric matrix product, on every core.

A fast pass (a float32 matrix product, or one of half the size that bounds it from above) only chooses candidates, within its proven
error of the k-th score; every score that is kept comes from `vectors.score_rows`. So a pair's score depends on that pair alone, and an
incremental update gives the same table, bit for bit, as one from scratch.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from datasette_embeddings.bounds import bounds_of
from datasette_embeddings.limits import TILE_ROWS
from datasette_embeddings.vectors import score_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.checkpoints import Checkpoint
    from datasette_embeddings.vectors import Vector

    Positions = TypeVar("Positions", bound=np.integer)
    Progress = Callable[[int, int], None]
    Candidates = tuple[NDArray[np.uint16], NDArray[np.int32], NDArray[np.float32]]
    Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

LIKE_ROWS = 128
"""Rows of a group of alike ones, on average."""

ORDERED_ROWS = 4_096
"""Rows from which on it pays to put alike ones beside each other first."""

BOUNDED_PAIRS = 50_000**2
"""Pairs whose bounds cost less than their products: of fewer, too many are left until the k-th best of each row is about known."""

SCORED_AT_ONCE = 4_096
"""Pairs whose scores are computed at once: 12 MB at 384 dimensions."""

TILES_AT_ONCE = 256
"""Tiles between two looks at the clock, half a second or so, at whose end threads wait for each other."""

POOL_PER_ROW = 16
"""Candidates a row may collect on average, beside the k best, before its block is cut back to these; 10 bytes each."""


@dataclass(frozen=True)
class Neighbors:
    """The nearest items of some rows, flat and sorted by row, then score descending, then position.

    *rows* (m,) int64 and *others* (m,) int64 are positions in the matrix, *scores* (m,) float64.
    """

    rows: NDArray[np.int64]
    others: NDArray[np.int64]
    scores: NDArray[np.float64]

    def where(self, kept: NDArray[np.bool_]) -> Neighbors:
        """Return some of the pairs."""
        return Neighbors(self.rows[kept], self.others[kept], self.scores[kept])

    @property
    def columns(self) -> Found:
        """Rows, others and scores."""
        return self.rows, self.others, self.scores


def score_error(dimensions: int) -> float:
    """Return how far a float32 matrix product of unit rows and the rounded score of the pair can lie apart.

    Each of the two sums differs from the true one by at most d * 2^-24 (Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd ed., eq. 3.5, for any order of summation); the rest covers norms and the rounding to 6 decimals.
    """
    return 2.2 * dimensions * 2.0**-24 + 1e-6


def all_neighbors(
    matrix: Vector, k: int, progress: Progress | None = None, checkpoint: Checkpoint | None = None
) -> Neighbors:
    """Return the k nearest rows of every row of unit rows (n, d), itself excluded; ties go to the lower position.

    Equal rows are computed once, so that a table of one text repeated costs no more than one of distinct texts. With a *checkpoint*, it
    goes on where an earlier call with the same rows and k was ended.
    """
    first, group = distinct(matrix)
    if len(first) == len(matrix):
        return _all_distinct(matrix, k, progress, checkpoint)
    return _for_members(_all_distinct(matrix[first], k, progress, checkpoint), matrix, first, group, k)


def _all_distinct(matrix: Vector, k: int, progress: Progress | None, checkpoint: Checkpoint | None = None) -> Neighbors:
    order = _by_likeness(matrix) if len(matrix) >= ORDERED_ROWS else np.arange(len(matrix))
    engine = _Engine(matrix, k, order, order)

    def tile(pair: tuple[slice, slice]) -> None:
        left, right = pair
        found = engine.left_by_bounds(left, right, engine.floor[right])
        if found:
            row, other, products = found
            engine.add(left, row, order[right][other], products)
            if left != right:
                engine.add(right, other, order[left][row], products)
            return
        product = engine.chosen[left] @ engine.chosen[right].T
        if left == right:
            np.fill_diagonal(product, -np.inf)
        else:
            engine.offer(right, left, product.T)
        engine.offer(left, right, product)

    engine.run(tile, _likest_first(engine.chosen), progress, checkpoint)
    return engine.result()


def _by_likeness(matrix: Vector) -> NDArray[np.int64]:
    """Return the positions of unit rows, those that are like the same of some chosen at random beside each other.

    A row's nearest are then in a few tiles; once these are done, bounds leave little of all others.
    """
    chosen = matrix[np.random.default_rng(0).choice(len(matrix), len(matrix) // LIKE_ROWS, replace=False)].T
    likest = [(matrix[part] @ chosen).argmax(axis=1) for part in _blocks(len(matrix))]
    return np.argsort(np.concatenate(likest), kind="stable")


def _likest_first(matrix: Vector) -> list[tuple[slice, slice]]:
    """Return the tiles of the upper triangle, those of blocks whose means are alike first."""
    blocks = _blocks(len(matrix))
    means = np.array([matrix[block].mean(axis=0) for block in blocks]).reshape(len(blocks), matrix.shape[1])
    left, right = np.triu_indices(len(blocks))
    order = np.argsort(-np.vecdot(means[left], means[right]) - 4.0 * (left == right), kind="stable")
    return [(blocks[i], blocks[j]) for i, j in zip(left[order].tolist(), right[order].tolist(), strict=True)]


def distinct(matrix: Vector) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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
    distinct: Neighbors, matrix: Vector, first: NDArray[np.int64], group: NDArray[np.int64], k: int
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
    kept = rank(items) < k
    return Neighbors(items[kept], others[kept], scores[kept])


def neighbors_of(
    matrix: Vector,
    rows: NDArray[np.int64],
    k: int,
    progress: Progress | None = None,
    lasts: tuple[NDArray[np.float64], NDArray[np.int64]] | None = None,
) -> tuple[Neighbors, Neighbors]:
    """Return the k nearest rows of the rows at the given sorted positions only, and which of these enter the lists of others.

    *lasts*: score and position (n,) of the last entry of every row's list so far. The second are the pairs (row, one of *rows*) that rank
    before the row's last, the k best of each row among them for certain, sorted like the first; none without *lasts*.
    """
    engine = _Engine(matrix, k, rows, np.arange(len(matrix)))
    floors, last = (np.full(len(matrix), np.inf), np.zeros(len(matrix), np.int64)) if lasts is None else lasts
    low = (floors - engine.error).astype(np.float32)
    entrants: list[Found] = [NOTHING]

    def tile(pair: tuple[slice, slice]) -> None:
        left, right = pair
        found = engine.left_by_bounds(left, right, low[right])
        if found:
            places, items, products = found
            engine.add(left, places, items + right.start, products)
            reaching = products >= low[right][items]
            items, places = items[reaching], places[reaching]
        else:
            product = engine.chosen[left] @ matrix[right].T
            itself = np.flatnonzero((rows[left] >= right.start) & (rows[left] < right.stop))
            product[itself, rows[left][itself] - right.start] = -np.inf
            engine.offer(left, right, product)
            items, places = _reaching(product.T, low[right])
        items, others = items + right.start, rows[left][places]
        scores = engine.scores(items, others)
        before = (scores > floors[items]) | ((scores == floors[items]) & (others < last[items]))
        entrants.append(best_of_each(items[before], others[before], scores[before], engine.k))

    engine.run(tile, [(left, right) for right in _blocks(len(matrix)) for left in _blocks(len(rows))], progress)
    items, others, scores = (np.concatenate(column) for column in zip(*entrants, strict=True))
    return engine.result(), Neighbors(*best_of_each(items, others, scores, k))


def _reaching(product: Vector, floor: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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

    def __init__(self, matrix: Vector, k: int, targets: NDArray[np.int64], against: NDArray[np.int64]) -> None:
        self.matrix = matrix
        self.k = min(k, max(len(matrix) - 1, 0))
        self.targets = targets
        self.against = against
        self.chosen = matrix[targets]
        self.error = score_error(matrix.shape[1])
        self.floor = np.full(len(targets), -np.inf, np.float32)
        self.pools = [_Pool() for _ in _blocks(len(targets))]
        self.found: list[Found] = []
        worth = self.k > 0 and len(targets) * len(against) >= BOUNDED_PAIRS
        self.bounds = bounds_of(self.chosen, None if against is targets else matrix) if worth else None

    def run(
        self,
        tile: Callable[[tuple[slice, slice]], None],
        work: Sequence[tuple[slice, slice]],
        progress: Progress | None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Do all tiles on as many threads as there are cores, each with a single-threaded BLAS."""
        if self.k == 0:
            return
        done = self._resume(checkpoint, len(work)) if checkpoint else 0
        for number in range(done if progress else 0):
            progress(number + 1, len(work))  # type: ignore[misc]
        threads = os.cpu_count() or 1
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            for batch in _blocks(len(work) - done, TILES_AT_ONCE):
                for number, _ in enumerate(pool.map(tile, work[done:][batch]), done + batch.start + 1):
                    if progress:
                        progress(number, len(work))
                if checkpoint:
                    checkpoint.save(lambda stop=done + batch.stop: self._progress(stop))  # type: ignore[misc]
            self.found = list(pool.map(self._finished, range(len(self.pools))))

    def _progress(self, done: int) -> dict[str, NDArray[Any]]:
        """Return what is known once so many tiles are done."""
        parts = [part for pool in self.pools for part in pool.parts] or [NO_CANDIDATES]
        rows, others, products = (np.concatenate(column) for column in zip(*parts, strict=True))
        sizes = np.array([pool.size for pool in self.pools])
        return {
            "done": np.array(done), "floor": self.floor, "sizes": sizes, "rows": rows, "others": others, "products": products,
        }  # fmt: skip

    def _resume(self, checkpoint: Checkpoint, tiles: int) -> int:
        """Take up what an earlier run knew, and return how many tiles it had done."""
        known = checkpoint.load("1", self.matrix, self.k, TILE_ROWS, tiles)
        if known is None:
            return 0
        self.floor[:] = known["floor"]
        ends = np.cumsum(known["sizes"])
        for pool, size, end in zip(self.pools, known["sizes"].tolist(), ends.tolist(), strict=True):
            part = slice(end - size, end)
            pool.parts = [(known["rows"][part], known["others"][part], known["products"][part])] if size else []
            pool.size = size
        done = int(known["done"])
        checkpoint.resumed = done / tiles
        return done

    def offer(self, rows: slice, others: slice, product: Vector) -> None:
        """Take from a tile what may be among the k best of its rows."""
        first = not self.pools[rows.start // TILE_ROWS].size
        if first and self.k < product.shape[1]:
            kth = np.partition(product, product.shape[1] - self.k, axis=1)[:, -self.k]
            self.floor[rows] = np.maximum(self.floor[rows], kth - np.float32(2 * self.error))
        row, other = _reaching(product, self.floor[rows])
        self.add(rows, row, self.against[others][other], product[row, other])

    def left_by_bounds(
        self, left: slice, right: slice, floors: Vector
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Vector] | None:
        """Return what a tile's bounds leave: places in *left* (p,) and *right* (p,) and products; None where the product of all costs less.

        Left are those that may reach the floor of a target, or of a row of *right* as given by *floors*; no row with itself.
        """
        bounds = self.bounds
        if bounds is None or np.isneginf(self.floor[left]).any() or not bounds.useful():
            return None
        product = bounds.of(left, right)
        reached = product >= (self.floor[left] - bounds.slack)[:, None]
        reached |= product >= floors - bounds.slack
        places = np.flatnonzero(reached)
        if not bounds.learn(len(places), product.size):
            return None
        row, other = np.divmod(places, product.shape[1])
        others = self.against[right]
        real = self.targets[left][row] != others[other]
        row, other = row[real], other[real]
        return row, other, np.vecdot(self.chosen[left][row], self.matrix[others[other]])

    def add(self, rows: slice, row: NDArray[np.int64], others: NDArray[np.int64], products: Vector) -> None:
        """Take what may be among the k best of some targets: places among *rows*, positions of others and products."""
        kept = np.flatnonzero(products >= self.floor[rows][row])
        if not len(kept):
            return
        pool = self.pools[rows.start // TILE_ROWS]
        with pool.lock:
            pool.parts.append((row[kept].astype(np.uint16), others[kept].astype(np.int32), products[kept]))
            pool.size += len(kept)
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
        return best_of_each(rows, others, self.scores(self.targets[rows], others), self.k)

    def scores(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the scores of pairs of rows."""
        scores = np.empty(len(rows))
        for part in _blocks(len(rows), SCORED_AT_ONCE):
            scores[part] = score_rows(self.matrix[rows[part]], self.matrix[others[part]])
        return scores

    def result(self) -> Neighbors:
        """Return the k best of every target."""
        rows, others, scores = (np.concatenate(column) for column in zip(*self.found, NOTHING, strict=True))
        by_position = np.argsort(self.targets)
        each = (column.reshape(len(by_position), self.k)[by_position].reshape(-1) for column in (rows, others, scores))
        rows, others, scores = each
        return Neighbors(self.targets[rows], others, scores)


NO_CANDIDATES: Candidates = (np.zeros(0, np.uint16), np.zeros(0, np.int32), np.zeros(0, np.float32))

NOTHING: Found = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def best_of_each(
    rows: NDArray[Positions], others: NDArray[Positions], scores: NDArray[np.float64], k: int
) -> tuple[NDArray[Positions], NDArray[Positions], NDArray[np.float64]]:
    """Return the k entries of each row with the highest scores, sorted by row, score descending, then position."""
    order = np.lexsort((others, -scores, rows))
    rows, others, scores = rows[order], others[order], scores[order]
    kept = rank(rows) < k
    return rows[kept], others[kept], scores[kept]


def rank(rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the place of each entry within its run of equal values.

    >>> rank(np.array([4, 4, 4, 7, 7]))
    array([0, 1, 2, 0, 1])
    """
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    lengths = np.diff(np.append(starts, len(rows)))
    return np.arange(len(rows)) - np.repeat(starts, lengths)
