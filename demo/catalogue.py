"""Table `catalogue`: bathroom taps that no one sells, drawn for this demonstration, with what each is made of.

Every shape of spout comes in every finish, several times, and no two taps have the same measures: what looks like one
tap and costs less is there to be found. Names, prices and descriptions are made of the same choices as the pictures.

The pictures are the same each time on one machine. Another processor or another Pillow may round a pixel otherwise; then
their embeddings are made anew, and nothing else changes.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from itertools import product
from math import exp
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from demo.taps.drawing import View, picture, webp
from demo.taps.finishes import BY_NAME, FINISHES
from demo.taps.parts import PAIRS, SHAPES, Design, Tap, tap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TABLE = """
create table catalogue (
    id text primary key,
    name text not null,
    shape text not null,
    finish text not null,
    second_finish text,
    handles text not null,
    mount text not null,
    height_mm integer not null,
    reach_mm integer not null,
    price_eur integer not null,
    description text not null,
    picture blob not null
)
"""

CACHE = Path(__file__).parent / "cache"

SEED = 1868  # the catalogue's; other seeds make other taps
COUNT = 650  # five of each shape and finish

# Of how many taps one has handles of another finish, and is for a wall where its shape is made for walls.
TWO_TONE = 0.3
ON_WALL = 0.35

# What is said of a finish in a second place: colours that people ask for, and metals that go with any other.
ACCENTS = ("purple", "teal", "red", "white", "matt black", "gold", "chrome", "copper")

SERIES = "Alder Beck Birch Brook Cairn Dune Fen Ferry Firth Fjord Harbour Heron Lagoon Linn Loch Marsh Mere Mill Otter Reed Shoal Tarn Tide Weir".split()

# Euros for a plain tap of the shape in chrome.
PRICES = {
    "swan neck": 120,
    "arc": 85,
    "straight": 75,
    "square": 110,
    "angled": 115,
    "waterfall": 140,
    "column": 150,
    "bridge": 210,
    "pull-out": 165,
    "ogee": 180,
}

Row = tuple[str, str, str, str, str | None, str, str, int, int, int, str, bytes]


class Attributes(NamedTuple):
    """What a tap is, as its columns say it."""

    id: str
    name: str
    shape: str
    finish: str
    second_finish: str | None
    handles: str
    mount: str
    height_mm: int
    reach_mm: int
    price_eur: int
    description: str


def rows(count: int = COUNT) -> Iterator[Row]:
    """Yield the rows of the table, numbered from 1; their pictures are drawn once and kept in demo/cache."""
    folder = CACHE / f"taps-{code()}"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number + 1:04}.webp" for number in range(count)]
    missing = [number for number, file in enumerate(files) if not file.exists()]
    for number, (_, image) in zip(missing, drawn_by_all(SEED, missing), strict=True):
        part = files[number].with_suffix(".part")
        part.write_bytes(image)
        part.replace(files[number])  # a picture that was cut off has no picture's name
    for number, file in enumerate(files):
        attributes, _, _ = described(SEED, number)
        yield (*attributes, file.read_bytes())


def code() -> str:
    """Return a short name for the code that draws: another one draws other pictures."""
    files = [Path(__file__), *sorted((Path(__file__).parent / "taps").glob("*.py"))]
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def taps(seed: int, count: int) -> Iterator[tuple[Attributes, bytes]]:
    """Yield taps with their pictures, WebP of 480 pixels a side; the same for the same seed."""
    yield from drawn_by_all(seed, range(count))


def drawn_by_all(seed: int, numbers: Sequence[int]) -> Iterator[tuple[Attributes, bytes]]:
    """Yield the taps of some numbers, drawn by a process for each processor."""
    if numbers:
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            yield from pool.map(drawn, [seed] * len(numbers), numbers, chunksize=4)


def drawn(seed: int, number: int) -> tuple[Attributes, bytes]:
    """Return one tap, with its picture."""
    attributes, made, view = described(seed, number)
    return attributes, webp(picture(made.parts, view))


def described(seed: int, number: int) -> tuple[Attributes, Tap, View]:
    """Return one tap, what there is to draw of it, and from where."""
    chance = Random(f"{seed}/{number}")
    design = designed(seed, number, chance)
    made = tap(design, chance)
    series = chance.choice(SERIES)
    attributes = Attributes(
        f"tap-{number + 1:04}",
        name(design, series),
        design.shape,
        design.finish,
        design.second,
        design.handles,
        design.mount,
        made.height,
        made.reach,
        price(design, chance),
        description(design, made, chance),
    )
    wall = design.mount == "wall"
    above = chance.uniform(4, 16) if wall else chance.uniform(11, 21)
    view = View(chance.uniform(28, 46), above, wall, chance.uniform(-1, 1), chance.uniform(0.85, 0.93))
    return attributes, made, view


def designed(seed: int, number: int, chance: Random) -> Design:
    """Return the choices of a tap: shapes and finishes by turns, each pair once before any comes again."""
    pairs = list(product(SHAPES, (finish.name for finish in FINISHES)))
    turn, place = divmod(number, len(pairs))
    Random(f"{seed}/turn/{turn}").shuffle(pairs)
    shape, finish = pairs[place]
    fitting, for_walls = SHAPES[shape]
    mount = "wall" if for_walls and chance.random() < ON_WALL else "deck"
    handles = chance.choice([kind for kind in fitting if mount == "deck" or kind != "top lever"])
    two = handles != "sensor" and chance.random() < TWO_TONE
    second = chance.choice([accent for accent in ACCENTS if accent != finish]) if two else None
    return Design(shape, handles, mount, finish, second)


def price(design: Design, chance: Random) -> int:
    """Return a price in euros; cheap and dear ones are of every kind."""
    value = PRICES[design.shape] * BY_NAME[design.finish].price * exp(chance.gauss(0, 0.42))
    value *= (1.25 if design.handles in PAIRS else 1) * (1.15 if design.mount == "wall" else 1)
    value *= (1.35 if design.handles == "sensor" else 1) * (1.12 if design.second else 1)
    return max(round(value / 10) * 10, 30) - 1


def name(design: Design, series: str) -> str:
    """Return a product's name."""
    where = "wall-mounted " if design.mount == "wall" else ""
    kind = "basin tap" if design.handles in PAIRS else "touchless tap" if design.handles == "sensor" else "basin mixer"
    second = f" and {design.second}" if design.second else ""
    return f"{series} {where}{design.shape.replace(' ', '-')} {kind}, {design.finish}{second}"


HANDLES = {
    "top lever": "a lever on top",
    "side lever": "a lever at the side",
    "two levers": "two levers",
    "two crosses": "two cross handles",
    "two knobs": "two knobs",
    "sensor": "a sensor in place of handles",
}

SPOUTS = {
    "swan neck": "a tall spout that bends over like a swan's neck",
    "arc": "a low bowed spout",
    "straight": "a straight round spout",
    "square": "a square-edged spout",
    "angled": "a pipe with sharp bends",
    "waterfall": "a wide open spout that lets water fall as a sheet",
    "column": "a tall column with a short spout near its top",
    "bridge": "a bowed spout on a bridge between two pillars",
    "pull-out": "a spray head that pulls out on its hose",
    "ogee": "an S-shaped spout in the old fashion",
}


def description(design: Design, made: Tap, chance: Random) -> str:
    """Return one sentence about a tap."""
    place = "the wall" if design.mount == "wall" else "the basin"
    handles = HANDLES[design.handles] + (f" in {design.second}" if design.second else "")
    reach = chance.choice(("and reaches {} mm", "and brings the water {} mm forward", "with a reach of {} mm"))
    spout = f"{SPOUTS[design.shape]}, with {handles}"
    return f"In {design.finish}, for {place}: {spout}; it is {made.height} mm high {reach.format(made.reach)}."
