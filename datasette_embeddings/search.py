"""The nearest items of a query, exactly: by its vector, or by its vector and its words together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasette_embeddings import catalog, fulltext, matrices, vectors
from datasette_embeddings.catalog import parent_of
from datasette_embeddings.errors import DimensionMismatch
from datasette_embeddings.limits import MAX_K

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables


class Hit(NamedTuple):
    """One result: the row's id, its score in [-1, 1], higher is closer, and the best of its chunks where it has any."""

    id: str
    score: float
    chunk: str | None = None


class Scored(NamedTuple):
    """Items (rows, or chunks of rows) and their scores (n,) float64, side by side."""

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
    """Return the *k* rows nearest to the vector *query*, best first, ties by id; only those in *ids* where given.

    A row in chunks has the score of its best chunk. k is capped at MAX_K. Rows whose stored value is no embedding of the query's dimensions are passed over; where none
    has them, that is a DimensionMismatch.
    """
    return best(scores_of(conn, tables, collection, query, ids), k, collection)


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


def best(scored: Scored, k: int, collection: Collection) -> list[Hit]:
    """Return the k best rows by score descending, then id."""
    k = min(k, MAX_K)
    if not collection.chunk:
        return _best_items(scored, k)[:k]
    looked_at = k
    while True:
        looked_at *= CHUNKS_A_ROW
        rows = _best_rows(_best_items(scored, looked_at))
        if len(rows) >= k or looked_at >= len(scored.ids):
            return rows[:k]


CHUNKS_A_ROW = 4
"""Chunks looked at for each row wanted, and how many times more where that was not enough: most rows are found by one or two."""


def _best_items(scored: Scored, k: int) -> list[Hit]:
    """Return the k best items by score descending, then id, with those whose score is that of the last."""
    ids, scores = scored
    if len(ids) > k > 0:
        floor = np.partition(scores, len(ids) - k)[len(ids) - k]
        chosen = np.flatnonzero(scores >= floor)
    else:
        chosen = np.arange(len(ids))
    found = [Hit(ids[i], float(scores[i])) for i in chosen.tolist()]
    return sorted(found, key=lambda hit: (-hit.score, hit.id))


def _best_rows(chunks: Sequence[Hit]) -> list[Hit]:
    """Return the row of each chunk with the best of its chunks, by score descending, then id."""
    rows: dict[str, Hit] = {}
    for chunk in chunks:
        row = parent_of(chunk.id)
        rows.setdefault(row, Hit(row, chunk.score, chunk.id))
    return sorted(rows.values(), key=lambda hit: (-hit.score, hit.id))


def related_items(conn: sqlite3.Connection, tables: Tables, collection: Collection, row: str, k: int) -> list[Hit]:
    """Return the *k* rows nearest to a row of the collection, from the stored similarities where these are enough.

    Of rows in chunks, means are compared where similarities are stored, else a mean with each chunk. [] for a row without a vector.
    """
    if collection.stores_related(k):
        sql = (
            f"select other_id, score from {tables.similarities} where collection_id = ? and id = ? "
            "order by score desc, other_id limit ?"
        )
        return [Hit(*found) for found in conn.execute(sql, [collection.id, row, k])]
    vector = catalog.item_vector(conn, collection, row, tables)
    if not isinstance(vector, bytes):
        return []
    hits = nearest_items(conn, tables, collection, vector, k + 1)
    return [Hit(hit.id, hit.score) for hit in hits if hit.id != row][:k]


def hybrid_items(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    query: bytes | None,
    text: str,
    k: int,
    ids: Sequence[str] | None = None,
) -> list[Hit]:
    """Return the *k* rows nearest to a query by the vector *query* and the words of *text* together.

    Without a full-text index, or where no word is found, these are the nearest items by vector. Without a vector, as the model
    knows no word of the text, they are those that hold its words.
    """
    return best(_hybrid_scores(conn, tables, collection, query, text, ids), k, collection)


def hybrid_parts(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    query: bytes | None,
    text: str,
    k: int,
    ids: Sequence[str] | None = None,
) -> list[Hit]:
    """Return the *k* best chunks as `hybrid_items` ranks them, several of one row among them; rows where those are whole."""
    found = _best_items(_hybrid_scores(conn, tables, collection, query, text, ids), min(k, MAX_K))[:k]
    return [Hit(parent_of(hit.id), hit.score, hit.id) for hit in found] if collection.chunk else found


def _hybrid_scores(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    query: bytes | None,
    text: str,
    ids: Sequence[str] | None,
) -> Scored:
    if query is None:
        scored = words_alone(conn, tables, collection, text, ids)
    else:
        scored = scores_of(conn, tables, collection, query, ids)
    return Scored(scored.ids, raised(conn, tables, collection, scored, text))


def words_alone(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, text: str, ids: Sequence[str] | None
) -> Scored:
    """Return the items that hold a word of a text, each with the score 0; of the rows *ids* where given."""
    import orjson

    index, wanted = fulltext.text_index(conn, tables, collection), fulltext.terms(text)
    found = [match.id for match in index.matches(conn, fulltext.any_of(wanted))] if index and wanted else []
    rows = None if ids is None else set(ids)
    among = [item for item in found if rows is None or collection.row_of(item) in rows]
    sql = f"select id from {tables.embeddings} where collection_id = ? and id in (select value from json_each(?)) order by id"
    items = [row[0] for row in conn.execute(sql, [collection.id, orjson.dumps(among).decode()])]
    return Scored(items, np.zeros(len(items)))


def raised(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, scored: Scored, text: str
) -> NDArray[np.float64]:
    """Return scores raised by the words that an item holds: v + (1 - v) c^p, at least v and at most 1.

    v is the cosine, and c in [0, 1] how much of the BM25 that the query could reach at most the item does reach. So full-text
    search closes a share of the distance to 1; a floor on cosines keeps its meaning. p is 2, so that little words count hardly at
    all: of ten sets of questions with two models, none is answered significantly worse than by the better of the two searches
    (docs/performance.md, hybrid). Where most texts are in a language that the model was not made for, words say more than its
    vectors, and p is 1/2: likewise for two sets in German and French with two English models (relevance).
    """
    index = fulltext.text_index(conn, tables, collection)
    wanted = fulltext.terms(text)
    if index is None or not wanted:
        return scored.scores
    found = index.shares(conn, wanted)
    share = np.array([found.get(item, 0.0) for item in scored.ids])
    power = 0.5 if (collection.foreign_share or 0.0) > MOSTLY else 2.0
    return np.asarray(np.round(scored.scores + (1.0 - scored.scores) * share**power, vectors.SCORE_DECIMALS))


MOSTLY = 0.5
