"""`embed_decode` and `embed_encode` in SQL beside json.dumps of Python floats: an embedding as JSON and back.

`select count(f(embedding))` over a table, so that every row is decoded and nothing else is done with it. Each value is read back and
must be the float32 that it was. Times are of the processor: nothing here waits.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence

import numpy as np
import orjson

from bench import common
from datasette_embeddings import register

SIZES = ((2_000, 384), (1_000, 1_536))
ROUNDS, QUICK_ROUNDS = 9, 3
GOAL_DIMENSIONS = 1_536
FASTER = 15.0

OURS, LLM, VEC = "embed_decode", "llm_embed_decode", "vec_to_json"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    rounds = QUICK_ROUNDS if common.quick(__doc__, argv) else ROUNDS
    table = common.Table(
        (
            "function",
            "rows x dimensions",
            "us a row",
            "faster than llm_embed_decode",
            "characters",
            "float32 kept",
            "shortest",
        )
    )
    for count, dimensions in SIZES:
        measure(count, dimensions, rounds, table)
    print(table)


def measure(count: int, dimensions: int, rounds: int, table: common.Table) -> None:
    """Add one size to *table*."""
    rows, _ = common.vectors(count, dimensions)
    conn = sqlite3.connect(":memory:")
    register(conn)
    decoders = [OURS, *peers(conn, table)]
    conn.execute("create table embeddings (id integer primary key, embedding blob, json text)")
    conn.executemany("insert into embeddings (embedding) values (?)", ((row.tobytes(),) for row in rows))
    conn.execute(f"update embeddings set json = {OURS}(embedding)")
    conn.create_function("json_loads", 1, encoded_by_python)

    def total(expression: str) -> object:
        return conn.execute(f"select count({expression}) from embeddings").fetchone()

    decode = {name: lambda name=name: total(f"{name}(embedding)") for name in decoders}
    encode = {name: lambda name=name: total(f"{name}(json)") for name in ("embed_encode", "json_loads")}
    seconds = common.interleave({**decode, **encode}, rounds, time.process_time)
    size = f"{count:,} x {dimensions:,}"
    for name in decoders:
        faster = common.times(seconds[LLM] / seconds[name]) if LLM in seconds else ""
        text = conn.execute(f"select {name}(embedding) from embeddings limit 1").fetchone()[0]
        kept, shortest = checked(text, rows[0])
        figures = (common.number(seconds[name] / count * 1e6), faster, f"{len(text):,}")
        table.rows.append((f"`{name}`", size, *figures, kept, shortest))
    for name in encode:
        label = "`embed_encode`" if name == "embed_encode" else "json.loads and struct.pack"
        table.rows.append((label, size, common.number(seconds[name] / count * 1e6), "", "", "", ""))
    if dimensions == GOAL_DIMENSIONS and LLM in seconds:
        ratio = seconds[LLM] / seconds[OURS]
        table.goal(f"{dimensions:,} dimensions, base", ratio, FASTER, f"times faster than {LLM}", least=True)


def peers(conn: sqlite3.Connection, table: common.Table) -> list[str]:
    """Register the functions of others that can be had; returns their names."""
    found = []
    if llm_embed := common.peer("datasette_llm_embed", table):
        conn.create_function(LLM, 1, llm_embed.llm_embed_decode, deterministic=True)
        found.append(LLM)
    if sqlite_vec := common.extension("sqlite_vec", conn, table):
        sqlite_vec.load(conn)
        found.append(VEC)
    return found


def encoded_by_python(text: str) -> bytes:
    """Return an embedding from JSON as one would with the standard library alone."""
    import struct

    values = json.loads(text)
    return struct.pack(f"<{len(values)}f", *values)


def checked(text: str, vector: np.ndarray) -> tuple[str, str]:
    """Tell whether a JSON array gives the same float32 again, and whether it has no digit too many."""
    kept = np.array_equal(np.asarray(json.loads(text), np.float32), vector)
    shortest = orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    least = sum(len(str(value)) for value in vector)  # numpy writes the shortest digits of a float32
    digits = len(text.replace(" ", "")) - len(vector) - 1
    return ("yes" if kept else "no"), ("yes" if kept and (text == shortest or digits <= least) else "no")


if __name__ == "__main__":
    main()
