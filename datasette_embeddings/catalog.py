"""What a database holds: its collections and their state. Reading only; `store` writes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from datasette_embeddings.database import column_names
from datasette_embeddings.errors import UnknownCollection, nearest
from datasette_embeddings.models.prompts import Prompts
from datasette_embeddings.snapshots import once
from datasette_embeddings.tables import Tables, find_tables, has_own_tables
from datasette_embeddings.vectors import mean_direction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection as Ids
    from collections.abc import Sequence

QUERYABLE = re.compile(r"[A-Za-z0-9_]+\Z")
NEXT = "~next"

HEADING_SEPARATOR = " > "
"""Stands between the headings, the outermost first, under which a chunk stands."""


def own_chunks(row: str) -> str:
    """Return the SQL for the chunks of one row, `ROW#n`, found by index: `$` comes after `#`. *row*: an expression."""
    return f"id > {row} || '#' and id < {row} || '$' and rtrim(id, '0123456789') = {row} || '#'"


def parent_of(chunk: str) -> str:
    """Return the id of the row that a chunk is a part of; an item that another program added is a row of its own.

    >>> parent_of("a#1#12"), parent_of("a"), parent_of("a#b")
    ('a#1', 'a', 'a#b')
    """
    row, _, position = chunk.rpartition("#")
    return row if position.isdecimal() and position.isascii() and "#" in chunk else chunk


def chunk_id(parent: str, position: int) -> str:
    """Return the id of a row's chunk."""
    return f"{parent}#{position}"


class Stages(NamedTuple):
    """What a build derives from a collection's vectors beside similarities; None for what is not wanted.

    *clusters*: how many, or "auto". *projection*: "pca" or "umap". *labels*: JSON, the name of a column of the source or {label: [example texts]}.
    """

    clusters: str | None = None
    projection: str | None = None
    labels: str | None = None


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
    chunk: int | None = None
    document_prefix: str | None = None
    foreign_share: float | None = None
    clusters: str | None = None
    projection: str | None = None
    labels: str | None = None
    labels_hash: str | None = None

    @property
    def stages(self) -> Stages:
        """What is derived from its vectors beside similarities."""
        return Stages(self.clusters, self.projection, self.labels)

    @property
    def prefixes(self) -> Prompts:
        """What stood before the texts of rows, and what belongs before queries, as far as the file says."""
        return Prompts(self.document_prefix or (self.source or {}).get("prepend", ""), self.query_prefix or "")

    @property
    def query_prompt(self) -> str | None:
        """What a query is embedded with before it; None, in files of earlier releases, for the model's own prompt.

        The rows of a collection that llm made were embedded without any.
        """
        return "" if self.owner == "llm" else self.query_prefix

    def row_of(self, item: str) -> str:
        """Return the row that an item of `embeddings` belongs to: itself, unless rows are embedded in chunks."""
        return parent_of(item) if self.chunk else item

    def stores_related(self, k: int) -> bool:
        """Tell whether *k* related rows are to be had from the stored similarities.

        Those of rows in chunks compare the means of their chunks, which no search does, so they give as many as there are.
        """
        return bool(self.similarities) and (k <= (self.similarities or 0) or self.chunk is not None)

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
    def images(self) -> bool:
        """Whether its items are pictures, each with a thumbnail."""
        return bool((self.source or {}).get("image") or (self.source or {}).get("images"))

    @property
    def queryable(self) -> bool:
        """Whether the name can be part of a query's name."""
        return bool(QUERYABLE.match(self.name))


OWN_COLUMNS = (
    "owner, source, template, fingerprint, model_fingerprint, dimensions, similarities, generation, built, "
    "rows, embedded, skipped, failed, tokens, cost_usd, query_prefix"
)
LATER_COLUMNS = {
    **dict.fromkeys(("full_text", "noise_floor"), "null"),
    "version": "0",
    **dict.fromkeys(("chunk", "document_prefix", "foreign_share"), "null"),
    **dict.fromkeys(("clusters", "projection", "labels", "labels_hash"), "null"),
}
"""Columns that files of earlier releases lack, and what stands for them there."""


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


def tables_and_collection(conn: sqlite3.Connection, name: str) -> tuple[Tables, Collection]:
    """Return our tables and the collection of that name, looked up once for each state of the file; raises UnknownCollection."""
    tables = once(conn, "tables", lambda: find_tables(conn))
    collection = once(conn, ("collection", name), lambda: find_collection(conn, name, tables))
    assert tables is not None
    return tables, collection


def _all(conn: sqlite3.Connection, tables: Tables) -> list[Collection]:
    if not has_own_tables(conn, tables):
        rows = conn.execute(f"select id, name, model from {tables.collections} order by name").fetchall()
        return [Collection(*row) for row in rows]
    known = column_names(conn, tables.plain("embeddings_collections"))
    later = ", ".join(name if name in known else missing for name, missing in LATER_COLUMNS.items())
    rows = conn.execute(
        f"select c.id, c.name, c.model, {OWN_COLUMNS}, {later} from {tables.collections} c "
        f"left join {tables.embeddings_collections} e on e.collection_id = c.id order by c.name"
    ).fetchall()
    return [_collection(row) for row in rows]


def _collection(row: tuple[Any, ...]) -> Collection:
    if row[3] is None:
        return Collection(*row[:3])
    values = list(row)
    values[4] = json.loads(values[4]) if values[4] else None
    return Collection(*values)


def count_embedded(
    conn: sqlite3.Connection, collection: Collection, tables: Tables, without: Ids[str] = frozenset()
) -> int:
    """Return how many rows have a vector now; *without*: items that are about to go."""
    if not collection.chunk and not without:
        return count_items(conn, collection, tables)
    items = conn.execute(f"select id from {tables.embeddings} where collection_id = ?", [collection.id])
    return len({collection.row_of(item) for (item,) in items if item not in without})


def count_items(conn: sqlite3.Connection, collection: Collection, tables: Tables) -> int:
    """Return how many vectors there are now: of rows, or of their chunks."""
    sql = f"select count(*) from {tables.embeddings} where collection_id = ?"
    return int(conn.execute(sql, [collection.id]).fetchone()[0])


def counts_differ(conn: sqlite3.Connection, collection: Collection, tables: Tables) -> bool:
    """Tell whether there are other vectors than the last build left."""
    if collection.chunk:
        lost = (
            f"select 1 from {tables.chunks} c left join {tables.embeddings} e "
            "on e.collection_id = c.collection_id and e.id = c.id where c.collection_id = ? and e.id is null limit 1"
        )
        if conn.execute(lost, [collection.id]).fetchone():
            return True
    return count_embedded(conn, collection, tables) != collection.embedded


def _of_row(collection: Collection, row: str) -> tuple[str, list[object]]:
    """Return the condition that finds the items of one row in `embeddings`, and its parameters."""
    if collection.chunk:
        return f"collection_id = ?1 and {own_chunks('?2')}", [collection.id, row]
    return "collection_id = ? and id = ?", [collection.id, row]


def has_item(conn: sqlite3.Connection, collection: Collection, row: str, tables: Tables) -> bool:
    """Tell whether a collection holds a row, whatever its embedding is."""
    where, values = _of_row(collection, row)
    return conn.execute(f"select 1 from {tables.embeddings} where {where}", values).fetchone() is not None


def item_vector(conn: sqlite3.Connection, collection: Collection, row: str, tables: Tables) -> bytes | None:
    """Return the embedding of one row, of one in chunks the normalised mean of theirs; None when it has none."""
    where, values = _of_row(collection, row)
    found = conn.execute(f"select embedding from {tables.embeddings} where {where} order by id", values).fetchall()
    if not collection.chunk:
        return found[0][0] if found else None
    return mean_direction([blob for (blob,) in found])


def item_texts(
    conn: sqlite3.Connection, collection: Collection, items: Sequence[str], tables: Tables
) -> dict[str, str | None]:
    """Return the stored text of some items (rows, or chunks of rows), None where none is stored."""
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
    """Return the rows whose vector changed after the similarities were written, by us or by another program."""
    ours = conn.execute(f"select id from {tables.embeddings_changes} where collection_id = ?", [collection.id])
    others = conn.execute(
        f"select id from {tables.embeddings} where collection_id = ? and updated > cast(strftime('%s', ?) as integer)",
        [collection.id, collection.built],
    )
    return {collection.row_of(row[0]) for found in (ours, others) for row in found}
