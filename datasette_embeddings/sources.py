"""Where items come from: tables, SQL, files, and CSV, TSV, JSON or NDJSON from a file or a pipe.

Every source gives rows once, in order; a row that cannot be embedded comes with its reason instead of its content, so
that no row is lost without a word.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from datasette_embeddings import templating
from datasette_embeddings.database import column_names, item_id, quote, real_name, table_key, table_names
from datasette_embeddings.errors import ConfigError, SourceError, nearest
from datasette_embeddings.limits import MAX_FILE_BYTES, MAX_TEXT_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    Render = Callable[[Mapping[str, object]], str]


@dataclass(frozen=True)
class Row:
    """One row of a source. *id* is None, and so is the rest, where its key is NULL; *problem* says why there is no content."""

    id: str | None
    content: str | bytes | None
    problem: str | None = None
    metadata: str | None = None
    cut: bool = False


class Source(Protocol):
    """Rows and what is remembered of where they come from."""

    def rows(self, conn: sqlite3.Connection) -> Iterator[Row]:
        """Yield every row, reading the collection's own database through *conn*."""

    def describe(self) -> dict[str, Any]:
        """Return what `embeddings_collections.source` keeps."""


def make_row(item: str | None, render: Callable[[], str | bytes], metadata: str | None = None) -> Row:
    """Return a row with its content, or with the reason why it has none."""
    if item is None:
        return Row(None, None)
    item, metadata = whole(item), whole(metadata) if metadata else metadata
    try:
        content = render()
    except SourceError as error:
        return Row(item, None, str(error))
    if isinstance(content, bytes):
        return Row(item, content, metadata=metadata)
    content = whole(content)
    cut = len(content) > MAX_TEXT_CHARACTERS
    return Row(item, content[:MAX_TEXT_CHARACTERS], metadata=metadata, cut=cut)


def whole(text: str) -> str:
    """Return text that UTF-8 can hold: half a surrogate pair, from JSON or a file's name, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True)
class TableSource:
    """Rows of a table or view: what is embedded is some columns joined, or a template over all of them."""

    table: str
    columns: tuple[str, ...] = ()
    template: str | None = None
    key: tuple[str, ...] = ()
    where: str | None = None
    prepend: str = ""

    def resolve(self, conn: sqlite3.Connection) -> TableSource:
        """Return the same with names as stored and the key found; raises SourceError or ConfigError."""
        table = real_name(conn, self.table)
        known = column_names(conn, table)
        columns = tuple(_real_column(name, known, table) for name in self.columns)
        key = tuple(_real_column(name, [*known, "rowid"], table) for name in self.key)
        return TableSource(
            table, columns, self.template, key or table_key(conn, table).columns, self.where, self.prepend
        )

    def rows(self, conn: sqlite3.Connection) -> Iterator[Row]:
        """Yield every row of the table."""
        source = self.resolve(conn)
        fields = list(source.columns) or column_names(conn, source.table)
        render = templating.template(source.template, tuple(fields)) if source.template else templating.joined(fields)
        chosen = ", ".join(quote(name) for name in (*source.key, *fields))
        sql = f"select {chosen} from {quote(source.table)}"
        if source.where:
            sql += f" where {source.where}"
        width = len(source.key)
        for values in fetched(select(conn, sql), sql):
            row = dict(zip(fields, values[width:], strict=True))
            yield make_row(item_id(values[:width]), lambda row=row: self.prepend + render(row))  # type: ignore[misc]

    def describe(self) -> dict[str, Any]:
        """Return the table, its key and what of it is embedded."""
        return _without_empty(
            table=self.table, key=list(self.key), columns=list(self.columns), where=self.where, prepend=self.prepend
        )


@dataclass(frozen=True)
class QuerySource:
    """Rows of an SQL query: the first column is the id, the others are joined, or rendered by a template."""

    sql: str
    template: str | None = None
    attach: tuple[tuple[str, str], ...] = ()
    prepend: str = ""
    id_prefix: str = ""
    metadata: bool = False
    reads: set[str] = field(default_factory=set, compare=False)

    def rows(self, conn: sqlite3.Connection) -> Iterator[Row]:
        """Yield every row of the query; which tables it reads is kept, as their permissions are those of the result."""
        with _attached(conn, self.attach):
            cursor = select(conn, self.sql, self.reads)
            names = [description[0] for description in cursor.description or ()]
            if len(names) < 2:
                raise SourceError(
                    f"the query gives {len(names)} column(s); an id first and at least one column to embed are expected"
                )
            with closing(cursor):
                yield from (_from_values(self, names, values) for values in fetched(cursor, self.sql))

    def describe(self) -> dict[str, Any]:
        """Return the query."""
        return _without_empty(
            sql=self.sql, attach=[alias for alias, _ in self.attach], reads=sorted(self.reads), prepend=self.prepend
        )


@dataclass(frozen=True)
class RecordSource:
    """Rows of CSV, TSV, JSON or NDJSON: the first field is the id, the others are joined, or rendered by a template."""

    records: Iterable[Mapping[str, object]]
    name: str
    template: str | None = None
    prepend: str = ""
    id_prefix: str = ""
    metadata: bool = False

    def rows(self, conn: sqlite3.Connection) -> Iterator[Row]:
        """Yield every record."""
        for record in self.records:
            if not isinstance(record, Mapping):
                raise SourceError(f"{self.name}: a record with named fields was expected; found {str(record)[:40]!r}")
            if len(record) < 2:
                raise SourceError(
                    f"{self.name}: a record has {len(record)} field(s); an id first and at least one to embed are expected"
                )
            yield _from_values(self, list(record), [_plain(value) for value in record.values()])

    def describe(self) -> dict[str, Any]:
        """Return where the records came from."""
        return _without_empty(records=self.name, prepend=self.prepend)


@dataclass(frozen=True)
class FileSource:
    """Files below folders by glob: the id is the path within the folder, the content is the file's text."""

    folders: tuple[tuple[Path, str], ...]
    encodings: tuple[str, ...] = ()
    prepend: str = ""
    id_prefix: str = ""

    def rows(self, conn: sqlite3.Connection) -> Iterator[Row]:
        """Yield every regular file, sorted by path; links that lead out of the folder are reported, not followed."""
        for folder, glob in self.folders:
            if not folder.is_dir():
                raise SourceError(f"{folder} is no folder; --files takes a folder and a glob such as '**/*.md'")
            for path in _matching(folder, glob):
                if path.is_file():
                    item = self.id_prefix + path.relative_to(folder).as_posix()
                    yield make_row(item, lambda path=path, folder=folder: self._text(path, folder))  # type: ignore[misc]

    def _text(self, path: Path, folder: Path) -> str:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise SourceError("a link that leads out of the folder")
        return self.prepend + read_text(path, self.encodings)

    def describe(self) -> dict[str, Any]:
        """Return the globs; the folders' places on this machine stay out of the file."""
        return _without_empty(files=[glob for _, glob in self.folders], prepend=self.prepend)


def _matching(folder: Path, glob: str) -> list[Path]:
    try:
        return sorted(folder.glob(glob))
    except (NotImplementedError, ValueError) as error:
        raise SourceError(f"{glob!r} is no glob below a folder, such as '**/*.md': {error}") from error


def read_text(path: Path, encodings: Sequence[str] = ()) -> str:
    """Return a file's text: by the first of *encodings* that fits, else UTF-8, else Windows-1252 or Latin-1.

    Raises SourceError for binary and oversized files.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SourceError(f"a file of {path.stat().st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
        raw = path.read_bytes()
    except OSError as error:
        raise SourceError(f"the file cannot be read: {error.strerror}") from error
    if raw[:2] in UTF16_MARKS:
        encodings = ("utf-16", *encodings)
    elif not encodings and b"\0" in raw:
        raise SourceError("a binary file, no text")
    for encoding in (*encodings, "utf-8-sig", "cp1252", "latin-1"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        except LookupError:
            raise ConfigError(f"unknown encoding {encoding!r}; try utf-8, latin-1 or cp1252") from None
    raise SourceError("its encoding is none of those tried")


def read_records(stream: BinaryIO, name: str, form: str | None, encoding: str | None) -> Iterator[dict[str, object]]:
    """Yield the records of a CSV, TSV, JSON or NDJSON stream; the form is found out unless given.

    Raises SourceError naming what is wrong.
    """
    import csv
    import io

    from sqlite_utils.utils import Format, RowError, rows_from_file

    raw = stream.read()
    if not raw.strip():
        raise SourceError(f"{name} is empty; CSV, TSV, JSON or NDJSON with an id in the first column was expected")
    try:
        csv.field_size_limit(MAX_FILE_BYTES)
        text = _to_utf8(raw, encoding)
        chosen = Format[form.upper()] if form else _guess(text)
        rows, _ = rows_from_file(io.BytesIO(text), format=chosen, encoding="utf-8")
        yield from rows
    except SourceError as error:
        raise SourceError(f"{name}: {error}") from error
    except (RowError, ValueError, csv.Error, TypeError, AttributeError) as error:
        raise SourceError(f"{name} cannot be read as {form or 'CSV, TSV, JSON or NDJSON'}: {error}") from error


def _guess(text: bytes) -> Any:  # noqa: ANN401
    """Return NDJSON for several JSON objects one below the other; None lets the reader find out."""
    from sqlite_utils.utils import Format

    head = text.lstrip()[:1]
    first, _, rest = text.strip().partition(b"\n")
    if head == b"{" and rest.lstrip()[:1] == b"{" and first.rstrip().endswith(b"}"):
        return Format.NL
    return None


UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def _to_utf8(raw: bytes, encoding: str | None) -> bytes:
    if not encoding and raw[:2] in UTF16_MARKS:
        encoding = "utf-16"
    if not encoding and b"\0" in raw:
        raise SourceError(
            "it holds NUL bytes, so it is no UTF-8 text; name its encoding, for example --encoding utf-16-le"
        )
    for candidate in (encoding,) if encoding else ("utf-8", "cp1252", "latin-1"):
        try:
            return raw.decode(candidate).removeprefix("\ufeff").encode("utf-8", "replace")
        except UnicodeDecodeError:
            continue
        except LookupError:
            raise ConfigError(f"unknown encoding {candidate!r}; try utf-8, latin-1 or cp1252") from None
    raise SourceError(f"it is not in the encoding {encoding}")


def select(conn: sqlite3.Connection, sql: str, reads: set[str] | None = None) -> sqlite3.Cursor:
    """Run a query of the configuration or the command line, which may only read; tables that it reads join *reads*.

    Raises SourceError with SQLite's own reason.
    """

    def only_select(action: int, table: str | None, _: object, schema: str | None, *__: object) -> int:
        if action == sqlite3.SQLITE_READ and table and schema == "main" and reads is not None:
            reads.add(table)
        allowed = action in ALLOWED_ACTIONS or (action, table) in FULL_TEXT_ACTIONS
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    conn.set_authorizer(only_select)
    try:
        return conn.execute(sql)
    except (sqlite3.Error, sqlite3.Warning) as error:
        tables = [name for name in table_names_safely(conn) if not name.startswith("sqlite_")]
        hint = f" ({nearest(str(error).rsplit(': ', 1)[-1], tables)})" if "no such table" in str(error) else ""
        raise SourceError(f"this SQL cannot be run: {error}{hint}; it was: {sql[:200]}") from error
    finally:
        conn.set_authorizer(_anything)


def fetched(cursor: sqlite3.Cursor, sql: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query; raises SourceError when SQLite finds only then that it cannot go on."""
    try:
        yield from cursor
    except sqlite3.Error as error:
        raise SourceError(f"this SQL fails: {error}; it was: {sql[:200]}") from error


def table_names_safely(conn: sqlite3.Connection) -> list[str]:
    """Return table names without the authorizer of `select` in the way."""
    conn.set_authorizer(_anything)
    return list(table_names(conn))


ALLOWED_ACTIONS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    33,  # SQLITE_RECURSIVE, which Python does not name
}


FULL_TEXT_ACTIONS = {
    (sqlite3.SQLITE_PRAGMA, "data_version"),
    (sqlite3.SQLITE_PRAGMA, "page_size"),
    (sqlite3.SQLITE_UPDATE, "sqlite_master"),
}
"""What FTS5 and FTS4 do when a query opens their tables; SQLite itself refuses a statement that changes sqlite_master."""


def _anything(*_: object) -> int:
    """Stand in for "no authorizer", which Python 3.10 cannot set."""
    return sqlite3.SQLITE_OK


@contextmanager
def _attached(conn: sqlite3.Connection, databases: Sequence[tuple[str, str]]) -> Iterator[None]:
    from urllib.parse import quote as url_quote

    for alias, path in databases:
        uri = f"file:{url_quote(path)}?mode=ro"
        try:
            conn.execute(f"attach database ? as {quote(alias)}", [uri])
        except sqlite3.Error as error:
            raise SourceError(
                f"{path} cannot be attached as {alias!r}: {error}; check the file and the name"
            ) from error
    try:
        yield
    finally:
        for alias, _ in databases:
            conn.execute(f"detach database {quote(alias)}")


def _from_values(source: QuerySource | RecordSource, names: Sequence[str], values: Sequence[object]) -> Row:
    """Return the row of an id and further values, joined as `llm embed-multi` joins them."""
    item = item_id((values[0],))
    fields = dict(zip(names, values, strict=True))
    render = templating.template(source.template, tuple(names)) if source.template else templating.joined(names[1:])
    kept = json.dumps(dict(list(fields.items())[1:]), ensure_ascii=False, default=str) if source.metadata else None
    return make_row(None if item is None else source.id_prefix + item, lambda: source.prepend + render(fields), kept)


def _plain(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value


def _real_column(name: str, known: Sequence[str], table: str) -> str:
    if name in known:
        return name
    by_lower = {column.lower(): column for column in known}
    if name.lower() not in by_lower:
        raise SourceError(f"the table {table!r} has no column {name!r}; {nearest(name, known)}")
    return by_lower[name.lower()]


def _without_empty(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


__all__ = [
    "FileSource",
    "QuerySource",
    "RecordSource",
    "Row",
    "Source",
    "TableSource",
    "read_records",
    "read_text",
]
