"""Whether one row is embedded as it is now, or why not and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from datasette_embeddings.labels import joinable
from datasette_embeddings.rows import meets_condition, source_row
from datasette_embeddings.sources import content_hash, content_of
from datasette_embeddings.state import AGAIN
from datasette_embeddings.tables import has_own_tables

if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables


class RowState(NamedTuple):
    """*status*: current, edited, new, skipped, failed, gone (from the source) or unknown (no such item or row).

    *note*: what to tell people, and what to do; empty where all is well.
    """

    status: str
    note: str = ""


def row_state(conn: sqlite3.Connection, tables: Tables, collection: Collection, item: str) -> RowState:
    """Return the state of an item of a collection."""
    stored = conn.execute(stored_hash(tables, collection), [collection.id, item]).fetchone()
    again = AGAIN.get(collection.owner, AGAIN["config"])
    if not joinable(conn, collection):
        return RowState("unknown" if stored is None else "current")
    row = source_row(conn, collection, item)
    if row is None:
        gone = RowState("gone", f"its row is not in the table any more: {again}")
        return RowState("unknown") if stored is None else gone
    if stored is None and not meets_condition(conn, collection, item):
        return RowState("unknown")
    if stored is None:
        return _without_vector(conn, tables, collection, item, again)
    if collection.owner == "llm" or text_hash(collection, row) in {None, stored[0]}:
        return RowState("current")
    earlier = "picture" if collection.images else "text"
    return RowState(
        "edited", f"this row was edited since the last build, and what is related is of its earlier {earlier}: {again}"
    )


def stored_hash(tables: Tables, collection: Collection) -> str:
    """Return the SQL that gives the hash of a row's text when it was embedded; its parameters: collection and row."""
    if collection.chunk:
        return f"select row_hash from {tables.chunks} where collection_id = ? and parent_id = ? limit 1"
    return f"select content_hash from {tables.embeddings} where collection_id = ? and id = ?"


def _without_vector(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, item: str, again: str
) -> RowState:
    if has_own_tables(conn, tables):
        sql = f"select status, reason from {tables.embeddings_issues} where collection_id = ? and id = ?"
        issue = conn.execute(sql, [collection.id, item]).fetchone()
        if issue:
            return RowState(issue[0], f"this row has no embedding ({issue[1]}), so nothing is related to it")
    return RowState("new", f"this row is not embedded yet: {again}")


def text_hash(collection: Collection, row: dict[str, Any]) -> bytes | None:
    """Return the hash of what would be embedded of a row now; None where that cannot be told."""
    content = content_of(collection, row)
    return None if content is None else content_hash(content)
