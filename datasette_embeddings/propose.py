"""What of a table is worth embedding, proposed from its own rows."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from datasette_embeddings.config import CollectionConfig
from datasette_embeddings.database import column_names, quote, real_name, table_key
from datasette_embeddings.errors import SourceError
from datasette_embeddings.labels import TITLE_NAMES

if TYPE_CHECKING:
    import sqlite3

SAMPLE_ROWS = 300
MIN_WORDS = 2.0
"""A column whose values have fewer words on average holds names or codes, not language."""

NOT_TEXT = re.compile(r"^\s*(https?://\S+|[\w.+-]+@[\w.-]+|[\d\s:.,TZ+/-]+|[0-9a-f-]{16,})\s*$", re.I)

PICTURE = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP", re.S)
"""How files of the formats begin that are read."""


def propose(
    conn: sqlite3.Connection,
    table: str,
    columns: tuple[str, ...] = (),
    key: tuple[str, ...] = (),
    image: str | None = None,
) -> CollectionConfig:
    """Return a collection for a table: its text columns, titles first; raises SourceError where it has none.

    *key*: the key columns of a view, or instead of the table's own. *image*: the column of pictures that is wanted in place of texts.
    Where there are pictures and no texts, the error names the column of the pictures.
    """
    table = real_name(conn, table)
    name = re.sub(r"[^A-Za-z0-9_]+", "_", table).strip("_") or "rows"
    if image:
        return CollectionConfig(name=name, table=table, image=image, key=key)
    chosen = columns or tuple(text_columns(conn, table, key or table_key(conn, table).columns))
    if not chosen:
        pictured = picture_columns(conn, table)
        advice = f"{pictured[0]!r} holds pictures: --image {shlex.quote(pictured[0])} embeds those" if pictured else ""
        raise SourceError(
            f"no column of {table!r} seems to hold text (its columns: {', '.join(column_names(conn, table))}); "
            + (advice or "name what to embed with --column")
        )
    return CollectionConfig(name=name, table=table, columns=chosen, key=key)


def text_columns(conn: sqlite3.Connection, table: str, key: tuple[str, ...]) -> list[str]:
    """Return the columns that hold language, as a sample of the rows shows: titles first, then in table order."""
    names = [name for name in column_names(conn, table) if name not in key or len(key) > 1]
    if not names:
        return []
    chosen = ", ".join(f"case typeof({quote(name)}) when 'text' then {quote(name)} end" for name in names)
    rows = conn.execute(f"select {chosen} from {quote(table)} limit ?", [SAMPLE_ROWS]).fetchall()
    texts = {name: [row[n] for row in rows if isinstance(row[n], str)] for n, name in enumerate(names)}
    found = [name for name in names if _is_language(texts[name], len(rows))]
    return sorted(found, key=lambda name: name.lower() not in TITLE_NAMES)


def picture_columns(conn: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns whose BLOBs begin as image files do, as a sample of the rows shows."""
    return [name for name in column_names(conn, table) if _holds_pictures(conn, table, name)]


def _holds_pictures(conn: sqlite3.Connection, table: str, column: str) -> bool:
    name = quote(column)
    sql = f"select substr({name}, 1, 12) from {quote(table)} where typeof({name}) = 'blob' limit ?"
    heads = [head for (head,) in conn.execute(sql, [SAMPLE_ROWS])]
    return bool(heads) and sum(bool(PICTURE.match(head)) for head in heads) > len(heads) / 2


def _is_language(values: list[str], rows: int) -> bool:
    values = [value for value in values if value.strip()]
    if not values or len(values) < rows / 10:
        return False
    if sum(bool(NOT_TEXT.match(value)) for value in values) > len(values) / 2:
        return False
    words = sum(len(value.split()) for value in values) / len(values)
    repeated = len(values) > 20 and len(set(values)) < len(values) / 4
    return words >= MIN_WORDS and not repeated
