"""Vectors of queries: one text at a time, cached, by the model and purpose that belong to it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from datasette_embeddings.errors import BadVector, DimensionMismatch, ModelError, nearest
from datasette_embeddings.limits import MAX_QUERY_CHARACTERS, QUERY_CACHE_ENTRIES
from datasette_embeddings.models import BUILT_IN, built_in, configured_name, get_model, is_loaded
from datasette_embeddings.models.base import NoKnownWord
from datasette_embeddings.vectors import encode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasette_embeddings.budget import Budget
    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.guard import Guard
    from datasette_embeddings.models import EmbeddingModel, Item, Purpose

_cache: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class Embedder:
    """How texts become vectors at query time.

    *settings*: the `models:` block of the configuration. *allow_remote*: whether a text that is not in the cache may be
    sent to another machine. *named*: the models that may be loaded beside the built-in ones; None for any. A name in SQL or
    in a database file may come from a stranger, and loading a model can mean a download or reading a folder. *budget*: how
    many texts may be sent to another machine; None for any number. *guard*: whose turn it is to ask a model, and for how
    long; None where nobody else waits.
    """

    default_model: str = "static"
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    allow_remote: bool = True
    named: frozenset[str] | None = None
    budget: Budget | None = None
    guard: Guard | None = None

    def model(self, name: str) -> EmbeddingModel:
        """Return the model of that name; raises ModelError where it cannot be had or may not be loaded here."""
        if self.named is None:
            return self._loaded(name)
        allowed = configured_name(name, self.named, self.settings) or built_in(name)
        if allowed is None:
            raise ModelError(
                f"the model {name!r} is not named in this site's configuration, so it is not loaded; "
                f"add it under `models:` there ({nearest(name, {*self.named, *BUILT_IN})})"
            )
        return self._loaded(allowed)

    def _loaded(self, name: str) -> EmbeddingModel:
        """Return a model; one that is still to be loaded, which can take long, is loaded in a thread of its own."""
        if self.guard is None or is_loaded(name, self.settings):
            return get_model(name, self.settings)
        with self.guard.turn(name):
            return self.guard.away(
                name,
                lambda: get_model(name, self.settings),
                f"{name} is being loaded, which takes longer than a query may run here",
            )

    def query(self, collection: Collection, text: str, purpose: Purpose = "query") -> bytes | None:
        """Return the vector of a query by the collection's own model and prompt; None for an empty text.

        The prompt is the one that the collection was built for, whatever the model's settings are here. With the *purpose* document, the
        vector that a row of that text would have.
        Raises DimensionMismatch where the model, or its settings, are not those that the collection was built with.
        """
        if not text.strip():
            return None
        vector = self.item(collection.model, text, purpose, _prompt(collection, purpose))
        _require_size(collection, vector or b"")
        return vector

    def query_if_known(self, collection: Collection, text: str, purpose: Purpose = "query") -> bytes | None:
        """Return the vector of a query as `query` does; None also where the model knows no word of it."""
        try:
            return self.query(collection, text, purpose)
        except NoKnownWord:
            return None

    def documents(self, collection: Collection, texts: Sequence[str]) -> list[bytes | None]:
        """Return the vectors that rows of these texts would have, asked for at once; None for those that the model gives none for.

        Raises BudgetExceeded, before any is sent to another machine, where so many may not be.
        """
        model = self.model(collection.model)
        self._refuse_remote(collection.model, model)
        _require_modality(model, "")
        self._spend(model, len(texts))
        found: list[bytes | None] = [None] * len(texts)
        for positions, embedded in model.embed_many(texts, "document", _prompt(collection, "document")):
            for place, position in enumerate(positions):
                found[position] = None if place in embedded.failures else encode(embedded.vectors[place])
        for blob in filter(None, found):
            _require_size(collection, blob)
        return found

    def picture(self, collection: Collection, data: bytes) -> bytes:
        """Return the vector of an image file by the collection's own model; neither of them is kept.

        Raises ModelError, BudgetExceeded, and DimensionMismatch where the model is not the one that the collection was built with.
        """
        model = self.model(collection.model)
        self._refuse_remote(collection.model, model)
        _require_modality(model, data)
        self._spend(model)
        vector = encode(model.embed_one(data, "query"))
        _require_size(collection, vector)
        return vector

    def item(self, name: str, item: Item, purpose: Purpose, prompt: str | None = None) -> bytes | None:
        """Return the vector of a text or image; None for an empty one. *prompt*: in place of the model's own.

        Raises BadVector for a text over MAX_QUERY_CHARACTERS, ModelError where the model cannot answer or may not be asked,
        BudgetExceeded where the budget is used up.
        """
        if not (item.strip() if isinstance(item, str) else item):
            return None
        if isinstance(item, str) and len(item) > MAX_QUERY_CHARACTERS:
            raise BadVector(
                f"a text of {len(item):,} characters is too long for a question, a search or SQL (limit {MAX_QUERY_CHARACTERS:,}); "
                "shorten it, or put it into a table and embed that"
            )
        model = self.model(name)
        prompt = model.prompt_of(purpose, prompt)
        known = item if isinstance(item, str) else sha256(item).digest()  # an image file is larger than all else here
        key = (id(model), purpose if model.asymmetric else None, prompt, known)
        with _lock:
            if key in _cache:
                _cache.move_to_end(key)
                return _cache[key]
        self._refuse_remote(name, model)
        _require_modality(model, item)

        def embed() -> bytes:
            blob = encode(model.embed_one(item, purpose, prompt))
            with _lock:
                _cache[key] = blob
                while len(_cache) > QUERY_CACHE_ENTRIES:
                    _cache.popitem(last=False)
            return blob

        if self.guard is None or model.quick:
            if self.guard:
                self.guard.check_time()
            self._spend(model)
            return embed()
        with self.guard.turn(name):
            self._spend(model)
            return self.guard.away(name, embed, f"{name} gave no vector in the time that a query may run here")

    def _refuse_remote(self, name: str, model: EmbeddingModel) -> None:
        if model.remote and not self.allow_remote:
            raise ModelError(
                f"{name} runs on another machine and is not open to SQL here; use the collection's own search query, "
                "or set `allow_sql: true` in the plugin's configuration"
            )

    def _spend(self, model: EmbeddingModel, texts: int = 1) -> None:
        if model.remote and self.budget:
            self.budget.spend(texts)


def _prompt(collection: Collection, purpose: Purpose) -> str | None:
    return collection.query_prompt if purpose == "query" else collection.prefixes.document


def _require_size(collection: Collection, blob: bytes) -> None:
    size = len(blob) // 4
    if collection.dimensions not in {None, size}:
        raise DimensionMismatch(
            f"{collection.model} gives {size} dimensions here, and the collection {collection.name!r} has "
            f"{collection.dimensions}: build it again, or give the model the settings that it was built with"
        )


def _require_modality(model: EmbeddingModel, item: Item) -> None:
    modality = "text" if isinstance(item, str) else "image"
    if modality not in model.modalities:
        raise ModelError(f"{model.name} embeds {' and '.join(sorted(model.modalities))}, not {modality}")
