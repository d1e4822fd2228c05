"""Vectors in ordinary tables: those of openai-to-sqlite and datasette-embeddings, and any other with a vector column."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from datasette_embeddings.database import column_names, item_id, quote, real_name, table_key, table_names
from datasette_embeddings.errors import SourceError, nearest
from datasette_embeddings.importers.origin import Origin, collection_name
from datasette_embeddings.tables import PEER_COLUMNS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from datasette_embeddings.importers.origin import Read

OPENAI_MODEL = "text-embedding-ada-002"
OPENAI_BYTES = 1536 * 4
"""openai-to-sqlite (0.4.2) knows one model and packs 1,536 float32; vectors of another length are not by it."""

SHADOW = "_embeddings_"
SHADOW_COLUMN = re.compile(r"emb_(text_embedding_\w+)\Z")
"""datasette-embeddings (0.1a3) keeps the vectors of TABLE in `_embeddings_TABLE`, the model in the column's name."""


def openai_to_sqlite(conn: sqlite3.Connection, table: str = "embeddings") -> list[Origin]:
    """Return the vectors that openai-to-sqlite keeps in a table, none where it is not of its shape."""
    if table_names(conn).get(table) != "table" or set(column_names(conn, table)) != PEER_COLUMNS["embeddings"]:
        return []
    size = conn.execute(f"select length(embedding) from {quote(table)} limit 1").fetchone()
    model = OPENAI_MODEL if size is None or size[0] == OPENAI_BYTES else None
    read = read_columns(("id",), "embedding")
    return [Origin("openai-to-sqlite", table, collection_name(table), read, model)]


def peer_tables(conn: sqlite3.Connection) -> list[str]:
    """Return the tables of openai-to-sqlite that stand where ours are to be."""
    tables = [name for name, kind in table_names(conn).items() if kind == "table"]
    return sorted(
        name for name, columns in PEER_COLUMNS.items() if name in tables and set(column_names(conn, name)) == columns
    )


def datasette_embeddings(conn: sqlite3.Connection) -> list[Origin]:
    """Return the vectors of datasette-embeddings: one set for every table and model."""
    found = []
    names = table_names(conn)
    for shadow in sorted(name for name in names if name.startswith(SHADOW) and names[name] == "table"):
        table = shadow.removeprefix(SHADOW)
        columns = {name: match[1] for name in column_names(conn, shadow) if (match := SHADOW_COLUMN.match(name))}
        key = table_key(conn, table if table in names else shadow).columns
        for column, model in columns.items():
            name = table if len(columns) == 1 else f"{table}_{model}"
            origin = Origin(
                "datasette-embeddings",
                shadow,
                collection_name(name),
                # A row that was embedded by another model only has NULL here.
                read_columns(key, column, f"{quote(column)} is not null"),
                model.replace("_", "-"),
                column if len(columns) > 1 else None,
                table if table in names else None,
                key if table in names else (),
            )
            found.append(origin)
    return found


def plain_table(conn: sqlite3.Connection, table: str, id_column: str | None, vector_column: str | None) -> Origin:
    """Return the vectors in a column of any table; raises SourceError where it is not clear which column holds what."""
    table = real_name(conn, table)
    columns = column_names(conn, table)
    key = (_real_column(id_column, columns, table),) if id_column else table_key(conn, table).columns
    vector = _real_column(vector_column, columns, table) if vector_column else _only_blob(conn, table, columns)
    return Origin("", table, collection_name(table), read_columns(key, vector), column=vector, key=key)


def read_columns(key: Sequence[str], vector: str, where: str = "1") -> Read:
    """Return a reader of a table's key columns and one vector column."""

    def read(conn: sqlite3.Connection, table: str) -> Iterator[tuple[str | None, object]]:
        chosen = ", ".join(quote(name) for name in (*key, vector))
        for *values, value in conn.execute(f"select {chosen} from {quote(table)} where {where}"):
            yield item_id(tuple(values)), value

    return read


def _real_column(name: str, known: Sequence[str], table: str) -> str:
    by_lower = {column.lower(): column for column in [*known, "rowid"]}
    if name.lower() not in by_lower:
        raise SourceError(f"the table {table!r} has no column {name!r}; {nearest(name, known)}")
    return by_lower[name.lower()]


def _only_blob(conn: sqlite3.Connection, table: str, columns: Sequence[str]) -> str:
    """Return the one column whose first value is a BLOB of float32's length."""
    row = conn.execute(f"select * from {quote(table)} limit 1").fetchone() or ()
    fits = [name for name, value in zip(columns, row, strict=False) if isinstance(value, bytes) and len(value) % 4 == 0]
    if len(fits) != 1:
        raise SourceError(
            f"{len(fits)} columns of {table!r} may hold vectors (its columns: {', '.join(columns)}); "
            "say which one does: --vector-column"
        )
    return fits[0]
