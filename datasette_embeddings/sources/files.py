"""Files below folders."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from datasette_embeddings.errors import SourceError
from datasette_embeddings.limits import MAX_FILE_BYTES
from datasette_embeddings.sources.decoding import USUAL, by_mark, decoded
from datasette_embeddings.sources.pictures import read_below
from datasette_embeddings.sources.row import Row, make_row, without_empty

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class FileSource:
    """Files below folders by glob: the id is the path within the folder, the content is the file's text, or all of it where it holds *images*."""

    folders: tuple[tuple[Path, str], ...]
    encodings: tuple[str, ...] = ()
    prepend: str = ""
    id_prefix: str = ""
    images: bool = False

    def rows(self, conn: sqlite3.Connection) -> Iterator[Row]:
        """Yield every regular file, sorted by path; links that lead out of the folder are reported, not followed."""
        for folder, glob in self.folders:
            if not folder.is_dir():
                raise SourceError(f"{folder} is no folder; --files takes a folder and a glob such as '**/*.md'")
            paths = _matching(folder, glob)
            if not paths:
                raise SourceError(f"no file in {folder} matches {glob!r}; '**/*.md' looks in folders below too")
            for path in paths:
                if path.is_file():
                    item = self.id_prefix + path.relative_to(folder).as_posix()
                    render = partial(self._picture if self.images else self._text, path, folder)
                    yield make_row(item, render, prepend=self.prepend, of_file=self.images)

    def _text(self, path: Path, folder: Path) -> str:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise SourceError("a link that leads out of the folder")
        return read_text(path, self.encodings)

    def _picture(self, path: Path, folder: Path) -> bytes:
        return read_below(folder, path.relative_to(folder).as_posix())

    def describe(self) -> dict[str, Any]:
        """Return the globs; the folders' places on this machine stay out of the file."""
        return without_empty(files=[glob for _, glob in self.folders], prepend=self.prepend, images=self.images)


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
    if b"\0" in raw and not encodings and not by_mark(raw):
        raise SourceError("a binary file, no text")
    return decoded(raw, (*by_mark(raw), *encodings, *USUAL))
