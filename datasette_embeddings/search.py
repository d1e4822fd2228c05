"""The nearest items of a query, exactly: by its vector, or by its vector and its words together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasette_embeddings import catalog, fulltext, indexes, matrices, vectors
from datasette_embeddings.catalog import parent_of
from datasette_embeddings.errors import DimensionMismatch
from datasette_embeddings.indexes import Reader, Unreadable
from datasette_embeddings.limits import MAX_K

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables
    from datasette_embeddings.vectors import Vector


class Hit(NamedTuple):
    """One result: the row's id, its score in [-1, 1], higher is closer, and the best of its chunks where it has any."""

    id: str
    score: float
    chunk: str | None = None


class Scored(NamedTuple):
    """Items (rows, or chunks of rows) and their scores (n,) float64; all are among them that score *floor* or more."""

    ids: Sequence[str]
    scores: NDArray[np.float64]
    floor: float = -np.inf


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
    return best(lambda number: nearest(conn, tables, collection, query, number, ids), k, collection)


def nearest(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    query: bytes,
    k: int,
    ids: Sequence[str] | None = None,
    also: Iterable[str] = (),
) -> Scored:
    """Return the scores of items among which are the *k* nearest, and those of *also* that are there; raises as `nearest_items`.

    *ids*: of the rows that count. Few are read by their keys; so are all where there may be no index in memory.
    """
    vector = vectors.decode(vectors.normalize(query))
    if collection.dimensions not in {None, vector.size}:
        raise _mismatch(vector.size, collection, str(collection.dimensions))
    index, found = None, None
    if ids is None or len(ids) >= FEW_IDS:
        index = indexes.cache.get(conn, tables, collection, vector.size)
        found = index and _nearest_in(Reader(index, conn, tables), vector, k, ids, also)
    if index and found is None:
        index = indexes.cache.get(conn, tables, collection, vector.size, whole=True)
        found = index and _nearest_in(Reader(index, conn, tables), vector, k, ids, also)
    return found or scores_of(conn, tables, collection, vector, ids)


FEW_IDS = 256
"""Fewer items than this are read by their key sooner than they are looked up in a large index."""


def _nearest_in(
    reader: Reader, vector: Vector, k: int, ids: Sequence[str] | None, also: Iterable[str]
) -> Scored | None:
    """Return what an index finds; None where that takes all vectors, and they are not in memory."""
    index = reader.index
    if index.others and not index.ids and (ids is None or index.others != {0}):
        raise _mismatch(vector.size, index.collection, ", ".join(str(size) for size in sorted(index.others)))
    among = None if ids is None else index.of_rows(ids)
    wanted = index.of_items(also)
    if among is not None:
        wanted = np.intersect1d(wanted, among, assume_unique=True)
    try:
        found = reader.nearest(vector, k, among)
        if found is None:
            return None
        positions, scores, floor = _the_best(*found, k)
        more = np.setdiff1d(wanted, positions, assume_unique=True)
        scores = np.concatenate([scores, reader.scores(vector, more)])
    except Unreadable:
        return None
    return Scored([index.ids[place] for place in (*positions.tolist(), *more.tolist())], scores, floor)


def _the_best(
    positions: NDArray[np.int64], scores: NDArray[np.float64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Return the k best and all that score as the last of them, and that score; -inf where these are all there are."""
    if len(positions) <= k:
        return positions, scores, -np.inf
    floor = float(np.partition(scores, len(scores) - k)[len(scores) - k]) if k else np.inf
    kept = np.flatnonzero(scores >= floor)
    return positions[kept], scores[kept], floor


def scores_of(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    vector: Vector,
    ids: Sequence[str] | None = None,
) -> Scored:
    """Return the score of every item with a unit vector (d,), or of those of the rows *ids*, read from the file in parts."""
    names: list[str] = []
    scores: list[NDArray[np.float64]] = []
    others: set[int] = set()
    for part in matrices.parts(conn, tables, collection, vector.size, ids):
        names += part.ids
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


def best(find: Callable[[int], Scored], k: int, collection: Collection) -> list[Hit]:
    """Return the k best rows by score descending, then id. *find* gives items among which are so many of the best."""
    k = min(k, MAX_K)
    if not collection.chunk:
        return _best_items(find(k), k)[:k]
    looked_at = k
    while True:
        looked_at *= CHUNKS_A_ROW
        scored = find(looked_at)
        rows = _best_rows(_best_items(scored, len(scored.ids)))
        certain = sum(
            row.score >= scored.floor for row in rows
        )  # others may have a better chunk that was not looked at
        if certain >= k or scored.floor == -np.inf:
            return rows[:k]


CHUNKS_A_ROW = 4
"""Chunks looked at for each row wanted, and how many times more where that was not enough: most rows are found by one or two."""


def _best_items(scored: Scored, k: int) -> list[Hit]:
    """Return the k best items by score descending, then id, with those whose score is that of the last."""
    ids, scores, _ = scored
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
    return best(_hybrid(conn, tables, collection, query, text, ids), k, collection)


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
    k = min(k, MAX_K)
    found = _best_items(_hybrid(conn, tables, collection, query, text, ids)(k), k)[:k]
    return [Hit(parent_of(hit.id), hit.score, hit.id) for hit in found] if collection.chunk else found


def _hybrid(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    query: bytes | None,
    text: str,
    ids: Sequence[str] | None,
) -> Callable[[int], Scored]:
    """Return what finds items among which are so many of the best by vector and words: words raise scores, and lower none."""
    index, wanted = fulltext.text_index(conn, tables, collection), fulltext.terms(text)
    shares = index.shares(conn, wanted) if index and wanted else {}

    def find(number: int) -> Scored:
        if query is None:
            scored = words_alone(conn, tables, collection, shares, ids)
        else:
            scored = nearest(conn, tables, collection, query, number, ids, shares)
        return Scored(scored.ids, raised(collection, scored, shares), scored.floor)

    return find


def words_alone(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, found: Iterable[str], ids: Sequence[str] | None
) -> Scored:
    """Return items that were found by words, each with the score 0; of the rows *ids* where given."""
    import orjson

    rows = None if ids is None else set(ids)
    among = [item for item in found if rows is None or collection.row_of(item) in rows]
    sql = f"select id from {tables.embeddings} where collection_id = ? and id in (select value from json_each(?)) order by id"
    items = [row[0] for row in conn.execute(sql, [collection.id, orjson.dumps(among).decode()])]
    return Scored(items, np.zeros(len(items)))


def raised(collection: Collection, scored: Scored, shares: Mapping[str, float]) -> NDArray[np.float64]:
    """Return scores raised by the words that an item holds: v + (1 - v) c^p, at least v and at most 1.

    v is the cosine, and c in [0, 1] how much of the BM25 that the query could reach at most the item does reach (*shares*). So full-text
    search closes a share of the distance to 1; a floor on cosines keeps its meaning. p is 2, so that little words count hardly at
    all: of ten sets of questions with two models, none is answered significantly worse than by the better of the two searches
    (docs/performance.md, hybrid). Where most texts are in a language that the model was not made for, words say more than its
    vectors, and p is 1/2: likewise for two sets in German and French with two English models (relevance).
    """
    if not shares:
        return scored.scores
    share = np.array([shares.get(item, 0.0) for item in scored.ids])
    power = 0.5 if (collection.foreign_share or 0.0) > MOSTLY else 2.0
    return np.asarray(np.round(scored.scores + (1.0 - scored.scores) * share**power, vectors.SCORE_DECIMALS))


MOSTLY = 0.5
