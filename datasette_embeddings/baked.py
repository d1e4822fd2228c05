"""Sketches of a large collection's vectors as a build leaves them in the file, so that a search need not read the vectors.

They are good as long as nothing was written to the vectors since; what is damaged or out of date counts as not there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import orjson

from datasette_embeddings.database import table_names
from datasette_embeddings.sketches import Sketches
from datasette_embeddings.vectors import FLOAT32

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables

PART_ROWS = 50_000
"""Items of one row of the table: some 13 MB, far below the 1 GB that SQLite allows a value."""


class Baked(NamedTuple):
    """The items of a collection, sorted by id, and their sketches."""

    ids: list[str]
    sketches: Sketches


def written(conn: sqlite3.Connection, tables: Tables, collection_id: int) -> tuple[int, tuple[object, ...]]:
    """Return how many items there are, and which was written last: its rowid, time and hash.

    A program that replaces an item writes a new row, which may get the place of the old one, but not its hash or time.
    """
    counted = f"select count(*), max(rowid) from {tables.embeddings} where collection_id = ?"
    count, last = conn.execute(counted, [collection_id]).fetchone()
    of_last = f"select updated, hex(content_hash) from {tables.embeddings} where rowid = ?"
    return count, (last, *(conn.execute(of_last, [last]).fetchone() or ()))


def stamp(conn: sqlite3.Connection, tables: Tables, collection_id: int, version: int) -> str:
    """Return what tells whether sketches are those of the vectors as they are now."""
    return json.dumps([version, *written(conn, tables, collection_id)])


def to_rows(baked: Baked) -> Iterator[tuple[int, str, bytes, bytes, bytes]]:
    """Yield (part, ids, codes, units, rests): rows of the table that holds sketches."""
    sketches = baked.sketches
    for number, start in enumerate(range(0, len(baked.ids), PART_ROWS)):
        part = slice(start, start + PART_ROWS)
        ids = orjson.dumps(baked.ids[part]).decode()
        units, rests = (array.astype(FLOAT32).tobytes() for array in (sketches.units[part], sketches.rests[:, part]))
        yield number, ids, sketches.codes[part].tobytes(), units, rests


def read(conn: sqlite3.Connection, tables: Tables, collection: Collection, size: int) -> Baked | None:
    """Return the sketches of a collection's vectors of *size* dimensions; None where there are none that are good."""
    if not {tables.plain("embeddings_sketches"), tables.plain("embeddings_sketch_parts")} <= table_names(conn).keys():
        return None
    sql = f"select stamp, dimensions, basis, head, error from {tables.embeddings_sketches} where collection_id = ?"
    head = conn.execute(sql, [collection.id]).fetchone()
    if head is None or head[1] != size or head[0] != stamp(conn, tables, collection.id, collection.version):
        return None
    try:
        return _decoded(conn, tables, collection, np.frombuffer(head[2], FLOAT32).reshape(-1, size), *head[3:])
    except (ValueError, TypeError):
        return None


def _decoded(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, basis: np.ndarray, head: int, error: float
) -> Baked | None:
    ids: list[str] = []
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    sql = f"select ids, codes, units, rests from {tables.embeddings_sketch_parts} where collection_id = ? order by part"
    for listed, codes, units, rests in conn.execute(sql, [collection.id]):
        part = orjson.loads(listed)
        ids += part
        shape = (len(part), len(basis))
        numbers = np.frombuffer(units, FLOAT32).reshape(len(part)), np.frombuffer(rests, FLOAT32).reshape(2, len(part))
        found.append((np.frombuffer(codes, np.int8).reshape(shape), *numbers))
    if not ids or not 0 < head <= len(basis):
        return None
    codes, units, rests = zip(*found, strict=True)
    return Baked(
        ids, Sketches(basis, head, np.concatenate(codes), np.concatenate(units), np.concatenate(rests, axis=1), error)
    )
