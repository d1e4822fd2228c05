"""Before one of our own search queries runs, its text is embedded and its index loaded, outside the time limit of queries.

The SQL function then finds both in memory. And what goes wrong is said to the visitor in words, which SQLite would
not let through.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from datasette_embeddings import asking, compat, indexes
from datasette_embeddings.asking import Refused
from datasette_embeddings.catalog import Collection, find_collection
from datasette_embeddings.errors import UnknownCollection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from datasette.app import Datasette

    from datasette_embeddings.embedder import Embedder
    from datasette_embeddings.models import Purpose

    App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]

PATH = re.compile(
    r"/(?P<database>[^/]+)/(?P<query>(?P<kind>search|hybrid|images|arithmetic|classify)_(?P<collection>[A-Za-z0-9_]+))(\.[a-z]+)?\Z"
)

TEXTS: dict[str, Purpose] = {"search": "query", "hybrid": "query", "images": "query", "classify": "document"}
"""Queries that embed what they are given, and what for; arithmetic looks its words up among the stored vectors."""

SEARCHES = {"search", "hybrid", "images", "arithmetic"}
"""Queries that look among all vectors of a collection."""

log = logging.getLogger(__name__)


def wrap(app: App, datasette: Datasette, embedder: Callable[[], Embedder]) -> App:
    """Return an ASGI application that embeds the text of a search query before passing the request on."""

    async def prefetching(scope: dict[str, Any], receive: object, send: object) -> None:
        refused = None
        if scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}:
            refused = await embed_query_of(scope, datasette, embedder)
        if refused is None:
            await app(scope, receive, send)
        else:
            await answer(refused, scope, send, datasette)

    return prefetching


async def answer(refused: Refused, scope: dict[str, Any], send: object, datasette: Datasette) -> None:
    """Send a refusal as Datasette sends its own errors: a page, or JSON where that is asked for."""
    response = await compat.error_response(datasette, scope, refused.sentence, refused.status)
    response.headers.update(refused.headers)
    await response.asgi_send(send)


async def embed_query_of(
    scope: dict[str, Any], datasette: Datasette, embedder: Callable[[], Embedder]
) -> Refused | None:
    """Put the vector of a search request's text into the cache, where the actor may view that query.

    Returns why there is none, where the query is ours. One that the site has put in its place may do without.
    """
    base = datasette.setting("base_url").rstrip("/")
    match = PATH.match(scope["path"].removeprefix(base))
    if match is None:
        return None
    text = (parse_qs(scope["query_string"].decode("latin-1")).get("q") or [""])[0]
    if not text.strip():
        return None
    from datasette.utils import tilde_decode

    database = tilde_decode(match["database"])
    if database not in compat.served_databases(datasette):
        return None
    actor = await compat.actor_of(datasette, scope)
    if not await compat.may_view_query(datasette, actor, database, match["query"]):
        return None
    try:
        await _embed(datasette.get_database(database), match["collection"], text, embedder(), match["kind"])
    except Refused as refused:
        log.warning("%s/%s is not run: %s", database, match["query"], refused)
        return refused if await compat.is_our_query(datasette, actor, database, match["query"]) else None
    return None


async def _embed(database: Any, name: str, text: str, embedder: Embedder, kind: str) -> None:  # noqa: ANN401
    """Put the vector of *text* into the cache and load what the collection is searched in, as far as a query of that *kind* needs it."""
    try:
        collection: Collection = await database.execute_fn(lambda conn: find_collection(conn, name))
    except UnknownCollection:
        return
    if kind in TEXTS:
        await asking.query_vector(embedder, collection, text, TEXTS[kind])
    if kind in SEARCHES:
        await database.execute_fn(lambda conn: indexes.warm(conn, name))
