"""The state of a database's collections: counts that add up, and what is not as it should be."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from datasette_embeddings import catalog
from datasette_embeddings.database import column_names, quote, table_names
from datasette_embeddings.errors import ConfigError
from datasette_embeddings.grouping import count_clusters
from datasette_embeddings.models.prompts import Prompts
from datasette_embeddings.restrictions import restricted_tables
from datasette_embeddings.tables import find_tables, has_own_tables, own_tables

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables

AGAIN = {
    "config": "build again",
    "add": "build again",
    "embed": "run the same `embed` command again",
    "import": "configure it as `import` said and build",
}
"""How a collection is brought up to date, by who owns it."""

ANEW = {
    "config": "build with --rebuild",
    "add": "build with --rebuild",
    "embed": "run the same `embed` command with --rebuild",
    "import": "import it anew",
    "llm": "embed those items anew with llm",
}


@dataclass(frozen=True)
class CollectionState:
    """One collection as it is now; *notes* say what is not as it should be. *thumbnails*: their bytes, None where rows are texts."""

    name: str
    model: str
    dimensions: int | None
    owner: str
    source: str
    document_prefix: str | None
    query_prefix: str | None
    rows: int
    chunks: int | None
    embedded: int
    skipped: int
    failed: int
    similarities: int
    clusters: int | None
    projection: str | None
    generation: int
    built: str | None
    stale: bool
    noise_floor: float | None
    tokens: int
    cost_usd: float | None
    reasons: dict[str, int]
    notes: list[str]
    thumbnails: int | None = None

    @property
    def prefixes(self) -> str:
        """What stands before documents and before queries, in words; "" for nothing."""
        return Prompts(self.document_prefix or "", self.query_prefix or "").words

    def as_dict(self) -> dict[str, Any]:
        """Return the state for JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield the state as text."""
        yield f"{self.name}  ({self.model}, {self.dimensions or '?'} dimensions, from {self.source})"
        yield (
            f"  {self.rows:,} {'rows' if self.thumbnails is None else 'pictures'} = {self.embedded:,} embedded{self._in_chunks} + {self.skipped:,} skipped + {self.failed:,} failed; "
            f"{self.similarities:,} similarities{self._further}; generation {self.generation}, built {self.built or 'never'}"
        )
        if self.prefixes:
            yield f"  {self.prefixes}"
        if self.thumbnails is not None:
            yield f"  thumbnails of {self.thumbnails / 1e3:,.0f} kB"
        if self.tokens:
            spent = "" if not self.cost_usd else f", ${self.cost_usd:.4f}"
            yield f"  {self.tokens:,} tokens{spent}"
        for reason, count in self.reasons.items():
            yield f"  {count:,} {reason}"
        for note in self.notes:
            yield f"  note: {note}"

    @property
    def _further(self) -> str:
        clusters = "" if self.clusters is None else f", {self.clusters:,} clusters"
        return clusters + (f", a map by {self.projection}" if self.projection else "")

    @property
    def _in_chunks(self) -> str:
        return "" if self.chunks is None else f" in {self.chunks:,} chunks"


@dataclass(frozen=True)
class Report:
    """All collections of a database."""

    collections: list[CollectionState]
    notes: list[str]

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        if not self.collections:
            yield "No collections yet: `datasette embeddings add DB TABLE` makes the first."
        for entry in self.collections:
            yield from entry.lines()
        for note in self.notes:
            yield f"note: {note}"


def report(conn: sqlite3.Connection, path: Path) -> Report:
    """Return the state of every collection of the database file at *path*, which *conn* reads."""
    tables = find_tables(conn)
    if tables is None:
        return Report([], [])
    notes = _shared_ids(conn, tables)
    try:
        restricted = restricted_tables(path)
    except ConfigError as error:
        restricted = {}
        notes.append(f"{error}; so who may view the source tables is not known")
    return Report(states(conn, path, restricted), notes)


def states(
    conn: sqlite3.Connection, path: Path, restricted: Mapping[str, str] = MappingProxyType({})
) -> list[CollectionState]:
    """Return the state of every collection; commands that their notes name are about the file *path*."""
    tables = find_tables(conn)
    found = catalog.collections(conn, tables) if tables else []
    return [state_of(conn, tables, collection, path, restricted) for collection in found if tables]


def state_of(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, path: Path, restricted: Mapping[str, str]
) -> CollectionState:
    """Return the state of one collection."""
    embedded = catalog.count_embedded(conn, collection, tables)
    issues = catalog.issues(conn, collection, tables)
    reasons: dict[str, int] = {}
    for _, status, reason in issues:
        reasons[f"{status}: {reason}"] = reasons.get(f"{status}: {reason}", 0) + 1
    skipped = sum(status == "skipped" for _, status, _ in issues)
    return CollectionState(
        collection.name,
        collection.model,
        collection.dimensions or _dimensions(conn, tables, collection),
        collection.owner,
        _source(collection),
        collection.prefixes.document or None,
        collection.prefixes.query or None,
        embedded + len(issues),
        catalog.count_items(conn, collection, tables) if collection.chunk else None,
        embedded,
        skipped,
        len(issues) - skipped,
        _similarities(conn, tables, collection),
        count_clusters(conn, tables, collection) if collection.clusters else None,
        collection.projection,
        collection.generation,
        collection.built,
        _is_stale(conn, tables, collection),
        collection.noise_floor,
        collection.tokens,
        collection.cost_usd,
        dict(sorted(reasons.items(), key=lambda pair: -pair[1])),
        [*_notes(conn, tables, collection, path), *_private_notes(collection, path, restricted)],
        _thumbnails(conn, tables, collection) if collection.images else None,
    )


def _source(collection: Collection) -> str:
    source = collection.source or {}
    for kind in ("table", "sql", "records", "files"):
        if kind in source:
            return f"{kind} {source[kind]}" if kind != "sql" else "SQL"
    return "llm" if collection.owner == "llm" else collection.owner


def _dimensions(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> int | None:
    row = conn.execute(
        f"select length(embedding) / 4 from {tables.embeddings} where collection_id = ? limit 1", [collection.id]
    ).fetchone()
    return row[0] if row else None


def _thumbnails(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> int:
    """Return how many bytes the thumbnails have; 0 in a file of an earlier release, which has none."""
    if tables.plain("thumbnails") not in own_tables(conn, tables):
        return 0
    sql = f"select coalesce(sum(length(data)), 0) from {tables.thumbnails} where collection_id = ?"
    return int(conn.execute(sql, [collection.id]).fetchone()[0])


def _similarities(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> int:
    if not collection.similarities:
        return 0
    row = conn.execute(
        f"select count(*) from {tables.similarities} where collection_id = ?", [collection.id]
    ).fetchone()
    return int(row[0])


def _notes(conn: sqlite3.Connection, tables: Tables, collection: Collection, path: Path) -> Iterator[str]:
    owner = collection.owner
    size = 4 * (collection.dimensions or _dimensions(conn, tables, collection) or 0)
    odd = conn.execute(
        f"select count(*) from {tables.embeddings} where collection_id = ? and "
        "(typeof(embedding) != 'blob' or length(embedding) != ?)",
        [collection.id, size],
    ).fetchone()[0]
    if odd:
        yield (
            f"{odd:,} stored vectors are malformed or of other dimensions; searches pass over them: "
            f"{ANEW.get(owner, ANEW['config'])}"
        )
    if not has_own_tables(conn, tables):
        return
    stale = _vectors_changed(conn, tables, collection)
    if owner == "llm":
        if collection.similarities and stale:
            yield (
                "vectors changed since its similarities were computed: `datasette embeddings similarities "
                f"{path} {collection.name} -n {collection.similarities}` computes them anew"
            )
        return
    if collection.built is None:
        yield "its first build was not finished: run the same command again"
    elif stale:
        yield f"vectors changed since the last build, and similarities are stale: {AGAIN.get(owner, AGAIN['config'])}"
    if collection.key == ("rowid",):
        yield "its table has no primary key: rows are identified by rowid, which VACUUM may change (a build notices)"
    if collection.table:
        yield from _row_notes(conn, collection)


def _vectors_changed(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> bool:
    return bool(catalog.stale_items(conn, tables, collection)) or catalog.counts_differ(conn, collection, tables)


def _is_stale(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> bool:
    """Tell whether a build would find something to do, as far as can be told without reading every row."""
    if collection.built is None or not has_own_tables(conn, tables):
        return False
    return _vectors_changed(conn, tables, collection) or _rows_now(conn, collection) != collection.rows


def _rows_now(conn: sqlite3.Connection, collection: Collection) -> int | None:
    """Return how many rows the source has now; what it had, where that cannot be told."""
    table = collection.table
    if table is None or table not in table_names(conn) or (collection.source or {}).get("where"):
        return collection.rows
    return int(conn.execute(f"select count(*) from {quote(table)}").fetchone()[0])


def _private_notes(collection: Collection, path: Path, restricted: Mapping[str, str]) -> Iterator[str]:
    """Say which sources are private in a database that is less so."""
    for table in collection.source_tables:
        if table in restricted:
            yield (
                f"{restricted[table]} keeps its source {table!r} from some who may view the database {path.stem!r}, so all "
                "embeddings in this file are kept from them, and SQL may still read them: give it a database of its own, "
                "and put `allow` on that"
            )


def _row_notes(conn: sqlite3.Connection, collection: Collection) -> Iterator[str]:
    table = str(collection.table)
    if table not in table_names(conn):
        yield f"its source table {table!r} is gone"
        return
    source = collection.source or {}
    read = [*source.get("columns", ()), *([source["image"]] if "image" in source else [])]
    missing = [c for c in read if c not in column_names(conn, table)]
    if missing:
        yield f"its source table has no column {', '.join(missing)} any more"
    now = _rows_now(conn, collection)
    if now is not None and now != collection.rows:
        yield f"its source has {now:,} rows now: {AGAIN.get(collection.owner, AGAIN['config'])}"


def _shared_ids(conn: sqlite3.Connection, tables: Tables) -> list[str]:
    """Say when two collections share ids, so that a query must name the collection."""
    row = conn.execute(
        f"select a.id from {tables.embeddings} a join {tables.embeddings} b on a.id = b.id "
        "and a.collection_id < b.collection_id limit 1"
    ).fetchone()
    if row is None:
        return []
    return [
        f"collections share ids ({row[0]!r} for one): name the collection (collection_id) in queries on similarities"
    ]
