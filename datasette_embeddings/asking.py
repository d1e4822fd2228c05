"""Embedding what a visitor asks for: outside Datasette's SQL threads, one text at a time, within a deadline.

So a model that takes its time to load, or runs on another machine, can serve pages and forms without being open to
arbitrary SQL, and holds up nobody who only reads.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from datasette_embeddings.errors import BudgetExceeded, EmbeddingsError, for_visitors
from datasette_embeddings.limits import MAX_QUERY_CHARACTERS, PREFETCH_SECONDS
from datasette_embeddings.thumbnails import thumbnail

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.embedder import Embedder
    from datasette_embeddings.models import Purpose
    from datasette_embeddings.thumbnails import Thumbnail

    Result = TypeVar("Result")

_gate = ThreadPoolExecutor(1, thread_name_prefix="embeddings-query")
"""One thread: at most one query is being embedded at a time, and none in Datasette's SQL threads."""


class Refused(EmbeddingsError):
    """A visitor's query is not answered: what the visitor is told, with which HTTP status, and when to try again."""

    def __init__(self, sentence: str, status: int = 400, retry_seconds: int | None = None) -> None:
        super().__init__(sentence)
        self.sentence = for_visitors(sentence)
        self.status = status
        self.retry_seconds = retry_seconds

    @property
    def headers(self) -> dict[str, str]:
        """The headers that tell programs when to try again."""
        return {} if self.retry_seconds is None else {"Retry-After": str(self.retry_seconds)}


async def query_vector(
    embedder: Embedder, collection: Collection, text: str, purpose: Purpose = "query"
) -> bytes | None:
    """Return the vector of a query to a collection; raises Refused.

    None for an empty text, and for one that the model knows no word of: that is then searched for by its words alone. It is then in the cache, where the SQL functions find it.
    """
    asked = opened(embedder)
    return await _within_deadline(
        embedder, collection.model, text, lambda: asked.query_if_known(collection, text, purpose)
    )


async def picture_vector(embedder: Embedder, collection: Collection, data: bytes) -> tuple[bytes, Thumbnail]:
    """Return the vector of an image file and its thumbnail, neither of which is kept; raises Refused.

    It is opened by us first, so that no model is given what is no picture, or a larger one than it may be.
    """
    asked, held = opened(embedder), [data]

    def look() -> tuple[bytes, Thumbnail]:
        picture = held.pop()
        drawn = thumbnail(picture)
        return asked.picture(collection, picture), drawn

    try:
        return await in_turn(embedder, collection.model, look)
    finally:
        held.clear()  # a call that was given up stays in the queue until the one before it ends


async def text_vector(embedder: Embedder, model: str, text: str) -> bytes | None:
    """Return the vector of a text by a model, under the rules that SQL is under; raises Refused."""
    asked = replace(embedder, guard=None)
    return await _within_deadline(embedder, model, text, lambda: asked.item(model, text, "document"))


async def _within_deadline(embedder: Embedder, model: str, text: str, ask: Callable[[], bytes | None]) -> bytes | None:
    if len(text) > MAX_QUERY_CHARACTERS:
        raise Refused(f"this text has {len(text):,} characters; a search takes at most {MAX_QUERY_CHARACTERS:,}")
    return await in_turn(embedder, model, ask)


async def in_turn(embedder: Embedder, model: str, ask: Callable[[], Result], texts: int = 1) -> Result:
    """Return what *ask* gets from a model for so many texts, in the one thread that may; raises Refused."""
    try:
        waiting = asyncio.get_running_loop().run_in_executor(_gate, ask)
        return await asyncio.wait_for(waiting, PREFETCH_SECONDS)
    except BudgetExceeded as error:
        raise Refused(str(error), 429, embedder.budget.wait_seconds(texts) if embedder.budget else None) from error
    except EmbeddingsError as error:
        raise Refused(str(error)) from error
    except asyncio.TimeoutError as error:
        raise Refused(f"{model} gave no vector within {PREFETCH_SECONDS:.0f} s; try again in a minute", 504) from error


def opened(embedder: Embedder) -> Embedder:
    """Return the embedder that may ask remote models, and wait for any: the query asked for is the site's own."""
    return replace(embedder, allow_remote=True, guard=None)
