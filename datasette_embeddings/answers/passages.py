"""What of rows could answer a question: their text as it was embedded, of long rows the best windows, of chunks the chunk."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from datasette_embeddings import templating, vectors
from datasette_embeddings.answers.sentences import Span, sentences
from datasette_embeddings.answers.words import held, share, telling_terms, tokens_of, weights
from datasette_embeddings.catalog import HEADING_SEPARATOR
from datasette_embeddings.chunks import parts_of, stored_texts
from datasette_embeddings.errors import ConfigError, SourceError
from datasette_embeddings.excerpts import LOOKED_AT_CHARACTERS
from datasette_embeddings.labels import joinable, label_column
from datasette_embeddings.limits import PASSAGE_CHARACTERS, PASSAGES_PER_ROW, WINDOW_TOKENS
from datasette_embeddings.models.base import CHARACTERS_PER_TOKEN
from datasette_embeddings.rows import source_row
from datasette_embeddings.sources import PARAGRAPH, table_source

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.answers.question import Question
    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.chunks import Part
    from datasette_embeddings.search import Hit
    from datasette_embeddings.tables import Tables


@dataclass(frozen=True)
class Passage:
    """A part of a row that may answer: *number* is the n of its citation [n], 0 before it is chosen.

    *score*: that of the row, in [-1, 1]. *holds*: how much of what the question's telling words say it holds, in [0, 1].
    *vector*: (d,) where what was embedded is just this text.
    """

    item: str
    chunk: str | None
    title: str
    heading: str
    text: str
    score: float
    holds: float = 0.0
    vector: NDArray[np.float32] | None = None
    number: int = 0

    @property
    def place(self) -> str:
        """The title and the headings above it."""
        inside = self.heading.removeprefix(self.title).removeprefix(HEADING_SEPARATOR) if self.title else self.heading
        return HEADING_SEPARATOR.join(part for part in (self.title, inside) if part)

    def as_dict(self) -> dict[str, object]:
        """Return the passage for JSON."""
        names = ("number", "chunk", "title", "heading", "place", "text", "score")
        return {"id": self.item, **{name: getattr(self, name) for name in names}}


def passages_of(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    hits: Sequence[Hit],
    question: Question,
    label: str | None = None,
) -> list[Passage]:
    """Return the passages of some rows, in the order of *hits*; rows that are gone or have no text are left out.

    Of a chunk that says nothing, or whose row was edited since, the row's own text is read instead, once for each row.
    *label*: the column that names a row, where the site says which.
    """
    texts = row_texts(conn, tables, collection, list(dict.fromkeys(hit.id for hit in hits)), label)
    parts = parts_of(conn, tables, collection, [hit.chunk for hit in hits if hit.chunk])
    told = {chunk: part for chunk, part in parts.items() if part.text and not _is_title(part, texts[part.row][0])}
    read = {part.row for part in told.values()}
    stored = _vectors(conn, tables, collection, [hit.chunk or hit.id for hit in hits])
    found: list[Passage] = []
    for hit in hits:
        title, text = texts[hit.id]
        whole = Passage(hit.id, None, title, "", text, hit.score, vector=stored.get(hit.chunk or hit.id))
        part = told.get(hit.chunk or "")
        if part:
            whole = replace(whole, chunk=hit.chunk, heading=part.heading, text=readable(str(part.text)))
        elif hit.id in read:
            continue  # a chunk that says nothing, of a row of which others do
        read.add(hit.id)
        found += _windows(whole, question)
    wanted = telling_terms(question.text)
    holding = held([f"{passage.place}\n{passage.text}" for passage in found], wanted)
    weight = weights(holding, wanted)
    return [replace(passage, holds=share(holds, weight)) for passage, holds in zip(found, holding, strict=True)]


def _is_title(part: Part, title: str) -> bool:
    """Tell whether a chunk says nothing but what the row or its part is called."""
    return " ".join(str(part.text).split()).lstrip("# ") in {"", title, part.heading.rpartition(HEADING_SEPARATOR)[2]}


def _windows(whole: Passage, question: Question) -> list[Passage]:
    """Return the passages of a row or chunk: itself, or of a long one the best windows; none where it has no text."""
    windows = windows_of(whole.text[:PASSAGE_CHARACTERS])
    if len(windows) < 2:
        return [replace(whole, text=text) for text in windows]
    return [replace(whole, text=windows[place], vector=None) for place in best_windows(windows, question)]


def _vectors(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, items: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Return the unit vectors of some items; of one that is no embedding, none."""
    sql = f"select id, embedding from {tables.embeddings} where collection_id = ? and id in (select value from json_each(?))"
    rows = conn.execute(sql, [collection.id, json.dumps(list(items))])
    size = collection.dimensions
    usable = ((item, blob) for item, blob in rows if vectors.valid(blob) and size in {None, len(blob) // 4})
    return {item: vectors.decode(vectors.normalize(blob)) for item, blob in usable if any(vectors.decode(blob))}


def row_texts(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, ids: Sequence[str], label: str | None
) -> dict[str, tuple[str, str]]:
    """Return the title and the text of each row, "" where it has none."""
    source = table_source(collection)
    if source is None or not (source.columns or source.template) or not joinable(conn, collection):
        stored = stored_texts(conn, tables, collection, ids)
        return {item: ("", readable(stored.get(item) or "")) for item in ids}
    parted = replace(source, separator=PARAGRAPH)  # that no title runs into the first sentence
    named = label or label_column(conn, collection)
    found = {}
    for item in ids:
        row = source_row(conn, collection, item)
        try:
            text = str(parted.renderer(list(row))(row)) if row else ""
        except (SourceError, ConfigError, KeyError):
            text = ""  # the row, or its table, is not any more as it was embedded
        found[item] = _parted((row or {}).get(named or ""), readable(text))
    return found


def _parted(name: object, text: str) -> tuple[str, str]:
    """Return the title that *name* is, "" where it is none or all there is, and the text without it."""
    title = "" if name is None or isinstance(name, bytes) else " ".join(readable(str(name)).split())
    first, _, rest = text.partition("\n")
    if " ".join(first.split()) != title:
        return (title if len(title) <= TITLE_CHARACTERS else ""), text
    return (title, rest.lstrip("\n")) if rest.strip() else ("", text)


TITLE_CHARACTERS = 200
"""A longer one is a text: the first column that is embedded, where none is called title or name."""


HTML = re.compile(r"</(?:p|div|li|ul|h[1-6]|table)\s*>", re.I)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\U000e0000-\U000e007f]")
"""Signs that nobody sees; the last are letters without a shape, in which people have hidden words for models."""


def readable(text: str) -> str:
    """Return a text as people read it: of HTML its words, without signs that nobody sees.

    >>> readable("<h1>Storm</h1><p>Rain fell.</p>"), readable("print('<p>x</p>')")
    ('Storm\\nRain fell.', "print('<p>x</p>')")
    """
    text = CONTROL.sub("", text)
    if not (text.lstrip().startswith("<") and HTML.search(text)):
        return text.strip()
    # Python's parser takes a time that grows with the square of what tags and comments without an end it is given.
    return templating.strip_html(text[:LOOKED_AT_CHARACTERS])


def windows_of(text: str, tokens: int = WINDOW_TOKENS) -> list[str]:
    """Return a text in windows of whole sentences, all of about so many tokens; one that is hardly longer stays whole."""
    spans = [part for span in sentences(text) for part in _parts(text, span, tokens)]
    sizes = [tokens_of(text[start:end]) for start, end in spans]
    total = sum(sizes)
    number = max(1, round(total / tokens))
    windows: list[tuple[int, int]] = []
    passed, last = 0.0, -1
    for (start, end), size in zip(spans, sizes, strict=True):
        place = int((passed + size / 2) * number / total)
        passed += size
        windows[-1:] = [(windows[-1][0], end)] if place == last else [*windows[-1:], (start, end)]
        last = place
    return [text[start:end] for start, end in windows]


def _parts(text: str, span: Span, tokens: int) -> Iterator[Span]:
    """Yield a sentence, or the lines, or the words, of one that fills a window by itself, as code and tables do."""
    start, end = span
    if tokens_of(text[start:end]) <= tokens:
        yield span
        return
    most = tokens * CHARACTERS_PER_TOKEN // 2
    while start < end:
        cut = end if end - start <= most else start + most
        if cut < end:
            line, blank = text.rfind("\n", start + 1, cut), text.rfind(" ", start + 1, cut)
            cut = line if line > 0 else blank if blank > 0 else cut
        yield Span(start, cut)
        start = cut


def best_windows(windows: Sequence[str], question: Question) -> list[int]:
    """Return the places of the windows that answer best, best first: by words found and, where that is quick, by meaning."""
    wanted = telling_terms(question.text)
    holding = held(windows, wanted)
    weight = weights(holding, wanted)
    shares = np.array([share(holds, weight) for holds in holding])
    near = question.closeness(windows) if question.quick else None
    scores = shares if near is None else near + (1 - near) * shares**2
    return [int(place) for place in np.argsort(-scores, kind="stable")[:PASSAGES_PER_ROW]]
