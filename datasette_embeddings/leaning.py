"""A text that a visitor gives, sentence by sentence between two labels of a collection: how near to which, by `embed_spectrum`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasette_embeddings import asking, queries, site, vectors
from datasette_embeddings.answers.sentences import sentences
from datasette_embeddings.asking import Refused
from datasette_embeddings.errors import EmbeddingsError, nearest
from datasette_embeddings.finding import current
from datasette_embeddings.functions import spectrum
from datasette_embeddings.limits import SPECTRUM_CHARACTERS, SPECTRUM_SENTENCES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from datasette_embeddings.answers.sentences import Span
    from datasette_embeddings.places import Place

TONES = 9
"""Steps of the scale of colours: an odd number, so that one says neither."""


class Pole(NamedTuple):
    """A label at one end. *average*: where its examples lie between the two ends, on average."""

    label: str
    embedding: bytes
    average: float


@dataclass(frozen=True)
class Sentence:
    """A sentence, what stands before it, and its value, 0 at the low end and 1 at the high one; None where the model knows no word of it."""

    text: str
    start: int
    before: str = ""
    value: float | None = None

    @property
    def tone(self) -> int | None:
        """The step of the scale of colours, 0 to TONES - 1."""
        return None if self.value is None else tone(self.value)


@dataclass(frozen=True)
class Spectrum:
    """A text between two of the *labels* of a collection, and the SQL that gives the same for a list of sentences.

    *left_out*: how many sentences after those shown were not looked at.
    """

    labels: list[str]
    low: Pole
    high: Pole
    sentences: list[Sentence]
    left_out: int
    sql: str

    @property
    def average(self) -> float | None:
        """The mean of the sentences' values; None where there are none."""
        values = [sentence.value for sentence in self.sentences if sentence.value is not None]
        return sum(values) / len(values) if values else None


def tone(value: float) -> int:
    """Return the step of the scale of colours that a value has.

    >>> tone(0.0), tone(0.5), tone(1.0)
    (0, 4, 8)
    """
    return min(TONES - 1, int(value * TONES))


async def between(place: Place, text: str, low: str = "", high: str = "", number: int | None = None) -> Spectrum:
    """Return the sentences of a text, the first *number* of them, between two labels: the first two by name unless told.

    Raises Refused where the text is too long or cannot be embedded, EmbeddingsError where there are no such labels, and Datasette's NotFound
    where there are not two.
    """
    from datasette.utils.asgi import NotFound

    if len(text) > SPECTRUM_CHARACTERS:
        raise Refused(f"this text has {len(text):,} characters; this page takes at most {SPECTRUM_CHARACTERS:,}")
    averages, sql = await place.run(lambda conn: (_averages(conn, place), _sql(conn, place)))
    if len(averages) < 2:
        raise NotFound(f"{place.collection.name} has no two labels that a text could lie between")
    ends = poles(averages, low, high)
    spans = sentences(text)
    shown = spans[: min(number or SPECTRUM_SENTENCES, SPECTRUM_SENTENCES)]
    found = await _vectors(place, [text[start:end] for start, end in shown])
    values = [None if blob is None else _value(blob, *ends) for blob in found]
    return Spectrum(list(averages), *ends, _placed(text, shown, values), len(spans) - len(shown), sql)


def _averages(conn: sqlite3.Connection, place: Place) -> dict[str, bytes]:
    tables, collection = current(conn, place)
    if collection.labels is None:
        return {}
    sql = f"select label, embedding from {tables.labels} where collection_id = ? order by label"
    return dict(conn.execute(sql, [collection.id]).fetchall())


def _sql(conn: sqlite3.Connection, place: Place) -> str:
    tables, collection = current(conn, place)
    return queries.spectrum_sql(tables, collection)


def poles(averages: dict[str, bytes], low: str = "", high: str = "") -> tuple[Pole, Pole]:
    """Return the two ends; raises EmbeddingsError for labels that are not there, or twice the same."""
    for label in filter(None, (low, high)):
        if label not in averages:
            raise EmbeddingsError(f"there is no label {label[:80]!r}; {nearest(label, averages)}")
    low = low or next(label for label in averages if label != high)
    high = high or next(label for label in averages if label != low)
    if low == high:
        raise EmbeddingsError(f"a text lies between two different labels; low and high are both {low!r}")
    first, second = averages[low], averages[high]
    means = [vectors.decode(blob).astype(np.float64) for blob in (first, second)]
    start, end = map(vectors.direction, means)
    axis = end - start
    length = float(axis @ axis)
    if length == 0.0:
        raise EmbeddingsError(f"the averages of {low!r} and {high!r} are the same, so nothing lies between them")
    # The mean of projections is the projection of the mean: no row has to be read.
    at = [float(np.clip((mean - start) @ axis / length, 0.0, 1.0)) for mean in means]
    return Pole(low, first, at[0]), Pole(high, second, at[1])


def _value(blob: bytes, low: Pole, high: Pole) -> float:
    return round(spectrum(blob, low.embedding, high.embedding), vectors.SCORE_DECIMALS)


def _placed(text: str, spans: Sequence[Span], values: Sequence[float | None]) -> list[Sentence]:
    ends = [0, *(span.end for span in spans)]
    return [
        Sentence(text[start:end], start, text[before:start], value)
        for (start, end), before, value in zip(spans, ends, values, strict=False)
    ]


async def _vectors(place: Place, texts: Sequence[str]) -> list[bytes | None]:
    """Return the vectors of sentences, None for those that the model knows no word of; raises Refused."""
    embedder = site.embedder_of(place.datasette)
    opened = asking.opened(embedder)
    if not texts:
        return []
    return await asking.in_turn(
        embedder, place.collection.model, lambda: opened.documents(place.collection, texts), len(texts)
    )
