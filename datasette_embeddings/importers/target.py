"""What a set of vectors becomes: the collection's name, model and rows, by the options, the configuration and the file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from datasette_embeddings import catalog
from datasette_embeddings.catalog import QUERYABLE
from datasette_embeddings.config import Prefix
from datasette_embeddings.errors import ConfigError
from datasette_embeddings.models import stored_name
from datasette_embeddings.models.prompts import card
from datasette_embeddings.sources import QuerySource, TableSource
from datasette_embeddings.spec import spec_of

if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.config import CollectionConfig, Config
    from datasette_embeddings.importers.origin import Origin
    from datasette_embeddings.importers.request import Request
    from datasette_embeddings.tables import Tables

DEFAULT_SIMILARITIES = 10


@dataclass(frozen=True)
class Target:
    """The collection that a set of vectors becomes. *source*: the rows it is of; *texts*: whether their text is known."""

    name: str
    model: str
    source: TableSource | QuerySource | None = None
    texts: bool = False
    template: str | None = None
    prefix: Prefix = field(default_factory=Prefix)
    similarities: int = DEFAULT_SIMILARITIES

    def describe(self, origin: Origin) -> dict[str, Any]:
        """Return what `embeddings_collections.source` keeps."""
        return {**(self.source.describe() if self.source else {}), "from": origin.label}


def recorded(conn: sqlite3.Connection, tables: Tables | None, origin: Origin) -> Collection | None:
    """Return the collection that an earlier import made of these vectors."""
    imported = [c for c in catalog.collections(conn, tables) if c.owner == "import"]
    return next((c for c in imported if (c.source or {}).get("from") == origin.label), None)


def target_of(
    conn: sqlite3.Connection, origin: Origin, earlier: Collection | None, request: Request, config: Config
) -> Target:
    """Return what the vectors become; raises ConfigError where that is not clear, SourceError for a missing table."""
    if earlier and not request.names_rows and request.collection in {None, earlier.name}:
        target = _as_before(earlier)
        if request.model:
            target = replace(target, model=stored_name(request.model, config.models))
    else:
        target = _as_asked(conn, origin, earlier, request, config)
    if isinstance(target.source, TableSource):
        target = replace(target, source=target.source.resolve(conn))
    if request.similarities is not None:
        target = replace(target, similarities=request.similarities)
    return target


def _as_before(earlier: Collection) -> Target:
    """Return what an earlier import made of the same vectors."""
    kept = earlier.source or {}
    columns = tuple(kept.get("columns", ()))
    template = earlier.template if not columns else None
    prepend = kept.get("prepend", "")
    source: TableSource | QuerySource | None = None
    if "table" in kept:
        source = TableSource(kept["table"], columns, template, tuple(kept["key"]), kept.get("where"), prepend)
    elif "sql" in kept:
        source = QuerySource(kept["sql"], template, prepend=prepend)
    texts = "sql" in kept or earlier.template is not None
    k = earlier.similarities or 0
    prefix = Prefix(prepend, earlier.query_prefix or "")
    return Target(earlier.name, earlier.model, source, texts, earlier.template, prefix, k)


def _as_asked(
    conn: sqlite3.Connection, origin: Origin, earlier: Collection | None, request: Request, config: Config
) -> Target:
    name = request.collection or (earlier.name if earlier else request.table or origin.name)
    if not QUERYABLE.match(name):
        raise ConfigError(
            f"a collection's name is made of letters, digits and _; found {name!r}: name it with --collection"
        )
    configured = config.collections.get(name)
    model = request.model or origin.model or (earlier and earlier.model) or (configured and config.model_of(configured))
    if not model:
        raise ConfigError(
            f"{origin.label}: nothing says which model made these vectors, and a search needs the same: "
            f"--from {origin.label} --model NAME"
        )
    # What another tool says it used is OpenAI's own; what the options and the configuration name is as configured here.
    stored = model if model == origin.model else stored_name(model, config.models)
    if configured and not request.names_rows:
        return _as_configured(configured, stored, config)
    source, texts = _source(origin, request)
    identity = request.template or " ".join(request.columns) or None
    return Target(name, stored, source, texts, identity, _prefix(request.prepend, stored))


def _prefix(prepend: str, model: str) -> Prefix:
    """Return what was put before the texts, and what belongs before queries then: nothing, where there was nothing."""
    known = card(model) if prepend else None
    return Prefix(prepend, known.query if known else "")


def _as_configured(configured: CollectionConfig, model: str, config: Config) -> Target:
    spec = spec_of(configured, config)
    if stored_name(spec.model, config.models) != model:
        raise ConfigError(
            f"{config.place}: collections.{spec.name} is to be made by {spec.model}, and these vectors are by {model}: "
            "set its `model`, say with --model that it is the same, or take them over under another name with --collection"
        )
    assert isinstance(spec.source, (TableSource, QuerySource))
    return Target(spec.name, model, spec.source, True, spec.template, spec.prefix, spec.similarities)


def _source(origin: Origin, request: Request) -> tuple[TableSource | QuerySource | None, bool]:
    """Return the rows that vectors belong to, and whether it is known what of them was embedded."""
    if request.sql:
        return QuerySource(request.sql, request.template, prepend=request.prepend), True
    table = request.table or origin.table
    texts = bool(request.columns or request.template)
    if table is None and texts:
        raise ConfigError("--column and --template are of a table: name it with --table")
    if table is None:
        return None, False
    # Vectors that stand in a column of their own rows' table share its key.
    key = request.key or (origin.key if table in {origin.place, origin.table} else ())
    return TableSource(table, request.columns, request.template, key, prepend=request.prepend), texts
