"""The canned queries of every collection: plain SQL that a person can read, copy and change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasette_embeddings.catalog import Collection, collections
from datasette_embeddings.database import column_names, literal, quote, table_names
from datasette_embeddings.keys import plain_or_quoted, row_condition
from datasette_embeddings.limits import DEFAULT_K
from datasette_embeddings.tables import Tables, find_tables

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True)
class Query:
    """One canned query."""

    name: str
    sql: str
    title: str
    description: str
    collection: str


@dataclass(frozen=True)
class Join:
    """How results find the rows of their source: columns to show, and what to join where there is a table."""

    columns: tuple[str, ...]
    clause: str


def queries_of(conn: sqlite3.Connection) -> list[Query]:
    """Return the canned queries of every collection of a database whose name can be part of a query's name."""
    tables = find_tables(conn)
    if tables is None:
        return []
    found = []
    for collection in collections(conn, tables):
        if collection.queryable:
            found += [search_query(conn, tables, collection), related_query(conn, tables, collection)]
    return found


def search_query(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Query:
    """Return `search_c(q)`."""
    found = alias("found", collection)
    item = f"json_extract({found}.value, '$.id')"
    join = join_source(conn, tables, collection, item)
    sql = _lines(
        "select",
        _columns(f"{item} as id", *join.columns, f"json_extract({found}.value, '$.score') as score"),
        f"from json_each(embed_search({literal(collection.name)}, :q, {DEFAULT_K})) as {found}",
        join.clause,
        f"order by score desc, {item}",
    )
    return Query(
        f"search_{collection.name}",
        sql,
        f"Search {collection.name} by meaning",
        f"The {DEFAULT_K} rows of {collection.name} whose meaning is nearest to q. The score is a cosine similarity: "
        "1 is the same, 0 unrelated.",
        collection.name,
    )


def related_query(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Query:
    """Return `related_c(id)`: from the stored similarities, or computed where there are none."""
    sql = _stored(conn, tables, collection) if collection.similarities else _computed(conn, tables, collection)
    return Query(
        f"related_{collection.name}",
        sql,
        f"Related {collection.name}",
        f"The rows of {collection.name} nearest in meaning to the one with this id.",
        collection.name,
    )


def _stored(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> str:
    similar = alias("similarities", collection)
    join = join_source(conn, tables, collection, f"{similar}.other_id")
    return _lines(
        "select",
        _columns(f"{similar}.other_id as id", *join.columns, f"{similar}.score as score"),
        f"from {shown(tables.plain('similarities'), similar)}",
        join.clause,
        f"where {similar}.collection_id = {collection_id(tables, collection)}",
        f"  and {similar}.id = :id",
        f"order by {similar}.score desc, {similar}.other_id",
        f"limit {DEFAULT_K}",
    )


def _computed(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> str:
    found = alias("found", collection)
    item = f"json_extract({found}.value, '$.id')"
    join = join_source(conn, tables, collection, item)
    embeddings = plain_or_quoted(tables.plain("embeddings"))
    return _lines(
        "select",
        _columns(f"{item} as id", *join.columns, f"json_extract({found}.value, '$.score') as score"),
        f"from json_each(embed_search({literal(collection.name)}, (",
        f"  select embedding from {embeddings}",
        f"  where collection_id = {collection_id(tables, collection)} and id = :id",
        f"), {DEFAULT_K + 1})) as {found}",
        join.clause,
        f"where {item} != :id",
        f"order by score desc, {item}",
        f"limit {DEFAULT_K}",
    )


def collection_id(tables: Tables, collection: Collection) -> str:
    """Return the SQL that names a collection in our tables; ids may repeat between collections."""
    return f"(select id from {plain_or_quoted(tables.plain('collections'))} where name = {literal(collection.name)})"


def join_source(conn: sqlite3.Connection, tables: Tables, collection: Collection, item: str) -> Join:
    """Return the join from an item's id to the row it was made of, by the source's own key and index."""
    table = collection.table
    if table is None or table not in table_names(conn) or not collection.key:
        return _join_embeddings(tables, collection, item)
    known = column_names(conn, table)
    if any(column not in known for column in collection.key if column != "rowid"):
        return _join_embeddings(tables, collection, item)
    name = plain_or_quoted(table)
    parts = [item] if len(collection.key) == 1 else [f"embed_key({item}, {n})" for n in range(len(collection.key))]
    condition = row_condition(conn, table, collection.key, parts)
    return Join(tuple(_own_columns(conn, table, collection)), f"join {name} on {condition}")


def _join_embeddings(tables: Tables, collection: Collection, item: str) -> Join:
    embeddings = plain_or_quoted(tables.plain("embeddings"))
    return Join(
        (f"{embeddings}.content", f"{embeddings}.metadata"),
        f"join {embeddings} on {embeddings}.collection_id = {collection_id(tables, collection)} "
        f"and {embeddings}.id = {item}",
    )


def _own_columns(conn: sqlite3.Connection, table: str, collection: Collection) -> list[str]:
    """Return the row's own columns; those named as ours get a second name, BLOBs and the key shown as id are left out."""
    chosen = []
    for _, column, kind, *_rest in conn.execute(f"pragma table_xinfo({quote(table)})").fetchall():
        if "BLOB" in (kind or "").upper() or (column.lower() == "id" and collection.key == (column,)):
            continue
        name = f"{plain_or_quoted(table)}.{plain_or_quoted(column)}"
        clash = column.lower() in {"id", "score"}
        chosen.append(f"{name} as {plain_or_quoted('row_' + column)}" if clash else name)
    return chosen


def alias(name: str, collection: Collection) -> str:
    """Return what a query calls one of its tables: *name*, or another one where the source has that name."""
    return f"{name}_" if (collection.table or "").lower() == name else name


def shown(name: str, alias: str) -> str:
    """Return a table under the alias that the query uses for it."""
    return plain_or_quoted(name) if name == alias else f"{plain_or_quoted(name)} as {alias}"


def _columns(*columns: str) -> str:
    return ",\n".join(f"  {column}" for column in columns)


def _lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)
