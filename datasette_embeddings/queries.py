"""The canned queries of every collection: plain SQL that a person can read, copy and change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasette_embeddings.catalog import Collection, collections
from datasette_embeddings.database import literal, quote
from datasette_embeddings.keys import UNTYPED, declared_types, matches, plain_or_quoted, row_condition
from datasette_embeddings.labelling import column_of
from datasette_embeddings.labels import joinable, key_parts, label_column
from datasette_embeddings.limits import DEFAULT_K, NEAR_IDENTICAL
from datasette_embeddings.tables import Tables, find_tables

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection as Names
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Query:
    """One canned query. *items*, *clusters*: the columns of its results that hold ids of items, and numbers of clusters."""

    name: str
    sql: str
    title: str
    description: str
    collection: str
    parameters: tuple[str, ...] = ("q",)
    items: tuple[str, ...] = ("id",)
    clusters: tuple[str, ...] = ()


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
            first = images_query if collection.images else hybrid_query
            found += [query(conn, tables, collection) for query in (first, search_query, related_query)]
            if collection.similarities:
                found.append(duplicates_query(conn, tables, collection))
            if collection.clusters:
                found += [clusters_query(conn, tables, collection), cluster_query(conn, tables, collection)]
            if collection.projection:
                found.append(projection_query(conn, tables, collection))
            if collection.labels:
                found += [classify_query(tables, collection), predictions_query(conn, tables, collection)]
            if holds_words(collection):
                found.append(arithmetic_query(tables, collection))
    return found


def search_query(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Query:
    """Return `search_c(q)`."""
    return Query(
        f"search_{collection.name}",
        search_sql(conn, tables, collection, "embed_search"),
        f"Search {collection.name} by meaning",
        f"The {DEFAULT_K} {_items(collection)} whose meaning is nearest to q. The score is a cosine similarity: "
        "1 is the same, 0 unrelated.",
        collection.name,
    )


def _items(collection: Collection) -> str:
    return f"{'pictures' if collection.images else 'rows'} of {collection.name}"


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


def images_query(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Query:
    """Return `images_c(q)`, of a collection of pictures: no word of their rows is read."""
    return Query(
        f"images_{collection.name}",
        search_sql(conn, tables, collection, "embed_search"),
        f"Find pictures of {collection.name} by words",
        f"The {DEFAULT_K} pictures of {collection.name} nearest to q, as {collection.model} sees them; the text of their rows is not "
        "read. The score is a cosine similarity.",
        collection.name,
    )


def alike_sql(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    k: int,
    picked: int,
    names: Names[str],
    among: str = "",
) -> str:
    """Return the SQL of the *k* items nearest to what is liked, less what is not; *picked*: how many items are named, which are left out.

    *names*: which of these parameters there are: `q`, a text, `like` and `unlike`, JSON arrays of ids. *among*: as in `search_sql`.
    """
    found = alias("found", collection)
    item = f"json_extract({found}.value, '$.id')"
    join = join_source(conn, tables, collection, item)
    ids = f", (\n  {among}\n)" if among else ""
    without = [f"{item} not in (select value from json_each(:{name}))" for name in ("like", "unlike") if name in names]
    return _lines(
        "select",
        _columns(f"{item} as id", f"json_extract({found}.value, '$.score') as score", *join.columns),
        f"from json_each(embed_search({literal(collection.name)}, (",
        alike_vector(tables, collection, names),
        f"), {k + picked}{ids})) as {found}",
        join.clause,
        f"where {' and '.join(without)}",
        f"order by score desc, {item}",
        f"limit {k}",
    )


def alike_vector(tables: Tables, collection: Collection, names: Names[str]) -> str:
    """Return SQL for the mean of what is liked less half of the mean of what is not; *names*: as in `alike_sql`."""
    words = (
        f"select embed_scale(embed_query({literal(collection.name)}, :q), {WORDS_WEIGHT}) as embedding"
        if "q" in names
        else ""
    )
    liked = _vectors_of(tables, collection, "like") if "like" in names else ""
    both = f"{words}\n    union all\n    {liked}" if words and liked else words or liked
    mean = f"select embed_average(embedding) from (\n    {both}\n  )"
    if "unlike" not in names:
        return f"  {mean}"
    unliked = f"select embed_average(embedding) from (\n    {_vectors_of(tables, collection, 'unlike')}\n  )"
    return f"  select embed_subtract(\n  ({mean}),\n  embed_scale(({unliked}), {UNLIKE_WEIGHT}))"


WORDS_WEIGHT = 2
"""Words beside a picture count as two: similarities of words and pictures are spread less than those of pictures. Of "like this, but
copper" in the demonstration 77 percent of the first five then are copper and 39 have the shape; with 1 they are 37 and 63, by chance 8 and 10."""

UNLIKE_WEIGHT = 0.5
"""What is not liked, beside what is: with 1, pictures that resemble neither come first."""


def _vectors_of(tables: Tables, collection: Collection, name: str) -> str:
    return (
        f"select embedding from {plain_or_quoted(tables.plain('embeddings'))} "
        f"where collection_id = {collection_id(tables, collection)} and id in (select value from json_each(:{name}))"
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
    same = (
        "that look almost the same"
        if collection.images
        else "that say almost the same, such as a wire story in two papers"
    )
    return Query(
        f"duplicates_{collection.name}",
        sql,
        f"Near-identical {collection.name}",
        f"Pairs of {collection.name} {same}: a similarity of {NEAR_IDENTICAL} or more among the nearest rows of each.",
        collection.name,
        (),
        ("id", "other_id"),
    )


def clusters_query(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Query:
    """Return `clusters_c()`."""
    groups = alias("clusters", collection)
    columns = {name: f"{groups}.{name}" for name in ("cluster", "label", "size", "item")}
    called = _name_of_row(conn, tables, collection, columns["item"], columns)
    sql = _lines(
        "select",
        _columns(*(f"{value} as {name}" for name, value in columns.items()), *called.columns),
        f"from {shown(tables.plain('clusters'), groups)}",
        called.clause,
        f"where {groups}.collection_id = {collection_id(tables, collection)}",
        f"order by {groups}.size desc, {groups}.cluster",
    )
    return Query(
        f"clusters_{collection.name}",
        sql,
        f"Clusters of {collection.name}",
        f"The groups that the rows of {collection.name} fall into by meaning, the largest first: what sets each apart, how many rows "
        "it has, and the most central of them.",
        collection.name,
        (),
        ("item",),
        ("cluster",),
    )


def cluster_query(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Query:
    """Return `cluster_c(cluster)`."""
    members = alias("cluster_members", collection)
    join = join_source(conn, tables, collection, f"{members}.id")
    sql = _lines(
        "select",
        _columns(f"{members}.id as id", f"{members}.score as score", *join.columns),
        f"from {shown(tables.plain('cluster_members'), members)}",
        join.clause,
        f"where {members}.cluster = :cluster",
        f"  and {members}.collection_id = {collection_id(tables, collection)}",
        f"order by {members}.score desc, {members}.id",
    )
    return Query(
        f"cluster_{collection.name}",
        sql,
        f"One cluster of {collection.name}",
        f"The rows of {collection.name} in the cluster of this number, the most central first. The score is the cosine similarity "
        "to the middle of the cluster. Datasette shows the first 1,000, unless it is told otherwise.",
        collection.name,
        ("cluster",),
    )


def in_cluster(conn: sqlite3.Connection, tables: Tables, collection: Collection, cluster: int) -> str:
    """Return the condition that a row of the source is a member of a cluster; the row is found by its key."""
    members = plain_or_quoted(tables.plain("cluster_members"))
    where = f"where cluster = {cluster} and collection_id = {collection_id(tables, collection)}"
    if len(collection.key) == 1:
        return f"{item_of_row(conn, collection)} in (select id from {members} {where})"
    table = plain_or_quoted(str(collection.table))
    key = ", ".join(f"{table}.{plain_or_quoted(column)}" for column in collection.key)
    return f"({key}) in (select {', '.join(key_parts(collection, 'id'))} from {members} {where})"


def projection_query(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Query:
    """Return `projection_c()`; with the cluster of each point, where there are clusters."""
    points, members = alias("projections", collection), alias("cluster_members", collection)
    columns = {name: f"{points}.{name}" for name in ("id", "x", "y")}
    clause = ""
    if collection.clusters:
        columns["cluster"] = f"{members}.cluster"
        clause = (
            f"left join {shown(tables.plain('cluster_members'), members)} on {members}.id = {points}.id\n"
            f"  and {members}.collection_id = {points}.collection_id"
        )
    called = _name_of_row(conn, tables, collection, columns["id"], columns)
    sql = _lines(
        "select",
        _columns(*(f"{value} as {name}" for name, value in columns.items()), *called.columns),
        f"from {shown(tables.plain('projections'), points)}",
        clause,
        called.clause,
        f"where {points}.collection_id = {collection_id(tables, collection)}",
        f"order by {points}.id",
    )
    return Query(
        f"projection_{collection.name}",
        sql,
        f"Map of {collection.name}",
        f"Where the rows of {collection.name} stand on its map: near one another where they mean nearly the same. Datasette shows the "
        "first 1,000, unless it is told otherwise.",
        collection.name,
        (),
        ("id",),
        ("cluster",),
    )


def _name_of_row(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, item: str, taken: Iterable[str]
) -> Join:
    """Return the join to what a row is called, empty where there is no such row; *taken*: names of columns that the query has."""
    if not joinable(conn, collection):
        stored = join_source(conn, tables, collection, item)
        return Join(stored.columns[:1], f"left {stored.clause}")
    column = label_column(conn, collection)
    if column is None:
        return Join((), "")
    table = str(collection.table)
    name = f"{plain_or_quoted(table)}.{plain_or_quoted(column)}"
    renamed = f" as {plain_or_quoted('row_' + column)}" if column.lower() in taken else ""
    condition = row_condition(conn, table, collection.key, key_parts(collection, item))
    return Join((name + renamed,), f"left join {plain_or_quoted(table)} on {condition}")


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
        f"The pictures of {collection.name} that look most like the one with this id."
        if collection.images
        else f"The rows of {collection.name} nearest in meaning to the one with this id.",
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


def classify_query(tables: Tables, collection: Collection) -> Query:
    """Return `classify_c(q)`: no row for an empty text."""
    labels = plain_or_quoted(tables.plain("labels"))
    sql = _lines(
        f"with asked as (select embed_query({literal(collection.name)}, :q, 'document') as embedding)",
        "select",
        _columns(f"{labels}.label", f"round(embed_cosine({labels}.embedding, asked.embedding), 6) as score"),
        "from asked",
        f"join {labels} on {labels}.collection_id = {collection_id(tables, collection)}",
        "where asked.embedding is not null",
        f"order by score desc, {labels}.label",
    )
    return Query(
        f"classify_{collection.name}",
        sql,
        f"Classify by the labels of {collection.name}",
        f"The labels of {collection.name}, the one that q fits best first. The score is the cosine similarity to the average of the "
        "label's examples: its distance from the next says more than its height.",
        collection.name,
        items=(),
    )


def spectrum_sql(tables: Tables, collection: Collection) -> str:
    """Return the SQL that gives where each text of :sentences, a JSON array, lies between the labels :low and :high."""
    labels, here = plain_or_quoted(tables.plain("labels")), collection_id(tables, collection)
    low, high = (
        f"(select embedding from {labels} where collection_id = {here} and label = :{end})" for end in ("low", "high")
    )
    return _lines(
        "select",
        _columns(
            "value as sentence",
            f"round(embed_spectrum(\n    embed_query({literal(collection.name)}, value, 'document'),\n    {low},\n    {high}\n  ), 6) as spectrum",
        ),
        "from json_each(:sentences)",
    )


def predictions_query(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Query:
    """Return `predictions_c()`: of rows that have labels of their own, those alone whose label is another or none."""
    predicted = alias("predictions", collection)
    ours = ("id", "predicted", "score", "margin")
    join = join_source(conn, tables, collection, f"{predicted}.id", taken=ours)
    column = column_of(str(collection.labels))
    own = f"{plain_or_quoted(str(collection.table))}.{plain_or_quoted(column)}" if column else None
    sql = _lines(
        "select",
        _columns(
            f"{predicted}.id as id",
            f"{predicted}.label as predicted",
            f"{predicted}.score as score",
            f"{predicted}.margin as margin",
            *join.columns,
        ),
        f"from {shown(tables.plain('predictions'), predicted)}",
        join.clause,
        f"where {predicted}.collection_id = {collection_id(tables, collection)}",
        f"  and {own} is not {predicted}.label" if own and joinable(conn, collection) else "",
        f"order by {predicted}.margin desc, {predicted}.id",
    )
    which = f"that have another {column}, or none" if column else "by their examples"
    return Query(
        f"predictions_{collection.name}",
        sql,
        f"Predicted labels of {collection.name}",
        f"The rows of {collection.name} {which}, with the label that is predicted for them, the surest first: the margin is how much "
        "nearer it is than the next label.",
        collection.name,
        (),
    )


def holds_words(collection: Collection) -> bool:
    """Tell whether the items of a collection are words, each with its vector: those of word vectors whose text is their key."""
    columns = (collection.source or {}).get("columns", collection.key)
    return collection.model.startswith("words/") and not collection.chunk and tuple(columns) == collection.key


def arithmetic_query(tables: Tables, collection: Collection) -> Query:
    """Return `arithmetic_c(q)`: its words are looked up among the items, so no model is asked."""
    embeddings, here = plain_or_quoted(tables.plain("embeddings")), collection_id(tables, collection)
    name = literal(collection.name)
    sql = f"""
with tokens as (
  select key, value, ltrim(value, '+-') as word
  from json_each('[' || replace(json_quote(replace(:q, '−', '-')), ' ', '","') || ']')
),
terms as ( -- a word, and whether one of the signs before it, which may stand alone, is a minus
  select max(word) as word, max(instr(substr(value, 1, length(value) - length(word)), '-') > 0) as minus
  from (select *, count(nullif(word, '')) over (order by key desc) as nth from tokens)
  group by nth
  having max(word) != ''
),
found as ( -- as it is spelled, which sorts before lower case, or in lower case
  select word, minus, (
    select min(id) from {embeddings} where collection_id = {here} and id in (word, lower(word))
  ) as id
  from terms
),
total as (
  select
    embed_average(embed_scale(item.embedding, 1 - 2 * minus)) as embedding,
    count(distinct found.id) as words,
    'not among {collection.name}: ' || (
      select group_concat(word, ', ') from (select distinct word from found where id is null order by word)
    ) as unknown
  from found
  left join {embeddings} as item on item.collection_id = {here} and item.id = found.id
),
answer as (
  select *, coalesce(unknown, case when embed_dot(embedding, embedding) < 1e-12 then 'these words cancel each other out' end) as note
  from total
)
select null as id, null as score, note
from answer
where note is not null
union all
select json_extract(near.value, '$.id'), json_extract(near.value, '$.score'), null
from answer, json_each(case when note is null then embed_search({name}, embedding, {DEFAULT_K} + words) end) as near
where json_extract(near.value, '$.id') not in (select id from found)
order by score desc, id
limit {DEFAULT_K}"""
    return Query(
        f"arithmetic_{collection.name}",
        sql.strip(),
        f"Word arithmetic with {collection.name}",
        f"The {DEFAULT_K} words nearest to a sum of others, which are left out of the answer: germany + paris - france is what is "
        "to germany as paris is to france. A sign has a blank before it or stands first; words without one are added. Nothing is "
        "answered where a word is not there; the note names it.",
        collection.name,
    )


def collection_id(tables: Tables, collection: Collection) -> str:
    """Return the SQL that names a collection in our tables; ids may repeat between collections."""
    return f"(select id from {plain_or_quoted(tables.plain('collections'))} where name = {literal(collection.name)})"


def join_source(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    item: str,
    chunk: str | None = None,
    taken: Iterable[str] = (),
) -> Join:
    """Return the join from an item's id to the row it was made of, by the source's own key and index.

    Where there is none, to what is stored: of a row in chunks to the text of *chunk*, its first unless told. *taken*: names of columns
    that the query has, in lower case; those of every search are known.
    """
    if not joinable(conn, collection):
        if collection.chunk:
            item = chunk or _first_chunk(tables, collection, item)
        return _join_embeddings(tables, collection, item)
    table = str(collection.table)
    condition = row_condition(conn, table, collection.key, key_parts(collection, item))
    return Join(tuple(_own_columns(conn, table, collection, taken)), f"join {plain_or_quoted(table)} on {condition}")


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


def _own_columns(conn: sqlite3.Connection, table: str, collection: Collection, taken: Iterable[str] = ()) -> list[str]:
    """Return the row's own columns; those named as ours get a second name, BLOBs and the key shown as id are left out."""
    chosen = []
    for _, column, kind, *_rest in conn.execute(f"pragma table_xinfo({quote(table)})").fetchall():
        if "BLOB" in (kind or "").upper() or (column.lower() == "id" and collection.key == (column,)):
            continue
        name = f"{plain_or_quoted(table)}.{plain_or_quoted(column)}"
        clash = column.lower() in {*taken, "id", "score", *(("chunk", "heading") if collection.chunk else ())}
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
