"""Progress of a computation that takes minutes, kept in a file beside the database, so that a run that was ended goes on where it was."""

from __future__ import annotations

import hashlib
import os
import time
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from datasette_embeddings.limits import CHECKPOINT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

SUFFIX = "-similarities"


class Checkpoint:
    """One such file; it holds arrays, and never texts. *resumed*: the share that was done before, 0 for a new beginning."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + SUFFIX)
        self._aside = self.path.with_name(self.path.name + "~")
        self.resumed = 0.0
        self._key = ""
        self._saved = time.monotonic()

    def load(self, *of: object) -> Arrays | None:
        """Return what was saved of the same computation, named by arrays and values; None where nothing was, or of another one."""
        self._key = _digest(of)
        try:
            with np.load(self.path) as found:
                return {name: found[name] for name in found} if str(found["key"]) == self._key else None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, arrays: Callable[[], Arrays]) -> None:
        """Save progress, unless that was done less than CHECKPOINT_SECONDS ago; a disk that takes no more only costs the progress."""
        if time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return
        try:
            with self._aside.open("wb") as file:
                np.savez(file, allow_pickle=False, key=np.array(self._key), **arrays())
            os.replace(self._aside, self.path)
        except OSError:
            self._aside.unlink(missing_ok=True)
        self._saved = time.monotonic()

    def done(self) -> None:
        """Remove the file, and what a run left that was ended while it saved."""
        for path in (self.path, self._aside):
            path.unlink(missing_ok=True)


def _digest(of: tuple[object, ...]) -> str:
    digest = hashlib.blake2b()
    for part in of:
        digest.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else repr(part).encode())
    return digest.hexdigest()
