"""What a connection has read of its file, kept until the file changes as that connection sees it.

Counting 200,000 vectors takes as long as finding the nearest of them, so it is done once and not for every search. `PRAGMA
data_version` says what others committed, `total_changes` and `PRAGMA schema_version` what the connection itself did
(https://sqlite.org/pragma.html#pragma_data_version); within a read transaction, as a statement's functions are, all three are
those of its snapshot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Hashable

Result = TypeVar("Result")


class Memory:
    """What one connection has read; kept alive by the connection's own functions, and so as long as it is."""

    def __init__(self) -> None:
        self.changes: tuple[int, ...] | None = None
        self.values: dict[Hashable, object] = {}


_memories: WeakValueDictionary[int, Memory] = WeakValueDictionary()


def memory_for(conn: sqlite3.Connection) -> Memory:
    """Return a new memory for a connection, which the caller must keep exactly as long as the connection lives."""
    memory = _memories[id(conn)] = Memory()
    return memory


def once(conn: sqlite3.Connection, key: Hashable, read: Callable[[], Result]) -> Result:
    """Return what *read* gives, read anew where the file changed; always, on a connection without a memory.

    A connection that is about to change the file itself may yet take that back, which nothing tells: it reads anew as well.
    """
    memory = _memories.get(id(conn))
    if memory is None or is_writing(conn):
        return read()
    changes = changes_of(conn)
    if memory.changes != changes:
        memory.changes, memory.values = changes, {}
    if key not in memory.values:
        memory.values[key] = read()
    return cast("Result", memory.values[key])


def is_writing(conn: sqlite3.Connection) -> bool:
    """Tell whether a connection may have written what it has not committed."""
    return conn.in_transaction and conn.total_changes > 0


def changes_of(conn: sqlite3.Connection) -> tuple[int, int, int]:
    """Return what changes with every write to the file, by others and by this connection."""
    (by_others,) = conn.execute("pragma data_version").fetchone()
    (schema,) = conn.execute("pragma schema_version").fetchone()
    return by_others, schema, conn.total_changes
