"""/-/embeddings/DATABASE/COLLECTION/search: by words and meaning together, among the rows that meet filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from datasette_embeddings import remembered, site
from datasette_embeddings.errors import EmbeddingsError
from datasette_embeddings.finding import Found, as_number, is_filter, search, sql_url
from datasette_embeddings.limits import DEFAULT_K
from datasette_embeddings.pages.answering import (
    NOT_INDEXED,
    explains,
    headers_of,
    html_answer,
    is_json,
    json_answer,
    place_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datasette.app import Datasette
    from datasette.utils.asgi import Request, Response

    from datasette_embeddings.places import Place

OWN_ARGUMENTS = ("q", "k", "csrftoken")


@explains
async def search_page(datasette: Datasette, request: Request) -> Response:
    """Search one collection."""
    place = await place_of(datasette, request)
    if place.collection.images:
        return _to_the_finder(place, request)
    if request.method == "POST":
        return await _posted(place, request)
    text = request.args.get("q") or ""
    k = as_number(request.args.get("k")) or DEFAULT_K
    pairs = filter_pairs(request)
    found = await search(place, text, k, pairs)
    headers = {**await headers_of(place), **NOT_INDEXED}
    if is_json(request):
        return json_answer(datasette, _as_dict(place, text, found), headers)
    context = {
        "place": place,
        "database": place.database,
        "q": text,
        "k": k,
        "found": found,
        "floor": place.collection.noise_floor,
        "facets": await facets_of(place, text, k, pairs),
        "chips": chips_of(pairs, lambda others: _url(place, text, k, others)),
        "sql_url": await sql_url(place, found),
        "table_url": _table_url(place, text, pairs),
        "more_url": _url(place, text, k * 2, pairs) if len(found.results) == k else None,
        "ask_url": f"{place.url}/ask?{urlencode([('q', text), *pairs])}",
        "by_post": asks_by_post(place),
        "private": not await place.is_public(),
    }
    return await html_answer(datasette, request, "search.html", context, headers)


async def _posted(place: Place, request: Request) -> Response:
    """Embed the text of a form and lead to the page that shows what it finds.

    Where texts go to another machine forms are sent this way, so that no crawler or image on another site sends one.
    """
    from datasette.utils.asgi import Response

    posted = parse_qsl((await request.post_body()).decode("utf-8", "replace"), keep_blank_values=True)
    own = dict(posted)
    text = own.get("q", "")
    pairs = [(name, value) for name, value in posted if name not in OWN_ARGUMENTS]
    k = as_number(own.get("k")) or DEFAULT_K
    await search(place, text, k, pairs)
    return Response.redirect(_url(place, text, k, pairs), status=303)


def _to_the_finder(place: Place, request: Request) -> Response:
    """Lead to where pictures are searched, with the same words and filters; a form that was posted is posted there again."""
    from datasette.utils.asgi import Response

    query = f"?{request.query_string}" if request.query_string else ""
    return Response.redirect(f"{place.url}/images{request.url_vars.get('format') or ''}{query}", status=307)


def filter_pairs(request: Request) -> list[tuple[str, str]]:
    """Return the filters of a request: everything but our own arguments; raises EmbeddingsError for what is no filter."""
    pairs = [
        (name, value) for name in request.args for value in request.args.getlist(name) if name not in OWN_ARGUMENTS
    ]
    return require_filters(pairs)


def require_filters(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return pairs that may be filters; raises EmbeddingsError for what is none."""
    for name, _ in pairs:
        if not is_filter(name):
            raise EmbeddingsError(f"{name!r} is no argument of this page; it takes q, k, and filters by column")
    return pairs


def chips_of(pairs: Sequence[tuple[str, str]], url: Callable[[list[tuple[str, str]]], str]) -> list[tuple[str, str]]:
    """Return each filter in words, with the address of the page without it."""
    return [(_words(pair), url([other for other in pairs if other != pair])) for pair in pairs]


def _as_dict(place: Place, text: str, found: Found) -> dict[str, Any]:
    return {
        "database": place.database,
        "collection": place.collection.name,
        "model": place.collection.model,
        "q": text,
        "filters": found.filters.words,
        "noise_floor": place.collection.noise_floor,
        "weak": found.weak,
        "results": [{**result.as_dict(), "url": place.row_url(result.id)} for result in found.results],
        "sql": found.sql,
        "params": found.parameters,
    }


def _url(place: Place, text: str, k: int, pairs: Sequence[tuple[str, str]]) -> str:
    number = [("k", str(k))] if k != DEFAULT_K else []
    words = [] if place.collection.images and not text else [("q", text)]
    return f"{place.search_url}?{urlencode([*words, *number, *pairs])}"


def _words(pair: tuple[str, str]) -> str:
    from datasette.filters import Filters

    return str(Filters([pair]).human_description_en()).removeprefix("where ")


def _table_url(place: Place, text: str, pairs: Sequence[tuple[str, str]]) -> str | None:
    """Return the address of the source's own page, narrowed to the best matches."""
    collection = place.collection
    if not collection.table or not collection.key or not text:
        return None
    table = place.datasette.urls.table(place.database, collection.table)
    return f"{table}?{urlencode([('_meaning', text), *pairs])}"


def asks_by_post(place: Place) -> bool:
    """Tell whether a search sends its text to another machine, so that only a form may begin one."""
    return site.is_remote(place.datasette, place.collection.model)


@dataclass(frozen=True)
class Choice:
    """A value of a facet: how many rows have it, where it leads, and whether it is chosen."""

    value: str
    count: int
    url: str
    chosen: bool


async def facets_of(
    place: Place, text: str = "", k: int = DEFAULT_K, pairs: Sequence[tuple[str, str]] = ()
) -> list[tuple[str, list[Choice]]]:
    """Return the values to narrow a search by, of the columns that the site's configuration names as facets."""
    columns = [facet for facet in place.settings.get("facets") or [] if isinstance(facet, str)]
    if not columns or not place.collection.table:
        return []
    counts = await remembered.facet_counts(place.datasette, place.database, place.collection.table, columns)
    chosen = set(pairs)

    def choice(column: str, value: str, count: int) -> Choice:
        plain = is_filter(column) and "__" not in column and column not in OWN_ARGUMENTS
        pair = (column if plain else f"{column}__exact", value)
        others = [other for other in pairs if other != pair] if pair in chosen else [*pairs, pair]
        return Choice(value, count, _url(place, text, k, others), pair in chosen)

    return [(column, [choice(column, *entry) for entry in values]) for column, values in counts.items()]
