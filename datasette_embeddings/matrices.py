"""The vectors of a collection, read from its file: in parts, or all of them as one matrix."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasette_embeddings.catalog import own_chunks, parent_of
from datasette_embeddings.components import SAMPLE_ROWS
from datasette_embeddings.database import snapshot
from datasette_embeddings.limits import MAX_DIMENSIONS, SEARCH_CHUNK_ROWS
from datasette_embeddings.sketches import sketched_in_parts
from datasette_embeddings.vectors import FLOAT32, unit_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection as Ids
    from collections.abc import Iterator, Sequence

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.sketches import Sketches
    from datasette_embeddings.tables import Tables
    from datasette_embeddings.vectors import Vector


class Part(NamedTuple):
    """Some items of a collection: ids, unit rows (n, d) and the dimensions of vectors that were passed over."""

    ids: list[str]
    rows: Vector
    others: set[int]


@dataclass(frozen=True)
class Matrix:
    """All items of a collection that are embeddings of its dimensions, sorted by id. *others* as in Part."""

    ids: list[str]
    rows: Vector
    others: set[int] = field(default_factory=set)

    def without(self, removed: Ids[str]) -> Matrix:
        """Return the matrix without some items."""
        if not removed:
            return self
        kept = [place for place, item in enumerate(self.ids) if item not in removed]
        return Matrix([self.ids[place] for place in kept], self.rows[kept], self.others)

    def of_rows(self) -> Matrix:
        """Return, for a matrix of chunks, that of their rows by id: the normalised means, summed in float64.

        A row whose chunks cancel out has no direction and is left out.
        """
        parents = np.array([parent_of(item) for item in self.ids], dtype=object)
        if not len(parents):
            return self
        order = np.argsort(parents, kind="stable")
        parents = parents[order]
        first = np.flatnonzero(np.append(True, parents[1:] != parents[:-1]))
        sums = np.add.reduceat(self.rows[order], first, axis=0, dtype=np.float64)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        kept = norms[:, 0] > 0
        rows = (sums[kept] / norms[kept]).astype(np.float32)
        return Matrix(parents[first][kept].tolist(), rows, self.others)


def parts(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, size: int, ids: Sequence[str] | None = None
) -> Iterator[Part]:
    """Yield the items of a collection whose vectors have *size* dimensions; of the rows *ids* only, where given."""
    for names, blobs in _read(conn, tables, collection, ids):
        yield stack(names, blobs, size)


def vectors_of(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, items: Sequence[str], size: int
) -> Vector | None:
    """Return the unit rows (n, size) of some items; None where not every one has such a vector."""
    import orjson

    sql = (
        f"select e.id, e.embedding from json_each(?) as wanted cross join {tables.embeddings} as e "
        "where e.collection_id = ? and e.id = wanted.value order by wanted.key"
    )
    found = conn.execute(sql, [orjson.dumps(list(items)).decode(), collection.id]).fetchall()
    part = stack([row[0] for row in found], [row[1] for row in found], size)
    return part.rows if part.ids == list(items) else None


def load_matrix(conn: sqlite3.Connection, tables: Tables, collection: Collection, size: int | None = None) -> Matrix:
    """Return the vectors of a collection, of its own dimensions unless told, else of those that most have. Adds a function to the connection."""
    where = f"from {tables.embeddings} where collection_id = ?"
    with snapshot(conn):
        total = conn.execute(f"select count(*) {where}", [collection.id]).fetchone()[0]
        known = size or collection.dimensions
        first = conn.execute(f"select length(embedding) / 4 {where} limit 1", [collection.id]).fetchone()
        sink = _filled(conn, where, collection.id, total, known or min((first or (0,))[0] or 0, MAX_DIMENSIONS))
        if not known and 2 * sink.taken <= total:  # the first is not as most are
            sink = _filled(conn, where, collection.id, total, _usual_dimensions(conn, where, collection.id))
    return sink.matrix()


def _filled(conn: sqlite3.Connection, where: str, collection_id: int, total: int, size: int) -> _Sink:
    sink = _Sink(total, size)
    conn.create_function("embeddings_sink", 2, sink)
    conn.execute(f"select count(embeddings_sink(id, embedding)) {where} order by id", [collection_id]).fetchall()
    return sink


class _Sink:
    """An SQL function that copies vectors of one size into a matrix: twice as fast as fetching rows."""

    def __init__(self, total: int, size: int) -> None:
        self._rows = np.empty((total, size), FLOAT32)
        self._room = self._rows.reshape(-1).data.cast("B") if self._rows.size else memoryview(b"")
        self._ids: list[str] = []
        self._others: set[int] = set()
        self._bytes = 4 * size

    def __call__(self, item: str, blob: object) -> None:
        """Take one item."""
        if self._bytes and isinstance(blob, bytes) and len(blob) == self._bytes:
            start = len(self._ids) * self._bytes
            self._room[start : start + self._bytes] = blob
            self._ids.append(item)
        else:
            self._others.add(_size(blob))

    @property
    def taken(self) -> int:
        """How many vectors have that size."""
        return len(self._ids)

    def matrix(self) -> Matrix:
        """Return what was taken, as unit rows, by id."""
        ids, rows = self._ids, self._rows[: len(self._ids)]
        usable = np.ones(len(ids), bool)
        for start in range(0, len(ids), SEARCH_CHUNK_ROWS):
            part = slice(start, start + SEARCH_CHUNK_ROWS)
            units, usable[part] = unit_rows(rows[part])
            if units.base is not self._rows:
                rows[part] = units
        if not usable.all():
            ids, rows = [ids[place] for place in np.flatnonzero(usable)], rows[usable]
        order = sorted(range(len(ids)), key=ids.__getitem__)
        if order != list(range(len(ids))):
            ids, rows = [ids[place] for place in order], rows[order]
        return Matrix(ids, rows, self._others)


def load_sketches(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, size: int
) -> tuple[list[str], Sketches, set[int]]:
    """Return the ids and sketches of a collection's vectors of *size* dimensions, and the other dimensions met.

    The vectors are read twice, a sample first, and are never all in memory.
    """
    ids: list[str] = []
    others: set[int] = set()

    def rows() -> Iterator[Vector]:
        for part in parts(conn, tables, collection, size):
            ids.extend(part.ids)
            others.update(part.others)
            yield part.rows

    total = conn.execute(
        f"select count(*) from {tables.embeddings} where collection_id = ?", [collection.id]
    ).fetchone()[0]
    sketches = sketched_in_parts(_sample(conn, tables, collection, size, total), rows(), total)
    return ids, sketches, others


def _sample(conn: sqlite3.Connection, tables: Tables, collection: Collection, size: int, total: int) -> Vector:
    """Return about SAMPLE_ROWS unit rows from all over a collection of *total* items."""
    sql = f"select id, embedding from {tables.embeddings} where collection_id = ? and rowid % ? = 0"
    found = conn.execute(sql, [collection.id, max(1, total // SAMPLE_ROWS)]).fetchall()
    return stack([row[0] for row in found], [row[1] for row in found], size).rows


def _usual_dimensions(conn: sqlite3.Connection, where: str, collection_id: int) -> int:
    """Return the dimensions that most vectors of a collection have, 0 where none is well-formed."""
    usual = (
        f"select length(embedding) / 4 {where} and typeof(embedding) = 'blob' and length(embedding) % 4 = 0 "
        "and length(embedding) between 4 and ? group by 1 order by count(*) desc, 1 limit 1"
    )
    row = conn.execute(usual, [collection_id, 4 * MAX_DIMENSIONS]).fetchone()
    return row[0] if row else 0


def _read(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, ids: Sequence[str] | None
) -> Iterator[tuple[tuple[str, ...], tuple[object, ...]]]:
    """Yield the ids and vectors of all items by id, or of those of the rows *ids*, SEARCH_CHUNK_ROWS at a time."""
    sql = f"select id, embedding from {tables.embeddings} where collection_id = ?"
    parameters: list[object] = [collection.id]
    if ids is not None:
        import orjson

        listed = orjson.dumps(list(ids)).decode()
        if collection.chunk:
            sql = (
                "with wanted as (select distinct value as row from json_each(?)) select id, embedding from wanted cross join "
                f"{tables.embeddings} where collection_id = ? and {own_chunks('row')}"
            )
            parameters.insert(0, listed)
        else:
            sql += " and id in (select value from json_each(?))"
            parameters.append(listed)
    cursor = conn.execute(sql + " order by id", parameters)
    while rows := cursor.fetchmany(SEARCH_CHUNK_ROWS):
        names, blobs = zip(*rows, strict=True)
        yield names, blobs


def stack(names: Sequence[str], blobs: Sequence[object], size: int) -> Part:
    """Return the blobs that are embeddings of that size as unit rows (n, size), with their ids, and the other sizes met.

    Blobs of no valid length count as size 0; rows of NaN or zeros are left out.
    """
    wanted = size * 4
    fits = [isinstance(blob, bytes) and len(blob) == wanted for blob in blobs]
    others = {_size(blob) for blob, fit in zip(blobs, fits, strict=True) if not fit}
    kept = [name for name, fit in zip(names, fits, strict=True) if fit]
    joined = b"".join(blob for blob, fit in zip(blobs, fits, strict=True) if fit)  # type: ignore[misc]
    matrix, usable = unit_rows(np.frombuffer(joined, FLOAT32).reshape(len(kept), size))
    if not usable.all():
        kept = [name for name, use in zip(kept, usable, strict=True) if use]
        matrix = matrix[usable]
    return Part(kept, matrix, others)


def _size(blob: object) -> int:
    return len(blob) // 4 if isinstance(blob, bytes) and len(blob) % 4 == 0 else 0
