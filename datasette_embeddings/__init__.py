"""Embeddings for SQLite and Datasette: one command makes a file know what its rows mean, as ordinary tables.

The data's path is the tree:

    sources -> models -> store -> search / neighbors -> sql / queries / cli
    rows       vectors   tables   computed from vectors  what people touch

This module holds what Datasette calls, each a hand-over of a few lines, and `register` for plain sqlite3. Importing it
loads nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable

    import click
    from datasette.app import Datasette
    from datasette.utils.asgi import Request

__all__ = ["register"]

hookimpl = HookimplMarker("datasette")
"""Datasette's own marker, made here so that `llm` and `sqlite-utils` need not import Datasette to load our hooks."""


def register(conn: sqlite3.Connection) -> None:
    """Add every `embed_` SQL function to a plain sqlite3 connection.

    >>> import sqlite3
    >>> conn = sqlite3.connect(":memory:")
    >>> register(conn)
    >>> conn.execute("select embed_dimensions(embed_encode('[3, 4]'))").fetchone()
    (2,)
    """
    from datasette_embeddings import sql

    sql.register(conn)


@hookimpl(tryfirst=True)
def prepare_connection(conn: sqlite3.Connection, datasette: Datasette) -> None:
    """Add the SQL functions; first of all plugins, so that another plugin's own `llm_embed` functions replace ours."""
    from datasette_embeddings import site, sql, sqlthreads
    from datasette_embeddings.errors import ConfigError

    try:
        embedder, trusted = site.embedder_of(datasette), site.config_of(datasette).trusted_schema
    except ConfigError:
        return  # 1.0 opens connections before `startup` runs, which says what is wrong and stops
    sqlthreads.install(datasette)
    sql.register(conn, embedder)
    if not trusted:
        sql.distrust(conn)


@hookimpl
def startup(datasette: Datasette) -> Callable[[], Awaitable[None]]:
    """Check the configuration and, on 1.0, store our queries."""
    from datasette.utils import StartupError

    from datasette_embeddings import compat, site, sqlthreads
    from datasette_embeddings.errors import EmbeddingsError

    try:
        site.check(datasette)
    except EmbeddingsError as error:
        raise StartupError(str(error)) from error
    sqlthreads.install(datasette)

    async def store_queries() -> None:
        if compat.is_v1(datasette):
            await site.refresh(datasette)

    return store_queries


@hookimpl(optionalhook=True)
def canned_queries(datasette: Datasette, database: str) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Give our queries (0.65)."""
    from datasette_embeddings import site

    async def inner() -> dict[str, Any]:
        return await site.canned_queries(datasette, database)

    return inner


@hookimpl(optionalhook=True)
def permission_allowed(
    datasette: Datasette, actor: object, action: str, resource: object
) -> Callable[[], Awaitable[bool | None]] | None:
    """Deny what was made from a table to whom the table is denied (0.65)."""
    from datasette_embeddings import access

    if not access.may_concern_us(datasette, action, resource):
        return None
    return lambda: access.permission_allowed(datasette, actor, action, resource)


@hookimpl(optionalhook=True)
def permission_resources_sql(datasette: Datasette, actor: object, action: str) -> Callable[[], Awaitable[Any]] | None:
    """Deny what was made from a table to whom the table is denied (1.0)."""
    from datasette_embeddings import access

    if action not in access.ACTIONS:
        return None
    return lambda: access.permission_sql(datasette, actor, action)


@hookimpl
def asgi_wrapper(datasette: Datasette) -> Callable[[Any], Any]:
    """Embed the text of our search queries before they run; on 1.0 keep stored queries in step with the files."""
    from datasette_embeddings import compat, prefetch, scope, site

    def wrap(app: Any) -> Any:  # noqa: ANN401
        wrapped = prefetch.wrap(app, datasette, lambda: site.embedder_of(datasette))
        return scope.wrap(site.wrap_refresh(wrapped, datasette) if compat.is_v1(datasette) else wrapped)

    return wrap


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `datasette embeddings ...`."""
    from datasette_embeddings.cli import embeddings

    cli.add_command(embeddings)


@hookimpl
def register_routes() -> list[tuple[str, Any]]:
    """Add the pages at /-/embeddings."""
    from datasette_embeddings.pages import routes

    return routes()


@hookimpl(optionalhook=True)
def skip_csrf(datasette: Datasette, scope: dict[str, Any]) -> bool:
    """Leave it to the finder who may send it pictures: 0.65 would look for its token before them, in forms that it may not understand."""
    from datasette_embeddings.pages.uploads import is_finder

    return is_finder(scope, datasette.setting("base_url"))


@hookimpl
def extra_template_vars(
    datasette: Datasette, request: Request | None, view_name: str | None, database: str | None, table: str | None
) -> Callable[[], Awaitable[dict[str, Any]]]:
    """Give templates `related`, `semantic_search`, `collections_of` and `pictures_of`, and the row page of 0.65 its panel."""
    from datasette_embeddings import compat, panel

    async def inner() -> dict[str, Any]:
        functions = panel.template_functions(datasette, request)
        if view_name != "row" or compat.is_v1(datasette) or not (request and database and table):
            return functions
        return {**functions, "embeddings_panel": await panel.panel_html(datasette, request, database, table)}

    return inner


@hookimpl(optionalhook=True)
def top_row(datasette: Datasette, request: Request, database: str, table: str) -> Callable[[], Awaitable[Any]]:
    """Show what is related at the top of a row's page (1.0)."""
    from datasette_embeddings import panel

    return lambda: panel.panel_html(datasette, request, database, table)


@hookimpl
def menu_links(datasette: Datasette, actor: object) -> Callable[[], Awaitable[list[dict[str, str]]]]:
    """Add "Semantic search" to the main menu."""
    from datasette_embeddings import menus

    return lambda: menus.home_links(datasette, actor)


@hookimpl(optionalhook=True)
def homepage_actions(datasette: Datasette, actor: object) -> Callable[[], Awaitable[list[dict[str, str]]]]:
    """Add "Semantic search" to the menu of the home page (1.0)."""
    from datasette_embeddings import menus

    return lambda: menus.home_links(datasette, actor)


@hookimpl
def table_actions(
    datasette: Datasette, actor: object, database: str, table: str
) -> Callable[[], Awaitable[list[dict[str, str]]]]:
    """Add "Semantic search" to the menu of a table."""
    from datasette_embeddings import menus

    return lambda: menus.table_links(datasette, actor, database, table)


@hookimpl(optionalhook=True)
def view_actions(
    datasette: Datasette, actor: object, database: str, view: str
) -> Callable[[], Awaitable[list[dict[str, str]]]]:
    """Add "Semantic search" to the menu of a view (1.0)."""
    from datasette_embeddings import menus

    return lambda: menus.table_links(datasette, actor, database, view)


@hookimpl(optionalhook=True)
def row_actions(
    datasette: Datasette,
    actor: object,
    database: str,
    table: str,
    row: Any,  # noqa: ANN401
) -> Callable[[], Awaitable[list[dict[str, str]]]]:
    """Add "Find similar" to the menu of a row (1.0)."""
    from datasette_embeddings import menus

    return lambda: menus.row_links(datasette, actor, database, table, row)


@hookimpl(optionalhook=True)
def jump_items_sql(datasette: Datasette, actor: object) -> Callable[[], Awaitable[list[Any]]]:
    """Add every collection to the jump menu (1.0)."""
    from datasette_embeddings import menus

    return lambda: menus.jump_items(datasette, actor)


@hookimpl
def filters_from_request(
    request: Request, database: str, table: str, datasette: Datasette
) -> Callable[[], Awaitable[Any]]:
    """Narrow a table's page to the rows nearest to `?_meaning=`, and to those of `?_cluster=`."""
    from datasette_embeddings import narrowing

    return lambda: narrowing.filter_arguments(datasette, request, database, table)


@hookimpl
def render_cell(
    row: Any,  # noqa: ANN401
    value: object,
    column: str,
    table: str | None,
    database: str,
    datasette: Datasette,
) -> Callable[[], Awaitable[Any]] | None:
    """Show vectors as what they are, and ids in the results of our queries as links."""
    from datasette_embeddings import cells

    return cells.render(datasette, database, table, column, value, row)
