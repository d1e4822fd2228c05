"""What one database holds of ours, as far as serving it needs to know: queries, tables, and the sources behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from datasette_embeddings.catalog import collections
from datasette_embeddings.database import table_names
from datasette_embeddings.queries import Query, queries_of
from datasette_embeddings.tables import NAMES, find_tables

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True)
class Holdings:
    """*derived*: our tables, in lower case. *sources*: collection -> the tables that its rows were read from."""

    queries: list[Query] = field(default_factory=list)
    derived: frozenset[str] = frozenset()
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def behind_table(self, table: str) -> set[str]:
        """Return the source tables whose rows a table of ours may tell of: those of all collections."""
        if table.lower() not in self.derived:
            return set()
        return {source for tables in self.sources.values() for source in tables}

    def behind_query(self, name: str) -> set[str]:
        """Return the source tables behind one of our queries."""
        return {source for query in self.queries if query.name == name for source in self.sources[query.collection]}


def read(conn: sqlite3.Connection) -> Holdings:
    """Return what the database of a connection holds."""
    tables = find_tables(conn)
    if tables is None:
        return Holdings()
    existing = table_names(conn)
    derived = frozenset(tables.plain(name).lower() for name in NAMES if tables.plain(name) in existing)
    sources = {collection.name: collection.source_tables for collection in collections(conn, tables)}
    return Holdings(queries_of(conn), derived, sources)
