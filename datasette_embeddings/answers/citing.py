"""An answer as sentences, each with the excerpts that it names, checked: a number that is no excerpt goes.

What is proved is that a sentence's numbers lead to excerpts that were given, not that these say what the sentence says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from datasette_embeddings.answers.prompting import NOT_FOUND
from datasette_embeddings.answers.sentences import sentences
from datasette_embeddings.errors import CutShort

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from datasette_embeddings.answers.passages import Passage
    from datasette_embeddings.answers.sentences import Span


@dataclass(frozen=True)
class Sentence:
    """One sentence of an answer, plain text without its numbers, and the numbers of excerpts that it rests on.

    *gap*: what stands before it: "", a blank, or one or two ends of lines. *quoted*: it is a row's own. *removed*: numbers that
    were no excerpt's.
    """

    text: str
    citations: tuple[int, ...] = ()
    gap: str = ""
    quoted: bool = False
    removed: int = 0

    @property
    def supported(self) -> bool:
        """Whether it names an excerpt, or is the sentence that says that there is none."""
        return bool(self.citations) or self.text == NOT_FOUND

    @property
    def is_code(self) -> bool:
        """Whether it is shown as code: lines of a row's, or what a model put between fences."""
        return "\n" in self.text if self.quoted else self.text.startswith(("```", "~~~"))

    def resting_on(self, other: Sentence) -> Sentence:
        """Return the sentence with the numbers of another one too."""
        citations = tuple(dict.fromkeys((*self.citations, *other.citations)))
        return replace(self, citations=citations, removed=self.removed + other.removed)

    def as_dict(self) -> dict[str, object]:
        """Return the sentence for JSON."""
        return {
            "text": self.text,
            "citations": list(self.citations),
            "supported": self.supported,
            "gap": self.gap,
        }


CITATION = re.compile(r"(`[^`\n]+`)|(?<![ \t])[ \t]*(?:\[(\^?\d[\d,; \t–-]*)\]|【(\d+)[^】\n]{0,40}】)")
"""Code, which is left alone, or the numbers of excerpts with all blanks before them."""

REREAD = 32
"""What is no whole sentence yet is read again when it has grown by this part of it: too little to wait for, and enough that a
model which repeats itself takes no time that grows with the square of what it says."""

NO_LETTER = re.compile(r"[\W\d_]*\Z")
"""Signs that may still become the numbers of the sentence before them."""


def cite(pieces: Iterable[str], count: int) -> Iterator[Sentence]:
    """Yield the sentences of an answer that comes in pieces, each as soon as it is whole. *count*: of the excerpts given.

    What came of an answer that is cut short is given before CutShort is raised.
    """
    reader = _Reader(count)
    try:
        for piece in pieces:
            yield from reader.read(piece)
    except CutShort:
        yield from reader.rest()
        raise
    yield from reader.rest()


@dataclass
class _Reader:
    """Keeps what of an answer is no whole sentence yet: *text* from the line on in which the last one ended, at *done*.

    *before*: the end of that line, where nothing follows in it and it is left out. *waiting*: characters that came since it was
    read.
    """

    count: int
    text: str = ""
    done: int = 0
    before: str = ""
    waiting: int = 0
    begun: bool = False

    def read(self, piece: str) -> Iterator[Sentence]:
        self.text += piece
        self.waiting += len(piece)
        if self.waiting * REREAD < len(self.text) - self.done:
            return
        self.waiting = 0
        spans = self._left()
        if len(spans) > 1 and not NO_LETTER.match(self.text, spans[-1].start):
            yield from self._take(spans[:-1])

    def rest(self) -> Iterator[Sentence]:
        yield from self._take(self._left())

    def _left(self) -> list[Span]:
        return sentences(self.text, self.done)

    def _take(self, spans: Sequence[Span]) -> Iterator[Sentence]:
        found: list[Sentence] = []
        for start, end in spans:
            gap = _gap(self.before + self.text[self.done : start]) if self.begun else ""
            sentence = checked(self.text[start:end], self.count, gap)
            self.done, self.before = end, ""
            if sentence.text:
                self.begun = True
                found.append(sentence)
            elif found:  # numbers alone, in a line of their own
                found[-1] = found[-1].resting_on(sentence)
        self._forget()
        yield from found

    def _forget(self) -> None:
        """Leave out the lines that are read; a line is kept whole, as its beginning says what it is."""
        end = self.text.find("\n", self.done)
        if end >= 0 and not self.text[self.done : end].strip():
            self.text, self.done, self.before = self.text[end + 1 :], 0, "\n"
        else:
            line = self.text.rfind("\n", 0, self.done) + 1
            self.text, self.done = self.text[line:], self.done - line


def _gap(blanks: str) -> str:
    return "\n" * min(2, blanks.count("\n")) or (" " if blanks else "")


def checked(text: str, count: int, gap: str = "") -> Sentence:
    """Return a sentence with the numbers in it that are excerpts' (1 to *count*), each once; the others are removed.

    >>> checked("Storms flood coasts [2][9].", 3)
    Sentence(text='Storms flood coasts.', citations=(2,), gap='', quoted=False, removed=1)
    """
    if text.startswith(("```", "~~~")):
        body, _, behind = text.rpartition("\n")
        closing = CITATION.sub("", behind)
        numbers = [n for found in CITATION.finditer(behind) for n in _numbers(found[2] or found[3] or "")]
        return _sentence(f"{body}\n{closing}" if body else text, numbers, count, gap)
    numbers = []

    def take(found: re.Match[str]) -> str:
        if found[1]:
            return found[1]
        named = _numbers(found[2] or found[3])
        is_code = found[0].startswith("[") and re.match(r"[\w)]", text[max(0, found.start() - 1)]) and found.start()
        if is_code and not any(1 <= number <= count for number in named):
            return found[0]  # rows[0]
        numbers.extend(named)
        return ""

    plain = CITATION.sub(take, text).strip()
    return _sentence(plain if re.search(r"\w", plain) else "", numbers, count, gap)


def _sentence(text: str, numbers: list[int], count: int, gap: str) -> Sentence:
    known = dict.fromkeys(number for number in numbers if 1 <= number <= count)
    removed = sum(not 1 <= number <= count for number in numbers)
    return Sentence(text, tuple(known), gap, removed=removed)


def _numbers(text: str) -> list[int]:
    """Return the numbers of a citation, a range as its two ends and what is between.

    >>> _numbers("1, 3–5"), _numbers("^2")
    ([1, 3, 4, 5], [2])
    """
    found: list[int] = []
    for part in re.findall(r"\d+\s*[–-]\s*\d+|\d+", text):
        ends = [int(number[:6]) for number in re.findall(r"\d+", part)]
        found += range(ends[0], ends[-1] + 1) if 0 <= ends[-1] - ends[0] < MOST_IN_RANGE else ends
    return found


MOST_IN_RANGE = 20


def says_not_found(given: Iterable[Sentence]) -> bool:
    """Tell whether an answer is that there is none."""
    return [sentence.text for sentence in given] == [NOT_FOUND]


def answer_dict(
    given: Sequence[Sentence], passages: Sequence[Passage], chat_model: str | None, notice: str = ""
) -> dict[str, Any]:
    """Return an answer for JSON. *chat_model*: who wrote it, None for quotations; *notice*: why it is not whole."""
    return {
        "chat_model": chat_model,
        "found": bool(given) and not says_not_found(given),
        "answer": "".join(f"{one.gap}{one.text}" for one in given),
        "notice": notice or None,
        "removed_citations": sum(one.removed for one in given),
        "sentences": [one.as_dict() for one in given],
        "excerpts": [passage.as_dict() for passage in passages],
    }
