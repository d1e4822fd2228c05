"""/-/embeddings/DATABASE/COLLECTION/ask: a question answered from rows, by quotations or by the site's chat model.

A GET never asks the chat model, which costs somebody money or time: a form's POST does. Its answer comes as a page, as JSON
(`.json`), or line by line while it is written, for `static/ask.js`.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from datasette_embeddings import chatting, compat, replying, site
from datasette_embeddings.answers.citing import answer_dict, says_not_found
from datasette_embeddings.errors import EmbeddingsError
from datasette_embeddings.finding import as_number
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
from datasette_embeddings.pages.search import OWN_ARGUMENTS, asks_by_post, chips_of, filter_pairs, require_filters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from datasette.app import Datasette
    from datasette.utils.asgi import Request, Response

    from datasette_embeddings.places import Place
    from datasette_embeddings.replying import Reply

    Pairs = Sequence[tuple[str, str]]

LINES = "application/x-ndjson"
"""JSON, a line for each event: what a page with JavaScript asks for."""


@explains
async def ask_page(datasette: Datasette, request: Request) -> Any:  # noqa: ANN401
    """Answer a question."""
    from datasette.utils.asgi import Response

    place = await place_of(datasette, request)
    if place.collection.images:
        raise EmbeddingsError(
            f"the pictures of {place.collection.name} hold no text to quote; its pages of pictures find those that look alike"
        )
    if request.method == "POST":
        return await _posted(place, request)
    if request.method not in {"GET", "HEAD"}:
        return Response.text("Method not allowed: GET quotations, POST a question", 405, {"Allow": "GET, HEAD, POST"})
    text, k, pairs = request.args.get("q") or "", as_number(request.args.get("k")), filter_pairs(request)
    reply = await replying.quoted(place, await replying.prepare(place, text, k, pairs))
    headers = {**await headers_of(place), **NOT_INDEXED}
    if is_json(request):
        return json_answer(datasette, _as_dict(place, reply), headers)
    return await _page(place, request, reply, k, headers)


async def _posted(place: Place, request: Request) -> Any:  # noqa: ANN401
    from datasette.utils.asgi import Response

    fields = await posted_fields(request)
    own = dict(fields)
    text, k = own.get("q", ""), as_number(own.get("k"))
    pairs = require_filters([(name, value) for name, value in fields if name not in OWN_ARGUMENTS])
    by_model = site.config_of(place.datasette).chat_model is not None and bool(text.strip())
    if not by_model and not is_json(request):
        await replying.prepare(place, text, k, pairs)  # embeds the question, as a POST may where a GET should not
        return Response.redirect(ask_url(place, text, k, pairs), status=303)
    reply = await replying.prepare(place, text, k, pairs)
    events = _events(place, reply, by_model and bool(reply.passages))
    first = await anext(events)  # raises Refused, while there is a status to say so
    lines = while_connected(request, first, events)
    headers = {**PRIVATE, **NOT_INDEXED}
    if LINES in request.headers.get("accept", ""):
        return Lines(lines, {**headers, "X-Accel-Buffering": "no"})
    async for _ in lines:
        pass
    if is_json(request):
        return json_answer(place.datasette, _as_dict(place, reply), headers)
    return await _page(place, request, reply, k, headers)


def ask_url(place: Place, text: str = "", k: int | None = None, pairs: Pairs = ()) -> str:
    """Return the address of the quotations that answer a question."""
    number = [("k", str(k))] if k else []
    query = urlencode([("q", text), *number, *pairs]) if text else ""
    return f"{place.url}/ask" + (f"?{query}" if query else "")


async def _page(place: Place, request: Request, reply: Reply, k: int | None, headers: dict[str, str]) -> Response:
    chat_model = site.config_of(place.datasette).chat_model
    pairs = reply.filters.pairs
    text = reply.question.text
    sql = replying.sql_of(place)
    may_run = not pairs and not asks_by_post(place)
    may_run = may_run and await compat.may_execute_sql(place.datasette, place.actor, place.database)
    context = {
        "place": place,
        "database": place.database,
        "q": text,
        "k": k,
        "reply": reply,
        "found": not says_not_found(reply.sentences),
        "removed": sum(sentence.removed for sentence in reply.sentences),
        "chat_model": chat_model,
        "by_post": chat_model is not None or asks_by_post(place),
        "chips": chips_of(pairs, lambda others: ask_url(place, text, k, others)),
        "quotations_url": ask_url(place, text, k, pairs),
        "search_url": f"{place.url}/search?{urlencode([('q', text), *pairs])}",
        "sql_url": compat.query_url(place.datasette, place.database, sql, {"q": text}) if may_run and text else None,
        "private": not await place.is_public(),
    }
    return await html_answer(place.datasette, request, "ask.html", context, headers)


def _as_dict(place: Place, reply: Reply) -> dict[str, Any]:
    return {
        "database": place.database,
        "collection": place.collection.name,
        "model": place.collection.model,
        "q": reply.question.text,
        "filters": reply.filters.words,
        **_excerpts(place, reply, answer_dict(reply.sentences, reply.passages, reply.chat_model, reply.notice)),
    }


def _excerpts(place: Place, reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
    return {
        **body,
        "excerpts": [{**passage.as_dict(), "url": place.row_url(passage.item)} for passage in reply.passages],
    }


async def _events(place: Place, reply: Reply, by_model: bool) -> AsyncIterator[dict[str, Any]]:
    """Yield the excerpts, then each sentence, then the rest of what JSON says of an answer.

    Raises Refused before anything is yielded where the chat model would be asked and may not be.
    """
    with chatting.turn(site.answers_of(place.datasette)) if by_model else nullcontext():
        yield _excerpts(place, reply, {})
        writing = replying.written(place, reply)
        try:
            async for sentence in writing:
                yield {"sentence": sentence.as_dict()}
        finally:
            await writing.aclose()  # type: ignore[attr-defined]
    body = answer_dict(reply.sentences, [], reply.chat_model, reply.notice)
    yield {"done": {name: body[name] for name in ("chat_model", "found", "notice", "removed_citations")}}


async def while_connected(
    request: Request, first: dict[str, Any], events: AsyncIterator[dict[str, Any]]
) -> AsyncIterator[dict[str, Any]]:
    """Yield the *first* event and then events until there are no more, or the visitor has left: then their maker is told to stop."""
    gone = asyncio.ensure_future(_gone(request.receive))
    step = None
    try:
        yield first
        while True:
            step = asyncio.ensure_future(anext(events, None))
            await asyncio.wait({step, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not step.done() or (event := step.result()) is None:
                return
            yield event
    finally:
        waiting = [task for task in (gone, step) if task is not None]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await events.aclose()  # type: ignore[attr-defined]


async def _gone(receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Lines:
    """A response that sends each event as a line of JSON, as it comes."""

    def __init__(self, events: AsyncIterator[dict[str, Any]], headers: dict[str, str]) -> None:
        self.events = events
        self.headers = headers
        self.status = 200

    async def asgi_send(self, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Send the response."""
        import orjson

        headers = {**self.headers, "content-type": f"{LINES}; charset=utf-8"}
        raw = [[name.lower().encode(), value.encode()] for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        async for event in self.events:
            line = orjson.dumps(event, default=str) + b"\n"
            await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
