"""Rows of tables, views and queries."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from datasette_embeddings import templating
from datasette_embeddings.database import column_names, item_id, quote, real_name, table_key
from datasette_embeddings.errors import ConfigError, SourceError, nearest
from datasette_embeddings.sources.pictures import folder_beside, is_relative, picture, within_bounds_sql
from datasette_embeddings.sources.row import Row, as_read, make_row, row_of_values, without_empty
from datasette_embeddings.sources.selecting import attached, fetched, select

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from datasette_embeddings.catalog import Collection


@dataclass(frozen=True)
class TableSource:
    """Rows of a table or view: what is embedded is some columns joined, a template over all of them, or pictures.

    *image*: the column that holds a picture, or the path of one below *folder* (`pictures.folder_beside`).
    """

    table: str
    columns: tuple[str, ...] = ()
    template: str | None = None
    key: tuple[str, ...] = ()
    where: str | None = None
    prepend: str = ""
    separator: str = " "
    image: str | None = None
    folder: str | None = None

    def resolve(self, conn: sqlite3.Connection) -> TableSource:
        """Return the same with names as stored and the key found; raises SourceError or ConfigError."""
        table = real_name(conn, self.table)
        known = column_names(conn, table)
        columns = tuple(_real_column(name, known, table) for name in self.columns)
        key = tuple(_real_column(name, [*known, "rowid"], table) for name in self.key)
        image = _real_column(self.image, known, table) if self.image else None
        return replace(self, table=table, columns=columns, key=key or table_key(conn, table).columns, image=image)

    def renderer(
        self, fields: Sequence[str], folder: Path | None = None
    ) -> Callable[[Mapping[str, object]], str | bytes]:
        """Return what makes the content of a row that has *fields*; paths of pictures are read below *folder*."""
        if self.image:
            return lambda row: picture(row[str(self.image)], folder)
        if self.template:
            return templating.template(self.template, tuple(fields))
        return templating.joined(self.columns, self.separator)

    def rows(self, conn: sqlite3.Connection) -> Iterator[Row]:
        """Yield every row of the table."""
        source = self.resolve(conn)
        fields = [source.image] if source.image else list(source.columns) or column_names(conn, source.table)
        folder = folder_beside(conn, source.folder) if source.folder and source.image else None
        render = source.renderer(fields, folder)
        values_of = [within_bounds_sql(source.image)] if source.image else [quote(name) for name in fields]
        chosen = ", ".join([*(quote(name) for name in source.key), *values_of])
        sql = f"select {chosen} from {quote(source.table)}"
        if source.where:
            sql += f" where {source.where}"
        width = len(source.key)
        for values in fetched(select(conn, sql), sql):
            row = dict(zip(fields, values[width:], strict=True))
            yield make_row(
                item_id(values[:width]), partial(render, row), prepend=self.prepend, of_file=_is_path(row, source.image)
            )

    def describe(self) -> dict[str, Any]:
        """Return the table, its key and what of it is embedded; a folder by its whole path stays out of the file."""
        return without_empty(
            table=self.table,
            key=list(self.key),
            columns=list(self.columns),
            where=self.where,
            prepend=self.prepend,
            image=self.image,
            folder=self.folder if is_relative(self.folder) else None,
        )


PARAGRAPH = "\n\n"
"""What stands between the columns of a row that is embedded in chunks, so that each begins a part of its own."""


def table_source(collection: Collection) -> TableSource | None:
    """Return the table that a collection was made from, as the file remembers it; None for one made otherwise."""
    source = collection.source or {}
    if not collection.table:
        return None
    columns, image = tuple(source.get("columns", ())), source.get("image")
    return TableSource(
        collection.table,
        columns,
        None if columns or image else collection.template,
        collection.key,
        source.get("where"),
        source.get("prepend", ""),
        PARAGRAPH if collection.chunk else " ",
        image,
        source.get("folder"),
    )


def content_of(collection: Collection, row: Mapping[str, object]) -> str | bytes | None:
    """Return what would be embedded of a row of the source now, its prefix included; None where that cannot be told.

    No files are looked at: whoever serves a database need not have them.
    """
    source = table_source(collection)
    if source is None or not (source.columns or source.template or source.image):
        return None
    try:
        content = source.renderer(list(row))(row)
        return content if isinstance(content, bytes) else as_read(source.prepend + content)
    except (SourceError, ConfigError, KeyError):
        return None


def text_of(collection: Collection, row: Mapping[str, object]) -> str | None:
    """Return what would be embedded of a row of the source as `content_of` does; None also where that is a picture."""
    content = content_of(collection, row)
    return content if isinstance(content, str) else None


@dataclass(frozen=True)
class QuerySource:
    """Rows of an SQL query: the first column is the id, the others are joined, or rendered by a template."""

    sql: str
    template: str | None = None
    attach: tuple[tuple[str, str], ...] = ()
    prepend: str = ""
    id_prefix: str = ""
    metadata: bool = False
    separator: str = " "
    reads: set[str] = field(default_factory=set, compare=False)

    def rows(self, conn: sqlite3.Connection) -> Iterator[Row]:
        """Yield every row of the query; which tables it reads is kept, as their permissions are those of the result."""
        with attached(conn, self.attach):
            cursor = select(conn, self.sql, self.reads)
            names = [description[0] for description in cursor.description or ()]
            if len(names) < 2:
                raise SourceError(
                    f"the query gives {len(names)} column(s); an id first and at least one column to embed are expected"
                )
            with closing(cursor):
                yield from (row_of_values(self, names, values) for values in fetched(cursor, self.sql))

    def describe(self) -> dict[str, Any]:
        """Return the query."""
        return without_empty(
            sql=self.sql, attach=[alias for alias, _ in self.attach], reads=sorted(self.reads), prepend=self.prepend
        )


def _is_path(row: Mapping[str, object], image: str | None) -> bool:
    """Tell whether a row names the file of its picture."""
    return image is not None and isinstance(row[image], str)


def _real_column(name: str, known: Sequence[str], table: str) -> str:
    if name in known:
        return name
    by_lower = {column.lower(): column for column in known}
    if name.lower() not in by_lower:
        raise SourceError(f"the table {table!r} has no column {name!r}; {nearest(name, known)}")
    return by_lower[name.lower()]
