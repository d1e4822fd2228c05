"""Pipes bent in the upright plane z = 0: a centre line of straights and arcs, round or flat in section."""

from __future__ import annotations

from functools import reduce
from math import atan2, cos, hypot, pi, radians, sin
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from demo.taps.solids import TAPERED, Floats, Solid, length

if TYPE_CHECKING:
    from collections.abc import Callable


class Straight(NamedTuple):
    """A straight of the centre line from (x0, y0) to (x1, y1)."""

    x0: float
    y0: float
    x1: float
    y1: float

    def squared(self, x: Floats, y: Floats) -> Floats:
        """Return the squared distance of points of the plane."""
        dx, dy = self.x1 - self.x0, self.y1 - self.y0
        px, py = x - self.x0, y - self.y0
        t = np.clip((px * dx + py * dy) / (dx * dx + dy * dy), 0, 1)
        px, py = px - t * dx, py - t * dy
        return px * px + py * py

    def points(self) -> list[tuple[float, float]]:
        """Return points that a box around the straight must hold."""
        return [(self.x0, self.y0), (self.x1, self.y1)]


class Arc(NamedTuple):
    """An arc of the centre line about (x, y), its middle at the angle *middle*, *half* to either side of it."""

    x: float
    y: float
    radius: float
    middle: float
    half: float

    def squared(self, x: Floats, y: Floats) -> Floats:
        """Return the squared distance of points of the plane."""
        c, s = cos(self.middle), sin(self.middle)
        px, py = x - self.x, y - self.y
        along, across = px * c + py * s, np.abs(py * c - px * s)
        ring = length(px, py) - self.radius
        dx, dy = along - self.radius * cos(self.half), across - self.radius * sin(self.half)
        within = across * cos(self.half) <= along * sin(self.half)
        return np.where(within, ring * ring, dx * dx + dy * dy)

    def points(self) -> list[tuple[float, float]]:
        """Return points that a box around the arc must hold."""
        angles = np.linspace(self.middle - self.half, self.middle + self.half, 16).tolist()
        return [(self.x + self.radius * cos(a), self.y + self.radius * sin(a)) for a in angles]


class Line(NamedTuple):
    """A centre line, where it ends, and which way it goes there (radians from x to y)."""

    pieces: tuple[Straight | Arc, ...]
    x: float
    y: float
    heading: float

    def go(self, way: float) -> Line:
        """Return the line gone on straight."""
        x, y = self.x + way * cos(self.heading), self.y + way * sin(self.heading)
        return Line((*self.pieces, Straight(self.x, self.y, x, y)), x, y, self.heading)

    def turn(self, radius: float, angle: float) -> Line:
        """Return the line gone on by an arc; a positive angle (degrees) turns from x to y."""
        side = 1 if angle > 0 else -1
        x, y = self.x - side * radius * sin(self.heading), self.y + side * radius * cos(self.heading)
        start = self.heading - side * pi / 2
        stop = start + radians(angle)
        arc = Arc(x, y, radius, (start + stop) / 2, abs(radians(angle)) / 2)
        return Line((*self.pieces, arc), x + radius * cos(stop), y + radius * sin(stop), self.heading + radians(angle))

    def to(self, x: float, y: float) -> Line:
        """Return the line gone on straight to a point."""
        return Line(self.pieces, self.x, self.y, atan2(y - self.y, x - self.x)).go(hypot(x - self.x, y - self.y))


def begin(x: float, y: float, heading: float) -> Line:
    """Return a line that begins at a point, its heading in degrees: 0 is forward, 90 up."""
    return Line((), x, y, radians(heading))


def pipe(line: Line, radius: float, tip: float | None = None) -> Solid:
    """Return a round pipe, cut straight at its end; its radius goes to *tip* along x."""
    width = taper(line, radius, tip)

    def section(flat: Floats, p: Floats) -> Floats:
        result: Floats = np.sqrt(flat + p[2] * p[2]) - width(p)
        return result

    most = max(radius, tip or 0)
    return bent(line, section, most, most, tip is not None)


def bar(line: Line, half_height: float, half_width: float, rounding: float, tip: float | None = None) -> Solid:
    """Return a pipe of rectangular section, cut straight at its end; its half width goes to *tip* along x."""
    width = taper(line, half_width, tip)

    def section(flat: Floats, p: Floats) -> Floats:
        up, aside = np.sqrt(flat) - half_height + rounding, np.abs(p[2]) - width(p) + rounding
        inside = np.minimum(np.maximum(up, aside), 0)
        result: Floats = length(np.maximum(up, 0), np.maximum(aside, 0)) + inside - rounding
        return result

    return bent(line, section, half_height, max(half_width, tip or 0), tip is not None)


def bent(line: Line, section: Callable[[Floats, Floats], Floats], up: float, aside: float, tapered: bool) -> Solid:
    """Return a pipe whose section is given as a distance of (squared distance to the line in its plane, points)."""
    *first, last = line.pieces
    c, s = cos(line.heading), sin(line.heading)
    xs, ys = zip(*(point for piece in line.pieces for point in piece.points()), strict=True)

    def distance(p: Floats) -> Floats:
        beyond = (p[0] - line.x) * c + (p[1] - line.y) * s
        found = np.maximum(section(last.squared(p[0], p[1]), p), beyond)
        if first:
            flat = reduce(np.minimum, (piece.squared(p[0], p[1]) for piece in first))
            found = np.minimum(found, section(flat, p))
        result: Floats = found * TAPERED if tapered else found
        return result

    return Solid(distance, (min(xs) - up, min(ys) - up, -aside), (max(xs) + up, max(ys) + up, aside))


def taper(line: Line, start: float, tip: float | None) -> Callable[[Floats], Floats | float]:
    """Return the width of a pipe at points, from *start* where the line begins to *tip* at the x where it ends."""
    x0 = line.pieces[0].points()[0][0]
    if tip is None or tip == start or line.x == x0:
        return lambda p: start
    return lambda p: start + (tip - start) * np.clip((p[0] - x0) / (line.x - x0), 0, 1)
