"""The canned queries of every collection: plain SQL that a person can read, copy and change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasette_embeddings.catalog import Collection, collections
from datasette_embeddings.database import literal, quote
from datasette_embeddings.keys import UNTYPED, declared_types, matches, plain_or_quoted, row_condition
from datasette_embeddings.labels import joinable, key_parts, label_column
from datasette_embeddings.limits import DEFAULT_K, NEAR_IDENTICAL
from datasette_embeddings.tables import Tables, find_tables

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence


@dataclass(frozen=True)
class Query:
    """One canned query."""

    name: str
    sql: str
    title: str
    description: str
    collection: str
    parameters: tuple[str, ...] = ("q",)


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
            found += [query(conn, tables, collection) for query in (hybrid_query, search_query, related_query)]
            if collection.similarities:
                found.append(duplicates_query(conn, tables, collection))
    return found


def search_query(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Query:
    """Return `search_c(q)`."""
    return Query(
        f"search_{collection.name}",
        search_sql(conn, tables, collection, "embed_search"),
        f"Search {collection.name} by meaning",
        f"The {DEFAULT_K} rows of {collection.name} whose meaning is nearest to q. The score is a cosine similarity: "
        "1 is the same, 0 unrelated.",
        collection.name,
    )


def hybrid_query(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Query:
    """Return `hybrid_c(q)`."""
    return Query(
        f"hybrid_{collection.name}",
        search_sql(conn, tables, collection, "embed_hybrid"),
        f"Search {collection.name} by words and meaning",
        f"The {DEFAULT_K} rows of {collection.name} nearest to q, by its words and its meaning together. The score is a cosine "
        "similarity, raised where a row holds the query's own words.",
        collection.name,
    )


def search_sql(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    function: str,
    k: int = DEFAULT_K,
    among: str = "",
) -> str:
    """Return the SQL of a search for :q by one of our functions; *among*: SQL that gives the ids to search, as JSON."""
    found = alias("found", collection)
    item = f"json_extract({found}.value, '$.id')"
    part = _part(tables, collection, f"json_extract({found}.value, '$.chunk')")
    join = join_source(conn, tables, collection, item, f"json_extract({found}.value, '$.chunk')")
    ids = f", (\n  {among}\n)" if among else ""
    return _lines(
        "select",
        _columns(f"{item} as id", f"json_extract({found}.value, '$.score') as score", *part.columns, *join.columns),
        f"from json_each({function}({literal(collection.name)}, :q, {k}{ids})) as {found}",
        part.clause,
        join.clause,
        f"order by score desc, {item}",
    )


def _part(tables: Tables, collection: Collection, chunk: str) -> Join:
    """Return the join that tells which chunk of a row was found, and under which headings; none where rows are whole."""
    if not collection.chunk:
        return Join((), "")
    name = alias("chunks", collection)
    return Join(
        (f"{chunk} as chunk", f"{name}.heading as heading"),
        f"left join {shown(tables.plain('chunks'), name)} on {name}.id = {chunk}\n"
        f"  and {name}.collection_id = {collection_id(tables, collection)}",
    )


def ids_of_rows(conn: sqlite3.Connection, collection: Collection, conditions: Sequence[str]) -> str:
    """Return SQL that gives the ids of the source's rows that meet all conditions, as a JSON array."""
    table = plain_or_quoted(str(collection.table))
    return f"select json_group_array({item_of_row(conn, collection)}) from {table} where {' and '.join(conditions)}"


def item_of_row(conn: sqlite3.Connection, collection: Collection) -> str:
    """Return SQL that gives the item id of a row of the source."""
    table = plain_or_quoted(str(collection.table))
    parts = [f"{table}.{plain_or_quoted(column)}" for column in collection.key]
    if len(parts) > 1:
        return f"embed_id({', '.join(parts)})"
    kind = declared_types(conn, str(collection.table)).get(collection.key[0], "INTEGER")
    return f"cast({parts[0]} as text)" if UNTYPED.match(kind) else parts[0]


STATE_COLUMNS = ("dimensions", "rows", "embedded", "skipped", "failed", "similarities", "generation", "built")


def state_sql(tables: Tables, *, ours: bool, one: bool) -> str:
    """Return the SQL that shows the state of all collections, or of *one*, :collection. *ours*: not all were made by llm."""
    names = plain_or_quoted(tables.plain("collections"))
    state = plain_or_quoted(tables.plain("embeddings_collections"))
    columns = [f"{state}.{plain_or_quoted(column)}" for column in STATE_COLUMNS] if ours else []
    return _lines(
        "select",
        _columns(f"{names}.name", f"{names}.model", *columns),
        f"from {names}",
        f"left join {state} on {state}.collection_id = {names}.id" if ours else "",
        f"where {names}.name = :collection" if one else f"order by {names}.name",
    )


def duplicates_query(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Query:
    """Return `duplicates_c()`: each pair once, by the index that holds such pairs only."""
    pair = alias("similarities", collection)
    table = shown(tables.plain("similarities"), pair)
    here = f"collection_id = {collection_id(tables, collection)}"
    labels = _labels(conn, tables, collection, pair)
    sql = _lines(
        "select",
        _columns(
            f"{pair}.id as id",
            f"{pair}.other_id as other_id",
            f"{pair}.score as score",
            *(label.column for label in labels),
        ),
        f"from {table}",
        *(label.clause for label in labels),
        f"where {pair}.{here}",
        f"  and {pair}.score >= {NEAR_IDENTICAL}",
        f"  and ({pair}.id < {pair}.other_id or not exists (",
        f"    select 1 from {plain_or_quoted(tables.plain('similarities'))} as reverse",
        f"    where reverse.id = {pair}.other_id and reverse.collection_id = {pair}.collection_id and reverse.other_id = {pair}.id",
        "  ))",
        f"order by {pair}.score desc, {pair}.id, {pair}.other_id",
    )
    return Query(
        f"duplicates_{collection.name}",
        sql,
        f"Near-identical {collection.name}",
        f"Pairs of {collection.name} that say almost the same, such as a wire story in two papers: a similarity of "
        f"{NEAR_IDENTICAL} or more among the nearest rows of each.",
        collection.name,
        (),
    )


@dataclass(frozen=True)
class Label:
    """A column that says which row one side of a pair is, and the join that finds it."""

    column: str
    clause: str


def _labels(conn: sqlite3.Connection, tables: Tables, collection: Collection, pair: str) -> list[Label]:
    """Return the label columns of both sides of a pair, where the source is a table that can be joined."""
    column = label_column(conn, collection)
    if column is None:
        return []
    kinds, table = declared_types(conn, str(collection.table)), plain_or_quoted(str(collection.table))
    found = []
    for side, prefix, other in (("id", "one", ""), ("other_id", "other", "other_")):
        item = f"{pair}.{side}"
        condition = " and ".join(
            matches(f"{prefix}.{plain_or_quoted(name)}", kinds.get(name, "INTEGER"), part)
            for name, part in zip(collection.key, key_parts(collection, item), strict=True)
        )
        name = plain_or_quoted(
            other + (column if column.lower() not in {"id", "score", "other_id"} else f"row_{column}")
        )
        found.append(Label(f"{prefix}.{plain_or_quoted(column)} as {name}", f"join {table} as {prefix} on {condition}"))
    return found


def related_query(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Query:
    """Return `related_c(id)`: from the stored similarities, or computed where there are none."""
    return Query(
        f"related_{collection.name}",
        related_sql(conn, tables, collection, usual_number(collection)),
        f"Related {collection.name}",
        f"The rows of {collection.name} nearest in meaning to the one with this id.",
        collection.name,
        ("id",),
    )


def usual_number(collection: Collection) -> int:
    """Return how many related items are shown: as many as are stored, DEFAULT_K at most."""
    return min(DEFAULT_K, collection.similarities or DEFAULT_K)


def related_sql(conn: sqlite3.Connection, tables: Tables, collection: Collection, k: int) -> str:
    """Return the SQL that gives the *k* nearest rows of the one with :id."""
    return (_stored if collection.stores_related(k) else _computed)(conn, tables, collection, k)


def _stored(conn: sqlite3.Connection, tables: Tables, collection: Collection, k: int) -> str:
    similar = alias("similarities", collection)
    join = join_source(conn, tables, collection, f"{similar}.other_id")
    return _lines(
        "select",
        _columns(f"{similar}.other_id as id", f"{similar}.score as score", *join.columns),
        f"from {shown(tables.plain('similarities'), similar)}",
        join.clause,
        f"where {similar}.collection_id = {collection_id(tables, collection)}",
        f"  and {similar}.id = :id",
        f"order by {similar}.score desc, {similar}.other_id",
        f"limit {k}",
    )


def _computed(conn: sqlite3.Connection, tables: Tables, collection: Collection, k: int) -> str:
    found = alias("found", collection)
    item = f"json_extract({found}.value, '$.id')"
    join = join_source(conn, tables, collection, item)
    return _lines(
        "select",
        _columns(f"{item} as id", f"json_extract({found}.value, '$.score') as score", *join.columns),
        f"from json_each(embed_search({literal(collection.name)}, (",
        *_vector_of_row(tables, collection),
        f"), {k + 1})) as {found}",
        join.clause,
        f"where {item} != :id",
        f"order by score desc, {item}",
        f"limit {k}",
    )


def _vector_of_row(tables: Tables, collection: Collection) -> tuple[str, ...]:
    """Return the lines of SQL that give the vector of the row :id, of one in chunks the mean of theirs."""
    embeddings = plain_or_quoted(tables.plain("embeddings"))
    here = f"where collection_id = {collection_id(tables, collection)}"
    if not collection.chunk:
        return f"  select embedding from {embeddings}", f"  {here} and id = :id"
    chunks = plain_or_quoted(tables.plain("chunks"))
    return (
        f"  select embed_average(embedding) from {embeddings}",
        f"  {here} and id in (select id from {chunks} {here} and parent_id = :id)",
    )


def collection_id(tables: Tables, collection: Collection) -> str:
    """Return the SQL that names a collection in our tables; ids may repeat between collections."""
    return f"(select id from {plain_or_quoted(tables.plain('collections'))} where name = {literal(collection.name)})"


def join_source(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, item: str, chunk: str | None = None
) -> Join:
    """Return the join from an item's id to the row it was made of, by the source's own key and index.

    Where there is none, to what is stored: of a row in chunks to the text of *chunk*, its first unless told.
    """
    if not joinable(conn, collection):
        if collection.chunk:
            item = chunk or _first_chunk(tables, collection, item)
        return _join_embeddings(tables, collection, item)
    table = str(collection.table)
    condition = row_condition(conn, table, collection.key, key_parts(collection, item))
    return Join(tuple(_own_columns(conn, table, collection)), f"join {plain_or_quoted(table)} on {condition}")


def _first_chunk(tables: Tables, collection: Collection, row: str) -> str:
    """Return SQL for the first chunk of a row that has a vector."""
    name, here = plain_or_quoted(tables.plain("chunks")), collection_id(tables, collection)
    return (
        f"(select {name}.id from {name} where collection_id = {here} and parent_id = {row} order by position limit 1)"
    )


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
        clash = column.lower() in ({"id", "score", "chunk", "heading"} if collection.chunk else {"id", "score"})
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
