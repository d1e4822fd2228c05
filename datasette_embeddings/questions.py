"""Questions whose answers are known: read from a file, asked of a collection by words, by meaning and by both, and counted."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from datasette_embeddings import evaluation, fulltext
from datasette_embeddings.database import item_id
from datasette_embeddings.errors import SourceError
from datasette_embeddings.limits import MAX_K
from datasette_embeddings.rows import excerpts, shorten
from datasette_embeddings.search import hybrid_items, nearest_items
from datasette_embeddings.sources import read_records

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.embedder import Embedder
    from datasette_embeddings.tables import Tables

    Found = list[str]

WAYS = ("words", "meaning", "both")

FORMATS = {".csv": "csv", ".tsv": "tsv", ".json": "json", ".nl": "nl", ".ndjson": "nl", ".jsonl": "nl"}
"""Endings of a file's name, and what is in it; for others the reader finds out."""

FEW = 10
"""Of fewer questions, intervals mean little: one more or less moves the mean by a tenth and more."""

NAMED = 5
"""Unknown ids that are named; of more, how many there are."""

WORST = 10
"""Questions that are shown, of those that were not answered first."""

QUESTION_CHARACTERS = 48
"""Of a question, and of what came first, in the table: both fit beside each other on a wide terminal."""


class Question(NamedTuple):
    """A question, and the ids of the rows that answer it."""

    text: str
    right: tuple[str, ...]


class Pairs(NamedTuple):
    """What a file asks. *notes*: what of it says nothing."""

    questions: list[Question]
    notes: list[str]


class Interval(NamedTuple):
    """A mean with the ends of its 95 percent interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Measure:
    """How one way to search answered: how many questions *first*, how many *within* the depth (the first ones too), how many *not*."""

    way: str
    mrr: Interval
    recall: Interval
    first: int
    within: int
    not_found: int


@dataclass(frozen=True)
class Difference:
    """What searching by both changes over the better of the two, in reciprocal rank; paired by question."""

    over: str
    mrr: Interval

    @property
    def verdict(self) -> str:
        """What that means, in words."""
        if self.mrr.low > 0:
            return "both is clearly better"
        return "both is clearly worse" if self.mrr.high < 0 else "no clear difference"


@dataclass(frozen=True)
class Failure:
    """A question that was not answered first by words and meaning together: where its answer stood, and what came first."""

    question: str
    wanted: tuple[str, ...]
    rank: int | None
    first: str | None
    text: str


@dataclass(frozen=True)
class Evaluation:
    """All that is said of a collection's searches. *notes*: what was left out, and what to think of the figures."""

    collection: str
    model: str
    items: int
    questions: int
    depth: int
    measures: list[Measure]
    difference: Difference | None
    failures: list[Failure]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        named = asdict(self)
        for measure in named["measures"]:
            measure |= {name: measure[name]._asdict() for name in ("mrr", "recall")}
        if self.difference:
            named["difference"] = {"over": self.difference.over, "mrr": self.difference.mrr._asdict()}
        return named

    def lines(self) -> Iterator[str]:
        """Yield it as text."""
        asked = "1 question" if self.questions == 1 else f"{self.questions:,} questions"
        yield f"{self.collection}: {asked} to {self.items:,} items, by {self.model}"
        yield ""
        d = self.depth
        yield f"{'':8}  {f'MRR@{d}':<21}  {f'recall@{d}':<21}  {'first':>6}  {f'in {d}':>6}  {'not':>6}"
        for one in self.measures:
            counts = f"{one.first:>6,}  {one.within:>6,}  {one.not_found:>6,}"
            yield f"{one.way:8}  {one.mrr!s:<21}  {one.recall!s:<21}  {counts}"
        if self.difference:
            mean, low, high = self.difference.mrr
            yield ""
            yield (
                f"both - {self.difference.over}, the better of the two: MRR@{d} {mean:+.3f} [{low:+.3f}, {high:+.3f}], "
                f"{self.difference.verdict}"
            )
        for note in self.notes:
            yield f"note: {note}"
        if self.failures:
            yield from self._failures()

    def _failures(self) -> Iterator[str]:
        yield ""
        rows = [("rank", "question", "wanted", "came first")]
        for one in self.failures:
            place = "-" if one.rank is None else str(one.rank)
            came = f"{one.first}: {one.text}" if one.first is not None else "nothing"
            rows.append((place, _cut(one.question), _cut(", ".join(one.wanted)), _cut(came)))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        for place, question, wanted, came in rows:
            yield f"{place:>{widths[0]}}  {question:<{widths[1]}}  {wanted:<{widths[2]}}  {came}"


def _cut(text: str) -> str:
    line = shorten(text)
    return line if len(line) <= QUESTION_CHARACTERS else line[: QUESTION_CHARACTERS - 1].rstrip() + "…"


# Reading


def read_pairs(raw: bytes, name: str, ending: str = "") -> Pairs:
    """Return the questions of a CSV, TSV, JSON or NDJSON file, *ending* being that of its name where it has one.

    Columns `question` and `id`, or the first two; several rows with one question are several right answers, and so is a list.
    Raises SourceError where there is no question.
    """
    expected = "a question and the id of the row that answers it, in columns `question` and `id`"
    if not raw.strip():
        raise SourceError(f"{name} is empty; it holds, as CSV, TSV, JSON or NDJSON, {expected}")
    found: dict[str, dict[str, None]] = {}
    blank = 0
    for record in read_records(io.BytesIO(raw), name, FORMATS.get(ending.lower()), None):
        if not isinstance(record, Mapping) or len(record) < 2:
            fields = ", ".join(map(str, record)) if isinstance(record, Mapping) else str(record)[:40]
            raise SourceError(f"{name}: every line holds {expected}; found {fields}")
        asked, answer = _fields(record)
        text, ids = str(asked or "").strip(), _ids(answer)
        if text and ids:
            found.setdefault(text, {}).update(dict.fromkeys(ids))
        else:
            blank += 1
    if not found:
        raise SourceError(f"{name} holds no question; it holds {expected}")
    left_out = f"{blank:,} {'line has' if blank == 1 else 'lines have'} no question or no id, and count for nothing"
    return Pairs([Question(text, tuple(ids)) for text, ids in found.items()], [left_out] if blank else [])


def _fields(record: Mapping[str, object]) -> tuple[object, object]:
    """Return the question and the id of a record."""
    lower = {str(name).strip().lower(): value for name, value in record.items()}
    answer = next((lower[name] for name in ("id", "ids") if name in lower), None)
    if "question" in lower and answer is not None:
        return lower["question"], answer
    values = list(record.values())
    return values[0], values[1]


def _ids(answer: object) -> list[str]:
    """Return the ids in one field: one, or a list, which may be JSON in a text."""
    values = answer if isinstance(answer, list) else [answer]
    if isinstance(answer, str) and answer.lstrip().startswith("["):
        try:
            values = json.loads(answer)
        except ValueError:
            values = [answer.strip()]
    ids = [item_id((value,)) for value in values if not isinstance(value, (dict, list))]
    return [item for item in ids if item and item.strip()]


# Asking


def evaluate(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    embedder: Embedder,
    pairs: Pairs,
    depth: int = evaluation.DEPTH,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Ask a collection every question in all ways, and count what was found where.

    Right ids that are not in the collection are left out, with a note. Raises SourceError where no question is left.
    """
    items = _items(conn, tables, collection)
    asked, unknown = _answerable(pairs.questions, items, collection)
    notes = [*pairs.notes, *unknown]
    found: dict[str, list[Found]] = {way: [] for way in WAYS}
    for question in asked:
        for way, ids in _search(conn, tables, collection, embedder, question.text, items).items():
            found[way].append(ids)
        if progress:
            progress(1)
    has_words = fulltext.text_index(conn, tables, collection) is not None
    if not has_words:
        notes.append(
            "there is no full-text index, so nothing is found by words, and both is meaning alone: a build makes one"
        )
    if len(asked) < FEW:
        notes.append(f"fewer than {FEW} questions: the intervals mean little; 30 and more tell something")
    ways = WAYS if has_words else ("meaning",)
    measures = [_measure(way, asked, found[way], depth) for way in ways]
    difference = _difference(asked, found, depth, measures) if has_words else None
    failures = _failures(conn, tables, collection, asked, found["both"])
    return Evaluation(
        collection.name, collection.model, len(items), len(asked), depth, measures, difference, failures, notes
    )


def _items(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> set[str]:
    """Return the ids of the rows that a search can find."""
    rows = conn.execute(f"select id from {tables.embeddings} where collection_id = ?", [collection.id])
    return {collection.row_of(item) for (item,) in rows}


def _answerable(
    questions: Sequence[Question], items: set[str], collection: Collection
) -> tuple[list[Question], list[str]]:
    """Return the questions with those of their answers that the collection holds, and a note on the others."""
    unknown = list(dict.fromkeys(item for question in questions for item in question.right if item not in items))
    kept = [Question(q.text, tuple(item for item in q.right if item in items)) for q in questions]
    asked = [question for question in kept if question.right]
    if not unknown:
        return asked, []
    more = f" and {len(unknown) - NAMED:,} more" if len(unknown) > NAMED else ""
    named = ", ".join(unknown[:NAMED]) + more
    ids = "1 right id is" if len(unknown) == 1 else f"{len(unknown):,} right ids are"
    note = f"{ids} not in the collection {collection.name!r}: {named}"
    if not asked:
        some = ", ".join(sorted(items)[:NAMED]) or "none"
        raise SourceError(f"{note}; no question is left. Its ids are as in the source's key, such as: {some}")
    gone = len(questions) - len(asked)
    left_out = "" if not gone else f"; {gone:,} {'question is' if gone == 1 else 'questions are'} left out"
    return asked, [note + left_out]


def _search(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    embedder: Embedder,
    text: str,
    items: set[str],
) -> dict[str, Found]:
    """Return the ids that each way finds, best first."""
    vector = embedder.query_if_known(collection, text)
    nearest = nearest_items(conn, tables, collection, vector, MAX_K) if vector else []
    both = hybrid_items(conn, tables, collection, vector, text, MAX_K)
    return {
        "words": _by_words(conn, tables, collection, text, items),
        "meaning": [hit.id for hit in nearest],
        "both": [hit.id for hit in both],
    }


def _by_words(conn: sqlite3.Connection, tables: Tables, collection: Collection, text: str, items: set[str]) -> Found:
    """Return the rows that hold any word of a text, by BM25; a row in chunks has the place of its best one."""
    index, wanted = fulltext.text_index(conn, tables, collection), fulltext.terms(text)
    if index is None or not wanted:
        return []
    rows = (collection.row_of(match.id) for match in index.matches(conn, fulltext.any_of(wanted)))
    return list(dict.fromkeys(row for row in rows if row in items))


# Counting


def _reciprocal(asked: Sequence[Question], found: Sequence[Found], depth: int) -> Any:  # noqa: ANN401 - NDArray
    pairs = zip(asked, found, strict=True)
    return np.array([evaluation.reciprocal_rank(ids, question.right, depth) for question, ids in pairs])


def _measure(way: str, asked: Sequence[Question], found: Sequence[Found], depth: int) -> Measure:
    reciprocal = _reciprocal(asked, found, depth)
    recalls = [evaluation.recall(ids, question.right, depth) for question, ids in zip(asked, found, strict=True)]
    return Measure(
        way,
        Interval(*evaluation.interval(reciprocal)),
        Interval(*evaluation.interval(np.array(recalls))),
        first=int(np.count_nonzero(reciprocal == 1.0)),
        within=int(np.count_nonzero(reciprocal)),
        not_found=int(np.count_nonzero(reciprocal == 0.0)),
    )


def _difference(
    asked: Sequence[Question], found: Mapping[str, Sequence[Found]], depth: int, measures: Sequence[Measure]
) -> Difference:
    means = {one.way: one.mrr.mean for one in measures}
    over = "words" if means["words"] > means["meaning"] else "meaning"
    paired = _reciprocal(asked, found["both"], depth) - _reciprocal(asked, found[over], depth)
    return Difference(over, Interval(*evaluation.interval(paired)))


def _failures(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, asked: Sequence[Question], found: Sequence[Found]
) -> list[Failure]:
    """Return the questions that were answered worst, those without their answer first."""
    ranked = [(evaluation.rank(ids, question.right), question, ids) for question, ids in zip(asked, found, strict=True)]
    worst = sorted((one for one in ranked if one[0] != 1), key=lambda one: -(one[0] or MAX_K + 1))[:WORST]
    texts = excerpts(conn, tables, collection, [ids[0] for _, _, ids in worst if ids])
    return [
        Failure(question.text, question.right, place, *((ids[0], texts[ids[0]]) if ids else (None, "")))
        for place, question, ids in worst
    ]
