"""/-/embeddings/DATABASE/COLLECTION/clusters: the groups that its items fall into by meaning, the largest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasette_embeddings import compat, finding, queries
from datasette_embeddings.errors import EmbeddingsError
from datasette_embeddings.grouping import brief, count_clusters, largest, with_items
from datasette_embeddings.pages.answering import explains, headers_of, html_answer, is_json, json_answer, place_of
from datasette_embeddings.timelines import timelines

if TYPE_CHECKING:
    import sqlite3

    from datasette.app import Datasette
    from datasette.utils.asgi import Request, Response

    from datasette_embeddings.grouping import Cluster
    from datasette_embeddings.places import Place
    from datasette_embeddings.timelines import Timelines

CENTRAL_ITEMS = 3
"""Items of each cluster that are shown unless the address says otherwise: enough to see what they have in common."""

MAX_CENTRAL_ITEMS = 20
"""Items of each cluster that are shown at most; all that it has are on the page of its rows."""

SHOWN_WHOLE = 40
"""Clusters that are shown with their items; the smaller ones stand in a table below, each with its most central item."""


@explains
async def clusters_page(datasette: Datasette, request: Request) -> Response:
    """Show the clusters of one collection."""
    place = await place_of(datasette, request)
    k = _number_of_items(request)
    total, clusters, sql = await place.run(lambda conn: _read(conn, place, k))
    dates = await place.read_once(("timelines", place.collection.name), lambda conn: _timelines(conn, place))
    headers = await headers_of(place)
    if is_json(request):
        return json_answer(datasette, _as_dict(place, total, clusters, dates, sql), headers)
    may_execute = await compat.may_execute_sql(datasette, request.actor, place.database)
    context = {
        "place": place,
        "database": place.database,
        "total": total,
        "shown": clusters[:SHOWN_WHOLE],
        "others": clusters[SHOWN_WHOLE:],
        "dates": dates,
        "sql_url": compat.query_url(datasette, place.database, sql, {}) if sql and may_execute else None,
        "private": not await place.is_public(),
    }
    return await html_answer(datasette, request, "clusters.html", context, headers)


def _number_of_items(request: Request) -> int:
    """Return how many items of each cluster a visitor wants; raises EmbeddingsError for other arguments than k, and too many."""
    others = [name for name in request.args if name != "k"]
    if others:
        raise EmbeddingsError(
            f"{others[0][:40]!r} is no argument of this page; it takes k, how many items of each cluster to show"
        )
    k = finding.as_number(request.args.get("k")) or CENTRAL_ITEMS
    if k > MAX_CENTRAL_ITEMS:
        raise EmbeddingsError(
            f"k is how many items of each cluster to show, a number from 1 to {MAX_CENTRAL_ITEMS}; found {k}; "
            "the page of a cluster's rows has all of them"
        )
    return k


def _read(conn: sqlite3.Connection, place: Place, k: int) -> tuple[int, list[Cluster], str]:
    """Return how many clusters there are, the largest with their items, and the SQL that gives them."""
    tables, collection = finding.current(conn, place)
    if not collection.clusters:
        return 0, [], ""
    clusters = with_items(conn, tables, collection, largest(conn, tables, collection), k, place.label)
    return count_clusters(conn, tables, collection), clusters, queries.clusters_query(conn, tables, collection).sql


def _timelines(conn: sqlite3.Connection, place: Place) -> Timelines | None:
    tables, collection = finding.current(conn, place)
    return timelines(conn, tables, collection)


def _as_dict(place: Place, total: int, clusters: list[Cluster], dates: Timelines | None, sql: str) -> dict[str, Any]:
    return {
        "database": place.database,
        "collection": place.collection.name,
        "model": place.collection.model,
        "count": total,
        "dates": dates and {"column": dates.column, "bars": dates.bars},
        "clusters": [
            {
                **brief(cluster),
                "terms": cluster.terms,
                "dates": dates and dates.counts.get(cluster.number, [0] * len(dates.bars)),
                "items": [{**member.as_dict(), "url": place.row_url(member.id)} for member in cluster.central],
                "url": place.cluster_url(cluster.number),
            }
            for cluster in clusters
        ],
        "sql": sql,
        "params": {},
    }
