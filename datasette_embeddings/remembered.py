"""What a running Datasette knows of its database files, read once and read anew when a file changed."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast
from weakref import WeakKeyDictionary

from datasette_embeddings import holdings, rows, scope, state
from datasette_embeddings.holdings import Holdings
from datasette_embeddings.limits import REMEMBERED_ENTRIES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Hashable, Sequence

    from datasette.app import Datasette

    from datasette_embeddings.state import CollectionState

Result = TypeVar("Result")

_kept: WeakKeyDictionary[Datasette, OrderedDict[tuple[str, Hashable], tuple[tuple[object, ...], object]]] = (
    WeakKeyDictionary()
)


async def read_once(
    datasette: Datasette, database: str, what: Hashable, read: Callable[[sqlite3.Connection], Result]
) -> Result:
    """Return what *read* gives for a database, read anew when its file changed. *what*: names it."""
    opened = datasette.get_database(database)
    kept = _kept.setdefault(datasette, OrderedDict())
    state, key = file_state(opened.path), (database, what)
    found = kept.get(key)
    if found is None or found[0] != state or opened.path is None:
        found = kept[key] = (state, await opened.execute_fn(read))
        if len(kept) > REMEMBERED_ENTRIES:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return cast("Result", found[1])


async def holdings_of(datasette: Datasette, database: str) -> Holdings:
    """Return what a database holds of ours."""
    return await read_once(datasette, database, "holdings", holdings.read)


def fresh_holdings(datasette: Datasette, database: str) -> Holdings | None:
    """Return what a database holds of ours, None where that would have to be read."""
    opened = datasette.databases.get(database)
    kept = _kept.get(datasette, OrderedDict()).get((database, "holdings"))
    if opened is None or kept is None or opened.path is None or kept[0] != file_state(opened.path):
        return None
    return cast("Holdings", kept[1])


def known_holdings(datasette: Datasette, database: str) -> Holdings:
    """Return what is known of a database since it was last read; nothing where it never was."""
    kept = _kept.get(datasette, OrderedDict()).get((database, "holdings"))
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
    """Return what changes whenever a database file does, looked at once a request."""
    known = scope.current().states
    if path not in known:
        known[path] = (path, _looked_at(f"{path}"), _looked_at(f"{path}-wal"))
    return known[path]


def _looked_at(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
