"""What the plugin is within one running Datasette: its checked configuration, and the queries it provides."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from datasette_embeddings import compat, holdings
from datasette_embeddings.budget import Budget
from datasette_embeddings.compat import MARK
from datasette_embeddings.config import DATASETTE_FILES, METADATA_FILES, PLUGIN, Config, both_places, parse, read_file
from datasette_embeddings.embedder import Embedder
from datasette_embeddings.errors import ConfigError
from datasette_embeddings.holdings import Holdings
from datasette_embeddings.limits import QUERIES_PER_MINUTE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from datasette.app import Datasette

RIVAL = "datasette-embeddings"

_configs: WeakKeyDictionary[Datasette, Config] = WeakKeyDictionary()
_budgets: WeakKeyDictionary[Datasette, Budget] = WeakKeyDictionary()
_holdings: WeakKeyDictionary[Datasette, dict[str, tuple[tuple[object, ...], Holdings]]] = WeakKeyDictionary()
_registered: WeakKeyDictionary[Datasette, dict[str, tuple[object, ...]]] = WeakKeyDictionary()


def config_of(datasette: Datasette) -> Config:
    """Return the plugin's configuration in this Datasette, checked once; raises ConfigError."""
    if datasette not in _configs:
        _configs[datasette] = parse(compat.raw_config(datasette), f"plugins.{PLUGIN}")
    return _configs[datasette]


def embedder_of(datasette: Datasette) -> Embedder:
    """Return how this Datasette embeds queries."""
    config = config_of(datasette)
    named = {config.default_model, *config.models, *(config.model_of(c) for c in config.collections.values())}
    return Embedder(config.default_model, config.models, config.allow_sql, frozenset(named), budget_of(datasette))


def budget_of(datasette: Datasette) -> Budget:
    """Return what the visitors of this Datasette may spend; one for all of them."""
    if datasette not in _budgets:
        per_minute = config_of(datasette).limits.get("queries_per_minute", QUERIES_PER_MINUTE)
        _budgets.setdefault(datasette, Budget(per_minute))
    return _budgets[datasette]


def check(datasette: Datasette) -> None:
    """Raise ConfigError for whatever must not be found out later: a rival plugin, two configurations, literal keys."""
    try:
        distribution(RIVAL)
    except PackageNotFoundError:
        pass
    else:
        raise ConfigError(
            f"{RIVAL} is installed too and has the same import name as {MARK}: pip uninstall {RIVAL}, then reinstall {MARK}"
        )
    if datasette.config_dir:
        _check_places(Path(datasette.config_dir))
    config_of(datasette)


def _check_places(directory: Path) -> None:
    places = [
        path.name
        for names in (METADATA_FILES, DATASETTE_FILES)
        for path in (directory / name for name in names)
        if path.is_file() and PLUGIN in (read_file(path).get("plugins") or {})
    ]
    if len(places) > 1:
        raise ConfigError(both_places(*places[:2]))


async def holdings_of(datasette: Datasette, database: str) -> Holdings:
    """Return what a database holds of ours, read anew when its file changed."""
    opened = datasette.get_database(database)
    kept = _holdings.setdefault(datasette, {})
    state = _file_state(opened.path)
    if database not in kept or kept[database][0] != state or opened.path is None:
        kept[database] = (state, await opened.execute_fn(holdings.read))
    return kept[database][1]


async def canned_queries(datasette: Datasette, database: str) -> dict[str, dict[str, Any]]:
    """Return queries as 0.65 wants them, leaving out those that the site has configured under the same name."""
    configured = compat.configured_queries(datasette, database)
    theirs = {name for name, query in configured.items() if not isinstance(query, dict) or query.get("plugin") != MARK}
    return {
        query.name: {"sql": query.sql, "title": query.title, "description": query.description, "plugin": MARK}
        for query in (await holdings_of(datasette, database)).queries
        if query.name not in theirs
    }


async def store_queries(datasette: Datasette, database: str) -> None:
    """Bring the stored queries of 1.0 up to date; a query of the site's own of the same name is left alone."""
    wanted = {query.name: query for query in (await holdings_of(datasette, database)).queries}
    page = await datasette.list_queries(database, source=MARK, limit=1000)
    for stored in page.queries:
        if stored.name not in wanted:
            await datasette.remove_query(database, stored.name, source=MARK)
    for query in wanted.values():
        existing = await datasette.get_query(database, query.name)
        if existing is None or existing.source == MARK:
            await datasette.add_query(
                database,
                query.name,
                query.sql,
                title=query.title,
                description=query.description,
                parameters=["q"] if query.name.startswith("search_") else ["id"],
                is_trusted=True,
                source=MARK,
            )


async def refresh(datasette: Datasette) -> None:
    """Look, at the cost of a stat, whether a database file changed, and store its queries anew where it did."""
    seen = _registered.setdefault(datasette, {})
    for name, database in list(datasette.databases.items()):
        state = _file_state(database.path)
        if seen.get(name) != state:
            seen[name] = state
            await store_queries(datasette, name)


def _file_state(path: str | None) -> tuple[object, ...]:
    states: list[object] = []
    for suffix in ("", "-wal"):
        try:
            stat = Path(f"{path}{suffix}").stat()
        except OSError:
            continue
        states.append((stat.st_mtime_ns, stat.st_size))
    return (path, *states)


def wrap_refresh(app: Callable[..., Awaitable[None]], datasette: Datasette) -> Callable[..., Awaitable[None]]:
    """Return an ASGI application that keeps 1.0's stored queries in step with builds that run beside the server."""

    async def refreshing(scope: dict[str, Any], receive: object, send: object) -> None:
        if scope["type"] == "http":
            await refresh(datasette)
        await app(scope, receive, send)

    return refreshing
