"""`?_meaning=QUERY` on a table's page: only the rows nearest to a query, so that facets, CSV, JSON and maps work on those."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from datasette_embeddings import asking, finding, queries, site
from datasette_embeddings.database import literal
from datasette_embeddings.errors import EmbeddingsError, for_visitors
from datasette_embeddings.labels import joinable
from datasette_embeddings.places import places_of_table

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from datasette.app import Datasette
    from datasette.utils.asgi import Request

    from datasette_embeddings.places import Place

ARGUMENT = "_meaning"

MEANING_ROWS = 100
"""Rows that a table is narrowed to at most, weak matches left out: a page of Datasette's, enough for facets to say something."""


PARAMETER = re.compile(r"""\"[^"]*"|\[[^\]]*\]|:(?P<name>p\d+)\b""")
"""A parameter of a filter's condition, or a name in quotes, which may look as if it held one."""


class Narrowed(NamedTuple):
    """A condition on a table's rows, its parameters, and what it says in words."""

    condition: str
    parameters: dict[str, Any]
    words: str


async def narrowed(
    datasette: Datasette, request: Request, database: str, table: str, among: Sequence[str]
) -> Narrowed | None:
    """Return what `?_meaning=` stands for, None where it is not asked for. *among*: conditions on the rows that are searched."""
    from datasette.views.base import DatasetteError

    text = (request.args.get(ARGUMENT) or "").strip()
    if not text:
        return None
    places = await places_of_table(datasette, request.actor, database, table)
    if not places:
        raise DatasetteError(f"{table} has no embeddings to search, so it takes no {ARGUMENT}", status=400)
    place = places[0]
    try:
        await asking.query_vector(site.embedder_of(datasette), place.collection, text)
        condition, parameters = await place.search(lambda conn: _condition(conn, place, request, among))
    except asking.Refused as refused:
        raise DatasetteError(refused.sentence, status=refused.status) from refused
    except EmbeddingsError as error:
        raise DatasetteError(for_visitors(error), status=400) from error
    parameters["meaning"] = text
    return Narrowed(condition, parameters, f'meaning is near "{text}" (the best {MEANING_ROWS} at most)')


def _renamed(found: re.Match[str]) -> str:
    return f":meaning_{found['name']}" if found["name"] else found[0]


def _condition(
    conn: sqlite3.Connection, place: Place, request: Request, others: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    """Return the condition on the table's rows; those are chosen among the rows that the other filters leave."""
    _, collection = finding.current(conn, place)
    if not joinable(conn, collection):
        raise EmbeddingsError(
            f"the rows of {collection.name!r} cannot be found in their table any more; build it again"
        )
    pairs = [(name, value) for name in request.args for value in request.args.getlist(name) if finding.is_filter(name)]
    filters = finding.filters_of(conn, collection, pairs)
    renamed = {f"meaning_{name}": value for name, value in filters.parameters.items()}
    conditions = [*(PARAMETER.sub(_renamed, condition) for condition in filters.conditions), *others]
    among = f", (\n  {queries.ids_of_rows(conn, collection, conditions)}\n)" if conditions else ""
    found = f"json_each(embed_hybrid({literal(collection.name)}, :meaning, {MEANING_ROWS}{among}))"
    item = queries.item_of_row(conn, collection)
    floor = collection.noise_floor
    near = "" if floor is None else f" where json_extract(found.value, '$.score') >= {floor}"
    return f"{item} in (select json_extract(found.value, '$.id') from {found} as found{near})", renamed
