"""The texts of a collection's rows, one after the other: from their source, else as they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasette_embeddings.database import table_names
from datasette_embeddings.sources import table_source

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables


def row_texts(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Iterator[tuple[str, str]]:
    """Yield (id of a row, text): the whole text of each row of a table, else what is stored of each item."""
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
