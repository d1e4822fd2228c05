"""The only writer: every change to our tables in a database file goes through a Store."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sqlite3
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from datasette_embeddings import baked, catalog, fulltext
from datasette_embeddings.catalog import NEXT
from datasette_embeddings.database import connect, quote, table_names, transaction, translated
from datasette_embeddings.errors import StoreError, UnknownCollection
from datasette_embeddings.limits import CLAIM_SECONDS
from datasette_embeddings.schema import ensure_tables
from datasette_embeddings.tables import LLM_COLUMNS, NAMES, Tables
from datasette_embeddings.vectors import FLOAT32

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from datasette_embeddings.baked import Baked
    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.thumbnails import Thumbnail

GUARD = "embeddings_keep_rowids_"
"""Names of the indexes that keep rowids as they are while a file is rewritten."""

DERIVED = (
    "embeddings",
    "similarities",
    "embeddings_issues",
    "embeddings_changes",
    "embeddings_documents",
    "embeddings_sketches",
    "embeddings_sketch_parts",
    "embeddings_collections",
    "chunks",
    "clusters",
    "cluster_members",
    "projections",
    "embeddings_projections",
    "labels",
    "predictions",
    "embeddings_reserve",
    "thumbnails",
)
"""The tables that hold rows of a collection."""

SIMILARITIES_AT_ONCE = 100
"""Rows of one INSERT: 400 parameters, under SQLite's oldest limit of 999; 15 times faster than one at a time."""


@dataclass(frozen=True)
class StoredItem:
    """One row of `embeddings` to be written."""

    id: str
    embedding: bytes
    content: str | None
    content_blob: bytes | None
    content_hash: bytes | None
    metadata: str | None
    thumbnail: Thumbnail | None = None


@dataclass(frozen=True)
class SimilarityChange:
    """What changes in a collection's similarities: *everything* first removes all of them.

    *reserve*: the rows that `embeddings_reserve` should have of the collection, each without its first column, collection_id.
    """

    removed: Sequence[tuple[str, str]] = ()
    added: Iterable[tuple[str, str, float]] = ()
    everything: bool = False
    reserve: Sequence[tuple[Any, ...]] = ()


@dataclass(frozen=True)
class TextChange:
    """What changes in a collection's full-text index: *documents* (number, id, hash) and *texts* (number, text) are added.

    *everything* first removes all of it; *made* is then the index, written aside, that takes its place, None for no index.
    """

    documents: Sequence[tuple[int, str, bytes | None]] = ()
    texts: Sequence[tuple[int, str]] = ()
    made: str | None = None
    everything: bool = False


@dataclass(frozen=True)
class ChunkChange:
    """What changes in a collection's chunks: those of the rows *parents* make way for *added*.

    Of *added*: (id, parent_id, position, start, end, heading, content_hash, row_hash).
    """

    parents: Sequence[str] = ()
    added: Iterable[tuple[str, str, int, int, int, str, bytes, bytes]] = ()


@dataclass(frozen=True)
class Finish:
    """What the one transaction at the end of a build writes. *refused*: id -> hash of the text that got no vector.

    *derived*: table -> all rows that it should have of the collection, each without its first column, collection_id.
    """

    removed: Sequence[str]
    issues: Sequence[tuple[str, str, str]]
    similarities: SimilarityChange | None
    state: dict[str, Any]
    refused: Mapping[str, bytes] = field(default_factory=dict)
    texts: TextChange | None = None
    chunks: ChunkChange | None = None
    sketches: Baked | None = None
    derived: Mapping[str, Sequence[tuple[Any, ...]]] = field(default_factory=dict)


class Store:
    """A database file opened for writing, with our tables made and a claim on it while a build runs."""

    def __init__(
        self, path: Path, prefix: str = "", *, create: bool = False, conn: sqlite3.Connection | None = None
    ) -> None:
        self.path = path
        self.conn = conn or connect(path, readonly=False, create=create)
        self.claimed = False
        with translated(path):
            self.conn.execute("pragma secure_delete = on")
        with self._write():  # two programs that open a new file at once must not both make the tables
            self.tables: Tables = ensure_tables(self.conn, prefix)

    @classmethod
    @contextmanager
    def at_once(cls, path: Path, prefix: str = "", renames: Iterable[tuple[str, str]] = ()) -> Iterator[Store]:
        """Open a file for one transaction, at whose end all that was written is kept, or on any error nothing.

        *renames*: (old, new) names of tables that make way for ours.
        """
        with closing(connect(path, readonly=False)) as conn, translated(path):
            # Views and triggers go on naming the tables that they were written for.
            conn.execute("pragma legacy_alter_table = on")
            with transaction(conn):
                for old, new in renames:
                    conn.execute(f"alter table {quote(old)} rename to {quote(new)}")
                yield cls(path, prefix, conn=conn)

    def close(self) -> None:
        """Close the file."""
        self.conn.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        if self.conn.in_transaction:  # a part of `at_once`
            yield self.conn
            return
        with translated(self.path), transaction(self.conn):
            yield self.conn

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Keep other builds out of this file; a claim whose process has ended, or slept too long, is taken over.

        The claim of a build that failed stays, without a process: the next one has its clearing up to do.
        """
        mine = self._me()
        with self._write() as conn:
            row = conn.execute(f"select pid, host, heartbeat from {self.tables.embeddings_builds}").fetchone()
            if row and tuple(row[:2]) != mine and _alive(*row):
                raise StoreError(
                    f"{self.path}: another build of this file is running (process {row[0]} on {row[1]}); "
                    "wait until it is done"
                )
            conn.execute(
                f"insert or replace into {self.tables.embeddings_builds} values (1, ?, ?, ?)", [*mine, int(time.time())]
            )
        self.claimed = True
        try:
            yield
        except BaseException:
            with suppress(StoreError), self._write() as conn:  # what failed is what matters
                conn.execute(f"update {self.tables.embeddings_builds} set pid = null where pid = ? and host = ?", mine)
            raise
        finally:
            self.claimed = False
        with self._write() as conn:
            conn.execute(f"delete from {self.tables.embeddings_builds} where pid = ? and host = ?", mine)

    @staticmethod
    def _me() -> tuple[int, str]:
        return os.getpid(), socket.gethostname()

    def _beat(self, conn: sqlite3.Connection) -> None:
        """Show that this build lives; raises StoreError when another has taken its claim over."""
        if not self.claimed:
            return
        beat = f"update {self.tables.embeddings_builds} set heartbeat = ? where pid = ? and host = ?"
        if not conn.execute(beat, [int(time.time()), *self._me()]).rowcount:
            raise StoreError(
                f"{self.path}: another build took this file over, as nothing was heard of this one for "
                f"{CLAIM_SECONDS} seconds; what was committed is kept"
            )

    def find(self, name: str) -> Collection | None:
        """Return a collection, None where there is none of that name."""
        try:
            return catalog.find_collection(self.conn, name, self.tables)
        except UnknownCollection:
            return None

    def create(self, name: str, model: str) -> Collection:
        """Return a new, empty collection."""
        with self._write() as conn:
            conn.execute(f"insert into {self.tables.collections} (name, model) values (?, ?)", [name, model])
        return catalog.find_collection(self.conn, name, self.tables)

    def describe(self, collection: Collection, **values: object) -> Collection:
        """Record facts about a collection in `embeddings_collections`; returns it as it is now."""
        with self._write() as conn:
            self._describe(conn, collection.id, values)
        return catalog.find_collection(self.conn, collection.name, self.tables)

    def _describe(self, conn: sqlite3.Connection, collection_id: int, values: dict[str, Any]) -> None:
        values = {name: json.dumps(v) if name == "source" and v is not None else v for name, v in values.items()}
        table = self.tables.embeddings_collections
        conn.execute(
            f"insert or ignore into {table} (collection_id, owner) values (?, ?)",
            [collection_id, values.get("owner", "embed")],
        )
        if values:
            assignments = ", ".join(f"{quote(name)} = ?" for name in values)
            conn.execute(f"update {table} set {assignments} where collection_id = ?", [*values.values(), collection_id])

    def save(self, collection: Collection, items: Sequence[StoredItem], tokens: int, cost: float | None) -> None:
        """Write a batch of vectors with their hashes, in one transaction, and remember that they changed."""
        now = int(time.time())
        with self._write() as conn:
            conn.executemany(
                f"insert into {self.tables.embeddings} "
                "(collection_id, id, embedding, content, content_blob, content_hash, metadata, updated) "
                "values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (collection_id, id) do update set "
                "embedding = excluded.embedding, content = excluded.content, content_blob = excluded.content_blob, "
                "content_hash = excluded.content_hash, metadata = excluded.metadata, updated = excluded.updated",
                [
                    (collection.id, i.id, i.embedding, i.content, i.content_blob, i.content_hash, i.metadata, now)
                    for i in items
                ],
            )
            conn.executemany(
                f"insert or ignore into {self.tables.embeddings_changes} values (?, ?)",
                [(collection.id, item.id) for item in items],
            )
            conn.executemany(
                f"insert or replace into {self.tables.thumbnails} (collection_id, id, type, width, height, data) "
                "values (?, ?, ?, ?, ?, ?)",
                [(collection.id, item.id, *item.thumbnail) for item in items if item.thumbnail],
            )
            conn.execute(
                f"update {self.tables.embeddings_collections} set tokens = tokens + ?, "
                "cost_usd = case when ? is null then cost_usd else coalesce(cost_usd, 0) + ? end, version = ?, "
                "dimensions = coalesce(?, dimensions) where collection_id = ?",
                [tokens, cost, cost, _new_version(), len(items[0].embedding) // 4 if items else None, collection.id],
            )
            self._beat(conn)

    def finish(self, collection: Collection, finish: Finish, replaces: Collection | None = None) -> Collection:
        """Write what was derived, with the next generation number, in one transaction.

        Where *replaces* is given, the collection takes over its name in the same transaction.
        """
        tables, cid = self.tables, collection.id
        generation = max(collection.generation, replaces.generation if replaces else 0) + 1
        built = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with self._write() as conn:
            self._beat(conn)
            for table in (tables.embeddings, tables.thumbnails):
                conn.executemany(
                    f"delete from {table} where collection_id = ? and id = ?", [(cid, i) for i in finish.removed]
                )
            conn.execute(f"delete from {tables.embeddings_issues} where collection_id = ?", [cid])
            conn.executemany(
                f"insert or replace into {tables.embeddings_issues} (collection_id, id, status, reason, content_hash) "
                "values (?, ?, ?, ?, ?)",
                [(cid, *issue, finish.refused.get(issue[0])) for issue in finish.issues],
            )
            if finish.similarities is not None:
                self._write_similarities(conn, cid, finish.similarities)
            if finish.chunks is not None:
                self._write_chunks(conn, cid, finish.chunks)
            for name, rows in finish.derived.items():
                self._write_rows(conn, cid, name, rows)
            conn.execute(f"delete from {tables.embeddings_changes} where collection_id = ?", [cid])
            version = _new_version()
            state = {"generation": generation, "built": built, "version": version}
            self._write_sketches(conn, cid, finish.sketches, version)
            self._describe(conn, cid, {**finish.state, **state})
            name = replaces.name if replaces else collection.name
            if replaces:
                self._forget(conn, replaces)
                conn.execute(f"update {tables.collections} set name = ? where id = ?", [name, cid])
            if finish.texts:
                self._write_texts(conn, replace(collection, name=name), finish.texts)
        return catalog.find_collection(self.conn, name, tables)

    def _write_similarities(self, conn: sqlite3.Connection, cid: int, change: SimilarityChange) -> None:
        table = self.tables.similarities
        if change.everything:
            conn.execute(f"delete from {table} where collection_id = ?", [cid])
        conn.executemany(
            f"delete from {table} where id = ? and collection_id = ? and other_id = ?",
            [(item, cid, other) for item, other in change.removed],
        )
        rows = iter(change.added)
        while chunk := [row for _, row in zip(range(SIMILARITIES_AT_ONCE), rows, strict=False)]:
            marks = ", ".join(["(?, ?, ?, ?)"] * len(chunk))
            conn.execute(
                f"insert or replace into {table} values {marks}",
                [value for item, other, score in chunk for value in (item, other, score, cid)],
            )
        self._write_rows(conn, cid, "embeddings_reserve", change.reserve)

    def _write_chunks(self, conn: sqlite3.Connection, cid: int, change: ChunkChange) -> None:
        table = self.tables.chunks
        conn.executemany(
            f"delete from {table} where collection_id = ? and parent_id = ?", [(cid, item) for item in change.parents]
        )
        conn.executemany(
            f'insert into {table} (collection_id, id, parent_id, position, start, "end", heading, content_hash, row_hash) '
            "values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((cid, *row) for row in change.added),
        )

    def _write_rows(self, conn: sqlite3.Connection, cid: int, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Make a table hold exactly *rows* of a collection, writing only what differs."""
        table = getattr(self.tables, name)
        columns = conn.execute(f"pragma table_info({table})").fetchall()
        names = [quote(column[1]) for column in columns[1:]]
        stored = conn.execute(f"select {', '.join(names)} from {table} where collection_id = ?", [cid]).fetchall()
        before, wanted = set(stored), set(rows)
        keys = [place for place, column in enumerate(columns[1:]) if column[5]]
        condition = " and ".join(["collection_id = ?", *(f"{names[key]} = ?" for key in keys)])
        conn.executemany(
            f"delete from {table} where {condition}", [(cid, *(row[key] for key in keys)) for row in before - wanted]
        )
        conn.executemany(
            f"insert into {table} values ({', '.join('?' * len(columns))})",
            [(cid, *row) for row in rows if row not in before],
        )

    def _write_sketches(self, conn: sqlite3.Connection, cid: int, sketches: Baked | None, version: int) -> None:
        heads, parts = self.tables.embeddings_sketches, self.tables.embeddings_sketch_parts
        conn.execute(f"delete from {heads} where collection_id = ?", [cid])
        conn.execute(f"delete from {parts} where collection_id = ?", [cid])
        if sketches is None:
            return
        found = sketches.sketches
        size, basis = found.basis.shape[1], found.basis.astype(FLOAT32).tobytes()
        stamp = baked.stamp(conn, self.tables, cid, version)
        conn.execute(
            f"insert into {heads} values (?, ?, ?, ?, ?, ?)", [cid, stamp, size, basis, found.head, found.error]
        )
        conn.executemany(
            f"insert into {parts} (collection_id, part, ids, codes, units, rests) values (?, ?, ?, ?, ?, ?)",
            ((cid, *row) for row in baked.to_rows(sketches)),
        )

    def next_document(self) -> int:
        """Return the first number that no text of any full-text index has."""
        sql = f"select coalesce(max(number), 0) + 1 from {self.tables.embeddings_documents}"
        return int(self.conn.execute(sql).fetchone()[0])

    def begin_index(self, collection: str) -> str:
        """Return the name of a new, empty full-text index, made aside for the collection of that name."""
        name = self._aside(collection)
        with self._write() as conn:
            self._drop_index(conn, name)
            conn.execute(
                f"create virtual table {quote(name)} using fts5(text, content='', tokenize='{fulltext.TOKENIZER}')"
            )
            self._beat(conn)
        return name

    def _aside(self, collection: str) -> str:
        return self.tables.plain(fulltext.PREFIX + collection + NEXT)

    def drop_unfinished(self) -> None:
        """Remove the full-text indexes that builds made aside which ended before their end."""
        with self._write() as conn:
            for name in fulltext.own_indexes(conn, self.tables):
                if name.endswith(NEXT):
                    self._drop_index(conn, name)

    def add_texts(self, table: str, texts: Sequence[tuple[int, str]]) -> None:
        """Index (number, text) in one transaction."""
        with self._write() as conn:
            conn.executemany(f"insert into {quote(table)} (rowid, text) values (?, ?)", texts)
            self._beat(conn)

    def end_index(self, table: str) -> None:
        """Merge what was indexed bit by bit, which makes searches quicker and the file smaller."""
        with self._write() as conn:
            conn.execute(f"insert into {quote(table)} ({quote(table)}) values ('optimize')")
            self._beat(conn)

    def _write_texts(self, conn: sqlite3.Connection, collection: Collection, change: TextChange) -> None:
        table, documents = collection.full_text, self.tables.embeddings_documents
        if change.everything:
            self._drop_index(conn, table)
            conn.execute(f"delete from {documents} where collection_id = ?", [collection.id])
            table = None
        if change.made:
            table = fulltext.index_name(conn, self.tables, collection.name)
            conn.execute(f"alter table {quote(change.made)} rename to {quote(table)}")
        conn.executemany(
            f"insert or replace into {documents} (number, collection_id, id, content_hash) values (?, ?, ?, ?)",
            [(number, collection.id, item, digest) for number, item, digest in change.documents],
        )
        if table and change.texts:
            conn.executemany(f"insert into {quote(table)} (rowid, text) values (?, ?)", change.texts)
        self._describe(conn, collection.id, {"full_text": table})

    @staticmethod
    def _drop_index(conn: sqlite3.Connection, table: str | None) -> None:
        if table:
            conn.execute(f"drop table if exists {quote(table)}")

    def delete(self, collection: Collection) -> None:
        """Remove a collection and all that was derived from it."""
        with self._write() as conn:
            self._forget(conn, collection)
            self._drop_index(conn, self._aside(collection.name.removesuffix(NEXT)))

    def _forget(self, conn: sqlite3.Connection, collection: Collection) -> None:
        self._drop_index(conn, collection.full_text)
        for name in DERIVED:
            conn.execute(f"delete from {getattr(self.tables, name)} where collection_id = ?", [collection.id])
        conn.execute(f"delete from {self.tables.collections} where id = ?", [collection.id])

    def drop_tables(self) -> None:
        """Remove all our tables, so that the schema is as it was before the first build; what llm made stays."""
        prefix = self.tables.prefix
        with self._write() as conn:
            of_llm = conn.execute(f"select 1 from {self.tables.collections}").fetchone() is not None
            for name in fulltext.own_indexes(conn, self.tables):
                self._drop_index(conn, name)
            for name in reversed(NAMES):
                if self.tables.plain(name) in table_names(conn) and not (of_llm and name in LLM_COLUMNS):
                    conn.execute(f"drop table {getattr(self.tables, name)}")
            owned = f"datasette_embeddings.{prefix}%" if prefix else "datasette_embeddings"
            sets = [owned, *([] if prefix or of_llm else ["llm.embeddings"])]
            for name in sets:
                conn.execute("delete from _sqlite_migrations where migration_set like ?", [name])
            if not conn.execute("select 1 from _sqlite_migrations").fetchone():
                conn.execute("drop table _sqlite_migrations")

    def scrub(self) -> None:
        """Rewrite the file so that no free page or gap holds what was removed, by us or by whoever deleted rows.

        VACUUM gives new rowids to the rows of a table that has neither an INTEGER PRIMARY KEY nor any index, which
        would break full-text indexes, links and our own items. An index, even of no rows, keeps them.
        """
        with translated(self.path):
            self._drop_guards()
            for number, (table, column) in enumerate(self._loose_tables()):
                name = quote(f"{GUARD}{number}")
                self.conn.execute(f"create index {name} on {quote(table)} ({quote(column)}) where 0")
            try:
                self.conn.execute("vacuum")
            finally:
                self._drop_guards()

    def _loose_tables(self) -> list[tuple[str, str]]:
        """Return (table, one of its columns) of the tables whose rowids VACUUM would change."""
        found = []
        sql = "select name from sqlite_master where type = 'table' and rootpage > 0 and name not like 'sqlite\\_%' escape '\\'"
        for (table,) in self.conn.execute(sql).fetchall():
            columns = self.conn.execute(f"pragma table_info({quote(table)})").fetchall()
            indexed = self.conn.execute(f"pragma index_list({quote(table)})").fetchall()
            if columns and not indexed and not any(column[5] for column in columns):
                found.append((table, columns[0][1]))
        return found

    def _drop_guards(self) -> None:
        names = self.conn.execute("select name from sqlite_master where type = 'index' and name glob ?", [GUARD + "*"])
        for (name,) in names.fetchall():
            self.conn.execute(f"drop index {quote(name)}")

    def settle(self, *, keep_wal: bool = False) -> bool:
        """Leave a single file that a read-only disk can serve: no write-ahead log beside it.

        Returns False where other programs have the file open, so that its log had to stay.
        """
        with translated(self.path):
            if self.conn.execute("pragma journal_mode").fetchone()[0] != "wal":
                return True
            busy = self.conn.execute("pragma wal_checkpoint(truncate)").fetchone()[0]
            if busy or keep_wal:
                return not busy
            self.conn.execute("pragma busy_timeout = 0")  # a program that only has the file open keeps it open
            try:
                self.conn.execute("pragma journal_mode = delete")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                return False
            return True


def _new_version() -> int:
    """Return a number for one state of a collection's vectors, which no other state has, of any file that takes this one's place."""
    return secrets.randbits(62)


def _alive(pid: int | None, host: str, heartbeat: int) -> bool:
    """Tell whether a build that claimed a file can still be running."""
    if pid is None or time.time() - heartbeat > CLAIM_SECONDS:
        return False
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
