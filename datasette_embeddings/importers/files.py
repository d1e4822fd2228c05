"""Vectors in files: NumPy's .npy with ids beside it, and Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from datasette_embeddings.database import as_text, item_id, quote
from datasette_embeddings.errors import MissingExtra, SourceError, nearest
from datasette_embeddings.importers.origin import Origin, collection_name
from datasette_embeddings.sources import read_text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from datasette_embeddings.sources import TableSource

BATCH_ROWS = 1_000
"""Rows of a Parquet file in memory at a time: 6 MB at 1,536 dimensions."""


def npy_file(conn: sqlite3.Connection, path: Path, ids: Path | None, table: TableSource | None) -> Origin:
    """Return the rows of a 2-D .npy array, their ids one a line in *ids*, or the keys of *table* in ascending order.

    Raises SourceError unless there are as many ids as rows.
    """
    matrix = _load(path)
    names = _lines(ids) if ids else _keys(conn, path, table)
    if len(names) != len(matrix):
        what = ids.name if ids else f"the table {table.table!r}" if table else ""
        raise SourceError(
            f"{path.name} has {len(matrix):,} vectors and {what} {len(names):,} ids; one for each was expected"
        )

    def read(_: sqlite3.Connection, __: str) -> Iterator[tuple[str | None, object]]:
        yield from zip(names, matrix, strict=True)

    return Origin("NumPy", path.name, collection_name(path.stem), read, is_file=True)


def _load(path: Path) -> Any:  # noqa: ANN401
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(f"{path} cannot be read as a .npy array: {error}") from error
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.dtype.kind != "f":
        shape, kind = getattr(matrix, "shape", "several arrays"), getattr(matrix, "dtype", "")
        raise SourceError(f"{path} holds {kind} of shape {shape}; floats of shape (rows, dimensions) were expected")
    return matrix


def _lines(path: Path) -> list[str | None]:
    lines = read_text(path).splitlines()
    return [line.strip() or None for line in lines]


def _keys(conn: sqlite3.Connection, path: Path, table: TableSource | None) -> list[str | None]:
    if table is None:
        raise SourceError(
            f"{path.name} holds no ids: give --ids FILE (one a line), or --table, whose keys in ascending order they then are"
        )
    chosen = ", ".join(quote(name) for name in table.key)
    rows = conn.execute(f"select {chosen} from {quote(table.table)} order by {chosen}")
    return [item_id(row) for row in rows]


def parquet_file(path: Path, id_column: str | None, vector_column: str | None) -> Origin:
    """Return the rows of a Parquet file; raises MissingExtra without pyarrow, SourceError for unclear columns."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("reading Parquet", "parquet") from None
    try:
        schema = parquet.read_schema(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise SourceError(f"{path} cannot be read as Parquet: {error}") from error
    vector = _chosen(path, vector_column, [f.name for f in schema if _holds_vectors(f.type)], schema.names, "vector")
    key = _chosen(path, id_column, [name for name in schema.names if name == "id"], schema.names, "id")

    def read(_: sqlite3.Connection, __: str) -> Iterator[tuple[str | None, object]]:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=[key, vector]):
                for item, value in zip(batch.column(key), batch.column(vector), strict=True):
                    found = item.as_py()
                    yield None if found is None else as_text(found), _plain(value)

    return Origin("Parquet", path.name, collection_name(path.stem), read, is_file=True)


def _chosen(path: Path, named: str | None, likely: Sequence[str], known: Sequence[str], what: str) -> str:
    if named in known:
        return str(named)
    if named:
        raise SourceError(f"{path.name} has no column {named!r}; {nearest(named, known)}")
    if len(likely) != 1:
        raise SourceError(
            f"which column of {path.name} holds the {what}? Name it: --{what}-column ({', '.join(known)})"
        )
    return likely[0]


def _holds_vectors(kind: Any) -> bool:  # noqa: ANN401
    from pyarrow import types

    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(is_list and types.is_floating(kind.value_type))


def _plain(value: Any) -> object:  # noqa: ANN401
    """Return a list as an array (d,), a BLOB as bytes, a missing value as None."""
    if not value.is_valid:
        return None
    return value.values.to_numpy(zero_copy_only=False) if hasattr(value, "values") else value.as_py()
