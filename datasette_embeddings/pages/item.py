"""/-/embeddings/DATABASE/COLLECTION/item/ID: one item and what is related to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasette_embeddings import catalog
from datasette_embeddings.finding import as_number, current, related_now, sql_url
from datasette_embeddings.freshness import row_state
from datasette_embeddings.grouping import brief, cluster_of
from datasette_embeddings.pages.answering import (
    NOT_INDEXED,
    explains,
    headers_of,
    html_answer,
    is_json,
    json_answer,
    place_of,
)
from datasette_embeddings.results import results_of
from datasette_embeddings.search import Hit

if TYPE_CHECKING:
    import sqlite3

    from datasette.app import Datasette
    from datasette.utils.asgi import Request, Response

    from datasette_embeddings.finding import Found
    from datasette_embeddings.freshness import RowState
    from datasette_embeddings.grouping import Cluster
    from datasette_embeddings.places import Place
    from datasette_embeddings.results import Result


@explains
async def item_page(datasette: Datasette, request: Request) -> Response:
    """Show one item and its related items."""
    from datasette.utils import tilde_decode
    from datasette.utils.asgi import NotFound

    place = await place_of(datasette, request)
    item = tilde_decode(request.url_vars["item"])
    k = as_number(request.args.get("k"))
    shown, found, state, cluster = await place.run(lambda conn: _read(conn, place, item, k))
    if shown is None:
        raise NotFound(f"No such item in {place.collection.name}")
    headers = {**await headers_of(place), **NOT_INDEXED}
    if is_json(request):
        body = {
            "database": place.database,
            "collection": place.collection.name,
            "model": place.collection.model,
            "id": item,
            "title": shown.title,
            "url": place.row_url(item),
            "state": state.status,
            "note": state.note,
            "cluster": cluster and {**brief(cluster), "url": place.cluster_url(cluster.number)},
            "related": [{**result.as_dict(), "url": place.row_url(result.id)} for result in found.results],
            "sql": found.sql,
            "params": found.parameters,
        }
        return json_answer(datasette, body, headers)
    context = {
        "place": place,
        "database": place.database,
        "item": shown,
        "found": found,
        "state": state,
        "cluster": cluster,
        "sql_url": await sql_url(place, found),
        "private": not await place.is_public(),
    }
    return await html_answer(datasette, request, "item.html", context, headers)


def _read(
    conn: sqlite3.Connection, place: Place, item: str, k: int | None
) -> tuple[Result | None, Found, RowState, Cluster | None]:
    tables, collection = current(conn, place)
    state = row_state(conn, tables, collection, item)
    found = related_now(conn, place, item, k)
    known = state.status != "unknown" or catalog.has_item(conn, collection, item, tables)
    shown = results_of(conn, tables, collection, [Hit(item, 1.0)], label=place.label) if known else []
    return (shown[0] if shown else None), found, state, cluster_of(conn, tables, collection, item)
