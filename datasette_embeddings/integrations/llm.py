"""`minilm` and `static` as embedding models of the llm tool: `llm embed -m minilm -c "hello"`.

llm imports this module at every start, so it imports little; a model is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import llm

from datasette_embeddings.errors import EmbeddingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MODELS = ("minilm", "static")

BATCH_ITEMS = 256
"""Items that llm hands over at once: enough to sort texts by length and waste little on padding."""


class EmbeddingModel(llm.EmbeddingModel):  # type: ignore[misc]
    """One of our models as llm wants it. Texts are embedded as documents, as llm knows no purposes."""

    batch_size = BATCH_ITEMS

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id

    def embed_batch(self, items: Iterable[str | bytes], *, key: str | None = None) -> Iterator[list[float]]:
        """Return a unit vector for each item; *key* is never needed.

        Raises click.ClickException, the only errors that llm shows as one sentence. An item without a
        vector is one of them, as llm stores something for each, and would take any vector for the truth.
        """
        try:
            vectors = embed(self.model_id, list(items))
        except EmbeddingsError as error:
            raise click.ClickException(str(error)) from error
        return iter(vectors)


def embed(model_id: str, items: list[str | bytes]) -> list[list[float]]:
    """Return one vector for each of *items*, in their order; raises EmbeddingsError."""
    from datasette_embeddings.errors import ModelError
    from datasette_embeddings.models import get_model

    vectors: list[list[float]] = [[]] * len(items)
    for positions, embedded in get_model(model_id).embed_many(items, "document"):
        for at, reason in embedded.failures.items():
            raise ModelError(f"{model_id} gives no vector for {str(items[positions[at]])[:60]!r}: {reason}")
        for position, row in zip(positions, embedded.vectors.tolist(), strict=True):
            vectors[position] = row
    return vectors


@llm.hookimpl
def register_embedding_models(register: Callable[[llm.EmbeddingModel], None]) -> None:
    """Add our models to llm's."""
    for model_id in MODELS:
        register(EmbeddingModel(model_id))
