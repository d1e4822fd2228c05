"""Keeping the full-text index of a collection in step with its items, where its source has none of its own.

An FTS5 table that holds no text cannot take a text back. So new items are added to it, and where one changed or is gone the
whole of it is made anew, aside and in small transactions, to take the old one's place when the build is written.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from datasette_embeddings import fulltext
from datasette_embeddings.sources import content_hash
from datasette_embeddings.splitting import Piece, embedded_text
from datasette_embeddings.store import TextChange

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection as Ids
    from collections.abc import Iterator

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.planning import Task
    from datasette_embeddings.store import Store
    from datasette_embeddings.tables import Tables

    Text = tuple[str, bytes | None, str | None]

ADDED_AT_MOST = 2_000
"""New items that the transaction at the end of a build indexes: a fraction of a second. More make the index anew, aside."""

CHARACTERS_AT_ONCE = 4_000_000
"""Indexed in one transaction: about a second, in which others cannot write."""


def text_change(store: Store, collection: Collection, task: Task, name: str) -> TextChange | None:
    """Return what makes the full-text index that of the items that stay; None where it is.

    A new index is written aside here. *name*: of the collection once the build is done.
    """
    conn, tables, removed = store.conn, store.tables, task.plan.removed
    if not fulltext.supported(conn) or collection.images:
        return None
    if fulltext.has_own(conn, collection):
        return TextChange(everything=True) if collection.full_text else None
    missing = fulltext.missing_items(conn, tables, collection) - set(removed)
    anew = (
        collection.full_text is None
        or len(missing) > ADDED_AT_MOST
        or bool(removed)
        or fulltext.has_leftovers(conn, tables, collection)
    )
    if anew:
        return _anew(store, collection, task, name, removed)
    return _added(store, collection, task, missing) if missing else None


def _added(store: Store, collection: Collection, task: Task, missing: Ids[str]) -> TextChange:
    numbers = count(store.next_document())
    texts = _texts(store.conn, store.tables, collection, task)
    found = [(next(numbers), *text) for text in texts if text[0] in missing]
    return TextChange(
        documents=[(number, item, digest) for number, item, digest, _ in found],
        texts=[(number, text) for number, _, _, text in found if text],
    )


def _anew(store: Store, collection: Collection, task: Task, name: str, removed: Ids[str]) -> TextChange:
    table = store.begin_index(name)
    numbers = count(store.next_document())
    documents: list[tuple[int, str, bytes | None]] = []
    waiting: list[tuple[int, str]] = []
    size = 0
    for item, digest, text in _texts(store.conn, store.tables, collection, task):
        if item in removed:
            continue
        number = next(numbers)
        documents.append((number, item, digest))
        if text:
            waiting.append((number, text))
            size += len(text)
        if size > CHARACTERS_AT_ONCE:
            store.add_texts(table, waiting)
            waiting, size = [], 0
    store.add_texts(table, waiting)
    store.end_index(table)
    return TextChange(documents=documents, made=table, everything=True)


def _texts(conn: sqlite3.Connection, tables: Tables, collection: Collection, task: Task) -> Iterator[Text]:
    """Yield (id, hash, text) of every item: from the source, else as stored; the text is None where neither has it."""
    sql = f"select id, content_hash from {tables.embeddings} where collection_id = ? order by id"
    waiting = dict(conn.execute(sql, [collection.id]).fetchall())
    source = task.spec.source
    prepend = len(source.prepend)
    for row in source.rows(conn):
        if row.id is None or not isinstance(row.content, str):
            continue
        before, content = row.content[:prepend], row.content[prepend:]
        for item, text in _items(conn, tables, collection, task, row.id, content):
            if item in waiting:
                del waiting[item]
                yield item, content_hash(before + text), text
    for item, digest in waiting.items():
        stored = f"select content from {tables.embeddings} where collection_id = ? and id = ?"
        (content,) = conn.execute(stored, [collection.id, item]).fetchone()
        yield item, digest, content if isinstance(content, str) else None


def _items(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, task: Task, row: str, text: str
) -> list[tuple[str, str]]:
    """Return what of a row is indexed: the row itself, or each of its chunks under its headings."""
    if not collection.chunk:
        return [(row, text)]
    planned = 'select id, start, "end", heading from chunks where row = ?'
    chunks = task.plan.pending.execute(planned, [row]).fetchall()
    if not chunks and row not in task.plan.gone:
        stored = f'select id, start, "end", heading from {tables.chunks} where collection_id = ? and parent_id = ?'
        chunks = conn.execute(stored, [collection.id, row]).fetchall()
    return [(item, embedded_text(text, Piece(*place))) for item, *place in chunks]
