"""The source rows of items, for showing results outside Datasette."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from datasette_embeddings.database import column_names, quote
from datasette_embeddings.keys import key_part, row_condition
from datasette_embeddings.labels import joinable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables

EXCERPT_CHARACTERS = 200


def excerpts(conn: sqlite3.Connection, tables: Tables, collection: Collection, ids: Sequence[str]) -> dict[str, str]:
    """Return a line of text for each item: from its source row where that is a table, else from the stored content."""
    if joinable(conn, collection):
        return {item: _from_row(conn, str(collection.table), collection, item) for item in ids}
    sql = f"select content from {tables.embeddings} where collection_id = ?1 and id = "
    first = f"(select id from {tables.chunks} where collection_id = ?1 and parent_id = ?2 order by position limit 1)"
    sql += first if collection.chunk else "?2"
    found = {}
    for item in ids:
        row = conn.execute(sql, [collection.id, item]).fetchone()
        found[item] = shorten(row[0]) if row else ""
    return found


def _from_row(conn: sqlite3.Connection, table: str, collection: Collection, item: str) -> str:
    row = source_row(conn, collection, item) or {}
    recorded = tuple((collection.source or {}).get("columns", ()))
    names = recorded or tuple(c for c in column_names(conn, table) if c not in collection.key)
    return shorten(" · ".join(row[name] for name in names if isinstance(row.get(name), str) and row[name].strip()))


def source_row(conn: sqlite3.Connection, collection: Collection, item: str) -> dict[str, Any] | None:
    """Return the row of the source that an item was made of, all its columns; None where it is gone."""
    where, values = _where(conn, collection, item)
    cursor = conn.execute(f"select * from {quote(str(collection.table))} where {where}", values)
    found = cursor.fetchone()
    return None if found is None else dict(zip((column[0] for column in cursor.description), found, strict=True))


def meets_condition(conn: sqlite3.Connection, collection: Collection, item: str) -> bool:
    """Tell whether a row of the source is one that the collection is made of: all are, but for those its `where` leaves out."""
    condition = (collection.source or {}).get("where")
    if not condition:
        return True
    where, values = _where(conn, collection, item)
    sql = f"select 1 from {quote(str(collection.table))} where ({condition}) and {where}"
    return conn.execute(sql, values).fetchone() is not None


def _where(conn: sqlite3.Connection, collection: Collection, item: str) -> tuple[str, dict[str, Any]]:
    key = [item] if len(collection.key) == 1 else [key_part(item, n) for n in range(len(collection.key))]
    values = {f"part{n}": value for n, value in enumerate(key)}
    return row_condition(conn, str(collection.table), collection.key, [f":{name}" for name in values]), values


def commonest(conn: sqlite3.Connection, table: str, columns: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
    """Return the commonest values of some columns, with how many rows have each; columns that are not there are left out."""
    known = column_names(conn, table)
    found = {}
    for column in columns:
        if column in known:
            name = quote(column)
            sql = f"select {name}, count(*) from {quote(table)} where {name} is not null group by 1 order by 2 desc, 1 limit ?"
            counts = conn.execute(sql, [FACET_VALUES]).fetchall()
            found[column] = [(str(value), count) for value, count in counts if not isinstance(value, bytes)]
    return found


FACET_VALUES = 8
"""Values of a facet that are offered beside a search; the table's own page has all."""


def shorten(text: str | None) -> str:
    """Return text on one line, cut at a word to EXCERPT_CHARACTERS."""
    line = re.sub(r"\s+", " ", text or "").strip()
    if len(line) <= EXCERPT_CHARACTERS:
        return line
    return line[:EXCERPT_CHARACTERS].rsplit(" ", 1)[0] + " …"
