"""Chat models by name: `openai/NAME` (OpenAI, or any compatible server by `base_url`) or `llm/NAME`.

    chat = get_chat("openai/gpt-4o-mini", {"openai/gpt-4o-mini": {"temperature": 0.2}})
    for piece in chat.answer("Answer from the excerpts.", "How are plugins loaded?", max_tokens=500):
        print(piece, end="", flush=True)

A model is given two texts and gives one: no tools are ever offered to it, and what it asks for besides is ignored.
A provider is one module with `check(name, settings)` and `load(name, settings) -> ChatModel`, listed in PROVIDERS.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from importlib import import_module
from typing import TYPE_CHECKING, Any

from datasette_embeddings.errors import ConfigError
from datasette_embeddings.models import settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from datasette_embeddings.chat.pieces import Pieces

__all__ = ["ChatModel", "check", "get_chat"]

PROVIDERS = ("openai", "llm")

_loaded: dict[str, ChatModel] = {}
_lock = threading.Lock()


class ChatModel(ABC):
    """One model. *remote*: what it is asked leaves this machine."""

    name: str
    remote: bool

    @abstractmethod
    def answer(self, system: str, user: str, max_tokens: int) -> Pieces:
        """Return the pieces of the answer's text as they come: an iterator, to be closed where it is not read to its end.

        The setting `answer_tokens` replaces *max_tokens*. Each step may raise ChatError: before the first piece where
        there is no answer, and as CutShort where what came is all that will come. Both may be shown to visitors.
        """


def get_chat(name: str, settings: Mapping[str, Mapping[str, Any]] | None = None) -> ChatModel:
    """Return the chat model of that name, made once a process; nothing is sent to it yet.

    *settings* is the `models:` block of the configuration: model name -> its settings.
    Raises ConfigError, MissingExtra or MissingKey, with what to do about it.
    """
    provider, own = _resolve(name, settings or {})
    key = f"{name} {sorted(own.items())!r}"
    with _lock:
        if key not in _loaded:
            _loaded[key] = provider.load(name, own)
        return _loaded[key]


def check(name: str, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ConfigError where the name or its settings make no sense, without needing a key, a package or the model."""
    provider, own = _resolve(name, settings)
    provider.check(name, own)


def _resolve(name: str, settings: Mapping[str, Mapping[str, Any]]) -> tuple[ModuleType, dict[str, Any]]:
    provider, _, rest = name.partition("/")
    if provider not in PROVIDERS or not rest.strip():
        raise ConfigError(
            f"{name!r} names no chat model; expected openai/NAME (OpenAI, or with `base_url` any compatible server) or llm/NAME"
        )
    return import_module(f"datasette_embeddings.chat.{provider}"), settings_of(name, settings)
