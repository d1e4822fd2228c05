"""What a database holds: its collections and their state. Reading only; `store` writes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasette_embeddings.database import column_names
from datasette_embeddings.errors import UnknownCollection, nearest
from datasette_embeddings.tables import Tables, find_tables, has_own_tables

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

QUERYABLE = re.compile(r"[A-Za-z0-9_]+\Z")
NEXT = "~next"


@dataclass(frozen=True)
class Collection:
    """One collection of a database; fields after *model* are None or 0 where llm made it."""

    id: int
    name: str
    model: str
    owner: str = "llm"
    source: dict[str, Any] | None = None
    template: str | None = None
    fingerprint: str | None = None
    model_fingerprint: str | None = None
    dimensions: int | None = None
    similarities: int | None = None
    generation: int = 0
    built: str | None = None
    rows: int | None = None
    embedded: int | None = None
    skipped: int | None = None
    failed: int | None = None
    tokens: int = 0
    cost_usd: float | None = None
    query_prefix: str | None = None
    full_text: str | None = None
    noise_floor: float | None = None
    version: int = 0

    @property
    def table(self) -> str | None:
        """The source table or view, where there is one that results can be joined to."""
        return (self.source or {}).get("table")

    @property
    def key(self) -> tuple[str, ...]:
        """The key columns of the source table."""
        return tuple((self.source or {}).get("key", ()))

    @property
    def source_tables(self) -> tuple[str, ...]:
        """The tables that its rows were read from; () for files, pipes and what llm made."""
        return (self.table,) if self.table else tuple((self.source or {}).get("reads", ()))

    @property
    def queryable(self) -> bool:
        """Whether the name can be part of a query's name."""
        return bool(QUERYABLE.match(self.name))


OWN_COLUMNS = (
    "owner, source, template, fingerprint, model_fingerprint, dimensions, similarities, generation, built, "
    "rows, embedded, skipped, failed, tokens, cost_usd, query_prefix"
)
SEARCH_COLUMNS = "full_text, noise_floor, version"
"""Columns that files have which were built since searches combine words and meaning."""


def collections(conn: sqlite3.Connection, tables: Tables | None = None) -> list[Collection]:
    """Return the collections of a database by name; those still being built under a second name are left out."""
    tables = tables or find_tables(conn)
    if tables is None:
        return []
    return [found for found in _all(conn, tables) if not found.name.endswith(NEXT)]


def find_collection(conn: sqlite3.Connection, name: str, tables: Tables | None = None) -> Collection:
    """Return the collection of that name; raises UnknownCollection, naming the nearest."""
    tables = tables or find_tables(conn)
    known = {found.name: found for found in _all(conn, tables)} if tables else {}
    if name in known:
        return known[name]
    visible = [other for other in known if not other.endswith(NEXT)]
    raise UnknownCollection(f"there is no collection {name!r} in this database; {nearest(name, visible)}")


def _all(conn: sqlite3.Connection, tables: Tables) -> list[Collection]:
    if not has_own_tables(conn, tables):
        rows = conn.execute(f"select id, name, model from {tables.collections} order by name").fetchall()
        return [Collection(*row) for row in rows]
    newer = "noise_floor" in column_names(conn, tables.plain("embeddings_collections"))
    columns = f"{OWN_COLUMNS}, {SEARCH_COLUMNS}" if newer else OWN_COLUMNS
    rows = conn.execute(
        f"select c.id, c.name, c.model, {columns} from {tables.collections} c "
        f"left join {tables.embeddings_collections} e on e.collection_id = c.id order by c.name"
    ).fetchall()
    return [_collection(row) for row in rows]


def _collection(row: tuple[Any, ...]) -> Collection:
    if row[3] is None:
        return Collection(*row[:3])
    values = list(row)
    values[4] = json.loads(values[4]) if values[4] else None
    return Collection(*values)


def count_embedded(conn: sqlite3.Connection, collection: Collection, tables: Tables) -> int:
    """Return how many items have a vector now."""
    return int(
        conn.execute(f"select count(*) from {tables.embeddings} where collection_id = ?", [collection.id]).fetchone()[0]
    )


def has_item(conn: sqlite3.Connection, collection: Collection, item: str, tables: Tables) -> bool:
    """Tell whether a collection holds an item, whatever its embedding is."""
    sql = f"select 1 from {tables.embeddings} where collection_id = ? and id = ?"
    return conn.execute(sql, [collection.id, item]).fetchone() is not None


def item_vector(conn: sqlite3.Connection, collection: Collection, item: str, tables: Tables) -> bytes | None:
    """Return the embedding of one item, None when it has none."""
    row = conn.execute(
        f"select embedding from {tables.embeddings} where collection_id = ? and id = ?", [collection.id, item]
    ).fetchone()
    return row[0] if row else None


def item_texts(
    conn: sqlite3.Connection, collection: Collection, items: Sequence[str], tables: Tables
) -> dict[str, str | None]:
    """Return the stored text of some items, None where none is stored."""
    rows = conn.execute(
        f"select id, content from {tables.embeddings} where collection_id = ? and id in (select value from json_each(?))",
        [collection.id, json.dumps(list(items))],
    )
    return {item: content if isinstance(content, str) else None for item, content in rows}


def issues(conn: sqlite3.Connection, collection: Collection, tables: Tables) -> list[tuple[str, str, str]]:
    """Return (id, status, reason) of every skipped or failed row."""
    if not has_own_tables(conn, tables):
        return []
    return conn.execute(
        f"select id, status, reason from {tables.embeddings_issues} where collection_id = ? order by id",
        [collection.id],
    ).fetchall()


def stale_items(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> set[str]:
    """Return ids whose vector changed after the similarities were written, by us or by another program."""
    ours = conn.execute(f"select id from {tables.embeddings_changes} where collection_id = ?", [collection.id])
    others = conn.execute(
        f"select id from {tables.embeddings} where collection_id = ? and updated > cast(strftime('%s', ?) as integer)",
        [collection.id, collection.built],
    )
    return {row[0] for row in ours} | {row[0] for row in others}
