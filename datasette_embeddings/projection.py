"""A map of a collection: two coordinates of every row, near each other where their meaning is.

A map stays as it is while rows come and go: those that were there keep their coordinates, new ones are placed among them. It is drawn anew once
it has twice as many rows as it was made from, or half as many. So, unlike similarities, it depends on what was there before.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple
from warnings import catch_warnings, simplefilter

import numpy as np

from datasette_embeddings.components import principal
from datasette_embeddings.derived import Derived
from datasette_embeddings.errors import MissingExtra
from datasette_embeddings.neighbors import all_neighbors
from datasette_embeddings.vectors import FLOAT32, encode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasette_embeddings.derived import Vectors
    from datasette_embeddings.vectors import Vector

    Points = NDArray[np.float64]
    Map = tuple[str, bytes | None, bytes | None, str | None, int]

DECIMALS = 6

GROWN = 2
"""A map is drawn anew when it has this many times the rows that it was made from, or a share of one in as many."""

MAP_NEIGHBORS = 15
"""Nearest rows that UMAP keeps near: its own default."""

PLACED_BY = 5
"""Nearest rows on a UMAP map between which a new row is placed."""

PLACED_AT_ONCE = 256
"""New rows that are compared with all others at once: 200 MB beside 200,000."""

SEED = 0


class Projection(NamedTuple):
    """A map: (x, y) float64 of every row (n, 2), in the order of the matrix, and what it was made of."""

    points: Points
    made: Map


def project(vectors: Vectors, method: str) -> Projection:
    """Return the map of a collection's rows by *method*, pca or umap; the one that is stored, where that goes on."""
    stored = None if vectors.anew else _stored(vectors, method)
    count = len(vectors.matrix.ids)
    if stored is None or not count / GROWN < stored[4] < count * GROWN:
        return (_umap if method == "umap" else _pca)(vectors.matrix.rows, stored)
    place = _among_neighbors if method == "umap" else _on_axes
    return Projection(place(vectors, stored), stored)


def _stored(vectors: Vectors, method: str) -> Map | None:
    """Return what the stored map was made of; None where there is none by that method and of those dimensions."""
    sql = f"select method, mean, basis, explained, items from {vectors.tables.embeddings_projections} where collection_id = ?"
    found = vectors.conn.execute(sql, [vectors.collection.id]).fetchone()
    size = vectors.matrix.rows.shape[1]
    if found is None or found[0] != method or (found[1] is not None and len(found[1]) != 4 * size):
        return None
    return tuple(found)


def draw(rows: Vector) -> Points:
    """Return coordinates (n, 2) of unit rows (n, d) along their two principal components, the largest number of each component positive."""
    return _pca(rows, None).points


def _pca(rows: Vector, before: Map | None) -> Projection:
    """Return the map by the two principal components, each with the sign that makes it most like the one before."""
    if not len(rows):
        return Projection(np.zeros((0, 2)), ("pca", None, None, None, 0))
    mean, basis, shares = principal(rows, 2)
    old = np.frombuffer(before[2], FLOAT32).reshape(2, -1) if before and before[2] else None
    along = basis[[0, 1], np.abs(basis).argmax(axis=1)] if old is None else np.vecdot(basis, old)
    basis = np.where(along[:, None] < 0, -basis, basis) + np.float32(0)
    explained = json.dumps([round(float(share), DECIMALS) for share in shares])
    made = ("pca", encode(mean), basis.astype(FLOAT32).tobytes(), explained, len(rows))
    return Projection(_coordinates(rows, mean, basis), made)


def _on_axes(vectors: Vectors, stored: Map) -> Points:
    """Return the coordinates of rows along stored axes."""
    assert stored[1] is not None
    assert stored[2] is not None
    return _coordinates(
        vectors.matrix.rows, np.frombuffer(stored[1], FLOAT32), np.frombuffer(stored[2], FLOAT32).reshape(2, -1)
    )


def _coordinates(rows: Vector, mean: Vector, basis: Vector) -> Points:
    """Return coordinates (n, 2), those of a row by itself, so that it does not matter which others there are."""
    return np.stack([np.vecdot(rows, axis) - np.vecdot(mean, axis) for axis in basis], axis=1).astype(np.float64)


def _umap(rows: Vector, before: Map | None) -> Projection:
    """Return the map by UMAP of each row's exact nearest rows, begun from that of principal components, which turns it the same way."""
    try:
        from umap import UMAP
    except ImportError:
        raise MissingExtra("a map by UMAP", "umap") from None
    made = ("umap", None, None, None, len(rows))
    begun = draw(rows)
    if len(rows) <= MAP_NEIGHBORS + 1:  # too few to have other rows than neighbours
        return Projection(begun, made)
    found = all_neighbors(rows, MAP_NEIGHBORS - 1)
    shape = (len(rows), MAP_NEIGHBORS - 1)
    itself = np.arange(len(rows))[:, None]
    others = np.hstack([itself, found.others.reshape(shape)])
    apart = np.hstack([np.zeros((len(rows), 1)), 1 - found.scores.reshape(shape)]).astype(np.float32)
    model = UMAP(
        n_neighbors=MAP_NEIGHBORS,
        metric="cosine",
        init=_spread(begun),
        random_state=SEED,
        n_jobs=1,
        precomputed_knn=(others, apart, None),
    )
    with catch_warnings():
        simplefilter("ignore")  # that it could place no new rows: we do
        return Projection(np.asarray(model.fit_transform(rows), np.float64), made)


def _spread(points: Points) -> NDArray[np.float32]:
    """Return points moved and scaled into the square in which UMAP begins, those at the same place a little apart."""
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = 10 * (points - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
    apart = np.random.default_rng(SEED).normal(scale=1e-3, size=points.shape)
    return np.asarray(scaled + apart, np.float32)


def _among_neighbors(vectors: Vectors, _: Map) -> Points:
    """Return the coordinates of rows that are on the stored map, of others the mean of those of the nearest rows that are."""
    sql = f"select id, x, y from {vectors.tables.projections} where collection_id = ?"
    known = {item: point for item, *point in vectors.conn.execute(sql, [vectors.collection.id])}
    ids, rows = vectors.matrix.ids, vectors.matrix.rows
    points = np.array([known.get(item, (np.nan, np.nan)) for item in ids], np.float64).reshape(-1, 2)
    placed = np.flatnonzero(~np.isnan(points[:, 0]))
    there, number = rows[placed], min(PLACED_BY, len(placed))
    new = np.flatnonzero(np.isnan(points[:, 0]))
    for some in np.array_split(new, -(-len(new) // PLACED_AT_ONCE) or 1):
        nearest = np.argpartition(rows[some] @ there.T, -number, axis=1)[:, -number:]
        points[some] = points[placed[nearest]].mean(axis=1)
    return points


def derive(vectors: Vectors, method: str) -> Derived:
    """Return the tables of a map: a build's stage."""
    found = project(vectors, method)
    points = [
        (item, *point)
        for item, point in zip(vectors.matrix.ids, np.round(found.points, DECIMALS).tolist(), strict=True)
    ]
    return Derived({"projections": points, "embeddings_projections": [found.made]})
