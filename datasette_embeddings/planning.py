"""What a build has to do, found out without writing: each collection's rows compared with what the file holds of it."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from datasette_embeddings import catalog, embed, fulltext
from datasette_embeddings.catalog import NEXT, Collection, parent_of
from datasette_embeddings.chunking import chunker
from datasette_embeddings.database import connect, translated
from datasette_embeddings.errors import ConfigError, StoreError, UnknownCollection
from datasette_embeddings.labelling import examples_of, labels_hash
from datasette_embeddings.models import built_in, get_model
from datasette_embeddings.models.prompts import NO_PROMPTS, Prompts
from datasette_embeddings.sources import TableSource
from datasette_embeddings.tables import Tables, find_tables, has_own_tables
from datasette_embeddings.thumbnails import thumbnails

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

    from datasette_embeddings.chunking import Chunker
    from datasette_embeddings.config import Config
    from datasette_embeddings.models import EmbeddingModel
    from datasette_embeddings.spec import Spec

SAMPLE_TEXTS = 200
"""Texts looked at for an estimate of their tokens."""

TIMED_TEXTS = 24
"""Texts embedded for an estimate of the time: a second or two of the slowest local model."""

TIMED_PICTURES = 12
"""Pictures embedded for it, of a few MB each at most where they are photographs."""


@dataclass(frozen=True)
class Options:
    """How a build is to be done."""

    dry_run: bool = False
    rebuild: bool = False
    reuse: Path | None = None
    max_cost: float | None = None
    keep_wal: bool = False
    batch_size: int | None = None
    budget: embed.Budget = field(default_factory=embed.Budget)


@dataclass
class Task:
    """One collection's planned work.

    *dropped*: items of the collection it replaces that the source has no more. *examples*: texts of labels that have no vector yet.
    """

    spec: Spec
    model: EmbeddingModel
    fingerprint: str
    existing: Collection | None
    base: Collection | None
    plan: embed.Plan
    issues_before: list[tuple[str, str, str]]
    leftover: Collection | None
    stale: bool
    dropped: int = 0
    cutter: Chunker | None = None
    prompts: Prompts = NO_PROMPTS
    estimate_tokens: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def work(self) -> bool:
        """Whether anything has to be done."""
        adopted = self.base is not None and self.base.fingerprint == self.fingerprint
        return self.plan.work or self.stale or not adopted or self.issues() != self.issues_before

    @property
    def texts_to_embed(self) -> int:
        """How many texts have no vector yet, of rows and of examples of labels."""
        return self.plan.texts_to_embed()[0] + len(self.examples)

    @property
    def leaves_traces(self) -> bool:
        """Whether texts or vectors were removed, by this build or from the source, that free pages may still hold."""
        gone = {issue[0] for issue in self.issues_before} - {issue[0] for issue in self.issues()}
        return bool(self.plan.removed or self.plan.changed or self.replaces or self.leftover or gone)

    def issues(self) -> list[tuple[str, str, str]]:
        """Return every skipped or failed row by id: of this run, and of earlier ones where rows are added bit by bit."""
        before = [] if self.spec.delete_missing else self.issues_before
        named = {
            i: (i, s, r) for i, s, r in before if i not in self.plan.seen and r not in {embed.NO_KEY, embed.REPEATED}
        }
        return sorted((named | {issue[0]: issue for issue in self.plan.issues}).values())

    @property
    def removed(self) -> int:
        """How many rows that have a vector will have none."""
        row = parent_of if self.cutter else str
        gone = {row(item) for item in self.plan.removed & self.plan.stored}
        return len(gone - {row(item) for item in self.plan.kept - self.plan.removed}) + self.dropped

    @property
    def sends_first(self) -> bool:
        """Whether texts would go to another machine that this collection has never sent any to."""
        wanted = model_fingerprint(self.model, self.prompts)
        sent = [c for c in (self.existing, self.base) if c and c.model_fingerprint == wanted]
        return self.model.remote and not any(c.tokens for c in sent)

    @property
    def replaces(self) -> Collection | None:
        """The collection that serves until this build takes over its name."""
        return self.existing if self.existing and (self.base is None or self.base.id != self.existing.id) else None

    @property
    def estimate_cost(self) -> float | None:
        """What the texts to embed will cost in US dollars, None where the price is unknown, as that of pictures is."""
        price = self.model.usd_per_million_tokens
        if price is None or (price and self.spec.images):
            return None
        return self.estimate_tokens * price / 1e6

    @property
    def sort(self) -> str:
        """What its rows are to the model, in the plural."""
        return "pictures" if self.spec.images else "texts"


def plan_all(
    path: Path, specs: Sequence[Spec], config: Config, options: Options, stack: ExitStack
) -> tuple[list[Task], object]:
    """Return the planned tasks, and a token that changes whenever another build commits something."""
    with closing(connect(path)) as reader, translated(path):
        tables = find_tables(reader)
        token = state_token(reader, tables)
        return [plan_one(reader, tables, spec, config, options, stack) for spec in specs], token


def state_token(conn: sqlite3.Connection, tables: Tables | None) -> object:
    """Return what changes whenever a build commits something; None where there are no tables of ours."""
    if tables is None or not has_own_tables(conn, tables):
        return None
    state = (
        "select collection_id, generation, tokens, "
        f"(select count(*) from {tables.embeddings_changes} c where c.collection_id = e.collection_id) "
        f"from {tables.embeddings_collections} e order by 1"
    )
    return conn.execute(state).fetchall() or None


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
    _check_modality(spec, model)
    cutter = chunker(spec, model)
    prompts = prompts_for(spec, model)
    wanted = fingerprint(spec, model, cutter, prompts)
    base = None if options.rebuild else _base(reader, tables, existing, wanted, model, prompts, cutter)
    plan = embed.plan(
        spec.source.rows(reader),
        embed.stored(reader, tables, base),
        store_content=spec.store,
        delete_missing=spec.delete_missing,
        chunker=cutter,
    )
    stack.callback(plan.pending.close)
    if not options.rebuild:
        _reuse(plan, reader, tables, model, prompts, existing, options, stack)
    stale = base is not None and (tables is None or is_stale(reader, tables, base, spec))
    issues = sorted(catalog.issues(reader, base, tables)) if tables and base else []
    leftover = _find(reader, tables, spec.name + NEXT) if base and base.name == spec.name else None
    dropped = _dropped(reader, tables, existing, base, plan)
    _refuse_loss(existing, spec, dropped + (len(plan.removed) if base is existing else 0), dropped)
    stale = stale or leftover is not None
    task = Task(spec, model, wanted, existing, base, plan, issues, leftover, stale, dropped, cutter, prompts)
    if spec.stages.labels:
        _plan_labels(reader, task, spec.stages.labels)
    rows = 0 if spec.images else estimate_tokens(plan, model)
    task.estimate_tokens = rows + sum(model.token_counts(task.examples))
    return task


def _plan_labels(reader: sqlite3.Connection, task: Task, wanted: str) -> None:
    """Note whether labels changed; refuses what cannot have labels before anything is embedded."""
    known = labels_hash(reader, task.spec.source, wanted)
    if task.base is None or (task.base.labels, task.base.labels_hash) != (wanted, known):
        task.stale = True
        task.examples = [text for some in examples_of(wanted).values() for text in some]


def _find(conn: sqlite3.Connection, tables: Tables | None, name: str) -> Collection | None:
    if tables is None:
        return None
    try:
        return catalog.find_collection(conn, name, tables)
    except UnknownCollection:
        return None


def _check_owner(existing: Collection | None, spec: Spec) -> None:
    """Raise ConfigError where a collection belongs to another way of making it."""
    if existing is None or existing.owner in {spec.owner, "llm", "import"}:
        return
    if existing.owner == "config":
        raise ConfigError(
            f"the collection {spec.name!r} belongs to the configuration; change it there and run `datasette embeddings build`"
        )
    if "embed" in {spec.owner, existing.owner}:
        raise ConfigError(
            f"the collection {spec.name!r} was made by `{existing.owner}`; delete it first, or use another name"
        )


def _check_modality(spec: Spec, model: EmbeddingModel) -> None:
    """Raise ConfigError for a model that cannot embed what the source holds."""
    wanted, held, advice = ("image", "pictures", OF_PICTURES) if spec.images else ("text", "texts", OF_TEXTS)
    if wanted not in model.modalities:
        kinds = " and ".join(f"{kind}s" for kind in sorted(model.modalities))
        raise ConfigError(f"{spec.name}: {model.name} embeds {kinds}, and the source holds {held}; {advice}")


OF_PICTURES = (
    "name a model of pictures by `model` (-m): sentence-transformers/clip-ViT-B-32, onnx/FOLDER with CLIP exported to ONNX, or "
    "llm/NAME; `datasette embeddings models` says which of these can be used here, and what to install for the others"
)
OF_TEXTS = "where a column holds pictures, say so by `image: COLUMN` (--image, or --images of `embed`)"
"""What to do where a model and a source do not fit."""


def _dropped(
    conn: sqlite3.Connection,
    tables: Tables | None,
    existing: Collection | None,
    base: Collection | None,
    plan: embed.Plan,
) -> int:
    """Return how many items of a collection that is replaced are not in the source that replaces it."""
    if tables is None or existing is None or (base is not None and base.id == existing.id):
        return 0
    return len({existing.row_of(item) for item in embed.known_items(conn, tables, existing)} - plan.seen)


def _refuse_loss(existing: Collection | None, spec: Spec, lost: int, dropped: int) -> None:
    """Raise ConfigError where items would go that nobody said may go."""
    if existing is None or not lost:
        return
    if existing.owner == "llm" and spec.owner != "embed":
        raise ConfigError(
            f"the collection {spec.name!r} was made by llm and holds {lost:,} items that this source does not have; "
            "use another name, or delete it first"
        )
    if dropped and not spec.delete_missing:
        raise ConfigError(
            f"the collection {spec.name!r} was made with another model, --prepend or --template, and {dropped:,} of its items "
            "are not in this source, so they would be lost; give the options of before, or add --delete-missing to let them go"
        )


def _base(
    conn: sqlite3.Connection,
    tables: Tables | None,
    existing: Collection | None,
    wanted: str,
    model: EmbeddingModel,
    prompts: Prompts,
    cutter: Chunker | None,
) -> Collection | None:
    """Return the collection whose rows are as wanted: the one of that name, or its successor under construction."""
    if existing is None:
        return None
    if existing.fingerprint == wanted:
        return existing
    if existing.fingerprint is None and cutter is None and _same_model(existing, model, prompts):
        return existing
    successor = _find(conn, tables, existing.name + NEXT)
    return successor if successor and successor.fingerprint == wanted else None


def _same_model(collection: Collection, model: EmbeddingModel, prompts: Prompts) -> bool:
    """Tell whether a collection that has no fingerprint, as llm makes them, is of this model: no prompt was before its texts."""
    return not prompts.document and (
        collection.model in {model.name, model.llm_name} or model.name == built_in(collection.model)
    )


def _reuse(
    plan: embed.Plan,
    reader: sqlite3.Connection,
    tables: Tables | None,
    model: EmbeddingModel,
    prompts: Prompts,
    existing: Collection | None,
    options: Options,
    stack: ExitStack,
) -> None:
    """Look for vectors of the same model and text in this file, then in the one of --reuse."""
    if tables and has_own_tables(reader, tables):
        embed.reuse(plan, reader, tables, _of_model(reader, tables, model, prompts), model.dimensions)
    if existing and tables and existing.fingerprint is None and _same_model(existing, model, prompts):
        embed.reuse(plan, reader, tables, [existing.id], model.dimensions)
    if options.reuse:
        old = stack.enter_context(closing(connect(options.reuse)))
        old_tables = find_tables(old)
        if old_tables is None:
            raise StoreError(f"{options.reuse} holds no embeddings; --reuse takes an earlier file that `build` made")
        embed.reuse(plan, old, old_tables, _of_model(old, old_tables, model, prompts), model.dimensions)


def _of_model(conn: sqlite3.Connection, tables: Tables, model: EmbeddingModel, prompts: Prompts) -> list[int]:
    if not has_own_tables(conn, tables):
        return [c.id for c in catalog.collections(conn, tables) if _same_model(c, model, prompts)]
    wanted = model_fingerprint(model, prompts)
    sql = f"select collection_id from {tables.embeddings_collections} where model_fingerprint = ?"
    return [row[0] for row in conn.execute(sql, [wanted])]


def is_stale(conn: sqlite3.Connection, tables: Tables, collection: Collection, spec: Spec) -> bool:
    """Tell whether what is derived from a collection's vectors is not what they would give now."""
    if collection.built is None or (collection.similarities or 0) != spec.similarities:
        return True
    if collection.stages != spec.stages:
        return True
    if catalog.stale_items(conn, tables, collection):
        return True
    if catalog.counts_differ(conn, collection, tables):
        return True
    return fulltext.is_behind(conn, tables, collection)


def estimate_tokens(plan: embed.Plan, model: EmbeddingModel) -> int:
    """Return about how many tokens the texts without a vector have, from a sample."""
    count, _ = plan.texts_to_embed()
    sample = plan.sample(SAMPLE_TEXTS)
    if not count or not sample:
        return 0
    counts = [min(n, model.max_tokens or n) for n in model.token_counts(sample)]
    return round(sum(counts) / len(counts) * count)


def estimate_seconds(task: Task) -> float | None:
    """Return about how long a local model takes for what has no vector yet, by timing some; None for a remote one."""
    count, _ = task.plan.texts_to_embed()
    if task.model.remote:
        return None
    if task.spec.images:
        return _seconds_of_pictures(task, count)
    timed = task.plan.sample(min(count, TIMED_TEXTS))
    tokens = sum(min(n, task.model.max_tokens or n) for n in task.model.token_counts(timed))
    if not tokens:
        return 0.0
    started = time.perf_counter()
    for _ in task.model.embed_many(timed, "document", task.prompts.document):
        pass
    return (time.perf_counter() - started) * task.estimate_tokens / tokens


def _seconds_of_pictures(task: Task, count: int) -> float:
    """Return about how long *count* pictures take, their thumbnails included."""
    files = [file for file in task.plan.sample(min(count, TIMED_PICTURES)) if isinstance(file, bytes)]
    _embed_pictures(task.model, files[:2])  # the first ones wait for libraries
    started = time.perf_counter()
    _embed_pictures(task.model, files)
    return (time.perf_counter() - started) * count / max(1, len(files))


def _embed_pictures(model: EmbeddingModel, files: Sequence[bytes]) -> None:
    """Do with pictures what a build does, and keep nothing."""
    thumbnails(files)
    for _ in model.embed_many(files, "document"):
        pass


def prompts_for(spec: Spec, model: EmbeddingModel) -> Prompts:
    """Return what the model is to put before texts of a collection: its own prompts, but for what the collection says itself.

    A text that it says for documents is part of their content, so that the model puts none before them.
    """
    own, said = model.prompts, spec.prefix
    return Prompts(
        own.document if said.document is None else "",
        own.query if said.query is None else said.query,
        own.origin if None in (said.document, said.query) else "",
    )


def fingerprint(spec: Spec, model: EmbeddingModel, cutter: Chunker | None, prompts: Prompts) -> str:
    """Return what identifies how a row becomes a vector: model, prompts, template and chunks; 16 hexadecimal digits."""
    parts = [model.name, model.revision, spec.prefix.document or "", prompts.query, spec.template or ""]
    parts += [cutter.identity] if cutter else []
    return digest([*parts, *_document_prompt(prompts)])


def model_fingerprint(model: EmbeddingModel, prompts: Prompts) -> str:
    """Return what identifies how a text becomes a vector."""
    return digest([model.name, model.revision, *_document_prompt(prompts)])


def _document_prompt(prompts: Prompts) -> list[str]:
    return [f"prompt {prompts.document}"] if prompts.document else []


def digest(parts: list[str]) -> str:
    """Return 16 hexadecimal digits of SHA-256 over a list of texts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
