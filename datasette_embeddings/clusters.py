"""Groups of a collection's rows that mean about the same: k-means (`kmeans`), kept from build to build.

A build begins with the clusters that are there, so that a few edits move few rows. So, unlike similarities, clusters depend on what was before;
`clusters` and `build --rebuild` begin anew.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasette_embeddings import kmeans
from datasette_embeddings.catalog import NEXT
from datasette_embeddings.cluster_names import Name, named
from datasette_embeddings.derived import Derived
from datasette_embeddings.vectors import FLOAT32, encode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasette_embeddings.derived import Vectors
    from datasette_embeddings.vectors import Vector

    Places = NDArray[np.int64]

MOST_AUTO = 100
"""Clusters that `auto` makes at most: a list of more is not read."""

SETTLED = 1.5
"""`auto` keeps the number of clusters that there are until it would make this many times as many, or as few."""

SCORED_AT_ONCE = 8_192


class Before(NamedTuple):
    """The clusters that are stored: numbers, unit centroids (k, d), names by number, and the number of each row by id."""

    numbers: list[int]
    centroids: Vector
    names: dict[int, Name]
    members: dict[str, int]


@dataclass(frozen=True)
class Clusters:
    """Clusters by ascending number: unit centroids (k, d) float32; of each row (n,) the place of its cluster and its score to the centroid."""

    numbers: list[int]
    centroids: Vector
    places: Places
    scores: NDArray[np.float64]

    @property
    def sizes(self) -> Places:
        """How many rows each has."""
        return np.bincount(self.places, minlength=len(self.numbers))


def derive(vectors: Vectors, wanted: str) -> Derived:
    """Return the tables of clusters: a build's stage. *wanted*: how many, or auto."""
    before = stored(vectors)
    found = cluster(vectors, wanted, before)
    names = named(vectors, found, before.names)
    centroids = [encode(row) for row in found.centroids]
    central = _central(found, len(found.numbers))
    ids, sizes = vectors.matrix.ids, found.sizes.tolist()
    rows = [
        (
            number,
            name.label,
            size,
            centroid,
            json.dumps(name.terms, ensure_ascii=False),
            ids[item],
            score,
            name.model,
            name.digest,
        )
        for number, name, size, centroid, item, score in zip(
            found.numbers, names, sizes, centroids, central.tolist(), found.scores[central].tolist(), strict=True
        )
    ]
    members = [
        (item, found.numbers[place], score)
        for item, place, score in zip(ids, found.places.tolist(), found.scores.tolist(), strict=True)
    ]
    _say(vectors, wanted, rows)
    return Derived({"clusters": rows, "cluster_members": members})


def stored(vectors: Vectors) -> Before:
    """Return the clusters that the file holds of a collection."""
    conn, tables, cid = vectors.conn, vectors.tables, vectors.collection.id
    sql = f"select cluster, embedding, label, terms, model, label_hash from {tables.clusters} where collection_id = ? order by cluster"
    rows = conn.execute(sql, [cid]).fetchall()
    size = vectors.matrix.rows.shape[1]
    if any(len(row[1]) != 4 * size for row in rows):  # of another model
        rows = []
    centroids = np.array([np.frombuffer(row[1], FLOAT32) for row in rows], np.float32).reshape(len(rows), size)
    names = {row[0]: Name(row[2], json.loads(row[3] or "[]"), row[4], row[5]) for row in rows}
    members = (
        dict(conn.execute(f"select id, cluster from {tables.cluster_members} where collection_id = ?", [cid]))
        if rows
        else {}
    )
    return Before([row[0] for row in rows], centroids, names, members)


def cluster(vectors: Vectors, wanted: str, before: Before) -> Clusters:
    """Return the clusters of a collection's rows, numbered as those before whose members they mostly have; by size where there are none."""
    rows = vectors.matrix.rows
    if not len(rows):
        return Clusters([], np.zeros((0, rows.shape[1]), np.float32), np.zeros(0, np.int64), np.zeros(0))
    kept = 0 if vectors.anew or wanted != vectors.collection.clusters else len(before.numbers)
    number = _number(len(rows), wanted, kept)
    goes_on = kept and kept * SETTLED >= number
    found = kmeans.go_on(rows, _completed(before.centroids, rows, number)) if goes_on else kmeans.cluster(rows, number)
    numbers = _by_size(found) if vectors.anew or not before.numbers else _numbered(vectors, found, before)
    order = np.argsort(numbers)
    places = np.argsort(order)[found.labels]
    return Clusters([numbers[place] for place in order], found.centroids[order], places, found.scores)


def _number(count: int, wanted: str, kept: int) -> int:
    """Return how many clusters *count* rows get; *kept*: how many there are that may go on, 0 for none.

    auto is the square root of half the rows (Mardia, Kent and Bibby, Multivariate Analysis, 1979, p. 365), MOST_AUTO at most.
    """
    if wanted != "auto":
        return min(int(wanted), count)
    fitting = min(max(1, round(math.sqrt(count / 2))), MOST_AUTO, max(count, 0))
    return kept if kept and kept / SETTLED <= fitting <= kept * SETTLED else fitting


def _completed(centroids: Vector, rows: Vector, number: int) -> Vector:
    """Return *number* centres: those there are, and for each that lacks the row that is farthest from all others."""
    centres = centroids[:number]
    nearest = _nearest(rows, centres)
    while len(centres) < number:
        farthest = int(nearest.argmin())
        centres = np.vstack([centres, rows[farthest : farthest + 1]])
        nearest = np.maximum(nearest, rows @ rows[farthest])
    return centres


def _nearest(rows: Vector, centres: Vector) -> Vector:
    """Return the product (n,) of each row with the centre nearest to it."""
    parts = range(0, len(rows), SCORED_AT_ONCE)
    return np.concatenate([(rows[start : start + SCORED_AT_ONCE] @ centres.T).max(axis=1) for start in parts])


def _by_size(found: kmeans.Clustering) -> list[int]:
    """Return the number of each cluster: from 1, the largest first; of equal ones that whose first row comes first."""
    _, first, sizes = np.unique(found.labels, return_index=True, return_counts=True)
    numbers = np.empty(len(sizes), np.int64)
    numbers[np.lexsort((first, -sizes))] = np.arange(1, len(sizes) + 1)
    return [int(number) for number in numbers]


def _numbered(vectors: Vectors, found: kmeans.Clustering, before: Before) -> list[int]:
    """Return the number of each cluster: that of the one before of whose remaining members it has more than half, the most where there are several.

    Others get numbers that were not given before.
    """
    shared: dict[tuple[int, int], int] = {}
    remaining: dict[int, int] = {}
    for item, label in zip(vectors.matrix.ids, found.labels.tolist(), strict=True):
        if (was := before.members.get(item)) is not None:
            shared[was, label] = shared.get((was, label), 0) + 1
            remaining[was] = remaining.get(was, 0) + 1
    numbers: dict[int, int] = {}
    for (was, label), count in sorted(shared.items(), key=lambda pair: (-pair[1], pair[0])):
        if 2 * count > remaining[was]:
            numbers.setdefault(label, was)
    free = itertools.count(max(before.numbers) + 1)
    return [numbers[label] if label in numbers else next(free) for label in range(len(found.centroids))]


def _central(found: Clusters, count: int) -> Places:
    """Return the position of the most central row of each cluster; of equally central ones the first."""
    order = np.lexsort((-found.scores, found.places))
    return order[np.searchsorted(found.places[order], np.arange(count))]


def _say(
    vectors: Vectors, wanted: str, rows: list[tuple[int, str, int, bytes, str, str, float, str | None, str | None]]
) -> None:
    """Say how many clusters there are, and what the largest is."""
    name = vectors.collection.name.removesuffix(NEXT)
    chosen = " (auto)" if wanted == "auto" else ""
    largest = max(rows, key=lambda row: (row[2], -row[0]), default=None)
    said = f", the largest {largest[1]!r} with {largest[2]:,} rows" if largest else ""
    vectors.say(f"  clusters of {name}: {len(rows):,}{chosen}{said}")
