"""k-means of unit vectors by cosine similarity, in numpy: every row is in the cluster whose centroid is nearest to it.

That is Lloyd's algorithm with centroids of length 1, known as spherical k-means (Dhillon and Modha, Concept Decompositions for Large Sparse Text Data,
Machine Learning 42, 2001). It begins from greedy k-means++ (Arthur and Vassilvitskii, 2007) on a sample of the rows in which each was moved among its
nearest, which finds groups that labels by people agree with more (bench/clusters.py), and ends with rounds over all rows themselves.

Products of fixed blocks go to threads and sums are taken cluster by cluster, so that the result does not depend on the number of threads; those of
scikit-learn and faiss do.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from datasette_embeddings.neighbors import all_neighbors, distinct, score_error
from datasette_embeddings.vectors import score_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from datasette_embeddings.vectors import Vector

    Places = NDArray[np.int64]
    Scores = NDArray[np.float64]

BLOCK_ROWS = 2_048
"""Rows compared with all centroids at once: 4 MB of products with 500."""

SAMPLE_PER_CLUSTER = 64
"""Rows of the sample for each cluster: twice as many gave clusters that are no tighter by 0.5 percent."""

SAMPLE_ROWS = 5_000
"""Rows of the sample at least, so that smaller collections are looked at whole."""

SEED_ROWS_PER_CLUSTER = 16
"""Rows of the sample, for each cluster, that the first centroids are chosen among."""

SEED_ROWS = 2_000

SMOOTHED_BY, SMOOTHED_TIMES = 5, 2
"""Each row of the sample is moved to the mean of itself and so many nearest, so many times."""

SAMPLE_ROUNDS, ROUNDS = 100, 50
"""Rounds over the sample and over all rows at most; they settle before."""

SETTLED = 1e-4
"""Rounds end once one brings rows nearer to their centroids by less than this share."""

NO_DIRECTION = 1e-6
"""A shorter sum of unit vectors is what rounding leaves of vectors that cancel out."""


class Clustering(NamedTuple):
    """The cluster of each row (n,), from 0, and its score (n,) to that one's centroid; the centroids, unit rows (c, d). None is empty."""

    labels: Places
    scores: Scores
    centroids: Vector


def cluster(rows: Vector, k: int, seed: int = 0) -> Clustering:
    """Return *k* clusters of unit rows (n, d), or one for each different row where there are no more."""
    first, group = distinct(rows)
    if len(first) <= k:
        return Clustering(group, score_rows(rows, rows[first][group]), rows[first])
    random = np.random.default_rng(seed)
    with _threads() as pool:
        sample = _some(rows, max(SAMPLE_PER_CLUSTER * k, SAMPLE_ROWS), random)
        smooth = _smoothed(sample)
        begun = _seeds(_some(smooth, max(SEED_ROWS_PER_CLUSTER * k, SEED_ROWS), random), k, random)
        labels, _ = _settled(smooth, begun, SAMPLE_ROUNDS, pool)
        labels, centroids = _settled(rows, _means(sample, labels, begun), ROUNDS, pool)
        return _final(rows, centroids, pool)


def go_on(rows: Vector, centroids: Vector) -> Clustering:
    """Return the clusters of unit rows (n, d) that centroids (c, d) of earlier ones lead to; fewer where none is nearest to one."""
    with _threads() as pool:
        _, settled = _settled(rows, centroids, ROUNDS, pool, refill=False)
        return _final(rows, settled, pool)


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """Give a thread a core, each with a matrix product of its own."""
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield pool


def _some(rows: Vector, number: int, random: np.random.Generator) -> Vector:
    """Return so many rows, in their order, or all where there are no more."""
    return rows if len(rows) <= number else rows[np.sort(random.choice(len(rows), number, replace=False))]


def _smoothed(rows: Vector) -> Vector:
    """Return unit rows, each moved to the direction of the mean of itself and its nearest."""
    others = all_neighbors(rows, SMOOTHED_BY).others.reshape(len(rows), -1)
    for _ in range(SMOOTHED_TIMES):
        sums = rows.copy()
        for column in others.T:
            sums += rows[column]
        rows = _directions(sums, rows)
    return rows


def _directions(sums: Vector, otherwise: Vector) -> Vector:
    """Return sums as unit rows, and what is *otherwise* where one has no direction."""
    norms = np.sqrt(np.vecdot(sums, sums))[:, None]
    return np.where(norms > NO_DIRECTION, sums / np.maximum(norms, NO_DIRECTION), otherwise).astype(np.float32)


def _seeds(rows: Vector, k: int, random: np.random.Generator) -> Vector:
    """Return the first centroids, *k* rows or fewer: the next is each time the best of some drawn by how far they are from those before."""
    trials = 2 + int(math.log(k))
    chosen = [int(random.integers(len(rows)))]
    apart = _apart(rows, rows[chosen])[0]
    while len(chosen) < k and apart.any():
        sums = np.cumsum(apart, dtype=np.float64)
        drawn = np.searchsorted(sums, random.random(trials) * sums[-1], side="right")
        drawn = np.minimum(drawn, np.flatnonzero(apart)[-1])
        left = np.minimum(apart, _apart(rows, rows[drawn]))
        best = int(left.sum(axis=1, dtype=np.float64).argmin())
        apart = left[best]
        chosen.append(int(drawn[best]))
    return rows[chosen]


def _apart(rows: Vector, others: Vector) -> Vector:
    """Return how far each of *others* (m, d) is from each row (n, d), half the squared distance (m, n); 0 for what rounding leaves."""
    apart = 1 - others @ rows.T
    apart[apart < score_error(rows.shape[1])] = 0
    return apart


def _settled(
    rows: Vector, centroids: Vector, rounds: int, pool: ThreadPoolExecutor, *, refill: bool = True
) -> tuple[Places, Vector]:
    """Return the clusters of rows and their centroids once they move no more. *refill*: one that lost its rows begins anew at the loneliest."""
    before = math.inf
    labels = np.zeros(len(rows), np.int64)
    for _ in range(rounds):
        labels, scores = _nearest(rows, centroids, pool)
        centroids = _means(rows, labels, centroids)
        if refill:
            empty = np.flatnonzero(np.bincount(labels, minlength=len(centroids)) == 0)
            centroids[empty] = rows[np.argsort(scores, kind="stable")[: len(empty)]]
        apart = float((1 - scores).sum(dtype=np.float64))
        if before - apart <= SETTLED * apart:
            break
        before = apart
    return labels, centroids


def _nearest(rows: Vector, centroids: Vector, pool: ThreadPoolExecutor) -> tuple[Places, Vector]:
    """Return the nearest centroid of each row, and about its score."""
    labels, scores = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    across = np.ascontiguousarray(centroids.T)

    def block(part: slice) -> None:
        products = rows[part] @ across
        labels[part] = found = products.argmax(axis=1)
        scores[part] = products[np.arange(len(found)), found]

    list(pool.map(block, _blocks(len(rows))))
    return labels, scores


def _blocks(count: int) -> list[slice]:
    return [slice(start, start + BLOCK_ROWS) for start in range(0, count, BLOCK_ROWS)]


def _means(rows: Vector, labels: Places, before: Vector) -> Vector:
    """Return the direction of the mean of each cluster's rows; the one *before* where it has none."""
    return _directions(_sums(rows, labels, len(before))[0], before)


def _sums(rows: Vector, labels: Places, k: int) -> tuple[Vector, Places]:
    """Return the sum (k, d) of each cluster's rows, in their order, and how many they are (k,)."""
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(k + 1))
    sums = np.zeros((k, rows.shape[1]), np.float32)
    for number in range(k):
        sums[number] = rows.take(order[ends[number] : ends[number + 1]], axis=0).sum(axis=0)
    return sums, np.diff(ends)


def _final(rows: Vector, centroids: Vector, pool: ThreadPoolExecutor) -> Clustering:
    """Return the clusters of centroids by exact scores, those without rows left out; of equal scores the first wins."""
    centroids = centroids[distinct(centroids)[0]]
    labels = np.empty(len(rows), np.int64)
    error = 2 * score_error(rows.shape[1])
    across = np.ascontiguousarray(centroids.T)

    def block(part: slice) -> None:
        products = rows[part] @ across
        near = products >= products.max(axis=1, keepdims=True) - error
        labels[part] = found = near.argmax(axis=1)
        for row in np.flatnonzero(near.sum(axis=1) > 1):
            several = np.flatnonzero(near[row])
            found[row] = several[score_rows(centroids[several], rows[part][row]).argmax()]
        labels[part] = found

    list(pool.map(block, _blocks(len(rows))))
    used, labels = np.unique(labels, return_inverse=True)
    centroids = centroids[used]
    scores = np.concatenate(
        [score_rows(rows[part], centroids[labels[part]]) for part in _blocks(len(rows))] or [np.empty(0)]
    )
    return Clustering(labels.reshape(-1), scores, centroids)
