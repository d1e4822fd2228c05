"""The nearest items of one vector, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasette_embeddings import vectors
from datasette_embeddings.errors import DimensionMismatch
from datasette_embeddings.limits import MAX_K, SEARCH_CHUNK_ROWS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables


class Hit(NamedTuple):
    """One result: the item's id and its score in [-1, 1], higher is closer."""

    id: str
    score: float


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
    k = min(k, MAX_K)
    vector = vectors.decode(vectors.normalize(query))
    if collection.dimensions not in {None, vector.size}:
        raise _mismatch(vector.size, collection, str(collection.dimensions))
    best: list[Hit] = []
    seen_dimensions: set[int] = set()
    usable = False
    for chunk, blobs in _chunks(conn, tables, collection, ids):
        names, matrix, others = stack(chunk, blobs, vector.size)
        seen_dimensions |= others
        usable = usable or bool(names)
        best = merge_best(best, names, vectors.score_rows(matrix, vector), k)
    if seen_dimensions and not usable:
        raise _mismatch(vector.size, collection, ", ".join(str(size) for size in sorted(seen_dimensions)))
    return best


def _mismatch(size: int, collection: Collection, found: str) -> DimensionMismatch:
    return DimensionMismatch(
        f"the query has {size} dimensions, the collection {collection.name!r} has {found}; "
        "use a vector of the collection's own model"
    )


def stack(names: Sequence[str], blobs: Sequence[object], size: int) -> tuple[list[str], vectors.Vector, set[int]]:
    """Return the ids and unit rows (n, size) of the blobs that are embeddings of that size, and the other sizes met.

    Blobs of no valid length count as size 0; rows of NaN or zeros are left out.
    """
    wanted = size * 4
    fits = [isinstance(blob, bytes) and len(blob) == wanted for blob in blobs]
    others = {_size(blob) for blob, fit in zip(blobs, fits, strict=True) if not fit}
    kept = [name for name, fit in zip(names, fits, strict=True) if fit]
    joined = b"".join(blob for blob, fit in zip(blobs, fits, strict=True) if fit)  # type: ignore[misc]
    matrix, usable = vectors.unit_rows(np.frombuffer(joined, vectors.FLOAT32).reshape(len(kept), size))
    if not usable.all():
        kept = [name for name, use in zip(kept, usable, strict=True) if use]
        matrix = matrix[usable]
    return kept, matrix, others


def _size(blob: object) -> int:
    return len(blob) // 4 if isinstance(blob, bytes) and len(blob) % 4 == 0 else 0


def merge_best(best: list[Hit], names: Sequence[str], scores: NDArray[np.float64], k: int) -> list[Hit]:
    """Return the k best of *best* and the newly scored, by score descending, then id."""
    if len(names) > k > 0:
        floor = np.partition(scores, len(names) - k)[len(names) - k]
        chosen = np.flatnonzero(scores >= floor)
    else:
        chosen = np.arange(len(names))
    found = [Hit(names[i], float(scores[i])) for i in chosen.tolist()]
    return sorted(best + found, key=lambda hit: (-hit.score, hit.id))[:k]


def _chunks(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, ids: Sequence[str] | None
) -> Iterator[tuple[list[str], list[object]]]:
    sql = f"select id, embedding from {tables.embeddings} where collection_id = ?"
    parameters: list[object] = [collection.id]
    if ids is not None:
        import orjson

        sql += " and id in (select value from json_each(?))"
        parameters.append(orjson.dumps(list(ids)).decode())
    cursor = conn.execute(sql, parameters)
    while rows := cursor.fetchmany(SEARCH_CHUNK_ROWS):
        names, blobs = zip(*rows, strict=True)
        yield list(names), list(blobs)
