"""The parts of taps: spouts by their shape, bodies, handles, and how they stand on a basin or on a wall.

A spout is made where it leaves its mount: (0, 0) is the middle of its foot, on the table (upwards) or on the wall
(forwards). Handles are made upright about their own axis, and placed.
"""

from __future__ import annotations

from math import cos, degrees, radians, sin
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from demo.taps.finishes import BY_NAME, COLD, HOT, NOZZLE, PORCELAIN, Finish, Part
from demo.taps.pipes import Line, bar, begin, pipe
from demo.taps.solids import (
    Axes,
    Floats,
    Solid,
    Vector,
    ball,
    box,
    cylinder,
    fused,
    placed,
    rod,
    turned,
    united,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

PAIRS = ("two levers", "two crosses", "two knobs")
SINGLES = ("top lever", "side lever")

# The handles that go with a shape of spout, and whether it is also made for walls.
SHAPES: dict[str, tuple[tuple[str, ...], bool]] = {
    "swan neck": (("side lever", *PAIRS, "sensor"), True),
    "arc": ((*SINGLES, *PAIRS, "sensor"), True),
    "straight": ((*SINGLES, *PAIRS, "sensor"), True),
    "square": ((*SINGLES, "two levers", "two knobs", "sensor"), True),
    "angled": (("side lever", *PAIRS), True),
    "waterfall": (("top lever", *PAIRS), True),
    "column": ((*SINGLES, "sensor"), False),
    "bridge": (PAIRS, False),
    "pull-out": (SINGLES, False),
    "ogee": (PAIRS, False),
}

FROM_WALL: Axes = ((0, 0, 1), (1, 0, 0), (0, 1, 0))  # its own y goes forward, x aside, z up
TO_SIDE: Axes = ((1, 0, 0), (0, 0, 1), (0, -1, 0))  # its own y goes to the right


class Design(NamedTuple):
    """What is chosen of a tap; all else is drawn by chance."""

    shape: str
    handles: str
    mount: str
    finish: str
    second: str | None  # the handles' finish, where it is another


class Tap(NamedTuple):
    """A tap's parts and its measures in millimetres."""

    parts: list[Part]
    height: int
    reach: int


class Spout(NamedTuple):
    """A spout with its body, in the tap's finish, and where a handle can be fixed to it."""

    solids: list[Solid]
    dark: list[Solid]  # what is never of the tap's finish: the nozzle
    outlet: float  # how far forward the water falls
    top: float = 0  # the height of the body, and its radius
    radius: float = 0
    square: bool = False
    side: float = 0  # the height of a lever at the side


def tap(design: Design, chance: Random) -> Tap:
    """Return a tap of a design; what the design leaves open is drawn."""
    wall = design.mount == "wall"
    spout = WALL[design.shape](chance) if wall else DECK[design.shape](chance, design.handles)
    main = BY_NAME[design.finish]
    second = BY_NAME[design.second or design.finish]
    parts = [Part(solid, main) for solid in spout.solids] + [Part(solid, NOZZLE) for solid in spout.dark]
    if design.handles in PAIRS:
        parts += pair(design, chance, main, second)
    elif design.handles == "top lever":
        parts += on_top(spout, chance, second)
    elif design.handles == "side lever":
        parts += beside(spout, chance, main, second) if not wall else single(chance, main, second)
    else:
        parts.append(sensor(spout, wall))
    low = min(part.solid.low[1] for part in parts) if wall else 0
    height = max(part.solid.high[1] for part in parts) - low
    return Tap(parts, round(height), round(spout.outlet))


# Spouts that stand on a basin


def flange(chance: Random, radius: float, square: bool = False) -> Solid:
    """Return the foot of a body."""
    out, high = radius + chance.uniform(2, 7), chance.uniform(3, 8)
    if square:
        return box((-out, 0, -out), (out, high, out), 1.2)
    if chance.random() < 0.4:
        return turned([(0, out), (high / 2, out), (high * 2.2, radius)], 0.8)
    return cylinder(0, high, out, min(high / 2.2, 2.5))


def nozzle(line: Line, radius: float) -> tuple[Solid, Solid]:
    """Return the collar at a pipe's end and the dark sieve in it."""
    x, y, heading = line.x, line.y, degrees(line.heading)
    c, s = cos(line.heading), sin(line.heading)
    collar = pipe(begin(x - 11 * c, y - 11 * s, heading).go(12.5), radius + 1.3)
    return collar, pipe(begin(x, y, heading).go(2.2), radius - 1.8)


def under(x: float, y: float, radius: float) -> tuple[Solid, Solid]:
    """Return a nozzle below a level spout at (x, y)."""
    return cylinder(y - 7, y + 2, radius, 1, x), cylinder(y - 8.5, y - 6, radius - 1.8, 0.5, x)


def swan(chance: Random, handles: str) -> Spout:
    """A tall spout that bends over in a half circle."""
    paired = handles in PAIRS
    r, bend = chance.uniform(8, 13.5), chance.uniform(42, 76)
    body, high = (chance.uniform(18, 40), r + 4) if paired else (chance.uniform(55, 95), chance.uniform(19, 25))
    line = begin(0, body - 10, 90).go(chance.uniform(70, 190)).turn(bend, -chance.uniform(165, 190))
    line = line.go(chance.uniform(14, 46))
    foot = turned([(2, high), (body - 12, high), (body, r + 2)], 2)
    ring = [cylinder(body, body + 5, r + 3, 2)] if chance.random() < 0.4 else []
    collar, dark = nozzle(line, r)
    solid = united([fused([pipe(line, r), foot], 5), flange(chance, high), *ring])
    return Spout([solid, collar], [dark], line.x, body, high, side=body * 0.52)


def arc(chance: Random, handles: str) -> Spout:
    """A spout that leaves the body in a low bow."""
    r, tip = chance.uniform(13, 17), chance.uniform(10.5, 13)
    body, high = chance.uniform(78, 130), chance.uniform(20, 26)
    tilt, bend = chance.uniform(25, 52), chance.uniform(55, 95)
    line = begin(0, body * chance.uniform(0.42, 0.62), tilt).go(chance.uniform(26, 42))
    line = line.turn(bend, -(tilt + chance.uniform(42, 78)))
    if handles in PAIRS:
        high, body = high * 0.85, body * 0.8
    crown = [(2, high), (body * 0.7, high * chance.uniform(0.86, 1)), (body, high * chance.uniform(0.8, 1))]
    top = [] if handles == "top lever" else [ball((0, body - 3, 0), crown[-1][1] * 0.99)]
    collar, dark = nozzle(line, tip)
    solid = united([fused([pipe(line, r, tip), turned(crown, 3), *top], 12), flange(chance, high)])
    return Spout([solid, collar], [dark], line.x, body, crown[-1][1], side=body * 0.6)


def straight(chance: Random, handles: str) -> Spout:
    """A straight spout, level or rising a little."""
    r, high, body = chance.uniform(10, 14.5), chance.uniform(20, 26), chance.uniform(70, 135)
    rise, way = chance.uniform(0, 24), chance.uniform(105, 165)
    up = body - r - chance.uniform(8, 20) if handles == "top lever" else body - r - 6
    line = begin(0, up - 10, rise).go(way)
    collar, dark = under(line.x - r * 0.9 - 4, line.y - r * 0.75, r * 0.72)
    solid = united([fused([pipe(line, r), cylinder(2, body, high, 2.5)], 4), flange(chance, high)])
    return Spout([solid, collar], [dark], line.x - r, body, high, side=body * 0.4)


def square(chance: Random, handles: str) -> Spout:
    """A square column with a level spout of square section."""
    w, thick, body = chance.uniform(18, 24), chance.uniform(8, 15), chance.uniform(95, 180)
    reach, wide = chance.uniform(105, 160), chance.uniform(0.75, 1)
    top = body if chance.random() < 0.6 else body * chance.uniform(0.72, 0.9)
    edge = chance.uniform(1, 4)
    column = box((-w, 2, -w), (w, body, w), edge)
    arm = box((-w * 0.9, top - 2 * thick, -w * wide), (reach, top, w * wide), edge * 0.8)
    if handles != "top lever" and chance.random() < 0.3:
        rise = begin(0, top - 1.4 * thick, 90).turn(1.2 * thick, -90).go(reach - 1.2 * thick)
        arm = bar(rise, thick, w * wide, edge)
        top = rise.y + thick
    collar = box((reach - 30, top - 2 * thick - 4, -11), (reach - 8, top - 2 * thick + 3, 11), 1)
    dark = box((reach - 28, top - 2 * thick - 5, -9), (reach - 10, top - 2 * thick - 2, 9), 0.5)
    return Spout(
        [united([column, arm, flange(chance, w, True)]), collar], [dark], reach - 19, body, w, True, body * 0.4
    )


def angled(chance: Random, handles: str) -> Spout:
    """A pipe with two sharp bends."""
    r, corner = chance.uniform(9, 13), chance.uniform(56, 84)
    body, high = (r + 8, r + 3) if handles in PAIRS else (chance.uniform(60, 90), chance.uniform(18, 23))
    line = begin(0, body - 12, 90).go(chance.uniform(90, 170)).turn(r * 1.15, -corner).go(chance.uniform(85, 135))
    line = line.turn(r * 1.15, -chance.uniform(86, 104)).go(chance.uniform(18, 40))
    collar, dark = nozzle(line, r)
    solid = united([pipe(line, r), cylinder(2, body, high, 1.5), flange(chance, high)])
    return Spout([solid, collar], [dark], line.x, body, high, side=body * 0.5)


def chute(chance: Random, start: float, y: float) -> tuple[Solid, Solid, float]:
    """Return an open chute from (start, y) forward, the wet floor in it, and how far it goes."""
    reach, half, thick = chance.uniform(95, 140), chance.uniform(26, 46), chance.uniform(7, 11)
    tilt = -radians(chance.uniform(4, 13))
    axes: Axes = ((cos(tilt), sin(tilt), 0), (-sin(tilt), cos(tilt), 0), (0, 0, 1))
    outer = box((-12, -thick, -half), (reach, thick, half), chance.uniform(1.5, 6))
    hole = box((6, -thick + 4, -half + 5), (reach + 20, thick + 20, half - 5), 2)
    slot = box((4, -thick + 4, -half + 6), (9, thick - 4, half - 6), 1)
    at = (start, y, 0.0)
    return placed(without(outer, hole), at, axes), placed(slot, at, axes), start + reach * cos(tilt)


def waterfall(chance: Random, handles: str) -> Spout:
    """A wide open spout over which water falls as a sheet."""
    body, w = chance.uniform(85, 150), chance.uniform(21, 27)
    is_square = chance.random() < 0.5
    solid, dark, reach = chute(chance, w * 0.4, body - 24)
    column = box((-w, 2, -w), (w, body, w), 2.5) if is_square else cylinder(2, body, w, 3)
    return Spout([united([column, flange(chance, w, is_square)]), solid], [dark], reach, body, w, is_square, body * 0.4)


def column(chance: Random, handles: str) -> Spout:
    """A tall cylinder with a short spout high up, for a basin that stands on a table."""
    r, high, body = chance.uniform(10, 13.5), chance.uniform(20, 26), chance.uniform(220, 310)
    line = begin(0, body - r - chance.uniform(16, 45), chance.uniform(-4, 18)).go(chance.uniform(100, 150))
    collar, dark = under(line.x - r - 3, line.y - r * 0.75, r * 0.72)
    solid = united([fused([pipe(line, r), cylinder(2, body, high, 2)], 3), flange(chance, high)])
    return Spout([solid, collar], [dark], line.x - r, body, high, side=body * chance.uniform(0.45, 0.7))


def bridge(chance: Random, handles: str) -> Spout:
    """Two pillars joined by a pipe, and a bowed spout from its middle."""
    r, apart, level = chance.uniform(8.5, 12), BRIDGE_APART, BRIDGE_SEAT - chance.uniform(12, 22)
    line = begin(0, level, 90).go(chance.uniform(35, 110)).turn(chance.uniform(38, 66), -chance.uniform(150, 185))
    line = line.go(chance.uniform(8, 30))
    across = rod((0, level, -apart), (0, level, apart), r * 0.95, r * 0.95)
    knot = ball((0, level, 0), r * 1.75) if chance.random() < 0.6 else cylinder(level - 16, level + 18, r * 1.5, 2)
    pillars = [
        turned(
            [(0, 26), (6, 25), (14, r + 3), (level - 14, r + 2), (level - 8, r + 7), (BRIDGE_SEAT + 2, r + 7)], 1.5, z=z
        )
        for z in (-apart, apart)
    ]
    collar, dark = nozzle(line, r)
    return Spout([fused([across, pipe(line, r), knot], 6), *pillars, collar], [dark], line.x)


BRIDGE_APART = 80  # from the middle to a pillar's axis
BRIDGE_SEAT = 58  # the pillars' height


def pull_out(chance: Random, handles: str) -> Spout:
    """A bowed spout whose end, a spray, is pulled out on its hose."""
    r, body, high = chance.uniform(11, 14), chance.uniform(80, 120), chance.uniform(21, 26)
    line = begin(0, body - 12, 90)
    if handles == "top lever":
        line = begin(0, body - 34, chance.uniform(28, 45)).go(chance.uniform(80, 115)).turn(34, -chance.uniform(55, 80))
    else:
        line = line.go(chance.uniform(60, 150)).turn(chance.uniform(55, 75), -chance.uniform(150, 172))
    c, s, heading = cos(line.heading), sin(line.heading), degrees(line.heading)
    start = begin(line.x + 2.5 * c, line.y + 2.5 * s, heading)
    long, wide = chance.uniform(52, 88), r + chance.uniform(2.5, 6)
    spray = start.go(long)
    head = fused(
        [pipe(spray, wide - 2), pipe(begin(spray.x - 26 * c, spray.y - 26 * s, heading).go(27), wide + 1.5)], 8
    )
    gap = pipe(begin(line.x - 2 * c, line.y - 2 * s, heading).go(6), r - 1.5)
    sieve = pipe(begin(spray.x, spray.y, heading).go(3), wide - 1.5)
    foot = cylinder(2, body, high, 3)
    solid = united([fused([pipe(line, r), foot], 6), flange(chance, high)])
    return Spout([solid, head], [gap, sieve], spray.x, body, high, side=body * 0.55)


def ogee(chance: Random, handles: str) -> Spout:
    """An old-fashioned spout in an S, from a body turned like a vase."""
    high, body, r = chance.uniform(22, 28), chance.uniform(88, 125), chance.uniform(13, 16)
    profile = [
        (0, high * 1.3),
        (5, high * 1.25),
        (body * 0.16, high * 0.72),
        (body * 0.30, high * 0.66),
        (body * 0.55, high * 1.02),
        (body * 0.72, high * 0.94),
        (body * 0.86, high * 0.45),
        (body * 0.90, high * 0.42),
        (body * 0.95, high * 0.6),
        (body, high * 0.3),
    ]
    knob = ball((0, body + high * 0.22, 0), high * 0.34)
    up = chance.uniform(28, 48)
    line = (
        begin(0, body * 0.55, -12).go(14).turn(58, up + 12).turn(chance.uniform(40, 52), -(up + chance.uniform(72, 88)))
    )
    line = line.go(12)
    tip = chance.uniform(9, 11)
    collar, dark = nozzle(line, tip)
    rings = [cylinder(body * 0.60 - 2, body * 0.60 + 2, high * 1.05, 1.5)]
    solid = united([fused([pipe(line, r, tip), turned(profile, 0.6)], 9), knob, *rings])
    return Spout([solid, collar], [dark], line.x, body, high, side=body * 0.5)


DECK: dict[str, Callable[[Random, str], Spout]] = {
    "swan neck": swan,
    "arc": arc,
    "straight": straight,
    "square": square,
    "angled": angled,
    "waterfall": waterfall,
    "column": column,
    "bridge": bridge,
    "pull-out": pull_out,
    "ogee": ogee,
}

# Spouts that come out of a wall


def rosette(chance: Random, radius: float, square: bool = False) -> Solid:
    """Return the cover of a hole in the wall."""
    out, high = radius + chance.uniform(10, 18), chance.uniform(5, 11)
    if square:
        return box((0, -out, -out), (high, out, out), 1.5)
    return placed(cylinder(0, high, out, 2.2), (0, 0, 0), FROM_WALL)


def wall_pipe(line: Line, radius: float, chance: Random) -> Spout:
    """Return a round pipe out of the wall."""
    collar, dark = nozzle(line, radius)
    return Spout([united([pipe(line, radius), rosette(chance, radius)]), collar], [dark], line.x)


def wall_swan(chance: Random) -> Spout:
    """A pipe that rises at the wall and bends over."""
    bend = chance.uniform(38, 60)
    line = begin(0, 0, 0).go(chance.uniform(18, 40)).turn(chance.uniform(16, 28), 90).go(chance.uniform(30, 100))
    return wall_pipe(line.turn(bend, -180).go(chance.uniform(12, 40)), chance.uniform(8.5, 12.5), chance)


def wall_arc(chance: Random) -> Spout:
    """A pipe that bows from the wall."""
    tilt = chance.uniform(12, 34)
    line = begin(0, 0, tilt).go(chance.uniform(50, 90)).turn(chance.uniform(65, 120), -tilt - chance.uniform(58, 84))
    return wall_pipe(line, chance.uniform(10, 14), chance)


def wall_straight(chance: Random) -> Spout:
    """A level pipe with its nozzle below the end."""
    r, line = chance.uniform(10, 15), begin(0, 0, 0).go(chance.uniform(140, 220))
    collar, dark = under(line.x - r - 3, -r * 0.75, r * 0.72)
    return Spout([united([pipe(line, r), rosette(chance, r)]), collar], [dark], line.x - r)


def wall_square(chance: Random) -> Spout:
    """A level spout of square section."""
    thick, half, reach = chance.uniform(8, 14), chance.uniform(15, 24), chance.uniform(135, 205)
    arm = box((-4, -thick, -half), (reach, thick, half), chance.uniform(1, 3.5))
    collar = box((reach - 30, -thick - 5, -10), (reach - 8, -thick + 3, 10), 1)
    dark = box((reach - 28, -thick - 6, -8), (reach - 10, -thick - 3, 8), 0.5)
    return Spout([united([arm, rosette(chance, half, square=True)]), collar], [dark], reach - 19)


def wall_angled(chance: Random) -> Spout:
    """A pipe with a sharp bend."""
    r = chance.uniform(9, 13)
    line = begin(0, 0, chance.uniform(0, 14)).go(chance.uniform(130, 190)).turn(r * 1.15, -chance.uniform(62, 96))
    return wall_pipe(line.go(chance.uniform(26, 50)), r, chance)


def wall_waterfall(chance: Random) -> Spout:
    """A wide open spout out of a plate."""
    solid, dark, reach = chute(chance, 12, 0)
    plate = rosette(chance, chance.uniform(36, 46), square=True)
    return Spout([solid, plate], [dark], reach)


WALL: dict[str, Callable[[Random], Spout]] = {
    "swan neck": wall_swan,
    "arc": wall_arc,
    "straight": wall_straight,
    "square": wall_square,
    "angled": wall_angled,
    "waterfall": wall_waterfall,
}

# Handles


class Handle(NamedTuple):
    """A handle about its own axis: what is of the tap's finish, of the handles', and its coloured button."""

    stem: Solid
    grip: Solid
    button: Solid | None = None


def lever(chance: Random) -> Handle:
    """A stem with an arm along x."""
    r, high = chance.uniform(11, 15), chance.uniform(34, 52)
    long, rise = chance.uniform(42, 66), chance.uniform(-2, 16)
    stem = united([turned([(0, r + 9), (5, r + 9), (13, r), (high - 13, r)], 1), cylinder(0, 5, r + 9, 2)])
    cap = cylinder(high - 12, high, r, 3)
    style = chance.random()
    if style < 0.45:
        arm = rod((0, high - 6, 0), (long, high - 6 + rise, 0), 6.2, 4.4)
    elif style < 0.75:
        arm = rod((0, high - 6, 0), (long, high - 6 + rise, 0), 7, 8.5, 0.5)
    else:
        arm = box((-r * 0.7, high - 8, -6), (long, high - 1, 6), 2)
    return Handle(stem, fused([cap, arm], 5))


def cross(chance: Random) -> Handle:
    """A stem with four arms."""
    r, high, arm = chance.uniform(9, 12), chance.uniform(36, 54), chance.uniform(22, 30)
    stem = turned([(0, r + 12), (5, r + 11), (14, r), (high - 16, r * 0.8), (high - 10, r)], 1)
    thin, thick = chance.uniform(3.6, 4.6), chance.uniform(4.4, 6)
    turn = radians(chance.uniform(0, 45))
    arms = fourfold(fused([rod((0, high, 0), (arm, high, 0), thin, thick), ball((arm, high, 0), thick * 1.2)], 2), turn)
    hub = turned([(high - 10, r), (high + 7, r * 0.85)], 2)
    return Handle(stem, fused([hub, arms], 2.5), cylinder(high + 6, high + 9.5, r * 0.62, 1))


def fourfold(arm: Solid, turn: float) -> Solid:
    """Return an arm along x four times about the upright, the first turned by *turn*."""
    c, s = np.float32(cos(turn)), np.float32(sin(turn))

    def distance(p: Floats) -> Floats:
        x, z = np.abs(c * p[0] + s * p[2]), np.abs(c * p[2] - s * p[0])
        return arm.distance(np.stack([np.maximum(x, z), p[1], np.minimum(x, z)]))

    long = arm.high[0]
    return Solid(distance, (-long, arm.low[1], -long), (long, arm.high[1], long))


def knob(chance: Random) -> Handle:
    """A stem with a fluted or a smooth knob."""
    r, high = chance.uniform(17, 24), chance.uniform(30, 46)
    stem = turned([(0, r + 6), (4, r + 5), (10, r * 0.55), (high - 18, r * 0.55)], 1)
    body = turned([(high - 20, r * chance.uniform(0.75, 1)), (high, r)], chance.uniform(1.5, 6))
    flutes = chance.choice((0, 6, 8, 16, 24))
    if flutes:
        smooth, deep = body.distance, 12.0 / flutes + 0.7

        def distance(p: Floats) -> Floats:
            around = flutes * np.arctan2(p[2], p[0])
            result: Floats = (smooth(p) + deep * (0.5 + 0.5 * np.cos(around))) * np.float32(0.8)
            return result

        body = Solid(distance, body.low, body.high)
    return Handle(stem, body, cylinder(high - 1, high + 1.5, r * 0.4, 0.8))


HANDLES: dict[str, Callable[[Random], Handle]] = {"two levers": lever, "two crosses": cross, "two knobs": knob}


def pair(design: Design, chance: Random, main: Finish, second: Finish) -> list[Part]:
    """Return two handles, to the right and left of the spout."""
    made = HANDLES[design.handles](chance)
    apart = chance.uniform(72, 94)
    button = chance.choice((None, "colours", "porcelain")) if made.button else None
    swing = radians(chance.uniform(-20, 60))
    parts = []
    for side, index in ((1, COLD), (-1, HOT)):
        at, axes = seat(design.mount, design.shape, apart * side, swing)
        parts.append(Part(placed(made.stem, at, axes), main))
        parts.append(Part(placed(made.grip, at, axes), second))
        if made.button and button:
            parts.append(Part(placed(made.button, at, axes), index if button == "colours" else PORCELAIN))
    if design.mount == "wall" and chance.random() < 0.3:
        parts.append(Part(box((0, -30, -apart - 34), (6, 30, apart + 34), 2.5), main))
    return parts


def seat(mount: str, shape: str, z: float, swing: float) -> tuple[Vector, Axes]:
    """Return where a handle is that is *z* aside, and its axes: a lever points outwards, *swing* forward or down."""
    side = 1 if z > 0 else -1
    c, s = cos(swing), sin(swing)
    if mount == "wall":
        return (0, 0, z), ((0, -s, side * c), (1, 0, 0), (0, side * c, s))
    at: Vector = (0, BRIDGE_SEAT, BRIDGE_APART * side) if shape == "bridge" else (0, 0, z)
    return at, ((s, 0, side * c), (0, 1, 0), (-side * c, 0, s))


def on_top(spout: Spout, chance: Random, second: Finish) -> list[Part]:
    """Return a lever on top of the body."""
    r, y = spout.radius, spout.top
    gap = cylinder(y - 1, y + 2, r - 2.5, 0.5)
    if spout.square:
        long = chance.uniform(50, 84)
        cap = box((-r, y + 1.5, -r), (r, y + chance.uniform(9, 18), r), 1.5)
        arm = box((-r, y + 3, -r * 0.8), (long, y + chance.uniform(8, 11), r * 0.8), 1.5)
        return [Part(gap, NOZZLE), Part(united([cap, arm]), second)]
    high = chance.uniform(14, 34)
    cap = turned([(y + 1.5, r), (y + high, r * chance.uniform(0.8, 1))], chance.uniform(2, 7))
    way = chance.choice((1, 1, 1, -1))
    rise, long = radians(chance.uniform(8, 42)), chance.uniform(62, 98)
    start: Vector = (way * r * 0.2, y + high * 0.55, 0)
    stop: Vector = (way * long * cos(rise), y + high * 0.55 + long * sin(rise), 0)
    style = chance.random()
    if style < 0.5:
        arm = rod(start, stop, 6.5, 4.2)
    elif style < 0.85:
        arm = rod(start, stop, r * 0.5, r * 0.42, 0.4)
    else:
        arm = rod((0, y + high * 0.5, 0), (way * 6, y + high + chance.uniform(40, 62), 0), 4.2, 5.4)
    return [Part(gap, NOZZLE), Part(fused([cap, arm], 7), second)]


def beside(spout: Spout, chance: Random, main: Finish, second: Finish) -> list[Part]:
    """Return a lever at the right side of the body."""
    r, y, out = chance.uniform(11, 14.5), spout.side, spout.radius
    neck = placed(cylinder(0, out + 14, r, 2), (0, y, 0), TO_SIDE)
    cap = placed(cylinder(out + 15.5, out + chance.uniform(30, 40), r, 3), (0, y, 0), TO_SIDE)
    z, lean = out + 24, radians(chance.uniform(-15, 50))
    long = chance.uniform(52, 84)
    stop: Vector = (long * sin(lean), y + long * cos(lean), z + chance.uniform(4, 18))
    flat = chance.random() < 0.3
    arm = rod((0, y, z), stop, 5.5 if flat else 4.8, 6.5 if flat else 3.8)
    return [Part(neck, main), Part(fused([cap, arm], 5), second)]


def single(chance: Random, main: Finish, second: Finish) -> list[Part]:
    """Return one lever on the wall, beside the spout."""
    made = lever(chance)
    swing = radians(chance.uniform(-70, 10))
    at, axes = seat("wall", "", chance.uniform(82, 105), swing)
    return [Part(placed(made.stem, at, axes), main), Part(placed(made.grip, at, axes), second)]


def sensor(spout: Spout, wall: bool) -> Part:
    """Return the dark window of a tap that is worked without touch."""
    if wall:
        return Part(placed(cylinder(0, 14, 8, 1), (0, -26, 0), FROM_WALL), NOZZLE)
    return Part(placed(cylinder(0, spout.radius + 1.2, 7, 1), (0, spout.side * 0.8, 0), FROM_WALL), NOZZLE)
