"""Where a text may be cut: at headings (Markdown, reStructuredText), paragraphs, list items, lines, sentences.

One pass over the lines. It reads no grammar beyond that: what is taken for a heading wrongly costs a cut in a strange place,
never a character.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from datasette_embeddings.limits import FRONT_MATTER_LINES, HEADING_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Path = tuple[str, ...]
"""The headings that a place stands under, the coarsest first."""

BLOCK, ITEM, LINE, SENTENCE, WRAP, WORD, CHARACTER = range(100, 107)
"""Ranks of beginnings, coarsest first, all after headings, whose rank is their depth (1, 2, ...). ITEM: of a list, or what is
indented after a blank line. WRAP: a line that goes on in the middle of a sentence."""

LINES = re.compile(r"[^\n]*\n|[^\n]+")
FENCE = re.compile(r"\s*(`{3,}(?=[^`]*$)|~{3,})")
HASHES = re.compile(r"(#{1,6})[ \t]+(\S.*)")
SIGNS = re.compile(r"([!-/:-@\[-`{-~])\1{2,}\s*$")
BULLET = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)]|#\.)\s")
SENTENCES = re.compile(r"""(?:(?<=\w\w)|(?<=[^\w\s.]))[.!?…]["'”’)\]]*\s+(?=\S)|[。！？](?=\S)""")
MARKUP = re.compile(r"\s#+\s*$|\{#[^}]*\}|\[([^\]]*)\]\([^)]*\)|[`*]")


MARKDOWN = {("=", False): 1, ("-", False): 2}
"""Depths of underlined headings in Markdown."""

PROSE, OPENING, INSIDE, CLOSING = range(4)
BLANK, HEADING, FENCED, TEXT = range(4)
"""What a line is; what is before it."""


class Part(NamedTuple):
    """What is between two places to cut, text[start:end]; the rank of its beginning; the headings in force there."""

    start: int
    end: int
    rank: int
    path: Path


class Heading(NamedTuple):
    """A heading: its style (a depth, or the sign under it and whether that is over it too), its words, its lines."""

    style: int | tuple[str, bool]
    words: str
    lines: int


def outline(text: str, title: str) -> list[Part]:
    """Return the parts of a text, in order, which together are the text; one at least.

    *title*: begins every path where it is not empty; a first heading that says the same adds nothing to it.

    >>> [(part.rank, part.path) for part in outline("Words.\\n\\n# One\\n\\n1. One. Two\\n\\nTwo\\n---\\n", "All")]
    [(100, ('All',)), (1, ('All', 'One')), (106, ('All', 'One')), (103, ('All', 'One')), (2, ('All', 'One', 'Two'))]
    """
    begins = _begins(LINES.findall(text), " ".join(title.split())[:HEADING_CHARACTERS]) or [(0, BLOCK, ())]
    begins[0] = (0, *begins[0][1:])
    ends = [start for start, _, _ in begins[1:]] + [len(text)]
    return [Part(start, end, rank, path) for (start, rank, path), end in zip(begins, ends, strict=True)]


def plain(heading: str) -> str:
    """Return the words of a heading without its marks.

    >>> plain("The `click` [module](https://example.org) ##")
    'The click module'
    """
    return " ".join(MARKUP.sub(r"\1", heading[:HEADING_CHARACTERS]).split())


def _begins(lines: Sequence[str], title: str) -> list[tuple[int, int, Path]]:
    """Return where each part begins, its rank, its path."""
    code = _code(lines)
    headings = _headings(lines, code)
    depths = _depths(headings.values())
    first = next(iter(headings.values()), None)
    opened = [(0, title)] if title else []
    path: Path = (title,) if title else ()
    said = plain(title).casefold()
    begins: list[tuple[int, int, Path]] = []
    before, position, skip = BLANK, 0, 0
    for number, line in enumerate(lines):
        heading = headings.get(number)
        if heading:
            depth = depths[heading.style]
            deeper = not opened or depth > opened[-1][0]
            if heading is not first or heading.words.casefold() != said:
                opened = [(d, words) for d, words in opened if d < depth] + [(depth, heading.words)]
            path = tuple(words for _, words in opened)
            if before == HEADING and deeper:
                begins[-1] = (*begins[-1][:2], path)
            else:
                begins.append((position, depth, path))
            before, skip = HEADING, heading.lines
        elif skip <= 0:
            if line.strip():
                begins.append((position, _rank(line, code[number], before), path))
                if not code[number]:
                    begins.extend((position + found.end(), SENTENCE, path) for found in SENTENCES.finditer(line))
                before = FENCED if code[number] == CLOSING else TEXT
            elif before != HEADING:
                before = BLANK
        skip -= 1
        position += len(line)
    return begins


def _rank(line: str, code: int, before: int) -> int:
    """Return the rank of a line that is not blank, by what it is and what is before it."""
    if before == HEADING:
        return CHARACTER  # a heading stays with what it stands over
    if code > OPENING:
        return ITEM if before == BLANK else LINE
    if before != TEXT and not (before == BLANK and line[0].isspace()):
        return BLOCK
    if before == BLANK or code == OPENING or BULLET.match(line):
        return ITEM
    return WRAP if line.lstrip()[0].islower() else LINE


def _code(lines: Sequence[str]) -> list[int]:
    """Return for each line whether it is PROSE, or OPENING, INSIDE or CLOSING of fenced code or front matter."""
    kinds = [PROSE] * len(lines)
    fence = ""
    for number, line in enumerate(lines):
        if number == 0 and line.rstrip() == "---" and "---" in map(str.rstrip, lines[1:FRONT_MATTER_LINES]):
            fence, kinds[number] = "---", OPENING
        elif fence:
            closing = line.strip().startswith(fence) and not line.strip().strip(fence[0])
            kinds[number] = CLOSING if closing else INSIDE
            fence = "" if closing else fence
        elif (found := FENCE.match(line)) and not _underlined(lines, number - 1):
            fence, kinds[number] = found[1], OPENING
    return kinds


def _headings(lines: Sequence[str], code: Sequence[int]) -> dict[int, Heading]:
    """Return the headings by the number of their first line."""
    found: dict[int, Heading] = {}
    for number, line in enumerate(lines):
        if code[number] or len(line) > HEADING_CHARACTERS:
            continue
        if (hashes := HASHES.match(line)) and (words := plain(hashes[2])):
            found[number] = Heading(len(hashes[1]), words, 1)
        elif sign := _underlined(lines, number):
            over = _overlined(lines, number, sign)
            found[number - over] = Heading((sign, over), plain(line), 2 + over)
    if any(isinstance(heading.style, int) for heading in found.values()):  # Markdown: others are no headings there
        return {n: h for n, h in found.items() if isinstance(h.style, int) or h.style in MARKDOWN}
    return found


def _underlined(lines: Sequence[str], number: int) -> str:
    """Return the sign that a line is underlined with as a heading, "" where it is not.

    The line stands after a blank one or under an overline, on one line; the underline is as long as the line, or of = or -.
    """
    if not 0 <= number < len(lines) - 1 or len(lines[number]) > HEADING_CHARACTERS:
        return ""
    line, under = lines[number].strip(), SIGNS.match(lines[number + 1])
    if not under or not line or SIGNS.match(line) or BULLET.match(line):
        return ""
    sign = under[1]
    if sign not in "=-" and len(lines[number + 1].strip()) < len(line):
        return ""
    over = _overlined(lines, number, sign)
    first = number == 0 or not lines[number - 1].strip()
    return sign if over or (first and not lines[number][0].isspace()) else ""


def _overlined(lines: Sequence[str], number: int, sign: str) -> bool:
    """Return whether the line before is one of the same sign."""
    over = SIGNS.match(lines[number - 1]) if number else None
    return over is not None and over[1] == sign


def _depths(headings: Iterable[Heading]) -> dict[int | tuple[str, bool], int]:
    """Return the depth of each style: of Markdown its own, of reStructuredText the order in which the text uses them."""
    styles = list(dict.fromkeys(heading.style for heading in headings))
    if any(isinstance(style, int) for style in styles):
        return {style: style if isinstance(style, int) else MARKDOWN[style] for style in styles}
    return {style: depth for depth, style in enumerate(styles, start=1)}
