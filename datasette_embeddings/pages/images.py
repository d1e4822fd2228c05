"""/-/embeddings/DATABASE/COLLECTION/images: the finder, a grid of pictures in which each leads to those that look like it.

All that is looked for stands in the address, but a visitor's own picture, which is looked at and forgotten.
"""

from __future__ import annotations

import base64
from datetime import datetime, timezone
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from datasette_embeddings import compat, finder, pictures, remembered
from datasette_embeddings.asking import Refused
from datasette_embeddings.database import quote
from datasette_embeddings.errors import EmbeddingsError
from datasette_embeddings.finder import Look, Wish
from datasette_embeddings.finding import as_number, current, is_filter
from datasette_embeddings.keys import declared_types
from datasette_embeddings.limits import MAX_K
from datasette_embeddings.pages.answering import (
    NOT_INDEXED,
    PRIVATE,
    explains,
    headers_of,
    html_answer,
    is_json,
    json_answer,
    place_of,
    posted_fields,
    require_own_page,
)
from datasette_embeddings.pages.search import asks_by_post, chips_of
from datasette_embeddings.pages.uploads import Form, brings_picture, one_of_few, read_form
from datasette_embeddings.thumbnails import TYPE

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from datasette.app import Datasette
    from datasette.utils.asgi import Request, Response

    from datasette_embeddings.pictures import Picture
    from datasette_embeddings.places import Place

    Pairs = Sequence[tuple[str, str]]

OWN_ARGUMENTS = ("q", "id", "like", "unlike", "phrase", "k", "after", "seed", "csrftoken")

FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
"""Of a thumbnail whose address names its picture."""

FOR_NOW = {"Cache-Control": "public, max-age=300"}
"""Of one whose address names its item only, which may get another picture."""

NO_DOCUMENT = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"}
"""Whatever the bytes are, they are a picture and no page."""

NUMBERS = 4
"""Columns of numbers that pictures are narrowed by: those that come first, as people order columns by what matters."""


@explains
async def thumbnail_webp(datasette: Datasette, request: Request) -> Response:
    """Return the thumbnail of an item, as it is stored."""
    from datasette.utils import tilde_decode
    from datasette.utils.asgi import NotFound, Response

    place = await place_of(datasette, request)
    item = tilde_decode(request.url_vars["item"])
    found = await place.run(lambda conn: pictures.thumbnail_of(conn, *current(conn, place), item))
    if found is None:
        raise NotFound(f"No such picture in {place.collection.name}")
    tag = f'"{blake2b(found.data, digest_size=8).hexdigest()}"'
    headers = await headers_of(place)
    if not headers:
        headers = {**(FOREVER if request.args.get("v") == found.version else FOR_NOW), "ETag": tag}
    known = {part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")}
    if known & {tag, "*"} and "ETag" in headers:
        return Response(b"", 304, {**headers, **NO_DOCUMENT}, TYPE)
    return Response(found.data, 200, {**headers, **NO_DOCUMENT}, TYPE)


@explains
async def images_page(datasette: Datasette, request: Request) -> Response:
    """Show pictures: those that are looked for, or all."""
    from datasette.utils.asgi import NotFound, Response

    place = await place_of(datasette, request)
    if not place.collection.images:
        raise NotFound(f"{place.collection.name} is no collection of pictures")
    if request.method == "POST":
        return await _posted(place, request)
    if request.method not in {"GET", "HEAD"}:
        return Response.text("Method not allowed: GET or POST a picture", 405, {"Allow": "GET, HEAD, POST"})
    wish = wish_of([(name, value) for name in request.args for value in request.args.getlist(name)])
    headers = {**await headers_of(place), **NOT_INDEXED}
    if is_json(request):
        return json_answer(datasette, _as_dict(place, wish, await _look(place, wish)), headers)
    if _is_bare(wish):
        wish = wish._replace(seed=wish.seed or today())
        headers = await headers_of(place)
    try:
        found, refused = await _look(place, wish), None
    except Refused as error:
        found, refused = await _look(place, Wish(seed=today())), error
    return await _page(place, request, Shown(wish, found, refused), headers)


def today() -> str:
    """Return the day, by which the pictures that a page begins with change."""
    return datetime.now(timezone.utc).date().isoformat()


async def _look(place: Place, wish: Wish) -> Look:
    from datasette.utils.asgi import NotFound

    try:
        return await finder.look(place, wish)
    except finder.NoSuchPicture as error:
        raise NotFound(str(error)) from error


def _is_bare(wish: Wish) -> bool:
    return not (wish.q.strip() or wish.picked or wish.pairs or wish.after)


class Shown(NamedTuple):
    """What a page shows: a wish, what was found, why words or a picture were not looked at, and a visitor's own picture as WebP."""

    wish: Wish
    look: Look
    refused: Refused | None = None
    own: bytes | None = None


async def _posted(place: Place, request: Request) -> Any:  # noqa: ANN401
    """Look for a visitor's picture; or for words, which are sent this way where the model is on another machine."""
    from datasette.utils.asgi import Response

    if not brings_picture(request):
        wish = wish_of(await posted_fields(request))
        await _look(place, wish)
        return Response.redirect(url_of(place, wish), status=303)
    require_own_page(request)
    headers = {**PRIVATE, **NOT_INDEXED}
    wants_json = is_json(request) or "application/json" in request.headers.get("accept", "")
    asked = [(name, value) for name in request.args for value in request.args.getlist(name)]
    try:
        with one_of_few():
            form = await read_form(request)
            wish = wish_of([*asked, *form.fields])._replace(q="", like=(), unlike=(), phrases=(), after="", seed="")
            own = await finder.own_picture(place, _picture(form))
            del form
        shown = Shown(wish, await finder.look(place, wish, own.vector), None, own.drawn)
    except Refused as refused:
        if wants_json:
            raise
        shown = Shown(Wish(), await _look(place, Wish(seed=today())), refused)
    if wants_json:
        return json_answer(place.datasette, _as_dict(place, shown.wish, shown.look), headers)
    return await _page(place, request, shown, headers)


def _picture(form: Form) -> bytes:
    if not form.picture:
        raise Refused("no picture came; choose a file, drop one on the page, or paste one")
    return form.picture


def wish_of(fields: Iterable[tuple[str, str]]) -> Wish:
    """Return what an address or a form asks for; raises EmbeddingsError. A filter of nothing is a field that was left empty."""
    given = [(name, value) for name, value in fields if value != "" or name not in OWN_ARGUMENTS]
    own = {name: [value for other, value in given if other == name] for name in OWN_ARGUMENTS}
    pairs = tuple((name, value) for name, value in given if name not in OWN_ARGUMENTS and value != "")
    unknown = next((name for name, _ in given if name not in OWN_ARGUMENTS and not is_filter(name)), None)
    if unknown is not None:
        takes = "q, like, unlike, phrase, k, after, seed"
        raise EmbeddingsError(f"{unknown!r} is no argument of this page; it takes {takes}, and filters by column")
    first = {name: (own[name] or [""])[0] for name in ("q", "after", "seed")}
    k = as_number((own["k"] or [""])[0])
    phrases = tuple(phrase for phrase in own["phrase"] if phrase.strip())
    return Wish(
        like=(*own["id"], *own["like"]), unlike=tuple(own["unlike"]), phrases=phrases, k=k, pairs=pairs, **first
    )


def url_of(place: Place, wish: Wish, **changes: Any) -> str:  # noqa: ANN401
    """Return the address of what a wish finds, with some changes to it."""
    wish = wish._replace(**changes)
    query = [
        *[("q", wish.q) for _ in [1] if wish.q.strip()],
        *[("like", item) for item in wish.like],
        *[("unlike", item) for item in wish.unlike],
        *[("phrase", phrase) for phrase in wish.phrases],
        *[("k", str(wish.k)) for _ in [1] if wish.k],
        *[("after", wish.after) for _ in [1] if wish.after],
        *[("seed", wish.seed) for _ in [1] if wish.seed],
        *wish.pairs,
    ]
    return f"{place.url}/images" + (f"?{urlencode(query)}" if query else "")


class Card(NamedTuple):
    """A picture with what it leads to. *facts*: of its row, in words.

    *more*, *less*: the wish with it, "" where that makes no sense; *without*: where it is not picked any more.
    """

    picture: Picture
    url: str
    similar: str
    row: str
    facts: list[str]
    more: str = ""
    less: str = ""
    without: str = ""


class Fact(NamedTuple):
    """A number of the picture that others are similar to, and where those with less and with more of it are."""

    name: str
    value: Any
    less: str
    more: str


class Choice(NamedTuple):
    """A column to narrow by one of its values."""

    name: str
    field: str
    values: list[tuple[str, int | None]]
    chosen: str


class Range(NamedTuple):
    """A column of numbers, its least and most, and the bounds that are set."""

    name: str
    low: Any
    high: Any
    least: str
    most: str


def _card(place: Place, wish: Wish, picture: Picture, facets: Sequence[str], numbers: Sequence[str]) -> Card:
    item = picture.id
    others = wish._replace(
        like=tuple(other for other in wish.like if other != item),
        unlike=tuple(other for other in wish.unlike if other != item),
        phrases=(),
    )
    wished = bool(others.like or others.q.strip())
    full = len(wish.picked) >= finder.MOST_PICKED
    return Card(
        picture,
        place.thumbnail_url(item, picture.version),
        url_of(place, Wish(like=(item,), pairs=wish.pairs)),
        place.row_url(item),
        facts_of(picture, facets, numbers),
        url_of(place, others, like=(*others.like, item)) if wished and not full else "",
        url_of(place, others, unlike=(*others.unlike, item)) if wished and not full else "",
        url_of(place, others if wished else others._replace(unlike=())),
    )


async def at_random(place: Place, number: int) -> list[Card]:
    """Return some pictures of a collection, others each day; [] where it has none."""

    def read(conn: sqlite3.Connection) -> list[Picture]:
        tables, collection = current(conn, place)
        few = pictures.at_random(conn, tables, collection, number, today())
        return pictures.pictures_of(conn, tables, collection, few, label=place.label)

    found = await place.run(read) if place.collection.images else []
    return [_card(place, Wish(), picture, [], []) for picture in found]


async def _page(place: Place, request: Request, shown: Shown, headers: dict[str, str]) -> Response:
    wish, look = shown.wish, shown.look
    facets, numbers = await facets_of(place, wish.pairs), await ranges_of(place, wish.pairs)
    told = [facet.name for facet in facets], [number.name for number in numbers]
    compared = Wish() if shown.refused else wish

    def card(picture: Picture) -> Card:
        return _card(place, compared, picture, *told)

    answer = await html_answer(
        place.datasette,
        request,
        "images.html",
        {
            "place": place,
            "database": place.database,
            "wish": wish,
            "look": look,
            "refused": shown.refused,
            "own": "data:image/webp;base64," + base64.b64encode(shown.own).decode() if shown.own else None,
            "cards": [card(picture) for picture in look.found],
            "random": [card(picture) for picture in look.random],
            "like": [card(picture) for picture in look.like],
            "unlike": [card(picture) for picture in look.unlike],
            "numbers": _numbers(place, wish, look, [number.name for number in numbers]),
            "facets": facets,
            "ranges": numbers,
            "other_pairs": _other_pairs(wish.pairs, facets, numbers),
            "range_of": range,
            "chips": chips_of(wish.pairs, lambda others: url_of(place, wish, pairs=tuple(others), after="", seed="")),
            "form": {"by_post": asks_by_post(place), "kept": _kept(wish)},
            "words_url": url_of(place, wish, q="") if wish.picked else url_of(place, Wish(pairs=wish.pairs)),
            "all_url": url_of(place, Wish()),
            "other_url": url_of(place, Wish(seed=_next_seed(wish.seed))),
            "more_url": _more_url(place, wish, look) if not shown.refused and not shown.own else None,
            "best": max((score for _, score in look.phrases if score is not None), default=0.0),
            "sql_url": await _sql_url(place, look),
            "about": about(place.collection.model),
            "private": not await place.is_public(),
        },
        headers,
    )
    answer.status = shown.refused.status if shown.refused else 200
    if shown.refused:
        answer.headers.update(shown.refused.headers)
    return answer


def _other_pairs(pairs: Pairs, facets: Sequence[Choice], numbers: Sequence[Range]) -> list[tuple[str, str]]:
    """Return the filters that the form has no field for."""
    shown = {(facet.name, facet.chosen) for facet in facets} | {(facet.field, facet.chosen) for facet in facets}
    bounded = {f"{number.name}__{way}" for number in numbers for way in ("lt", "lte", "gt", "gte")}
    return [pair for pair in pairs if pair not in shown and pair[0] not in bounded]


def about(model: str) -> str:
    """Return what is to be known of a model beside its name."""
    from datasette_embeddings import models

    return models.said_of(model)


def _next_seed(seed: str) -> str:
    """Return a seed that is another one, the same for all who ask from the same page."""
    return blake2b(seed.encode(), digest_size=3).hexdigest()


def _kept(wish: Wish) -> list[tuple[str, str]]:
    """Return the fields of a form that narrows or asks again: the pictures that are picked."""
    return [*[("like", item) for item in wish.like], *[("unlike", item) for item in wish.unlike]]


def _more_url(place: Place, wish: Wish, look: Look) -> str | None:
    """Return where there is more of the same: the next page of all, or more of the nearest."""
    if look.total is not None:
        return url_of(place, wish, after=look.following, seed="") if look.following else None
    more = len(look.found) == look.k < MAX_K
    return url_of(place, wish, k=min(2 * look.k, MAX_K)) if more else None


def _numbers(place: Place, wish: Wish, look: Look, columns: Sequence[str]) -> list[Fact]:
    """Return the numbers of the one picture that others are similar to, by which these can be narrowed: similar, and cheaper."""
    if wish.alone is None or not look.like:
        return []
    row = look.like[0].row
    found = []
    for column in columns:
        value = row.get(column)
        if isinstance(value, (int, float)):
            others = [pair for pair in wish.pairs if not _bounds(pair[0], column)]
            less, more = (
                url_of(place, wish, k=None, pairs=(*others, (f"{column}__{way}", str(value)))) for way in ("lt", "gt")
            )
            found.append(Fact(column, value, less, more))
    return found


def _bounds(name: str, column: str) -> bool:
    return name in {f"{column}__{way}" for way in ("lt", "lte", "gt", "gte")}


def facts_of(picture: Picture, facets: Sequence[str], numbers: Sequence[str]) -> list[str]:
    """Return what is said below a picture: its values of facets that its title does not name, and numbers with their names."""
    row, title = picture.row, picture.title.lower()
    values = [
        str(row[name]) for name in facets if row.get(name) not in {None, ""} and str(row[name]).lower() not in title
    ]
    return [*values, *(f"{name} {row[name]}" for name in numbers if isinstance(row.get(name), (int, float)))]


async def facets_of(place: Place, pairs: Pairs) -> list[Choice]:
    """Return the columns that the site names as facets, with their commonest values and the one that is chosen."""
    table = place.collection.table
    columns = [facet for facet in place.settings.get("facets") or [] if isinstance(facet, str)]
    if not columns or not table:
        return []
    counts = await remembered.facet_counts(place.datasette, place.database, table, columns)
    found = []
    for name, values in counts.items():
        plain = is_filter(name) and "__" not in name and name not in OWN_ARGUMENTS
        field = name if plain else f"{name}__exact"
        chosen = next((value for other, value in pairs if other in {name, f"{name}__exact"}), "")
        listed: list[tuple[str, int | None]] = [(value, count) for value, count in values if value]
        if chosen and chosen not in dict(listed):
            listed.append((chosen, None))
        found.append(Choice(name, field, listed, chosen))
    return found


async def ranges_of(place: Place, pairs: Pairs) -> list[Range]:
    """Return the first columns of numbers, the key and what our own arguments are called apart, with what they range over."""
    ends = await place.read_once(("ranges", place.collection.name), lambda conn: _ends(conn, place))
    given = dict(pairs)

    def bound(name: str, ways: Sequence[str]) -> str:
        return next((given[f"{name}__{way}"] for way in ways if f"{name}__{way}" in given), "")

    return [
        Range(name, low, high, bound(name, ("gte", "gt")), bound(name, ("lte", "lt")))
        for name, (low, high) in ends.items()
    ]


def _ends(conn: sqlite3.Connection, place: Place) -> dict[str, tuple[float, float]]:
    """Return column -> (least, most) of numbers that are not all the same; {} where there is no table, or one that cannot be read in time."""
    import sqlite3

    _, collection = current(conn, place)
    if not collection.table:
        return {}
    kinds = declared_types(conn, collection.table)
    numeric = ("INT", "REAL", "FLOA", "DOUB", "NUM", "DEC")
    names = [
        n for n, kind in kinds.items() if any(word in kind.upper() for word in numeric) and n not in collection.key
    ]
    if not names:
        return {}
    ends = ", ".join(f"min({quote(name)}), max({quote(name)})" for name in names)
    try:
        row = conn.execute(f"select {ends} from {quote(collection.table)}").fetchone()
    except sqlite3.OperationalError:
        return {}
    found = {name: (row[2 * n], row[2 * n + 1]) for n, name in enumerate(names)}
    numbers = {
        n: (a, b)
        for n, (a, b) in found.items()
        if isinstance(a, (int, float)) and isinstance(b, (int, float)) and a < b
    }
    return dict(list(numbers.items())[:NUMBERS])


async def _sql_url(place: Place, look: Look) -> str | None:
    if not look.sql or not await compat.may_execute_sql(place.datasette, place.actor, place.database):
        return None
    return compat.query_url(place.datasette, place.database, look.sql, look.parameters)


def _as_dict(place: Place, wish: Wish, look: Look) -> dict[str, Any]:
    following = _more_url(place, wish, look) if look.total is not None else None
    return {
        "database": place.database,
        "collection": place.collection.name,
        "model": place.collection.model,
        "q": wish.q,
        "like": list(wish.like),
        "unlike": list(wish.unlike),
        "filters": look.filters.words,
        "phrases": [{"phrase": phrase, "score": score} for phrase, score in look.phrases],
        "total": look.total,
        "results": [_picture_dict(place, picture) for picture in look.found],
        "random": [_picture_dict(place, picture) for picture in look.random],
        "next_url": following and following.replace("/images?", "/images.json?", 1),
        "sql": look.sql,
        "params": look.parameters,
    }


def _picture_dict(place: Place, picture: Picture) -> dict[str, Any]:
    return {
        "id": picture.id,
        "score": picture.score,
        "title": picture.title,
        "row": picture.row,
        "url": place.row_url(picture.id),
        "similar_url": place.similar_url(picture.id),
        "image": {
            "url": place.thumbnail_url(picture.id, picture.version),
            "width": picture.width,
            "height": picture.height,
        },
    }
