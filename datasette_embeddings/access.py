"""Who may see what was made from a table: whoever may see the table. Vectors can be turned back into text.

The one permission gate: a table of ours is denied to whom the source of any collection in its database is denied, and a
query or page of ours to whom its own collection's source is denied. It only ever denies, and never opens what is closed.
"""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from datasette_embeddings import compat, remembered, scope

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datasette.app import Datasette

    from datasette_embeddings.catalog import Collection

ACTIONS = {"view-table", "view-query"}
"""What there is something to deny of."""

_asking: ContextVar[bool] = ContextVar("embeddings_asking", default=False)
"""Set while the gate itself asks for the permission of a source, which must not come back to the gate."""


async def may_view_all(datasette: Datasette, actor: object, database: str, tables: Iterable[str]) -> bool:
    """Tell whether an actor may view every one of some tables of a database."""
    for table in sorted(tables):
        if not await _may_view(datasette, actor, database, table):
            return False
    return True


async def _may_view(datasette: Datasette, actor: object, database: str, table: str) -> bool:
    answers = scope.current().answers
    asked = (repr(actor), database, table)
    if asked not in answers:
        answers[asked] = await compat.may_view_table(datasette, actor, database, table)
    return answers[asked]


def known_to_view(actor: object, database: str, table: str) -> None:
    """Remember for this request that Datasette itself has found that an actor may view a table."""
    scope.current().answers[repr(actor), database, table] = True


async def may_view_collection(datasette: Datasette, actor: object, database: str, collection: Collection) -> bool:
    """Tell whether an actor may see what is in a collection: who may view the database and all that it was made from."""
    if collection.source_tables:  # whose permission includes that of their database
        return await may_view_all(datasette, actor, database, collection.source_tables)
    return await compat.may_view_database(datasette, actor, database)


async def is_public(datasette: Datasette, database: str, collection: Collection) -> bool:
    """Tell whether everybody may see what is in a collection."""
    return await may_view_collection(datasette, None, database, collection)


async def is_denied(datasette: Datasette, actor: object, action: str, database: str, name: str) -> bool:
    """Tell whether *actor* is denied a table (`view-table`) or query (`view-query`) because of its source."""
    if database not in compat.served_databases(datasette):
        return False
    held = await remembered.holdings_of(datasette, database)
    behind = held.behind_table(name) if action == "view-table" else held.behind_query(name)
    return not await may_view_all(datasette, actor, database, behind)


def may_concern_us(datasette: Datasette, action: str, resource: object) -> bool:
    """Tell, at hardly any cost, whether a permission that 0.65 asks for can be about something of ours."""
    if action not in ACTIONS or not isinstance(resource, tuple) or len(resource) != 2:
        return False
    held = remembered.fresh_holdings(datasette, str(resource[0]))
    return held is None or held.provides(str(resource[1]))


async def permission_allowed(datasette: Datasette, actor: object, action: str, resource: object) -> bool | None:
    """Answer 0.65's question about one resource: False, or None for no opinion."""
    if action not in ACTIONS or not isinstance(resource, tuple):
        return None
    return False if await is_denied(datasette, actor, action, *resource) else None


async def denied_resources(datasette: Datasette, actor: object, action: str) -> list[tuple[str, str]]:
    """Return every (database, table or query) of ours that is denied, for 1.0, which asks about all at once."""
    if action not in ACTIONS or _asking.get():
        return []
    token = _asking.set(True)
    try:
        found = []
        for database in compat.served_databases(datasette):
            held = await remembered.holdings_of(datasette, database)
            if await may_view_all(datasette, actor, database, held.sources):
                continue
            names = held.derived if action == "view-table" else {query.name for query in held.queries}
            found += [(database, n) for n in sorted(names) if await is_denied(datasette, actor, action, database, n)]
        return found
    finally:
        _asking.reset(token)


async def permission_sql(datasette: Datasette, actor: object, action: str) -> Any:  # noqa: ANN401
    """Return the denials as 1.0 wants them: SQL that gives a row for each, or None."""
    denied = await denied_resources(datasette, actor, action)
    if not denied:
        return None
    from datasette.permissions import PermissionSQL

    return PermissionSQL(
        sql="select json_extract(value, '$[0]') as parent, json_extract(value, '$[1]') as child, 0 as allow, "
        "'its source is not yours to view' as reason from json_each(:embeddings_denied)",
        params={"embeddings_denied": json.dumps(denied)},
    )
