"""When the rows of each cluster are from: counts over the time of a date column of the source, drawn as small bars."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from datasette_embeddings.database import quote
from datasette_embeddings.keys import declared_types, plain_or_quoted, row_condition
from datasette_embeddings.labels import joinable, key_parts
from datasette_embeddings.queries import alias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables

SAMPLE_ROWS = 200
"""Rows, the first of a table, by which a column of dates is known."""

DATES_SHARE = 0.9
"""Of the values of a column of dates that can be read as such, at least: some sources write "unknown" between them."""

MAX_BARS = 40
"""Bars of one timeline, of 5 pixels each on a page."""

STEPS = (("D", 1), ("M", 1), ("M", 3), ("Y", 1), ("Y", 2), ("Y", 5), ("Y", 10), ("Y", 20), ("Y", 50))
"""What a bar may stand for, as numpy's units; the last keeps the 2,000 years that are read as such within MAX_BARS."""

NAMED = frozenset(
    "date datetime day time timestamp year published publication pub posted created issued released written sent taken filed".split()
)
"""Words in the names of columns that say when a row is from."""

NAMED_LATER = frozenset("updated modified changed edited accessed imported fetched deleted expires".split())
"""Words in the names of columns that say what was done to a row since."""

WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")

BAR, GAP, HEIGHT = 4, 1, 24
"""Of a drawing, in its own units."""


@dataclass(frozen=True)
class Timelines:
    """Counts of rows. *column*: of the source. *bars*: the time that each stands for. *counts*: of each cluster, one for each bar."""

    column: str
    bars: tuple[str, ...]
    counts: dict[int, tuple[int, ...]]

    @property
    def ends(self) -> tuple[str, str]:
        """The first and the last time."""
        return self.bars[0].split(" to ")[0], self.bars[-1].split(" to ")[-1]

    @property
    def box(self) -> str:
        """The `viewBox` of the drawings."""
        return f"0 0 {len(self.bars) * (BAR + GAP) - GAP} {HEIGHT}"

    def drawing(self, cluster: int) -> str:
        """Return the bars of a cluster as the path of an SVG, the highest as high as the drawing."""
        counts = self.counts.get(cluster, ())
        highest = max(counts, default=0) or 1
        heights = [count and max(1.0, round(HEIGHT * count / highest, 1)) for count in counts]
        bars = [(place * (BAR + GAP), height) for place, height in enumerate(heights) if height]
        return "".join(f"M{x} {HEIGHT}v-{height:g}h{BAR}v{height:g}z" for x, height in bars)

    def words(self, cluster: int) -> str:
        """Return what the bars of a cluster show."""
        counts = self.counts.get(cluster, ())
        if not any(counts):
            return f"{self.column}: no dates"
        filled = [place for place, count in enumerate(counts) if count]
        most = max(filled, key=lambda place: counts[place])
        first, last = self.bars[filled[0]].split(" to ")[0], self.bars[filled[-1]].split(" to ")[-1]
        return f"{self.column}: {first} to {last}, most in {self.bars[most]}, {counts[most]:,} of {sum(counts):,}"


def timelines(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Timelines | None:
    """Return the timelines of a collection's clusters; None without a column of dates, or where reading it takes too long."""
    if not collection.clusters or not joinable(conn, collection):
        return None
    try:
        column = date_column(conn, str(collection.table))
        days = _days_of_members(conn, tables, collection, column) if column else None
    except sqlite3.OperationalError as error:
        if str(error) != "interrupted":
            raise
        return None
    return _counted(str(column), *days) if days else None


def date_column(conn: sqlite3.Connection, table: str) -> str | None:
    """Return the column of a table that says when its rows are from.

    Its values are ISO dates or times, months or, where its name speaks of time, years. Of several it is the first whose name says
    that a row came to be then; next any other; last one of what was done to the row since.
    """
    found = []
    for place, (column, kind) in enumerate(declared_types(conn, table).items()):
        named = {word.lower() for word in WORDS.findall(column)}
        rank = 2 if named & NAMED_LATER else 0 if named & NAMED else 1
        sample = f"select substr({quote(column)}, 1, 32) as value from {quote(table)} limit {SAMPLE_ROWS}"
        values, dates, length = conn.execute(
            f"select count(value), count({_day('value')}), max(length(value)) from ({sample})"
        ).fetchone()
        is_told = length is not None and (length > len("1999") or rank != 1)
        if "BLOB" not in kind.upper() and dates and is_told and dates >= DATES_SHARE * values:
            found.append((rank, place, column))
    return min(found)[2] if found else None


def _day(value: str) -> str:
    """Return SQL for the day of a date, a month or a year, in days since 1970; NULL for anything else."""
    year, month, day = "[12][0-9][0-9][0-9]", "-[01][0-9]", "-[0-3][0-9]"
    return (
        f"cast(julianday(case when {value} glob '{year}' then {value} || '-01-01' when {value} glob '{year}{month}' then "
        f"{value} || '-01' when {value} glob '{year}{month}{day}*' then substr({value}, 1, 10) end) - 2440587.5 as integer)"
    )


def _days_of_members(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, column: str
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return the cluster and the day of every member that has one."""
    members, table = alias("members", collection), str(collection.table)
    condition = row_condition(conn, table, collection.key, key_parts(collection, f"{members}.id"))
    day = _day(f"{plain_or_quoted(table)}.{plain_or_quoted(column)}")
    rows = conn.execute(
        f"select {members}.cluster, {day} as day from {tables.cluster_members} as {members} join {quote(table)} on {condition} "
        f"where {members}.collection_id = ?",
        [collection.id],
    )
    dated = [row for row in rows if row[1] is not None]  # SQL would work it out a second time to compare it
    if not dated:
        return None
    found = np.array(dated, dtype=np.int64)
    return found[:, 0], found[:, 1].astype("datetime64[D]")


def _counted(column: str, clusters: NDArray[Any], days: NDArray[Any]) -> Timelines | None:
    """Return the counts over bars as short as MAX_BARS allows and the dates are exact; None where there would be one bar."""
    for unit, step in _steps(days):
        places = days.astype(f"datetime64[{unit}]").astype(np.int64)
        origin = {"D": 0, "M": 0, "Y": -1970}[unit]
        places = (places - origin) // step
        first, number = int(places.min()), int(np.ptp(places)) + 1
        if number <= MAX_BARS:
            break
    if number < 2:
        return None
    starts = (np.arange(first, first + number) * step + origin).astype(f"datetime64[{unit}]")
    names = tuple(str(start) if step == 1 else f"{start} to {start + step - 1}" for start in starts)
    numbers, which = np.unique(clusters, return_inverse=True)
    counts = np.bincount(which * number + (places - first), minlength=len(numbers) * number).reshape(-1, number)
    return Timelines(column, names, {int(one): tuple(row.tolist()) for one, row in zip(numbers, counts, strict=True)})


def _steps(days: NDArray[Any]) -> Iterator[tuple[str, int]]:
    """Yield what a bar may stand for, the shortest first: no less than all dates are exact to."""
    exact = next((unit for unit in "YM" if (days == days.astype(f"datetime64[{unit}]")).all()), "D")
    order = "DMY"
    return (entry for entry in STEPS if order.index(entry[0]) >= order.index(exact))
