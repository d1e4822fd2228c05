"""From a question to the excerpts that may answer it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasette_embeddings.answers.choosing import choose, cost_of, worth_reading
from datasette_embeddings.answers.passages import passages_of
from datasette_embeddings.errors import EmbeddingsError
from datasette_embeddings.limits import CONTEXT_TOKENS, RETRIEVED_ROWS
from datasette_embeddings.search import hybrid_parts

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from datasette_embeddings.answers.passages import Passage
    from datasette_embeddings.answers.question import Question
    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables


@dataclass(frozen=True)
class Wish:
    """How much is wanted: tokens of all excerpts, how many at most, and of which rows where not of all."""

    tokens: int = CONTEXT_TOKENS
    number: int | None = None
    ids: Sequence[str] | None = None


def gather(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    question: Question,
    wish: Wish | None = None,
    label: str | None = None,
) -> list[Passage]:
    """Return the excerpts that may answer a question, best first; [] where these documents hold nothing near to it.

    Raises DimensionMismatch where the question's vector is not of the collection's model, EmbeddingsError where no excerpt fits.
    """
    if not question.text.strip():
        return []
    wish = wish or Wish()
    hits = hybrid_parts(conn, tables, collection, question.vector, question.text, RETRIEVED_ROWS, wish.ids)
    passages = passages_of(conn, tables, collection, hits, question, label)
    found = worth_reading(passages, collection.noise_floor)
    chosen = choose(found, wish.tokens, wish.number)
    if found and wish.tokens and not chosen:
        needed = min(cost_of(passage) for passage in found)
        raise EmbeddingsError(f"no excerpt fits into {wish.tokens} tokens; the shortest that was found needs {needed}")
    return chosen
