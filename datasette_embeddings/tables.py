"""Names of the tables that this package keeps in a database, and finding them there. `schema` makes them.

`collections` and `embeddings` are those of the `llm` tool (0.36); everything else is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasette_embeddings.database import column_names, quote, table_names

if TYPE_CHECKING:
    import sqlite3

LLM_COLUMNS = {
    "collections": {"id", "name", "model"},
    "embeddings": {"collection_id", "id", "embedding", "content", "content_hash", "metadata", "updated"},
}
PEER_COLUMNS = {"embeddings": {"id", "embedding"}, "similarities": {"id", "other_id", "score"}}
"""Tables of openai-to-sqlite, which have the names of two of ours."""

MARKER = "embeddings_collections"


@dataclass(frozen=True)
class Tables:
    """The names of our tables under a prefix (empty unless the file has other tables of these names)."""

    prefix: str = ""

    def __getattr__(self, name: str) -> str:
        """Return the quoted name of a table or index, for use in SQL."""
        if name.startswith("__"):
            raise AttributeError(name)
        return quote(self.prefix + name)

    def plain(self, name: str) -> str:
        """Return the unquoted name."""
        return self.prefix + name


SIGNATURES = {
    "chunks": "row_hash",
    "clusters": "terms",
    "cluster_members": "cluster",
    "projections": "x",
    "labels": "embedding",
    "predictions": "margin",
    "thumbnails": "collection_id",
}
"""Tables of common names that came later, and a column by which ours are told from those of the file's owner."""

NAMES = (
    "collections",
    "embeddings",
    "idx_collections_name",
    "idx_embeddings_content_hash",
    "embeddings_collections",
    "embeddings_issues",
    "embeddings_changes",
    "embeddings_builds",
    "embeddings_documents",
    "embeddings_duplicates",
    "embeddings_sketches",
    "embeddings_sketch_parts",
    "similarities",
    "chunks",
    "idx_chunks_parent_id",
    "clusters",
    "cluster_members",
    "idx_cluster_members_cluster",
    "projections",
    "embeddings_projections",
    "labels",
    "predictions",
    "idx_predictions_label",
    "embeddings_reserve",
    "thumbnails",
)


def own_tables(conn: sqlite3.Connection, tables: Tables) -> list[str]:
    """Return the names of our tables, and those of llm, that a file has."""
    existing = table_names(conn)
    ours = [name for name in NAMES if SIGNATURES.get(name, "") in {"", *column_names(conn, tables.plain(name))}]
    return [tables.plain(name) for name in ours if tables.plain(name) in existing]


def find_tables(conn: sqlite3.Connection) -> Tables | None:
    """Return the names of our tables in this file, made by us (under any prefix) or by llm; None when there are none."""
    marked = conn.execute(
        "select name from sqlite_master where type = 'table' and name like '%' || ?", [MARKER]
    ).fetchall()
    prefixes = sorted((name[: -len(MARKER)] for (name,) in marked), key=len)
    for prefix in prefixes:
        if {"collection_id", "fingerprint"} <= set(column_names(conn, prefix + MARKER)):
            return Tables(prefix)
    return Tables() if is_llm(conn) else None


def is_llm(conn: sqlite3.Connection) -> bool:
    """Tell whether the file has llm's two tables."""
    return all(wanted <= set(column_names(conn, table)) for table, wanted in LLM_COLUMNS.items())


def has_own_tables(conn: sqlite3.Connection, tables: Tables) -> bool:
    """Tell whether the file has our bookkeeping beside llm's two tables."""
    return tables.plain(MARKER) in table_names(conn)
