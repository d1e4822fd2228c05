"""The principal components of vectors: the directions that say most about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasette_embeddings.vectors import Vector

SAMPLE_ROWS = 20_000
"""Rows that components are taken from: more change them little."""


def leading(rows: Vector, share: float, step: int) -> Vector:
    """Return orthonormal components (m, d) float32 that hold *share* of the squares of rows (n, d), those first that hold most.

    m is a multiple of *step*, or d. The mean is not taken away, as these are to hold products of rows. The same rows give the same
    components.
    """
    sample = rows[:: max(1, len(rows) // SAMPLE_ROWS)][:SAMPLE_ROWS]
    values, vectors = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    held = np.cumsum(values[::-1]) / max(values.sum(), np.finfo(np.float64).tiny)
    enough = int(np.searchsorted(held, share)) + 1
    size = min(step * -(-enough // step), rows.shape[1])
    return np.ascontiguousarray(vectors[:, ::-1].T[:size], dtype=np.float32)


ROWS_AT_ONCE = 32_768
"""Rows whose products are summed in float32, before they are added to those of others in float64."""


def principal(rows: Vector, count: int) -> tuple[Vector, Vector, Vector]:
    """Return the mean (d,), the first *count* principal components (count, d) and the shares of the variance along them, all float32.

    Of rows (n, d), n > 0. Components beyond d are zero, and so are shares where all rows are equal. A component's sign is that of its eigenvector.
    The covariance is the rows' products less those of the mean: one symmetric matrix product, whose size decides the time.
    """
    size = rows.shape[1]
    products, mean = np.zeros((size, size)), np.zeros(size)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        products += part.T @ part
        mean += np.ones(len(part), part.dtype) @ part  # as a product, twice as quick as a sum in float64
    mean /= len(rows)
    covariance = products / len(rows) - np.outer(mean, mean)
    total = max(float(covariance.trace()), 0.0)
    components, shares = np.zeros((count, size), np.float32), np.zeros(count, np.float32)
    found = min(count, size)
    if total > size * np.finfo(np.float32).eps:
        values, vectors = _largest(covariance, found)
        components[:found] = vectors.T
        shares[:found] = np.maximum(values, 0.0) / total
    return mean.astype(np.float32), components, shares


WATCHED = 14
"""Directions that are followed to find the first few: the more, the sooner these stand apart from all others."""

PRODUCTS, ROUNDS = 6, 16
"""Products with the matrix of one round, and rounds: real embeddings need four. Where the largest eigenvalues hardly differ from the
others, all of them are computed."""

PRECISION = 1e-10
"""What is left over of C v - value v at most, as a share of the largest eigenvalue."""


def _largest(matrix: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the *count* largest eigenvalues of a covariance matrix (d, d), the largest first, and their vectors (d, count).

    By orthogonal iteration with Rayleigh and Ritz (Golub and Van Loan, Matrix Computations, 8.2.4 and 8.1.4): less than half the time
    of all eigenvalues at 384 dimensions, and a smaller share with more.
    """
    directions = np.random.default_rng(0).standard_normal((len(matrix), min(len(matrix), WATCHED + count)))
    for _ in range(ROUNDS):
        for _ in range(PRODUCTS):
            directions = matrix @ directions
        directions = np.linalg.qr(directions)[0]
        images = matrix @ directions
        values, turn = np.linalg.eigh(directions.T @ images)
        values, turn = values[: -count - 1 : -1], turn[:, : -count - 1 : -1]
        vectors = directions @ turn
        if np.linalg.norm(images @ turn - vectors * values) < PRECISION * values[0]:
            return values, vectors
    values, vectors = np.linalg.eigh(matrix)
    return values[: -count - 1 : -1], vectors[:, : -count - 1 : -1]
