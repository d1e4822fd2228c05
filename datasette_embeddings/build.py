"""A build: bring the collections of one database up to date with their rows, stage by stage.

Everything that can be known without writing is planned first, on a read-only connection: a build with nothing to do, or a
dry run, leaves the file untouched. Then, under a claim, vectors are committed batch by batch and what is derived from them
is written as one difference, in one short transaction with the next generation number.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from datasette_embeddings import catalog, derive, embed
from datasette_embeddings.catalog import NEXT, Collection
from datasette_embeddings.config import Config, Prefix
from datasette_embeddings.database import connect, table_names, translated
from datasette_embeddings.errors import ConfigError, StoreError, UnknownCollection
from datasette_embeddings.language import share_not_english
from datasette_embeddings.models import aliases, get_model
from datasette_embeddings.sources import QuerySource, TableSource
from datasette_embeddings.store import Finish, SimilarityChange, Store
from datasette_embeddings.tables import Tables, find_tables, has_own_tables

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from datasette_embeddings.config import CollectionConfig
    from datasette_embeddings.models import EmbeddingModel
    from datasette_embeddings.sources import Source

SAMPLE_TEXTS = 200
"""Texts looked at for an estimate of tokens and language."""

MANY_UNKNOWN = 0.05
MANY_FOREIGN = 0.2


class Reporter(Protocol):
    """Where a build says what it does."""

    def line(self, text: str) -> None:
        """Say one thing."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show progress of long work; the function yielded takes how much was done since the last call."""

    def confirm(self, question: str, otherwise: str) -> None:
        """Return when the person agrees; raise with *otherwise* when there is nobody to ask."""


@dataclass(frozen=True)
class Spec:
    """What one collection is to be."""

    name: str
    source: Source
    model: str
    owner: str
    prefix: Prefix = field(default_factory=Prefix)
    template: str | None = None
    similarities: int = 10
    store: bool = False
    delete_missing: bool = True


@dataclass(frozen=True)
class Options:
    """How a build is to be done."""

    dry_run: bool = False
    rebuild: bool = False
    reuse: Path | None = None
    max_cost: float | None = None
    keep_wal: bool = False
    batch_size: int | None = None


@dataclass
class Task:
    """One collection's planned work."""

    spec: Spec
    model: EmbeddingModel
    fingerprint: str
    existing: Collection | None
    base: Collection | None
    plan: embed.Plan
    issues_before: list[tuple[str, str, str]]
    leftover: Collection | None
    stale: bool
    estimate_tokens: int = 0

    @property
    def work(self) -> bool:
        """Whether anything has to be done."""
        adopted = self.base is not None and self.base.fingerprint == self.fingerprint
        return self.plan.work or self.stale or not adopted or self.issues() != self.issues_before

    @property
    def leaves_traces(self) -> bool:
        """Whether texts or vectors were removed, by this build or from the source, that free pages may still hold."""
        gone = {issue[0] for issue in self.issues_before} - {issue[0] for issue in self.issues()}
        return bool(self.plan.removed or self.plan.changed or self.replaces or self.leftover or gone)

    def issues(self) -> list[tuple[str, str, str]]:
        """Return every skipped or failed row by id: of this run, and of earlier ones where rows are added bit by bit."""
        before = [] if self.spec.delete_missing else self.issues_before
        named = {i: (i, s, r) for i, s, r in before if i not in self.plan.seen and r not in {embed.NO_KEY, embed.REPEATED}}
        return sorted((named | {issue[0]: issue for issue in self.plan.issues}).values())

    @property
    def replaces(self) -> Collection | None:
        """The collection that serves until this build takes over its name."""
        return self.existing if self.existing and (self.base is None or self.base.id != self.existing.id) else None

    @property
    def estimate_cost(self) -> float | None:
        """What the texts to embed will cost in US dollars, None where the price is unknown."""
        price = self.model.usd_per_million_tokens
        return None if price is None else self.estimate_tokens * price / 1e6


def spec_of(collection: CollectionConfig, config: Config) -> Spec:
    """Return the Spec of a configured collection."""
    prepend = collection.prefix.document
    source: Source
    if collection.table:
        source = TableSource(
            collection.table, collection.columns, collection.template, collection.key, collection.where, prepend
        )
    else:
        source = QuerySource(collection.sql or "", collection.template, prepend=prepend)
    identity = collection.template or " ".join(collection.columns)
    return Spec(
        collection.name,
        source,
        config.model_of(collection),
        "config",
        collection.prefix,
        identity,
        collection.similarities,
        collection.store or collection.table is None,
    )


def recorded_spec(collection: Collection) -> Spec | None:
    """Return the Spec of a collection that `add` made, from what the file remembers of it; None for others."""
    source = collection.source or {}
    if collection.owner != "add" or "table" not in source:
        return None
    return Spec(
        collection.name,
        TableSource(
            source["table"], tuple(source.get("columns", ())), None, tuple(source.get("key", ())), source.get("where")
        ),
        collection.model,
        "add",
        Prefix(),
        collection.template,
        collection.similarities or 0,
    )


def fingerprint(spec: Spec, model: EmbeddingModel) -> str:
    """Return what identifies how a row becomes a vector: model, prefix and template; 16 hexadecimal digits."""
    return digest([model.name, model.revision, spec.prefix.document, spec.prefix.query, spec.template or ""])


def model_fingerprint(model: EmbeddingModel) -> str:
    """Return what identifies how a text becomes a vector."""
    return digest([model.name, model.revision])


def digest(parts: list[str]) -> str:
    """Return 16 hexadecimal digits of SHA-256 over a list of texts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def build(path: Path, specs: Sequence[Spec], config: Config, options: Options, report: Reporter) -> bool:
    """Build collections of one database file; returns whether anything had to be done.

    Raises EmbeddingsError; what was committed before stays, and the same call goes on from there.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        tasks, token = plan_all(path, specs, config, options, stack)
        _say_plans(tasks, options, report)
        if options.dry_run:
            return any(task.work for task in tasks)
        unfinished = _is_unfinished(path)
        if not any(task.work for task in tasks) and not unfinished:
            return False
        _ask_before_sending(tasks, options, config, report)
        store = stack.enter_context(Store(path, config.table_prefix))
        stack.enter_context(store.claim())
        if _token(store.conn, store.tables) != token:
            tasks, _ = plan_all(path, specs, config, options, stack)
        for task in tasks:
            run(task, store, config, options, report)
        if unfinished or any(task.leaves_traces for task in tasks):
            store.scrub()
    with Store(path, config.table_prefix) as store:
        store.settle(keep_wal=options.keep_wal)
    report.line(f"{path.name}: done in {time.monotonic() - started:.1f} s; {size_by_table(path)}")
    return True


def plan_all(
    path: Path, specs: Sequence[Spec], config: Config, options: Options, stack: ExitStack
) -> tuple[list[Task], object]:
    """Return the planned tasks, and a token that changes whenever another build commits something."""
    with closing(connect(path)) as reader, translated(path):
        tables = find_tables(reader)
        token = _token(reader, tables)
        return [plan_one(reader, tables, spec, config, options, stack) for spec in specs], token


def _token(conn: sqlite3.Connection, tables: Tables | None) -> object:
    if tables is None or not has_own_tables(conn, tables):
        return None
    state = (
        "select collection_id, generation, tokens, "
        f"(select count(*) from {tables.embeddings_changes} c where c.collection_id = e.collection_id) "
        f"from {tables.embeddings_collections} e order by 1"
    )
    return conn.execute(state).fetchall() or None


def _is_unfinished(path: Path) -> bool:
    """Tell whether an earlier build ended before its end, so that there may be traces to clear up."""
    with closing(connect(path)) as reader, translated(path):
        tables = find_tables(reader)
        if tables is None or not has_own_tables(reader, tables):
            return False
        return reader.execute(f"select 1 from {tables.embeddings_builds}").fetchone() is not None


def plan_one(
    reader: sqlite3.Connection,
    tables: Tables | None,
    spec: Spec,
    config: Config,
    options: Options,
    stack: ExitStack,
) -> Task:
    """Compare the rows of one collection with what the file holds of it."""
    model = get_model(spec.model, config.models)
    if options.batch_size:
        model.batch_items = options.batch_size
    if isinstance(spec.source, TableSource):
        spec = replace(spec, source=spec.source.resolve(reader))
    existing = _find(reader, tables, spec.name)
    _check_owner(existing, spec)
    wanted = fingerprint(spec, model)
    base = None if options.rebuild else _base(reader, tables, existing, wanted, model)
    known = embed.known_items(reader, tables, base) if tables else {}
    refused = embed.refused_items(reader, tables, base) if tables else {}
    plan = embed.plan(
        spec.source.rows(reader), known, refused, store_content=spec.store, delete_missing=spec.delete_missing
    )
    stack.callback(plan.pending.close)
    if not options.rebuild:
        _reuse(plan, reader, tables, model, existing, options, stack)
    stale = base is not None and (tables is None or is_stale(reader, tables, base, spec.similarities))
    issues = sorted(catalog.issues(reader, base, tables)) if tables and base else []
    leftover = _find(reader, tables, spec.name + NEXT) if base and base.name == spec.name else None
    task = Task(spec, model, wanted, existing, base, plan, issues, leftover, stale or leftover is not None)
    task.estimate_tokens = estimate_tokens(plan, model)
    return task


def _find(conn: sqlite3.Connection, tables: Tables | None, name: str) -> Collection | None:
    if tables is None:
        return None
    try:
        return catalog.find_collection(conn, name, tables)
    except UnknownCollection:
        return None


def _check_owner(existing: Collection | None, spec: Spec) -> None:
    if existing is None or existing.owner in {spec.owner, "llm", "import"}:
        return
    if existing.owner == "config":
        raise ConfigError(
            f"the collection {spec.name!r} belongs to the configuration; change it there and run `datasette embeddings build`"
        )
    if spec.owner == "embed" and existing.owner == "add":
        raise ConfigError(f"the collection {spec.name!r} was made by `add`; delete it first, or use another name")


def _base(
    conn: sqlite3.Connection, tables: Tables | None, existing: Collection | None, wanted: str, model: EmbeddingModel
) -> Collection | None:
    """Return the collection whose rows are as wanted: the one of that name, or its successor under construction."""
    if existing is None:
        return None
    if existing.fingerprint == wanted:
        return existing
    if existing.fingerprint is None and _same_model(existing, model):
        return existing
    successor = _find(conn, tables, existing.name + NEXT)
    return successor if successor and successor.fingerprint == wanted else None


def _same_model(collection: Collection, model: EmbeddingModel) -> bool:
    """Tell whether a collection that has no fingerprint, as llm makes them, is of this model."""
    return collection.model in {model.name, model.llm_name} or model.name in aliases(collection.model)


def _reuse(
    plan: embed.Plan,
    reader: sqlite3.Connection,
    tables: Tables | None,
    model: EmbeddingModel,
    existing: Collection | None,
    options: Options,
    stack: ExitStack,
) -> None:
    """Look for vectors of the same model and text in this file, then in the one of --reuse."""
    if tables and has_own_tables(reader, tables):
        embed.reuse(plan, reader, tables, _of_model(reader, tables, model), model.dimensions)
    if existing and tables and existing.fingerprint is None and _same_model(existing, model):
        embed.reuse(plan, reader, tables, [existing.id], model.dimensions)
    if options.reuse:
        old = stack.enter_context(closing(connect(options.reuse)))
        old_tables = find_tables(old)
        if old_tables is None:
            raise StoreError(f"{options.reuse} holds no embeddings; --reuse takes an earlier file that `build` made")
        embed.reuse(plan, old, old_tables, _of_model(old, old_tables, model), model.dimensions)


def _of_model(conn: sqlite3.Connection, tables: Tables, model: EmbeddingModel) -> list[int]:
    if not has_own_tables(conn, tables):
        return [c.id for c in catalog.collections(conn, tables) if _same_model(c, model)]
    wanted = model_fingerprint(model)
    sql = f"select collection_id from {tables.embeddings_collections} where model_fingerprint = ?"
    return [row[0] for row in conn.execute(sql, [wanted])]


def is_stale(conn: sqlite3.Connection, tables: Tables, collection: Collection, k: int) -> bool:
    """Tell whether what is derived from a collection's vectors is not what they would give now."""
    if collection.built is None or (collection.similarities or 0) != k:
        return True
    if catalog.stale_items(conn, tables, collection):
        return True
    return catalog.count_embedded(conn, collection, tables) != collection.embedded


def estimate_tokens(plan: embed.Plan, model: EmbeddingModel) -> int:
    """Return about how many tokens the texts without a vector have, from a sample."""
    count, _ = plan.texts_to_embed()
    sample = plan.sample(SAMPLE_TEXTS)
    if not count or not sample:
        return 0
    counts = [min(n, model.max_tokens or n) for n in model.token_counts(sample)]
    return round(sum(counts) / len(counts) * count)


def run(task: Task, store: Store, config: Config, options: Options, report: Reporter) -> Collection:
    """Do one collection's work and write it."""
    if not task.work:
        return task.base  # type: ignore[return-value]
    spec, model, plan = task.spec, task.model, task.plan
    started = time.monotonic()
    if task.leftover:  # of a change that was taken back before it was built
        store.delete(task.leftover)
    collection = _target(task, store)
    with report.progress(f"embedding {spec.name}", plan.added + plan.changed) as advance:
        outcome = embed.embed_pending(
            plan,
            store,
            collection,
            model,
            store_content=spec.store,
            max_cost=options.max_cost or config.limits.get("max_cost_usd"),
            progress=advance,
        )
    collection = catalog.find_collection(store.conn, collection.name, store.tables)
    change = _derive(collection, store, spec, plan, report)
    finish = Finish(sorted(plan.removed), task.issues(), change, {}, _refused(task, store, collection))
    finish = replace(finish, state=_state(task, store, collection, finish))
    collection = store.finish(collection, finish, task.replaces)
    report.line(summary(task, outcome, collection, time.monotonic() - started))
    for warning in warnings(task, outcome):
        report.line("  " + warning)
    return collection


def _target(task: Task, store: Store) -> Collection:
    """Return the collection to write to, made where needed, with its origin recorded."""
    spec, model = task.spec, task.model
    collection = store.find(task.base.name) if task.base else None
    if collection is None:
        name = spec.name + NEXT if task.existing else spec.name
        leftover = store.find(name)
        if leftover:
            store.delete(leftover)
        collection = store.create(name, model.llm_name or model.name)
    return store.describe(
        collection,
        owner=spec.owner,
        source=spec.source.describe(),
        template=spec.template,
        fingerprint=task.fingerprint,
        model_fingerprint=model_fingerprint(model),
        query_prefix=spec.prefix.query or None,
    )


def _derive(
    collection: Collection, store: Store, spec: Spec, plan: embed.Plan, report: Reporter
) -> SimilarityChange | None:
    if spec.similarities == 0 and not collection.similarities:
        return None
    with report.progress(f"similarities {spec.name}", 0) as advance:
        return derive.similarity_change(
            store.conn,
            store.tables,
            collection,
            spec.similarities,
            removed=plan.removed,
            progress=lambda done, total: advance(0) if done < total else advance(1),
        )


def _refused(task: Task, store: Store, collection: Collection) -> dict[str, bytes]:
    """Return the content hash of each row that the model gave no vector for, now or before."""
    before = embed.refused_items(store.conn, store.tables, collection)
    return {item: digest for item, (digest, _, _) in before.items() if item not in task.plan.seen} | task.plan.refused


def _state(task: Task, store: Store, collection: Collection, finish: Finish) -> dict[str, Any]:
    counts = _counts(store, collection, finish.issues, finish.removed)
    return {**counts, "similarities": task.spec.similarities or None}


def _counts(
    store: Store, collection: Collection, issues: Sequence[tuple[str, str, str]], removed: Sequence[str] = ()
) -> dict[str, int]:
    """Return the account of every row: embedded, skipped and failed add up to rows."""
    gone = sum(catalog.item_vector(store.conn, collection, item, store.tables) is not None for item in removed)
    embedded = catalog.count_embedded(store.conn, collection, store.tables) - gone
    skipped = sum(status == "skipped" for _, status, _ in issues)
    return {
        "rows": embedded + len(issues),
        "embedded": embedded,
        "skipped": skipped,
        "failed": len(issues) - skipped,
    }


def _ask_before_sending(tasks: Sequence[Task], options: Options, config: Config, report: Reporter) -> None:
    """Ask before texts go to another machine for the first time."""
    for task in tasks:
        count, _ = task.plan.texts_to_embed()
        if task.model.remote and count and not (task.existing and task.existing.tokens):
            cost = "unknown cost" if task.estimate_cost is None else f"about ${task.estimate_cost:.4f}"
            report.confirm(
                f"{task.spec.name}: send {count:,} texts (about {task.estimate_tokens:,} tokens, {cost}) to "
                f"{task.model.name}?",
                "texts would leave this machine: add --yes to agree, or choose a local model",
            )


def _say_plans(tasks: Sequence[Task], options: Options, report: Reporter) -> None:
    for task in tasks:
        if not task.work:
            report.line(f"{task.spec.name}: nothing changed ({accounts(task.existing)})")
        elif options.dry_run:
            report.line(dry_run_line(task))


def accounts(collection: Collection | None) -> str:
    """Return a collection's counts in words."""
    if collection is None or collection.embedded is None:
        return "never built"
    return (
        f"{collection.rows:,} rows: {collection.embedded:,} embedded, {collection.skipped:,} skipped, "
        f"{collection.failed:,} failed"
    )


def dry_run_line(task: Task) -> str:
    """Return what a build would do for one collection."""
    plan, count = task.plan, task.plan.texts_to_embed()[0]
    waiting = plan.added + plan.changed
    cost = task.estimate_cost
    money = "price unknown" if cost is None else "no cost" if cost == 0 else f"about ${cost:.4f}"
    grown = waiting * 4 * (task.model.dimensions or 0) / 1e6
    return (
        f"{task.spec.name}: {plan.rows:,} rows, {plan.added:,} new, {plan.changed:,} changed, {len(plan.removed):,} gone, "
        f"{len(plan.issues):,} without a vector; {count:,} texts to embed by {task.model.name}, "
        f"about {task.estimate_tokens:,} tokens, {money}, about {grown:.1f} MB more"
    )


def summary(task: Task, outcome: embed.Outcome, collection: Collection, seconds: float) -> str:
    """Return what a build did for one collection."""
    plan = task.plan
    changes = [
        f"{plan.added:,} new",
        f"{plan.changed:,} changed",
        f"{len(plan.removed):,} removed",
        f"{outcome.texts:,} texts embedded",
    ]
    if outcome.reused:
        changes.append(f"{outcome.reused:,} rows by vectors at hand")
    if outcome.cost:
        changes.append(f"${outcome.cost:.4f}")
    return f"{task.spec.name}: {accounts(collection)}; {', '.join(changes)}; {seconds:.1f} s"


def warnings(task: Task, outcome: embed.Outcome) -> list[str]:
    """Return what a build could not do well, and what to do about it."""
    said = []
    model, plan = task.model, task.plan
    if outcome.truncated:
        read = (model.max_tokens or 0) * outcome.truncated
        share = read / max(1, read + outcome.tokens_unread)
        said.append(
            f"{outcome.truncated:,} texts are longer than {model.name} reads ({model.max_tokens} tokens): {share:.0%} of them "
            "is read; put what matters first in `columns` or `template`, or use a model that reads more"
        )
    if plan.cut:
        said.append(f"{plan.cut:,} texts were cut at the limit for one text; split such rows")
    if outcome.words and outcome.unknown / outcome.words > MANY_UNKNOWN:
        said.append(
            f"{outcome.unknown / outcome.words:.0%} of the words are unknown to {model.name} and count for nothing; "
            "another model may know them: see `datasette embeddings models`"
        )
    texts = [text for text in _some_texts(plan) if isinstance(text, str)]
    share, language = share_not_english(texts)
    if model.language == "English" and share > MANY_FOREIGN:
        said.append(
            f"{share:.0%} of the texts looked at seem not to be English ({language}), for which {model.name} was made; "
            "use a multilingual model, such as sentence-transformers/intfloat/multilingual-e5-small"
        )
    said += [f"{reason}: {count:,} rows" for reason, count in _reasons(plan)]
    return said


def _some_texts(plan: embed.Plan) -> list[str | bytes]:
    return [row[0] for row in plan.pending.execute("select content from texts order by hash limit ?", [SAMPLE_TEXTS])]


def _reasons(plan: embed.Plan) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for _, status, reason in plan.issues:
        counts[f"{status}, {reason}"] = counts.get(f"{status}, {reason}", 0) + 1
    return sorted(counts.items(), key=lambda pair: -pair[1])[:5]


def size_by_table(path: Path) -> str:
    """Return the size of a file, and of its largest tables where SQLite can tell."""
    import sqlite3

    total = f"{path.stat().st_size / 1e6:.1f} MB"
    with closing(connect(path)) as conn, translated(path):
        try:
            rows = conn.execute(
                "select coalesce(m.tbl_name, s.name), sum(s.pgsize) from dbstat s left join sqlite_master m "
                "on m.name = s.name group by 1 order by 2 desc limit 4"
            ).fetchall()
        except sqlite3.OperationalError:
            return f"{total}, {len(table_names(conn))} tables"
    return total + ": " + ", ".join(f"{name} {size / 1e6:.1f}" for name, size in rows)


def similarities_alone(store: Store, collection: Collection, k: int, report: Reporter) -> int:
    """Compute one collection's similarities and nothing else; returns how many rows there are."""
    with report.progress(f"similarities {collection.name}", 0) as advance:
        change = derive.similarity_change(
            store.conn, store.tables, collection, k, progress=lambda done, total: advance(int(done == total))
        )
    issues = catalog.issues(store.conn, collection, store.tables)
    finish = Finish([], issues, change, {})
    state = {**_counts(store, collection, issues), "similarities": k or None, "owner": collection.owner}
    store.finish(collection, replace(finish, state=state))
    sql = f"select count(*) from {store.tables.similarities} where collection_id = ?"
    return int(store.conn.execute(sql, [collection.id]).fetchone()[0])
