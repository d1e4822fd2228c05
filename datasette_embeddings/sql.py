"""Registration of the SQL functions on a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasette_embeddings.embedder import Embedder
from datasette_embeddings.functions import FUNCTIONS, Session, SQLFunction

if TYPE_CHECKING:
    import sqlite3


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
