"""A text as its sentences: prose, lists, fenced code and lines of code, in scripts with and without spaces.

Only what comes before a sentence and the first sign after it decide where it ends, so that a text that is still being written
has the sentences of the whole.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple


class Span(NamedTuple):
    """text[start:end]: one sentence without the blanks around it."""

    start: int
    end: int


FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
MARKER = re.compile(r"(?:[ \t]*(?:[-*+•‣–]|\d{1,3}[.)]|>)|#{1,6})[ \t]+(?=\S)")
"""What begins an item of a list, a heading or a quotation: the lines before it are done. An indented # is a comment in code."""

HEADING = re.compile(r"#{1,6}[ \t]")
CITED = r"(?:[ \t]*(?:\[\^?\d[\d,; \t–-]*\]|【[^】\n]{0,40}】))*"
"""Numbers of sources behind a full stop, which belong to the sentence before it."""

STOP = re.compile(rf"(?:(?<![.!?…؟۔।॥])[.!?…؟۔।॥]+[\"'”’»)\]*_`]*{CITED}(?=\s|\Z)|[。！？｡]+[」』”’）]*{CITED})")
"""An end of a sentence, perhaps: a full stop before a blank; those of Chinese and Japanese stand before none.

A row of dots is looked at once, from its beginning.
"""

ABBREVIATIONS = frozenset(
    """
    al approx apr art aug bzw ca capt cf ch col corp dec dept dr ed eds eg esp est etc ex feb fig figs gen gov hon ie inc jan jr
    lt ltd max min mr mrs ms mt nos nov nr oct op p pp prof ref refs rep resp rev sec sen sep sept sr st usw vgl viz vol vs z
    """.split()
)
"""Before a full stop that ends no sentence where the next word is no new one."""

NEVER_LAST = frozenset("approx bzw ca capt cf dr eg fig figs gen ie mr mrs ms mt prof sr st vgl vs".split())
"""Abbreviations that something always follows, a name or a number, in capitals too."""


WORD_CHARACTERS = 40
"""No abbreviation is longer."""


def sentences(text: str, after: int = 0) -> list[Span]:
    """Return the sentences of a text in order, those from *after* on, where one ended; what lies between them is blank.

    >>> text = "It costs 3.5 euros, e.g. in Bonn. Dr. Who pays! [1] Then"
    >>> [text[start:end] for start, end in sentences(text)]
    ['It costs 3.5 euros, e.g. in Bonn.', 'Dr. Who pays! [1]', 'Then']
    """
    found = []
    for start, end, code in _blocks(text):
        if end <= after:
            continue
        begun = max(start, after)
        cuts = [begun, end] if code else [begun, *_stops(text, start, end, begun), end]
        spans = (_trimmed(text, one, other) for one, other in pairwise(cuts))
        found += [span for span in spans if span.start < span.end]
    return found


def _blocks(text: str) -> list[tuple[int, int, bool]]:
    """Return (start, end, whether it is fenced code) of paragraphs, items of lists, headings and fences."""
    found: list[tuple[int, int, bool]] = []
    begun: int | None = None
    fence = ""
    position = 0
    for line in re.split(r"(?<=\n)", text):
        end = position + len(line)
        mark = FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line[mark.end() :].strip():
                found.append((begun or 0, end, True))
                begun, fence = None, ""
        elif mark:
            if begun is not None:
                found.append((begun, position, False))
            begun, fence = position, mark[1]
        elif not line.strip() or MARKER.match(line):
            if begun is not None:
                found.append((begun, position, False))
            begun = position if line.strip() else None
            if HEADING.match(line):
                found.append((position, end, False))
                begun = None
        elif begun is None:
            begun = position
        position = end
    if begun is not None:
        found.append((begun, position, bool(fence)))
    return found


def _stops(text: str, start: int, end: int, begun: int) -> list[int]:
    marker = MARKER.match(text, start, end)
    found = [max(begun, marker.end() if marker else start)]
    for stop in STOP.finditer(text, found[0], end):
        if stop.end() < end and _ends(text, found[-1], stop, end):
            found.append(stop.end())
    return found[1:]


def _ends(text: str, start: int, stop: re.Match[str], end: int) -> bool:
    """Tell whether the sentence that began at *start* ends with a full stop."""
    if stop[0][0] != ".":
        return True
    words = re.findall(r"\S+", text[max(start, stop.start() - WORD_CHARACTERS) : stop.start()])
    word = words[-1].lstrip("([\"'“‘«*_").lower() if words else ""
    after = text[stop.end() : end].lstrip()[:1]
    if after.islower():
        return False
    if "." in word or word.replace(".", "") in NEVER_LAST:  # e.g., U.S., 1.2
        return not word.replace(".", "").isalpha() or len(word.replace(".", "")) > 3
    return not (len(word) == 1 and word.isalpha()) and (word not in ABBREVIATIONS or after.isupper())


def _trimmed(text: str, start: int, end: int) -> Span:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return Span(start, end)
