"""From vectors of another tool to a collection of ours.

Everything is read, checked and computed first; what is written then is one transaction, so that a file is either as it was
or taken over whole. Vectors are kept bit for bit. Where the rows they were made from are known, each gets the hash of its
row's text as it is now, so that a build finds nothing to embed.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from datasette_embeddings import catalog, embed
from datasette_embeddings.database import connect, translated
from datasette_embeddings.errors import ConfigError, SourceError, StoreError
from datasette_embeddings.importers import advice
from datasette_embeddings.importers.finding import find_origins, in_the_way
from datasette_embeddings.importers.survey import survey, usable_vectors
from datasette_embeddings.importers.target import recorded, target_of
from datasette_embeddings.neighbors import all_neighbors
from datasette_embeddings.sources import TableSource
from datasette_embeddings.store import Finish, SimilarityChange, Store, StoredItem
from datasette_embeddings.tables import find_tables
from datasette_embeddings.vectors import FLOAT32, unit_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.config import Config
    from datasette_embeddings.importers.origin import Origin
    from datasette_embeddings.importers.request import Request
    from datasette_embeddings.importers.survey import Survey
    from datasette_embeddings.importers.target import Target
    from datasette_embeddings.neighbors import Neighbors
    from datasette_embeddings.report import Reporter
    from datasette_embeddings.tables import Tables

BATCH_ROWS = 1_000
"""Vectors in memory at a time while they are written: 6 MB at 1,536 dimensions."""


@dataclass
class Task:
    """One set of vectors with what becomes of it.

    *existing*: the collection that an earlier import made of it; *neighbors*: computed before anything is written; *removed*: ids that *existing* had and that are gone.
    """

    origin: Origin
    target: Target
    survey: Survey
    existing: Collection | None
    neighbors: Neighbors | None = None
    removed: list[str] = field(default_factory=list)


def take_over(path: Path, request: Request, config: Config, report: Reporter) -> bool:
    """Make collections of the vectors that other tools left in a database, or in a file; returns whether there were any.

    Raises EmbeddingsError, and then nothing was written.
    """
    with closing(connect(path)) as reader, translated(path):
        version = _version(reader)
        tables = find_tables(reader)
        prefix = tables.prefix if tables else request.table_prefix or config.table_prefix
        tasks, notes = plan(reader, tables, request, config)
        aside = [] if prefix else in_the_way(reader)
        for line in notes:
            report.line(line)
        if request.dry_run:
            for line in advice.dry_run(tasks, aside):
                report.line(line)
        if request.dry_run or not (tasks or aside):
            return bool(tasks or aside)
        for task in tasks:
            task.neighbors = _neighbors(reader, task, report)
        with Store.at_once(path, prefix, aside) as store, store.claim():
            if _version(reader) != version:
                raise StoreError(
                    f"{path}: another program changed it meanwhile; nothing was written, run the command again"
                )
            for task in tasks:
                _write(store, task, dict(aside), report)
    _settle(path, prefix, tasks)
    for line in advice.done(path, tasks, aside):
        report.line(line)
    return True


def _version(conn: sqlite3.Connection) -> int:
    """Return a number that changes when another connection writes to the file."""
    return int(conn.execute("pragma data_version").fetchone()[0])


def _settle(path: Path, prefix: str, tasks: Sequence[Task]) -> None:
    """Leave one file; where an earlier import had vectors that are gone now, without a trace of them.

    Rewriting the file would give rows that have no other key than their rowid another one.
    """
    by_rowid = any(isinstance(t.target.source, TableSource) and t.target.source.key == ("rowid",) for t in tasks)
    with Store(path, prefix) as store:
        if any(task.removed for task in tasks) and not by_rowid:
            store.scrub()
        store.settle()


def plan(
    conn: sqlite3.Connection, tables: Tables | None, request: Request, config: Config
) -> tuple[list[Task], list[str]]:
    """Return what is to be taken over, and what of the file is not, and why.

    Where one set of vectors is asked for, what stands against it is raised.
    """
    origins, notes = find_origins(conn, request)
    tasks: list[Task] = []
    unclear: list[str] = []
    for origin in origins:
        try:
            task = _plan_one(conn, tables, origin, request, config)
        except (SourceError, StoreError, ConfigError) as error:
            if request.names_one:
                raise
            (unclear if isinstance(error, ConfigError) else notes).append(str(error))
        else:
            tasks += [task] if task else []
    if unclear and not tasks:
        raise ConfigError("; ".join(unclear))
    return tasks, notes + unclear


def _plan_one(
    conn: sqlite3.Connection, tables: Tables | None, origin: Origin, request: Request, config: Config
) -> Task | None:
    """Return what is to be done for one set of vectors, None where it was taken over before."""
    target = target_of(conn, origin, recorded(conn, tables, origin), request, config)
    found = survey(conn, origin, target)
    existing = next((c for c in catalog.collections(conn, tables) if c.name == target.name), None)
    if existing is None or tables is None:
        return Task(origin, target, found, None)
    if _is_stored(conn, tables, existing, origin, target, found):
        return None
    if existing.owner != "import" or (existing.source or {}).get("from") != origin.label:
        raise StoreError(
            f"{origin.label}: there is a collection {target.name!r} already, with other vectors; choose another name for this "
            "one with --collection"
        )
    if existing.model != target.model:
        raise StoreError(
            f"{target.name}: these vectors were imported as those of {existing.model}, not of {target.model}; "
            "`datasette embeddings delete` the collection to import it anew"
        )
    return Task(origin, target, found, existing)


def _is_stored(
    conn: sqlite3.Connection, tables: Tables, existing: Collection, origin: Origin, target: Target, found: Survey
) -> bool:
    """Tell whether a collection holds all that would be taken over."""
    if existing.model != target.model:
        return False
    ours = existing.owner == "import"
    sql = f"select embedding, content_hash from {tables.embeddings} where collection_id = ? and id = ?"
    for item, blob in usable_vectors(conn, origin, found):
        row = conn.execute(sql, [existing.id, item]).fetchone()
        if row is None or row[0] != blob or (ours and row[1] != found.hashes[item]):
            return False
    if not ours:
        return True
    alike = existing.source == target.describe(origin) and (existing.similarities or 0) == target.similarities
    accounted = sorted(catalog.issues(conn, existing, tables)) == sorted(found.issues)
    return alike and accounted and catalog.count_embedded(conn, existing, tables) == len(found.hashes)


def _neighbors(conn: sqlite3.Connection, task: Task, report: Reporter) -> Neighbors | None:
    """Return the k nearest items of every item, as positions in the sorted ids; None where none are wanted or possible."""
    place = {item: number for number, item in enumerate(task.survey.hashes)}
    k = min(task.target.similarities, len(place) - 1)
    if k < 1:
        return None
    matrix = np.empty((len(place), task.survey.dimensions), np.float32)
    for item, blob in usable_vectors(conn, task.origin, task.survey):
        matrix[place[item]] = np.frombuffer(blob, FLOAT32)
    matrix, _ = unit_rows(matrix)
    with report.progress(f"similarities {task.target.name}", 0) as advance:
        return all_neighbors(matrix, k, lambda done, total: advance(int(done == total)))


def _similarities(task: Task) -> Iterator[tuple[str, str, float]]:
    """Yield (id, other id, score), by the one definition of a score."""
    found, ids = task.neighbors, list(task.survey.hashes)
    if found is not None:
        for row, other, score in zip(found.rows, found.others, found.scores, strict=True):
            yield ids[row], ids[other], float(score)


def _write(store: Store, task: Task, renamed: Mapping[str, str], report: Reporter) -> None:
    """Write one collection; the tables in *renamed* have their new names by now."""
    target, found = task.target, task.survey
    task.origin = replace(task.origin, place=renamed.get(task.origin.place, task.origin.place))
    collection = store.find(target.name) or store.create(target.name, target.model)
    before = embed.known_items(store.conn, store.tables, collection)
    collection = store.describe(
        collection,
        owner="import",
        source=target.describe(task.origin),
        template=target.template,
        dimensions=found.dimensions,
        document_prefix=target.prefix.document or "",
        query_prefix=target.prefix.query or "",
    )
    vectors = usable_vectors(store.conn, task.origin, found)
    with report.progress(f"taking over {target.name}", len(found.hashes)) as advance:
        while batch := list(islice(vectors, BATCH_ROWS)):
            items = [StoredItem(item, blob, None, None, found.hashes[item], None) for item, blob in batch]
            store.save(collection, items, 0, None)
            advance(len(batch))
    skipped = sum(status == "skipped" for _, status, _ in found.issues)
    state = {
        "rows": len(found.hashes) + len(found.issues),
        "embedded": len(found.hashes),
        "skipped": skipped,
        "failed": len(found.issues) - skipped,
        "similarities": target.similarities or None,
    }
    change = SimilarityChange(everything=True, added=_similarities(task))
    task.removed = sorted(before.keys() - found.hashes.keys())
    store.finish(collection, Finish(task.removed, found.issues, change, state))
