"""What a stage of a build is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.matrices import Matrix
    from datasette_embeddings.tables import Tables


class Title(NamedTuple):
    """A chat model that gives titles. *of*: returns that of some texts, None where it gives none."""

    model: str
    of: Callable[[Sequence[str]], str | None]


@dataclass(frozen=True)
class Vectors:
    """What stages work on: the vectors *matrix* of the rows of a collection, as they are once the build is done.

    *embed* gives the vectors of texts by the collection's own model, None where no model is at hand. *say* takes lines for the person who builds.
    *anew*: what the stage made before is not to be kept. *title*: what names clusters, where that is not left to their terms.
    """

    conn: sqlite3.Connection
    tables: Tables
    collection: Collection
    matrix: Matrix
    say: Callable[[str], None]
    embed: Callable[[Sequence[str]], list[bytes | None]] | None = None
    anew: bool = False
    title: Title | None = None


@dataclass(frozen=True)
class Derived:
    """What a build writes. *rows*: table -> the rows that it should have. *state*: columns of `embeddings_collections`."""

    rows: dict[str, Sequence[tuple[Any, ...]]] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
