"""The embedding stage: what of a source is new or changed, and vectors for just that.

`plan` compares every row with what is stored, per (collection, id), and puts what is to be done aside in a temporary
database of SQLite's own, so that neither memory nor a cursor on the source is held while a model runs. `embed_pending` then
takes each distinct text once: from a collection of the same model where it was embedded before, else from the model. Batches
are committed as they come, so that an interrupted run loses at most the batch in flight.
"""

from __future__ import annotations

import sqlite3
import time
from bisect import insort
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from datasette_embeddings import vectors
from datasette_embeddings.catalog import parent_of
from datasette_embeddings.database import column_names
from datasette_embeddings.errors import BudgetExceeded, SourceError, StoreError
from datasette_embeddings.limits import WINDOW_CHARACTERS, WINDOW_ITEMS
from datasette_embeddings.models.base import NO_KNOWN_WORD
from datasette_embeddings.sources import content_hash
from datasette_embeddings.store import StoredItem
from datasette_embeddings.tables import has_own_tables, own_tables
from datasette_embeddings.thumbnails import Thumbnail, thumbnails
from datasette_embeddings.vectors import FLOAT32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as Ids

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.chunking import Chunker
    from datasette_embeddings.models import Embedded, EmbeddingModel
    from datasette_embeddings.sources import Row
    from datasette_embeddings.store import Store
    from datasette_embeddings.tables import Tables

    Progress = Callable[[int], None]
    Known = dict[str, tuple[bytes, str | None, bool]]

NO_KEY = "its key is NULL, so nothing can point at it"
REPEATED = "its id is that of an earlier row"
"""Reasons of rows that no id names: they are told of the rows just read, not of earlier ones."""

FLUSH_SECONDS = 0.25
"""Local models answer in milliseconds: their batches are committed together up to this long, as each commit waits for the disk."""

BUFFERED_BYTES = 8_000_000
"""Of contents and thumbnails that wait for a commit: thousands of rows may have one picture, and each has a copy of its own."""

HASHES_AT_ONCE = 500
"""Content hashes looked up by one query, under SQLite's oldest limit of 999 parameters."""

SPECIMENS = 200
SPECIMEN_CHARACTERS = 2_000
"""Of as many texts, so much is kept to tell their language."""

PENDING_DDL = """
create table texts (hash blob primary key, content, size integer, embedding blob) without rowid;
create table thumbnails (hash blob primary key, type text, width integer, height integer, data blob);
create table items (id text primary key, hash blob, metadata text) without rowid;
create index items_hash on items (hash);
create table chunks (id text primary key, row text, position, start, "end", heading, hash blob, row_hash blob) without rowid;
create index chunks_row on chunks (row);
"""


@dataclass
class Plan:
    """What a build of one collection has to do, and the account of every row of its source.

    *current*, *changed*, *added* and *cut* count rows; *seen* are rows; *stored*, *kept* and *removed* items: rows, or chunks of rows.
    *gone* are rows whose chunks go, whether or not others take their place. *refused*: row -> hash of a text without a vector.
    *failed*: item -> (status, reason, hash of its text), of this run's items that got no vector. *unread*: reason -> how many chunks
    have none while others of their rows have one. *files*: hash -> what reads the file again that has it, where no copy of it is kept.
    """

    pending: sqlite3.Connection
    stored: Ids[str]
    rows: int = 0
    current: int = 0
    changed: int = 0
    added: int = 0
    cut: int = 0
    seen: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    issues: list[tuple[str, str, str]] = field(default_factory=list)
    refused: dict[str, bytes] = field(default_factory=dict)
    specimens: list[tuple[bytes, str]] = field(default_factory=list)
    failed: dict[str, tuple[str, str, bytes]] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    files: dict[bytes, Callable[[], str | bytes]] = field(default_factory=dict)

    @property
    def work(self) -> bool:
        """Whether there is anything to embed or to remove."""
        return bool(self.changed or self.added or self.removed or self.gone)

    def waiting(self) -> int:
        """Return how many items will get a vector."""
        return int(self.pending.execute("select count(*) from items").fetchone()[0])

    def look_at(self, digest: bytes, content: str | bytes) -> None:
        """Keep the beginning of a text where it is among those of the lowest hashes: a sample of all rows, whatever changed."""
        if isinstance(content, str) and (len(self.specimens) < SPECIMENS or digest < self.specimens[-1][0]):
            insort(self.specimens, (digest, content[:SPECIMEN_CHARACTERS]))
            del self.specimens[SPECIMENS:]

    def texts_to_embed(self) -> tuple[int, int]:
        """Return how many distinct texts have no vector yet, and their characters (bytes for images)."""
        count, size = self.pending.execute(
            "select count(*), coalesce(sum(size), 0) from texts where embedding is null"
        ).fetchone()
        return int(count), int(size)

    def sample(self, count: int) -> list[str | bytes]:
        """Return some of the texts to embed, shortest and longest among them."""
        rows = self.pending.execute(
            "select hash, content from (select hash, content, size, row_number() over (order by size) as n, count(*) over () as of "
            "from texts where embedding is null) where (n * ?) / of != ((n - 1) * ?) / of order by size",
            [count, count],
        )
        return [self.content(digest, content) for digest, content in rows]

    def content(self, digest: bytes, kept: str | bytes | None) -> str | bytes:
        """Return what has this hash: as it was *kept*, or read from its file. Raises SourceError where that is another now."""
        if kept is not None:
            return kept
        try:
            content = self.files[digest]()
        except SourceError:
            content = b""
        if content_hash(content) != digest:
            raise SourceError("a picture was changed or removed while the build ran; run the same command to go on")
        return content


@dataclass
class Budget:
    """What one run of a command may spend, in US dollars, over all its collections and files; None: no limit."""

    limit: float | None = None
    spent: float = 0.0

    def allow(self, model: EmbeddingModel, contents: Sequence[str | bytes]) -> None:
        """Raise BudgetExceeded where embedding *contents* would cost more than is left, or nobody knows what it costs."""
        if self.limit is None:
            return
        if model.usd_per_million_tokens and any(isinstance(content, bytes) for content in contents):
            raise BudgetExceeded(
                f"{model.name} has a price for tokens, and how many of them a picture has is not known, so a limit on costs "
                "cannot be kept; leave the limit out"
            )
        if model.usd_per_million_tokens is None:
            raise BudgetExceeded(
                f"the price of {model.name} is unknown, so a limit on costs cannot be kept; set `price` (US dollars for a "
                "million tokens) in its settings under `models:`, or leave the limit out"
            )
        cost = (
            sum(model.token_counts(contents)) * model.usd_per_million_tokens / 1e6
            if model.usd_per_million_tokens
            else 0.0
        )
        if self.spent + cost > self.limit:
            raise BudgetExceeded(
                f"the limit of ${self.limit:.4f} is reached: ${self.spent:.4f} spent, ${cost:.4f} needed for the next batch; "
                "what is embedded is kept, raise --max-cost and run the same command to go on"
            )


@dataclass
class Outcome:
    """What embedding came to."""

    embedded: int = 0
    reused: int = 0
    texts: int = 0
    tokens: int = 0
    cost: float | None = 0.0
    truncated: int = 0
    tokens_unread: int = 0
    unknown: int = 0
    words: int = 0


@dataclass(frozen=True)
class Stored:
    """What is stored of a collection. *items*: what `known_items` gives.

    *refused*: row -> (hash, status, reason) of texts that the model gave no vector for; it is not asked again.
    *chunks*: what `known_chunks` gives, for a collection in chunks. *pictured*: items that have a thumbnail.
    """

    items: Known = field(default_factory=dict)
    refused: Mapping[str, tuple[bytes, str, str]] = field(default_factory=dict)
    chunks: Mapping[str, tuple[bytes, list[tuple[str, bytes]]]] = field(default_factory=dict)
    pictured: Ids[str] = frozenset()


def stored(conn: sqlite3.Connection, tables: Tables | None, collection: Collection | None) -> Stored:
    """Return what is stored of a collection; nothing where there is none."""
    if tables is None or collection is None:
        return Stored()
    return Stored(
        known_items(conn, tables, collection),
        refused_items(conn, tables, collection),
        known_chunks(conn, tables, collection) if collection.chunk else {},
        pictured_items(conn, tables, collection) if collection.images else frozenset(),
    )


def plan(
    rows: Iterable[Row], before: Stored, *, store_content: bool, delete_missing: bool, chunker: Chunker | None = None
) -> Plan:
    """Compare every row of a source with what is stored of it. *chunker*: cuts rows that are embedded in chunks."""
    # An empty name is a temporary file that SQLite removes by itself, kept in memory while it is small.
    pending = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    pending.executescript(PENDING_DDL)
    pending.execute("begin")
    result = Plan(pending, before.items.keys())
    compare = _Chunks(result, before, store_content, chunker) if chunker else _Rows(result, before, store_content)
    nameless: list[tuple[str, str]] = []
    repeated: Counter[str] = Counter()
    for row in rows:
        result.rows += 1
        problem = _problem(row)
        if row.id is None:
            nameless.append((f"(row {result.rows})", NO_KEY))
        elif row.id in result.seen:
            repeated[row.id] += 1
            nameless.append((f"{row.id} (again {repeated[row.id]})", REPEATED))
        elif problem:
            result.issues.append((row.id, *problem))
        elif not _was_refused(result, row, before.refused.get(row.id)):
            compare.take(row)
        if row.id is not None:
            result.seen.add(row.id)
        result.cut += row.cut
    pending.execute("commit")
    for label, reason in nameless:
        result.issues.append((_unused(label, result.seen), "failed", reason))
    compare.finish(delete_missing)
    return result


def _problem(row: Row) -> tuple[str, str] | None:
    """Return (status, reason) of a row that has nothing to embed, else None."""
    if row.problem:
        return "failed", row.problem
    if not (row.content.strip() if isinstance(row.content, str) else row.content):
        return "skipped", "empty"
    return None


def _unused(label: str, ids: set[str]) -> str:
    """Return a label that is no item's id."""
    while label in ids:
        label += "'"
    return label


def _was_refused(result: Plan, row: Row, before: tuple[bytes, str, str] | None) -> bool:
    """Note a row whose text the model gave no vector for at an earlier build; tell whether it is one."""
    assert row.id is not None
    assert row.content is not None
    if before is None or before[0] != content_hash(row.content):
        return False
    result.issues.append((row.id, *before[1:]))
    result.refused[row.id] = before[0]
    return True


class _Rows:
    """Compares rows that are embedded whole with what is stored of them."""

    def __init__(self, plan: Plan, before: Stored, store_content: bool) -> None:
        self.plan, self.before, self.store_content = plan, before, store_content

    def take(self, row: Row) -> None:
        """Note what is to be done for a row that has content."""
        assert row.id is not None
        assert row.content is not None
        self.plan.kept.add(row.id)
        known = self.before.items.get(row.id)
        digest = content_hash(row.content)
        self.plan.look_at(digest, row.content)
        shown = isinstance(row.content, str) or row.id in self.before.pictured
        if known == (digest, row.metadata, self.store_content) and shown:
            self.plan.current += 1
            return
        self._count(known is not None)
        again = None if self.store_content else row.again
        if again:
            self.plan.files[digest] = again
        self._wait(row.id, row.content, digest, row.metadata, kept=not again)

    def _count(self, known: bool) -> None:
        self.plan.changed += known
        self.plan.added += not known

    def _wait(self, item: str, content: str | bytes, digest: bytes, metadata: str | None, *, kept: bool = True) -> None:
        self.plan.pending.execute(
            "insert or ignore into texts (hash, content, size) values (?, ?, ?)",
            [digest, content if kept else None, len(content)],
        )
        self.plan.pending.execute("insert into items values (?, ?, ?)", [item, digest, metadata])

    def finish(self, delete_missing: bool) -> None:
        """Note what of the stored items has to go."""
        plan, known = self.plan, self.before.items.keys()
        plan.removed = known - plan.kept if delete_missing else (known & plan.seen) - plan.kept


class _Chunks(_Rows):
    """Compares rows that are embedded in chunks: one whose text is as it was is not cut again."""

    def __init__(self, plan: Plan, before: Stored, store_content: bool, chunker: Chunker) -> None:
        super().__init__(plan, before, store_content)
        self.chunker = chunker

    def take(self, row: Row) -> None:
        """Note what is to be done for the chunks of a row that has content."""
        assert row.id is not None
        if not isinstance(row.content, str):
            self.plan.issues.append((row.id, "failed", "only text can be cut into chunks"))
            return
        digest = content_hash(row.content)
        self.plan.look_at(digest, row.content)
        row_hash, chunks = self.before.chunks.get(row.id, (None, []))
        if row_hash == digest and all(self._is_current(*chunk, row.metadata) for chunk in chunks):
            self.plan.current += 1
            self.plan.kept.update(item for item, _ in chunks)
            return
        self._count(bool(chunks))
        self.plan.gone.add(row.id)
        for chunk in self.chunker.chunks(row.id, row.content):
            self.plan.kept.add(chunk.id)
            own = content_hash(chunk.content)
            place = (chunk.id, row.id, chunk.position, chunk.start, chunk.end, chunk.heading, own, digest)
            self.plan.pending.execute("insert into chunks values (?, ?, ?, ?, ?, ?, ?, ?)", place)
            if not self._is_current(chunk.id, own, row.metadata):
                self._wait(chunk.id, chunk.content, own, row.metadata)

    def _is_current(self, item: str, digest: bytes, metadata: str | None) -> bool:
        return self.before.items.get(item) == (digest, metadata, self.store_content)

    def finish(self, delete_missing: bool) -> None:
        """Note which chunks have to go, and of which rows."""
        plan = self.plan
        others = self.before.items.keys() - plan.kept
        plan.removed = {item for item in others if delete_missing or parent_of(item) in plan.seen}
        plan.gone |= {row for row in self.before.chunks if delete_missing or row in plan.seen} - {
            parent_of(item) for item in plan.kept
        }


def known_items(conn: sqlite3.Connection, tables: Tables, collection: Collection | None) -> Known:
    """Return what is stored of a collection: id -> (hash, metadata, whether content is stored)."""
    if collection is None:
        return {}
    columns = column_names(conn, tables.plain("embeddings"))  # llm before 0.12 made no content_blob
    stored = " or ".join(f"{kind} is not null" for kind in ("content", "content_blob") if kind in columns)
    rows = conn.execute(
        f"select id, content_hash, metadata, {stored} from {tables.embeddings} where collection_id = ?",
        [collection.id],
    )
    return {item: (digest, metadata, bool(stored)) for item, digest, metadata, stored in rows}


def pictured_items(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Ids[str]:
    """Return the items that have a thumbnail of their picture; none in a file of an earlier release.

    Where another program wrote an item's vector since the last build, its thumbnail may be of an earlier picture.
    """
    if tables.plain("thumbnails") not in own_tables(conn, tables):
        return frozenset()
    rows = conn.execute(
        f"select t.id from {tables.thumbnails} t join {tables.embeddings} e on e.collection_id = t.collection_id and e.id = t.id "
        "where t.collection_id = ?1 and (e.updated <= cast(strftime('%s', ?2) as integer) "
        f"or t.id in (select id from {tables.embeddings_changes} where collection_id = ?1))",
        [collection.id, collection.built],
    )
    return {item for (item,) in rows}


def known_chunks(
    conn: sqlite3.Connection, tables: Tables, collection: Collection
) -> dict[str, tuple[bytes, list[tuple[str, bytes]]]]:
    """Return the chunks of each row: row -> (hash of its text, [(id, hash of the chunk's own text)])."""
    found: dict[str, tuple[bytes, list[tuple[str, bytes]]]] = {}
    sql = f"select parent_id, row_hash, id, content_hash from {tables.chunks} where collection_id = ?"
    for row, row_hash, item, digest in conn.execute(sql, [collection.id]):
        found.setdefault(row, (row_hash, []))[1].append((item, digest))
    return found


def refused_items(
    conn: sqlite3.Connection, tables: Tables, collection: Collection | None
) -> dict[str, tuple[bytes, str, str]]:
    """Return what the model gave no vector for: id -> (hash, status, reason)."""
    if collection is None or not has_own_tables(conn, tables):
        return {}
    rows = conn.execute(
        f"select id, content_hash, status, reason from {tables.embeddings_issues} "
        "where collection_id = ? and content_hash is not null",
        [collection.id],
    )
    return {item: (digest, status, reason) for item, digest, status, reason in rows}


def reuse(
    work: Plan, conn: sqlite3.Connection, tables: Tables, collection_ids: Sequence[int], dimensions: int | None
) -> None:
    """Take vectors of the same text from collections of the same model, in this file or another."""
    if not collection_ids:
        return
    among = ", ".join(str(number) for number in collection_ids)
    hashes = [row[0] for row in work.pending.execute("select hash from texts where embedding is null")]
    for start in range(0, len(hashes), HASHES_AT_ONCE):
        part = hashes[start : start + HASHES_AT_ONCE]
        marks = ", ".join("?" * len(part))
        found = conn.execute(
            f"select content_hash, embedding from {tables.embeddings} "
            f"where content_hash in ({marks}) and collection_id in ({among})",
            part,
        ).fetchall()
        usable = [(e, h) for h, e in found if _usable(e, dimensions)]
        work.pending.execute("begin")
        work.pending.executemany("update texts set embedding = ? where hash = ?", usable)
        work.pending.execute("commit")


def _usable(embedding: object, dimensions: int | None) -> bool:
    """Tell whether a stored vector may stand for a text again: what is malformed is embedded anew."""
    if not vectors.valid(embedding):
        return False
    vector = vectors.decode(embedding)
    return bool(vector.any()) and vector.size == (dimensions or vector.size)


def embed_pending(
    work: Plan,
    store: Store,
    collection: Collection,
    model: EmbeddingModel,
    *,
    store_content: bool,
    prompt: str | None = None,
    budget: Budget | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Give every pending row its vector, committing as it goes; rows without one end in *work*'s issues.

    *prompt*: before each text, in place of the model's own.
    Raises BudgetExceeded before a batch that would cost more than is left of *budget*; what is done is kept.
    """
    writer = _Writer(work, store, collection, model, store_content)
    writer.write_reused()
    if progress:
        progress(writer.outcome.embedded)
    try:
        for hashes, contents in _windows(work):
            if isinstance(contents[0], bytes):
                hashes, contents = writer.draw(hashes, contents)  # noqa: PLW2901 - those that can be opened
            if budget:
                budget.allow(model, contents)
            for positions, embedded in model.embed_many(contents, "document", prompt):
                done = writer.take([hashes[p] for p in positions], embedded)
                if budget:
                    budget.spent += embedded.tokens * (model.usd_per_million_tokens or 0.0) / 1e6
                if progress:
                    progress(done)
    finally:
        writer.flush()
    (_settle_chunks if collection.chunk else _settle_rows)(work)
    return writer.outcome


def _settle_rows(work: Plan) -> None:
    """Account for the rows that got no vector."""
    for row, (status, reason, digest) in work.failed.items():
        work.issues.append((row, status, reason))
        work.refused[row] = digest


def _settle_chunks(work: Plan) -> None:
    """Account for the rows none of whose chunks got a vector; of other rows, the chunks without one are left out."""
    for row in {parent_of(item) for item in work.failed}:
        chunks = work.pending.execute("select id, row_hash from chunks where row = ?", [row]).fetchall()
        failures = [work.failed[item] for item, _ in chunks if item in work.failed]
        if len(failures) == len(chunks):
            status, reason, _ = min(failures)  # "failed" comes before "skipped"
            work.issues.append((row, status, reason))
            work.refused[row] = chunks[0][1]
        else:
            work.unread.update(reason for _, reason, _ in failures)
    work.pending.executemany("delete from chunks where id = ?", [(item,) for item in work.failed])


def _windows(work: Plan, *, reused: bool = False) -> Iterator[tuple[list[bytes], list[Any]]]:
    """Yield (hashes, contents) of texts without a vector, or of those *reused*, shortest first, bounded in number and size."""
    which = "embedding is not null" if reused else "embedding is null"
    # Made now and not before: while rows come in, it would only cost. Without it every window reads all texts.
    work.pending.execute(f"create index if not exists texts_size_{int(reused)} on texts (size, hash) where {which}")
    after: tuple[int, bytes] = (-1, b"")
    while True:
        following = f"from texts where {which} and (size, hash) > (?, ?) order by size, hash limit ?"
        sizes = work.pending.execute(f"select size {following}", [*after, WINDOW_ITEMS]).fetchall()
        if not sizes:
            return
        count = max(1, int(np.searchsorted(np.cumsum(sizes), WINDOW_CHARACTERS)))
        rows = work.pending.execute(f"select hash, content, size {following}", [*after, count]).fetchall()
        after = (rows[-1][2], rows[-1][0])
        yield [row[0] for row in rows], [work.content(digest, content) for digest, content, _ in rows]


class _Writer:
    """Turns vectors of texts into rows of items and commits them."""

    def __init__(
        self, work: Plan, store: Store, collection: Collection, model: EmbeddingModel, store_content: bool
    ) -> None:
        self.work = work
        self.store = store
        self.collection = collection
        self.model = model
        self.store_content = store_content
        self.dimensions = collection.dimensions
        self.outcome = Outcome()
        self.buffer: list[StoredItem] = []
        self.buffered = 0
        self.tokens = 0
        self.flushed = time.monotonic()

    def write_reused(self) -> None:
        """Write the rows whose text has a vector already."""
        for known, contents in _windows(self.work, reused=True):
            hashes = self.draw(known, contents)[0] if isinstance(contents[0], bytes) else known
            for start in range(0, len(hashes), HASHES_AT_ONCE):
                part = hashes[start : start + HASHES_AT_ONCE]
                sql = f"select hash, embedding from texts where hash in ({', '.join('?' * len(part))})"
                self.outcome.reused += self._add(dict(self.work.pending.execute(sql, part).fetchall()))
                self.flush()

    def draw(self, hashes: Sequence[bytes], files: Sequence[bytes]) -> tuple[list[bytes], list[str | bytes]]:
        """Make the thumbnails of image files; returns (hashes, files) of those that can be opened, the others get no vector."""
        made = list(zip(hashes, files, thumbnails(files), strict=True))
        for digest, _, found in made:
            if isinstance(found, SourceError):
                self._fail(digest, str(found))
        drawn = [(digest, file, found) for digest, file, found in made if not isinstance(found, SourceError)]
        self.work.pending.executemany(
            "insert or replace into thumbnails values (?, ?, ?, ?, ?)", [(digest, *found) for digest, _, found in drawn]
        )
        return [digest for digest, *_ in drawn], [file for _, file, _ in drawn]

    def take(self, hashes: Sequence[bytes], embedded: Embedded) -> int:
        """Take one batch of a model's answers; returns how many rows have a vector by it."""
        self._count(embedded)
        for position, reason in embedded.failures.items():
            self._fail(hashes[position], reason)
        raw = embedded.vectors.astype(FLOAT32, copy=False)
        found = {h: raw[n].tobytes() for n, h in enumerate(hashes) if n not in embedded.failures}
        self.outcome.texts += len(found)
        done = self._add(found)
        if (
            self.model.remote
            or self.model.usd_per_million_tokens != 0.0
            or time.monotonic() - self.flushed > FLUSH_SECONDS
        ):
            self.flush()
        return done

    def _count(self, embedded: Embedded) -> None:
        outcome, price = self.outcome, self.model.usd_per_million_tokens
        self.tokens += embedded.tokens
        outcome.tokens += embedded.tokens
        outcome.cost = None if price is None or outcome.cost is None else outcome.cost + embedded.tokens * price / 1e6
        outcome.truncated += len(embedded.truncated)
        outcome.tokens_unread += sum(embedded.truncated.values()) - len(embedded.truncated) * (
            self.model.max_tokens or 0
        )
        outcome.unknown += embedded.unknown
        outcome.words += embedded.words

    def _fail(self, digest: bytes, reason: str) -> None:
        for (item,) in self.work.pending.execute("select id from items where hash = ?", [digest]).fetchall():
            status = "skipped" if reason == NO_KNOWN_WORD else "failed"
            self.work.failed[item] = (status, reason, digest)
            self.work.removed.add(item)

    def _add(self, vectors: dict[bytes, bytes]) -> int:
        sizes = {len(blob) // 4 for blob in vectors.values()}
        self.dimensions = self.dimensions or next(iter(sizes), None)
        if sizes - {self.dimensions}:
            raise StoreError(
                f"the collection {self.collection.name!r} has {self.dimensions} dimensions, the model now gives "
                f"{(sizes - {self.dimensions}).pop()}; nothing of this batch was stored: delete the collection, or `build --rebuild`, to start over"
            )
        hashes = list(vectors)
        before = self.outcome.embedded
        for start in range(0, len(hashes), HASHES_AT_ONCE):
            part = hashes[start : start + HASHES_AT_ONCE]
            content = "t.content" if self.store_content else "null"
            rows = self.work.pending.execute(
                f"select i.id, i.hash, i.metadata, {content}, n.type, n.width, n.height, n.data from items i "
                "join texts t on t.hash = i.hash left join thumbnails n on n.hash = i.hash "
                f"where i.hash in ({', '.join('?' * len(part))})",
                part,
            )
            for item, digest, meta, content, *thumbnail in rows:
                self.buffer.append(_stored(item, vectors[digest], digest, meta, content, thumbnail))
                self.outcome.embedded += 1
                self.buffered += len(content or "") + len(thumbnail[-1] or b"")
                if self.buffered > BUFFERED_BYTES:
                    self.flush()
        return self.outcome.embedded - before

    def flush(self) -> None:
        """Commit what is waiting."""
        if self.buffer or self.tokens:
            price = self.model.usd_per_million_tokens
            cost = None if price is None else self.tokens * price / 1e6
            self.store.save(self.collection, self.buffer, self.tokens, cost)
        self.buffer, self.buffered, self.tokens, self.flushed = [], 0, 0, time.monotonic()


def _stored(
    item: str,
    vector: bytes,
    digest: bytes,
    metadata: str | None,
    content: str | bytes | None,
    thumbnail: Sequence[Any],
) -> StoredItem:
    text = content if isinstance(content, str) else None
    blob = content if isinstance(content, bytes) else None
    drawn = None if thumbnail[0] is None else Thumbnail(*thumbnail)
    return StoredItem(item, vector, text, blob, digest, metadata, drawn)
