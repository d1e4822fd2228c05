"""Vectors that another tool made, as one kind of thing: a place, what is known of it, and its rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from datasette_embeddings import vectors
from datasette_embeddings.errors import BadVector

if TYPE_CHECKING:
    import sqlite3

Read = Callable[["sqlite3.Connection", str], Iterator[tuple[str | None, object]]]
"""(connection, place) -> (item id, vector in whatever form the tool keeps it), in the order of the place."""


@dataclass(frozen=True)
class Origin:
    """One set of vectors to take over.

    *place*: the table or file they are in; *column*: which vectors of it, where it has several. *name*: what the
    collection is called unless told otherwise. *model*: None where the tool does not say. *table* and *key*: whose rows
    they are, where the tool says so. *is_file*: the place is a file beside the database.
    """

    tool: str
    place: str
    name: str
    read: Read
    model: str | None = None
    column: str | None = None
    table: str | None = None
    key: tuple[str, ...] = ()
    is_file: bool = False

    @property
    def label(self) -> str:
        """What is remembered of where the vectors came from."""
        return f"{self.place}.{self.column}" if self.column else self.place

    def rows(self, conn: sqlite3.Connection) -> Iterator[tuple[str | None, object]]:
        """Yield (item id, vector as stored); the id is None where its key is NULL."""
        return self.read(conn, self.place)


def to_blob(value: object) -> bytes:
    """Return a vector as our BLOB, bit for bit where it is float32 already.

    A BLOB of float32, a JSON array, or an array of numbers (d,) is taken; raises BadVector for anything else.
    """
    if isinstance(value, str):
        blob = vectors.from_json(value)
    elif isinstance(value, np.ndarray):
        blob = vectors.encode(value)
    else:
        blob = vectors.decode(value).tobytes()
    if not np.frombuffer(blob, vectors.FLOAT32).any():
        raise BadVector("an embedding of zeros has no direction")
    return blob


def collection_name(text: str) -> str:
    """Return a name that a collection may have.

    >>> collection_name("my vectors.v2")
    'my_vectors_v2'
    """
    return re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_") or "imported"
