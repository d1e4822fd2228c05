"""Vectors like the real embeddings, where more are wanted than there are, or of other dimensions: `python -m bench.spectrum` shows how like.

The first rows of 384 dimensions are the real ones. Every other is a real one moved at random, m + sqrt(1 - b^2) (r - m) + b n, with n of the
covariance of the real and m their mean, which keeps mean and spectrum. b is drawn between 0 and MOVED. Half of the vectors to search with are
among those that are moved too, so that the best of a million is closer than that of 200,000, as it is with real ones. In more
dimensions a row is several of them, of the same r, one after the other.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench import common, real

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.common import Matrix

DIMENSIONS = 384
MOVED = 0.6
"""Chosen so that the best and the tenth best of a million go on with what they do from 12,500 to 200,000 real ones, as `main` shows."""

APART = 0.3
"""How far the parts of a row of more dimensions are moved, each by itself: its trailing three quarters hold 7 percent of the variance."""

AT_ONCE = 20_000


class Kind(NamedTuple):
    """What real embeddings are like: their mean (d,), and a root (d, d) of their covariance."""

    mean: Matrix
    root: Matrix


@cache
def kind() -> Kind:
    """Return the kind of the real embeddings."""
    rows, _ = real.vectors(real.MOST)
    mean = rows.mean(axis=0)
    values, directions = np.linalg.eigh(covariance(rows))
    return Kind(mean, (np.sqrt(np.maximum(values, 0))[:, None] * directions.T).astype(np.float32))


def covariance(rows: Matrix) -> Matrix:
    """Return the covariance (d, d) of rows, of a sample where there are many."""
    sample = rows[:: max(1, len(rows) // real.MOST)]
    centred = sample - sample.mean(axis=0)
    return centred.T @ centred / len(sample)


def like(count: int, dimensions: int = DIMENSIONS, held_out: int = 0) -> tuple[Matrix, Matrix]:
    """Return unit vectors (count, dimensions) like the real ones, and *held_out* more of the same kind to search with."""
    if dimensions % DIMENSIONS:
        raise SystemExit(f"{dimensions} dimensions are not a multiple of {DIMENSIONS}")
    parts = dimensions // DIMENSIONS
    rows, queries = real.vectors(real.MOST, held_out)
    random = np.random.default_rng(common.SEED)
    drawn = random.integers(0, len(rows) + held_out // 2, max(0, count - len(rows)))
    made = np.empty((count, dimensions), np.float32)
    for start in range(0, count, AT_ONCE):
        places = np.arange(start, min(count, start + AT_ONCE))
        known = places < len(rows)
        bases = np.empty((len(places), DIMENSIONS), np.float32)
        bases[known] = rows[places[known]]
        bases[~known] = _taken(rows, queries, drawn[places[~known] - len(rows)])
        if not known.all():
            far = random.uniform(0, MOVED, (len(places), 1)).astype(np.float32)
            far[known] = 0
            bases = moved(bases, far, random)
        made[places] = bases if parts == 1 else in_parts(bases, parts, random)
    return made, queries if parts == 1 else in_parts(queries, parts, random)


def _taken(rows: Matrix, queries: Matrix, places: Matrix) -> Matrix:
    """Return rows by their places, those beyond the last from the queries."""
    beyond = places >= len(rows)
    taken = rows[np.where(beyond, 0, places)]
    taken[beyond] = queries[places[beyond] - len(rows)]
    return taken


def moved(rows: Matrix, far: Matrix | float, random: np.random.Generator) -> Matrix:
    """Return unit rows moved at random, 0 not at all and 1 to anywhere."""
    mean, root = kind()
    noise = random.standard_normal(rows.shape, np.float32) @ root
    there = mean + np.sqrt(1 - np.square(far)) * (rows - mean) + far * noise
    return there / np.linalg.norm(there, axis=1, keepdims=True)


def in_parts(rows: Matrix, parts: int, random: np.random.Generator) -> Matrix:
    """Return unit rows of so many times the dimensions."""
    return np.concatenate([moved(rows, np.float32(APART), random) for _ in range(parts)], axis=1) / np.float32(
        parts**0.5
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print spectrum, mean and neighbours of the real embeddings and of those like them."""
    quick = common.quick(__doc__, argv)
    table = common.Table(
        ("vectors", "length of the mean", "components for 50, 75, 90, 95, 99 percent", "best: mean, median", "tenth")
    )
    for count in (25_000, 50_000, 100_000, 200_000):
        describe(f"real, {count:,} x 384", *real.vectors(count, 200), table)
    for count, dimensions in ((20_000, 1_536),) if quick else ((20_000, 1_536), (200_000, 1_536), (1_000_000, 384)):
        describe(f"like them, {count:,} x {dimensions:,}", *like(count, dimensions, 200), table)
    for count in (20_000, 200_000):
        describe(f"clustered, {count:,} x 384", *common.vectors(count, held_out=200), table)
    print(table)


def describe(name: str, rows: Matrix, queries: Matrix, table: common.Table) -> None:
    """Add a row about some vectors."""
    values = np.maximum(np.linalg.eigvalsh(covariance(rows))[::-1], 0)
    held = np.cumsum(values) / values.sum()
    sizes = ", ".join(str(int(np.searchsorted(held, share)) + 1) for share in (0.5, 0.75, 0.9, 0.95, 0.99))
    best = np.full((len(queries), 10), -1, np.float32)
    for start in range(0, len(rows), AT_ONCE):
        found = np.concatenate([best, queries @ rows[start : start + AT_ONCE].T], axis=1)
        best = np.sort(np.partition(found, found.shape[1] - 10, axis=1)[:, -10:], axis=1)
    close = [f"{column.mean():.3f}, {np.median(column):.3f}" for column in (best[:, -1], best[:, 0])]
    table.rows.append((name, f"{np.linalg.norm(rows.mean(axis=0)):.3f}", sizes, *close))


if __name__ == "__main__":
    main()
