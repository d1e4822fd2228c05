"""Clusters beside scikit-learn's KMeans as it comes, faiss's, and the MiniBatchKMeans of `llm cluster`: time, inertia, and how well they fit labels.

Time and inertia of real embeddings (bench/real.py), by the clock, on all cores: what a build takes for k-means, without names. Inertia is the sum of the
squared distances to the mean of a row's cluster. How well clusters fit labels is the adjusted mutual information (Vinh, Epps and Bailey, JMLR 11, 2010) with those that the
rows of the demonstration have, which `make demo-build` must have made; as many clusters as labels, 20 seeds, as mean and range.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from bench import common, real
from datasette_embeddings.kmeans import cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.common import Matrix

SIZES, QUICK_SIZES = ((20_000, 100), (200_000, 450)), ((20_000, 100),)
ROUNDS = 3
SEEDS, QUICK_SEEDS = 20, 5
LABELS = (("articles", "topic"), ("articles", "project"), ("sentences", "kind"), ("functions", "file"))

OURS, SKLEARN, FAISS, LLM = "ours", "scikit-learn KMeans", "faiss Kmeans", "MiniBatchKMeans, as `llm cluster`"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    is_quick = common.quick(__doc__, argv)
    table = common.Table(("what", "rows x clusters", "s", "of scikit-learn's time", "inertia of scikit-learn's"))
    for count, number in QUICK_SIZES if is_quick else SIZES:
        measure(count, number, table)
    print(table)
    fits = common.Table(("rows", "labels", "how many", OURS, LLM))
    for name, column in LABELS:
        fit(name, column, QUICK_SEEDS if is_quick else SEEDS, fits)
    print(f"\nAdjusted mutual information, minilm:\n\n{fits}")


def measure(count: int, number: int, table: common.Table) -> None:
    """Add one size to *table*."""
    rows, _ = real.vectors(count)
    found: dict[str, np.ndarray] = {}
    ways = {OURS: lambda: cluster(rows, number).labels, **peers(rows, number, table)}

    def keep(name: str, way: Callable[[], np.ndarray]) -> Callable[[], None]:
        return lambda: found.update({name: way()})

    rounds = ROUNDS if count < 100_000 else 1
    seconds = common.interleave({name: keep(name, way) for name, way in ways.items()}, rounds)
    inertias = {name: inertia(rows, labels) for name, labels in found.items()}
    for name, taken in seconds.items():
        beside = (
            [f"{taken / seconds[SKLEARN]:.2f}x", f"{inertias[name] / inertias[SKLEARN]:.4f}"]
            if SKLEARN in found
            else ["", ""]
        )
        table.rows.append((name, f"{count:,} x {number}", common.number(taken), *beside))
    if SKLEARN in found:
        size = f"{count:,} x {rows.shape[1]}, {number} clusters, base"
        table.goal(f"{size}, time", seconds[OURS] / seconds[SKLEARN], 1.0, "of scikit-learn's KMeans")
        table.goal(f"{size}, inertia", inertias[OURS] / inertias[SKLEARN], 1.01, "of scikit-learn's KMeans")


def peers(rows: Matrix, number: int, table: common.Table) -> dict[str, Callable[[], np.ndarray]]:
    """Return what others do; who cannot be had is named."""
    found: dict[str, Callable[[], np.ndarray]] = {}
    if sklearn := common.peer("sklearn.cluster", table):
        found[SKLEARN] = lambda: sklearn.KMeans(number, random_state=0).fit(rows).labels_
    if faiss := common.peer("faiss", table):

        def grouped() -> np.ndarray:
            kmeans = faiss.Kmeans(rows.shape[1], number, niter=25, seed=1, max_points_per_centroid=10**9)
            kmeans.train(rows)
            return kmeans.index.search(rows, 1)[1][:, 0]

        found[FAISS] = grouped
    return found


def inertia(rows: Matrix, labels: np.ndarray) -> float:
    """Return the sum of squared distances of rows to the means of their clusters."""
    order = np.argsort(labels, kind="stable")
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    sums = np.add.reduceat(rows[order], starts, axis=0, dtype=np.float64)
    return float((rows.astype(np.float64) ** 2).sum() - ((sums**2).sum(axis=1) / sizes).sum())


def fit(name: str, column: str, seeds: int, table: common.Table) -> None:
    """Add how well clusters of one table of the demonstration fit a column of its."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics import adjusted_mutual_info_score

    path = common.ROOT / "demo.db"
    if not path.exists():
        table.note(f"{name} by {column} was not measured: there is no demo.db; `make demo-build` makes it.")
        return
    sql = (
        f"select embedding, {column} from embeddings join {name} t on t.id = embeddings.id "
        "where collection_id = (select id from collections where name = ?) order by embeddings.id"
    )
    with closing(sqlite3.connect(path)) as conn:
        found = conn.execute(sql, [name]).fetchall()
    rows = np.array([np.frombuffer(blob, "<f4") for blob, _ in found])
    labels = [label for _, label in found]
    number = len(set(labels))
    ours = [adjusted_mutual_info_score(labels, cluster(rows, number, seed).labels) for seed in range(seeds)]
    llm = [
        adjusted_mutual_info_score(labels, MiniBatchKMeans(number, n_init="auto", random_state=seed).fit_predict(rows))
        for seed in range(seeds)
    ]
    shown = [f"{np.mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})" for scores in (ours, llm)]
    table.rows.append((f"{name} ({len(rows):,})", column, number, *shown))
    table.goal(
        f"{name} by {column}", float(np.mean(ours)), float(np.mean(llm)), "adjusted mutual information", least=True
    )


if __name__ == "__main__":
    main()
