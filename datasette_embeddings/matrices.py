"""The vectors of collections in memory: read once by a process, shared by its connections and threads, bounded in size.

What was read is used as long as the database says, through the connection that asks and so in the snapshot that its statement
sees, that nothing was written since. So scores and rows are of one state of the file, whoever writes to it meanwhile.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasette_embeddings.catalog import own_chunks, parent_of
from datasette_embeddings.limits import MATRICES_BYTES, MAX_DIMENSIONS, SEARCH_CHUNK_ROWS
from datasette_embeddings.vectors import FLOAT32, unit_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection as Ids
    from collections.abc import Iterator, Sequence

    from datasette_embeddings.catalog import Collection
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


_kept: OrderedDict[tuple[object, ...], tuple[tuple[object, ...], Matrix]] = OrderedDict()
_lock = threading.Lock()


def parts(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, size: int, ids: Sequence[str] | None = None
) -> Iterator[Part]:
    """Yield the items of a collection whose vectors have *size* dimensions; of *ids* only, where given.

    *ids*: of rows. From memory where they fit, else read in parts.
    """
    matrix = None if ids is not None and len(ids) < FEW_IDS else matrix_of(conn, tables, collection, size)
    if matrix is None:
        for names, blobs in _read(conn, tables, collection, ids):
            yield stack(names, blobs, size)
    elif ids is None:
        yield Part(matrix.ids, matrix.rows, matrix.others)
    else:
        wanted = set(ids)
        places = [place for place, item in enumerate(matrix.ids) if collection.row_of(item) in wanted]
        yield Part([matrix.ids[place] for place in places], matrix.rows[places], set() if matrix.ids else matrix.others)


FEW_IDS = 256
"""Fewer items than this are read by their key sooner than they are looked up in a large matrix."""


class State(NamedTuple):
    """What changes with every write to the vectors of a collection, as a connection's own snapshot has it."""

    path: str
    items: int
    last: int | None
    collection: tuple[object, ...]


def state_of(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> State | None:
    """Return the state of a collection's vectors; None for a database in memory, which only its own connection sees.

    Builds count up the collection's `version`; other programs that write items change how many there are, or their rowids.
    """
    path = conn.execute("select file from pragma_database_list where name = 'main'").fetchone()[0]
    if not path:
        return None
    counted = f"select count(*), max(rowid) from {tables.embeddings} where collection_id = ?"
    count, last = conn.execute(counted, [collection.id]).fetchone()
    known = (collection.name, collection.fingerprint, collection.generation, collection.built, collection.version)
    return State(path, count, last, (tables.prefix, collection.id, *known))


def matrix_of(conn: sqlite3.Connection, tables: Tables, collection: Collection, size: int) -> Matrix | None:
    """Return the vectors of a collection, read now unless they are in memory; None where they are too many for that."""
    token = state_of(conn, tables, collection)
    if token is None or 4 * size * token.items > MATRICES_BYTES:
        return None
    key = (token.path, tables.prefix, collection.id, size)
    with _lock:
        if key in _kept and _kept[key][0] == token:
            _kept.move_to_end(key)
            return _kept[key][1]
        _kept.pop(key, None)
        matrix = load_matrix(conn, tables, collection, size)
        _kept[key] = (token, matrix)
        while sum(kept.rows.nbytes for _, kept in _kept.values()) > MATRICES_BYTES:
            _kept.popitem(last=False)
        return matrix


def load_matrix(conn: sqlite3.Connection, tables: Tables, collection: Collection, size: int | None = None) -> Matrix:
    """Return the vectors of a collection, of its own dimensions unless told."""
    where = f"from {tables.embeddings} where collection_id = ?"
    total = conn.execute(f"select count(*) {where}", [collection.id]).fetchone()[0]
    size = size or collection.dimensions or _usual_dimensions(conn, where, collection.id)
    matrix = np.empty((total, size), np.float32)
    ids: list[str] = []
    others: set[int] = set()
    for names, blobs in _read(conn, tables, collection, None):
        part = stack(names, blobs, size)
        matrix[len(ids) : len(ids) + len(part.ids)] = part.rows
        ids += part.ids
        others |= part.others
    return Matrix(ids, matrix[: len(ids)], others)


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
