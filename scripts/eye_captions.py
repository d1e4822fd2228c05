"""What people may say of a drawn tap: captions made of its attributes, in many wordings, to fit a bridge from pictures to words."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from demo.catalogue import Attributes

COLOURED = 0.7
"""Of captions with something else in them, how many name a finish too: it is what people ask for first."""

CAPTIONS = 12
"""For each picture: enough that each attribute is named alone, beside others, and left out."""

FINISHES = {
    "chrome": ("chrome", "polished chrome", "shiny silver", "mirror chrome"),
    "brushed nickel": ("brushed nickel", "satin nickel", "nickel", "brushed steel"),
    "matt black": ("matt black", "black", "matte black"),
    "gold": ("gold", "golden", "polished gold", "bright yellow gold"),
    "copper": ("copper", "polished copper", "orange copper"),
    "rose gold": ("rose gold", "pink gold", "rosy gold"),
    "brass": ("brass", "brushed brass", "antique brass"),
    "bronze": ("bronze", "dark bronze", "oil-rubbed bronze", "brown bronze"),
    "gunmetal": ("gunmetal", "gunmetal grey", "dark grey metal", "anthracite"),
    "white": ("white", "glossy white", "white enamel"),
    "purple": ("purple", "violet", "glossy purple"),
    "teal": ("teal", "blue-green", "dark turquoise"),
    "red": ("red", "bright red", "glossy red"),
}

SHAPES = {
    "swan neck": ("swan neck", "swan neck spout", "gooseneck", "high curved spout", "tall bent spout"),
    "arc": ("arc", "low bowed spout", "curved spout", "arched spout"),
    "straight": ("straight", "straight spout", "straight round spout", "plain straight pipe"),
    "square": ("square", "square spout", "square-edged", "angular and boxy", "modern square"),
    "angled": ("angled", "angled pipe", "pipe with sharp bends", "industrial pipe with elbows"),
    "waterfall": ("waterfall", "waterfall spout", "wide open spout", "open waterfall"),
    "column": ("column", "tall column", "tower with a short spout", "slim pillar"),
    "bridge": ("bridge", "bridge tap with two pillars", "bowed spout on a bridge", "bridge between two pillars"),
    "pull-out": ("pull-out", "pull-out spray", "pull-out spray head on a hose", "pull-down hose"),
    "ogee": ("ogee", "S-shaped spout", "old-fashioned", "traditional Victorian", "antique style"),
}

HANDLES = {
    "top lever": ("single lever on top", "a lever on top", "one lever"),
    "side lever": ("side lever", "a lever at the side", "single side handle"),
    "two levers": ("two levers", "two lever handles", "a pair of levers"),
    "two crosses": ("two cross handles", "cross handles", "cross-shaped handles", "two crosses"),
    "two knobs": ("two knobs", "round knobs", "a pair of knobs"),
    "sensor": ("sensor", "touchless", "no handles", "automatic sensor"),
}

WALL = ("wall-mounted", "for the wall", "on the wall", "wall tap")
TALL, LOW = ("tall", "high", "very tall"), ("low", "short", "small")
KINDS = ("tap", "faucet", "basin tap", "bathroom tap", "mixer tap", "basin mixer")
TALL_MM, LOW_MM = 225, 125
"""A quarter of the taps that stand on a basin are higher than the first, a quarter lower than the second."""


def captions(attributes: Attributes, chance: Random, count: int = CAPTIONS) -> list[str]:
    """Return *count* captions, each of some attributes in an order of its own; *chance* decides."""
    return [caption(attributes, chance) for _ in range(count)]


def caption(attributes: Attributes, chance: Random) -> str:
    """Return one caption: a few words, a list, or a phrase with the noun at its end."""
    others = _others(attributes, chance)
    said = chance.sample(others, min(len(others), chance.choice((0, 0, 1, 1, 1, 2, 3))))
    if not said or chance.random() < COLOURED:
        said.append(_colours(attributes, chance))
    chance.shuffle(said)
    separator = chance.choice((" ", " ", ", ", " and ", " with "))
    ending = chance.choice(("{words}", "{words} {kind}", "{words} {kind}", "{kind}, {words}", "{kind} with {words}"))
    return ending.format(words=separator.join(said), kind=chance.choice(KINDS))


def _colours(attributes: Attributes, chance: Random) -> str:
    """Return the finish, and the second one: both, or one of them."""
    first = chance.choice(FINISHES[attributes.finish])
    if not attributes.second_finish:
        return first
    second = chance.choice(FINISHES[attributes.second_finish])
    both = (f"{first} {second}", f"{second} {first}", f"{first} and {second}", f"{first} with {second} handles")
    return chance.choice((*both, *both, first, second))


def _others(attributes: Attributes, chance: Random) -> list[str]:
    """Return what else there is to say, each in one wording."""
    said = [chance.choice(SHAPES[attributes.shape]), chance.choice(HANDLES[attributes.handles])]
    if attributes.mount == "wall":
        said.append(chance.choice(WALL))
    elif attributes.height_mm > TALL_MM:
        said.append(chance.choice(TALL))
    elif attributes.height_mm < LOW_MM:
        said.append(chance.choice(LOW))
    return said
