"""From an item's id back to the row that it was made of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from datasette_embeddings.database import quote

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
KEYWORDS = frozenset(
    """
    abort action add after all alter always analyze and as asc attach autoincrement before begin between by cascade case cast
    check collate column commit conflict constraint create cross current current_date current_time current_timestamp database
    default deferrable deferred delete desc detach distinct do drop each else end escape except exclude exclusive exists explain
    fail filter first following for foreign from full generated glob group groups having if ignore immediate in index indexed
    initially inner insert instead intersect into is isnull join key last left like limit match materialized natural no not
    nothing notnull null nulls of offset on or order others outer over partition plan pragma preceding primary query raise range
    recursive references regexp reindex release rename replace restrict returning right rollback row rows savepoint select set
    table temp temporary then ties to transaction trigger unbounded union unique update using vacuum values view virtual when
    where window with within without
    """.split()
)
"""SQLite's keywords (https://sqlite.org/lang_keywords.html), and `within`, newer than some copies of that list."""

UNTYPED = re.compile(r"(?!.*(INT|CHAR|CLOB|TEXT))(.*BLOB|\Z)", re.I | re.S)
"""Declared types of columns that do not turn what they are compared with into their own type: none at all, and BLOB."""


def plain_or_quoted(name: str) -> str:
    """Return a name as people write it where SQL allows that, else quoted.

    >>> [plain_or_quoted(name) for name in ("title", "commit", "first name")]
    ['title', '"commit"', '"first name"']
    """
    return name if PLAIN_NAME.match(name) and name.lower() not in KEYWORDS else quote(name)


def declared_types(conn: sqlite3.Connection, table: str) -> dict[str, str]:
    """Return column -> declared type, "" where there is none, as in views over expressions."""
    return {row[1]: row[2] or "" for row in conn.execute(f"pragma table_xinfo({quote(table)})")}


def matches(column: str, kind: str, part: str) -> str:
    """Return the condition that *column*, of the declared type *kind*, holds the key whose text *part* is, both in SQL.

    A column without a type compares a number with no text: there the text is also tried as a number and as a BLOB, which an
    index finds, and kept where the row's own value has that text.

    >>> matches("til.path", "TEXT", ":id")
    'til.path = :id'
    >>> matches("til.path", "", ":id")
    'til.path in (:id, cast(:id as numeric), cast(:id as blob)) and cast(til.path as text) = :id'
    """
    if UNTYPED.match(kind):
        return (
            f"{column} in ({part}, cast({part} as numeric), cast({part} as blob)) and cast({column} as text) = {part}"
        )
    return f"{column} = {part}"


def row_condition(conn: sqlite3.Connection, table: str, key: Sequence[str], parts: Sequence[str]) -> str:
    """Return the condition that finds the row of *table* whose key columns hold *parts* (SQL that gives text)."""
    kinds = declared_types(conn, table)
    name = plain_or_quoted(table)
    return " and ".join(
        matches(f"{name}.{plain_or_quoted(column)}", kinds.get(column, "INTEGER"), part)  # rowid is no declared column
        for column, part in zip(key, parts, strict=True)
    )


def key_part(item: str, place: int) -> str | None:
    """Return one part (from 0) of a compound item id, None where it has no such part."""
    from datasette.utils import tilde_decode

    parts = item.split(",")
    return tilde_decode(parts[place]) if place < len(parts) else None
