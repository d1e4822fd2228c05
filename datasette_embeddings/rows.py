"""The source rows of items, for showing results outside Datasette."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from datasette_embeddings.database import column_names, quote, table_names
from datasette_embeddings.functions import key_part
from datasette_embeddings.keys import row_condition

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables

EXCERPT_CHARACTERS = 200


def excerpts(conn: sqlite3.Connection, tables: Tables, collection: Collection, ids: Sequence[str]) -> dict[str, str]:
    """Return a line of text for each item: from its source row where that is a table, else from the stored content."""
    table = collection.table
    if table and table in table_names(conn) and collection.key:
        return {item: _from_row(conn, table, collection, item) for item in ids}
    found = {}
    for item in ids:
        row = conn.execute(
            f"select content from {tables.embeddings} where collection_id = ? and id = ?", [collection.id, item]
        ).fetchone()
        found[item] = shorten(row[0]) if row else ""
    return found


def _from_row(conn: sqlite3.Connection, table: str, collection: Collection, item: str) -> str:
    recorded = tuple((collection.source or {}).get("columns", ()))
    names = recorded or tuple(c for c in column_names(conn, table) if c not in collection.key)
    chosen = ", ".join(quote(name) for name in names)
    key = [item] if len(collection.key) == 1 else [key_part(item, n) for n in range(len(collection.key))]
    parts = [f":part{n}" for n in range(len(key))]
    values = {f"part{n}": value for n, value in enumerate(key)}
    where = row_condition(conn, table, collection.key, parts)
    row = conn.execute(f"select {chosen} from {quote(table)} where {where}", values).fetchone()
    texts = [value for value in row or () if isinstance(value, str) and value.strip()]
    return shorten(" · ".join(texts))


def shorten(text: str | None) -> str:
    """Return text on one line, cut at a word to EXCERPT_CHARACTERS."""
    line = re.sub(r"\s+", " ", text or "").strip()
    if len(line) <= EXCERPT_CHARACTERS:
        return line
    return line[:EXCERPT_CHARACTERS].rsplit(" ", 1)[0] + " …"
