"""What a build derives from the vectors of a collection's rows beside similarities: clusters, a map, predicted labels.

Each stage gives all rows that its tables should have; `store` writes the difference. It is computed anew where vectors changed or something
else is wanted than before.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from datasette_embeddings.catalog import Stages

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.matrices import Matrix
    from datasette_embeddings.tables import Tables


@dataclass(frozen=True)
class Vectors:
    """What stages work on: the vectors *matrix* of the rows of a collection, as they are once the build is done.

    *embed* gives the vectors of texts by the collection's own model, None where no model is at hand. *say* takes lines for the person who builds.
    *anew*: what the stage made before is not to be kept.
    """

    conn: sqlite3.Connection
    tables: Tables
    collection: Collection
    matrix: Matrix
    say: Callable[[str], None]
    embed: Callable[[Sequence[str]], list[bytes | None]] | None = None
    anew: bool = False


@dataclass(frozen=True)
class Derived:
    """What a build writes. *rows*: table -> the rows that it should have. *state*: columns of `embeddings_collections`."""

    rows: dict[str, Sequence[tuple[Any, ...]]] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


class Stage(NamedTuple):
    """One stage: its tables, and what gives their rows of vectors and of what is wanted."""

    tables: tuple[str, ...]
    derive: Callable[[Vectors, str], Derived]


STAGES: dict[str, Stage] = {}
"""By the field of `catalog.Stages` that asks for it."""


def derive(vectors: Vectors, wanted: Stages, *, changed: bool, anew: str = "") -> Derived:
    """Return what makes the tables of all stages those of *wanted*.

    *changed*: the vectors did, since they were made. *anew*: the stage that is to be made whatever there was before.
    """
    derived = Derived(state=wanted._asdict())
    for name, stage in STAGES.items():
        wish, before = getattr(wanted, name), getattr(vectors.collection, name)
        if wish is None:
            derived.rows.update(dict.fromkeys(stage.tables, ()) if before is not None else {})
        elif changed or wish != before or name == anew:
            found = stage.derive(replace(vectors, anew=name == anew), wish)
            derived.rows.update(found.rows)
            derived.state.update(found.state)
    return derived
