"""Related rows at a glance: what a row's page asks of one collection, prepared once so that the page stays quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from datasette_embeddings.database import item_id, quote, table_key
from datasette_embeddings.freshness import RowState, row_state, text_hash
from datasette_embeddings.fulltext import embedded_columns
from datasette_embeddings.keys import row_condition
from datasette_embeddings.labels import joinable, label_column
from datasette_embeddings.results import results_of
from datasette_embeddings.search import related_items

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables


class Neighbor(NamedTuple):
    """A related row: its item id, its score and what it is called."""

    id: str
    score: float
    title: str


@dataclass(frozen=True)
class Glance:
    """One collection made from a table, and the SQL that finds what is related to a row of it.

    *key*: of the table. *related* is None where nothing is stored, or titles are not to be had by a join.
    """

    tables: Tables
    collection: Collection
    key: tuple[str, ...]
    label: str | None
    related: str | None
    row: str | None

    def item(self, conn: sqlite3.Connection, values: Sequence[str]) -> str | None:
        """Return the item of the row that has these key values, which an address may spell otherwise than the row does."""
        if len(self.key) != len(values):
            return None
        table = str(self.collection.table)
        chosen = ", ".join(quote(column) for column in self.collection.key)
        where = " and ".join(f"{quote(column)} = ?" for column in self.key)
        row = conn.execute(f"select {chosen} from {quote(table)} where {where}", list(values)).fetchone()
        return item_id(row) if row else None

    def neighbors(self, conn: sqlite3.Connection, item: str, k: int) -> list[Neighbor]:
        """Return the *k* rows nearest to an item."""
        if self.related and self.collection.stores_related(k):
            rows = conn.execute(self.related, [item, self.collection.id, k])
            return [Neighbor(other, score, _title(other, title)) for other, score, title in rows]
        hits = related_items(conn, self.tables, self.collection, item, k)
        found = results_of(conn, self.tables, self.collection, hits, label=self.label)
        return [Neighbor(result.id, result.score, result.title) for result in found]

    def state(self, conn: sqlite3.Connection, item: str) -> RowState:
        """Return whether the row is embedded as it is now."""
        if self.row and self._is_current(conn, item):
            return RowState("current")
        return row_state(conn, self.tables, self.collection, item)

    def _is_current(self, conn: sqlite3.Connection, item: str) -> bool:
        cursor = conn.execute(str(self.row), [item, self.collection.id])
        found = cursor.fetchone()
        if found is None:
            return False
        names = [column[0] for column in cursor.description[1:]]
        return found[0] is not None and text_hash(self.collection, dict(zip(names, found[1:], strict=True))) == found[0]


def _title(item: str, value: Any) -> str:  # noqa: ANN401
    return item if value is None or isinstance(value, bytes) or value == "" else str(value)


def glance(conn: sqlite3.Connection, tables: Tables, collection: Collection, label: str | None) -> Glance:
    """Return what is prepared for a collection. *label*: the column that names a row, where the site says which."""
    table = str(collection.table)
    key = table_key(conn, table).columns if joinable(conn, collection) else ()
    label = label or label_column(conn, collection)
    if len(key) != 1 or key != collection.key:
        return Glance(tables, collection, key, label, None, None)
    condition = row_condition(conn, table, key, ["s.other_id"])
    shown = f"{quote(table)}.{quote(label)}" if label else "null"
    related = (
        f"select s.other_id, s.score, {shown} from {tables.similarities} s join {quote(table)} on {condition} "
        "where s.id = ? and s.collection_id = ? order by s.score desc, s.other_id limit ?"
    )
    columns = ", ".join(f"{quote(table)}.{quote(column)}" for column in embedded_columns(collection))
    ours, item, digest = (
        (tables.chunks, "e.parent_id", "e.row_hash")
        if collection.chunk
        else (tables.embeddings, "e.id", "e.content_hash")
    )
    condition = row_condition(conn, table, key, [item])
    row = (
        f"select {digest}, {columns} from {ours} e join {quote(table)} on {condition} "
        f"where {item} = ? and e.collection_id = ? limit 1"
    )
    return Glance(
        tables, collection, key, label, related if collection.similarities else None, row if columns else None
    )
