"""`llm/NAME`: any embedding model of the llm tool, with the keys, aliases and plugins that llm has."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from datasette_embeddings.errors import (
    ConfigError,
    MissingExtra,
    MissingKey,
    ModelError,
    ProviderError,
    SourceError,
    nearest,
)
from datasette_embeddings.models import PROVIDERS, prompts
from datasette_embeddings.models.base import Embedded, EmbeddingModel
from datasette_embeddings.models.images import open_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.models.base import Item, Purpose

OURS = ("minilm", "static")
"""Models that `integrations.llm` gives to llm: asked for through llm, they are simply themselves."""

SETTINGS = ("price", "batch_items", *prompts.SETTINGS)

BATCH_ITEMS = 100
"""Items of one call where the model names no number; what llm itself uses."""


def load(rest: str, settings: Mapping[str, Any]) -> EmbeddingModel:
    """Return llm's embedding model *rest*, an id or an alias.

    Raises MissingExtra without the `llm` package, ModelError for an unknown name, ConfigError.
    """
    if rest in OURS:
        module = import_module(f"datasette_embeddings.models.{PROVIDERS[rest][0]}")
        ours: EmbeddingModel = module.load("", settings)
        return ours
    return LlmModel(rest, settings)


class LlmModel(EmbeddingModel):
    """An adapter; *settings* may hold `price` (USD per million tokens), `batch_items` and prompts.

    llm does not say how many tokens a model reads or has read, nor which of its models send data elsewhere:
    one that needs a key counts as remote.
    """

    def __init__(self, rest: str, settings: Mapping[str, Any]) -> None:
        self.name = f"llm/{rest}"
        self.llm_name = rest
        for key in settings:
            if key not in SETTINGS:
                raise ConfigError(f"{self.name}: there is no setting {key}; {nearest(key, SETTINGS)}")
        self._model = find(rest)
        self.prompts = prompts.prompts_of(self._model.model_id, settings)
        # An alias may come to mean another model one day; its vectors are then not the old ones.
        self.revision = "" if self._model.model_id == rest else self._model.model_id
        kinds = {"text": self._model.supports_text, "image": self._model.supports_binary}
        self.modalities = frozenset(kind for kind, supported in kinds.items() if supported)
        self.remote = bool(self._model.needs_key)
        self.in_process = not self.remote
        self.usd_per_million_tokens = settings.get("price", None if self.remote else 0.0)
        self.batch_items = settings.get("batch_items") or self._model.batch_size or BATCH_ITEMS

    def prepare(self) -> None:
        """Raise MissingKey where llm has no key for the model, which only embedding needs."""
        import llm

        try:
            self._model.get_key()
        except llm.NeedsKeyException as error:
            raise MissingKey(f"{self.name}: {error}") from None

    def embed_batch(self, items: Sequence[Item], purpose: Purpose, prompt: str = "") -> Embedded:
        """Return (n, d) float32 in the order of *items*; blank texts and files that are no image within bounds are not sent.

        An image is sent as the file that it is, as llm itself would do, so that both have the same vector. llm knows no purposes,
        nor prompts. Raises MissingKey, MissingExtra, ModelError, or ProviderError for a remote model, when it fails or gives a wrong number.
        """
        for item in items:
            self._require("text" if isinstance(item, str) else "image")
        failures = {at: reason for at, item in enumerate(items) if (reason := unfit(item))}
        sent = [at for at in range(len(items)) if at not in failures]
        texts = prompts.before(prompt, items)
        rows = self._rows([texts[at] for at in sent])
        vectors = np.zeros((len(items), rows.shape[1]), np.float32)
        vectors[sent] = rows
        return Embedded(vectors, failures, sum(self.token_counts([items[at] for at in sent])))

    def _require(self, modality: str) -> None:
        if modality not in self.modalities:
            raise ModelError(f"{self.name} embeds {' and '.join(sorted(self.modalities))}, not {modality}")

    def _rows(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """Return (n, d) float32, checked for shape."""
        if not items:
            return np.zeros((0, self.dimensions or 0), np.float32)
        self.prepare()
        given = self._ask(items)
        if len(given) != len(items):
            raise ModelError(f"{self.name} gave {len(given)} vectors for {len(items)} items; none was kept")
        try:
            rows = np.asarray(given, np.float32)
        except (TypeError, ValueError):
            rows = np.zeros(0, np.float32)
        if rows.ndim != 2:
            raise ModelError(f"{self.name} gave no vectors of numbers, all of one length; none was kept")
        return rows

    def _ask(self, items: Sequence[Item]) -> list[Sequence[float]]:
        try:
            return list(self._model.embed_multi(items, batch_size=self.batch_items))
        except Exception as error:  # a plugin may raise anything
            kind = type(error).__name__
            if self.remote:  # its words are the provider's, and may hold the key
                status = getattr(error, "status_code", None)
                said = f"HTTP {status}" if isinstance(status, int) else kind
                raise ProviderError(f"{self.name}: the provider failed ({said}); nothing was kept") from None
            raise ModelError(f"{self.name} failed: {kind}: {error}") from error


def unfit(item: Item) -> str:
    """Return why an item is not given to a model; empty where it is. Raises MissingExtra for an image without Pillow."""
    if isinstance(item, str):
        return "" if item.strip() else "the text is empty"
    try:
        open_image(item)
    except SourceError as error:
        return str(error)
    return ""


def find(rest: str) -> Any:  # noqa: ANN401 - llm.EmbeddingModel, which is not imported here
    """Return llm's embedding model of that id or alias."""
    try:
        import llm
    except ImportError:
        near = nearest(rest, PROVIDERS)
        what = f"{rest!r} is no model of this package ({near}); asking the llm tool for it"
        raise MissingExtra(what, "llm") from None
    try:
        return llm.get_embedding_model(rest)
    except llm.UnknownModelError:
        known = llm.get_embedding_model_aliases()
        raise ModelError(
            f"the llm tool has no embedding model {rest!r}; {nearest(rest, known)} (`llm install PLUGIN` adds models)"
        ) from None
