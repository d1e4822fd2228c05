"""`llm/NAME`: any model of the llm tool that answers prompts, with the keys, aliases and plugins that llm has."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from datasette_embeddings.chat import ChatModel
from datasette_embeddings.chat.openai import RULES, SETTINGS
from datasette_embeddings.chat.pieces import EMPTY, Pieces, Sink, failure
from datasette_embeddings.errors import ConfigError, MissingExtra, MissingKey, nearest
from datasette_embeddings.limits import CHAT_DEADLINE_TIMEOUTS, CHAT_TIMEOUT_SECONDS
from datasette_embeddings.models.openai import check_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN_SETTINGS = {name: SETTINGS[name] for name in ("temperature", "answer_tokens", "timeout")}

LIMIT_OPTIONS = ("max_tokens", "max_output_tokens", "num_predict")
"""What plugins of llm call the most tokens of an answer."""


def check(name: str, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError for a setting that is unknown or makes no sense."""
    check_settings(name, settings, OWN_SETTINGS, RULES)


def load(name: str, settings: Mapping[str, Any]) -> ChatModel:
    """Return llm's model of that id or alias; raises ConfigError, MissingKey, or MissingExtra without the `llm` package."""
    return LlmChat(name, settings)


class LlmChat(ChatModel):
    """An adapter; *settings* are those of OWN_SETTINGS.

    llm does not say which of its models send data elsewhere: one that needs a key counts as remote. Nor does it say why a
    model stopped, so that an answer cut by the provider's own limit looks complete.
    """

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        check(name, settings)
        self.name = name
        self._settings = settings
        self._model = find(name.partition("/")[2])
        self.remote = bool(self._model.needs_key)

    def answer(self, system: str, user: str, max_tokens: int) -> Pieces:
        """Return the pieces of the answer as they come; see ChatModel. A plugin that waits is given up, not stopped."""
        sink = Sink(self._settings.get("answer_tokens", max_tokens))
        given_up = threading.Event()
        seconds = CHAT_DEADLINE_TIMEOUTS * float(self._settings.get("timeout", CHAT_TIMEOUT_SECONDS))
        return Pieces(self.name, seconds, sink, lambda: self._ask(system, user, sink, given_up), given_up.set)

    def _ask(self, system: str, user: str, sink: Sink, given_up: threading.Event) -> None:
        """Put the answer into *sink*; raises ChatError."""
        reason = ""
        try:
            for piece in self._model.prompt(user, system=system, stream=True, **self._options(sink.tokens)):
                sink.put(piece)
                if given_up.is_set():
                    return
                if sink.full:
                    reason = sink.at_limit()
                    break
        except Exception as error:  # a plugin may raise anything, in words that may hold the key or the prompt
            status = getattr(error, "status_code", None)
            reason = f"the provider failed ({f'HTTP {status}' if isinstance(status, int) else type(error).__name__})"
        reason = reason or ("" if sink.begun else EMPTY)
        if reason:
            raise failure(self.name, sink.begun, reason) from None

    def _options(self, tokens: int) -> dict[str, Any]:
        """Return the options of a prompt, those that this model has."""
        has = self._model.Options.model_fields
        limit = next((name for name in LIMIT_OPTIONS if name in has), "")
        wanted = {limit: tokens, "temperature": self._settings.get("temperature", 0)}
        return {name: value for name, value in wanted.items() if name in has and value is not None}


def find(rest: str) -> Any:  # noqa: ANN401 - llm.Model, which is not imported here
    """Return llm's model of that id or alias, with a key if it needs one."""
    try:
        import llm
    except ImportError:
        raise MissingExtra(f"llm/{rest}", "llm") from None
    known = llm.get_model_aliases()
    if rest not in known:
        raise ConfigError(
            f"the llm tool has no model {rest!r}; {nearest(rest, known)} (`llm models` lists them, `llm install PLUGIN` adds some)"
        )
    model = known[rest]
    if not isinstance(model, (llm.Model, llm.KeyModel)):
        raise ConfigError(f"llm/{rest} is for asynchronous programs only; choose another model of `llm models`")
    try:
        model.get_key()
    except llm.NeedsKeyException as error:
        raise MissingKey(f"llm/{rest}: {error}") from None
    return model
