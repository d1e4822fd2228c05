"""Registration of the SQL functions on a connection."""

from __future__ import annotations

import re
import sqlite3

from datasette_embeddings.database import quote
from datasette_embeddings.embedder import Embedder
from datasette_embeddings.functions import FUNCTIONS, Session, SQLFunction


def register(conn: sqlite3.Connection, embedder: Embedder | None = None) -> None:
    """Add every `embed_` function, and the `llm_embed` aliases, to an sqlite3 connection.

    All are deterministic, so that SQLite calls a function of constants once a statement and not once a row. They read
    through *conn* itself and so return nothing that it could not SELECT, and do not keep it alive.
    """
    session = Session(conn, embedder or Embedder())
    for function in FUNCTIONS:
        made = function.make(session)
        for name in (function.name, *function.aliases):
            add_function(conn, function, name, made)


def add_function(conn: sqlite3.Connection, function: SQLFunction, name: str, made: object) -> None:
    """Register one function under one name, in each of its arities."""
    for arity in function.arities:
        if function.aggregate:
            conn.create_aggregate(name, arity, made)  # type: ignore[arg-type]
        else:
            conn.create_function(name, arity, made, deterministic=True)  # type: ignore[arg-type]


CALLED = re.compile(
    rb"\b(" + "|".join(name for f in FUNCTIONS for name in (f.name, *f.aliases)).encode() + rb")\b", re.I
)
"""One of our functions in a definition; SQLite has no other way to write such a name."""


def distrust(conn: sqlite3.Connection) -> None:
    """Keep our functions from being called by a file's own views, triggers, columns and indexes, which come with the file.

    Only SQL that somebody writes calls them then. `PRAGMA trusted_schema=OFF` keeps more from such definitions, functions of
    other plugins and in SQLite 3.40 even its own full-text tables, so it is set only where one names a function of ours.
    """
    if names_our_functions(conn):
        conn.execute("pragma trusted_schema = off")


def names_our_functions(conn: sqlite3.Connection) -> bool:
    """Tell whether a definition in the opened files names one of our functions, or the files cannot be read to see."""
    try:
        schemas = [row[1] for row in conn.execute("pragma database_list")]
        return any(
            CALLED.search(definition)
            for schema in schemas
            for (definition,) in conn.execute(f"select cast(sql as blob) from {quote(schema)}.sqlite_master")
            if definition
        )
    except sqlite3.Error:
        return True
