"""A visitor's question to one collection: excerpts of the rows that meet filters, and the answer that is made of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from datasette_embeddings import asking, chatting, queries, site
from datasette_embeddings.answers.citing import Sentence
from datasette_embeddings.answers.gathering import Wish, gather
from datasette_embeddings.answers.question import with_vector
from datasette_embeddings.answers.quoting import quote_from
from datasette_embeddings.database import literal
from datasette_embeddings.errors import CutShort, ModelError, for_visitors
from datasette_embeddings.finding import Filters, current, filters_of, ids_among

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator

    from datasette_embeddings.answers.passages import Passage
    from datasette_embeddings.answers.question import Question
    from datasette_embeddings.finding import Pairs
    from datasette_embeddings.places import Place


@dataclass
class Reply:
    """The answer to a question, as far as it is there.

    *chat_model*: which wrote it, None for quotations. *notice*: why it is not whole, or not the model's.
    """

    question: Question
    passages: list[Passage]
    filters: Filters
    sentences: list[Sentence] = field(default_factory=list)
    chat_model: str | None = None
    notice: str = ""


async def prepare(place: Place, text: str, number: int | None = None, pairs: Pairs = ()) -> Reply:
    """Return the excerpts that may answer a question, *number* at most, among the rows that meet the filters; no answer yet.

    Raises asking.Refused where the question cannot be embedded, SourceError for filters that are none.
    """
    embedder = site.embedder_of(place.datasette)
    vector = await asking.query_vector(embedder, place.collection, text)
    question = with_vector(asking.opened(embedder), place.collection, text, vector)

    def run(conn: sqlite3.Connection) -> Reply:
        tables, collection = current(conn, place)
        filters = filters_of(conn, collection, pairs)
        among = queries.ids_of_rows(conn, collection, filters.conditions) if filters.conditions else ""
        ids = ids_among(conn, among, filters) if among else None
        wish = Wish(number=number, ids=ids)
        return Reply(question, gather(conn, tables, collection, question, wish, place.label), filters)

    return await place.search(run)


async def quoted(place: Place, reply: Reply) -> Reply:
    """Return the reply with the rows' own sentences as its answer; chosen by words alone where the model is too busy."""
    embedder = site.embedder_of(place.datasette)

    def quote() -> list[Sentence]:
        return quote_from(reply.question, reply.passages)

    if reply.question.text.strip():
        try:
            reply.sentences = await asking.in_turn(embedder, place.collection.model, quote)
        except asking.Refused:
            reply.sentences = quote_from(replace(reply.question, model=None), reply.passages)
    return reply


async def written(place: Place, reply: Reply) -> AsyncIterator[Sentence]:
    """Yield the sentences of the chat model's answer as they come, and keep them in the reply.

    Where nothing could hold an answer, no model is asked. Where the model gives none, these are quotations, and the notice says so.
    """
    config = site.config_of(place.datasette)
    if config.chat_model is None or not reply.passages:
        for sentence in (await quoted(place, reply)).sentences:
            yield sentence
        return
    writing = chatting.written(config.chat_model, config.models, reply.question.text, reply.passages)
    reply.chat_model = config.chat_model
    try:
        async for sentence in writing:
            reply.sentences.append(sentence)
            yield sentence
    except CutShort as cut:
        reply.notice = f"The answer is not whole: {for_visitors(cut.reason)}."
    except ModelError as error:
        reply.notice = f"{for_visitors(error)}. These are quotations."
    finally:
        await writing.aclose()  # type: ignore[attr-defined]
    if reply.notice and not reply.sentences:
        reply.chat_model = None
        for sentence in (await quoted(place, reply)).sentences:
            yield sentence


def sql_of(place: Place) -> str:
    """Return the SQL that gives the excerpts."""
    return f"select embed_context({literal(place.collection.name)}, :q) as context"
