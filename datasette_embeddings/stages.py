"""What a build derives from the vectors of a collection's rows beside similarities: clusters, a map, predicted labels.

Each stage gives all rows that its tables should have; `store` writes the difference. It is computed anew where vectors changed or something
else is wanted than before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from datasette_embeddings import classification, clusters, projection
from datasette_embeddings.derived import Derived, Vectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasette_embeddings.catalog import Stages


class Stage(NamedTuple):
    """One stage: its tables, and what gives their rows of vectors and of what is wanted.

    *is_behind* tells whether what else they are made of changed, such as the labels of rows.
    """

    tables: tuple[str, ...]
    derive: Callable[[Vectors, str], Derived]
    is_behind: Callable[[Vectors, str], bool] = lambda *_: False


STAGES: dict[str, Stage] = {
    "clusters": Stage(("clusters", "cluster_members"), clusters.derive),
    "projection": Stage(("projections", "embeddings_projections"), projection.derive),
    "labels": Stage(("labels", "predictions"), classification.derive, classification.is_behind),
}
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
        elif changed or wish != before or name == anew or stage.is_behind(vectors, wish):
            found = stage.derive(replace(vectors, anew=name == anew), wish)
            derived.rows.update(found.rows)
            derived.state.update(found.state)
    return derived
