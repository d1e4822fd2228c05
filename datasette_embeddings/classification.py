"""Classification by average location: what is labelled alike lies, on average, somewhere, and a text is of the nearest such place.

Also known as the nearest-centroid rule, or Rocchio's (Manning, Raghavan and Schütze, Introduction to Information Retrieval, 2008,
section 14.2), by cosine similarity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasette_embeddings.catalog import NEXT
from datasette_embeddings.database import table_names
from datasette_embeddings.derived import Derived
from datasette_embeddings.errors import ModelError, SourceError, StoreError
from datasette_embeddings.labelling import column_of, examples_of, hash_of, labels_hash, row_labels
from datasette_embeddings.limits import TILE_ROWS
from datasette_embeddings.neighbors import score_error
from datasette_embeddings.sources import table_source
from datasette_embeddings.vectors import FLOAT32, SCORE_DECIMALS, decode, encode, score_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.derived import Vectors
    from datasette_embeddings.vectors import Vector

    Places = NDArray[np.int64]
    Scores = NDArray[np.float64]
    Prediction = tuple[str, str, float, float | None]

NO_DIRECTION = 1e-6
"""A shorter mean of unit vectors is what rounding leaves of vectors that cancel out."""

SHOWN_LABELS = 6
"""Labels that a build names, the commonest first."""


class Averages(NamedTuple):
    """The labels by name, the plain mean of each one's unit vectors (l, d) float32, and of how many."""

    names: list[str]
    means: Vector
    sizes: list[int]

    @classmethod
    def of(cls, found: Mapping[str, tuple[NDArray[np.float64], int]], dimensions: int) -> Averages:
        """Return the averages of label -> (sum of its vectors, their number); what cancels out lies nowhere and is left out."""
        means = {name: (total / size).astype(FLOAT32) for name, (total, size) in found.items()}
        names = sorted(name for name, mean in means.items() if np.linalg.norm(mean) > NO_DIRECTION)
        rows = np.array([means[name] for name in names], FLOAT32).reshape(len(names), dimensions)
        return cls(names, rows, [found[name][1] for name in names])

    @property
    def units(self) -> Vector:
        """The directions in which they lie, as unit rows (l, d)."""
        rows = self.means.astype(np.float64)
        units: Vector = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(FLOAT32)
        return units

    def rows(self) -> list[tuple[str, bytes, int]]:
        """Return the rows of the table `labels`."""
        return [(name, encode(mean), size) for name, mean, size in zip(*self, strict=True)]


class Members(NamedTuple):
    """Which label each row has itself: its place among the names, -1 for none (n,), and the sums of their vectors (l, d)."""

    own: Places
    sums: NDArray[np.float64]
    sizes: NDArray[np.int64]


def derive(vectors: Vectors, wanted: str) -> Derived:
    """Return the rows of `labels` and `predictions`. Raises ConfigError, ModelError, SourceError or StoreError where there are no labels to be had."""
    column = column_of(wanted)
    if column is None:
        averages, members, known = averages_of_examples(vectors, wanted), None, hash_of(wanted)
    else:
        averages, members, known = averages_of_rows(vectors, column)
    found = predictions(vectors.matrix.ids, vectors.matrix.rows, averages, members)
    _say(vectors, averages, members, found)
    return Derived({"labels": averages.rows(), "predictions": found}, {"labels_hash": known})


def is_behind(vectors: Vectors, wanted: str) -> bool:
    """Tell whether rows have other labels than averages were made from; False where their source cannot be read."""
    collection, source = vectors.collection, table_source(vectors.collection)
    if column_of(wanted) is None or source is None or source.table not in table_names(vectors.conn):
        return False
    return labels_hash(vectors.conn, source, wanted) != collection.labels_hash


def averages_of_rows(vectors: Vectors, column: str) -> tuple[Averages, Members, str]:
    """Return the averages of the rows that have each value of a column, which row has which, and the hash of that."""
    source = table_source(vectors.collection)
    if source is None or source.table not in table_names(vectors.conn):
        raise SourceError(
            f"{vectors.collection.name}: the table whose column {column!r} has the labels is not in this file; build where it is"
        )
    labels, unreadable = row_labels(vectors.conn, source, column)
    if unreadable:
        vectors.say(f"  labels: {unreadable:,} rows hold bytes in {column!r}; they count as rows without a label")
    ids, rows = vectors.matrix.ids, vectors.matrix.rows
    places: dict[str, list[int]] = {}
    for place, item in enumerate(ids):
        if item in labels:
            places.setdefault(labels[item], []).append(place)
    found = {name: (rows[some].sum(axis=0, dtype=np.float64), len(some)) for name, some in places.items()}
    averages = Averages.of(found, rows.shape[1])
    own = np.full(len(ids), -1)
    for number, name in enumerate(averages.names):
        own[places[name]] = number
    sums = np.array([found[name][0] for name in averages.names]).reshape(averages.means.shape)
    return averages, Members(own, sums, np.array(averages.sizes)), hash_of(sorted(labels.items()))


def averages_of_examples(vectors: Vectors, wanted: str) -> Averages:
    """Return the averages of the example texts of each label: those that are stored, where they are of the same examples."""
    collection = vectors.collection
    if (collection.labels, collection.labels_hash) == (wanted, hash_of(wanted)):
        return stored(vectors)
    if vectors.embed is None:
        raise StoreError(f"{collection.name}: the examples of its labels are not embedded yet; run the build first")
    examples = examples_of(wanted)
    texts = [text for some in examples.values() for text in some]
    blobs = iter(vectors.embed(texts))
    found: dict[str, tuple[NDArray[np.float64], int]] = {}
    for name, some in examples.items():
        units = [decode(blob) for blob in (next(blobs) for _ in some) if blob is not None]
        if not units:
            raise ModelError(
                f"{collection.name}: {collection.model} gives no vector for any example of the label {name!r}; give it other texts"
            )
        if len(units) < len(some):
            vectors.say(
                f"  labels: {len(some) - len(units):,} examples of {name!r} have no vector and count for nothing"
            )
        found[name] = np.sum(units, axis=0, dtype=np.float64), len(units)
    return Averages.of(found, len(next(iter(found.values()))[0]))


def stored(vectors: Vectors) -> Averages:
    """Return the averages that the file holds of a collection."""
    sql = f"select label, embedding, size from {vectors.tables.labels} where collection_id = ? order by label"
    rows = vectors.conn.execute(sql, [vectors.collection.id]).fetchall()
    means = np.array([decode(blob) for _, blob, _ in rows], FLOAT32)
    return Averages([name for name, _, _ in rows], means, [size for _, _, size in rows])


def predictions(
    ids: Sequence[str], rows: Vector, averages: Averages, members: Members | None = None
) -> list[Prediction]:
    """Return (id, label, score, margin) of every row: the nearest label, and how much nearer it is than the next.

    A row is not compared with itself: its own label's average is taken without it. The margin is None where there is no second label,
    and a row that there is no label to compare with has no prediction. Of labels at the same score the first by name is taken.
    """
    found: list[Prediction] = []
    if not averages.names:
        return found
    units = averages.units
    for start in range(0, len(rows), TILE_ROWS):
        part = slice(start, start + TILE_ROWS)
        scores = _scores(rows[part], units, members and members._replace(own=members.own[part]))
        every = np.arange(len(scores))
        best = scores.argmax(axis=1)
        top = scores[every, best]
        scores[every, best] = -np.inf
        second = scores.max(axis=1)
        answers = zip(ids[part], best.tolist(), top.tolist(), second.tolist(), strict=True)
        found += [
            (item, averages.names[place], score, None if other == -np.inf else round(score - other, SCORE_DECIMALS))
            for item, place, score, other in answers
            if score != -np.inf
        ]
    return found


def _scores(rows: Vector, units: Vector, members: Members | None) -> Scores:
    """Return the scores (n, l) of rows with labels, exact for the two best of each row; -inf for those that cannot be among them."""
    near = rows @ units.T
    own, alone = _without_themselves(rows, members)
    near[own, alone.labels] = alone.scores
    second = np.partition(near, max(0, len(units) - 2), axis=1)[:, max(0, len(units) - 2)]
    kept = near >= (second - np.float32(2 * score_error(rows.shape[1])))[:, None]
    scores = np.full(near.shape, -np.inf)
    at, labels = np.nonzero(kept)
    scores[at, labels] = score_rows(rows[at], units[labels])
    scores[own, alone.labels] = alone.scores
    return scores


class _Alone(NamedTuple):
    """The labels that rows have themselves, and their scores with the averages of the others that have the same."""

    labels: Places
    scores: Scores


def _without_themselves(rows: Vector, members: Members | None) -> tuple[Places, _Alone]:
    """Return which rows have a label themselves, and how near they are to the others of it; -inf where there are no others."""
    if members is None:
        nothing = np.empty(0, np.int64)
        return nothing, _Alone(nothing, np.empty(0))
    own = np.flatnonzero(members.own >= 0)
    labels = members.own[own]
    others = members.sums[labels] - rows[own]
    count = members.sizes[labels] - 1
    norms = np.linalg.norm(others, axis=1)
    some = norms > NO_DIRECTION * np.maximum(count, 1)
    units = np.divide(others, norms[:, None], where=some[:, None], out=np.zeros_like(others))
    scores = score_rows(rows[own], units.astype(FLOAT32))
    scores[~some | (count == 0)] = -np.inf
    return own, _Alone(labels, scores)


def _say(vectors: Vectors, averages: Averages, members: Members | None, found: Sequence[Prediction]) -> None:
    """Say which labels there are, and of how many rows that have one it is the predicted one."""
    ranked = sorted(zip(averages.sizes, averages.names, strict=True), key=lambda pair: (-pair[0], pair[1]))
    shown = [f"{name} {size:,}" for size, name in ranked[:SHOWN_LABELS]]
    more = [f"{len(ranked) - SHOWN_LABELS:,} more"] if len(ranked) > SHOWN_LABELS else []
    said = f"  labels of {vectors.collection.name.removesuffix(NEXT)}: {', '.join(shown + more) or 'none, as no row has one'}"
    if members is not None and found:
        own = {
            item: averages.names[place]
            for item, place in zip(vectors.matrix.ids, members.own, strict=True)
            if place >= 0
        }
        right = sum(own.get(item) == label for item, label, _, _ in found)
        said += f"; {right / max(1, len(own)):.0%} of the {len(own):,} rows that have one are nearest to the others of theirs"
    vectors.say(said)
