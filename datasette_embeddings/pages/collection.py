"""/-/embeddings lists every collection; /-/embeddings/DATABASE/COLLECTION is one: what it holds and how to search it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasette_embeddings import catalog, compat, queries, remembered
from datasette_embeddings.finding import current
from datasette_embeddings.grouping import largest
from datasette_embeddings.pages.answering import (
    PRIVATE,
    explains,
    headers_of,
    html_answer,
    is_json,
    json_answer,
    place_of,
    require_instance,
)
from datasette_embeddings.pages.cards import at_random
from datasette_embeddings.pages.search import asks_by_post, facets_of
from datasette_embeddings.places import all_places
from datasette_embeddings.results import results_of
from datasette_embeddings.search import Hit

if TYPE_CHECKING:
    import sqlite3

    from datasette.app import Datasette
    from datasette.utils.asgi import Request, Response

    from datasette_embeddings.grouping import Cluster
    from datasette_embeddings.places import Place
    from datasette_embeddings.results import Result
    from datasette_embeddings.state import CollectionState

EXAMPLE_ITEMS = 6
"""Items that a collection's page begins with, from all over it."""

EXAMPLE_PICTURES = 12
"""Pictures that the page of a collection of them begins with."""

SHOWN_CLUSTERS = 6
"""Of its clusters, the largest, that a collection's page names; their own page has all."""

SHOWN_ISSUES = 50
"""Rows without a vector that a collection's page lists; the table of them has all."""


async def state_of(place: Place) -> CollectionState:
    """Return the state of a collection."""
    states = await remembered.states_of(place.datasette, place.database)
    return next(state for state in states if state.name == place.collection.name)


async def description_of(place: Place) -> str | None:
    """Return what the site says of a collection's table."""
    table = place.collection.table
    return await compat.table_description(place.datasette, place.database, table) if table else None


def as_dict(place: Place, state: CollectionState) -> dict[str, Any]:
    """Return the state of a collection for JSON."""
    return {"database": place.database, **state.as_dict(), "url": place.url}


@explains
async def index_page(datasette: Datasette, request: Request) -> Response:
    """List every collection that the actor may see."""
    await require_instance(datasette, request)
    places = await all_places(datasette, request.actor)
    listed = [(p, await state_of(p), asks_by_post(p), await description_of(p)) for p in places]
    everything_public = all([await place.is_public() for place in places])
    headers = {} if everything_public else dict(PRIVATE)
    if is_json(request):
        return json_answer(datasette, {"collections": [as_dict(place, state) for place, state, *_ in listed]}, headers)
    databases = sorted({place.database for place in places})
    sql_urls = [
        (database, url) for database in databases if (url := await state_url(datasette, request.actor, database))
    ]
    return await html_answer(datasette, request, "index.html", {"listed": listed, "sql_urls": sql_urls}, headers)


async def state_url(datasette: Datasette, actor: object, database: str, collection: str | None = None) -> str | None:
    """Return where the state of collections can be seen and changed as SQL, None for who may run none."""
    held = await remembered.holdings_of(datasette, database)
    if held.tables is None or not await compat.may_execute_sql(datasette, actor, database):
        return None
    ours = held.tables.plain("embeddings_collections").lower() in held.derived
    sql = queries.state_sql(held.tables, ours=ours, one=collection is not None)
    return compat.query_url(datasette, database, sql, {} if collection is None else {"collection": collection})


@explains
async def collection_page(datasette: Datasette, request: Request) -> Response:
    """Show one collection."""
    place = await place_of(datasette, request)
    state = await state_of(place)
    if is_json(request):
        return json_answer(datasette, as_dict(place, state), await headers_of(place))
    issues, examples, clusters = await place.run(
        lambda conn: (
            _issues(conn, place),
            [] if place.collection.images else _examples(conn, place),
            _clusters(conn, place),
        )
    )
    held = await remembered.holdings_of(datasette, place.database)
    context = {
        "place": place,
        "database": place.database,
        "state": state,
        "description": await description_of(place),
        "issues": issues,
        "examples": examples,
        "cards": await at_random(place, EXAMPLE_PICTURES),
        "clusters": clusters,
        "facets": await facets_of(place),
        "queries": [query for query in held.queries if query.collection == place.collection.name],
        "by_post": asks_by_post(place),
        "sql_url": await state_url(datasette, request.actor, place.database, place.collection.name),
        "private": not await place.is_public(),
    }
    return await html_answer(datasette, request, "collection.html", context, await headers_of(place))


def _issues(conn: sqlite3.Connection, place: Place) -> list[tuple[str, str, str]]:
    tables, collection = current(conn, place)
    return catalog.issues(conn, collection, tables)[:SHOWN_ISSUES]


def _clusters(conn: sqlite3.Connection, place: Place) -> list[Cluster]:
    tables, collection = current(conn, place)
    return largest(conn, tables, collection, SHOWN_CLUSTERS)


def _examples(conn: sqlite3.Connection, place: Place) -> list[Result]:
    """Return some items from all over a collection, the same at every visit."""
    tables, collection = current(conn, place)
    number = catalog.count_items(conn, collection, tables)
    sql = f"select id from {tables.embeddings} where collection_id = ? order by id limit 1 offset ?"
    places = sorted({number * n // EXAMPLE_ITEMS for n in range(EXAMPLE_ITEMS)}) if number else []
    items = [conn.execute(sql, [collection.id, offset]).fetchone()[0] for offset in places]
    rows = dict.fromkeys(collection.row_of(item) for item in items)
    return results_of(conn, tables, collection, [Hit(row, 0.0) for row in rows], label=place.label)
