"""The texts of a collection's rows, one after the other: from their source, else as they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasette_embeddings.database import item_id, quote, table_names
from datasette_embeddings.labels import joinable, label_column
from datasette_embeddings.sources import table_source

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables


def row_texts(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Iterator[tuple[str, str]]:
    """Yield (id of a row, text): the whole text of each row of a table, of a picture what it is called, else what is stored of each item."""
    if collection.images:
        yield from _names(conn, collection)
        return
    source = table_source(collection)
    if source is not None and source.table in table_names(conn):
        for row in source.rows(conn):
            if row.id is not None and isinstance(row.content, str):
                yield row.id, row.content[len(source.prepend) :]
        return
    sql = f"select id, content from {tables.embeddings} where collection_id = ? and content is not null"
    for item, content in conn.execute(sql, [collection.id]):
        if isinstance(content, str):
            yield collection.row_of(item), content


def _names(conn: sqlite3.Connection, collection: Collection) -> Iterator[tuple[str, str]]:
    """Yield (id, what it is called) of each row of a collection of pictures; nothing where no column says that."""
    column = label_column(conn, collection)
    if column is None or not joinable(conn, collection):
        return
    key = ", ".join(quote(name) for name in collection.key)
    for *values, name in conn.execute(f"select {key}, {quote(column)} from {quote(str(collection.table))}"):
        item = item_id(values)
        if item is not None and isinstance(name, str):
            yield item, name
