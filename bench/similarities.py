"""The ten nearest of all rows: our exact search beside faiss.knn and a full matrix product, and the whole command.

The first tables time the search in memory, of real embeddings (not with `--quick`) and of synthetic ones; "processor" adds up the threads,
and is what to look at where other programs run beside it. Memory is the peak of a process that only does this, vectors (and numpy)
included. Then comes `datasette embeddings similarities` on a file: read, compute, write two million rows and sketches; and again after 1 percent of
the vectors changed. Its engine alone compares the changed rows with all: what the product of these takes is the floor of an update.
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

from bench import common, real
from datasette_embeddings.neighbors import all_neighbors

K = 10
ROWS, QUICK_ROWS = 20_000, 2_000
MANY, QUICK_MANY = 200_000, 5_000
ROUNDS, QUICK_ROUNDS = 3, 2

TIMES_FAISS = 0.7
TIMES_PRODUCT = 1.0
PRODUCT_ROWS = 2_048
PEAK_MB = 2_000
UPDATE_PERCENT = 5
COMPARED_ROWS = 20_000
"""Of up to so many rows, the table after an update is compared with one from scratch."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    quick = common.quick(__doc__, argv)
    many = common.Table(("command", "rows x dimensions", "s", "processor s", "peak MB", "of which vectors"))
    for count in (
        (QUICK_MANY,) if quick else (ROWS, MANY)
    ):  # before this process grows: a child's peak starts at its parent's
        whole_command(count, many, "synthetic" if quick else "real")
    rows = QUICK_ROWS if quick else ROWS
    rounds = QUICK_ROUNDS if quick else ROUNDS
    kinds = ["synthetic"] if quick else ["real", "synthetic"]
    searches = [beside_others(kind, rows, rounds) for kind in kinds]
    print(*searches, many, sep="\n\n")


def vectors(kind: str, rows: int) -> common.Matrix:
    """Return unit vectors (rows, 384)."""
    found, _ = real.vectors(rows) if kind == "real" else common.vectors(rows)
    return np.ascontiguousarray(found)


def ours(matrix: common.Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and positions (n, k) of the nearest rows."""
    found = all_neighbors(matrix, K)
    return found.scores.reshape(-1, K), found.others.reshape(-1, K)


def faiss_knn(matrix: common.Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return the same by faiss, the row itself (found at any place among its equals) still among k + 1."""
    import faiss

    scores, others = faiss.knn(matrix, matrix, K + 1, faiss.METRIC_INNER_PRODUCT)
    return scores, others


def full_product(matrix: common.Matrix) -> None:
    """Multiply all rows with all rows, as numpy does, and look at nothing."""
    for start in range(0, len(matrix), PRODUCT_ROWS):
        matrix[start : start + PRODUCT_ROWS] @ matrix.T


SEARCHES = {"ours": ours, "full product": full_product, "faiss.knn": faiss_knn}


def beside_others(kind: str, rows: int, rounds: int) -> common.Table:
    """Return all searches beside each other."""
    table = common.Table((f"{kind}, {rows:,} x 384", "s", "processor s", "/ product", "peak MB", "recall"))
    names = [name for name in SEARCHES if name != "faiss.knn" or common.peer("faiss", table)]
    matrix = vectors(kind, rows)
    work = {name: lambda search=SEARCHES[name]: search(matrix) for name in names}
    recalls = {"ours": 1.0}
    if "faiss.knn" in names:
        recalls["faiss.knn"], recalls["ours"] = recall(matrix, ours(matrix)[0])
    seconds = common.interleave(work, rounds)
    processor = common.interleave(work, rounds, time.process_time)
    for name in names:
        peak = float(child("search", name, kind, str(rows)))
        ratio = common.times(seconds[name] / seconds["full product"])
        found = f"{recalls[name]:.5f}" if name in recalls else ""
        figures = (common.number(seconds[name]), common.number(processor[name]), ratio, common.number(peak))
        table.rows.append((name, *figures, found))
    if rows == ROWS:
        goals = {"full product": TIMES_PRODUCT, "faiss.knn": TIMES_FAISS}
        for name in names[1:]:
            table.goal(
                f"{kind}, {rows:,} rows, all pairs",
                seconds["ours"] / seconds[name],
                goals[name],
                f"times the time of {name}",
            )
            ratio = processor["ours"] / processor[name]
            table.goal(f"{kind}, {rows:,} rows, all pairs by processor time", ratio, goals[name], "times")
    return table


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


def whole_command(rows: int, table: common.Table, kind: str) -> None:
    """Add `datasette embeddings similarities` to *table*, of all rows and again after 1 percent of them changed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.db"
        child("file", str(path), kind, str(rows))
        whole = command(path)
        changed = change(path, rows)
        again = command(path)
        size = path.stat().st_size / 1e6
        with closing(sqlite3.connect(path)) as conn:
            written = conn.execute("select count(*) from similarities").fetchone()[0]
            kept = (
                "select coalesce(sum(length(ids) + length(others) + length(scores)), 0) / 1e6 from embeddings_reserve"
            )
            (reserve,) = conn.execute(kept).fetchone()
        if written != rows * K:
            raise SystemExit(f"{written} similarities were written, {rows * K} expected")
        if rows <= COMPARED_ROWS:
            compare_with_scratch(path)
            table.note(f"{rows:,} rows: the table after the update is that of a computation from scratch, bit for bit.")
    for name, used in ((f"`similarities -n {K}`", whole), (f"the same, {changed:,} rows changed", again)):
        figures = (used.seconds, used.processor, used.peak, rows * 384 * 4 / 1e6)
        table.rows.append((name, f"{rows:,} x 384, {kind}", *map(common.number, figures)))
    table.note(
        f"{rows:,} rows: an update takes {100 * again.seconds / whole.seconds:.1f} percent of the time of all by the clock, of which the "
        f"product of the changed rows with all takes {product(rows, kind):.2f} s; the reserve takes {reserve:.1f} MB of a file of {size:.0f} MB."
    )
    table.goal(f"{rows:,} rows", whole.peak, PEAK_MB, "MB at the peak")
    share = again.processor / whole.processor
    table.goal(f"{rows:,} rows, 1 percent changed", 100 * share, UPDATE_PERCENT, "percent of the processor time of all")


def product(rows: int, kind: str) -> float:
    """Return the seconds of one product of a hundredth of the rows with all, as a matrix multiplication in a process of its own."""
    return float(child("product", kind, str(rows)))


def command(path: Path) -> common.Used:
    """Run the command on a file."""
    seconds, processor, peak = (float(text) for text in child("command", str(path)).split())
    return common.Used(seconds, processor, peak)


def change(path: Path, rows: int) -> int:
    """Replace 1 percent of the vectors by others near by, as a program would that embeds edited texts; returns how many."""
    random = np.random.default_rng(common.SEED)
    numbers = random.choice(rows, rows // 100, replace=False)
    later = int(time.time()) + 5
    with closing(sqlite3.connect(path)) as conn, conn:
        for number in numbers.tolist():
            item = f"item-{number:06}"
            (blob,) = conn.execute(
                "select embedding from embeddings where collection_id = 1 and id = ?", [item]
            ).fetchone()
            row = np.frombuffer(blob, np.float32)
            row = row + 0.5 * random.standard_normal(len(row), np.float32) / len(row) ** 0.5
            conn.execute(
                "update embeddings set embedding = ?, updated = ? where collection_id = 1 and id = ?",
                [(row / np.linalg.norm(row)).astype(np.float32).tobytes(), later, item],
            )
    return len(numbers)


def compare_with_scratch(path: Path) -> None:
    """End the bench unless computing all similarities anew gives the same table."""
    listing = "select id, other_id, score from similarities order by 1, 2"
    with closing(sqlite3.connect(path)) as conn, conn:
        updated = conn.execute(listing).fetchall()
        conn.execute("delete from similarities")
        conn.execute("update embeddings_collections set similarities = null")
    command(path)
    with closing(sqlite3.connect(path)) as conn:
        if conn.execute(listing).fetchall() != updated:
            raise SystemExit("the table after an update is not that of a computation from scratch")


def child(*arguments: str) -> str:
    """Run this module for one thing in a process of its own; returns what it prints."""
    return common.output("-m", "bench.similarities", "--child", *arguments)


def child_main(what: str, *arguments: str) -> None:
    """Do one thing; print its peak memory in MB, for the command after its seconds."""
    if what == "search":
        SEARCHES[arguments[0]](vectors(arguments[1], int(arguments[2])))
        print(common.peak_memory())
    elif what == "product":
        matrix = vectors(arguments[0], int(arguments[1]))
        some = matrix[::100]
        print(
            common.timed(
                lambda: [some @ matrix[start : start + PRODUCT_ROWS].T for start in range(0, len(matrix), PRODUCT_ROWS)]
            )
        )
    elif what == "file":
        common.write_collection(Path(arguments[0]), vectors(arguments[1], int(arguments[2])))
    else:
        used = common.run("-m", "datasette_embeddings", "similarities", arguments[0], "items", "-n", str(K))
        print(used.seconds, used.processor, used.peak)


if __name__ == "__main__":
    child_main(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
