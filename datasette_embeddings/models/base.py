"""What every embedding model offers, and what the base class does for all of them.

A model is one method: `embed_batch`. The base class cuts work into batches, checks what comes back, normalises it and
names the items that got no vector, so that no provider can let a wrong vector through.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from datasette_embeddings.errors import ModelError
from datasette_embeddings.models.prompts import NO_PROMPTS, Prompts, before

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

Purpose = Literal["document", "query"]
"""Asymmetric models embed the two differently; symmetric ones ignore it."""

Item = str | bytes
"""A text, or the bytes of an image file. A string is always a text: never opened, never fetched."""

CHARACTERS_PER_TOKEN = 4
"""English averages about four characters a token in BERT and GPT vocabularies (OpenAI's help page on tokens, 2026)."""

NO_KNOWN_WORD = "the model knows no word of it"


class NoKnownWord(ModelError):
    """A text has no vector, as its model knows no word of it; it may have words that full-text search finds."""


"""Why a text of which nothing is in the model's vocabulary has no vector: it is skipped, not failed."""

ZERO_NORM = 1e-12
"""Below this norm a vector has no direction worth keeping."""


@dataclass(frozen=True)
class Embedded:
    """The answer for one batch.

    *vectors*: (n, d) float32 in the order of the items, unit rows; the rows of failed items are zero.
    *failures*: position in the batch -> why that item has no vector.
    *tokens*: tokens read (or billed, by remote models) for the whole batch.
    *truncated*: position -> tokens that the text has, where that is more than the model reads.
    *unknown*: how many of the words or tokens the model does not know; *words*: of how many.
    """

    vectors: NDArray[np.float32]
    failures: Mapping[int, str] = field(default_factory=dict)
    tokens: int = 0
    truncated: Mapping[int, int] = field(default_factory=dict)
    unknown: int = 0
    words: int = 0


class EmbeddingModel(ABC):
    """An embedding model, loaded. Instances are shared by threads and made once a process.

    Attributes:
        name: as the user spells it: `minilm`, `openai/text-embedding-3-small`.
        llm_name: under which the llm tool finds the very same vectors; None where that is *name*.
        revision: changes whenever the same text would get another vector (weights' SHA-256, table id); may be empty.
        dimensions: of every vector; None until the first answer of a remote model.
        modalities: {"text"}, {"image"} or both.
        max_tokens: how much of a text is read; None when unlimited or unknown.
        language: what it was made for: "English", "multilingual", "unknown".
        remote: texts leave this machine.
        in_process: runs in this process, so that a few more texts cost nobody anything.
        quick: even the longest query takes a millisecond or so, so that SQL may wait for it where it stands.
        asymmetric: `purpose` changes the vector, also where the prompt is the same.
        prompts: what stands before documents and before queries unless a caller says otherwise.
        usd_per_million_tokens: price, None when unknown, 0.0 when local.
        batch_items, batch_tokens: bounds of one batch; tokens count padding (items x longest).

    """

    name: str
    llm_name: str | None = None
    revision: str = ""
    dimensions: int | None = None
    modalities: frozenset[str] = frozenset({"text"})
    max_tokens: int | None = None
    language: str = "unknown"
    remote: bool = False
    in_process: bool = True
    quick: bool = False
    asymmetric: bool = False
    prompts: Prompts = NO_PROMPTS
    usd_per_million_tokens: float | None = 0.0
    batch_items: int = 256
    batch_tokens: int = 64_000

    @abstractmethod
    def embed_batch(self, items: Sequence[Item], purpose: Purpose, prompt: str = "") -> Embedded:
        """Return vectors for one batch of one modality, *prompt* before each text; need not be normalised or checked."""

    def prepare(self) -> None:
        """Raise ModelError where texts could not be embedded now: a key or a package that only that needs is missing."""
        return

    def token_counts(self, items: Sequence[Item]) -> list[int]:
        """Return how many tokens each item has as a document, before any cut: an estimate unless the model can count; 1 for an image."""
        return [
            max(1, len(item) // CHARACTERS_PER_TOKEN) if isinstance(item, str) else 1
            for item in before(self.prompts.document, items)
        ]

    def prompt_of(self, purpose: Purpose, given: str | None) -> str:
        """Return the prompt to use: the one *given*, where there is one ("" for none), else the model's own."""
        return self.prompts.of(purpose) if given is None else given

    def embed(self, items: Sequence[Item], purpose: Purpose, prompt: str | None = None) -> Embedded:
        """Return checked unit vectors for one batch, which must fit the model's bounds; *prompt*: in place of the model's own.

        Raises ModelError when the model gives another number of vectors or of dimensions than it must.
        """
        if not items:
            return Embedded(np.zeros((0, self.dimensions or 0), np.float32))
        return checked(self, self.embed_batch(items, purpose, self.prompt_of(purpose, prompt)), len(items))

    def embed_many(
        self, items: Sequence[Item], purpose: Purpose, prompt: str | None = None
    ) -> Iterator[tuple[list[int], Embedded]]:
        """Yield (positions, vectors) batch by batch, each as soon as it is there, longest texts last."""
        counts = self.token_counts(items)
        if self.max_tokens:
            counts = [min(count, self.max_tokens) for count in counts]
        for positions in plan_batches(counts, self.batch_items, self.batch_tokens):
            yield positions, self.embed([items[position] for position in positions], purpose, prompt)

    def embed_one(self, item: Item, purpose: Purpose, prompt: str | None = None) -> NDArray[np.float32]:
        """Return the unit vector (d,) of one item; raises ModelError when it has none."""
        embedded = self.embed([item], purpose, prompt)
        if embedded.failures:
            kind = NoKnownWord if embedded.failures[0] == NO_KNOWN_WORD else ModelError
            raise kind(f"{self.name} gives no vector for this: {embedded.failures[0]}")
        vector: NDArray[np.float32] = embedded.vectors[0]
        return vector


def plan_batches(counts: Sequence[int], batch_items: int, batch_tokens: int) -> Iterator[list[int]]:
    """Yield lists of positions sorted by token count, each within both bounds (an item over the bound goes alone).

    >>> list(plan_batches([5, 1, 9, 2], batch_items=2, batch_tokens=10))
    [[1, 3], [0], [2]]
    """
    batch: list[int] = []
    for position in sorted(range(len(counts)), key=counts.__getitem__):
        full = len(batch) == batch_items or (len(batch) + 1) * counts[position] > batch_tokens
        if batch and full:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def checked(model: EmbeddingModel, embedded: Embedded, expected: int) -> Embedded:
    """Return *embedded* with unit rows, its unusable rows moved to failures."""
    vectors = np.ascontiguousarray(embedded.vectors, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[0] != expected:
        raise ModelError(
            f"{model.name} gave an array of shape {vectors.shape} for {expected} items; nothing of it was stored"
        )
    none = len(embedded.failures) == expected  # then the number of columns means nothing
    if model.dimensions is None and not none:
        model.dimensions = vectors.shape[1]
    if vectors.shape[1] != model.dimensions and not none:
        raise ModelError(f"{model.name} gave {vectors.shape[1]} dimensions where {model.dimensions} were expected")
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    failures = dict(embedded.failures)
    for position in np.flatnonzero(~np.isfinite(norms)):
        failures.setdefault(int(position), "the model gave a vector with NaN or infinite components")
    for position in np.flatnonzero(norms < ZERO_NORM):
        failures.setdefault(int(position), NO_KNOWN_WORD)
    bad = list(failures)
    norms[bad] = 1.0
    vectors = (vectors / norms[:, None]).astype(np.float32)
    vectors[bad] = 0.0
    return Embedded(vectors, failures, embedded.tokens, embedded.truncated, embedded.unknown, embedded.words)
