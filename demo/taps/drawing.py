"""A picture of solids: rays are walked to the surface by its signed distance, then shaded.

Each part is found by itself, only where its box is seen: first on a coarse grid, whose rays stop where a cone as wide
as a cell would touch the part, then for every point of the picture from there on.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from math import cos, hypot, radians, sin
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from demo.taps.finishes import Part
from demo.taps.light import shade, step
from demo.taps.solids import Floats, Solid, corners, distance_from_all, dot, extent, floats, seen_along, unit

SIZE = 480  # pixels of a side
WIDTH = 720  # points of a side before the picture is made smaller, which smooths edges
CELL = 12  # points of a coarse cell's side
SHADOW = 8  # points of a side for which the shadow on the ground is found once
NEAR = 0.2  # millimetres: closer than that is on the surface
FAR = 6.0  # the camera's distance in sizes of the tap: a long lens, as in catalogues
MARGIN = 0.11  # what is left free at each side, of the tap's size in the picture
BRIGHTEST = 2.0  # light that is white whatever it is
QUALITY = 82  # WebP's


class View(NamedTuple):
    """From where a tap is seen, in degrees, and what is behind it."""

    around: float
    above: float
    wall: bool = False
    warmth: float = 0.0  # of the background, from -1 to 1
    bright: float = 0.9  # the background's


class Camera(NamedTuple):
    """Where the camera is and what it sees: axes are to the right, up and towards the camera."""

    eye: Floats
    axes: Floats
    scale: float  # the picture's width at distance 1
    shift: tuple[float, float]  # its middle there

    def rays(self, x: Floats, y: Floats) -> Floats:
        """Return unit directions through points of the picture, shape (3, n)."""
        u = (x / WIDTH - 0.5) * self.scale + self.shift[0]
        v = (0.5 - y / WIDTH) * self.scale + self.shift[1]
        right, up, back = self.axes
        return unit(np.stack([right[i] * u + up[i] * v - back[i] for i in range(3)]).astype(np.float32))

    def seen(self, points: Floats) -> Floats:
        """Return where points, shape (3, n), are in the picture at distance 1, shape (2, n)."""
        right, up, back = seen_along(self.axes, points - self.eye[:, None])
        return np.stack([right / -back, up / -back])

    def window(self, solid: Solid) -> tuple[int, int, int, int]:
        """Return the columns and rows (from, to, from, to) in which a solid's box is seen."""
        u, v = self.seen(corners(solid))
        x = ((u - self.shift[0]) / self.scale + 0.5) * WIDTH
        y = (0.5 - (v - self.shift[1]) / self.scale) * WIDTH
        x0, x1, y0, y1 = (int(np.clip(a, 0, WIDTH)) for a in (x.min(), x.max() + 1, y.min(), y.max() + 1))
        return x0, x1, y0, y1


def look(solids: list[Solid], view: View) -> Camera:
    """Return a camera that has all solids in the picture."""
    middle, size = extent(solids)
    a, e = radians(view.around), radians(view.above)
    axes = floats(
        [
            (sin(a), 0, -cos(a)),
            (-sin(e) * cos(a), cos(e), -sin(e) * sin(a)),
            (cos(e) * cos(a), sin(e), cos(e) * sin(a)),
        ]
    )
    eye = (middle + axes[2] * np.float32(FAR * size)).astype(np.float32)
    u, v = np.concatenate([Camera(eye, axes, 1, (0, 0)).seen(corners(solid)) for solid in solids], axis=1)
    side = max(float(np.ptp(u)), float(np.ptp(v))) * (1 + 2 * MARGIN)
    return Camera(eye, axes, side, (float(u.max() + u.min()) / 2, float(v.max() + v.min()) / 2))


def picture(parts: list[Part], view: View) -> NDArray[np.uint8]:
    """Return a picture of parts, shape (WIDTH, WIDTH, 3)."""
    solids = [part.solid for part in parts]
    camera = look(solids, view)
    far = np.full((WIDTH, WIDTH), np.inf, np.float32)
    which = np.full((WIDTH, WIDTH), -1, np.int16)
    for number, solid in enumerate(solids):
        x0, x1, y0, y1 = camera.window(solid)
        if x0 < x1 and y0 < y1:
            found = depth(solid, camera, (x0, x1, y0, y1))
            nearer = found < far[y0:y1, x0:x1]
            far[y0:y1, x0:x1][nearer] = found[nearer]
            which[y0:y1, x0:x1][nearer] = number
    image = background(view) * shadow(solids, view, camera)[:, :, None]
    points = image.reshape(-1, 3)
    for number, part in enumerate(parts):
        here = np.flatnonzero(which == number)
        if len(here):
            points[here] = colours(part, solids, view, camera, here, far.reshape(-1)[here]).T
    return developed(image)


# What is where


def depth(solid: Solid, camera: Camera, window: tuple[int, int, int, int]) -> Floats:
    """Return how far a solid is at each point of a window of the picture, infinity where it is not."""
    x0, x1, y0, y1 = window
    across, down = -(-(x1 - x0) // CELL), -(-(y1 - y0) // CELL)
    rows, columns = np.mgrid[0:down, 0:across].reshape(2, -1).astype(np.float32)
    d = camera.rays(x0 + (columns + 0.5) * CELL, y0 + (rows + 0.5) * CELL)
    middle, size = extent([solid])
    away = hypot(*(middle - camera.eye).tolist())
    cone = 0.75 * CELL * camera.scale / WIDTH
    start = np.full(d.shape[1], away - size / 2, np.float32)
    start = walk(solid, camera.eye, d, start, away + size / 2, cone)
    start = start.reshape(down, across).repeat(CELL, 0).repeat(CELL, 1)[: y1 - y0, : x1 - x0]
    here = np.flatnonzero(np.isfinite(start))
    y, x = np.divmod(here, x1 - x0)
    d = camera.rays(x0 + x + np.float32(0.5), y0 + y + np.float32(0.5))
    found = np.full(start.size, np.inf, np.float32)
    found[here] = walk(solid, camera.eye, d, start.reshape(-1)[here], away + size / 2)
    return found.reshape(start.shape)


def walk(solid: Solid, eye: Floats, d: Floats, start: Floats, stop: float, cone: float = 0, steps: int = 48) -> Floats:
    """Return how far rays go until they are on the solid, or until a cone about them touches it; infinity: they miss."""
    far = np.full(len(start), np.inf, np.float32)
    alive, t = np.arange(len(start)), start
    for _ in range(steps):
        near = solid.distance(eye[:, None] + d * t)
        hit = near < (np.maximum(cone * t, NEAR) if cone else NEAR)
        far[alive[hit]] = t[hit]
        t = t + near
        on = np.flatnonzero(~hit & (t < stop))
        if not len(on):
            break
        alive, t, d = alive[on], t[on], d[:, on]
    else:
        if cone:  # a cell that is not done with may hold the solid
            far[alive] = t
    return far


def normals(solid: Solid, p: Floats) -> Floats:
    """Return the unit normals of a solid's surface at points (the gradient by the corners of a tetrahedron)."""
    n = np.zeros_like(p)
    for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        sides = floats(corner)[:, None]
        n += sides * solid.distance(p + sides * np.float32(0.3))
    return unit(n)


# What light is there


def colours(
    part: Part, solids: list[Solid], view: View, camera: Camera, here: NDArray[np.int64], far: Floats
) -> Floats:
    """Return the colours of a part at points of the picture, counted row by row, that are so *far*; shape (3, n)."""
    y, x = np.divmod(here, WIDTH)
    d = camera.rays(x + np.float32(0.5), y + np.float32(0.5))
    p = camera.eye[:, None] + d * far
    n = normals(part.solid, p)
    _, size = extent(solids)
    ground = 0 if view.wall else 1
    # How much room there is changes slowly: every second point is enough.
    some, turn = slice(None, None, 2), d[:, ::2] - 2 * dot(d[:, ::2], n[:, ::2]) * n[:, ::2]
    open_ = room(solids, p[:, some], n[:, some], 0.10 * size, ground).repeat(2)[: len(here)]
    clear = room(solids, p[:, some] + n[:, some], turn, 0.25 * size, ground).repeat(2)[: len(here)]
    lines = (np.sin(p[1] * 5.1) + np.sin(p[1] * 11.7 + 1.3) + np.sin(p[1] * 3.3 + 0.2 * p[0])) / 3
    return shade(part.finish, seen_along(camera.axes, n), seen_along(camera.axes, -d), open_, clear, lines)


def room(solids: list[Solid], p: Floats, way: Floats, reach: float, ground: int) -> Floats:
    """Return how free the way from points is, from 0 to 1: how near things are there against how far one has gone."""
    free = np.ones(p.shape[1], np.float32)
    for part in (0.12, 0.4, 1.0):
        q = p + way * np.float32(part * reach)
        near = np.minimum(distance_from_all(solids, q, part * reach), np.abs(q[ground]))
        free *= 1 - np.float32(0.55) * np.clip(1 - near / (part * reach), 0, 1)
    return free


def background(view: View) -> Floats:
    """Return the empty studio, shape (WIDTH, WIDTH, 3)."""
    v = np.linspace(0, 1, WIDTH, dtype=np.float32)[:, None]
    fall = view.bright * (1 - 0.05 * v if view.wall else 0.96 + 0.05 * step(0.1, 0.8, v)) + np.zeros(
        (1, WIDTH), np.float32
    )
    return fall[:, :, None] * floats([1 + 0.018 * view.warmth, 1, 1 - 0.022 * view.warmth])


def shadow(solids: list[Solid], view: View, camera: Camera) -> Floats:
    """Return how light the table or the wall is at points of the picture, from 0 to 1."""
    count = WIDTH // SHADOW
    y, x = np.mgrid[0:count, 0:count].reshape(2, -1).astype(np.float32)
    d = camera.rays((x + 0.5) * SHADOW, (y + 0.5) * SHADOW)
    _, size = extent(solids)
    axis = 0 if view.wall else 1
    far = np.divide(-camera.eye[axis], d[axis], out=np.full(len(x), np.inf, np.float32), where=d[axis] < 0)
    here = np.flatnonzero(far < 2 * FAR * size)
    p = camera.eye[:, None] + d[:, here] * far[here]
    light = np.ones(count * count, np.float32)
    light[here] -= darkness(solids, p, axis, size)
    return enlarged(light.reshape(count, count), SHADOW)


def darkness(solids: list[Solid], p: Floats, axis: int, size: float) -> Floats:
    """Return how dark the ground is at points, from 0 to 1: by what stands close, and by what hides the lamp."""
    up = np.zeros((3, 1), np.float32)
    up[axis] = 1
    lamp = unit(floats([[1.0], [1.15], [0.55]] if axis == 0 else [[-0.35], [1.0], [0.55]]))
    dark = np.zeros(p.shape[1], np.float32)
    for share, weight in ((0.03, 0.30), (0.09, 0.20), (0.22, 0.16)):
        reach = share * size
        near = distance_from_all(solids, p + up * np.float32(reach), reach)
        dark += weight * np.clip(1 - near / reach, 0, 1)
    seen = np.ones(p.shape[1], np.float32)
    for share in (0.04, 0.09, 0.16, 0.25, 0.36, 0.5, 0.66, 0.84):
        way = share * size
        spread = 0.30 * way
        near = distance_from_all(solids, p + lamp * np.float32(way), spread)
        seen = np.minimum(seen, np.clip(0.5 + 0.5 * near / spread, 0, 1))
    return np.clip(dark + (0.16 if axis == 0 else 0.30) * (1 - seen), 0, 0.9)


def enlarged(a: Floats, by: int) -> Floats:
    """Return an image made *by* times as large, linearly between its points."""
    for axis in (0, 1):
        count = a.shape[axis]
        at = (np.arange(count * by, dtype=np.float32) + np.float32(0.5)) / by - np.float32(0.5)
        below = np.clip(np.floor(at).astype(int), 0, count - 1)
        share = np.clip(at - below, 0, 1).reshape((-1, 1) if axis == 0 else (1, -1))
        a = np.take(a, below, axis) * (1 - share) + np.take(a, np.minimum(below + 1, count - 1), axis) * share
    return a


# The picture


@cache
def film() -> NDArray[np.uint8]:
    """Return what linear light from 0 to BRIGHTEST, in equal steps, is in sRGB."""
    light = np.linspace(0, BRIGHTEST, 1 << 14)
    # What is nearly as bright as paper, or brighter, goes there softly.
    soft = np.where(light > 0.75, 0.75 + 0.25 * (1 - np.exp((0.75 - light) / 0.25)), light)
    return (255 * soft ** (1 / 2.2) + 0.5).astype(np.uint8)


def developed(image: Floats) -> NDArray[np.uint8]:
    """Return linear light as sRGB."""
    table = film()
    return table[(image.clip(0, BRIGHTEST) * np.float32((len(table) - 1) / BRIGHTEST)).astype(np.uint16)]


def webp(pixels: NDArray[np.uint8]) -> bytes:
    """Return a picture as WebP of SIZE pixels a side."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.HAMMING).save(file, "WEBP", quality=QUALITY)
    return file.getvalue()
