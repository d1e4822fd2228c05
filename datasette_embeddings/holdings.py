"""What one database holds of ours, as far as serving it needs to know: collections, queries, tables and what is behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from datasette_embeddings import catalog
from datasette_embeddings.database import table_key, table_names
from datasette_embeddings.fulltext import index_tables, own_indexes
from datasette_embeddings.labels import joinable
from datasette_embeddings.queries import Query, queries_of
from datasette_embeddings.tables import Tables, find_tables, own_tables

if TYPE_CHECKING:
    import sqlite3

    from datasette_embeddings.catalog import Collection


@dataclass(frozen=True)
class Holdings:
    """*derived*: our tables, in lower case. *with_row_pages*: collections whose items are rows that Datasette has a page for.

    It has them by the primary key of a table; the rows of a view have none.
    """

    tables: Tables | None = None
    collections: dict[str, Collection] = field(default_factory=dict)
    queries: list[Query] = field(default_factory=list)
    derived: frozenset[str] = frozenset()
    with_row_pages: frozenset[str] = frozenset()

    @property
    def sources(self) -> frozenset[str]:
        """The tables that the rows of all collections were read from."""
        return frozenset(source for found in self.collections.values() for source in found.source_tables)

    def provides(self, name: str) -> bool:
        """Tell whether a table or query of that name can be ours."""
        return name.lower() in self.derived or any(query.name == name for query in self.queries)

    def of_table(self, table: str) -> list[Collection]:
        """Return the collections made from a table or view of that name, as it is stored."""
        return [found for found in self.collections.values() if found.table == table]

    def behind_table(self, table: str) -> frozenset[str]:
        """Return the source tables whose rows a table of ours may tell of: those of all collections."""
        return self.sources if table.lower() in self.derived else frozenset()

    def behind_query(self, name: str) -> frozenset[str]:
        """Return the source tables behind one of our queries."""
        query = next((query for query in self.queries if query.name == name), None)
        return frozenset(self.collections[query.collection].source_tables if query else ())


def read(conn: sqlite3.Connection) -> Holdings:
    """Return what the database of a connection holds."""
    tables = find_tables(conn)
    if tables is None:
        return Holdings()
    existing = table_names(conn)
    indexes = [name for index in own_indexes(conn, tables) for name in index_tables(index)]
    derived = frozenset(name.lower() for name in (*own_tables(conn, tables), *indexes) if name in existing)
    collections = {collection.name: collection for collection in catalog.collections(conn, tables)}
    rows = frozenset(
        name
        for name, found in collections.items()
        if existing.get(found.table or "") == "table"
        and joinable(conn, found)
        and table_key(conn, str(found.table)).columns == found.key
    )
    return Holdings(tables, collections, queries_of(conn), derived, rows)
