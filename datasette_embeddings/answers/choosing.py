"""Which passages a question is answered from: near to it, and not all saying the same, within a budget of tokens.

Maximal marginal relevance: Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering documents and
producing summaries", SIGIR 1998.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from datasette_embeddings.answers.words import overlap, tokens_of, word_set
from datasette_embeddings.limits import PASSAGES_PER_ROW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.answers.passages import Passage

LAMBDA = 0.7
"""How much nearness to the question weighs against being unlike what is chosen already; 1 is nearness alone."""

HEADER_TOKENS = 20
"""What the number, the id and the title of a passage take."""


def worth_reading(passages: Sequence[Passage], floor: float | None) -> list[Passage]:
    """Return the passages that may answer: those of rows above the noise floor, and those with enough of the question's words.

    Where nobody knows the floor, all may.
    """
    return [p for p in passages if floor is None or p.score >= floor or p.holds >= ENOUGH_WORDS]


ENOUGH_WORDS = 0.5
"""How much of what a question's telling words say a passage holds to be read although its meaning is far: the better half."""


def choose(
    passages: Sequence[Passage], tokens: int, number: int | None = None, per_row: int = PASSAGES_PER_ROW
) -> list[Passage]:
    """Return passages that fit into so many tokens together, numbered from 1 in the order in which they are chosen.

    Each is the one for which lambda * score - (1 - lambda) * (similarity to the most similar passage chosen before) is highest.
    *number*: how many at most; *per_row*: how many of one row.
    """
    left = list(range(len(passages)))
    costs = [cost_of(passage) for passage in passages]
    alike = similarities(passages)
    nearest = np.zeros(len(passages))
    scores = np.array([passage.score for passage in passages])
    rows: Counter[str] = Counter()
    chosen: list[int] = []
    while left and (number is None or len(chosen) < number):
        left = [n for n in left if costs[n] <= tokens and rows[passages[n].item] < per_row]
        if not left:
            break
        best = max(left, key=lambda n: (LAMBDA * scores[n] - (1 - LAMBDA) * nearest[n], -n))
        chosen.append(best)
        left.remove(best)
        tokens -= costs[best]
        rows[passages[best].item] += 1
        nearest = np.maximum(nearest, alike[best])
    return [replace(passages[n], number=place) for place, n in enumerate(chosen, 1)]


def cost_of(passage: Passage) -> int:
    """Return about how many tokens a passage takes among the excerpts."""
    return tokens_of(passage.text) + HEADER_TOKENS


def similarities(passages: Sequence[Passage]) -> NDArray[np.float64]:
    """Return how alike passages are (n, n), in [0, 1]: by their vectors where both have one, else by their words."""
    words = [word_set(passage.text) for passage in passages]
    found = np.array([[overlap(one, other) for other in words] for one in words]).reshape(len(words), len(words))
    known = {n: passage.vector for n, passage in enumerate(passages) if passage.vector is not None}
    if known:
        matrix = np.stack(list(known.values())).astype(np.float64)
        found[np.ix_(list(known), list(known))] = np.clip(matrix @ matrix.T, 0.0, 1.0)
    return np.asarray(np.round(found, 6))
