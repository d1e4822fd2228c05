"""Weight files of a known model: found on this machine or downloaded, and checked by SHA-256 before they are used.

A file that is not exactly the one that was published is never used, wherever it comes from.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from dataclasses import dataclass
from http.client import HTTPException
from importlib.metadata import Distribution
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from datasette_embeddings.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HUB = "https://huggingface.co"
"""Where published models are; `HF_ENDPOINT` names a mirror, as for all tools that read this hub."""

TIMEOUT = 30
"""Seconds without a byte after which a download counts as stuck."""

CHUNK = 1 << 20
"""Bytes read at a time: enough to keep a fast line busy, little enough to show in no memory figure."""


@dataclass(frozen=True)
class PinnedFile:
    """A file as it was published."""

    name: str
    sha256: str
    size: int

    def problem(self, folder: Path) -> str:
        """Return why the file in *folder* is not this one; empty when it is."""
        path = folder / self.name
        try:
            size = path.stat().st_size
            if size != self.size:
                return f"{path} has {size} bytes where {self.size} were expected"
            found = file_sha256(path)
        except FileNotFoundError:
            return f"{path} is missing"
        except OSError as error:
            return f"{path} cannot be read ({error.strerror or error})"
        return "" if found == self.sha256 else f"{path} has SHA-256 {found} where {self.sha256} was expected"


@dataclass(frozen=True)
class PinnedModel:
    """A model as it was published: files of one repository at one revision. *label* also names its cache folder."""

    label: str
    repository: str
    revision: str
    files: tuple[PinnedFile, ...]

    def problem(self, folder: Path) -> str:
        """Return why *folder* does not hold this model; empty when it does. Reads every file once."""
        return next((problem for file in self.files if (problem := file.problem(folder))), "")

    def cache_folder(self) -> Path:
        """Return the folder where `install` puts the files of this revision."""
        return user_cache() / "datasette-embeddings" / f"{self.label}-{self.revision[:8]}"

    def installed(self) -> Iterator[Path]:
        """Yield folders with the first file of this model, in installed packages that carry the model's name."""
        for distribution in distributions_named(self.label):
            for file in distribution.files or []:
                if file.name == self.files[0].name:
                    yield Path(str(distribution.locate_file(file))).parent

    def find(self, given: str | None, variable: str) -> Path:
        """Return a folder that holds exactly these files.

        *given* (a path in the configuration) or else the environment *variable*, where set, is the only place looked
        at. Raises ModelError, which says what was found instead and the ways to get the model.
        """
        chosen = given or os.environ.get(variable)
        if chosen:
            folder = Path(chosen).expanduser()
            if problem := self.problem(folder):
                raise ModelError(f"{self.label}: {problem}; {self._ways(variable)}")
            return folder
        problems = []
        for folder in [self.cache_folder(), *self.installed()]:
            problem = self.problem(folder)
            if not problem:
                return folder
            if folder.exists():
                problems.append(problem)
        found = "; ".join(problems) or f"no weights of {self.label} were found on this machine"
        raise ModelError(f"{found}; {self._ways(variable)}")

    def _ways(self, variable: str) -> str:
        names = " and ".join(file.name for file in self.files)
        return (
            f"run `datasette embeddings models install {self.label}`, or give a folder with {names} of "
            f"{self.repository} as `path` in the model's settings or in {variable}"
        )

    def install(self) -> Path:
        """Download what is missing into the cache folder, check it, and return the folder. Raises ModelError."""
        folder = self.cache_folder()
        base = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for file in self.files:
                if file.problem(folder):
                    download(f"{base}/{self.repository}/resolve/{self.revision}/{file.name}", folder, file)
        except OSError as error:
            raise ModelError(f"{folder} cannot be written ({error.strerror or error}); set XDG_CACHE_HOME") from error
        return folder


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal. 90 MB take about 0.06 s with the CPU's SHA extension, 0.3 s without."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def user_cache() -> Path:
    """Return the user's cache folder by the custom of the system; it need not exist."""
    if given := os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA"):
        return Path(given)
    home = Path(os.path.expanduser("~"))
    return home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"


def distributions_named(part: str) -> Iterator[Distribution]:
    """Yield installed distributions whose name contains *part*, without opening the metadata of all the others."""
    for entry in sys.path:
        try:
            found = sorted(Path(entry).glob("*.dist-info"))
        except OSError:
            continue
        yield from (Distribution.at(path) for path in found if part in path.name.lower())


def download(url: str, folder: Path, file: PinnedFile) -> None:
    """Fetch *file* into *folder* under a temporary name; rename it once its SHA-256 is right. Raises ModelError, OSError."""
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ModelError(f"{url} is no http(s) address; check HF_ENDPOINT")
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".{file.name}.")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            size, found = _fetch(url, out.write, file.size)
        if size != file.size:
            raise ModelError(f"{url} ended after {size} of {file.size} bytes; nothing was kept, try again")
        if found != file.sha256:
            raise ModelError(f"{url} has SHA-256 {found} where {file.sha256} was expected; nothing was kept")
        part.chmod(0o644)  # mkstemp's 0600 would hide a shared cache from its other readers
        part.replace(folder / file.name)
    finally:
        part.unlink(missing_ok=True)


def _fetch(url: str, write: Callable[[bytes], object], limit: int) -> tuple[int, str]:
    """Return (bytes, SHA-256) of what was read; stops soon after *limit* bytes, as nothing longer can be right."""
    digest, size = hashlib.sha256(), 0
    try:
        with urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 - http(s) only, by the caller
            while size <= limit and (chunk := answer.read(CHUNK)):
                digest.update(chunk)
                write(chunk)
                size += len(chunk)
    except HTTPError as error:
        raise ModelError(f"{url} answered {error.code} {error.reason}; nothing was kept") from error
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise ModelError(
            f"{url} cannot be reached or broke off ({reason}); nothing was kept: try again, or copy the model's folder "
            "from another machine and name it as `path` in the model's settings"
        ) from error
    return size, digest.hexdigest()
