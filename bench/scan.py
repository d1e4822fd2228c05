"""`embed_cosine` in the ORDER BY of a query over a whole table, beside sqlite-vec's C function and llm_embed_cosine.

`select id from embeddings order by f(embedding, :query) desc limit 10` on a file in the system's cache. SQLite reads the file
page by page unless `pragma mmap_size` lets it look at the cached pages themselves; "read" is the default, "mapped" the
other, where less of the time is SQLite's own. Every function must find the same ten rows. Times are of the processor:
nothing here waits.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from bench import common
from datasette_embeddings import scan

ROUNDS = {20_000: 9, 200_000: 5}
QUICK_ROUNDS = {2_000: 3}

GOALS = {"numpy": (3.0, 19.0), "kernel": (1.1, 50.0)}
"""At most this times sqlite-vec's time; at least this much faster than llm_embed_cosine."""

OURS = {"numpy": "embed_cosine, numpy alone", "kernel": "embed_cosine, with `fast`"}
VEC = "vec_distance_cosine"
LLM = "llm_embed_cosine"
QUERY = "select id from embeddings order by {} limit 10"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    quick = common.quick(__doc__, argv)
    table = common.Table(
        ("rows x dimensions", "file", "function", "ms", "us a row", "/ sqlite-vec", "faster than llm_embed_cosine")
    )
    for size, rounds in (QUICK_ROUNDS if quick else ROUNDS).items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scan.db"
            query = make_file(path, size)
            for mapped in (False, True):
                measure(path, query, mapped, size, rounds, table)
    print(table)


def make_file(path: Path, size: int) -> bytes:
    """Write a table of vectors as the llm tool keeps them; returns a vector to search with."""
    rows, queries = common.vectors(size, held_out=1)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute(
            "create table embeddings (collection_id integer, id text, embedding blob, primary key (collection_id, id))"
        )
        conn.executemany(
            "insert into embeddings values (1, ?, ?)", ((f"item-{n:06}", row.tobytes()) for n, row in enumerate(rows))
        )
    return queries[0].tobytes()


def measure(path: Path, query: bytes, mapped: bool, size: int, rounds: int, table: common.Table) -> None:
    """Add the rows of one size and way of reading to *table*."""
    conn = sqlite3.connect(path)
    if mapped:
        conn.execute("pragma mmap_size = 2000000000")
    way = "mapped" if mapped else "read"
    candidates = {
        name: lambda sql=sql: [row[0] for row in conn.execute(sql, [query])]
        for name, sql in functions(conn, table).items()
    }
    answers = {name: run() for name, run in candidates.items()}
    wrong = [name for name, found in answers.items() if found != answers[OURS["numpy"]]]
    if wrong:
        raise SystemExit(f"{', '.join(wrong)} found other rows than numpy")
    seconds = common.interleave(candidates, rounds, time.process_time)
    conn.close()
    for name, taken in sorted(seconds.items(), key=lambda pair: pair[1]):
        table.rows.append(
            (
                f"{size:,} x 384",
                way,
                f"`{name}`" if name in {VEC, LLM} else name,
                common.number(taken * 1e3),
                common.number(taken / size * 1e6),
                common.times(taken / seconds[VEC]) if VEC in seconds else "",
                common.times(seconds[LLM] / taken) if LLM in seconds else "",
            )
        )
    if size in ROUNDS:
        compare(seconds, f"{size:,} rows, {way}", table)


def compare(seconds: dict[str, float], where: str, table: common.Table) -> None:
    """Add the goals to *table*."""
    for kind, (vec, llm) in GOALS.items():
        ours = seconds.get(OURS[kind])
        if ours and VEC in seconds:
            table.goal(f"{OURS[kind]}, {where}", ours / seconds[VEC], vec, "times sqlite-vec's time")
        if ours and LLM in seconds:
            table.goal(f"{OURS[kind]}, {where}", seconds[LLM] / ours, llm, "times faster than llm", least=True)


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
    if sqlite_vec := common.peer("sqlite_vec", table):
        if hasattr(conn, "enable_load_extension"):
            conn.enable_load_extension(True)
            sqlite_vec.load(conn)
            found[VEC] = QUERY.format(f"{VEC}(embedding, ?)")
        else:
            table.note("sqlite-vec was not measured: this Python was built without loadable extensions.")
    if llm_embed := common.peer("datasette_llm_embed", table):
        conn.create_function(LLM, 2, llm_embed.llm_embed_cosine)
        found[LLM] = QUERY.format(f"{LLM}(embedding, ?) desc")
    return found


if __name__ == "__main__":
    main()
