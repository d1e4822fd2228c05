"""What a row is called, and whether an item's id leads to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasette_embeddings.database import column_names, table_names
from datasette_embeddings.fulltext import embedded_columns

if TYPE_CHECKING:
    import sqlite3

    from datasette_embeddings.catalog import Collection

TITLE_NAMES = ("title", "name", "headline", "subject", "label", "heading", "summary")
"""What columns are called that name a row."""


def label_column(conn: sqlite3.Connection, collection: Collection) -> str | None:
    """Return the column of the source that names a row: one called so, else the first that is embedded."""
    if not joinable(conn, collection):
        return None
    columns = column_names(conn, str(collection.table))
    named = [column for column in columns if column.lower() in TITLE_NAMES]
    embedded = [column for column in embedded_columns(collection) if column in columns]
    return next(iter([*named, *embedded]), None)


def joinable(conn: sqlite3.Connection, collection: Collection) -> bool:
    """Tell whether an item's id leads to a row of the source."""
    table = collection.table
    if table is None or table not in table_names(conn) or not collection.key:
        return False
    known = column_names(conn, table)
    return all(column in known for column in collection.key if column != "rowid")


def key_parts(collection: Collection, item: str) -> list[str]:
    """Return SQL for the values of an item's key columns."""
    return [item] if len(collection.key) == 1 else [f"embed_key({item}, {n})" for n in range(len(collection.key))]
