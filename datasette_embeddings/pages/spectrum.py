"""/-/embeddings/DATABASE/COLLECTION/spectrum: the sentences of a text, coloured by where they lie between two labels.

A text is looked at and forgotten. A form sends it by POST, as it may be long; a short one then has an address that can be passed on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from datasette_embeddings import compat, leaning
from datasette_embeddings.errors import EmbeddingsError
from datasette_embeddings.finding import as_number
from datasette_embeddings.leaning import TONES
from datasette_embeddings.limits import SPECTRUM_CHARACTERS
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
)
from datasette_embeddings.pages.search import asks_by_post
from datasette_embeddings.vectors import SCORE_DECIMALS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datasette.app import Datasette
    from datasette.utils.asgi import Request, Response

    from datasette_embeddings.leaning import Pole, Spectrum
    from datasette_embeddings.places import Place

ADDRESS_CHARACTERS = 2_000
"""Longest address that a form leads to: what browsers, mail and proxies pass on whole."""


class Wish(NamedTuple):
    """What is asked for: a text, the labels of both ends, and how many sentences."""

    q: str = ""
    low: str = ""
    high: str = ""
    k: str = ""


@explains
async def spectrum_page(datasette: Datasette, request: Request) -> Response:
    """Show a text between two labels."""
    from datasette.utils.asgi import Response

    place = await place_of(datasette, request)
    if request.method not in {"GET", "HEAD", "POST"}:
        return Response.text("Method not allowed: GET or POST a text", 405, {"Allow": "GET, HEAD, POST"})
    posted = request.method == "POST"
    wish = wish_of(await posted_fields(request) if posted else [(name, request.args[name]) for name in request.args])
    found = await leaning.between(place, wish.q, wish.low, wish.high, as_number(wish.k))
    address = _address(place, wish)
    if posted and len(address) <= ADDRESS_CHARACTERS and not is_json(request) and not asks_by_post(place):
        return Response.redirect(address, status=303)
    headers = {**(PRIVATE if posted else await headers_of(place)), **NOT_INDEXED}
    if is_json(request):
        return json_answer(datasette, _as_dict(place, wish, found), headers)
    context = {
        "place": place,
        "database": place.database,
        "wish": wish,
        "found": found,
        "tones": range(TONES),
        "longest": SPECTRUM_CHARACTERS,
        "in_order": sorted((one for one in found.sentences if one.value is not None), key=lambda one: one.value or 0.0),
        "sql_url": await _sql_url(place, found) if len(address) <= ADDRESS_CHARACTERS else None,
        "posted": posted,
        "private": not await place.is_public(),
    }
    return await html_answer(datasette, request, "spectrum.html", context, headers)


def wish_of(fields: Iterable[tuple[str, str]]) -> Wish:
    """Return what the fields of a form or an address ask for; raises EmbeddingsError for others."""
    given = {name: value for name, value in fields if name != "csrftoken"}
    unknown = next((name for name in given if name not in Wish._fields), None)
    if unknown is not None:
        raise EmbeddingsError(f"{unknown!r} is no argument of this page; it takes q, k, low and high")
    return Wish(**given)


def _address(place: Place, wish: Wish) -> str:
    return f"{place.url}/spectrum?{urlencode({name: value for name, value in wish._asdict().items() if value})}"


def _as_dict(place: Place, wish: Wish, found: Spectrum) -> dict[str, Any]:
    return {
        "database": place.database,
        "collection": place.collection.name,
        "model": place.collection.model,
        "q": wish.q,
        "low": _pole(found.low),
        "high": _pole(found.high),
        "labels": found.labels,
        "average": _rounded(found.average),
        "sentences": [
            {"text": one.text, "start": one.start, "end": one.start + len(one.text), "value": one.value}
            for one in found.sentences
        ],
        "left_out": found.left_out,
    }


def _pole(pole: Pole) -> dict[str, Any]:
    return {"label": pole.label, "average": _rounded(pole.average)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, SCORE_DECIMALS)


async def _sql_url(place: Place, found: Spectrum) -> str | None:
    """Return where the SQL can be seen and changed; None for who may run none, and where a model on another machine would be asked."""
    import orjson

    if asks_by_post(place) or not await compat.may_execute_sql(place.datasette, place.actor, place.database):
        return None
    listed = orjson.dumps([one.text for one in found.sentences]).decode()
    parameters = {"sentences": listed, "low": found.low.label, "high": found.high.label}
    return compat.query_url(place.datasette, place.database, found.sql, parameters)
