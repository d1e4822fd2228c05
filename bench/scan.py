"""`embed_cosine` in the ORDER BY of a query over a whole table, beside sqlite-vec's C function and llm_embed_cosine.

`select id from embeddings order by f(embedding, :query) desc limit 10` on a file in the system's cache: real embeddings at 384
dimensions, synthetic ones at 1,536. SQLite reads the file page by page unless `pragma mmap_size` lets it look at the cached pages
themselves; "read" is the default, "mapped" the other, where less of the time is SQLite's own. Every function must find the same ten
rows. Times are of the processor: nothing here waits. Two more rows say what no function could save: "only read" copies
each embedding out of the file, and "nothing" is a Python function that is given both embeddings and returns a number.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench import common, real
from datasette_embeddings import scan


class Size(NamedTuple):
    """Rows, dimensions, and how often all is run."""

    rows: int
    dimensions: int
    rounds: int

    def __str__(self) -> str:
        return f"{self.rows:,} x {self.dimensions:,}"


SIZES = (Size(20_000, 384, 15), Size(200_000, 384, 7), Size(20_000, 1_536, 9))
QUICK_SIZES = (Size(20_000, 384, 5), Size(20_000, 1_536, 5))
REAL_DIMENSIONS = 384

OURS = {"numpy": "embed_cosine, numpy alone (base)", "kernel": "embed_cosine, with `fast`"}
VEC = "vec_distance_cosine"
LLM = "llm_embed_cosine"
READ, NOTHING = "only read: `max(embedding)`", "nothing: a Python function of both"

TIMES_VEC = {"numpy": {384: 3.0, 1_536: 3.0}, "kernel": {384: 1.05, 1_536: 0.8}}
"""At most this times sqlite-vec's time, by dimensions."""

FASTER_LLM = {"numpy": 19.0, "kernel": 50.0}
"""At least this much faster than llm_embed_cosine."""

QUERY = "select id from embeddings order by {} limit 10"
FLOORS = {READ: "select max(embedding) > ? from embeddings", NOTHING: QUERY.format("no_operation(embedding, ?) desc")}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    quick = common.quick(__doc__, argv)
    table = common.Table(
        ("rows x dimensions", "file", "function", "ms", "us a row", "/ sqlite-vec", "faster than llm_embed_cosine")
    )
    for size in QUICK_SIZES if quick else SIZES:
        common.say(str(size))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scan.db"
            query = make_file(path, size)
            for mapped in (False, True):
                measure(path, query, mapped, size, table)
    print(table)


def make_file(path: Path, size: Size) -> bytes:
    """Write a table of vectors as the llm tool keeps them; returns a vector to search with."""
    is_real = size.dimensions == REAL_DIMENSIONS
    rows, queries = real.vectors(size.rows, 1) if is_real else common.vectors(size.rows, size.dimensions, 1)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute(
            "create table embeddings (collection_id integer, id text, embedding blob, primary key (collection_id, id))"
        )
        conn.executemany(
            "insert into embeddings values (1, ?, ?)", ((f"item-{n:06}", row.tobytes()) for n, row in enumerate(rows))
        )
    return queries[0].tobytes()


def measure(path: Path, query: bytes, mapped: bool, size: Size, table: common.Table) -> None:
    """Add the rows of one size and way of reading to *table*."""
    conn = sqlite3.connect(path)
    if mapped:
        conn.execute("pragma mmap_size = 2000000000")
    way = "mapped" if mapped else "read"

    def runner(sql: str) -> Callable[[], list[object]]:
        return lambda: [row[0] for row in conn.execute(sql, [query])]

    candidates = {name: runner(sql) for name, sql in functions(conn, table).items()}
    answers = {name: cosines(conn, query, run()) for name, run in candidates.items()}
    wrong = [name for name, found in answers.items() if not np.allclose(found, answers[OURS["numpy"]], atol=1e-6)]
    if wrong:
        raise SystemExit(f"{', '.join(wrong)} found other rows than numpy")
    slow = candidates.pop(LLM, None)
    floors = {name: runner(sql) for name, sql in FLOORS.items()}
    seconds = common.interleave({**candidates, **floors}, size.rounds, time.process_time)
    if slow:  # once is enough of what takes fifty times as long
        seconds[LLM] = common.timed(slow, time.process_time)
    conn.close()
    for name, taken in sorted(seconds.items(), key=lambda pair: pair[1]):
        table.rows.append(
            (
                str(size),
                way,
                f"`{name}`" if name in {VEC, LLM} else name,
                common.number(taken * 1e3),
                common.number(taken / size.rows * 1e6),
                common.times(taken / seconds[VEC]) if VEC in seconds else "",
                common.times(seconds[LLM] / taken) if LLM in seconds and name not in FLOORS else "",
            )
        )
    compare(seconds, size, way, table)


def cosines(conn: sqlite3.Connection, query: bytes, ids: list[object]) -> list[float]:
    """Return the cosines of rows: of two that are equally near either may be found."""
    sql = "select numpy_cosine(embedding, ?) from embeddings where collection_id = 1 and id = ?"
    return [conn.execute(sql, [query, item]).fetchone()[0] for item in ids]


def compare(seconds: dict[str, float], size: Size, way: str, table: common.Table) -> None:
    """Add the goals to *table*."""
    for kind, name in OURS.items():
        ours, what = seconds.get(name), f"{name}, {size}, {way}"
        if ours and VEC in seconds:
            limit = TIMES_VEC[kind][size.dimensions]
            table.goal(what, ours / seconds[VEC], limit, "of sqlite-vec's time")
        if ours and LLM in seconds:
            table.goal(what, seconds[LLM] / ours, FASTER_LLM[kind], "times faster than llm", least=True)


def functions(conn: sqlite3.Connection, table: common.Table) -> dict[str, str]:
    """Register what can be had and return name -> query."""
    conn.create_function("numpy_cosine", 2, scan.numpy_cosine(), deterministic=True)
    found = {OURS["numpy"]: QUERY.format("numpy_cosine(embedding, ?) desc")}
    kernel = scan.kernel_cosine()
    if kernel is None:
        table.note("The kernel was not measured: the extra `fast` is not installed or numkong disagrees with numpy.")
    else:
        conn.create_function("kernel_cosine", 2, kernel, deterministic=True)
        found[OURS["kernel"]] = QUERY.format("kernel_cosine(embedding, ?) desc")
    conn.create_function("no_operation", 2, lambda _a, _b: 1.0, deterministic=True)
    if sqlite_vec := common.extension("sqlite_vec", conn, table):
        sqlite_vec.load(conn)
        found[VEC] = QUERY.format(f"{VEC}(embedding, ?)")
    if llm_embed := common.peer("datasette_llm_embed", table):
        conn.create_function(LLM, 2, llm_embed.llm_embed_cosine)
        found[LLM] = QUERY.format(f"{LLM}(embedding, ?) desc")
    return found


if __name__ == "__main__":
    main()
