"""Writing 200,000 similarity rows: the end of a build beside `insert_all` of sqlite-utils, index included.

Both write the same rows, in the order of a build, into a new file of their own and commit. Ours is `Store.finish`, as a build calls it; theirs is
`insert_all(rows, pk=("id", "other_id"))`, once for all rows, and as openai-to-sqlite calls it, once for each item.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import sqlite_utils

from bench import common
from datasette_embeddings.store import Finish, SimilarityChange, Store

ITEMS = 20_000
K = 10
ROUNDS, QUICK_ROUNDS = 5, 2
FASTER = 10.0

OURS = "`Store.finish`"
THEIRS = "`insert_all`, all rows at once"
EACH = "`insert_all`, an item at a time"

Row = tuple[str, str, float]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    rounds = QUICK_ROUNDS if common.quick(__doc__, argv) else ROUNDS
    rows = similar_rows()
    table = common.Table((f"{len(rows):,} rows", "ms", "us a row", "faster than `insert_all`", "MB of the file"))
    with tempfile.TemporaryDirectory() as name:
        files = fresh_files(Path(name))
        last: dict[str, Path] = {}

        def writer(label: str, write: Callable[[Path, list[Row]], None]) -> Callable[[], None]:
            def run() -> None:
                last[label] = next(files)
                write(last[label], rows)

            return run

        work = {OURS: writer(OURS, ours), THEIRS: writer(THEIRS, theirs)}
        seconds = common.interleave(work, rounds)
        seconds[EACH] = common.timed(writer(EACH, theirs_each))
        for label, taken in seconds.items():
            figures = (taken * 1e3, taken / len(rows) * 1e6)
            faster = common.times(seconds[THEIRS] / taken)
            megabytes = common.number(os.path.getsize(last[label]) / 1e6)
            table.rows.append((label, *map(common.number, figures), faster, megabytes))
    ratio = seconds[THEIRS] / seconds[OURS]
    table.goal(f"{len(rows):,} similarity rows, base", ratio, FASTER, "times faster than insert_all", least=True)
    print(table)


def similar_rows() -> list[Row]:
    """Return rows such as a build makes: every item with ten others."""
    random = np.random.default_rng(common.SEED)
    scores = np.sort(random.uniform(0.3, 0.9, (ITEMS, K)).round(6), axis=1)[:, ::-1].tolist()
    others = (np.arange(ITEMS)[:, None] + np.cumsum(random.integers(1, ITEMS // K - 1, (ITEMS, K)), axis=1)) % ITEMS
    return [
        (f"item-{item:06}", f"item-{other:06}", score)
        for item, of_item in enumerate(others.tolist())
        for other, score in zip(of_item, scores[item], strict=True)
    ]


def fresh_files(folder: Path) -> Iterator[Path]:
    """Yield paths that no run has used."""
    return (folder / f"{number}.db" for number in itertools.count())


def ours(path: Path, rows: list[Row]) -> None:
    """Write the rows as the end of a build does."""
    with Store(path, create=True) as store:
        collection = store.create("items", "minilm")
        store.finish(collection, Finish([], [], SimilarityChange(added=rows, everything=True), {"similarities": K}))


def theirs(path: Path, rows: list[Row]) -> None:
    """Write the rows by one `insert_all`."""
    table = sqlite_utils.Database(path)["similarities"]
    table.insert_all(
        ({"id": item, "other_id": other, "score": score} for item, other, score in rows), pk=("id", "other_id")
    )
    table.db.close()


def theirs_each(path: Path, rows: list[Row]) -> None:
    """Write the rows by an `insert_all` for each item."""
    table = sqlite_utils.Database(path)["similarities"]
    for _, group in itertools.groupby(rows, key=lambda row: row[0]):
        dicts = [{"id": item, "other_id": other, "score": score} for item, other, score in group]
        table.insert_all(dicts, pk=("id", "other_id"), replace=True)
    table.db.close()


if __name__ == "__main__":
    main()
