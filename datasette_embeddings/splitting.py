"""Long texts in pieces that a model reads whole, cut where the text itself parts, each under its path of headings.

The parts of a text (`outline`) are counted once and their sizes added up. A stretch that is too long is cut at its coarsest
places, and the stretches are filled up again. What adding up gets wrong is found by counting every piece as it is embedded.

Libraries compared (2026-11): semantic-text-splitter keeps every character and the limit, but one line of Chinese takes it time
that grows with the square of its length; semchunk and langchain-text-splitters know no headings in reStructuredText, the first
loses white space, the second brings langchain-core; chonkie cannot do with a count alone. None gives paths of headings.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise, takewhile
from typing import TYPE_CHECKING

from datasette_embeddings.catalog import HEADING_SEPARATOR
from datasette_embeddings.errors import ConfigError
from datasette_embeddings.limits import HEADING_SHARE, OVERLAP_SHARE
from datasette_embeddings.outline import BLOCK, CHARACTER, SENTENCE, WORD, Part, outline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from datasette_embeddings.outline import Path

    Count = Callable[[Sequence[str]], list[int]]

SPLITTER = "1"
"""Changes whenever the same text would be split otherwise; part of a collection's fingerprint."""

LEFT_OUT = "…"

COARSE, FINE = 2, 8
"""A part of more than a 2nd of the limit is cut into parts of an 8th: fine enough to fill pieces, coarse enough to count."""

SPARE = 0.02
"""Of the limit, left free for what adding up gets wrong, so that few pieces have to be cut again."""

WORDS = re.compile(r"(?<=\s)(?=\S)")


@dataclass(frozen=True)
class Piece:
    """One chunk: text[start:end], and the path of headings that all of it stands under, joined by " > " ("" for none)."""

    start: int
    end: int
    heading: str


@dataclass(frozen=True)
class Plan:
    """The parts of a text; sums[n]: tokens of all parts before the nth; rooms[n]: tokens of a piece that begins with it."""

    parts: Sequence[Part]
    sums: Sequence[float]
    rooms: Sequence[float]

    def size(self, first: int, last: int) -> float:
        """Return the tokens of the parts from *first* to before *last*."""
        return self.sums[last] - self.sums[first]


def split(text: str, title: str, count: Count, limit: int) -> list[Piece]:
    """Return the pieces of a text, in order, which together hold every character of it; [] for "".

    *title*: what the row is called, "" where unknown; it begins every path of headings, unless the text's first heading says
    the same. *count* gives the number of tokens of each text. *limit*: tokens that `embedded_text` of a piece may have.

    A text that fits is one piece. Starts and ends increase strictly; pieces overlap inside a section only, by OVERLAP_SHARE of
    the limit. Raises ConfigError where a single character is over the limit.
    """
    if not text:
        return []
    parts = outline(text, title)
    headings = shortened([parts[0].path], count, limit)
    whole = Piece(0, len(text), headings[parts[0].path])
    (total,) = count([embedded_text(text, whole)])
    if total <= limit:
        return [whole]
    headings = shortened(dict.fromkeys(part.path for part in parts), count, limit)
    plan = planned(text, parts, headings, count, limit, total)
    pieces = [
        Piece(plan.parts[first].start, plan.parts[last - 1].end, headings[plan.parts[first].path])
        for first, last in packed(plan, 0, len(plan.parts))
    ]
    pieces = fitting(text, pieces, plan.parts, headings, count, limit)
    pieces = overlapping(text, pieces, plan, headings, count, limit)
    return covering(text, pieces, plan.parts, count, limit)


def embedded_text(text: str, piece: Piece) -> str:
    """Return what is embedded of a piece: its path of headings, a blank line, its text; the text alone without headings."""
    return head(piece.heading) + text[piece.start : piece.end]


def head(heading: str) -> str:
    """Return what stands above the text of a piece."""
    return f"{heading}\n\n" if heading else ""


def shortened(paths: Iterable[Path], count: Count, limit: int) -> dict[Path, str]:
    """Return each path of headings in words, of HEADING_SHARE of the limit at most: what is too long loses its middle first."""
    chosen: dict[Path, str] = {(): ""}
    shorter = {path: wordings(path) for path in paths if path}
    while shorter:
        wording = {path: next(ways) for path, ways in shorter.items()}
        counts = count(list(wording.values()))
        for (path, words), tokens in zip(wording.items(), counts, strict=True):
            if not words or tokens <= limit * HEADING_SHARE:
                chosen[path] = words
                del shorter[path]
    return chosen


def wordings(path: Path) -> Iterator[str]:
    """Yield a path in words, then ever shorter, at last nothing.

    >>> list(wordings(("Guide", "Plugins", "Hooks")))
    ['Guide > Plugins > Hooks', 'Guide > … > Hooks', 'Hooks', '']
    """
    yield HEADING_SEPARATOR.join(path)
    for kept in range(len(path) - 2, 0, -1):
        yield HEADING_SEPARATOR.join((path[0], LEFT_OUT, *path[-kept:]))
    if len(path) > 1:
        yield path[-1]
    yield ""


def planned(
    text: str, parts: Sequence[Part], headings: Mapping[Path, str], count: Count, limit: int, total: int
) -> Plan:
    """Return the parts of a text, the long ones cut, and what each has of tokens; *total*: of the whole as it is embedded.

    A tokenizer may add tokens to every text, or round: what the parts alone count more or less than the whole is shared out.
    """
    parts, counts = counted(text, parts, count, limit)
    above = dict(zip(headings, count([head(heading) for heading in headings.values()]), strict=True))
    extra = (above[parts[0].path] + sum(counts) - total) / len(counts)
    sums = list(accumulate((max(0.0, tokens - extra) for tokens in counts), initial=0.0))
    return Plan(parts, sums, [limit * (1 - SPARE) - above[part.path] for part in parts])


def counted(text: str, parts: Sequence[Part], count: Count, limit: int) -> tuple[list[Part], list[int]]:
    """Return parts of which none but single characters is over a COARSE part of the limit, and the tokens of each."""
    found: list[tuple[Part, int]] = []
    waiting = list(parts)
    while waiting:
        counts = count([text[part.start : part.end] for part in waiting])
        again: list[Part] = []
        for part, tokens in zip(waiting, counts, strict=True):
            if tokens * COARSE <= limit or part.end - part.start == 1:
                found.append((part, tokens))
            else:
                again.extend(finer(text, part, tokens * FINE // limit + 1))
        waiting = again
    found.sort()
    return [part for part, _ in found], [tokens for _, tokens in found]


def finer(text: str, part: Part, number: int) -> Iterator[Part]:
    """Yield a part in about *number* parts of like length (two at least), cut between words where there are any."""
    step = max(1, (part.end - part.start) // max(2, number))
    start, rank = part.start, part.rank
    while start + step < part.end:
        word = WORDS.search(text, start + step, min(start + 2 * step, part.end))
        end = word.start() if word else start + step
        yield Part(start, end, rank, part.path)
        start, rank = end, WORD if word else CHARACTER
    yield Part(start, part.end, rank, part.path)


def packed(plan: Plan, first: int, last: int) -> list[tuple[int, int]]:
    """Return stretches of parts, first and last (exclusive): one where all fit; else cut at the coarsest rank, then filled up."""
    if plan.size(first, last) <= plan.rooms[first] or last - first == 1:
        return [(first, last)]
    rank = min(part.rank for part in plan.parts[first + 1 : last])
    cuts = [n for n in range(first + 1, last) if plan.parts[n].rank == rank]
    filled = 1 - OVERLAP_SHARE if rank >= BLOCK else 1
    stretches: list[tuple[int, int]] = []
    for begin, end in pairwise([first, *cuts, last]):
        opened = stretches[-1][0] if stretches else begin
        joins = rank >= BLOCK or plan.parts[opened].rank <= rank  # the end of one section does not lead into the next
        if stretches and joins and plan.size(opened, end) <= plan.rooms[opened] * filled:
            stretches[-1] = (opened, end)
        else:
            stretches.extend(packed(plan, begin, end))
    return stretches


def fitting(
    text: str, pieces: Sequence[Piece], parts: Sequence[Part], headings: Mapping[Path, str], count: Count, limit: int
) -> list[Piece]:
    """Return the pieces, those cut again that are over the limit."""
    found: list[Piece] = []
    waiting = list(pieces)
    while waiting:
        counts = count([embedded_text(text, piece) for piece in waiting])
        again: list[Piece] = []
        for piece, tokens in zip(waiting, counts, strict=True):
            if tokens <= limit:
                found.append(piece)
            elif piece.end - piece.start > 1:
                again.extend(halves(text, piece, parts, headings))
            elif piece.heading:
                again.append(replace(piece, heading=""))
            else:
                raise ConfigError(
                    f"pieces of {limit} tokens are too small for this text: the character {text[piece.start]!r} alone has {tokens}; "
                    f"allow {tokens} at least"
                )
        waiting = again
    return sorted(found, key=lambda piece: piece.start)


def halves(text: str, piece: Piece, parts: Sequence[Part], headings: Mapping[Path, str]) -> list[Piece]:
    """Return the two pieces, more where it has no parts, that a piece is cut into: at its coarsest place nearest the middle."""
    begin, end = bisect_right(parts, piece.start, key=start_of), bisect_left(parts, piece.end, key=start_of)
    if begin == end:
        within = parts[begin - 1]._replace(start=piece.start, end=piece.end)
        return [Piece(part.start, part.end, piece.heading) for part in finer(text, within, 2)]
    middle = (piece.start + piece.end) / 2
    part = min(parts[begin:end], key=lambda part: (part.rank, abs(part.start - middle)))
    return [replace(piece, end=part.start), Piece(part.start, piece.end, headings[part.path])]


def overlapping(
    text: str, pieces: Sequence[Piece], plan: Plan, headings: Mapping[Path, str], count: Count, limit: int
) -> list[Piece]:
    """Return the pieces, those that begin inside a section with the last sentences or lines of the one before where that fits."""
    longer: dict[int, Piece] = {}
    for number, (before, piece) in enumerate(pairwise(pieces), start=1):
        part = earlier(plan, before.start, piece.start, OVERLAP_SHARE * limit)
        if part:
            longer[number] = Piece(part.start, piece.end, headings[part.path])
    counts = count([embedded_text(text, piece) for piece in longer.values()]) if longer else []
    found = list(pieces)
    for (number, piece), tokens in zip(longer.items(), counts, strict=True):
        if tokens <= limit:
            found[number] = piece
    return found


def covering(text: str, pieces: Sequence[Piece], parts: Sequence[Part], count: Count, limit: int) -> list[Piece]:
    """Return the pieces, those of several sections under the headings that all of these stand under, where that fits."""
    shared: dict[int, Path] = {}
    for number, piece in enumerate(pieces):
        first, last = bisect_right(parts, piece.start, key=start_of) - 1, bisect_left(parts, piece.end, key=start_of)
        path = shared_by([part.path for part in parts[first:last]])
        if piece.heading and path != parts[first].path:
            shared[number] = path
    headings = shortened(dict.fromkeys(shared.values()), count, limit)
    renamed = {number: replace(pieces[number], heading=headings[path]) for number, path in shared.items()}
    counts = count([embedded_text(text, piece) for piece in renamed.values()]) if renamed else []
    fits = {number for number, tokens in zip(renamed, counts, strict=True) if tokens <= limit}
    return [renamed[number] if number in fits else piece for number, piece in enumerate(pieces)]


def shared_by(paths: Sequence[Path]) -> Path:
    """Return the headings that all paths begin with.

    >>> shared_by([("Guide", "Plugins", "Hooks"), ("Guide", "Plugins"), ("Guide", "Plugins", "Tests")])
    ('Guide', 'Plugins')
    """
    one, other = min(paths), max(paths)
    return tuple(heading for heading, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def earlier(plan: Plan, after: int, start: int, most: float) -> Part | None:
    """Return the part, beginning after *after*, of the same section, with which at most *most* tokens more before *start* begin."""
    last = bisect_left(plan.parts, start, key=start_of)
    if last == len(plan.parts) or plan.parts[last].start != start:
        return None
    found = None
    for number in range(last, 0, -1):
        part, before = plan.parts[number], plan.parts[number - 1]
        if part.rank < BLOCK or before.start <= after or plan.size(number - 1, last) > most:
            break
        found = before if before.rank <= SENTENCE else found
    return found


def start_of(part: Part) -> int:
    """Return where a part begins."""
    return part.start
