"""What a person is shown for each item: its title, an excerpt, a score that can be seen, and the row itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasette_embeddings.catalog import HEADING_SEPARATOR
from datasette_embeddings.chunks import Part, parts_of, stored_texts
from datasette_embeddings.excerpts import Excerpt, excerpts
from datasette_embeddings.fulltext import embedded_columns
from datasette_embeddings.labels import joinable, label_column
from datasette_embeddings.rows import source_row

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.search import Hit
    from datasette_embeddings.tables import Tables


@dataclass(frozen=True)
class Result:
    """One row of a list. *row*: its own columns without BLOBs; {} where the source has no such row.

    *chunk*: the part of it that was found, and *heading* what that stands under, of a row in chunks.
    """

    id: str
    score: float
    weak: bool
    excerpt: Excerpt
    row: dict[str, Any]
    chunk: str | None = None
    heading: str = ""

    @property
    def title(self) -> str:
        """What the row is called."""
        return self.excerpt.plain_title or self.id

    @property
    def section(self) -> str:
        """The headings within the row that what was found stands under."""
        parts = self.heading.split(HEADING_SEPARATOR) if self.heading else []
        return HEADING_SEPARATOR.join(parts[1:] if parts[:1] == [self.title] else parts)

    @property
    def percent(self) -> int:
        """The length of a bar for the score, 0 to 100."""
        return max(0, min(100, round(self.score * 100)))

    def as_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return {
            "id": self.id,
            "score": self.score,
            "weak": self.weak,
            "title": self.title,
            **({"chunk": self.chunk, "heading": self.heading} if self.chunk else {}),
            "excerpt": self.excerpt.plain_text,
            "row": self.row,
        }


def results_of(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    hits: Sequence[Hit],
    *,
    query: str = "",
    label: str | None = None,
) -> list[Result]:
    """Return hits as people see them; those whose source row is gone are left out.

    *query*: words to mark. *label*: the column that names a row, where the site says which.
    """
    if joinable(conn, collection):
        rows = {hit.id: source_row(conn, collection, hit.id) for hit in hits}
        shown = [(hit, row) for hit in hits if (row := rows[hit.id]) is not None]
        texts = _texts_of_rows(conn, collection, [row for _, row in shown], label)
    else:
        stored = stored_texts(conn, tables, collection, [hit.id for hit in hits if not hit.chunk])
        shown = [(hit, {}) for hit in hits]
        texts = [(hit.id, stored.get(hit.id) or "") for hit in hits]
    found = parts_of(conn, tables, collection, [hit.chunk for hit, _ in shown if hit.chunk])
    parts = [found.get(hit.chunk or "", WHOLE) for hit, _ in shown]
    texts = [
        (title, text if part.text is None else part.text) for (title, text), part in zip(texts, parts, strict=True)
    ]
    floor = collection.noise_floor
    return [
        Result(
            hit.id,
            hit.score,
            floor is not None and hit.score < floor,
            shown_part,
            without_blobs(row),
            hit.chunk,
            part.heading,
        )
        for (hit, row), part, shown_part in zip(shown, parts, excerpts(texts, query), strict=True)
    ]


WHOLE = Part("", "", None)
"""Stands for the part of a row that was found as a whole."""


def _texts_of_rows(
    conn: sqlite3.Connection, collection: Collection, rows: Sequence[dict[str, Any]], label: str | None
) -> list[tuple[str, str]]:
    """Return the title and the text of each row."""
    title = label or label_column(conn, collection)
    embedded = embedded_columns(collection)
    found = []
    for row in rows:
        names = [name for name in embedded or row if name != title and name in row]
        text = " · ".join(str(row[name]) for name in names if isinstance(row[name], str) and row[name].strip())
        name = row.get(title or "")
        found.append(("" if name is None or isinstance(name, bytes) else str(name), text))
    return found


def without_blobs(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without its BLOBs, which are pictures or vectors and of no use in a list."""
    return {name: value for name, value in row.items() if not isinstance(value, bytes)}
