"""Solids as signed distances, in millimetres: negative inside, zero on the surface, never more than the way there.

Points are arrays of shape (3, n), float32: x is forward, out of the basin's back towards its user, y is up, z is to the
right of who stands behind the tap. The formulas are the well-known exact distances to boxes, cylinders, cones, segments
and arcs; a smooth union rounds a joint as solder or a casting does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise
from math import hypot
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]  # of float32, as all that is counted here
Vector = tuple[float, float, float]
Axes = tuple[Vector, Vector, Vector]

# A shrinking solid's distance is a little too great; steps are kept this much shorter where widths vary.
TAPERED = 0.9


class Solid(NamedTuple):
    """A distance of points, and the corners of a box that holds the solid."""

    distance: Callable[[Floats], Floats]
    low: Vector
    high: Vector


def floats(values: Sequence[float] | Sequence[Sequence[float]]) -> Floats:
    """Return an array of numbers."""
    return np.array(values, np.float32)


def length(*parts: Floats) -> Floats:
    """Return the length of vectors given by their components."""
    result: Floats = np.sqrt(reduce(np.add, (part * part for part in parts)))
    return result


def ball(centre: Vector, radius: float) -> Solid:
    """Return a ball."""
    x, y, z = centre

    def distance(p: Floats) -> Floats:
        return length(p[0] - x, p[1] - y, p[2] - z) - radius

    return Solid(distance, (x - radius, y - radius, z - radius), (x + radius, y + radius, z + radius))


def box(low: Vector, high: Vector, rounding: float = 1.0) -> Solid:
    """Return a box between two corners, its edges rounded."""
    centre = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
    half = [(b - a) / 2 - rounding for a, b in zip(low, high, strict=True)]

    def distance(p: Floats) -> Floats:
        sides = [np.abs(p[i] - centre[i]) - half[i] for i in range(3)]
        inside = np.minimum(reduce(np.maximum, sides), 0)
        result: Floats = length(*(np.maximum(side, 0) for side in sides)) + inside - rounding
        return result

    return Solid(distance, low, high)


def turned(profile: list[tuple[float, float]], rounding: float = 1.0, x: float = 0, z: float = 0) -> Solid:
    """Return a solid of revolution about the upright at (x, z): from each (height, radius) to the next by a soft curve."""
    widest = max(radius for _, radius in profile)
    pieces = [
        (y0, y1, r0, r1, 1 / hypot(1, 1.5 * (r1 - r0) / (y1 - y0)))
        for (y0, r0), (y1, r1) in pairwise(profile)
        if y1 > y0
    ]

    def distance(p: Floats) -> Floats:
        out, y = length(p[0] - x, p[2] - z), p[1]
        found: Floats = np.full_like(out, np.inf)
        for y0, y1, r0, r1, slope in pieces:
            t = np.clip((y - y0) / (y1 - y0), 0, 1) if r0 != r1 else np.float32(0)
            side = (out - (r0 + (r1 - r0) * t * t * (3 - 2 * t))) * slope + rounding
            end = np.abs(y - (y0 + y1) / 2) - (y1 - y0) / 2 + rounding
            piece = length(np.maximum(side, 0), np.maximum(end, 0)) + np.minimum(np.maximum(side, end), 0) - rounding
            found = np.minimum(found, piece)
        return found

    return Solid(distance, (x - widest, profile[0][0], z - widest), (x + widest, profile[-1][0], z + widest))


def cylinder(y0: float, y1: float, radius: float, rounding: float = 1.0, x: float = 0, z: float = 0) -> Solid:
    """Return an upright cylinder."""
    return turned([(y0, radius), (y1, radius)], rounding, x, z)


def rod(a: Vector, b: Vector, r0: float, r1: float, flatten: float = 1.0) -> Solid:
    """Return a round-ended rod between two points, its radius going from *r0* to *r1*; *flatten* < 1 makes it lower."""
    start, way = floats(a), floats(b) - floats(a)
    squared = sum(float(part) ** 2 for part in way)
    low = np.minimum(a, b) - max(r0, r1)
    high = np.maximum(a, b) + max(r0, r1)

    def distance(p: Floats) -> Floats:
        x, y, z = p[0] - start[0], p[1] - start[1], p[2] - start[2]
        t = np.clip((x * way[0] + y * way[1] + z * way[2]) / squared, 0, 1)
        aside = length(x - t * way[0], (y - t * way[1]) / flatten, z - t * way[2])
        result: Floats = (aside - (r0 + (r1 - r0) * t)) * (TAPERED * flatten)
        return result

    return Solid(distance, vector(low), vector(high))


def fused(solids: list[Solid], radius: float) -> Solid:
    """Return the union of solids, their joints filled to about *radius* (a polynomial smooth minimum)."""

    def both(a: Floats, b: Floats) -> Floats:
        near = np.maximum(radius - np.abs(a - b), 0)
        result: Floats = np.minimum(a, b) - near * near * (0.25 / radius)
        return result

    def distance(p: Floats) -> Floats:
        return reduce(both, (solid.distance(p) for solid in solids))

    return Solid(distance, *hull(solids))


def united(solids: list[Solid]) -> Solid:
    """Return the union of solids, their joints sharp."""
    return Solid(lambda p: reduce(np.minimum, (solid.distance(p) for solid in solids)), *hull(solids))


def without(solid: Solid, hole: Solid, radius: float = 2.0) -> Solid:
    """Return what is left of a solid when a hole is made, the hole's edge rounded."""

    def distance(p: Floats) -> Floats:
        a, b = solid.distance(p), -hole.distance(p)
        near = np.maximum(radius - np.abs(a - b), 0)
        result: Floats = np.maximum(a, b) + near * near * (0.25 / radius)
        return result

    return Solid(distance, solid.low, solid.high)


def placed(solid: Solid, at: Vector, axes: Axes) -> Solid:
    """Return a solid whose own x, y and z point along *axes* (orthonormal) and whose origin is *at*."""
    rotation = floats(axes)
    origin = floats(at)[:, None]
    moved = seen_along(rotation.T, corners(solid)) + origin

    def distance(p: Floats) -> Floats:
        return solid.distance(seen_along(rotation, p - origin))

    return Solid(distance, vector(moved.min(axis=1)), vector(moved.max(axis=1)))


def seen_along(axes: Floats, p: Floats) -> Floats:
    """Return the parts of points or directions along three axes (by hand: BLAS would round as the processor likes)."""
    return np.stack([axis[0] * p[0] + axis[1] * p[1] + axis[2] * p[2] for axis in axes])


def dot(a: Floats, b: Floats) -> Floats:
    """Return the dot products of two arrays of vectors."""
    result: Floats = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return result


def unit(a: Floats) -> Floats:
    """Return vectors made one long."""
    return a / np.maximum(length(a[0], a[1], a[2]), 1e-6)


def distance_from_all(solids: list[Solid], p: Floats, reach: float) -> Floats:
    """Return the distance of points from the nearest solid, or *reach* where none is as near as that."""
    near = np.full(p.shape[1], reach, np.float32)
    for solid in solids:
        out = [
            np.maximum(np.maximum(low - q, q - high), 0) for low, high, q in zip(solid.low, solid.high, p, strict=True)
        ]
        from_box = length(*out)
        close = np.flatnonzero(from_box < near)
        if len(close):
            # Where a distance is stated too short, that from the box keeps it from a jump where the box comes within reach.
            there = np.maximum(solid.distance(p[:, close]), from_box[close])
            near[close] = np.minimum(near[close], there)
    return near


def hull(solids: list[Solid]) -> tuple[Vector, Vector]:
    """Return the corners of the box that holds all solids."""
    low = np.min([solid.low for solid in solids], axis=0)
    high = np.max([solid.high for solid in solids], axis=0)
    return vector(low), vector(high)


def corners(solid: Solid) -> Floats:
    """Return the eight corners of a solid's box, shape (3, 8)."""
    return np.array(np.meshgrid(*zip(solid.low, solid.high, strict=True)), np.float32).reshape(3, 8)


def extent(solids: list[Solid]) -> tuple[Floats, float]:
    """Return the middle of the box that holds all solids, and its diagonal."""
    low, high = (floats(corner) for corner in hull(solids))
    return (low + high) / 2, hypot(*(high - low).tolist())


def vector(a: NDArray[Any]) -> Vector:
    """Return an array of three as a tuple."""
    x, y, z = a.tolist()
    return x, y, z
