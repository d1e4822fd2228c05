"""What is computed from a collection's vectors, as differences to what is stored: the similarities table, and what is kept in reserve for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datasette_embeddings import reserves
from datasette_embeddings.limits import RESERVED_ROWS, RESERVED_SIMILARITIES
from datasette_embeddings.neighbors import all_neighbors, neighbors_of
from datasette_embeddings.reserves import NONE, Lists
from datasette_embeddings.store import SimilarityChange

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection as Ids
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.checkpoints import Checkpoint
    from datasette_embeddings.matrices import Matrix
    from datasette_embeddings.neighbors import Neighbors, Progress
    from datasette_embeddings.tables import Tables

FULL_SHARE = 0.5
"""Where more than this share of the rows must be computed anew, computing all of them, symmetrically, costs no more."""


def similarity_change(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    k: int,
    matrix: Matrix,
    changed: Ids[str],
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> SimilarityChange:
    """Return what makes the stored similarities those of the vectors in *matrix*, exactly.

    *changed*: the rows whose vector is another one than the stored similarities are of. *checkpoint*: where progress of all is saved.
    """
    if k == 0:
        return SimilarityChange(everything=True)
    ids = matrix.ids
    width = k + (RESERVED_SIMILARITIES if len(ids) >= RESERVED_ROWS else 0)
    if collection.similarities == k:
        before = reserves.read(conn, tables, collection, k) or reserves.read_table(conn, tables, collection, k)
        if before and (lists := _updated(before, matrix, k, width, changed, progress)):
            return _difference(before, lists, k)
    lists = reserves.of_all(ids, all_neighbors(matrix.rows, width, progress, checkpoint), width)
    return SimilarityChange(everything=True, added=_named(ids, lists.entries(width=k)), reserve=_reserve(lists, k))


def _updated(
    before: Lists, matrix: Matrix, k: int, width: int, changed: Ids[str], progress: Progress | None
) -> Lists | None:
    """Return the lists of all rows as they are now, made of those of before (`reserves` proves how).

    None where so many changed that computing all of them costs no more.
    """
    ids, rows = matrix.ids, matrix.rows
    least = min(k, len(ids) - 1)
    now = reserves.places_among(before.ids, ids)
    known = np.zeros(len(ids), bool)
    known[now[now != NONE]] = True
    other = np.array([item in changed for item in ids], bool) | ~known
    lists = reserves.carried(before, now, ids, other, width)
    uncertain = int((lists.lengths() < least).sum())
    if uncertain > FULL_SHARE * len(ids):
        return None
    different = np.flatnonzero(other)
    soon = uncertain < 2 * len(different)  # most of the work is with the changed ones
    anew, entrants = neighbors_of(rows, different, width, progress if soon else None, lists.lasts())
    lists.enter(entrants)
    lists.put(different, anew)
    short = np.flatnonzero(lists.lengths() < least)
    lists.put(short, neighbors_of(rows, short, width, None if soon else progress)[0])
    return lists


def _difference(before: Lists, after: Lists, k: int) -> SimilarityChange:
    """Return what makes a table of the first *k* entries of the lists of before one of those of after."""
    now = reserves.places_among(before.ids, after.ids)
    gone = np.flatnonzero(now == NONE)
    names = [*after.ids, *(before.ids[place] for place in gone.tolist())]
    now[gone] = np.arange(len(after.ids), len(names))
    moved = Lists.empty(names, k)
    width = min(k, before.others.shape[1])
    moved.others[now, :width] = np.append(now, np.int32(NONE))[before.others[:, :width]]
    moved.scores[now, :width] = before.scores[:, :width]
    wanted = Lists.empty(names, k)
    wanted.others[: len(after.ids)] = after.others[:, :k]
    wanted.scores[: len(after.ids)] = after.scores[:, :k]
    differs = (moved.others != wanted.others) | (moved.scores != wanted.scores)
    rows = np.flatnonzero(differs.any(axis=1))
    old, new = moved.entries(rows), wanted.entries(rows)
    removed = old.where(~np.isin(_keys(old, names), _keys(new, names)))
    added = new.where(~_among(new, old, names))
    return SimilarityChange(
        removed=[pair[:2] for pair in _named(names, removed)], added=_named(names, added), reserve=_reserve(after, k)
    )


def _keys(found: Neighbors, names: Sequence[str]) -> NDArray[np.int64]:
    """Return one number for each pair."""
    return found.rows * len(names) + found.others


def _among(some: Neighbors, others: Neighbors, names: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which pairs are among others, with the same score."""
    keys, wanted = _keys(others, names), _keys(some, names)
    order = np.argsort(keys)
    place = np.searchsorted(keys, wanted, sorter=order)
    found = np.zeros(len(wanted), bool)
    inside = np.flatnonzero(place < len(keys))
    place = order[place[inside]]
    found[inside] = (keys[place] == wanted[inside]) & (others.scores[place] == some.scores[inside])
    return found


def _reserve(lists: Lists, k: int) -> list[tuple[int, str, bytes, bytes]]:
    """Return the rows that the table `embeddings_reserve` should have: none where nothing is kept in reserve."""
    return list(reserves.to_rows(lists)) if lists.others.shape[1] > k else []


def _named(ids: Sequence[str], found: Neighbors) -> Iterator[tuple[str, str, float]]:
    for row, other, score in zip(found.rows.tolist(), found.others.tolist(), found.scores.tolist(), strict=True):
        yield ids[row], ids[other], score
