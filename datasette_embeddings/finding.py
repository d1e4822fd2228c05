"""What a visitor looks for in one collection, found: by words and meaning, among rows that meet filters, or by an item."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from datasette_embeddings import asking, catalog, compat, queries, site
from datasette_embeddings.database import column_names
from datasette_embeddings.errors import EmbeddingsError, SourceError, nearest
from datasette_embeddings.limits import DEFAULT_K, MAX_K
from datasette_embeddings.results import Result, results_of
from datasette_embeddings.search import hybrid_items, related_items

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.places import Place
    from datasette_embeddings.search import Hit
    from datasette_embeddings.tables import Tables

    Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Filters:
    """Conditions on the source's rows, as Datasette's own table filters: (key, value) such as (`width__gt`, `40`)."""

    pairs: Pairs = ()
    conditions: Sequence[str] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    words: str = ""


@dataclass(frozen=True)
class Found:
    """The results of a search, and the SQL that gives the same."""

    results: list[Result]
    sql: str
    parameters: dict[str, Any]
    filters: Filters = field(default_factory=Filters)

    @property
    def weak(self) -> bool:
        """Whether there are results, and none of them is near."""
        return bool(self.results) and all(result.weak for result in self.results)


def filters_of(conn: sqlite3.Connection, collection: Collection, pairs: Pairs) -> Filters:
    """Return the conditions that pairs stand for, by Datasette's own parser; raises SourceError for what is none."""
    if not pairs:
        return Filters()
    from datasette.filters import Filters as Parser

    if not collection.table:
        raise SourceError(
            f"{collection.name!r} was not made from one table, so its rows cannot be filtered by {pairs[0][0]!r}"
        )
    parser = Parser(sorted(pairs))
    known = column_names(conn, collection.table)
    for column, lookup, _ in parser.selections():
        if column not in known:
            raise SourceError(f"{collection.table!r} has no column {column!r} to filter by; {nearest(column, known)}")
        if lookup not in parser._filters_by_key:
            raise SourceError(f"there is no filter {lookup!r}; {nearest(lookup, parser._filters_by_key)}")
    try:
        conditions, parameters = parser.build_where_clauses(collection.table)
        words = parser.human_description_en()
    except ValueError as error:
        raise SourceError(f"the value of a filter cannot be read: {error}") from error
    return Filters(tuple(pairs), conditions, {name: _bound(value) for name, value in parameters.items()}, words)


def _bound(value: object) -> object:
    """Return the value of a filter as SQLite takes it."""
    if isinstance(value, (list, dict)):
        raise SourceError(f"the value of a filter is a text or a number; found {str(value)[:40]!r}")
    return float(value) if isinstance(value, int) and abs(value) >= 2**63 else value


def is_filter(name: str) -> bool:
    """Tell whether an argument of an address is a filter, as Datasette's own pages tell."""
    return not name.startswith("_") or "__" in name


async def search(place: Place, text: str, k: int = DEFAULT_K, pairs: Pairs = ()) -> Found:
    """Return what is found for a text by words and meaning together, among the rows that meet the filters.

    Raises asking.Refused where the text cannot be embedded, SourceError for filters that are none.
    """
    embedder = site.embedder_of(place.datasette)
    vector = await asking.query_vector(embedder, place.collection, text)

    def run(conn: sqlite3.Connection) -> Found:
        tables, collection = current(conn, place)
        filters = filters_of(conn, collection, pairs)
        among = queries.ids_of_rows(conn, collection, filters.conditions) if filters.conditions else ""
        sql = queries.search_sql(conn, tables, collection, "embed_hybrid", k, among)
        hits: list[Hit] = []
        if text.strip():
            ids = ids_among(conn, among, filters) if among else None
            hits = hybrid_items(conn, tables, collection, vector, text, k, ids)
        results = results_of(conn, tables, collection, hits, query=text, label=place.label)
        return Found(results, sql, {"q": text, **filters.parameters}, filters)

    return await place.search(run)


def ids_among(conn: sqlite3.Connection, among: str, filters: Filters) -> list[str]:
    """Return the ids that the SQL *among* gives under some filters."""
    import json

    found = json.loads(conn.execute(among, filters.parameters).fetchone()[0])
    return [str(item) for item in found if item is not None]


def current(conn: sqlite3.Connection, place: Place) -> tuple[Tables, Collection]:
    """Return the collection as a connection sees it now; a build may have changed it since the request began."""
    return catalog.tables_and_collection(conn, place.collection.name)


async def related(place: Place, item: str, k: int | None = None) -> Found:
    """Return the items nearest to one: as stored, or computed where fewer are; none where it has no vector."""
    return await place.run(lambda conn: related_now(conn, place, item, k))


def related_now(conn: sqlite3.Connection, place: Place, item: str, k: int | None = None) -> Found:
    """Return the items nearest to one, through a connection."""
    tables, collection = current(conn, place)
    k = k or queries.usual_number(collection)
    hits = related_items(conn, tables, collection, item, k)
    results = results_of(conn, tables, collection, hits, label=place.label)
    return Found(results, queries.related_sql(conn, tables, collection, k), {"id": item})


def as_number(value: str | None) -> int | None:
    """Return how many results a visitor wants, 1 to MAX_K; None where nothing is said. Raises EmbeddingsError."""
    if not value:
        return None
    if not value.isascii() or not value.isdigit() or not 1 <= int(value[:9]) <= MAX_K:
        raise EmbeddingsError(f"k is how many results to show, a number from 1 to {MAX_K}; found {value[:40]!r}")
    return int(value)


async def sql_url(place: Place, found: Found) -> str | None:
    """Return the address where the SQL of a search can be seen and changed, None for who may not run SQL."""
    if not await compat.may_execute_sql(place.datasette, place.actor, place.database):
        return None
    return compat.query_url(place.datasette, place.database, found.sql, found.parameters)
