"""Before one of our own search queries runs, its text is embedded here: outside the SQL threads and their time limit.

The SQL function then finds the vector in the cache. So a model that takes its time to load, or runs on another machine, can
serve a form without being open to arbitrary SQL.
"""

from __future__ import annotations

import asyncio
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from datasette_embeddings import compat
from datasette_embeddings.catalog import Collection, find_collection
from datasette_embeddings.errors import EmbeddingsError, UnknownCollection
from datasette_embeddings.limits import MAX_QUERY_CHARACTERS, PREFETCH_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from datasette.app import Datasette

    from datasette_embeddings.embedder import Embedder

    App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]

PATH = re.compile(r"/(?P<database>[^/]+)/(?P<query>search_(?P<collection>[A-Za-z0-9_]+))(\.[a-z]+)?\Z")

_gate = ThreadPoolExecutor(1, thread_name_prefix="embeddings-query")
"""One thread: at most one query is being embedded at a time, and none in Datasette's SQL threads."""

log = logging.getLogger(__name__)


def wrap(app: App, datasette: Datasette, embedder: Callable[[], Embedder]) -> App:
    """Return an ASGI application that embeds the text of a search query before passing the request on."""

    async def prefetching(scope: dict[str, Any], receive: object, send: object) -> None:
        if scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}:
            await embed_query_of(scope, datasette, embedder())
        await app(scope, receive, send)

    return prefetching


async def embed_query_of(scope: dict[str, Any], datasette: Datasette, embedder: Embedder) -> None:
    """Put the vector of a search request's text into the cache, where the actor may view that query.

    What goes wrong here goes wrong again inside the query, which is where the visitor sees it.
    """
    base = datasette.setting("base_url").rstrip("/")
    match = PATH.match(scope["path"].removeprefix(base))
    if match is None:
        return
    text = (parse_qs(scope["query_string"].decode("latin-1")).get("q") or [""])[0]
    if not text.strip() or len(text) > MAX_QUERY_CHARACTERS:
        return
    from datasette.utils import tilde_decode

    database = tilde_decode(match["database"])
    if database not in datasette.databases:
        return
    actor = await compat.actor_of(datasette, scope)
    if not await compat.may_view_query(datasette, actor, database, match["query"]):
        return
    try:
        collection: Collection = await datasette.get_database(database).execute_fn(
            lambda conn: find_collection(conn, match["collection"])
        )
        waiting = asyncio.get_running_loop().run_in_executor(_gate, _opened(embedder).query, collection, text)
        await asyncio.wait_for(waiting, PREFETCH_SECONDS)
    except UnknownCollection:
        return
    except (EmbeddingsError, asyncio.TimeoutError) as error:
        log.warning("The query of %s/%s could not be embedded: %s", database, match["query"], error or "too slow")


def _opened(embedder: Embedder) -> Embedder:
    """Return the embedder that may ask remote models: the query asked for is the site's own."""
    from dataclasses import replace

    return replace(embedder, allow_remote=True)
