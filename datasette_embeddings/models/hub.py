"""Models of the Hugging Face hub, as plain files in its cache: nothing is fetched that could be executed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from datasette_embeddings.errors import MissingExtra, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence


def fetch(name: str, repository: str, revision: str | None, files: Sequence[str], extra: str) -> Path:
    """Return a folder with those files of a model that match *files*, from the hub's cache or downloaded; its name is the commit.

    Raises MissingExtra (*extra* brings the hub's client), ModelError.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtra(name, extra) from error
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(files)))
    except Exception as error:  # wrong name or revision, no network: the hub's client has many errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{name}: there is no folder of that name, and the hub does not give {repository} ({reason})"
        ) from error
