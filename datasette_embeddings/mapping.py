"""The map of a collection as its page draws it: where its items stand, in which cluster, and what a column says of each.

A browser gets few bytes of each item, as arrays in the order of the items' ids: six for its place and cluster, one for the value of a column. Which
item stands at a place it asks when somebody points there.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from datasette_embeddings.database import column_names, item_id, quote
from datasette_embeddings.errors import SourceError, nearest
from datasette_embeddings.labels import joinable
from datasette_embeddings.limits import MAP_COLORS, MAP_POINTS
from datasette_embeddings.queries import alias, collection_id, join_source, shown
from datasette_embeddings.tables import own_tables

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables

    Codes = NDArray[np.uint8]

GRID = 65_535
"""Steps of a coordinate: at a magnification of 64 one is a pixel of a wide screen."""

IN_VIEW = (0.2, 99.8)
"""Percentiles of the coordinates that the first view holds; a few items that are far from all others would make it a dot."""

NOTHING = 255
"""The code of an item that has no value."""

MOST_SHADES = 254
"""The code of the highest number."""

SCALE = (1, 99)
"""Percentiles of numbers between which colours change: one huge value would leave all others one colour."""

DATE = re.compile(r"(\d{4})-(\d{2})(?:-(\d{2}))?(?:[T ]|\Z)")

LOOKED_AT_ROWS = 500
"""Rows by which a column is judged."""

LONG_TEXT = 80
"""Characters; a column whose values are longer on average says something else of each row, which no colour shows."""


class Cluster(NamedTuple):
    """One cluster: its number, name, size, most central item, and the median of its members' places on the grid."""

    cluster: int
    label: str
    size: int
    item: str | None
    x: int
    y: int


@dataclass(frozen=True)
class Map:
    """The items of a collection on a grid. *places* (n, 2) and *clusters* (n,), 0 for none, uint16, in the order of their ids.

    *low*, *span*: x = low[0] + span * places[:, 0] / GRID. *step*: every how many items one is here. *view*: x and y, low and high, of nearly all.
    *groups*: the largest first.
    """

    places: NDArray[np.uint16]
    clusters: NDArray[np.uint16]
    low: tuple[float, float]
    span: float
    step: int
    items: int
    view: tuple[int, int, int, int]
    groups: Sequence[Cluster]
    method: str | None

    def __len__(self) -> int:
        return len(self.places)

    def as_dict(self) -> dict[str, Any]:
        """Return what is to be known of all points together, for JSON."""
        return {
            "points": len(self),
            "items": self.items,
            "method": self.method,
            "low": self.low,
            "span": self.span,
            "view": self.view,
            "clusters": [group._asdict() for group in self.groups],
        }

    def packed(self) -> bytes:
        """Return the map as `packed` has it: x and y of every point as uint16, then the clusters as uint16."""
        return packed(self.as_dict(), self.places, self.clusters)


def packed(head: dict[str, Any], *arrays: NDArray[Any]) -> bytes:
    """Return the length of some JSON as uint32, the JSON, filled up with spaces to four bytes, and arrays, all little-endian."""
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    little = [array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes() for array in arrays]
    return b"".join([len(text).to_bytes(4, "little"), text, *little])


def digest(body: bytes) -> str:
    """Return what a part of the map is called as long as it is the same."""
    return blake2b(body, digest_size=8).hexdigest()


def read_map(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Map | None:
    """Return the map of a collection; None where none was made."""
    ours = own_tables(conn, tables)
    if tables.plain("projections") not in ours:
        return None
    count = conn.execute(f"select count(*) from ({_points(tables, 'id')})", [collection.id]).fetchone()[0]
    if not count:
        return None
    step = -(-count // MAP_POINTS)
    columns = f"id, x, y, (select m.cluster from {tables.cluster_members} m where m.collection_id = p.collection_id and m.id = p.id)"
    rows = conn.execute(_points(tables, columns), [collection.id]).fetchall()[::step]
    points = np.array([(x, y) for _, x, y, _ in rows], dtype=np.float64)
    clusters = np.array([cluster if cluster and 0 < cluster <= GRID else 0 for *_, cluster in rows], dtype=np.uint16)
    low, high = points.min(axis=0), points.max(axis=0)
    span = float(max(high - low)) or 1.0
    low -= (span - (high - low)) / 2
    places = np.rint((points - low) * (GRID / span)).clip(0, GRID).astype(np.uint16)
    first, last = np.percentile(places, IN_VIEW, axis=0)
    made = conn.execute(
        f"select method from {tables.embeddings_projections} where collection_id = ?", [collection.id]
    ).fetchone()
    return Map(
        places,
        clusters,
        (float(low[0]), float(low[1])),
        span,
        step,
        count,
        (int(first[0]), int(first[1]), int(last[0]), int(last[1])),
        _groups(conn, tables, collection, places, clusters),
        made[0] if made else None,
    )


def _points(tables: Tables, columns: str) -> str:
    """Return the SQL for every point of a collection that has a place, in the order in which all of this is."""
    # A comparison leaves out NULL and what a program that divided by zero has written.
    return f"select {columns} from {tables.projections} p where collection_id = ? and abs(x) < 1e300 and abs(y) < 1e300 order by id"


def _groups(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    places: NDArray[np.uint16],
    clusters: NDArray[np.uint16],
) -> list[Cluster]:
    order = np.argsort(clusters, kind="stable")
    numbers, starts = np.unique(clusters[order], return_index=True)
    members = dict(zip(numbers.tolist(), np.split(places[order], starts[1:]), strict=True))
    named = conn.execute(
        f"select cluster, label, size, item from {tables.clusters} where collection_id = ? order by size desc, cluster",
        [collection.id],
    )
    found = []
    for cluster, label, size, item in named:
        if cluster in members and cluster:
            x, y = np.median(members[cluster], axis=0)
            found.append(Cluster(cluster, str(label or f"Cluster {cluster}"), size, item, int(x), int(y)))
    return found


def ids_of(conn: sqlite3.Connection, tables: Tables, collection: Collection, step: int) -> list[str]:
    """Return the ids of the points of a map, in their order."""
    return [item for (item,) in conn.execute(_points(tables, "id"), [collection.id])][::step]


def items_at(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, numbers: Sequence[int], step: int
) -> list[tuple[int, str]]:
    """Return (number, id) of some points of a map, by number; those that are not there are left out."""
    if not numbers:
        return []
    first, last = min(numbers), max(numbers)
    sql = _points(tables, "id") + " limit ? offset ?"
    rows = conn.execute(sql, [collection.id, (last - first) * step + 1, first * step])
    here = enumerate((item for (item,) in islice(rows, 0, None, step)), first)
    wanted = set(numbers)
    return [(number, item) for number, item in here if number in wanted]


# ---------------------------------------------------------------- colours


def colorable_columns(conn: sqlite3.Connection, collection: Collection) -> list[str]:
    """Return the columns of the source by which points can be coloured: all but its key, BLOBs and long texts."""
    if not joinable(conn, collection):
        return []
    table = str(collection.table)
    key = collection.key if len(collection.key) == 1 else ()
    names = [name for name in column_names(conn, table) if name not in key]
    if not names:
        return []
    chosen = ", ".join(map(quote, names))
    rows = conn.execute(f"select {chosen} from {quote(table)} limit ?", [LOOKED_AT_ROWS]).fetchall()
    return [name for place, name in enumerate(names) if _colorable([row[place] for row in rows])]


def _colorable(values: Sequence[object]) -> bool:
    held = [value for value in values if value is not None and value != ""]
    if not held or any(isinstance(value, bytes) for value in held):
        return False
    texts = [value for value in held if isinstance(value, str)]
    says_the_same_of_some = len(set(texts)) < max(len(texts), 2) or all(map(DATE.match, texts))
    return says_the_same_of_some and sum(map(len, texts)) <= LONG_TEXT * len(texts)


def column_colors(conn: sqlite3.Connection, tables: Tables, collection: Collection, column: str, step: int) -> bytes:
    """Return what a column says of each point of a map, as `packed` has it: the legend, then a uint8 for each.

    Raises SourceError where there is no such column.
    """
    known = colorable_columns(conn, collection)
    if column not in known:
        raise SourceError(
            f"points can be coloured by a column of the source; there is no {column!r}; {nearest(column, known)}"
        )
    key = ", ".join(quote(name) for name in collection.key)
    rows = conn.execute(f"select {quote(column)}, {key} from {quote(str(collection.table))}")
    values = {item_id(tuple(parts)): value for value, *parts in rows}
    legend, codes = colors_of([values.get(item) for item in ids_of(conn, tables, collection, step)])
    return packed(legend, codes)


def colors_of(values: Sequence[object]) -> tuple[dict[str, Any], Codes]:
    """Return a legend for values and the code of each: a number's place on a scale, or a place among the commonest values.

    >>> colors_of(["a", "b", "a", None])
    ({'kind': 'values', 'values': ['a', 'b'], 'counts': [2, 1], 'other': 0, 'missing': 1}, array([  0,   1,   0, 255], dtype=uint8))
    >>> colors_of([*range(100)])[0]
    {'kind': 'numbers', 'low': 1, 'high': 98, 'missing': 0}
    """
    held = [value for value in values if value is not None and value != ""]
    different = len(set(held))
    if different > MAP_COLORS and all(isinstance(value, (int, float)) for value in held):
        return _on_scale(values, "numbers")
    if different > MAP_COLORS and all(isinstance(value, str) and DATE.match(value) for value in held):
        return _on_scale([_day(value) for value in values], "dates")
    counts = Counter(_name(value) for value in held)
    common = sorted(counts, key=lambda name: (-counts[name], name))
    common = common[: MAP_COLORS if len(common) <= MAP_COLORS else MAP_COLORS - 1]
    code = {name: place for place, name in enumerate(common)}
    codes = [NOTHING if value is None or value == "" else code.get(_name(value), len(common)) for value in values]
    legend = {
        "kind": "values",
        "values": common,
        "counts": [counts[name] for name in common],
        "other": len(held) - sum(counts[name] for name in common),
        "missing": len(values) - len(held),
    }
    return legend, np.array(codes, dtype=np.uint8)


def _name(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _day(value: object) -> int | None:
    """Return the number of a day that a text begins with."""
    match = DATE.match(value) if isinstance(value, str) else None
    if match is None:
        return None
    try:
        return date(int(match[1]), int(match[2]), int(match[3] or 1)).toordinal()
    except ValueError:  # the 31st of February
        return None


def _on_scale(values: Sequence[Any], kind: str) -> tuple[dict[str, Any], Codes]:
    numbers = np.array([np.nan if value is None or value == "" else value for value in values], dtype=np.float64)
    missing = ~np.isfinite(numbers)
    low, high = np.percentile(numbers[~missing], SCALE, method="nearest") if not missing.all() else (0.0, 1.0)
    shades = np.rint((numbers - low) * (MOST_SHADES / ((high - low) or 1)))
    codes = np.where(missing, NOTHING, np.nan_to_num(shades).clip(0, MOST_SHADES)).astype(np.uint8)
    ends = [date.fromordinal(int(end)).isoformat() if kind == "dates" else _plain(end) for end in (low, high)]
    return {"kind": kind, "low": ends[0], "high": ends[1], "missing": int(missing.sum())}, codes


def _plain(number: float) -> float | int:
    return int(number) if float(number).is_integer() else float(number)


# ---------------------------------------------------------------- a part of it as SQL

BOUNDS = ("x_low", "x_high", "y_low", "y_high")


def region_sql(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> str:
    """Return the SQL for the items of a part of the map, between the parameters BOUNDS, each with its row."""
    points = alias("projections", collection)
    item = f"{points}.id"
    source = join_source(conn, tables, collection, item, taken=("x", "y"))
    columns = (f"{item} as id", f"{points}.x as x", f"{points}.y as y", *source.columns)
    return "\n".join(
        [
            "select",
            ",\n".join(f"  {column}" for column in columns),
            f"from {shown(tables.plain('projections'), points)}",
            f"left {source.clause}",
            f"where {points}.collection_id = {collection_id(tables, collection)}",
            f"  and {points}.x between cast(:x_low as real) and cast(:x_high as real)",
            f"  and {points}.y between cast(:y_low as real) and cast(:y_high as real)",
            f"order by {item}",
        ]
    )
