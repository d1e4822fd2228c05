"""An answer without a chat model: the sentences of the excerpts that come nearest to the question, word for word."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasette_embeddings.answers.citing import Sentence
from datasette_embeddings.answers.prompting import NOT_FOUND
from datasette_embeddings.answers.sentences import sentences
from datasette_embeddings.answers.words import held, overlap, share, telling_terms, weights, word_set
from datasette_embeddings.limits import QUOTED_CANDIDATES, QUOTED_CHARACTERS, QUOTED_SENTENCES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.answers.passages import Passage
    from datasette_embeddings.answers.question import Question

NEAR = 0.8
"""A sentence is quoted that comes as near as this share of the best one."""

SAME = 0.75
"""Overlap of words from which a sentence says nothing new beside one that is quoted."""

ORNAMENT = re.compile(
    r"([=\-~^*#_+])\1{3,}\s*|^\s*(?:#{1,6}|#\.|\.\.|>|[-*+•]|\d{1,3}[.)])\s+|^`{3,}.*$|^\s*::\s*$|^\s*\.\. (?:[\w:-]+::|_[^:\n]*:).*$|^\s*\[[^\]\n]+\]:\s+\S+.*$|\"{3}|'{3}",
    re.M,
)
"""Marks of headings, lists, fences, directives, definitions of links and docstrings, which are not of the sentence."""

CODE_SHARE = 0.85
"""What the score of code counts beside that of prose, which people read first."""


class Candidate(NamedTuple):
    """A sentence that may be quoted: of which passage, at which place in it."""

    passage: Passage
    place: int
    text: str


def quote_from(question: Question, passages: Sequence[Passage]) -> list[Sentence]:
    """Return the sentences that answer best, as quotations, passage by passage and in a passage's own order.

    The best passage comes first: that of the best sentence. Without any passage, the one sentence that says so.
    """
    candidates = candidates_of(passages)
    if not candidates:
        return [Sentence(NOT_FOUND)]
    shares = shares_of(question, candidates)
    rows = np.array([candidate.passage.score for candidate in candidates])
    few = np.argsort(-(shares + rows / 2), kind="stable")[:QUOTED_CANDIDATES].tolist()
    candidates = [candidates[n] for n in few]
    chosen = best_of(candidates, scores_of(question, candidates, shares[few]))
    first = {candidates[n].passage.number: rank for rank, n in reversed(list(enumerate(chosen)))}
    ordered = sorted(chosen, key=lambda n: (first[candidates[n].passage.number], candidates[n].place))
    return _joined([candidates[n] for n in ordered])


def candidates_of(passages: Sequence[Passage]) -> list[Candidate]:
    """Return what may be quoted: whole sentences, or whatever there is where a passage has none."""
    found: list[Candidate] = []
    for passage in passages:
        texts = [_plain(passage.text[start:end]) for start, end in sentences(passage.text)]
        units = [Candidate(passage, place, text) for place, text in enumerate(_with_what_follows(texts)) if text]
        found += [unit for unit in units if is_whole(unit.text)] or units
    return found


def is_whole(text: str) -> bool:
    """Tell whether a text says something by itself, as a heading or a label does not.

    >>> is_whole("Hash methods"), is_whole("It is slow."), is_whole("run: make test"), is_whole("東京は首都です。")
    (False, True, True, True)
    """
    if len(re.findall(r"\w", text)) < LETTERS:
        return False
    return bool(ENDED.search(text)) or len(text.split()) > HEADING_WORDS or bool(re.search(r"[=(){}:]", text))


ENDED = re.compile(r"[.!?…。！？؟।][\"'”’»)\]*_`」』]*\Z")
LETTERS = 6
"""Fewer letters say nothing in any script."""

HEADING_WORDS = 8
"""More words without a full stop are a sentence of somebody who writes none."""


def _with_what_follows(texts: Sequence[str]) -> list[str]:
    """Return sentences, those that end with a colon together with what they announce; that is empty in its own place."""
    found = list(texts)
    for n in range(len(found) - 1):
        if found[n].endswith(":") and found[n + 1]:
            found[n], found[n + 1] = _cut(f"{found[n]}\n{found[n + 1]}"), ""
    return found


def shares_of(question: Question, candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """Return how much of the question's words each sentence holds (n,), in [0, 1]; those of the title above it count half."""
    texts = [candidate.text for candidate in candidates]
    wanted = telling_terms(question.text)
    holding = held([*texts, *(_titled(candidate) for candidate in candidates)], wanted)
    weight = weights(holding, wanted)
    return np.asarray(np.array([share(holds, weight) for holds in holding]).reshape(2, -1).mean(axis=0))


def scores_of(question: Question, candidates: Sequence[Candidate], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how well each sentence answers (n,): by meaning and words together as searches are, or by words alone.

    The score of its row counts too, as a sentence by itself says less than what is around it.
    """
    near = question.closeness([_titled(candidate) for candidate in candidates])
    own = shares if near is None else near + (1 - near) * shares**2
    rows = np.array([candidate.passage.score for candidate in candidates])
    kind = np.array([CODE_SHARE if _is_code(candidate.text) else 1.0 for candidate in candidates])
    return np.asarray(((1 - ROW_SHARE) * own + ROW_SHARE * rows) * kind)


ROW_SHARE = 0.3
"""How much the score of its row counts in a sentence's: of 30 questions, 11 then begin with the right row, without it 7."""


def _titled(candidate: Candidate) -> str:
    return f"{candidate.passage.place}: {candidate.text}"


def best_of(candidates: Sequence[Candidate], scores: NDArray[np.float64]) -> list[int]:
    """Return the places of the best sentences, best first, none that repeats another."""
    chosen: list[int] = []
    words = [word_set(candidate.text) for candidate in candidates]
    for n in np.argsort(-scores, kind="stable").tolist():
        if chosen and scores[n] < NEAR * scores[chosen[0]]:
            break
        if all(overlap(words[n], words[other]) < SAME for other in chosen):
            chosen.append(n)
        if len(chosen) == QUOTED_SENTENCES:
            break
    return chosen


def _joined(candidates: Sequence[Candidate]) -> list[Sentence]:
    """Return quotations, with an ellipsis where sentences between them are left out; each passage begins a paragraph."""
    found: list[Sentence] = []
    last: Candidate | None = None
    for one in candidates:
        same = last is not None and last.passage.number == one.passage.number
        gap = "" if last is None else " " if same else "\n\n"
        skipped = same and last is not None and one.place > last.place + 1
        found.append(Sentence(f"… {one.text}" if skipped else one.text, (one.passage.number,), gap, quoted=True))
        last = one
    return found


def _plain(text: str) -> str:
    text = ORNAMENT.sub("", text).strip()
    if not re.search(r"\w", text):
        return ""
    if _is_code(text):
        return _cut("\n".join(line.rstrip() for line in text.split("\n") if line.strip()))
    return _cut(re.sub(r"::\Z", ":", " ".join(text.split())))


def _cut(text: str) -> str:
    if len(text) <= QUOTED_CHARACTERS:
        return text
    return text[:QUOTED_CHARACTERS].rsplit(None, 1)[0] + " …"


def _is_code(text: str) -> bool:
    """Tell whether the ends of lines are part of a text: most of its lines are indented or end as no sentence does."""
    lines = [line for line in text.split("\n") if line.strip()]
    return len(lines) > 1 and sum(bool(CODE_LINE.match(line)) for line in lines) * 2 > len(lines)


CODE_LINE = re.compile(r"\s{2,}\S|.*[({\[:;=,)}\]]\s*\Z")
