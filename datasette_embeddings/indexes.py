"""What searches look in: the vectors of a collection in memory, loaded once by a process, shared by its connections and threads.

What was loaded is used as long as the database says, through the connection that asks and so in the snapshot that its statement sees, that
nothing was written since. So scores and rows are of one state of the file, whoever writes to it meanwhile. It is loaded through a connection of
its own, which no time limit of a query stops, and taken only where that sees the same state.

A large collection is searched by sketches of its vectors first. Where a build left these in the file, they are all that is loaded, and the few
vectors that they do not rule out are read from the file.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, defaultdict
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasette_embeddings import baked
from datasette_embeddings.catalog import tables_and_collection
from datasette_embeddings.database import connect, snapshot
from datasette_embeddings.errors import StoreError, UnknownCollection
from datasette_embeddings.limits import INDEX_BYTES, SKETCHED_ROWS
from datasette_embeddings.matrices import load_matrix, load_sketches, vectors_of
from datasette_embeddings.sketches import IN_FILE, Screen, sketched
from datasette_embeddings.snapshots import is_writing, once
from datasette_embeddings.vectors import score_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables
    from datasette_embeddings.vectors import Vector

    Positions = NDArray[np.int64]

log = logging.getLogger(__name__)

BYTES_OF_AN_ID = 200
"""What an id takes in memory, with its place in a dictionary."""


class State(NamedTuple):
    """What changes with every write to the vectors of a collection, as a connection's own snapshot has it."""

    path: str
    items: int
    last: tuple[object, ...]
    collection: tuple[object, ...]


def state_of(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> State | None:
    """Return the state of a collection's vectors; None where only its own connection sees it: in memory, or not committed.

    Builds give the collection another `version`; other programs that write items change how many there are, or which was written last.
    """
    if is_writing(conn):
        return None
    path = once(conn, "path", lambda: _path(conn))
    if not path:
        return None
    written = once(conn, ("written", tables.prefix, collection.id), lambda: baked.written(conn, tables, collection.id))
    known = (collection.name, collection.fingerprint, collection.generation, collection.built, collection.version)
    return State(path, *written, (tables.prefix, collection.id, *known))


def _path(conn: sqlite3.Connection) -> str:
    (path,) = conn.execute("select file from pragma_database_list where name = 'main'").fetchone()
    return path or ""


@dataclass(frozen=True)
class Index:
    """The items of a collection that are embeddings of some dimensions, sorted by id, as searches need them.

    *rows* (n, d) float32: their unit vectors; None where they stay in the file. *screen*: of a large collection. *others*: dimensions of vectors
    that were passed over.
    """

    collection: Collection
    ids: list[str]
    size: int
    rows: Vector | None = None
    screen: Screen | None = None
    others: set[int] = field(default_factory=set)

    def with_screen(self, limit: int) -> Index:
        """Return the index with sketches of its vectors; without the vectors where both take more than *limit* bytes."""
        assert self.rows is not None
        index = replace(self, screen=Screen(sketched(self.rows)))
        return index if index.nbytes <= limit else replace(index, rows=None)

    @property
    def nbytes(self) -> int:
        """The memory it takes, in bytes."""
        held = (self.rows, self.screen)
        return BYTES_OF_AN_ID * len(self.ids) + sum(part.nbytes for part in held if part is not None)

    @cached_property
    def places(self) -> dict[str, int]:
        """The position of each item."""
        return {item: position for position, item in enumerate(self.ids)}

    @cached_property
    def places_of_rows(self) -> dict[str, list[int]]:
        """The positions of each row's items."""
        found: dict[str, list[int]] = defaultdict(list)
        for position, item in enumerate(self.ids):
            found[self.collection.row_of(item)].append(position)
        return found

    def of_items(self, items: Iterable[str]) -> Positions:
        """Return the sorted positions of those of some items that are there."""
        return np.array(sorted({self.places[item] for item in items if item in self.places}), np.int64)

    def of_rows(self, rows: Iterable[str]) -> Positions:
        """Return the sorted positions of the items of some rows."""
        if not self.collection.chunk:
            return self.of_items(rows)
        found = {place for row in rows for place in self.places_of_rows.get(row, ())}
        return np.array(sorted(found), np.int64)


class Reader:
    """An index and the connection that asks it, through which vectors are read that are not in memory."""

    def __init__(self, index: Index, conn: sqlite3.Connection, tables: Tables) -> None:
        self.index = index
        self._conn, self._tables = conn, tables

    def take(self, positions: Positions) -> Vector:
        """Return the unit rows (n, d) at sorted positions; raises Unreadable where the file has not all of them."""
        if self.index.rows is not None:
            return self.index.rows[positions]
        if not len(positions):
            return np.empty((0, self.index.size), np.float32)
        ids = [self.index.ids[position] for position in positions.tolist()]
        found = vectors_of(self._conn, self._tables, self.index.collection, ids, self.index.size)
        if found is None:
            raise Unreadable
        return found

    def scores(self, query: Vector, positions: Positions) -> NDArray[np.float64]:
        """Return the scores of the items at sorted positions."""
        return score_rows(self.take(positions), query)

    def nearest(
        self, query: Vector, k: int, among: Positions | None = None
    ) -> tuple[Positions, NDArray[np.float64]] | None:
        """Return positions and scores that hold the k best items, of *among* where given, and all that score as the last of these.

        None where all vectors would have to be read from the file.
        """
        screen, rows = self.index.screen, self.index.rows
        if screen is not None:
            found = screen.nearest(query, k, self.take, among, IN_FILE if rows is None else None)
            if found is not None:
                return found
        if rows is None:
            return None
        if among is None:
            return np.arange(len(rows)), score_rows(rows, query)
        return among, score_rows(rows[among], query)


class Unreadable(Exception):
    """An index knows an item whose vector the file does not have."""


class Cache:
    """The indexes of one process; *limit*: the bytes that they may take in all."""

    def __init__(self, limit: int = INDEX_BYTES) -> None:
        self.limit = limit
        self._kept: OrderedDict[tuple[object, ...], tuple[State, Index]] = OrderedDict()
        self._lock = threading.Lock()
        self._too_large: dict[tuple[object, ...], tuple[State, int]] = {}
        self._warned: set[tuple[str, str]] = set()
        self._loading: dict[tuple[object, ...], threading.Lock] = defaultdict(threading.Lock)

    def __len__(self) -> int:
        """How many indexes are in memory."""
        return len(self._kept)

    def get(
        self, conn: sqlite3.Connection, tables: Tables, collection: Collection, size: int, *, whole: bool = False
    ) -> Index | None:
        """Return the index of a collection, loaded now unless it is in memory; *whole*: with its vectors.

        None where it may not take that much memory, or is not to be had in the state that the connection sees.
        """
        state = state_of(conn, tables, collection)
        if state is None:
            return None
        key = (state.path, tables.prefix, collection.id, size)
        if found := self._find(key, state, whole):
            return self._screened(key, state, found)
        if self._too_large.get(key) == (state, self.limit):
            return None
        with self._loading_lock(key):
            found = self._find(key, state, whole) or self._load(key, state, tables, collection, size, whole)
            if found is not None:
                self._keep(key, state, found)
        return found

    def _loading_lock(self, key: tuple[object, ...]) -> threading.Lock:
        with self._lock:
            return self._loading[key]

    def _screened(self, key: tuple[object, ...], state: State, index: Index) -> Index:
        """Return an index that is searched again, with sketches where it is large; one thread makes them, others do not wait."""
        if index.screen is not None or index.rows is None or len(index.ids) < SKETCHED_ROWS:
            return index
        making = self._loading_lock(key)
        if not making.acquire(blocking=False):
            return index
        try:
            index = index.with_screen(self.limit)
            self._keep(key, state, index)
        finally:
            making.release()
        return index

    def _find(self, key: tuple[object, ...], state: State, whole: bool) -> Index | None:
        with self._lock:
            known, index = self._kept.get(key, (None, None))
            if index is None or known != state or (whole and index.rows is None):
                return None
            self._kept.move_to_end(key)
            return index

    def _keep(self, key: tuple[object, ...], state: State, index: Index) -> None:
        with self._lock:
            self._kept[key] = (state, index)
            self._kept.move_to_end(key)
            while sum(kept.nbytes for _, kept in self._kept.values()) > self.limit:
                self._kept.popitem(last=False)

    def _load(
        self, key: tuple[object, ...], state: State, tables: Tables, collection: Collection, size: int, whole: bool
    ) -> Index | None:
        with suppress(StoreError), closing(connect(state.path)) as conn, snapshot(conn):
            if state_of(conn, tables, collection) == state:
                index = load(conn, tables, collection, size, self.limit, whole=whole)
                if index is None and not whole:
                    self._too_large[key] = (state, self.limit)
                    self._warn(collection, state)
                return index
        return None

    def _warn(self, collection: Collection, state: State) -> None:
        if (state.path, collection.name) not in self._warned:
            self._warned.add((state.path, collection.name))
            log.warning(
                "%s: searching the %d items of %r takes more memory than `limits: {index_megabytes: %d}` allows, so each search reads "
                "all vectors from the file; raise it, or install numkong (extra `fast`), which needs less",
                state.path,
                state.items,
                collection.name,
                self.limit // 1_000_000,
            )


cache = Cache()


def warm(conn: sqlite3.Connection, name: str) -> None:
    """Load what searches of a collection look in, where there is such a collection; not within the time limit of a query."""
    with suppress(UnknownCollection):
        tables, collection = tables_and_collection(conn, name)
        if collection.dimensions:
            cache.get(conn, tables, collection, collection.dimensions)


def load(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, size: int, limit: int, *, whole: bool = False
) -> Index | None:
    """Return the index of a collection as a connection sees it, of *limit* bytes at most; None where that is too little."""
    items = baked.written(conn, tables, collection.id)[0]
    left = limit - BYTES_OF_AN_ID * items
    if whole and 4 * size * items > left:
        return None
    found = baked.read(conn, tables, collection, size)
    if found and not whole:
        index = Index(collection, found.ids, size, screen=Screen(found.sketches))
        return index if index.nbytes <= limit else None
    if 4 * size * items <= left:
        matrix = load_matrix(conn, tables, collection, size)
        screen = Screen(found.sketches) if found and found.ids == matrix.ids else None
        index = Index(collection, matrix.ids, size, matrix.rows, screen, matrix.others)
        return index if index.nbytes <= limit else replace(index, screen=None)
    if items < SKETCHED_ROWS or size * items > left:
        return None
    ids, sketches, others = load_sketches(conn, tables, collection, size)
    index = Index(collection, ids, size, screen=Screen(sketches), others=others)
    return index if index.nbytes <= limit else None
