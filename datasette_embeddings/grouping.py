"""The clusters of a collection, read for people: the largest first, each with its most central items."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from datasette_embeddings.chunks import stored_texts
from datasette_embeddings.database import quote
from datasette_embeddings.keys import row_condition
from datasette_embeddings.labels import joinable, key_parts, label_column
from datasette_embeddings.limits import MAX_K
from datasette_embeddings.queries import alias
from datasette_embeddings.rows import shorten

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables


class Member(NamedTuple):
    """An item of a cluster, and its score to the cluster's middle. *text*: of one that has no row to take a title from."""

    id: str
    score: float
    title: str
    text: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the item for JSON."""
        shown = {"id": self.id, "score": self.score, "title": self.title}
        return {**shown, "text": self.text} if self.text else shown


@dataclass(frozen=True)
class Cluster:
    """A group of items: its name, how many it has, the terms that set it apart, and its most central items."""

    number: int
    label: str
    size: int
    terms: tuple[str, ...] = ()
    central: tuple[Member, ...] = ()

    @property
    def further_terms(self) -> list[str]:
        """The terms that its name does not have."""
        return [term for term in self.terms if term not in self.label]


def brief(cluster: Cluster) -> dict[str, Any]:
    """Return a cluster without its items, for JSON."""
    return {"cluster": cluster.number, "label": cluster.label, "size": cluster.size}


def count_clusters(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> int:
    """Return how many clusters a collection has; 0 where none were made."""
    if not collection.clusters:
        return 0
    sql = f"select count(*) from {tables.clusters} where collection_id = ?"
    return int(conn.execute(sql, [collection.id]).fetchone()[0])


def largest(conn: sqlite3.Connection, tables: Tables, collection: Collection, number: int = MAX_K) -> list[Cluster]:
    """Return the largest clusters, without their items."""
    if not collection.clusters:
        return []
    rows = conn.execute(
        f"select cluster, label, size, terms from {tables.clusters} where collection_id = ? order by size desc, cluster limit ?",
        [collection.id, number],
    )
    return [_cluster(row) for row in rows]


def find_cluster(conn: sqlite3.Connection, tables: Tables, collection: Collection, number: int) -> Cluster | None:
    """Return the cluster of that number, without its items."""
    if not collection.clusters or abs(number) >= 2**63:
        return None
    sql = f"select cluster, label, size, terms from {tables.clusters} where collection_id = ? and cluster = ?"
    row = conn.execute(sql, [collection.id, number]).fetchone()
    return _cluster(row) if row else None


def cluster_of(conn: sqlite3.Connection, tables: Tables, collection: Collection, item: str) -> Cluster | None:
    """Return the cluster that an item is in, without its items."""
    if not collection.clusters:
        return None
    row = conn.execute(
        f"select c.cluster, c.label, c.size, c.terms from {tables.cluster_members} m join {tables.clusters} c "
        "on c.collection_id = m.collection_id and c.cluster = m.cluster where m.collection_id = ? and m.id = ?",
        [collection.id, item],
    ).fetchone()
    return _cluster(row) if row else None


def _cluster(row: tuple[Any, ...]) -> Cluster:
    number, label, size, terms = row
    return Cluster(number, label or f"Cluster {number}", size, _terms(terms))


def _terms(text: str | None) -> tuple[str, ...]:
    try:
        terms = json.loads(text or "[]")
    except ValueError:  # another program's row
        return ()
    return tuple(str(term) for term in terms) if isinstance(terms, list) else ()


def with_items(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    clusters: Sequence[Cluster],
    k: int,
    label: str | None = None,
) -> list[Cluster]:
    """Return clusters with their *k* most central items; those whose source row is gone are left out.

    *label*: the column that names a row, where the site says which.
    """
    sql = (
        f"select id, score from {tables.cluster_members} where collection_id = ? and cluster = ? "
        "order by score desc, id limit ?"
    )
    found = [conn.execute(sql, [collection.id, cluster.number, k]).fetchall() for cluster in clusters]
    items = [item for members in found for item, _ in members]
    named = titles(conn, collection, items, label)
    texts = stored_texts(conn, tables, collection, items) if named is None else {}

    def members_of(rows: Iterable[tuple[str, float]]) -> tuple[Member, ...]:
        if named is None:
            return tuple(Member(item, score, item, shorten(texts.get(item))) for item, score in rows)
        return tuple(Member(item, score, named[item]) for item, score in rows if item in named)

    return [
        Cluster(one.number, one.label, one.size, one.terms, members_of(rows))
        for one, rows in zip(clusters, found, strict=True)
    ]


def titles(
    conn: sqlite3.Connection, collection: Collection, items: Sequence[str], label: str | None = None
) -> dict[str, str] | None:
    """Return what the rows of items are called, those that are still there; None where there is no table to look in."""
    if not joinable(conn, collection):
        return None
    wanted, table, column = alias("wanted", collection), str(collection.table), label or label_column(conn, collection)
    condition = row_condition(conn, table, collection.key, key_parts(collection, f"{wanted}.value"))
    title = f"{quote(table)}.{quote(column)}" if column else "null"
    sql = f"select {wanted}.value, {title} from json_each(?) as {wanted} join {quote(table)} on {condition}"
    return {item: _title(item, value) for item, value in conn.execute(sql, [json.dumps(list(items))])}


def _title(item: str, value: object) -> str:
    return item if value is None or isinstance(value, bytes) else shorten(str(value)) or item
