"""What every source gives: rows with their content, or with the reason why there is none."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from datasette_embeddings import templating
from datasette_embeddings.database import item_id
from datasette_embeddings.errors import SourceError
from datasette_embeddings.limits import MAX_TEXT_CHARACTERS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from datasette_embeddings.sources.records import RecordSource
    from datasette_embeddings.sources.tables import QuerySource


@dataclass(frozen=True)
class Row:
    """One row of a source. *id* is None, and so is the rest, where its key is NULL; *problem* says why there is no content.

    *again* gives the content once more, of a file that is large and lies where it is.
    """

    id: str | None
    content: str | bytes | None
    problem: str | None = None
    metadata: str | None = None
    cut: bool = False
    again: Callable[[], str | bytes] | None = None


class Source(Protocol):
    """Rows and what is remembered of where they come from. *prepend*: what stands before every content, for the model alone."""

    @property
    def prepend(self) -> str: ...  # noqa: D102

    def rows(self, conn: sqlite3.Connection) -> Iterator[Row]:
        """Yield every row, reading the collection's own database through *conn*."""

    def describe(self) -> dict[str, Any]:
        """Return what `embeddings_collections.source` keeps."""


def make_row(
    item: str | None,
    render: Callable[[], str | bytes],
    metadata: str | None = None,
    prepend: str = "",
    *,
    of_file: bool = False,
) -> Row:
    """Return a row with its content, *prepend* before what there is of it, or with the reason why it has none.

    *of_file*: an image is a file, which need not be copied to be at hand.
    """
    if item is None:
        return Row(None, None)
    item, metadata = whole(item), whole(metadata) if metadata else metadata
    try:
        content = render()
    except SourceError as error:
        return Row(item, None, str(error))
    if isinstance(content, bytes):
        return Row(item, content, metadata=metadata, again=render if of_file else None)
    content = prepend + content if content.strip() else ""
    return Row(item, as_read(content), metadata=metadata, cut=len(content) > MAX_TEXT_CHARACTERS)


def as_read(content: str) -> str:
    """Return what is read of a text: MAX_TEXT_CHARACTERS at most, as UTF-8 can hold them."""
    return whole(content[:MAX_TEXT_CHARACTERS])


def content_hash(content: str | bytes) -> bytes:
    """Return the md5 of the rendered content, as the `llm` tool computes it; 16 bytes."""
    return hashlib.md5(content.encode("utf-8") if isinstance(content, str) else content).digest()


def whole(text: str) -> str:
    """Return text that UTF-8 can hold: half a surrogate pair, from JSON or a file's name, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def row_of_values(source: QuerySource | RecordSource, names: Sequence[str], values: Sequence[object]) -> Row:
    """Return the row of an id and further values, joined as `llm embed-multi` joins them, or by the source's own separator."""
    item = item_id((values[0],))
    fields = dict(zip(names, values, strict=True))
    if source.template:
        render = templating.template(source.template, tuple(names))
    else:
        render = templating.joined(names[1:], source.separator)
    kept = json.dumps(dict(list(fields.items())[1:]), ensure_ascii=False, default=str) if source.metadata else None
    return make_row(None if item is None else source.id_prefix + item, lambda: render(fields), kept, source.prepend)


def without_empty(**values: object) -> dict[str, Any]:
    """Return the values that say something, by name."""
    return {name: value for name, value in values.items() if value}
