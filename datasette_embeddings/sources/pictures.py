"""Pictures of a source: BLOBs, or files that a column names, which are read from below one folder and from nowhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from datasette_embeddings.database import quote
from datasette_embeddings.errors import SourceError
from datasette_embeddings.limits import MAX_IMAGE_BYTES

if TYPE_CHECKING:
    import sqlite3


def folder_beside(conn: sqlite3.Connection, folder: str) -> Path:
    """Return a folder by its name; a relative one counts from where the database file is. Raises SourceError where there is none."""
    (file,) = (row[2] for row in conn.execute("pragma database_list") if row[1] == "main")
    found = Path(file).parent / os.path.expanduser(folder)  # which leaves the name of a stranger as it is
    if not found.is_dir():
        raise SourceError(
            f"there is no folder {found} for pictures to be below; put it there, or name another by `images` (--folder)"
        )
    return found


def is_relative(folder: str | None) -> bool:
    """Tell whether a folder is named by the way to it from the database, which holds wherever both of them are."""
    return folder is not None and not os.path.isabs(folder) and not folder.startswith("~")


def within_bounds_sql(column: str) -> str:
    """Return SQL for the values of a column of pictures: in place of a BLOB of too many bytes, one that is as good to refuse it."""
    name = quote(column)
    large = f"typeof({name}) = 'blob' and length({name}) > {MAX_IMAGE_BYTES}"
    return f"case when {large} then zeroblob({MAX_IMAGE_BYTES + 1}) else {name} end"


def picture(value: object, folder: Path | None) -> bytes | str:
    """Return the bytes of a picture: *value* itself, or the file of that name below *folder*; "" for NULL and nothing.

    Raises SourceError for what is neither.
    """
    if value is None or value in {"", b""}:
        return ""
    if isinstance(value, bytes):
        return within_bounds(value)
    if not isinstance(value, str):
        raise SourceError(f"a picture is a BLOB or the path of a file; found {type(value).__name__}")
    if folder is None:
        raise SourceError(
            "a picture that is a text is the path of a file; set `images` (--folder) to the folder that the files are below"
        )
    return read_below(folder, value)


def read_below(folder: Path, name: str) -> bytes:
    """Return a regular file below a folder, links followed; raises SourceError for a path that leads out of it or to anything else."""
    if "://" in name or name.startswith("data:"):
        raise SourceError("an address, and nothing is fetched; save the picture as a file and name that")
    if "\0" in name or os.path.isabs(name):
        raise SourceError("a path within the folder of pictures was expected, without / before it")
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise SourceError("the path leads out of the folder of pictures")
        return _read_regular(path)
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _read_regular(path: Path) -> bytes:
    """Return a file's bytes. *path* has no links in it, and none is followed that came since it was looked at."""
    # Not to wait for the other end of a pipe that somebody put there.
    also = (getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOFOLLOW", "O_BINARY"))
    handle = os.open(path, os.O_RDONLY | sum(also))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise SourceError("this is no regular file")
        with open(handle, "rb", closefd=False) as file:
            return within_bounds(file.read(MAX_IMAGE_BYTES + 1))
    finally:
        os.close(handle)


def within_bounds(data: bytes) -> bytes:
    """Return the bytes of an image file; raises SourceError where they are too many, however small its picture is."""
    if len(data) > MAX_IMAGE_BYTES:
        raise SourceError(f"an image file of more than {MAX_IMAGE_BYTES:,} bytes, which are the most that are read")
    return data
