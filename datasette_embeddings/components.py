"""The principal components of vectors: the directions that say most about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
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
