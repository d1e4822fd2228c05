"""What gives a collection its labels, as its configuration says: a column of its source, or example texts of each label."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple

from datasette_embeddings.database import column_names, item_id, quote
from datasette_embeddings.errors import ConfigError, nearest
from datasette_embeddings.limits import MAX_LABEL_CHARACTERS, MAX_LABELS
from datasette_embeddings.sources import TableSource
from datasette_embeddings.sources.row import whole
from datasette_embeddings.sources.selecting import fetched, select

if TYPE_CHECKING:
    import sqlite3

    from datasette_embeddings.sources import Source


class RowLabels(NamedTuple):
    """The labels of rows, by id, and how many rows hold bytes where a label was expected."""

    by_id: dict[str, str]
    unreadable: int


def column_of(wanted: str) -> str | None:
    """Return the column that has the labels; None where they are given by examples. *wanted*: as `catalog.Stages` has it.

    >>> column_of('"kind"'), column_of('{"calm": ["a quiet lake"], "busy": ["a loud market"]}')
    ('kind', None)
    """
    found = json.loads(wanted)
    return found if isinstance(found, str) else None


def examples_of(wanted: str) -> dict[str, list[str]]:
    """Return the example texts of each label; none where a column has the labels.

    >>> examples_of('"kind"'), examples_of('{"calm": ["a quiet lake"], "busy": ["a loud market"]}')
    ({}, {'calm': ['a quiet lake'], 'busy': ['a loud market']})
    """
    found = json.loads(wanted)
    return {} if isinstance(found, str) else found


def row_labels(conn: sqlite3.Connection, source: Source, column: str) -> RowLabels:
    """Return the labels that a column gives to the rows of a source: its values as SQLite writes them as text.

    NULL and blank text are no labels, and bytes are none. Raises ConfigError where the column cannot have labels.
    """
    if not isinstance(source, TableSource):
        raise ConfigError(f"labels: the column {column!r} was expected in a table; the rows come from elsewhere")
    known = column_names(conn, source.table)
    if column.lower() not in (name.lower() for name in known):
        raise ConfigError(f"labels: the table {source.table!r} has no column {column!r}; {nearest(column, known)}")
    name = quote(column)
    value = f"case typeof({name}) when 'blob' then {name} else cast({name} as text) end"
    sql = f"select {', '.join(map(quote, source.key))}, {value} from {quote(source.table)}"
    if source.where:
        sql += f" where {source.where}"
    by_id: dict[str, str] = {}
    distinct: set[str] = set()
    unreadable = 0
    for *key, label in fetched(select(conn, sql), sql):
        item = item_id(tuple(key))
        unreadable += isinstance(label, bytes)
        if item is None or not isinstance(label, str) or not label.strip():
            continue
        if label not in distinct:
            distinct.add(label)
            _check(len(distinct), label, source.table, column)
        by_id.setdefault(whole(item), label)
    return RowLabels(by_id, unreadable)


def _check(number: int, label: str, table: str, column: str) -> None:
    """Raise ConfigError where a column tells rows apart, or holds texts, and so does not say what kind of rows there are."""
    advice = "name a column that says of which kind a row is, or give example texts of each label"
    if number > MAX_LABELS:
        raise ConfigError(
            f"labels: the column {column!r} of {table!r} has more than {MAX_LABELS:,} different values, the most there may be; {advice}"
        )
    if len(label) > MAX_LABEL_CHARACTERS:
        raise ConfigError(
            f"labels: the column {column!r} of {table!r} holds a text of {len(label):,} characters, and a label has at most "
            f"{MAX_LABEL_CHARACTERS}; {advice}"
        )


def labels_hash(conn: sqlite3.Connection, source: Source, wanted: str) -> str:
    """Return what changes whenever the labels of rows, or the examples, do: 16 hexadecimal digits. Raises as `row_labels` does."""
    column = column_of(wanted)
    return hash_of(sorted(row_labels(conn, source, column).by_id.items()) if column else wanted)


def hash_of(labels: object) -> str:
    """Return 16 hexadecimal digits of SHA-256 over labels."""
    return hashlib.sha256(json.dumps(labels).encode()).hexdigest()[:16]
