"""/-/embeddings/DATABASE/COLLECTION/map: every item at its place, drawn by the browser; without a script, a sample as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from datasette_embeddings import compat, mapping, remembered
from datasette_embeddings.database import snapshot
from datasette_embeddings.errors import EmbeddingsError
from datasette_embeddings.finding import current
from datasette_embeddings.limits import MAP_COLORS, MAP_ITEMS, MAP_SAMPLE
from datasette_embeddings.mapping import BOUNDS
from datasette_embeddings.pages.answering import (
    explains,
    headers_of,
    html_answer,
    is_json,
    json_answer,
    place_of,
)
from datasette_embeddings.pages.search import asks_by_post
from datasette_embeddings.results import results_of
from datasette_embeddings.search import Hit

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Hashable, Sequence
    from typing import TypeVar

    from datasette.app import Datasette
    from datasette.utils.asgi import Request, Response

    from datasette_embeddings.mapping import Map
    from datasette_embeddings.places import Place
    from datasette_embeddings.results import Result

    Found = TypeVar("Found")

BUNDLE = Path(__file__).parent.parent / "static" / "built" / "map.js"
"""The script of the page and the libraries that it needs, made when the package is built; missing where npm could not be reached then."""

FOREVER = {"Cache-Control": "max-age=31536000, immutable"}
"""Of what is named by its content."""

SVG_WIDTH = 1_000
"""Units of the picture's longer side."""


class Drawn(NamedTuple):
    """A map, its points as they are sent, and the columns that can colour it."""

    map: Map
    body: bytes
    name: str
    columns: list[str]


class Point(NamedTuple):
    """An item on the picture; *color*: from 0, None for one in no cluster."""

    x: float
    y: float
    color: int | None
    id: str
    title: str


class Picture(NamedTuple):
    """A map as lines of SVG: its size, some of its items, and the names of clusters that have room."""

    width: int
    height: int
    points: list[Point]
    names: list[tuple[float, float, str]]


@explains
async def map_page(datasette: Datasette, request: Request) -> Response:
    """Show the map of a collection."""
    place = await place_of(datasette, request)
    drawn = await drawn_of(place)
    if is_json(request):
        found = drawn.map.as_dict() if drawn else {"points": 0, "items": 0, "clusters": []}
        about = {"database": place.database, "collection": place.collection.name, **found}
        columns = drawn.columns if drawn else []
        return json_answer(datasette, {**about, "columns": columns}, await headers_of(place))
    context = {
        "place": place,
        "database": place.database,
        "drawn": drawn,
        "picture": await picture_of(place, drawn.map) if drawn else None,
        "colors": MAP_COLORS,
        "scripted": BUNDLE.exists(),
        "by_post": asks_by_post(place),
        "sql_url": await sql_url(place, drawn.map) if drawn else None,
        "private": not await place.is_public(),
    }
    return await html_answer(datasette, request, "map.html", context, await headers_of(place))


async def drawn_of(place: Place) -> Drawn | None:
    """Return the map of a collection, None where none was made; read once for each state of the file, however long that takes."""

    def read(conn: sqlite3.Connection) -> Drawn | None:
        tables, collection = current(conn, place)
        found = mapping.read_map(conn, tables, collection)
        if found is None:
            return None
        body = found.packed()
        return Drawn(found, body, mapping.digest(body), mapping.colorable_columns(conn, collection))

    return await read_whole(place, "map", read)


async def read_whole(place: Place, what: Hashable, read: Callable[[sqlite3.Connection], Found]) -> Found:
    """Return what is read of all items of a collection, which may take longer than a query of a visitor may."""

    def reading(conn: sqlite3.Connection) -> Found:
        with snapshot(conn):
            return read(conn)

    return await remembered.read_once(place.datasette, place.database, (what, place.collection.name), reading)


async def picture_of(place: Place, whole: Map) -> Picture:
    """Return the picture for browsers without scripts."""

    def read(conn: sqlite3.Connection) -> Picture:
        tables, collection = current(conn, place)
        numbers = (
            [n * len(whole) // MAP_SAMPLE for n in range(MAP_SAMPLE)] if len(whole) > MAP_SAMPLE else range(len(whole))
        )
        found = dict(mapping.items_at(conn, tables, collection, list(numbers), whole.step))
        hits = [Hit(item, 0.0) for item in found.values()]
        titles = {r.id: r.title for r in results_of(conn, tables, collection, hits, label=place.label)}
        return _picture(whole, {number: (item, titles[item]) for number, item in found.items() if item in titles})

    return await read_whole(place, ("picture", place.label), read)


def _picture(whole: Map, sample: dict[int, tuple[str, str]]) -> Picture:
    """Return the picture of a sample: number of the point -> id and title."""
    x_low, y_low, x_high, y_high = whole.view
    margin = max(x_high - x_low, y_high - y_low, 1) * 0.06
    scale = SVG_WIDTH / (max(x_high - x_low, y_high - y_low, 1) + 2 * margin)
    width, height = ((high - low + 2 * margin) * scale for low, high in ((x_low, x_high), (y_low, y_high)))

    def at(x: float, y: float) -> tuple[float, float]:
        return round((x - x_low + margin) * scale, 1), round(height - (y - y_low + margin) * scale, 1)

    colors = {group.cluster: number % MAP_COLORS for number, group in enumerate(whole.groups)}
    points = [
        Point(*at(*whole.places[number].tolist()), colors.get(int(whole.clusters[number])), item, title)
        for number, (item, title) in sample.items()
    ]
    names = [(*at(group.x, group.y), group.label) for group in whole.groups]
    shown = [p for p in points if 0 <= p.x <= width and 0 <= p.y <= height]
    return Picture(round(width), round(max(height, 1)), shown, _with_room(names, width))


NAME_CHARACTERS = 28
NAME_UNITS = 11
"""Width of a character of a name, and half of the height of its line."""


def _with_room(names: Sequence[tuple[float, float, str]], width: float) -> list[tuple[float, float, str]]:
    """Return those names that do not overlap one that comes before, moved into the picture."""
    shown: list[tuple[float, float, str]] = []
    for x, y, name in names:
        short = name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1].rstrip(" ,") + "…"
        half = len(short) * NAME_UNITS / 2
        middle = min(max(x, half), max(width - half, half))
        halves = (
            (abs(middle - other) / NAME_UNITS * 2 - len(text) - len(short), abs(y - line))
            for other, line, text in shown
        )
        if all(beside > 0 or above > 2.4 * NAME_UNITS for beside, above in halves):
            shown.append((round(middle, 1), y, short))
    return shown


@explains
async def points_bin(datasette: Datasette, request: Request) -> Response:
    """Return every point: `mapping.Map.packed`."""
    place, drawn = await drawn_or_404(datasette, request)
    return await _bytes(place, request, drawn.body, drawn.name == request.args.get("v"))


@explains
async def colors_bin(datasette: Datasette, request: Request) -> Response:
    """Return what a column says of every point: `mapping.column_colors`."""
    place, drawn = await drawn_or_404(datasette, request)
    column = request.args.get("column") or ""
    if column not in drawn.columns:
        raise EmbeddingsError(f"there is no column {column[:40]!r} by which points can be coloured")

    def read(conn: sqlite3.Connection) -> bytes:
        return mapping.column_colors(conn, *current(conn, place), column, drawn.map.step)

    return await _bytes(place, request, await read_whole(place, ("colors", column), read), False)


@explains
async def ids_json(datasette: Datasette, request: Request) -> Response:
    """Return the ids of all points, in their order, for a page that is to show where results of a search are."""
    place, drawn = await drawn_or_404(datasette, request)
    ids = await place.run(lambda conn: mapping.ids_of(conn, *current(conn, place), drawn.map.step))
    headers = await headers_of(place) or (dict(FOREVER) if drawn.name == request.args.get("v") else {})
    return json_answer(datasette, {"ids": ids}, headers)


@explains
async def items_json(datasette: Datasette, request: Request) -> Response:
    """Return what some points are: `?at=` their numbers, with commas between them."""
    place, drawn = await drawn_or_404(datasette, request)
    numbers = _numbers(request.args.get("at") or "", len(drawn.map))

    def read(conn: sqlite3.Connection) -> list[tuple[int, Result]]:
        tables, collection = current(conn, place)
        found = {item: number for number, item in mapping.items_at(conn, tables, collection, numbers, drawn.map.step)}
        results = results_of(conn, tables, collection, [Hit(item, 0.0) for item in found], label=place.label)
        return [(found[result.id], result) for result in results]

    items = [
        {
            "at": number,
            "id": result.id,
            "title": result.title,
            "excerpt": result.excerpt.plain_text,
            "url": place.row_url(result.id),
            "item_url": place.item_url(result.id),
        }
        for number, result in await place.run(read)
    ]
    return json_answer(datasette, {"items": items}, await headers_of(place))


def _numbers(text: str, count: int) -> list[int]:
    """Return the numbers of points that a visitor asks for; raises EmbeddingsError."""
    parts = text.split(",")[: MAP_ITEMS + 1]
    if len(parts) > MAP_ITEMS or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise EmbeddingsError(f"at is up to {MAP_ITEMS} numbers of points, as in at=0,17; found {text[:40]!r}")
    return [number for number in map(int, parts) if number < count]


async def drawn_or_404(datasette: Datasette, request: Request) -> tuple[Place, Drawn]:
    """Return the place and the map that an address names; raises Datasette's NotFound and Forbidden."""
    from datasette.utils.asgi import NotFound

    place = await place_of(datasette, request)
    drawn = await drawn_of(place)
    if drawn is None:
        raise NotFound(f"{place.collection.name} has no map")
    return place, drawn


async def _bytes(place: Place, request: Request, body: bytes, lasting: bool) -> Response:
    """Return bytes, or that those which the browser has are still right. *lasting*: the address names this content."""
    from datasette.utils.asgi import Response

    headers, status = await headers_of(place), 200
    if not headers:
        tag = f'"{mapping.digest(body)}"'
        headers = {**(FOREVER if lasting else {"Cache-Control": "no-cache"}), "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            body, status = b"", 304
    return Response(body, status, headers, "application/octet-stream")


async def sql_url(place: Place, whole: Map) -> str | None:
    """Return where a part of the map can be seen as SQL, first all of it; None for who may not run SQL."""
    if not await compat.may_execute_sql(place.datasette, place.actor, place.database):
        return None
    sql = await place.read_once(
        ("region", place.collection.name), lambda conn: mapping.region_sql(conn, *current(conn, place))
    )
    ends = [(low, low + whole.span) for low in whole.low]
    bounds = dict(zip(BOUNDS, (*ends[0], *ends[1]), strict=True))
    return compat.query_url(place.datasette, place.database, sql, bounds)
