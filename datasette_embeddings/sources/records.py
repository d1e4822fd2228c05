"""Records of CSV, TSV, JSON and NDJSON, from a file or a pipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasette_embeddings.errors import SourceError
from datasette_embeddings.limits import MAX_FILE_BYTES
from datasette_embeddings.sources.decoding import USUAL, by_mark, decoded
from datasette_embeddings.sources.row import Row, row_of_values, without_empty

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO


@dataclass(frozen=True)
class RecordSource:
    """Rows of CSV, TSV, JSON or NDJSON: the first field is the id, the others are joined, or rendered by a template."""

    records: Iterable[Mapping[str, object]]
    name: str
    template: str | None = None
    prepend: str = ""
    id_prefix: str = ""
    metadata: bool = False
    separator: str = " "

    def rows(self, conn: sqlite3.Connection) -> Iterator[Row]:
        """Yield every record."""
        for record in self.records:
            if not isinstance(record, Mapping):
                raise SourceError(f"{self.name}: a record with named fields was expected; found {str(record)[:40]!r}")
            if len(record) < 2:
                raise SourceError(
                    f"{self.name}: a record has {len(record)} field(s); an id first and at least one to embed are expected"
                )
            yield row_of_values(self, list(record), [_plain(value) for value in record.values()])

    def describe(self) -> dict[str, Any]:
        """Return where the records came from."""
        return without_empty(records=self.name, prepend=self.prepend)


def read_records(stream: BinaryIO, name: str, form: str | None, encoding: str | None) -> Iterable[dict[str, object]]:
    """Return the records of a CSV, TSV, JSON or NDJSON stream; the form is found out unless given.

    The stream is read once, the records as often as they are iterated over: a build that another one overtakes plans twice.
    Raises SourceError naming what is wrong, for broken records when they are come to.
    """
    raw = stream.read()
    if not raw.strip():
        raise SourceError(f"{name} is empty; CSV, TSV, JSON or NDJSON with an id in the first column was expected")
    return _Records(raw, name, form, encoding)


@dataclass(frozen=True)
class _Records:
    raw: bytes
    name: str
    form: str | None
    encoding: str | None

    def __iter__(self) -> Iterator[dict[str, object]]:
        import csv
        import io

        from sqlite_utils.utils import Format, RowError, rows_from_file

        try:
            csv.field_size_limit(MAX_FILE_BYTES)
            text = _to_utf8(self.raw, self.encoding)
            chosen = Format[self.form.upper()] if self.form else _guess(text)
            rows, _ = rows_from_file(io.BytesIO(text), format=chosen, encoding="utf-8")
            yield from rows
        except SourceError as error:
            raise SourceError(f"{self.name}: {error}") from error
        except (RowError, ValueError, csv.Error, TypeError, AttributeError) as error:
            expected = self.form or "CSV, TSV, JSON or NDJSON"
            raise SourceError(f"{self.name} cannot be read as {expected}: {error}") from error


def _guess(text: bytes) -> Any:  # noqa: ANN401
    """Return NDJSON for several JSON objects one below the other; None lets the reader find out."""
    from sqlite_utils.utils import Format

    head = text.lstrip()[:1]
    first, _, rest = text.strip().partition(b"\n")
    if head == b"{" and rest.lstrip()[:1] == b"{" and first.rstrip().endswith(b"}"):
        return Format.NL
    return None


def _to_utf8(raw: bytes, encoding: str | None) -> bytes:
    if b"\0" in raw and not encoding and not by_mark(raw):
        raise SourceError(
            "it holds NUL bytes, so it is no UTF-8 text; name its encoding, for example --encoding utf-16-le"
        )
    return decoded(raw, (encoding,) if encoding else (*by_mark(raw), *USUAL)).encode("utf-8", "replace")


def _plain(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
