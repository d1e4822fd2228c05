"""SQL of other people that may only read, and reading databases beside the collection's own."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from datasette_embeddings.database import quote, table_names
from datasette_embeddings.errors import SourceError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def select(conn: sqlite3.Connection, sql: str, reads: set[str] | None = None) -> sqlite3.Cursor:
    """Run a query of the configuration or the command line, which may only read; tables that it reads join *reads*.

    Raises SourceError with SQLite's own reason.
    """

    def only_select(action: int, table: str | None, _: object, schema: str | None, *__: object) -> int:
        if action == sqlite3.SQLITE_READ and table and schema == "main" and reads is not None:
            reads.add(table)
        allowed = action in ALLOWED_ACTIONS or (action, table) in FULL_TEXT_ACTIONS
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    conn.set_authorizer(only_select)
    try:
        return conn.execute(sql)
    except (sqlite3.Error, sqlite3.Warning) as error:
        tables = [name for name in table_names_safely(conn) if not name.startswith("sqlite_")]
        hint = f" ({nearest(str(error).rsplit(': ', 1)[-1], tables)})" if "no such table" in str(error) else ""
        raise SourceError(f"this SQL cannot be run: {error}{hint}; it was: {sql[:200]}") from error
    finally:
        conn.set_authorizer(_anything)


def fetched(cursor: sqlite3.Cursor, sql: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query; raises SourceError when SQLite finds only then that it cannot go on."""
    try:
        yield from cursor
    except sqlite3.Error as error:
        raise SourceError(f"this SQL fails: {error}; it was: {sql[:200]}") from error


def table_names_safely(conn: sqlite3.Connection) -> list[str]:
    """Return table names without the authorizer of `select` in the way."""
    conn.set_authorizer(_anything)
    return list(table_names(conn))


ALLOWED_ACTIONS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    33,  # SQLITE_RECURSIVE, which Python does not name
}


FULL_TEXT_ACTIONS = {
    (sqlite3.SQLITE_PRAGMA, "data_version"),
    (sqlite3.SQLITE_PRAGMA, "page_size"),
    (sqlite3.SQLITE_UPDATE, "sqlite_master"),
}
"""What FTS5 and FTS4 do when a query opens their tables; SQLite itself refuses a statement that changes sqlite_master."""


def _anything(*_: object) -> int:
    """Stand in for "no authorizer", which Python 3.10 cannot set."""
    return sqlite3.SQLITE_OK


@contextmanager
def attached(conn: sqlite3.Connection, databases: Sequence[tuple[str, str]]) -> Iterator[None]:
    """Have (alias, path) databases at hand while a query runs, for reading; raises SourceError for what is none."""
    from urllib.parse import quote as url_quote

    for alias, path in databases:
        uri = f"file:{url_quote(path)}?mode=ro"
        try:
            conn.execute(f"attach database ? as {quote(alias)}", [uri])
        except sqlite3.Error as error:
            raise SourceError(
                f"{path} cannot be attached as {alias!r}: {error}; check the file and the name"
            ) from error
    try:
        yield
    finally:
        for alias, _ in databases:
            conn.execute(f"detach database {quote(alias)}")
