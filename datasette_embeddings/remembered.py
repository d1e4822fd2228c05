"""What a running Datasette knows of its database files, read once and read anew when a file changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast
from weakref import WeakKeyDictionary

from datasette_embeddings import holdings, rows, state
from datasette_embeddings.holdings import Holdings

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Hashable, Sequence

    from datasette.app import Datasette

    from datasette_embeddings.state import CollectionState

Result = TypeVar("Result")

_kept: WeakKeyDictionary[Datasette, dict[tuple[str, Hashable], tuple[tuple[object, ...], object]]] = WeakKeyDictionary()


async def read_once(
    datasette: Datasette, database: str, what: Hashable, read: Callable[[sqlite3.Connection], Result]
) -> Result:
    """Return what *read* gives for a database, read anew when its file changed. *what*: names it."""
    opened = datasette.get_database(database)
    kept = _kept.setdefault(datasette, {})
    state = file_state(opened.path)
    if (database, what) not in kept or kept[database, what][0] != state or opened.path is None:
        kept[database, what] = (state, await opened.execute_fn(read))
    return cast("Result", kept[database, what][1])


async def holdings_of(datasette: Datasette, database: str) -> Holdings:
    """Return what a database holds of ours."""
    return await read_once(datasette, database, "holdings", holdings.read)


def known_holdings(datasette: Datasette, database: str) -> Holdings:
    """Return what is known of a database since it was last read; nothing where it never was."""
    kept = _kept.get(datasette, {}).get((database, "holdings"))
    return cast("Holdings", kept[1]) if kept else Holdings()


async def states_of(datasette: Datasette, database: str) -> list[CollectionState]:
    """Return the state of every collection of a database."""
    return await read_once(datasette, database, "states", lambda conn: state.states(conn, Path(f"{database}.db")))


async def facet_counts(
    datasette: Datasette, database: str, table: str, columns: Sequence[str]
) -> dict[str, list[tuple[str, int]]]:
    """Return the commonest values of some columns of a table, with how many rows have each."""
    return await read_once(
        datasette, database, ("facets", table, *columns), lambda conn: rows.commonest(conn, table, columns)
    )


def file_state(path: str | None) -> tuple[object, ...]:
    """Return what changes whenever a database file does, at the cost of two looks at the folder."""
    states: list[object] = []
    for suffix in ("", "-wal"):
        try:
            stat = Path(f"{path}{suffix}").stat()
        except OSError:
            continue
        states.append((stat.st_mtime_ns, stat.st_size))
    return (path, *states)
