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
    from datasette_embeddings import site, sql
    from datasette_embeddings.errors import ConfigError

    try:
        embedder = site.embedder_of(datasette)
    except ConfigError:
        return  # 1.0 opens connections before `startup` runs, which says what is wrong and stops
    sql.register(conn, embedder)


@hookimpl
def startup(datasette: Datasette) -> Callable[[], Awaitable[None]]:
    """Check the configuration and, on 1.0, store our queries."""
    from datasette.utils import StartupError

    from datasette_embeddings import compat, site
    from datasette_embeddings.errors import EmbeddingsError

    try:
        site.check(datasette)
    except EmbeddingsError as error:
        raise StartupError(str(error)) from error

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
) -> Callable[[], Awaitable[bool | None]]:
    """Deny what was made from a table to whom the table is denied (0.65)."""
    from datasette_embeddings import access

    return lambda: access.permission_allowed(datasette, actor, action, resource)


@hookimpl(optionalhook=True)
def permission_resources_sql(datasette: Datasette, actor: object, action: str) -> Callable[[], Awaitable[Any]]:
    """Deny what was made from a table to whom the table is denied (1.0)."""
    from datasette_embeddings import access

    return lambda: access.permission_sql(datasette, actor, action)


@hookimpl
def asgi_wrapper(datasette: Datasette) -> Callable[[Any], Any]:
    """Embed the text of our search queries before they run; on 1.0 keep stored queries in step with the files."""
    from datasette_embeddings import compat, prefetch, site

    def wrap(app: Any) -> Any:  # noqa: ANN401
        wrapped = prefetch.wrap(app, datasette, lambda: site.embedder_of(datasette))
        return site.wrap_refresh(wrapped, datasette) if compat.is_v1(datasette) else wrapped

    return wrap


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `datasette embeddings ...`."""
    from datasette_embeddings.cli import embeddings

    cli.add_command(embeddings)
