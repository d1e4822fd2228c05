"""A question to a collection: its text, its vector, and how texts are compared with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from datasette_embeddings import vectors
from datasette_embeddings.errors import EmbeddingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.embedder import Embedder
    from datasette_embeddings.models import EmbeddingModel


@dataclass(frozen=True)
class Question:
    """What is asked. *vector*: the question's own, None where the model knows no word of it.

    *model*: what texts are embedded by to be compared with it, with *prompt* before each as before the collection's rows; None
    where that would send them elsewhere.
    """

    text: str
    vector: bytes | None = None
    model: EmbeddingModel | None = None
    prompt: str = ""

    @property
    def quick(self) -> bool:
        """Whether comparing texts takes hardly any time."""
        return self.model is not None and self.model.quick

    def closeness(self, texts: Sequence[str]) -> NDArray[np.float64] | None:
        """Return the cosine (n,) of each text to the question, 0 for a text without a vector; None where nobody can tell."""
        if self.model is None or self.vector is None or not texts:
            return None
        own = vectors.decode(vectors.normalize(self.vector))
        found = np.zeros(len(texts))
        try:
            for places, embedded in self.model.embed_many(texts, "document", self.prompt):
                found[places] = vectors.score_rows(embedded.vectors, own)
        except EmbeddingsError:
            return None  # words are compared instead
        return found


def question_of(embedder: Embedder, collection: Collection, text: str) -> Question:
    """Return a question to a collection; raises ModelError where it cannot be embedded."""
    return with_vector(embedder, collection, text, embedder.query_if_known(collection, text))


def with_vector(embedder: Embedder, collection: Collection, text: str, vector: bytes | None) -> Question:
    """Return a question that is embedded already."""
    model = None if vector is None else embedder.model(collection.model)
    own = model if model and model.in_process and not model.remote and "text" in model.modalities else None
    return Question(text, vector, own, collection.prefixes.document)
