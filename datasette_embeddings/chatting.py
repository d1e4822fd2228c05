"""Asking a chat model for a visitor: outside Datasette's SQL threads, few answers at a time, given up when the visitor leaves."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from datasette_embeddings.answers.citing import cite
from datasette_embeddings.answers.prompting import prompt
from datasette_embeddings.asking import Refused
from datasette_embeddings.chat import get_chat
from datasette_embeddings.errors import BudgetExceeded
from datasette_embeddings.limits import ANSWER_TOKENS, ANSWERS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from typing import Any

    from datasette_embeddings.answers.citing import Sentence
    from datasette_embeddings.answers.passages import Passage
    from datasette_embeddings.budget import Budget

_readers = ThreadPoolExecutor(ANSWERS_AT_ONCE, thread_name_prefix="embeddings-answer")
"""Threads that wait for the next sentence of an answer."""

_being_written: set[object] = set()

RETRY_SECONDS = 10
"""When to try again where other answers are being written: one takes about so long."""


@contextmanager
def turn(budget: Budget) -> Iterator[None]:
    """Take one question off the budget and be one of the few whose answers are being written.

    Raises Refused where there is none left, or where too many are being written.
    """
    if len(_being_written) >= ANSWERS_AT_ONCE:
        raise Refused(
            f"{ANSWERS_AT_ONCE} answers are being written already, and no more at a time; try again in {RETRY_SECONDS} s",
            429,
            RETRY_SECONDS,
        )
    try:
        budget.spend()
    except BudgetExceeded as error:
        raise Refused(str(error), 429, budget.wait_seconds()) from error
    own = object()
    _being_written.add(own)
    try:
        yield
    finally:
        _being_written.discard(own)


async def written(
    name: str, settings: Mapping[str, Mapping[str, Any]], question: str, passages: Sequence[Passage]
) -> AsyncIterator[Sentence]:
    """Yield the sentences of a chat model's answer as they are written; closing it closes the connection to the model.

    Raises ModelError: before the first where there is no answer, CutShort after the last of one that ends too early.
    """
    loop = asyncio.get_running_loop()
    pieces = None
    try:
        chat = await loop.run_in_executor(_readers, get_chat, name, settings)
        pieces = chat.answer(*prompt(question, passages), ANSWER_TOKENS)
        reading = cite(pieces, len(passages))
        while (sentence := await loop.run_in_executor(_readers, next, reading, None)) is not None:
            yield sentence
    finally:
        if pieces is not None:
            pieces.close()
