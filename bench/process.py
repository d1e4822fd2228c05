"""500 embeddings of 1,536 dimensions: `datasette embeddings similarities` beside openai-to-sqlite `similar --all --save`.

Whole processes first: start, read, compare all pairs, write ten a row, end. "The work itself" is the same command called a second time in a
process that has imported everything, on a fresh copy of the file. "Comparing" is ours without opening, checking, writing and closing the
file: what a larger file multiplies. The two must find the same rows.
"""

from __future__ import annotations

import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

from bench import common

ROWS, DIMENSIONS, K = 500, 1_536, 10
QUICK_ROWS = 500
OUR_ROUNDS = 7

FASTER_PROCESS = 60.0
FASTER_WORK = 2_000.0

THEIRS = "openai-to-sqlite `similar --all --save`"
OURS = "`datasette embeddings similarities`"
COMMANDS = {
    THEIRS: ("openai_to_sqlite", ("similar", "{}", "--all", "--save")),
    OURS: ("datasette_embeddings", ("similarities", "{}", "items", "-n", str(K))),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    given = list(argv if argv is not None else sys.argv[1:])
    if given[:1] == ["--inside"]:
        print(*inside(given[1], Path(given[2])))
        return
    common.quick(__doc__, argv)
    table = common.Table(
        (f"{ROWS:,} x {DIMENSIONS:,}", "s", "processor s", "peak MB", "the work itself, ms", "comparing, ms")
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        measure(folder, table)
    print(table)


def measure(folder: Path, table: common.Table) -> None:
    """Add both programs to *table*."""
    their_file, our_file = folder / "theirs.db", folder / "ours.db"
    runs = [whole(OURS, our_file) for _ in range(OUR_ROUNDS)]
    ours = sorted(runs, key=lambda used: used.seconds)[OUR_ROUNDS // 2]
    work, comparing = (
        float(text) for text in common.output("-m", "bench.process", "--inside", OURS, str(our_file)).split()
    )
    figures = (ours.seconds, ours.processor, ours.peak, work * 1e3, comparing * 1e3)
    table.rows.append((OURS, *map(common.number, figures)))
    if not common.peer("openai_to_sqlite", table):
        return
    theirs = whole(THEIRS, their_file)
    inner = theirs.seconds - start_up(THEIRS, folder)
    table.rows.append((THEIRS, *map(common.number, (theirs.seconds, theirs.processor, theirs.peak, inner * 1e3)), ""))
    same(our_file.with_suffix(".copy"), their_file.with_suffix(".copy"))
    beside = "times faster than openai-to-sqlite"
    table.goal("whole process, base", theirs.seconds / ours.seconds, FASTER_PROCESS, beside, least=True)
    table.goal("the work itself, base", inner / work, FASTER_WORK, beside, least=True)
    table.note(f"Of the work itself, comparing alone is {common.number(inner / comparing)} times faster.")


def make_files(folder: Path) -> None:
    """Write the same vectors as both programs keep them, and files of two rows."""
    from datasette_embeddings.store import Store, StoredItem

    vectors, _ = common.vectors(ROWS, DIMENSIONS)
    for rows, name in ((ROWS, ""), (2, "-small")):
        blobs = [(f"item-{n:04}", row.tobytes()) for n, row in enumerate(vectors[:rows])]
        with closing(sqlite3.connect(folder / f"theirs{name}.db")) as conn, conn:
            conn.execute("create table embeddings (id text primary key, embedding blob)")
            conn.executemany("insert into embeddings values (?, ?)", blobs)
        with Store(folder / f"ours{name}.db", create=True) as store:
            collection = store.create("items", "openai/text-embedding-3-small")
            store.save(collection, [StoredItem(i, blob, None, None, b"", None) for i, blob in blobs], 0, None)


def whole(program: str, path: Path) -> common.Used:
    """Run a program as a process on a copy of a file."""
    copy = shutil.copy(path, path.with_suffix(".copy"))
    module, arguments = COMMANDS[program]
    code = f"from {module}.cli import cli; cli()" if program == THEIRS else "from datasette.cli import cli; cli()"
    words = [word.format(copy) for word in arguments]
    return common.run("-c", code, *(words if program == THEIRS else ["embeddings", *words]))


def start_up(program: str, folder: Path) -> float:
    """Return the median seconds of a program on a file of two rows."""
    return statistics.median(whole(program, folder / "theirs-small.db").seconds for _ in range(3))


def inside(program: str, path: Path) -> tuple[float, float]:
    """Return the seconds of our command when everything is imported, and of the comparing in it; medians."""
    from datasette_embeddings import derive
    from datasette_embeddings.cli import embeddings

    assert program == OURS
    comparing: list[float] = []
    compare = derive.similarity_change

    def timed(*arguments: object, **named: object) -> object:
        started = time.perf_counter()
        change = compare(*arguments, **named)
        rows = list(change.added)
        comparing.append(time.perf_counter() - started)
        return type(change)(change.removed, rows, change.everything)

    def run() -> None:
        copy = shutil.copy(path, path.with_suffix(".copy"))
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            seconds.append(common.timed(lambda: command(["similarities", str(copy), "items", "-n", str(K)])))

    command: Callable[[list[str]], object] = lambda words: embeddings.main(words, standalone_mode=False)  # noqa: E731
    derive.similarity_change = timed
    seconds: list[float] = []
    for _ in range(OUR_ROUNDS + 1):
        run()
    return statistics.median(seconds[1:]), statistics.median(comparing[1:])


def same(ours: Path, theirs: Path) -> None:
    """End the bench unless both files have the same similarities: their scores, as two may be equal, by place."""
    sql = "select score from similarities order by id, score desc"
    scores = []
    for path in (ours, theirs):
        with closing(sqlite3.connect(path)) as conn:
            scores.append(np.array(conn.execute(sql).fetchall()))
    if scores[0].shape != scores[1].shape or not np.allclose(*scores, atol=2e-6):
        raise SystemExit("the two programs found other similarities")


if __name__ == "__main__":
    main()
