"""Before one of our own search queries runs, its text is embedded here: outside the SQL threads and their time limit.

The SQL function then finds the vector in the cache. So a model that takes its time to load, or runs on another machine, can
serve a form without being open to arbitrary SQL. And what goes wrong is said to the visitor in words, which SQLite would
not let through.
"""

from __future__ import annotations

import asyncio
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

from datasette_embeddings import compat
from datasette_embeddings.catalog import Collection, find_collection
from datasette_embeddings.errors import BudgetExceeded, EmbeddingsError, UnknownCollection
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


class Refusal(NamedTuple):
    """Why a search is not run: what the visitor is told, with which HTTP status, and when to try again."""

    sentence: str
    status: int = 400
    retry_seconds: int | None = None


def wrap(app: App, datasette: Datasette, embedder: Callable[[], Embedder]) -> App:
    """Return an ASGI application that embeds the text of a search query before passing the request on."""

    async def prefetching(scope: dict[str, Any], receive: object, send: object) -> None:
        refusal = None
        if scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}:
            refusal = await embed_query_of(scope, datasette, embedder())
        if refusal is None:
            await app(scope, receive, send)
        else:
            await answer(refusal, scope, send, datasette)

    return prefetching


async def answer(refusal: Refusal, scope: dict[str, Any], send: object, datasette: Datasette) -> None:
    """Send a refusal as Datasette sends its own errors: a page, or JSON where that is asked for."""
    response = await compat.error_response(datasette, scope, refusal.sentence, refusal.status)
    if refusal.retry_seconds is not None:
        response.headers["Retry-After"] = str(refusal.retry_seconds)
    await response.asgi_send(send)


async def embed_query_of(scope: dict[str, Any], datasette: Datasette, embedder: Embedder) -> Refusal | None:
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
    if database not in datasette.databases:
        return None
    actor = await compat.actor_of(datasette, scope)
    if not await compat.may_view_query(datasette, actor, database, match["query"]):
        return None
    refusal = await _embed(datasette.get_database(database), match["collection"], text, embedder)
    if refusal is None:
        return None
    log.warning("%s/%s is not run: %s", database, match["query"], refusal.sentence)
    return refusal if await compat.is_our_query(datasette, actor, database, match["query"]) else None


async def _embed(database: Any, name: str, text: str, embedder: Embedder) -> Refusal | None:  # noqa: ANN401
    """Put the vector of *text* into the cache; returns why there is none."""
    if len(text) > MAX_QUERY_CHARACTERS:
        return Refusal(f"this text has {len(text):,} characters; a search takes at most {MAX_QUERY_CHARACTERS:,}")
    try:
        collection: Collection = await database.execute_fn(lambda conn: find_collection(conn, name))
        waiting = asyncio.get_running_loop().run_in_executor(_gate, _opened(embedder).query, collection, text)
        await asyncio.wait_for(waiting, PREFETCH_SECONDS)
    except UnknownCollection:
        return None
    except BudgetExceeded as error:
        return Refusal(str(error), 429, embedder.budget.wait_seconds() if embedder.budget else None)
    except EmbeddingsError as error:
        return Refusal(str(error))
    except asyncio.TimeoutError:
        return Refusal(f"{collection.model} gave no vector within {PREFETCH_SECONDS:.0f} s; try again in a minute")
    return None


def _opened(embedder: Embedder) -> Embedder:
    """Return the embedder that may ask remote models: the query asked for is the site's own."""
    from dataclasses import replace

    return replace(embedder, allow_remote=True)
