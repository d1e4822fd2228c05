"""/-/embeddings/DATABASE/COLLECTION/images: the finder, a grid of pictures in which each leads to those that look like it.

All that is looked for stands in the address, but a visitor's own picture, which is looked at and forgotten.
"""

from __future__ import annotations

import base64
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from datasette_embeddings import compat, finder, models, pictures
from datasette_embeddings.asking import Refused
from datasette_embeddings.finder import Look, Wish
from datasette_embeddings.finding import current
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
from datasette_embeddings.pages.cards import (
    addressed,
    card_of,
    facets_of,
    numbers_of,
    other_pairs,
    ranges_of,
    url_of,
    wish_of,
)
from datasette_embeddings.pages.search import asks_by_post, chips_of
from datasette_embeddings.pages.uploads import Form, brings_picture, one_of_few, read_form, short
from datasette_embeddings.thumbnails import TYPE

if TYPE_CHECKING:
    from datasette.app import Datasette
    from datasette.utils.asgi import Request, Response

    from datasette_embeddings.pages.cards import Card
    from datasette_embeddings.pictures import Picture
    from datasette_embeddings.places import Place

FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
"""Of a thumbnail whose address names its picture."""

FOR_NOW = {"Cache-Control": "public, max-age=300"}
"""Of one whose address names its item only, which may get another picture."""

NO_DOCUMENT = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"}
"""Whatever the bytes are, they are a picture and no page."""


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
    wish = addressed(place, wish_of([(name, value) for name in request.args for value in request.args.getlist(name)]))
    headers = {**await headers_of(place), **NOT_INDEXED}
    if is_json(request):
        return json_answer(datasette, _as_dict(place, wish, await _look(place, wish)), headers)
    if _is_bare(wish):
        wish = wish._replace(seed=wish.seed or pictures.today())
        headers = await headers_of(place)
    try:
        found, refused = await _look(place, wish), None
    except Refused as error:
        found, refused = await _look(place, Wish(seed=pictures.today())), error
    return await _page(place, request, Shown(wish, found, refused), headers)


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

    require_own_page(request)
    if not brings_picture(request):
        wish = addressed(place, wish_of(await posted_fields(await short(request))))
        await _look(place, wish)
        return Response.redirect(url_of(place, wish), status=303)
    headers = {**PRIVATE, **NOT_INDEXED}
    wants_json = is_json(request) or "application/json" in request.headers.get("accept", "")
    asked = [(name, value) for name in request.args for value in request.args.getlist(name)]
    try:
        with one_of_few():
            form = await read_form(request)
            wish = wish_of([*asked, *form.fields])._replace(q="", like=(), unlike=(), phrases=(), after="", seed="")
            wish = finder.check(addressed(place, wish))
            own = await finder.own_picture(place, _picture(form))
            del form
        shown = Shown(wish, await finder.look(place, wish, own.vector), None, own.drawn)
    except Refused as refused:
        if wants_json:
            raise
        shown = Shown(Wish(), await _look(place, Wish(seed=pictures.today())), refused)
    if wants_json:
        return json_answer(place.datasette, _as_dict(place, shown.wish, shown.look), headers)
    return await _page(place, request, shown, headers)


def _picture(form: Form) -> bytes:
    if not form.picture:
        raise Refused("no picture came; choose a file, drop one on the page, or paste one")
    return form.picture


async def _page(place: Place, request: Request, shown: Shown, headers: dict[str, str]) -> Response:
    wish, look = shown.wish, shown.look
    facets, numbers = await facets_of(place, wish.pairs), await ranges_of(place, wish.pairs)
    told = [facet.name for facet in facets], [number.name for number in numbers]
    compared = Wish() if shown.refused else wish

    def card(picture: Picture) -> Card:
        return card_of(place, compared, picture, *told)

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
            "numbers": numbers_of(place, wish, look, [number.name for number in numbers]),
            "facets": facets,
            "ranges": numbers,
            "other_pairs": other_pairs(wish.pairs, facets, numbers),
            "range_of": range,
            "chips": chips_of(wish.pairs, lambda others: url_of(place, wish, pairs=tuple(others), after="", seed="")),
            "form": {
                "by_post": asks_by_post(place),
                "kept": [("like", item) for item in wish.like] + [("unlike", item) for item in wish.unlike],
            },
            "all_url": url_of(place, Wish()),
            "other_url": url_of(place, Wish(seed=blake2b(wish.seed.encode(), digest_size=3).hexdigest())),
            "more_url": _more_url(place, wish, look) if not shown.refused and not shown.own else None,
            "best": max((score for _, score in look.phrases if score is not None), default=0.0),
            "sql_url": await _sql_url(place, look),
            "about": models.said_of(place.collection.model),
            "private": not await place.is_public(),
        },
        headers,
    )
    answer.status = shown.refused.status if shown.refused else 200
    if shown.refused:
        answer.headers.update(shown.refused.headers)
    return answer


def _more_url(place: Place, wish: Wish, look: Look) -> str | None:
    """Return where there is more of the same: the next page of all, or more of the nearest."""
    if look.total is not None:
        return url_of(place, wish, after=look.following, seed="") if look.following else None
    more = len(look.found) == look.k < MAX_K
    return url_of(place, wish, k=min(2 * look.k, MAX_K)) if more else None


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
