"""What one collection is to be: from the configuration, or from what the file remembers of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from datasette_embeddings.catalog import Stages
from datasette_embeddings.config import Config, Prefix
from datasette_embeddings.sources import PARAGRAPH, QuerySource, TableSource, table_source

if TYPE_CHECKING:
    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.config import CollectionConfig
    from datasette_embeddings.sources import Source


@dataclass(frozen=True)
class Spec:
    """What one collection is to be. *chunk*: tokens of one chunk, 0 for as many as suit the model; None for whole rows.

    *images*: its rows are pictures.
    """

    name: str
    source: Source
    model: str
    owner: str
    prefix: Prefix = field(default_factory=Prefix)
    template: str | None = None
    similarities: int = 10
    store: bool = False
    delete_missing: bool = True
    chunk: int | None = None
    stages: Stages = field(default_factory=Stages)
    images: bool = False


def spec_of(collection: CollectionConfig, config: Config) -> Spec:
    """Return the Spec of a configured collection."""
    prepend = collection.prefix.document or ""
    source: Source
    if collection.table:
        source = TableSource(
            collection.table,
            collection.columns,
            collection.template,
            collection.key,
            collection.where,
            prepend,
            image=collection.image,
            folder=collection.images,
        )
    else:
        source = QuerySource(collection.sql or "", collection.template, prepend=prepend)
    if collection.chunk is not None:
        source = replace(source, separator=PARAGRAPH)
    identity = f"image {collection.image}" if collection.image else collection.template or " ".join(collection.columns)
    return Spec(
        collection.name,
        source,
        config.model_of(collection),
        "config",
        collection.prefix,
        identity,
        collection.similarities,
        collection.store or collection.table is None,
        chunk=collection.chunk,
        stages=Stages(collection.clusters, collection.projection, collection.labels),
        images=collection.image is not None,
    )


def recorded_spec(collection: Collection) -> Spec | None:
    """Return the Spec of a collection that `add` made, from what the file remembers of it; None for others."""
    if collection.owner != "add" or not collection.table:
        return None
    table = table_source(collection)
    assert table is not None
    return Spec(
        collection.name,
        table,
        collection.model,
        "add",
        Prefix(),
        collection.template,
        collection.similarities or 0,
        chunk=collection.chunk,
        stages=collection.stages,
        images=collection.images,
    )
