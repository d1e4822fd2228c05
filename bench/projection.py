"""The map by principal components beside the one matrix product that it needs, scikit-learn's PCA and faiss's.

Real embeddings (bench/real.py), all in memory, two components. The product is rows^T rows, which numpy computes as the symmetric one that it is. A map
also gives every row its coordinates, as scikit-learn's `fit_transform` does; faiss is timed with its `apply`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from bench import common, real
from datasette_embeddings.projection import draw

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIZES, QUICK_SIZES = (20_000, 200_000), (20_000,)
ROUNDS = 7
MOST = 1.5
"""Times the product: the goal."""

PRODUCT, OURS = "rows^T rows", "components and coordinates (base)"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    table = common.Table(("what", "rows", "ms of processor", "of the product", "variance shown"))
    for count in QUICK_SIZES if common.quick(__doc__, argv) else SIZES:
        measure(count, table)
    print(table)


def measure(count: int, table: common.Table) -> None:
    """Add one size to *table*."""
    rows, _ = real.vectors(count)
    ways = {PRODUCT: lambda: rows.T @ rows, OURS: lambda: draw(rows), **peers(rows, table)}
    seconds = common.interleave(ways, ROUNDS, time.process_time)
    for name, way in ways.items():
        shown = "" if name == PRODUCT else f"{share(np.asarray(way()), rows):.2%}"
        of_product = f"{seconds[name] / seconds[PRODUCT]:.2f}x"
        table.rows.append((name, f"{count:,}", common.number(seconds[name] * 1e3), of_product, shown))
    ratio = seconds[OURS] / seconds[PRODUCT]
    table.goal(f"{count:,} x {rows.shape[1]}, base", ratio, MOST, "times the one matrix product")


def share(points: common.Matrix, rows: common.Matrix) -> float:
    """Return the share of the variance of rows that their coordinates have."""
    return float(points.var(axis=0).sum() / rows.var(axis=0, dtype=np.float64).sum())


def peers(rows: common.Matrix, table: common.Table) -> dict[str, Callable[[], object]]:
    """Return what others do; who cannot be had is named."""
    found: dict[str, Callable[[], object]] = {}
    if sklearn := common.peer("sklearn.decomposition", table):
        found["scikit-learn PCA"] = lambda: sklearn.PCA(2, random_state=0).fit_transform(rows)
    if faiss := common.peer("faiss", table):

        def reduced() -> object:
            matrix = faiss.PCAMatrix(rows.shape[1], 2)
            matrix.train(rows)
            return matrix.apply(rows)

        found["faiss PCAMatrix"] = reduced
    return found


if __name__ == "__main__":
    main()
