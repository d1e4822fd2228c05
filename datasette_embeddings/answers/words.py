"""Which of a question's words texts hold, endings and accents aside: as full-text search finds them."""

from __future__ import annotations

import math
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from datasette_embeddings.excerpts import GRAMMAR, telling
from datasette_embeddings.fulltext import TOKENIZER, WORD, supported, terms
from datasette_embeddings.models.base import CHARACTERS_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def tokens_of(text: str) -> int:
    """Return about how many tokens a text has for a chat model: a quarter of its bytes.

    English has four letters a token; other scripts have more bytes a letter, and more tokens.
    """
    return -(-len(text.encode("utf-8", "replace")) // CHARACTERS_PER_TOKEN)


def telling_terms(question: str) -> list[str]:
    """Return the words and phrases of a question that are more than grammar, or all where none is."""
    return telling(terms(question))


def held(texts: Sequence[str], wanted: Sequence[str]) -> list[frozenset[str]]:
    """Return, for each text, which of the *wanted* terms it holds."""
    with closing(sqlite3.connect(":memory:")) as conn:
        if not supported(conn):
            return [_held_plainly(text, wanted) for text in texts]
        conn.execute(f"create virtual table texts using fts5(body, tokenize='{TOKENIZER}')")
        conn.executemany("insert into texts (rowid, body) values (?, ?)", enumerate(texts))
        found: list[set[str]] = [set() for _ in texts]
        for term in wanted:
            for (number,) in conn.execute("select rowid from texts where texts match ?", [term]):
                found[number].add(term)
    return [frozenset(one) for one in found]


def _held_plainly(text: str, wanted: Sequence[str]) -> frozenset[str]:
    words = f" {' '.join(WORD.findall(text.lower()))} "
    return frozenset(term for term in wanted if f" {term.strip(chr(34)).lower()} " in words)


def weights(holding: Sequence[frozenset[str]], wanted: Sequence[str]) -> dict[str, float]:
    """Return how much each term says, rarer ones more (inverse document frequency among these texts); the sum is 1."""
    counts = {term: sum(term in one for one in holding) for term in wanted}
    idf = {term: math.log(1 + len(holding) / (1 + count)) for term, count in counts.items()}
    total = sum(idf.values()) or 1.0
    return {term: value / total for term, value in idf.items()}


def share(holds: frozenset[str], weight: Mapping[str, float]) -> float:
    """Return how much of a question a text holds, in [0, 1]."""
    return sum(weight[term] for term in holds)


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text that are more than grammar, in lower case; letters where words have no blanks between."""
    words = (word for word in WORD.findall(text.lower()) if word not in GRAMMAR)
    return frozenset(part for word in words for part in (word if UNSPACED.match(word) else [word]))


UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Scripts that are written without blanks: Thai, Lao, Burmese, Khmer, Japanese and Chinese."""


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Return how alike two texts are by their words: the cosine of word sets, in [0, 1]."""
    return len(one & other) / math.sqrt(len(one) * len(other)) if one and other else 0.0
