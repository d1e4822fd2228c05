"""What can go wrong, as one tree.

EmbeddingsError
├── ConfigError            the configuration, an option or a name in it
├── BadVector              a value that is no embedding
│   └── DimensionMismatch  two embeddings that cannot be compared
├── ModelError             a model that cannot be had or does not answer
│   ├── MissingExtra       a package that is not installed
│   ├── MissingKey         an API key that is not in the environment
│   ├── BudgetExceeded     a spending limit reached
│   ├── ProviderError      an answer of a remote model that is an error or makes no sense
│   └── ChatError           a chat model that gives no answer
│       └── CutShort        one whose answer ends too early
├── SourceError            rows that cannot be read
└── StoreError             the database file: locked, full, read-only, a clash of tables
    └── UnknownCollection  no collection of that name in this file

Every message says what was found, what was expected and what to do, in one sentence or two, without keys,
and is meant to be shown to people as it is.
"""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class EmbeddingsError(Exception):
    """Base of all errors that this package raises on purpose."""


class ConfigError(EmbeddingsError):
    """The configuration, an option or a name in it is not usable."""


class BadVector(EmbeddingsError):
    """A value is not an embedding: wrong type or length, NaN, infinite, or zero where a direction is needed."""


class DimensionMismatch(BadVector):
    """Two embeddings differ in their number of dimensions."""


class ModelError(EmbeddingsError):
    """A model cannot be loaded or did not give usable vectors."""


class MissingExtra(ModelError):
    """A package that this model needs is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs a package that is not installed: pip install 'datasette-embeddings-suite[{extra}]'"
        )


class MissingKey(ModelError):
    """The API key of a remote model is not in the environment."""


class BudgetExceeded(ModelError):
    """A spending limit was reached; what was embedded so far is kept."""


class ProviderError(ModelError):
    """A remote model answered with an error, or with something that makes no sense."""


class ChatError(ModelError):
    """A chat model gave no answer. Its sentence holds nothing of the server's: visitors may see it."""


class CutShort(ChatError):
    """An answer ended before it was complete; what came is good to be shown. *reason*: why, a clause about the answer."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class SourceError(EmbeddingsError):
    """The rows of a collection cannot be read."""


class StoreError(EmbeddingsError):
    """The database file cannot be read or written as needed."""


class UnknownCollection(StoreError):
    """The file holds no collection of that name."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a half-sentence that names the nearest of *known*, or lists them.

    >>> nearest("simlarities", ["similarities", "clusters"])
    'did you mean similarities?'
    >>> nearest("x", ["b", "a"])
    'known: a, b'
    """
    known = sorted(known)
    close = get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return "known: " + (", ".join(known) or "none")


FOLDER = re.compile(
    r"""(?P<address>\b(?!file:)[a-z][\w+.-]*://[^\s'"]+)"""
    r"""|(?:(?:file://|~|(?<![\w.:-]))(?:/|\\\\)|(?<!\w)[a-z]:[/\\])(?=\S)"""
    r"""(?:[/\\]*[^\s/\\'"`(),;:<>][^/\\'"`(),;:<>\n]*[/\\]+)*""",
    re.I,
)
"""A web address, or the folders of an absolute path (whose names may hold spaces), of POSIX or Windows."""

SECRET = re.compile(r"key|token|secret|password|credential", re.I)
"""In the name of an environment variable: its value is nobody's business."""

SECRET_CHARACTERS = 8
"""Shorter values of such variables are no keys, but words such as `none`."""

VISITORS_CHARACTERS = 600
"""Longest sentence that visitors are shown; the words of a library below can go on for pages."""

SEARCHED_CHARACTERS = 5 * VISITORS_CHARACTERS
"""Of a longer one so much is looked through for folders: that takes time with its square, and it may repeat what a visitor sent."""


def for_visitors(said: object) -> str:
    """Return what an error says, for people who may know the site but not its machine: without folders and without keys.

    >>> for_visitors("minilm: /home/me/my models/model.safetensors is missing; see https://example.org/a/b")
    'minilm: model.safetensors is missing; see https://example.org/a/b'
    """
    sentence = " ".join(str(said).split())
    for name, value in os.environ.items():
        if len(value) >= SECRET_CHARACTERS and SECRET.search(name):
            sentence = sentence.replace(value, "[key]")
    sentence = FOLDER.sub(lambda found: found["address"] or "", sentence[:SEARCHED_CHARACTERS])
    return sentence if len(sentence) <= VISITORS_CHARACTERS else sentence[: VISITORS_CHARACTERS - 1] + "…"
