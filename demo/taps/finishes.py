"""What taps are finished in: how each finish takes the light."""

from __future__ import annotations

from typing import NamedTuple

from demo.taps.solids import Solid

Colour = tuple[float, float, float]


class Finish(NamedTuple):
    """How a surface takes light; colours are linear RGB from 0 to 1."""

    name: str
    mirror: Colour  # what is reflected straight on: a metal's colour, or 0.04 of a lacquer
    body: Colour  # what is scattered: none of a metal
    roughness: float  # 0 mirrors; 1 shows no picture of its surroundings
    brushed: float = 0  # how strongly fine lines scatter what is reflected
    price: float = 1  # what the finish makes of a price
    lamps: float = 1  # how bright lamps are in it: a lacquer that mirrors little shows them all the same


class Part(NamedTuple):
    """A solid and its finish."""

    solid: Solid
    finish: Finish


LACQUER = (0.04, 0.04, 0.04)
BLACK = (0.0, 0.0, 0.0)

FINISHES = (
    Finish("chrome", (0.92, 0.94, 0.97), BLACK, 0.02),
    Finish("brushed nickel", (0.80, 0.75, 0.67), BLACK, 0.34, 0.5, 1.25),
    Finish("matt black", LACQUER, (0.012, 0.012, 0.013), 0.45, 0, 1.2, 2.5),
    Finish("gold", (1.0, 0.66, 0.18), BLACK, 0.05, 0, 1.7),
    Finish("copper", (0.93, 0.42, 0.24), BLACK, 0.12, 0, 1.5),
    Finish("rose gold", (0.95, 0.58, 0.48), BLACK, 0.08, 0, 1.65),
    Finish("brass", (0.72, 0.51, 0.22), BLACK, 0.26, 0.4, 1.4),
    Finish("bronze", (0.30, 0.165, 0.09), (0.012, 0.007, 0.004), 0.3, 0.2, 1.35),
    Finish("gunmetal", (0.33, 0.36, 0.42), BLACK, 0.14, 0.3, 1.3),
    Finish("white", LACQUER, (0.84, 0.84, 0.83), 0.08, 0, 1.15, 7),
    Finish("purple", LACQUER, (0.16, 0.035, 0.32), 0.12, 0, 1.2, 7),
    Finish("teal", LACQUER, (0.01, 0.20, 0.21), 0.14, 0, 1.2, 7),
    Finish("red", LACQUER, (0.52, 0.018, 0.02), 0.1, 0, 1.2, 7),
)

# What is the same on every tap, whatever its finish.
NOZZLE = Finish("nozzle", (0.05, 0.05, 0.05), (0.02, 0.02, 0.02), 0.4)
HOT = Finish("hot", LACQUER, (0.55, 0.02, 0.02), 0.2)
COLD = Finish("cold", LACQUER, (0.02, 0.10, 0.50), 0.2)
PORCELAIN = Finish("porcelain", LACQUER, (0.85, 0.85, 0.82), 0.05)

BY_NAME = {finish.name: finish for finish in FINISHES}
