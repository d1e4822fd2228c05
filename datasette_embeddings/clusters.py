"""Groups of a collection's rows that mean about the same: k-means on unit vectors, seeded, and kept from build to build.

A build begins with the clusters that are there, so that a few edits move few rows. So, unlike similarities, clusters depend on what was before;
`clusters` and `build --rebuild` begin anew.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from warnings import catch_warnings, simplefilter

import numpy as np

from datasette_embeddings.catalog import NEXT
from datasette_embeddings.cluster_names import Name, named
from datasette_embeddings.derived import Derived
from datasette_embeddings.errors import MissingExtra
from datasette_embeddings.vectors import FLOAT32, encode, score_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasette_embeddings.derived import Vectors
    from datasette_embeddings.vectors import Vector

    Places = NDArray[np.int64]

SEED = 0

MOST_AUTO = 100
"""Clusters that `auto` makes at most: a list of more is not read."""

SETTLED = 1.5
"""`auto` keeps the number of clusters that there are until it would make this many times as many, or as few."""

SAMPLE_ROWS = 4_096
SAMPLE_A_CLUSTER = 32
"""Rows that first centres are sought among, in all or for each cluster, whichever is more: the rounds that look at all rows are then few."""

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
    kept = 0 if vectors.anew or wanted != vectors.collection.clusters else len(before.numbers)
    number = _number(len(rows), wanted, kept)
    begun = _completed(before.centroids, rows, number) if kept and kept * SETTLED >= number else None
    places = k_means(rows, number, begun)
    return _numbered(vectors, places, before) if before.numbers and not vectors.anew else _by_size(rows, places)


def _number(count: int, wanted: str, kept: int) -> int:
    """Return how many clusters *count* rows get; *kept*: how many there are that may go on, 0 for none.

    auto is the square root of half the rows (Mardia, Kent and Bibby, Multivariate Analysis, 1979, p. 365), MOST_AUTO at most.
    """
    if wanted != "auto":
        return min(int(wanted), count)
    fitting = min(max(1, round(math.sqrt(count / 2))), MOST_AUTO, max(count, 0))
    return kept if kept and kept / SETTLED <= fitting <= kept * SETTLED else fitting


def k_means(rows: Vector, number: int, begun: Vector | None = None) -> Places:
    """Return the cluster of each unit row (n, d), from 0, *number* at most: fewer where fewer rows are different.

    It goes on from the centres *begun* (number, d) where these are given.
    """
    if number <= 1 or len(rows) <= 1:
        return np.zeros(len(rows), np.int64)
    centres = begun if begun is not None and len(begun) == number else _begin(rows, number)
    labels = _fit(rows, number, np.ascontiguousarray(centres)).labels_
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _begin(rows: Vector, number: int) -> Vector:
    """Return centres found in a sample of the rows; k-means++ chooses where these begin."""
    size = max(SAMPLE_ROWS, SAMPLE_A_CLUSTER * number)
    sample = rows
    if len(rows) > size:
        chosen = np.random.default_rng(SEED).choice(len(rows), size, replace=False)
        sample = rows[np.sort(chosen)]
    centres: Vector = _fit(sample, number, "k-means++").cluster_centers_
    return centres


def _fit(rows: Vector, number: int, begun: object) -> Any:  # noqa: ANN401
    """Return scikit-learn's k-means of rows; it does not warn of rows that are too few, or all alike."""
    try:
        from sklearn.cluster import KMeans
    except ImportError:
        raise MissingExtra("making clusters", "clusters") from None
    with catch_warnings():
        simplefilter("ignore")
        return KMeans(number, init=begun, n_init=1, random_state=SEED).fit(rows)


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


def _by_size(rows: Vector, places: Places) -> Clusters:
    """Return clusters numbered from 1, the largest first; of equal ones that whose first row comes first."""
    sizes = np.bincount(places)
    first = np.array([np.argmax(places == place) for place in range(len(sizes))])
    order = np.lexsort((first, -sizes))
    return _clusters(rows, np.argsort(order)[places], list(range(1, len(sizes) + 1)))


def _numbered(vectors: Vectors, places: Places, before: Before) -> Clusters:
    """Return clusters with the numbers of those before whose remaining members they mostly have, others with numbers not given before."""
    from scipy.optimize import linear_sum_assignment

    place_of = {number: place for place, number in enumerate(before.numbers)}
    count = int(places.max(initial=-1)) + 1
    was = np.array([place_of.get(before.members.get(item, 0), -1) for item in vectors.matrix.ids], np.int64)
    shared = np.zeros((len(before.numbers), count), np.int64)
    np.add.at(shared, (was[was >= 0], places[was >= 0]), 1)
    old, new = linear_sum_assignment(shared, maximize=True)
    mostly = 2 * shared[old, new] > shared[old].sum(axis=1)
    numbers = {int(place): before.numbers[was] for was, place in zip(old[mostly], new[mostly], strict=True)}
    free = iter(range(max(before.numbers) + 1, max(before.numbers) + 1 + count))
    given = np.array([numbers[place] if place in numbers else next(free) for place in range(count)], np.int64)
    order = np.argsort(given)
    return _clusters(vectors.matrix.rows, np.argsort(order)[places], given[order].tolist())


def _clusters(rows: Vector, places: Places, numbers: list[int]) -> Clusters:
    """Return the clusters of rows whose places are known: each centroid is the direction of the mean, summed in float64 in the order of the rows.

    Where members cancel out, the first of them stands for all.
    """
    order = np.argsort(places, kind="stable")
    starts = np.searchsorted(places[order], np.arange(len(numbers)))
    sums = (
        np.add.reduceat(rows[order], starts, axis=0, dtype=np.float64) if len(numbers) else np.zeros((0, rows.shape[1]))
    )
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    nowhere = norms[:, 0] < np.finfo(np.float32).eps * np.sqrt(len(rows))
    for place in np.flatnonzero(nowhere):
        sums[place] = rows[np.argmax(places == place)]
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    centroids = (sums / norms).astype(np.float32)
    scores = np.empty(len(rows))
    for start in range(0, len(rows), SCORED_AT_ONCE):
        part = slice(start, start + SCORED_AT_ONCE)
        scores[part] = score_rows(rows[part], centroids[places[part]])
    return Clusters(numbers, centroids, places, scores)


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
