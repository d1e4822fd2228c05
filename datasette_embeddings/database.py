"""SQLite itself: opening files, quoting names, keys of rows. The only place where an SQL identifier is quoted."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote as url_quote

from datasette_embeddings.errors import SourceError, StoreError, nearest
from datasette_embeddings.limits import BUSY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    Connection = sqlite3.Connection


def quote(name: str) -> str:
    """Return an SQL identifier that names *name*, whatever it holds.

    >>> print(quote('wei"rd]'))
    "wei""rd]"
    """
    if "\0" in name:
        raise SourceError("a name holds a NUL character, which SQLite cannot quote; rename it")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return an SQL string literal, for queries that people read and copy; values elsewhere are parameters."""
    return "'" + text.replace("'", "''") + "'"


def decode_text(raw: bytes) -> str:
    """Return stored text, its invalid UTF-8 replaced, as Datasette shows it."""
    return raw.decode("utf-8", "replace")


def connect(path: str | Path, *, readonly: bool = True, create: bool = False) -> Connection:
    """Open a database file in autocommit mode, waiting up to BUSY_SECONDS for locks.

    A file on a read-only disk that cannot be opened otherwise is opened as immutable.
    Raises StoreError when it is missing, no database, or not to be opened.
    """
    path = Path(path)
    if not path.exists() and not create:
        raise StoreError(f"there is no file {path}; check the path")
    mode = "ro" if readonly else ("rwc" if create else "rw")
    uri = f"file:{url_quote(str(path.absolute()))}?mode={mode}"
    with translated(path):
        conn = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        conn.text_factory = decode_text
        if readonly:
            conn = _readable(conn, uri)
        conn.execute("select 1 from sqlite_master limit 1").fetchall()
    return conn


def _readable(conn: Connection, uri: str) -> Connection:
    """Return *conn*, or an immutable connection where a write-ahead log lies on a read-only disk."""
    try:
        conn.execute("select 1 from sqlite_master limit 1").fetchall()
    except sqlite3.OperationalError as error:
        if "readonly" not in str(error) and "unable to open" not in str(error):
            raise
        conn.close()
        conn = sqlite3.connect(uri + "&immutable=1", uri=True, isolation_level=None, check_same_thread=False)
        conn.text_factory = decode_text
    return conn


@contextmanager
def translated(path: str | Path) -> Iterator[None]:
    """Turn SQLite's errors about the file into StoreError with what to do."""
    try:
        yield
    except sqlite3.Error as error:
        message = str(error)
        advice = next((text for part, text in ADVICE.items() if part in message), "")
        if not advice:
            raise
        raise StoreError(f"{path}: {message}; {advice}") from error


ADVICE = {
    "is locked": "another program is writing to it; try again when that is done, what was committed is kept",
    "disk is full": "the disk is full; make room and run the same command again, what was committed is kept",
    "disk I/O error": "the disk did not take the write; check it and run the same command again",
    "readonly": "the file or its folder is read-only; a build needs to write both",
    "unable to open": "the file or its folder cannot be opened; check its permissions",
    "not a database": "the file is no SQLite database",
    "image is malformed": "the file is damaged; restore it from a copy",
}


@dataclass(frozen=True)
class Key:
    """How rows of a table are identified: the key columns (`rowid` where there is no primary key)."""

    columns: tuple[str, ...]
    is_rowid: bool = False


def table_names(conn: Connection) -> dict[str, str]:
    """Return the tables and views of the main database, name -> "table" or "view"."""
    return dict(conn.execute("select name, type from sqlite_master where type in ('table', 'view')").fetchall())


def real_name(conn: Connection, table: str) -> str:
    """Return the table's name as stored; SQLite's names ignore case, permissions must not. Raises SourceError."""
    names = table_names(conn)
    if table in names:  # SQLite ignores the case of a to z only, lower() that of all letters
        return table
    by_lower = {name.lower(): name for name in names}
    if table.lower() not in by_lower:
        visible = [name for name in names if not name.startswith("sqlite_")]
        raise SourceError(f"there is no table {table!r} in this database; {nearest(table, visible)}")
    return by_lower[table.lower()]


def column_names(conn: Connection, table: str) -> list[str]:
    """Return the columns of a table or view in order, generated ones included."""
    return [row[1] for row in conn.execute(f"pragma table_xinfo({quote(table)})") if row[6] != 1]


def table_key(conn: Connection, table: str) -> Key:
    """Return the key of a table: its primary key, or its rowid. Views have none: raises SourceError."""
    info = conn.execute(f"pragma table_xinfo({quote(table)})").fetchall()
    columns = tuple(row[1] for row in sorted(info, key=lambda row: row[5]) if row[5])
    if columns:
        return Key(columns)
    if table_names(conn).get(table) == "view":
        raise SourceError(
            f"{table!r} is a view and has no primary key; name its key column with --key, or `key` in the configuration"
        )
    return Key(("rowid",), is_rowid=True)


def item_id(values: tuple[object, ...]) -> str | None:
    """Return the item id of a row's key values: one value as text, several tilde-encoded and joined by commas.

    None when a part is NULL: such a row cannot be pointed at.
    """
    if any(value is None for value in values):
        return None
    if len(values) == 1:
        return as_text(values[0])
    from datasette.utils import tilde_encode

    return ",".join(tilde_encode(as_text(value)) for value in values)


def as_text(value: object) -> str:
    """Return a key value as text that SQLite compares as equal to it; a number in digits that give the same number."""
    if isinstance(value, bytes):
        return decode_text(value)
    return str(value)


@contextmanager
def snapshot(conn: Connection) -> Iterator[None]:
    """Let everything that is read see one state of the file, whoever writes to it meanwhile."""
    if conn.in_transaction:
        yield
        return
    conn.execute("begin")
    try:
        yield
    finally:
        conn.execute("rollback")


@contextmanager
def transaction(conn: Connection) -> Iterator[None]:
    """Hold one write transaction; rolled back on any error, Ctrl-C included."""
    conn.execute("begin immediate")
    try:
        yield
        conn.execute("commit")
    except BaseException:
        if conn.in_transaction:
            conn.execute("rollback")
        raise
