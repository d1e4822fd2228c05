"""What narrows a table's page: `?_meaning=`, and `?_cluster=COLLECTION:NUMBER`, with which facets, CSV, JSON and maps work on one cluster."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from datasette_embeddings import finding, grouping, meaning, queries
from datasette_embeddings.labels import joinable
from datasette_embeddings.meaning import Narrowed
from datasette_embeddings.places import places_of_table

if TYPE_CHECKING:
    import sqlite3

    from datasette.app import Datasette
    from datasette.utils.asgi import Request

    from datasette_embeddings.places import Place

ARGUMENT = "_cluster"

CLUSTER = re.compile(r"(?P<collection>.+):(?P<number>[0-9]{1,9})", re.S)


async def filter_arguments(datasette: Datasette, request: Request, database: str, table: str) -> Any:  # noqa: ANN401
    """Return the conditions that our arguments stand for, as Datasette's filters; None where there are none."""
    from datasette.filters import FilterArguments

    asked = [value.strip() for value in request.args.getlist(ARGUMENT) if value.strip()]
    found = [await _cluster(datasette, request, database, table, value) for value in asked]
    near = await meaning.narrowed(datasette, request, database, table, [one.condition for one in found])
    found += [near] if near else []
    if not found:
        return None
    parameters = {name: value for one in found for name, value in one.parameters.items()}
    return FilterArguments(
        [one.condition for one in found], params=parameters, human_descriptions=[one.words for one in found]
    )


async def _cluster(datasette: Datasette, request: Request, database: str, table: str, asked: str) -> Narrowed:
    """Return what one cluster stands for; raises DatasetteError where there is none."""
    from datasette.views.base import DatasetteError

    match = CLUSTER.fullmatch(asked)
    places = await places_of_table(datasette, request.actor, database, table)
    known = {place.collection.name: place for place in places if place.collection.clusters}
    if not known:
        raise DatasetteError(f"{table} has no clusters, so it takes no {ARGUMENT}", status=400)
    if match is None or match["collection"] not in known:
        wanted = " or ".join(f"{ARGUMENT}={name}:1" for name in known)
        raise DatasetteError(
            f"{ARGUMENT} is a collection and the number of a cluster, such as {wanted}; found {asked[:80]!r}",
            status=400,
        )
    place, number = known[match["collection"]], int(match["number"])
    narrowed = await place.run(lambda conn: _narrowed(conn, place, number))
    if narrowed is None:
        raise DatasetteError(
            f"{match['collection']} has no cluster {number} of rows of {table}; those that it has are at {place.url}/clusters",
            status=404,
        )
    return narrowed


def _narrowed(conn: sqlite3.Connection, place: Place, number: int) -> Narrowed | None:
    tables, collection = finding.current(conn, place)
    cluster = grouping.find_cluster(conn, tables, collection, number)
    if cluster is None or not joinable(conn, collection):
        return None
    words = f'cluster is "{cluster.label}" (number {number} of {collection.name})'
    return Narrowed(queries.in_cluster(conn, tables, collection, number), {}, words)
