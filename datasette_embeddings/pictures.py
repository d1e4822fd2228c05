"""Pictures as pages show them: which there are, how large their thumbnails are, and the rows that they belong to.

The pictures themselves are never read here: of a row everything but its BLOBs, and of thumbnails one at a time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from datasette_embeddings.database import column_names, quote
from datasette_embeddings.keys import declared_types, row_condition
from datasette_embeddings.labels import joinable, key_parts, label_column
from datasette_embeddings.tables import SIGNATURES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.search import Hit
    from datasette_embeddings.tables import Tables

PAGE = 60
"""Pictures of one page: three screens full, and with all thumbnails half a megabyte."""

VERSION_DIGITS = 12
"""Of the hash of a picture that stand in the address of its thumbnail: 48 bits, so that two of one row are never the same."""


@dataclass(frozen=True)
class Picture:
    """An item with its thumbnail's size in pixels. *version*: changes when the picture does. *row*: its own columns without BLOBs.

    *score*: in [-1, 1], None where it was not compared with anything.
    """

    id: str
    title: str
    width: int
    height: int
    version: str
    row: dict[str, Any]
    score: float | None = None


class Stored(NamedTuple):
    """A thumbnail: its bytes, and the version of the picture that it was made of."""

    data: bytes
    version: str


def thumbnail_of(conn: sqlite3.Connection, tables: Tables, collection: Collection, item: str) -> Stored | None:
    """Return the thumbnail of an item, None where there is none."""
    if not collection.images or not _are_kept(conn, tables):
        return None
    sql = (
        f"select t.data, {_version('e')} from {tables.thumbnails} t "
        f"join {tables.embeddings} e on e.collection_id = t.collection_id and e.id = t.id "
        "where t.collection_id = ? and t.id = ?"
    )
    found = conn.execute(sql, [collection.id, item]).fetchone()
    return Stored(*found) if found else None


def has_thumbnail(conn: sqlite3.Connection, tables: Tables, collection: Collection, item: str) -> bool:
    """Tell whether there is a thumbnail of an item."""
    if not _are_kept(conn, tables):
        return False
    sql = f"select 1 from {tables.thumbnails} where collection_id = ? and id = ?"
    return conn.execute(sql, [collection.id, item]).fetchone() is not None


def pictures_of(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    ids: Sequence[str],
    scores: dict[str, float] | None = None,
    label: str | None = None,
) -> list[Picture]:
    """Return the pictures of some items in their order, by one statement; those without a thumbnail or a row are left out.

    *label*: the column that names a row, where the site says which. Cross joins keep SQLite from beginning with all items.
    """
    if not ids or not _are_kept(conn, tables):
        return []
    columns, join = [], ""
    if joinable(conn, collection):
        table = str(collection.table)
        columns = [name for name, kind in declared_types(conn, table).items() if "BLOB" not in kind.upper()]
        join = (
            f"join {quote(table)} on {row_condition(conn, table, collection.key, key_parts(collection, 'our_item.id'))}"
        )
    chosen = "".join(f", {quote(str(collection.table))}.{quote(column)}" for column in columns)
    sql = (
        f"select our_item.id, our_thumbnail.width, our_thumbnail.height, {_version('our_item')}{chosen} "
        f"from json_each(?) as our_wish cross join {tables.embeddings} as our_item "
        "on our_item.collection_id = ? and our_item.id = our_wish.value "
        f"cross join {tables.thumbnails} as our_thumbnail "
        f"on our_thumbnail.collection_id = our_item.collection_id and our_thumbnail.id = our_item.id {join}"
    )
    rows = conn.execute(sql, [orjson.dumps(list(ids)).decode(), collection.id]).fetchall()
    title = label or label_column(conn, collection)
    found = {row[0]: _picture(row, columns, title, scores or {}) for row in rows}
    return [found[item] for item in ids if item in found]


def pictures_of_hits(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, hits: Sequence[Hit], label: str | None = None
) -> list[Picture]:
    """Return the pictures that a search found, with their scores, in its order."""
    return pictures_of(conn, tables, collection, [hit.id for hit in hits], {hit.id: hit.score for hit in hits}, label)


def _picture(row: Sequence[Any], columns: Sequence[str], title: str | None, scores: dict[str, float]) -> Picture:
    item, width, height, version, *values = row
    own = {name: value for name, value in zip(columns, values, strict=True) if not isinstance(value, bytes)}
    name = own.get(title or "")
    shown = " ".join(str(name).split()) if name is not None else ""
    return Picture(item, shown or item, width, height, version, own, scores.get(item))


def ids_after(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    after: str = "",
    number: int = PAGE,
    among: Sequence[str] | None = None,
) -> list[str]:
    """Return ids of pictures in their order, those after one; *among*: only of these."""
    if not _are_kept(conn, tables):
        return []
    values: list[object] = [collection.id, after]
    sql = f"select id from {tables.thumbnails} where collection_id = ? and id > ?"
    if among is not None:
        sql += " and id in (select value from json_each(?))"
        values.append(orjson.dumps(list(among)).decode())
    return [row[0] for row in conn.execute(f"{sql} order by id limit ?", [*values, number])]


def count(conn: sqlite3.Connection, tables: Tables, collection: Collection, among: Sequence[str] | None = None) -> int:
    """Return how many pictures there are; *among*: of these."""
    if not _are_kept(conn, tables):
        return 0
    values: list[object] = [collection.id]
    sql = f"select count(*) from {tables.thumbnails} where collection_id = ?"
    if among is not None:
        sql += " and id in (select value from json_each(?))"
        values.append(orjson.dumps(list(among)).decode())
    return int(conn.execute(sql, values).fetchone()[0])


def at_random(conn: sqlite3.Connection, tables: Tables, collection: Collection, number: int, seed: str) -> list[str]:
    """Return the ids of some pictures, the same for the same seed and file."""
    total = count(conn, tables, collection)
    chance = random.Random(seed)  # noqa: S311 (nobody gains by guessing which pictures are shown)
    places = chance.sample(range(total), min(number, total))
    sql = f"select id from {tables.thumbnails} where collection_id = ? order by id limit 1 offset ?"
    found = [conn.execute(sql, [collection.id, place]).fetchone() for place in places]
    return [row[0] for row in found if row]


def some(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    number: int,
    seed: str = "",
    label: str | None = None,
) -> list[Picture]:
    """Return some pictures at random, where no *seed* is given others each day."""
    return pictures_of(
        conn, tables, collection, at_random(conn, tables, collection, number, seed or today()), label=label
    )


def today() -> str:
    """Return the day, by which the pictures that a page begins with change."""
    return datetime.now(timezone.utc).date().isoformat()


def _version(item: str) -> str:
    return f"substr(lower(hex({item}.content_hash)), 1, {VERSION_DIGITS})"


def _are_kept(conn: sqlite3.Connection, tables: Tables) -> bool:
    """Tell whether the file has thumbnails; those of earlier releases have none."""
    return SIGNATURES["thumbnails"] in column_names(conn, tables.plain("thumbnails"))
