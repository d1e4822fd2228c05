"""A photographer's studio: what a surface reflects there, and what it scatters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from demo.taps.solids import dot, floats, unit

if TYPE_CHECKING:
    from demo.taps.finishes import Finish
    from demo.taps.solids import Floats


def step(low: float, high: float, x: Floats) -> Floats:
    """Return 0 below *low*, 1 above *high*, and a soft way between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def panel(x: Floats, y: Floats, across: tuple[float, float], up: tuple[float, float], blur: float) -> Floats:
    """Return how much of a rectangular lamp is seen at directions (x, y); *blur* softens its edges."""
    return (
        step(across[0] - blur, across[0] + blur, x)
        * step(-across[1] - blur, -across[1] + blur, -x)
        * step(up[0] - blur, up[0] + blur, y)
        * step(-up[1] - blur, -up[1] + blur, -y)
    )


def surroundings(d: Floats, roughness: float, lamps: float) -> Floats:
    """Return the light from directions *d* (to the right, up, towards the camera), blurred by the surface's roughness.

    A white table below, a white screen behind, and in front a dark room with three lamps: a wide one above, a tall one
    at the left, a narrow one at the right. Black cards beside the lamps give bright metal its dark edges.
    """
    right, up, back = d
    blur = 0.03 + 0.8 * roughness
    table = 0.42 + 0.40 * step(0.0, 0.9, -up)
    screen = 0.62 + 0.18 * step(0, 0.7, up)
    front = 0.11 + 0.32 * step(0.2, 0.95, up)
    light = front + (screen - front) * step(-0.35 - blur, 0.1 + blur, -back)
    light = light + (table - light) * step(-blur, blur, -up - 0.03)
    light = light * (1 - 0.8 * panel(right, up, (-0.54, -0.43), (-0.7, 0.8), blur))
    light = light * (1 - 0.7 * panel(right, up, (0.87, 0.94), (-0.7, 0.8), blur))
    above = panel(right, up, (-0.5, 0.62), (0.60, 0.92), blur)
    left = panel(right, up, (-0.90, -0.55), (-0.10, 0.78), blur) * (1 - 0.5 * above)
    narrow = panel(right, up, (0.66, 0.82), (-0.25, 0.70), blur)
    return light + lamps * (0.75 * above + 1.15 * left + 0.75 * narrow)


def scattered(n: Floats) -> Floats:
    """Return the light that falls on surfaces with the normals *n* (to the right, up, towards the camera)."""
    right, up, back = n
    key = np.maximum(-0.52 * right + 0.68 * up + 0.52 * back, 0)
    result: Floats = 0.46 + 0.22 * up + 0.62 * key
    return result


def shade(finish: Finish, n: Floats, view: Floats, open_: Floats, clear: Floats, grain: Floats) -> Floats:
    """Return the linear colours of a surface, shape (3, n).

    *n* are normals and *view* directions to the camera, both (to the right, up, towards the camera); *open_* says how
    much of the room a point sees and *clear* how much of what it reflects, each from 0 to 1; *grain* is the brushing.
    """
    if finish.brushed:
        n = n + np.stack([0 * grain, grain, 0 * grain]) * np.float32(0.14 * finish.brushed)
        n = unit(n)
    facing = np.clip(dot(n, view), 0, 1)
    seen = 2 * facing * n - view
    light = surroundings(seen, finish.roughness, finish.lamps) * (0.25 + 0.75 * clear) * (0.45 + 0.55 * open_)
    rim = (1 - facing) ** 5 * (1 - 0.8 * finish.roughness)
    mirror, body = floats(finish.mirror)[:, None], floats(finish.body)[:, None]
    reflected = (mirror + (1 - mirror) * rim * 0.7) * light
    # What joints let through has bounced off the metal more than once and takes more of its colour.
    deep = 1 + (mirror - 1) * (1 - clear) * (mirror.max() > 0.1)
    result: Floats = reflected * deep + body * scattered(n) * open_
    return result
