"""The SQL functions inside `sqlite-utils`, for its command line and its Python API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlite_utils import hookimpl

if TYPE_CHECKING:
    import sqlite3


@hookimpl
def prepare_connection(conn: sqlite3.Connection) -> None:
    """Add the functions to every connection that sqlite-utils opens."""
    from datasette_embeddings import sql

    sql.register(conn)
