"""Which vectors of other tools are meant, and which of their tables stand in the way of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasette_embeddings.database import table_names
from datasette_embeddings.errors import ConfigError, SourceError
from datasette_embeddings.importers import files, peers
from datasette_embeddings.importers.sqlite_vec import sqlite_vec
from datasette_embeddings.sources import TableSource

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from datasette_embeddings.importers.origin import Origin
    from datasette_embeddings.importers.request import Request


def find_origins(conn: sqlite3.Connection, request: Request) -> tuple[list[Origin], list[str]]:
    """Return the vectors that the request means, or all that tools known here left; and what cannot be read, and why."""
    if request.vectors:
        return [_in_file(conn, request, request.vectors)], []
    place = request.place or (request.table if request.vector_column else None)
    if place:
        return [_in_place(conn, place, request)], []
    found, notes = _all(conn)
    if len(found) > 1 and request.describes_one:
        labels = ", ".join(origin.label for origin in found)
        raise ConfigError(
            f"the options are about one set of vectors, and the file has several; choose one: --from {labels}"
        )
    return found, notes


def _all(conn: sqlite3.Connection) -> tuple[list[Origin], list[str]]:
    found, notes = sqlite_vec(conn)
    return peers.openai_to_sqlite(conn) + peers.datasette_embeddings(conn) + found, notes


def _in_place(conn: sqlite3.Connection, place: str, request: Request) -> Origin:
    """Return the vectors of one table: as the tool that made it keeps them, else those in a column of it."""
    found, notes = _all(conn)
    if not request.id_column:
        named = [
            o for o in found if o.label == place or (o.place == place and request.vector_column in {None, o.column})
        ]
        if len(named) > 1:
            labels = ", ".join(origin.label for origin in named)
            raise ConfigError(f"{place!r} holds several sets of vectors; choose one: --from {labels}")
        if named:
            return named[0]
    refused = [note for note in notes if note.startswith((f"{place} ", f"{place}."))]
    if refused:
        raise SourceError("; ".join(refused))
    known = peers.openai_to_sqlite(conn, place) if not (request.id_column or request.vector_column) else []
    return known[0] if known else peers.plain_table(conn, place, request.id_column, request.vector_column)


def _in_file(conn: sqlite3.Connection, request: Request, path: Path) -> Origin:
    if path.suffix == ".parquet":
        return files.parquet_file(path, request.id_column, request.vector_column)
    if path.suffix == ".npy":
        table = TableSource(request.table).resolve(conn) if request.table else None
        return files.npy_file(conn, path, request.ids, table)
    raise ConfigError(f"{path.name}: vectors are read from .npy and .parquet files; found {path.suffix or 'no suffix'}")


def in_the_way(conn: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return (old, new) names of openai-to-sqlite's tables that stand where ours are to be."""
    taken = {name.lower() for name in table_names(conn)}
    renames = []
    for name in peers.peer_tables(conn):
        candidates = (f"{name}_old{suffix}" for suffix in ("", *(f"_{number}" for number in range(2, len(taken) + 3))))
        renames.append((name, next(candidate for candidate in candidates if candidate.lower() not in taken)))
    return renames
