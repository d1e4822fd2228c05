"""A build: bring the collections of one database up to date with their rows, stage by stage.

Everything that can be known without writing is planned first, on a read-only connection: a build with nothing to do, or a
dry run, leaves the file untouched. Then, under a claim, vectors are committed batch by batch and what is derived from them
is written as one difference, in one short transaction with the next generation number.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from datasette_embeddings import catalog, derive, embed, indexing, stages, thumbnails
from datasette_embeddings.baked import Baked
from datasette_embeddings.catalog import NEXT, Collection, Stages, parent_of
from datasette_embeddings.checkpoints import Checkpoint
from datasette_embeddings.database import connect, translated
from datasette_embeddings.derived import Title, Vectors
from datasette_embeddings.errors import StoreError
from datasette_embeddings.language import share_not_english
from datasette_embeddings.limits import SKETCHED_ROWS
from datasette_embeddings.matrices import load_matrix
from datasette_embeddings.noise import noise_floor
from datasette_embeddings.planning import Options, Task, model_fingerprint, plan_all, state_token
from datasette_embeddings.report import Reporter, accounts, dry_run_line, prompts_line, size_by_table, summary, warnings
from datasette_embeddings.sketches import sketched
from datasette_embeddings.store import ChunkChange, Finish, SimilarityChange, Store
from datasette_embeddings.tables import find_tables, has_own_tables
from datasette_embeddings.vectors import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from collections.abc import Collection as Ids
    from pathlib import Path

    from datasette_embeddings.config import Config
    from datasette_embeddings.matrices import Matrix
    from datasette_embeddings.spec import Spec


def build(path: Path, specs: Sequence[Spec], config: Config, options: Options, report: Reporter) -> bool:
    """Build collections of one database file; returns whether anything had to be done.

    Raises EmbeddingsError; what was committed before stays, and the same call goes on from there.
    """
    started = time.monotonic()
    limit = config.limits.get("max_cost_usd") if options.max_cost is None else options.max_cost
    options.budget.limit = limit
    with ExitStack() as stack:
        tasks, token = plan_all(path, specs, config, options, stack)
        _say_plans(tasks, options, report)
        if options.dry_run:
            return any(task.work for task in tasks)
        unfinished = _is_unfinished(path)
        if not any(task.work for task in tasks) and not unfinished:
            return False
        _ask_before_sending(tasks, report)
        store = stack.enter_context(Store(path, config.table_prefix))
        stack.enter_context(store.claim())
        if state_token(store.conn, store.tables) != token:
            tasks, _ = plan_all(path, specs, config, options, stack)
        if unfinished:
            store.drop_unfinished()
        for task in tasks:
            run(task, store, options.budget, report)
        if unfinished or any(task.leaves_traces for task in tasks):
            store.scrub()
    with Store(path, config.table_prefix) as store:
        if not store.settle(keep_wal=options.keep_wal):
            report.line(
                f"{path.name}: other programs have it open, so its write-ahead log ({path.name}-wal) belongs to it; "
                "close them and build again before the file is copied or served from a read-only disk"
            )
    report.line(f"{path.name}: done in {time.monotonic() - started:.1f} s; {size_by_table(path)}")
    return True


def _is_unfinished(path: Path) -> bool:
    """Tell whether an earlier build ended before its end, so that there may be traces to clear up."""
    with closing(connect(path)) as reader, translated(path):
        tables = find_tables(reader)
        if tables is None or not has_own_tables(reader, tables):
            return False
        return reader.execute(f"select 1 from {tables.embeddings_builds}").fetchone() is not None


def run(task: Task, store: Store, budget: embed.Budget, report: Reporter) -> Collection:
    """Do one collection's work and write it."""
    if not task.work:
        return task.base  # type: ignore[return-value]
    spec, model, plan = task.spec, task.model, task.plan
    started = time.monotonic()
    if task.leftover:  # of a change that was taken back before it was built
        store.delete(task.leftover)
    collection = _target(task, store)
    with report.progress(f"embedding {spec.name}", plan.waiting()) as advance:
        outcome = embed.embed_pending(
            plan,
            store,
            collection,
            model,
            store_content=spec.store,
            prompt=task.prompts.document,
            budget=budget,
            progress=advance,
        )
    collection = catalog.find_collection(store.conn, collection.name, store.tables)
    matrix = load_matrix(store.conn, store.tables, collection).without(plan.removed)
    rows = matrix.of_rows() if collection.chunk else matrix
    stale = catalog.stale_items(store.conn, store.tables, collection)
    change = _similar(collection, store, task, rows, report, stale)
    derived = stages.derive(
        Vectors(store.conn, store.tables, collection, rows, report.line, _embedding(task, store, collection, budget)),
        spec.stages,
        changed=bool(plan.removed or stale),
    )
    texts = indexing.text_change(store, collection, task, spec.name)
    finish = Finish(
        sorted(plan.removed),
        task.issues(),
        change,
        {},
        _refused(task, store, collection),
        texts,
        _chunk_change(task),
        sketches_of(matrix),
        derived.rows,
    )
    floor = noise_floor(model, collection, matrix)
    measured = {"noise_floor": floor, "foreign_share": _foreign_share(task)}
    finish = replace(finish, state={**_state(task, store, collection, finish), **measured, **derived.state})
    collection = store.finish(collection, finish, task.replaces)
    Checkpoint(store.path).done()
    report.line(summary(task, outcome, collection, time.monotonic() - started))
    if outcome.texts and (said := prompts_line(task)):
        report.line("  " + said)
    for warning in warnings(task, outcome):
        report.line("  " + warning)
    return collection


def _foreign_share(task: Task) -> float | None:
    """Return how many of the texts are in a language that the model was not made for; None where that is not known."""
    if task.model.language != "English":
        return None
    return share_not_english(text for _, text in task.plan.specimens)[0]


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
        model_fingerprint=model_fingerprint(model, task.prompts),
        document_prefix=spec.source.prepend or task.prompts.document,
        query_prefix=task.prompts.query,
        chunk=task.cutter.limit if task.cutter else None,
    )


def _embedding(
    task: Task, store: Store, collection: Collection, budget: embed.Budget
) -> Callable[[Sequence[str]], list[bytes | None]]:
    """Return what gives the vectors of texts that are compared with rows, None for those that the model has none for.

    It raises BudgetExceeded before texts that would cost more than is left.
    """
    model = task.model

    def embed_texts(texts: Sequence[str]) -> list[bytes | None]:
        contents = [task.spec.source.prepend + text for text in texts]
        found: list[bytes | None] = [None] * len(texts)
        budget.allow(model, contents)
        for positions, embedded in model.embed_many(contents, "document", task.prompts.document):
            cost = (
                None if model.usd_per_million_tokens is None else embedded.tokens * model.usd_per_million_tokens / 1e6
            )
            budget.spent += cost or 0.0
            store.save(collection, [], embedded.tokens, cost)
            for place, position in enumerate(positions):
                found[position] = None if place in embedded.failures else encode(embedded.vectors[place])
        return found

    return embed_texts


def _similar(
    collection: Collection, store: Store, task: Task, rows: Matrix, report: Reporter, stale: set[str]
) -> SimilarityChange | None:
    k = task.spec.similarities
    if k == 0 and not collection.similarities:
        return None
    shrunk = {parent_of(item) for item in task.plan.removed} if collection.chunk else set()
    return _similarities(store, collection, k, rows, report, stale | shrunk)


def _similarities(
    store: Store, collection: Collection, k: int, rows: Matrix, report: Reporter, changed: Ids[str]
) -> SimilarityChange:
    """Return what makes the stored similarities those of *rows*; a full computation goes on where an earlier run was ended."""
    name = collection.name.removesuffix(NEXT)
    checkpoint = Checkpoint(store.path)
    with tiles(f"similarities {name}", report) as progress:
        change = derive.similarity_change(store.conn, store.tables, collection, k, rows, changed, progress, checkpoint)
    if checkpoint.resumed:
        report.line(f"  similarities {name}: {checkpoint.resumed:.0%} were there already, of a run that was ended")
    return change


def sketches_of(matrix: Matrix) -> Baked | None:
    """Return what searches of a large collection read in place of its vectors; None for one whose vectors are as quickly read."""
    return Baked(matrix.ids, sketched(matrix.rows)) if len(matrix.ids) >= SKETCHED_ROWS else None


def _chunk_change(task: Task) -> ChunkChange | None:
    """Return what makes the stored chunks those of the rows as they are now; None where rows are embedded whole."""
    if task.cutter is None:
        return None
    sql = 'select id, row, position, start, "end", heading, hash, row_hash from chunks order by id'
    return ChunkChange(sorted(task.plan.gone), task.plan.pending.execute(sql))


@contextmanager
def tiles(label: str, report: Reporter) -> Iterator[Callable[[int, int], None]]:
    """Report tiles as they are done: how many there are is known with the first."""
    with ExitStack() as stack:
        opened: list[Callable[[int], None]] = []

        def progress(_: int, total: int) -> None:
            if not opened:
                opened.append(stack.enter_context(report.progress(label, total)))
            opened[0](1)

        yield progress


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
    embedded = catalog.count_embedded(store.conn, collection, store.tables, frozenset(removed))
    skipped = sum(status == "skipped" for _, status, _ in issues)
    return {
        "rows": embedded + len(issues),
        "embedded": embedded,
        "skipped": skipped,
        "failed": len(issues) - skipped,
    }


def _ask_before_sending(tasks: Sequence[Task], report: Reporter) -> None:
    """Ask before texts go to another machine for the first time; raise what else would end the build when it has begun to write."""
    for task in tasks:
        if task.spec.images and task.plan.waiting():
            thumbnails.prepare()
        count = task.texts_to_embed
        if count:
            task.model.prepare()
        if count and task.sends_first:
            cost = "unknown cost" if task.estimate_cost is None else f"about ${task.estimate_cost:.4f}"
            tokens = "" if task.spec.images else f"about {task.estimate_tokens:,} tokens, "
            report.confirm(
                f"{task.spec.name}: send {count:,} {task.sort} ({tokens}{cost}) to {task.model.name}?",
                f"{task.sort} would leave this machine: add --yes to agree, or choose a local model",
            )


def _say_plans(tasks: Sequence[Task], options: Options, report: Reporter) -> None:
    for task in tasks:
        if not task.work:
            report.line(f"{task.spec.name}: nothing changed ({accounts(task.existing)})")
        elif options.dry_run:
            report.line(dry_run_line(task))
            if said := prompts_line(task):
                report.line("  " + said)


def stage_alone(
    store: Store,
    collection: Collection,
    report: Reporter,
    *,
    k: int | None = None,
    wanted: Stages | None = None,
    anew: str = "",
    title: Title | None = None,
) -> Collection:
    """Derive something from one collection's vectors as they are: the *k* nearest of each row, or other *wanted* stages, one of them *anew*."""
    if collection.built is None and collection.owner != "llm":
        raise StoreError(
            f"the first build of {collection.name!r} was not finished; run the command that began it again"
        )
    conn, tables = store.conn, store.tables
    matrix = load_matrix(conn, tables, collection)
    rows = matrix.of_rows() if collection.chunk else matrix
    changed = catalog.stale_items(conn, tables, collection)
    stale = bool(changed) or catalog.counts_differ(conn, collection, tables)
    similar = (collection.similarities or 0) if k is None else k
    wants = k is not None or (similar and stale)
    change = _similarities(store, collection, similar, rows, report, changed) if wants else None
    vectors = Vectors(conn, tables, collection, rows, report.line, title=title)
    derived = stages.derive(vectors, wanted or collection.stages, changed=stale, anew=anew)
    issues = catalog.issues(conn, collection, tables)
    refused = {item: row[0] for item, row in embed.refused_items(conn, tables, collection).items()}
    state = {
        **_counts(store, collection, issues),
        "similarities": similar or None,
        "owner": collection.owner,
        **derived.state,
    }
    finish = Finish([], issues, change, state, refused, sketches=sketches_of(matrix), derived=derived.rows)
    collection = store.finish(collection, finish)
    Checkpoint(store.path).done()
    return collection
