"""The nearest of every item, best first, as a build leaves them for the next one: a few more than `similarities` shows, packed.

A list need not have all of its places to be of use, only to be exact: its m entries are the m best of all other items, ranked by score
descending, then id. It stays so when vectors change:

- Of items that did not change, those missing from a list rank after its last entry. So once entries that changed or went are taken out, what
  is left ranks before all other unchanged items: it is an exact list of these, of so many as it still has.
- A changed item that ranks before the last entry has its place in the list; one that ranks after it, or an unchanged one, has none there. So
  once the former are put in, the list is an exact one of all items.

Only a list that is left with less than is shown must be made anew from all items, which costs a product with each of them. The spare entries
are there for this not to happen: a neighbour that goes is followed by the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import orjson

from datasette_embeddings.neighbors import Neighbors, best_of_each, rank
from datasette_embeddings.vectors import FLOAT32, round_scores

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables

PART_ROWS = 50_000
"""Items of one row of the table: 6 MB with 16 neighbours each, and 400 MB with the most, below the 1 GB that SQLite allows a value."""

INT32 = np.dtype("<i4")

NONE = -1
"""The position of no item, where a list has ended."""


class Lists(NamedTuple):
    """Of each item of *ids*, which are sorted: *others* (n, w) int32, positions of the nearest by rank, NONE at the end; *scores* (n, w)."""

    ids: Sequence[str]
    others: NDArray[np.int32]
    scores: NDArray[np.float64]

    @classmethod
    def empty(cls, ids: Sequence[str], width: int) -> Lists:
        """Return lists without any entry."""
        shape = len(ids), width
        return cls(ids, np.full(shape, NONE, INT32), np.zeros(shape))

    def lengths(self) -> NDArray[np.int64]:
        """Return how many entries each list has."""
        return np.asarray((self.others != NONE).sum(axis=1))

    def entries(self, rows: NDArray[np.int64] | slice = slice(None), width: int | None = None) -> Neighbors:
        """Return the entries of some lists, or of all, flat; the first *width* of each where given."""
        others, scores = self.others[rows, :width], self.scores[rows, :width]
        held = others != NONE
        numbers = np.arange(len(self.ids))[rows]
        return Neighbors(np.repeat(numbers, held.sum(axis=1)), others[held].astype(np.int64), scores[held])

    def lasts(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return score and position (n,) of the last entry of each list; of one without any a score that none reaches."""
        if not self.others.shape[1]:
            return np.full(len(self.ids), np.inf), np.full(len(self.ids), NONE)
        lengths = self.lengths()
        place = np.maximum(lengths - 1, 0)[:, None]
        scores = np.take_along_axis(self.scores, place, axis=1)[:, 0]
        others = np.take_along_axis(self.others, place, axis=1)[:, 0].astype(np.int64)
        return np.where(lengths > 0, scores, np.inf), others

    def put(self, rows: NDArray[np.int64], found: Neighbors) -> None:
        """Make the lists of some rows those that were found, which are sorted by row and rank."""
        self.others[rows] = NONE
        places = found.rows, rank(found.rows)
        self.others[places], self.scores[places] = found.others, found.scores

    def enter(self, entrants: Neighbors) -> None:
        """Put entrants into lists; what a list has no place for falls out at its end."""
        rows = np.unique(entrants.rows)
        held = self.entries(rows)
        items, others, scores = (np.concatenate(pair) for pair in zip(held.columns, entrants.columns, strict=True))
        self.put(rows, Neighbors(*best_of_each(items, others, scores, self.others.shape[1])))


def of_all(ids: Sequence[str], found: Neighbors, width: int) -> Lists:
    """Return the lists of all items from what was found for them."""
    lists = Lists.empty(ids, width)
    lists.put(np.arange(len(ids)), found)
    return lists


def places_among(ids: Sequence[str], others: Sequence[str]) -> NDArray[np.int32]:
    """Return the position of each of *ids* among *others*, both sorted, NONE for those that are not there."""
    if ids == others:
        return np.arange(len(ids), dtype=INT32)
    place = {item: position for position, item in enumerate(others)}
    return np.array([place.get(item, NONE) for item in ids], INT32).reshape(-1)


def carried(before: Lists, now: NDArray[np.int32], ids: Sequence[str], changed: NDArray[np.bool_], width: int) -> Lists:
    """Return what earlier lists still say of those of the items *ids* that are not *changed* (n,); the others' are empty.

    *now*: where among *ids* the earlier ones are, as of `places_among`.
    """
    here = np.flatnonzero(now != NONE)
    width_then = min(width, before.others.shape[1])
    lists = Lists.empty(ids, width)
    lists.others[now[here], :width_then] = np.append(now, INT32.type(NONE))[before.others[here, :width_then]]
    lists.scores[now[here], :width_then] = before.scores[here, :width_then]
    lists.others[np.append(changed, False)[lists.others]] = NONE
    lists.others[changed] = NONE
    _close_gaps(lists)
    return lists


def _close_gaps(lists: Lists) -> None:
    """Move the entries of each list to its beginning."""
    held = lists.others != NONE
    gaps = np.flatnonzero((held[:, 1:] & ~held[:, :-1]).any(axis=1))
    order = np.argsort(~held[gaps], axis=1, kind="stable")
    lists.others[gaps] = np.take_along_axis(lists.others[gaps], order, axis=1)
    lists.scores[gaps] = np.take_along_axis(lists.scores[gaps], order, axis=1)


def to_rows(lists: Lists) -> Iterator[tuple[int, str, bytes, bytes]]:
    """Yield (part, ids, others, scores): rows of the table `embeddings_reserve`. Scores of 6 decimals are told apart by float32."""
    for number, start in enumerate(range(0, len(lists.ids), PART_ROWS)):
        part = slice(start, start + PART_ROWS)
        others, scores = lists.others[part].astype(INT32), lists.scores[part].astype(FLOAT32)
        yield number, orjson.dumps(lists.ids[part]).decode(), others.tobytes(), scores.tobytes()


def read(conn: sqlite3.Connection, tables: Tables, collection: Collection, k: int) -> Lists | None:
    """Return the lists that the last build left, whose first *k* entries are what `similarities` holds.

    None where there are none, what is there is damaged, or `similarities` holds more or less.
    """
    sql = f"select ids, others, scores from {tables.embeddings_reserve} where collection_id = ? order by part"
    parts = conn.execute(sql, [collection.id]).fetchall()
    try:
        lists = _unpacked(parts)
    except (ValueError, TypeError):
        return None
    full = min(k, len(lists.ids) - 1)
    counted = f"select count(*) from {tables.similarities} where collection_id = ?"
    count = conn.execute(counted, [collection.id]).fetchone()[0]
    return lists if count == full * len(lists.ids) and (lists.lengths() >= full).all() else None


def _unpacked(parts: Sequence[tuple[str, bytes, bytes]]) -> Lists:
    """Return what `to_rows` packed; raises ValueError or TypeError where it did not."""
    ids = [item for part in parts for item in orjson.loads(part[0])]
    others = np.frombuffer(b"".join(part[1] for part in parts), INT32).reshape(len(ids), -1)
    scores = np.frombuffer(b"".join(part[2] for part in parts), FLOAT32).reshape(others.shape)
    if others.size and not NONE <= others.min() <= others.max() < len(ids):
        raise ValueError("positions of no item")
    return Lists(ids, others, round_scores(scores))


def read_table(conn: sqlite3.Connection, tables: Tables, collection: Collection, k: int) -> Lists | None:
    """Return the lists that `similarities` holds; None where not every item has *k*, or as many as there are others."""
    sql = f"select id, other_id, score from {tables.similarities} where collection_id = ?"
    stored = conn.execute(sql, [collection.id]).fetchall()
    ids = sorted({row[0] for row in stored} | {row[1] for row in stored})
    place = {item: position for position, item in enumerate(ids)}
    rows = np.array([place[row[0]] for row in stored], np.int64)
    others = np.array([place[row[1]] for row in stored], np.int64)
    if (np.bincount(rows, minlength=len(ids)) != min(k, len(ids) - 1)).any():
        return None
    scores = np.array([row[2] for row in stored], np.float64)
    return of_all(ids, Neighbors(*best_of_each(rows, others, scores, k)), k)
