"""What the plugin is within one running Datasette: its checked configuration, how it embeds, and the queries it provides."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from datasette_embeddings import compat, indexes
from datasette_embeddings.budget import Budget
from datasette_embeddings.compat import MARK
from datasette_embeddings.config import (
    DATASETTE_FILES,
    METADATA_FILES,
    PLUGIN,
    Config,
    both_places,
    parse,
    read_file,
    refuse_misplaced,
)
from datasette_embeddings.embedder import Embedder
from datasette_embeddings.errors import ConfigError, EmbeddingsError
from datasette_embeddings.guard import Guard
from datasette_embeddings.limits import ANSWERS_PER_MINUTE, INDEX_BYTES, QUERIES_PER_MINUTE
from datasette_embeddings.models import built_in, configured_name
from datasette_embeddings.remembered import file_state, holdings_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from datasette.app import Datasette

RIVAL = "datasette-embeddings"

_configs: WeakKeyDictionary[Datasette, Config] = WeakKeyDictionary()
_budgets: WeakKeyDictionary[Datasette, Budget] = WeakKeyDictionary()
_answers: WeakKeyDictionary[Datasette, Budget] = WeakKeyDictionary()
_guards: WeakKeyDictionary[Datasette, Guard] = WeakKeyDictionary()
_registered: WeakKeyDictionary[Datasette, dict[str, tuple[object, ...]]] = WeakKeyDictionary()


def config_of(datasette: Datasette) -> Config:
    """Return the plugin's configuration in this Datasette, checked once; raises ConfigError."""
    if datasette not in _configs:
        refuse_misplaced(compat.whole_config(datasette), "the site's configuration")
        _configs[datasette] = parse(compat.raw_config(datasette), f"plugins.{PLUGIN}")
    return _configs[datasette]


def embedder_of(datasette: Datasette) -> Embedder:
    """Return how this Datasette embeds queries."""
    config = config_of(datasette)
    settings = config.models.keys() - {config.chat_model}
    named = {config.default_model, *settings, *(config.model_of(c) for c in config.collections.values())}
    budget, guard = budget_of(datasette), guard_of(datasette)
    return Embedder(config.default_model, config.models, config.allow_sql, frozenset(named), budget, guard)


def budget_of(datasette: Datasette) -> Budget:
    """Return what the visitors of this Datasette may spend; one for all of them."""
    if datasette not in _budgets:
        per_minute = config_of(datasette).limits.get("queries_per_minute", QUERIES_PER_MINUTE)
        _budgets.setdefault(datasette, Budget(per_minute))
    return _budgets[datasette]


def answers_of(datasette: Datasette) -> Budget:
    """Return how many questions the visitors of this Datasette may ask its chat model; one for all of them."""
    if datasette not in _answers:
        per_minute = config_of(datasette).limits.get("answers_per_minute", ANSWERS_PER_MINUTE)
        _answers.setdefault(datasette, Budget(per_minute, "questions{} to its chat model", "answers_per_minute"))
    return _answers[datasette]


def guard_of(datasette: Datasette) -> Guard:
    """Return what bounds the models that SQL asks in this Datasette; one for all of its SQL threads."""
    if datasette not in _guards:
        _guards.setdefault(datasette, Guard(datasette.setting("sql_time_limit_ms") / 1000))
    return _guards[datasette]


def check(datasette: Datasette) -> None:
    """Raise ConfigError for whatever must not be found out later: a rival plugin, two configurations, literal keys.

    The memory of indexes is the process's own: where it serves several sites, the last one bounds it.
    """
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
    limits = config_of(datasette).limits
    indexes.cache.limit = int(1e6 * limits["index_megabytes"]) if "index_megabytes" in limits else INDEX_BYTES


def _check_places(directory: Path) -> None:
    places = [
        path.name
        for names in (METADATA_FILES, DATASETTE_FILES)
        for path in (directory / name for name in names)
        if path.is_file() and PLUGIN in (read_file(path).get("plugins") or {})
    ]
    if len(places) > 1:
        raise ConfigError(both_places(*places[:2]))


def is_remote(datasette: Datasette, model: str) -> bool:
    """Tell whether a model, which is not loaded for that where loading takes long, runs on another machine."""
    embedder = embedder_of(datasette)
    name = configured_name(model, embedder.named or (), embedder.settings) or model
    if built_in(name) or name.startswith(("sentence-transformers/", "onnx/", "words/", "bridge/")):
        return False
    try:
        return embedder.model(name).remote
    except EmbeddingsError:
        return False


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
                parameters=list(query.parameters),
                is_trusted=True,
                source=MARK,
            )


async def refresh(datasette: Datasette) -> None:
    """Look, at the cost of a stat, whether a database file changed, and store its queries anew where it did."""
    seen = _registered.setdefault(datasette, {})
    for name, database in list(datasette.databases.items()):
        state = file_state(database.path)
        if seen.get(name) != state:
            seen[name] = state
            await store_queries(datasette, name)


def wrap_refresh(app: Callable[..., Awaitable[None]], datasette: Datasette) -> Callable[..., Awaitable[None]]:
    """Return an ASGI application that keeps 1.0's stored queries in step with builds that run beside the server."""

    async def refreshing(scope: dict[str, Any], receive: object, send: object) -> None:
        if scope["type"] == "http":
            await refresh(datasette)
        await app(scope, receive, send)

    return refreshing
