"""The ten nearest of all rows: our exact all-pairs search beside faiss.knn, and the whole command on 200,000 rows.

The first table times the search in memory; "processor" adds up the threads, and is what to look at where other programs run
beside it. Memory is the peak of a process that only does this, vectors (and numpy) included. The second table is
`datasette embeddings similarities` on a file: read, compute, write two million rows.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from bench import common
from datasette_embeddings.neighbors import all_neighbors

K = 10
ROWS, QUICK_ROWS = 20_000, 2_000
MANY, QUICK_MANY = 200_000, 5_000
ROUNDS, QUICK_ROUNDS = 7, 2

TIMES_FAISS = 1.5
PEAK_MB = 2_000


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    quick = common.quick(__doc__, argv)
    many = common.Table(("command", "rows x dimensions", "s", "peak MB", "of which vectors"))
    whole_command(
        QUICK_MANY if quick else MANY, many
    )  # before this process grows: a child's peak starts at its parent's
    rows = QUICK_ROWS if quick else ROWS
    table = common.Table((f"{rows:,} x 384", "s", "processor s", "/ faiss", "peak MB", "recall"))
    beside_faiss(rows, QUICK_ROUNDS if quick else ROUNDS, table)
    print(table, many, sep="\n\n")


def ours(matrix: common.Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and positions (n, k) of the nearest rows."""
    found = all_neighbors(matrix, K)
    return found.scores.reshape(-1, K), found.others.reshape(-1, K)


def faiss_knn(matrix: common.Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return the same by faiss, the row itself (found at any place among its equals) still among k + 1."""
    import faiss

    scores, others = faiss.knn(matrix, matrix, K + 1, faiss.METRIC_INNER_PRODUCT)
    return scores, others


SEARCHES = {"ours": ours, "faiss.knn": faiss_knn}


def beside_faiss(rows: int, rounds: int, table: common.Table) -> None:
    """Add both searches to *table*."""
    names = ["ours", "faiss.knn"] if common.peer("faiss", table) else ["ours"]
    matrix, _ = common.vectors(rows)
    work = {name: lambda search=SEARCHES[name]: search(matrix) for name in names}
    scores, _ = ours(matrix)
    recalls = {"ours": 1.0}
    if "faiss.knn" in names:
        recalls["faiss.knn"], recalls["ours"] = recall(matrix, scores)
    seconds = common.interleave(work, rounds)
    processor = common.interleave(work, rounds, time.process_time)
    for name in names:
        ratio = common.times(seconds[name] / seconds["faiss.knn"]) if "faiss.knn" in names else ""
        peak = float(child("search", name, str(rows)))
        figures = (common.number(seconds[name]), common.number(processor[name]), ratio, common.number(peak))
        table.rows.append((name, *figures, f"{recalls[name]:.5f}"))
    if "faiss.knn" in names and rows == ROWS:
        table.goal("all pairs", seconds["ours"] / seconds["faiss.knn"], TIMES_FAISS, "times faiss.knn's time")
        table.goal("the same by processor time", processor["ours"] / processor["faiss.knn"], TIMES_FAISS, "times")


def recall(matrix: common.Matrix, scores: np.ndarray) -> tuple[float, float]:
    """Return how much of each one's answer is among the other's, by score: a tie may be broken either way.

    faiss scores by a float32 matrix product, 1e-6 from ours at most.
    """
    theirs, others = faiss_knn(matrix)
    itself = others == np.arange(len(matrix))[:, None]
    itself[~itself.any(axis=1), K] = True
    theirs = theirs[~itself].reshape(-1, K)
    tolerance = 2e-6
    return float((theirs >= scores[:, -1:] - tolerance).mean()), float((scores >= theirs[:, -1:] - tolerance).mean())


def whole_command(rows: int, table: common.Table) -> None:
    """Add `datasette embeddings similarities` to *table*."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.db"
        child("file", str(path), str(rows))
        seconds, peak = (float(text) for text in child("command", str(path)).split())
        with closing(sqlite3.connect(path)) as conn:
            written = conn.execute("select count(*) from similarities").fetchone()[0]
    if written != rows * K:
        raise SystemExit(f"{written} similarities were written, {rows * K} expected")
    vectors = rows * 384 * 4 / 1e6
    figures = (common.number(seconds), common.number(peak), common.number(vectors))
    table.rows.append((f"`similarities -n {K}`", f"{rows:,} x 384", *figures))
    if rows == MANY:
        table.goal(f"{rows:,} rows", peak, PEAK_MB, "MB at the peak")


def make_file(path: Path, rows: int) -> None:
    """Write a collection as the llm tool would."""
    from datasette_embeddings.store import Store, StoredItem

    matrix, _ = common.vectors(rows)
    with Store(path, create=True) as store:
        collection = store.create("items", "minilm")
        for start in range(0, rows, 10_000):
            part = enumerate(matrix[start : start + 10_000], start)
            items = [StoredItem(f"item-{n:06}", row.tobytes(), None, None, b"", None) for n, row in part]
            store.save(collection, items, 0, None)


def child(*arguments: str) -> str:
    """Run this module for one thing in a process of its own; returns what it prints."""
    return common.output("-m", "bench.similarities", "--child", *arguments)


def child_main(what: str, *arguments: str) -> None:
    """Do one thing; print its peak memory in MB, for the command after its seconds."""
    if what == "search":
        matrix, _ = common.vectors(int(arguments[1]))
        SEARCHES[arguments[0]](matrix)
        print(common.peak_memory())
    elif what == "file":
        make_file(Path(arguments[0]), int(arguments[1]))
    else:
        used = common.run("-m", "datasette_embeddings", "similarities", arguments[0], "items", "-n", str(K))
        print(used.seconds, used.peak)


if __name__ == "__main__":
    child_main(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
