"""What the chunks of rows say, read where they are shown: cut out of the row as it is, or as it was stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from datasette_embeddings import catalog
from datasette_embeddings.labels import joinable
from datasette_embeddings.rows import source_row
from datasette_embeddings.sources import content_hash, text_of
from datasette_embeddings.splitting import Piece, embedded_text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables


class Part(NamedTuple):
    """A chunk: its row, the headings it stands under, joined by " > ", and its text.

    The text is None where it cannot be told: this part of its row was edited or moved since, or the row is gone.
    """

    row: str
    heading: str
    text: str | None


def parts_of(conn: sqlite3.Connection, tables: Tables, collection: Collection, items: Sequence[str]) -> dict[str, Part]:
    """Return what some chunks say, by their ids."""
    if not items:
        return {}
    found = conn.execute(
        'select c.id, c.parent_id, c.content_hash, c.start, c."end", c.heading, '
        f"case when e.content_hash = c.content_hash then e.content end from {tables.chunks} c "
        f"join {tables.embeddings} e on e.collection_id = c.collection_id and e.id = c.id "
        "where c.collection_id = ? and c.id in (select value from json_each(?))",
        [collection.id, json.dumps(list(items))],
    ).fetchall()
    texts = _row_texts(conn, collection, {row[1] for row in found})
    prepend = (collection.source or {}).get("prepend", "")
    parts = {}
    for item, row, digest, *place, content in found:
        piece = Piece(*place)
        text = (
            content[-(piece.end - piece.start) :]
            if isinstance(content, str)
            else _cut(texts.get(row), piece, prepend, digest)
        )
        parts[item] = Part(row, piece.heading, text)
    return parts


def _row_texts(conn: sqlite3.Connection, collection: Collection, rows: Iterable[str]) -> dict[str, str]:
    """Return the text of each row as it is now."""
    if not joinable(conn, collection):
        return {}
    prepend = len((collection.source or {}).get("prepend", ""))
    contents = {row: text_of(collection, source_row(conn, collection, row) or {}) for row in rows}
    return {row: content[prepend:] for row, content in contents.items() if content is not None}


def _cut(text: str | None, piece: Piece, prepend: str, digest: bytes) -> str | None:
    """Return a piece of a row's text, None where that is not what was embedded: *digest* is the hash of that."""
    if text is None or content_hash(prepend + embedded_text(text, piece)) != digest:
        return None
    return text[piece.start : piece.end]


def stored_texts(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, rows: Sequence[str]
) -> dict[str, str | None]:
    """Return the stored text of some rows, None where none is stored."""
    if not collection.chunk:
        return catalog.item_texts(conn, collection, rows, tables)
    return {row: _joined(conn, tables, collection, row) for row in rows}


def _joined(conn: sqlite3.Connection, tables: Tables, collection: Collection, row: str) -> str | None:
    """Return the text that the stored chunks of a row are parts of."""
    chunks = conn.execute(
        f'select c.start, c."end", e.content from {tables.chunks} c join {tables.embeddings} e '
        "on e.collection_id = c.collection_id and e.id = c.id where c.collection_id = ? and c.parent_id = ? order by c.position",
        [collection.id, row],
    )
    text, covered = "", 0
    for start, end, content in chunks:
        if not isinstance(content, str):
            return None
        text += content[-(end - start) :][max(0, covered - start) :]
        covered = end
    return text or None
