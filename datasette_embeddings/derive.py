"""What is computed from a collection's vectors, as differences to what is stored: the similarities table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datasette_embeddings.catalog import stale_items
from datasette_embeddings.neighbors import (
    Neighbors,
    all_neighbors,
    best_of_each,
    neighbors_of,
    positions_of,
)
from datasette_embeddings.store import SimilarityChange

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection as Ids
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.checkpoints import Checkpoint
    from datasette_embeddings.matrices import Matrix
    from datasette_embeddings.neighbors import Progress
    from datasette_embeddings.tables import Tables
    from datasette_embeddings.vectors import Vector

FULL_SHARE = 0.5
"""Where more than this share of the rows must be computed anew, computing all of them, symmetrically, costs no more."""


def similarity_change(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    k: int,
    matrix: Matrix,
    progress: Progress | None = None,
    changed: Ids[str] = frozenset(),
    checkpoint: Checkpoint | None = None,
) -> SimilarityChange:
    """Return what makes the stored similarities those of the vectors in *matrix*, exactly.

    *changed*: rows whose vector changed as chunks of theirs go, beside those that the file says. *checkpoint*: where progress of all is saved.
    """
    if k == 0:
        return SimilarityChange(everything=True)
    ids, rows = matrix.ids, matrix.rows
    if collection.similarities != k:
        return SimilarityChange(everything=True, added=_named(ids, all_neighbors(rows, k, progress, checkpoint)))
    known = stale_items(conn, tables, collection) | set(changed)
    return _Update(conn, tables, collection, ids, rows, k, known).change(progress)


def _named(ids: Sequence[str], found: Neighbors) -> Iterator[tuple[str, str, float]]:
    for row, other, score in zip(found.rows.tolist(), found.others.tolist(), found.scores.tolist(), strict=True):
        yield ids[row], ids[other], score


class _Update:
    """The change of stored similarities after some vectors changed."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        tables: Tables,
        collection: Collection,
        ids: list[str],
        matrix: Vector,
        k: int,
        changed: Ids[str],
    ) -> None:
        self.ids, self.matrix = ids, matrix
        self.k = min(k, max(len(ids) - 1, 0))
        place = {item: position for position, item in enumerate(ids)}
        self.stored = conn.execute(
            f"select id, other_id, score from {tables.similarities} where collection_id = ?", [collection.id]
        ).fetchall()
        self.rows = np.array([place.get(row[0], -1) for row in self.stored], dtype=np.int64)
        self.others = np.array([place.get(row[1], -1) for row in self.stored], dtype=np.int64)
        self.scores = np.array([row[2] for row in self.stored], dtype=np.float64)
        self.changed = positions_of(ids, changed)
        self.affected = self._affected()

    def _affected(self) -> NDArray[np.bool_]:
        """Tell which rows may have lost a neighbour: changed ones, and those that list a changed or missing one."""
        affected = np.zeros(len(self.ids), bool)
        affected[self.changed] = True
        changed = np.append(affected, True)
        here = self.rows >= 0
        affected[self.rows[here & changed[self.others]]] = True
        counts = np.bincount(self.rows[here & (self.others >= 0)], minlength=len(self.ids))
        found: NDArray[np.bool_] = affected | (counts != self.k)
        return found

    def change(self, progress: Progress | None) -> SimilarityChange:
        """Return the difference between what is stored and what a computation from scratch would give."""
        if self.affected.sum() > FULL_SHARE * len(self.ids):
            return SimilarityChange(
                everything=True, added=_named(self.ids, all_neighbors(self.matrix, self.k, progress))
            )
        kept = (self.rows >= 0) & ~np.append(self.affected, True)[self.rows]
        floors = np.full(len(self.ids), np.inf)
        np.minimum.at(floors, self.rows[kept], self.scores[kept])
        anew, near = neighbors_of(self.matrix, np.flatnonzero(self.affected), self.k, progress, floors)
        challenged, merged = self._merged(kept, near)
        touched = np.append(self.affected | challenged, True)
        old = {self.stored[n] for n in np.flatnonzero(touched[self.rows])}
        new = {*_named(self.ids, anew), *_named(self.ids, merged)}
        return SimilarityChange(removed=[row[:2] for row in old - new], added=sorted(new - old))

    def _merged(self, kept: NDArray[np.bool_], near: Neighbors) -> tuple[NDArray[np.bool_], Neighbors]:
        """Return which unaffected rows a changed row may have entered, and their neighbours then.

        *kept*: what is stored of unaffected rows; *near*: what reaches their last.
        """
        is_changed = np.zeros(len(self.ids), bool)
        is_changed[self.changed] = True
        found = near.where(is_changed[near.others])
        challenged = np.zeros(len(self.ids), bool)
        challenged[found.rows] = True
        before = kept & np.append(challenged, False)[self.rows]
        rows = np.concatenate([self.rows[before], found.rows])
        others = np.concatenate([self.others[before], found.others])
        scores = np.concatenate([self.scores[before], found.scores])
        return challenged, Neighbors(*best_of_each(rows, others, scores, self.k))
