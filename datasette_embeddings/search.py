"""The nearest items of a query, exactly: by its vector, or by its vector and its words together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasette_embeddings import fulltext, matrices, vectors
from datasette_embeddings.errors import DimensionMismatch
from datasette_embeddings.limits import MAX_K

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables


class Hit(NamedTuple):
    """One result: the item's id and its score in [-1, 1], higher is closer."""

    id: str
    score: float


class Scored(NamedTuple):
    """Items and their scores (n,) float64, side by side."""

    ids: Sequence[str]
    scores: NDArray[np.float64]


def nearest_items(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    query: bytes,
    k: int,
    ids: Sequence[str] | None = None,
) -> list[Hit]:
    """Return the *k* items nearest to the vector *query*, best first, ties by id; only those in *ids* where given.

    k is capped at MAX_K. Rows whose stored value is no embedding of the query's dimensions are passed over; where none
    has them, that is a DimensionMismatch.
    """
    return best(scores_of(conn, tables, collection, query, ids), k)


def scores_of(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    query: bytes,
    ids: Sequence[str] | None = None,
) -> Scored:
    """Return the score of every item, or of those in *ids*; raises as `nearest_items`."""
    vector = vectors.decode(vectors.normalize(query))
    if collection.dimensions not in {None, vector.size}:
        raise _mismatch(vector.size, collection, str(collection.dimensions))
    names: list[str] = []
    scores: list[NDArray[np.float64]] = []
    others: set[int] = set()
    for part in matrices.parts(conn, tables, collection, vector.size, ids):
        names = part.ids if not names else names + part.ids
        scores.append(vectors.score_rows(part.rows, vector))
        others |= part.others
    if others and not names and (ids is None or others != {0}):
        raise _mismatch(vector.size, collection, ", ".join(str(size) for size in sorted(others)))
    return Scored(names, np.concatenate(scores) if scores else np.empty(0))


def _mismatch(size: int, collection: Collection, found: str) -> DimensionMismatch:
    return DimensionMismatch(
        f"the query has {size} dimensions, the collection {collection.name!r} has {found}; "
        "use a vector of the collection's own model"
    )


def best(scored: Scored, k: int) -> list[Hit]:
    """Return the k best by score descending, then id."""
    ids, scores = scored
    k = min(k, MAX_K)
    if len(ids) > k > 0:
        floor = np.partition(scores, len(ids) - k)[len(ids) - k]
        chosen = np.flatnonzero(scores >= floor)
    else:
        chosen = np.arange(len(ids))
    found = [Hit(ids[i], float(scores[i])) for i in chosen.tolist()]
    return sorted(found, key=lambda hit: (-hit.score, hit.id))[:k]


def hybrid_items(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    query: bytes | None,
    text: str,
    k: int,
    ids: Sequence[str] | None = None,
) -> list[Hit]:
    """Return the *k* items nearest to a query by the vector *query* and the words of *text* together.

    Without a full-text index, or where no word is found, these are the nearest items by vector. Without a vector, as the model
    knows no word of the text, they are those that hold its words.
    """
    if query is None:
        scored = words_alone(conn, tables, collection, text, ids)
    else:
        scored = scores_of(conn, tables, collection, query, ids)
    return best(Scored(scored.ids, raised(conn, tables, collection, scored, text)), k)


def words_alone(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, text: str, ids: Sequence[str] | None
) -> Scored:
    """Return the items that hold a word of a text, each with the score 0."""
    import orjson

    index, wanted = fulltext.text_index(conn, tables, collection), fulltext.terms(text)
    found = [match.id for match in index.matches(conn, fulltext.any_of(wanted))] if index and wanted else []
    among = found if ids is None else list(set(found) & set(ids))
    sql = f"select id from {tables.embeddings} where collection_id = ? and id in (select value from json_each(?)) order by id"
    items = [row[0] for row in conn.execute(sql, [collection.id, orjson.dumps(among).decode()])]
    return Scored(items, np.zeros(len(items)))


def raised(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, scored: Scored, text: str
) -> NDArray[np.float64]:
    """Return scores raised by the words that an item holds: v + (1 - v) c^2, at least v and at most 1.

    v is the cosine, and c in [0, 1] how much of the BM25 that the query could reach at most the item does reach. So full-text
    search closes a share of the distance to 1, hardly any where it finds little; a floor on cosines keeps its meaning. Of ten sets
    of questions with two models, none is answered significantly worse than by the better of the two searches
    (docs/performance.md, hybrid).
    """
    index = fulltext.text_index(conn, tables, collection)
    wanted = fulltext.terms(text)
    if index is None or not wanted:
        return scored.scores
    found = index.shares(conn, wanted)
    share = np.array([found.get(item, 0.0) for item in scored.ids])
    return np.asarray(np.round(scored.scores + (1.0 - scored.scores) * share**2, vectors.SCORE_DECIMALS))
