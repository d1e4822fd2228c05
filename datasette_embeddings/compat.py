"""The differences between Datasette 0.65 and 1.0, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasette_embeddings.config import PLUGIN

if TYPE_CHECKING:
    from datasette.app import Datasette

MARK = "datasette-embeddings-suite"
"""What the queries that we provide are marked with."""


def is_v1(datasette: Datasette) -> bool:
    """Tell whether this is Datasette 1.0."""
    return hasattr(datasette, "allowed")


def raw_config(datasette: Datasette) -> object:
    """Return the plugin's block with `{$env: ...}` unresolved, so that literal keys can be told from references."""
    return ((whole_config(datasette)).get("plugins") or {}).get(PLUGIN)


def whole_config(datasette: Datasette) -> dict[str, Any]:
    """Return the site's configuration, as its files have it."""
    return (datasette.config if is_v1(datasette) else datasette._metadata_local) or {}


def served_databases(datasette: Datasette) -> list[str]:
    """Return the names of the databases that people are served; 0.65 counts its own among all."""
    return [name for name in datasette.databases if name != "_internal"]


def configured_queries(datasette: Datasette, database: str) -> dict[str, Any]:
    """Return the queries that the site's own configuration gives a database (0.65)."""
    databases = (datasette._metadata_local or {}).get("databases") or {}
    return (databases.get(database) or {}).get("queries") or {}


async def may_view_query(datasette: Datasette, actor: object, database: str, query: str) -> bool:
    """Tell whether there is such a query and the actor may view it."""
    if is_v1(datasette):
        from datasette.resources import QueryResource

        return bool(await datasette.allowed(action="view-query", resource=QueryResource(database, query), actor=actor))
    if await datasette.get_canned_query(database, query, actor) is None:
        return False
    permissions = [("view-query", (database, query)), ("view-database", database), "view-instance"]
    visible, _ = await datasette.check_visibility(actor, permissions=permissions)
    return bool(visible)


async def is_our_query(datasette: Datasette, actor: object, database: str, query: str) -> bool:
    """Tell whether the query of that name is the one that we provide, and not one of the site's own in its place."""
    if is_v1(datasette):
        stored = await datasette.get_query(database, query)
        return stored is not None and stored.source == MARK
    canned = await datasette.get_canned_query(database, query, actor)
    return canned is not None and canned.get("plugin") == MARK


async def error_response(datasette: Datasette, scope: dict[str, Any], sentence: str, status: int) -> Any:  # noqa: ANN401
    """Return Datasette's own response to an error in a request, a page or JSON, made by its hook."""
    from datasette.plugins import pm
    from datasette.utils import await_me_maybe
    from datasette.utils.asgi import Request
    from datasette.views.base import DatasetteError

    request = Request(scope, None)
    try:  # raised, as hooks may print the exception that is being handled
        raise DatasetteError(sentence, error_dict={"errors": [sentence]}, status=status)
    except DatasetteError as error:
        for result in pm.hook.handle_exception(datasette=datasette, request=request, exception=error):
            response = await await_me_maybe(result)
            if response is not None:
                return response
        raise


async def may_view_table(datasette: Datasette, actor: object, database: str, table: str) -> bool:
    """Tell whether an actor may view a table."""
    if is_v1(datasette):
        from datasette.resources import TableResource

        return bool(await datasette.allowed(action="view-table", resource=TableResource(database, table), actor=actor))
    permissions = [("view-table", (database, table)), ("view-database", database), "view-instance"]
    visible, _ = await datasette.check_visibility(actor, permissions=permissions)
    return bool(visible)


async def may_view_database(datasette: Datasette, actor: object, database: str) -> bool:
    """Tell whether an actor may view a database."""
    if is_v1(datasette):
        from datasette.resources import DatabaseResource

        return bool(await datasette.allowed(action="view-database", resource=DatabaseResource(database), actor=actor))
    visible, _ = await datasette.check_visibility(actor, permissions=[("view-database", database), "view-instance"])
    return bool(visible)


async def may_view_instance(datasette: Datasette, actor: object) -> bool:
    """Tell whether an actor may view anything of the site at all."""
    if is_v1(datasette):
        return bool(await datasette.allowed(action="view-instance", actor=actor))
    return bool(await datasette.permission_allowed(actor, "view-instance", default=True))


async def may_execute_sql(datasette: Datasette, actor: object, database: str) -> bool:
    """Tell whether an actor may run SQL of their own on a database."""
    if is_v1(datasette):
        from datasette.resources import DatabaseResource

        return bool(await datasette.allowed(action="execute-sql", resource=DatabaseResource(database), actor=actor))
    return bool(await datasette.permission_allowed(actor, "execute-sql", database, default=True))


def query_url(datasette: Datasette, database: str, sql: str, parameters: dict[str, Any]) -> str:
    """Return the address of Datasette's own page for some SQL."""
    from urllib.parse import urlencode

    path = datasette.urls.database(database) + ("/-/query" if is_v1(datasette) else "")
    return f"{path}?{urlencode({'sql': sql, **parameters})}"


def table_settings(datasette: Datasette, database: str, table: str) -> dict[str, Any]:
    """Return what the site's configuration says of a table, such as its `label_column` and `facets`."""
    whole = datasette.config if is_v1(datasette) else datasette._metadata_local
    databases = (whole or {}).get("databases") or {}
    return dict(((databases.get(database) or {}).get("tables") or {}).get(table) or {})


async def table_description(datasette: Datasette, database: str, table: str) -> str | None:
    """Return what the site says of a table, which 1.0 keeps apart from its settings."""
    described = table_settings(datasette, database, table)
    if is_v1(datasette):
        described = await datasette.get_resource_metadata(database, table)
    description = described.get("description")
    return str(description) if description else None


async def actor_of(datasette: Datasette, scope: dict[str, Any]) -> object:
    """Return who asks, as Datasette itself will find out a moment later."""
    from datasette.plugins import pm
    from datasette.utils import await_me_maybe
    from datasette.utils.asgi import Request

    for result in pm.hook.actor_from_request(datasette=datasette, request=Request(scope, None)):
        actor = await await_me_maybe(result)
        if actor:
            return actor
    return scope.get("actor")
