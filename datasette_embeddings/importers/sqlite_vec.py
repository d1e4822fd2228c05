"""Vectors of sqlite-vec's `vec0` virtual tables, read from their shadow tables without the extension.

The layout (sqlite-vec 0.1): for a table X, `X_chunks` holds per chunk its size, a bitmap of the slots in use (lowest bit
first) and the rowids of the slots (int64); `X_vector_chunksNN` the slots' vectors of the NN-th vector column, one after the
other; `X_rowids` the text key of each rowid, where the table has one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasette_embeddings.database import as_text, quote, table_names
from datasette_embeddings.errors import SourceError
from datasette_embeddings.importers.origin import Origin, collection_name
from datasette_embeddings.vectors import FLOAT32

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from datasette_embeddings.importers.origin import Read

DECLARED = re.compile(r"\busing\s+vec0\s*\((.*)\)\s*;?\s*\Z", re.I | re.S)
VECTOR = re.compile(r"\s*([A-Za-z_]\w*)\s+(float|f32|int8|i8|bit)\w*\s*\[\s*(\d+)\s*\]", re.I)
FLOATS = ("float", "f32")


class VectorColumn(NamedTuple):
    """One vector column of a vec0 table: its number among them, its name, element type and dimensions."""

    number: int
    name: str
    element: str
    dimensions: int


def sqlite_vec(conn: sqlite3.Connection) -> tuple[list[Origin], list[str]]:
    """Return the vectors of every vec0 table, and what of them cannot be taken over and why."""
    declared = conn.execute(
        "select name, sql from sqlite_master where type = 'table' and sql like '%vec0%' order by name"
    )
    found, notes = [], []
    names = table_names(conn)
    for table, sql in declared.fetchall():
        columns = vector_columns(sql)
        for column in columns:
            if column.element not in FLOATS:
                notes.append(f"{table}.{column.name} holds {column.element} vectors; only float ones can be taken over")
            elif f"{table}_vector_chunks{column.number:02}" not in names:
                notes.append(
                    f"{table}.{column.name} is kept in a layout that is not known here (an index other than flat)"
                )
            else:
                found.append(_origin(table, column, alone=len(columns) == 1))
    return found, notes


def vector_columns(sql: str) -> list[VectorColumn]:
    """Return the vector columns that a `create virtual table` statement declares.

    >>> vector_columns("create virtual table t using vec0(id text primary key, a float[8], n integer, b bit[16])")
    [VectorColumn(number=0, name='a', element='float', dimensions=8), VectorColumn(number=1, name='b', element='bit', dimensions=16)]
    """
    declared = DECLARED.search(sql)
    parts = declared[1].split(",") if declared else []
    matches = [match for part in parts if (match := VECTOR.match(part))]
    return [VectorColumn(n, m[1], m[2].lower(), int(m[3])) for n, m in enumerate(matches)]


def _origin(table: str, column: VectorColumn, *, alone: bool) -> Origin:
    name = table if alone else f"{table}_{column.name}"
    return Origin("sqlite-vec", table, collection_name(name), _reader(column), column=None if alone else column.name)


def _reader(column: VectorColumn) -> Read:
    def read(conn: sqlite3.Connection, table: str) -> Iterator[tuple[str | None, object]]:
        keys = dict(conn.execute(f"select rowid, id from {quote(table + '_rowids')} where id is not null").fetchall())
        chunks = conn.execute(
            f"select chunk_id, size, validity, rowids from {quote(table + '_chunks')} order by chunk_id"
        )
        for chunk, size, validity, rowids in chunks.fetchall():
            row = conn.execute(
                f"select vectors from {quote(f'{table}_vector_chunks{column.number:02}')} where rowid = ?", [chunk]
            ).fetchone()
            try:
                used = np.flatnonzero(np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")[:size])
                numbers = np.frombuffer(rowids, "<i8")
                matrix = np.frombuffer(row[0], FLOAT32).reshape(size, column.dimensions)
                pairs = [(int(numbers[slot]), matrix[slot]) for slot in used]
            except (ValueError, TypeError, IndexError):
                raise SourceError(
                    f"chunk {chunk} of {table!r} is not as sqlite-vec 0.1 writes it; a damaged file, or another layout"
                ) from None
            for number, vector in pairs:
                yield as_text(keys.get(number, number)), vector

    return read
