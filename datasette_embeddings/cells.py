"""Cells that say what they hold: vectors, pictures, and in the results of our own queries ids and clusters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from datasette_embeddings import compat, pictures, remembered, scope, vectors
from datasette_embeddings.database import item_id
from datasette_embeddings.places import Place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from datasette.app import Datasette
    from markupsafe import Markup

    from datasette_embeddings.catalog import Collection

QUERY_PATH = re.compile(r"/(?P<database>[^/]+)/(?P<query>[A-Za-z0-9_]+)(\.[a-z]+)?\Z")

VECTOR_NAMES = re.compile(r"(^|_)(embedding|vector)s?$", re.I)
"""Names of columns whose BLOBs are looked at: 4 bytes of anything else could be a number as well."""

LINKED_COLUMNS = {"id", "other_id", "item", "cluster"}
"""What our queries call columns of items and clusters; each query says which of these it has."""

CELL_PIXELS = 96
"""Height of a picture in a cell: ten rows of a table fill a screen."""


def render(
    datasette: Datasette,
    database: str,
    table: str | None,
    column: str,
    value: object,
    row: Any,  # noqa: ANN401
) -> Callable[[], Awaitable[Markup | None]] | None:
    """Return how a cell is shown, None for Datasette's own way; cheap for the cells that are none of ours."""
    if (
        table is not None
        and value
        and isinstance(value, (bytes, str))
        and _may_be_picture(datasette, database, table, column)
    ):
        return lambda: _picture(datasette, database, table, column, row)
    if isinstance(value, bytes):
        if not VECTOR_NAMES.search(column) or not vectors.valid(value):
            return None
        return lambda: _vector(datasette, database, table, value, row)
    if table is None and column in LINKED_COLUMNS and isinstance(value, (str, int)):
        return lambda: _linked(datasette, database, column, value)
    return None


def _may_be_picture(datasette: Datasette, database: str, table: str, column: str) -> bool:
    """Tell, at hardly any cost, whether a column holds pictures or their paths, of a collection that was made of them.

    Of a database in memory, which is read anew whenever it is asked, none does: that would be once for each of its cells.
    """
    opened = datasette.databases.get(database)
    if opened is None or opened.path is None:
        return False
    held = remembered.fresh_holdings(datasette, database)
    return held is None or any(pictured_column(found) == column for found in held.of_table(table))


def pictured_column(collection: Collection) -> str | None:
    """Return the column of a table that a collection's pictures come from."""
    return (collection.source or {}).get("image")


async def _picture(
    datasette: Datasette,
    database: str,
    table: str,
    column: str,
    row: Any,  # noqa: ANN401
) -> Markup | None:
    """Return the thumbnail of a row's picture, which leads to those that look like it; None where it has none, as a new row until the next build.

    Datasette then shows what the cell holds, and where a BLOB can be had.
    """
    held = await remembered.holdings_of(datasette, database)
    found = next((found for found in held.of_table(table) if pictured_column(found) == column), None)
    tables = held.tables
    if found is None or tables is None or not set(found.key) <= set(row.keys()):
        return None
    item = item_id(tuple(_plain(row[name]) for name in found.key))
    if item is None:
        return None
    place = Place(datasette, None, database, found)
    is_there = await place.run(lambda conn: pictures.has_thumbnail(conn, tables, found, item))
    return thumbnail(place, item) if is_there else None


def thumbnail(place: Place, item: str) -> Markup:
    """Return the thumbnail of an item as a link to pictures like it; its height is told, so that rows do not move when it comes."""
    from markupsafe import Markup

    return Markup(
        '<a href="{}"><img src="{}" alt="Pictures like {}" height="{}" loading="lazy" decoding="async"></a>'
    ).format(place.similar_url(item), place.thumbnail_url(item), item, CELL_PIXELS)


async def _vector(
    datasette: Datasette,
    database: str,
    table: str | None,
    value: bytes,
    row: Any,  # noqa: ANN401
) -> Markup:
    """Return how many dimensions a vector has and, where it is one of ours, the way to its neighbours."""
    from markupsafe import Markup

    dimensions = f"{len(value) // 4:,} dimensions"
    held = await remembered.holdings_of(datasette, database)
    if table is None or held.tables is None or table != held.tables.plain("embeddings"):
        return Markup("<span>{}</span>").format(dimensions)
    collection = next((found for found in held.collections.values() if found.id == _plain(row["collection_id"])), None)
    if collection is None:
        return Markup("<span>{}</span>").format(dimensions)
    url = Place(datasette, None, database, collection).similar_url(str(row["id"]))
    return Markup('<span>{}</span> <a href="{}">find similar</a>').format(dimensions, url)


def _plain(value: object) -> object:
    """Return a cell's value; Datasette expands some into a dictionary with a label."""
    return value["value"] if isinstance(value, dict) else value


async def _linked(datasette: Datasette, database: str, column: str, value: str | int) -> Markup | None:
    """Return the id of a result of one of our queries as a link to its row, and the number of a cluster as one to its rows."""
    from datasette.utils import tilde_decode
    from markupsafe import Markup

    path = unquote(scope.current().path).removeprefix(datasette.setting("base_url").rstrip("/"))
    match = QUERY_PATH.match(path)
    if match is None or tilde_decode(match["database"]) != database:
        return None
    held = await remembered.holdings_of(datasette, database)
    query = next((query for query in held.queries if query.name == match["query"]), None)
    if query is None or not await compat.is_our_query(datasette, None, database, query.name):
        return None
    place = Place(datasette, None, database, held.collections[query.collection])
    if column in query.clusters and isinstance(value, int):
        return Markup('<a href="{}">{}</a>').format(place.cluster_url(value), value)
    if column in query.items and isinstance(value, str):
        link = Markup('<a href="{}">{}</a>').format(place.row_url(value), value)
        return thumbnail(place, value) + Markup("<br>") + link if place.collection.images else link
    return None
