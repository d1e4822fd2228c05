"""`openai/NAME`: a chat model of OpenAI, or of any server that speaks its protocol (Ollama, llama.cpp, vLLM).

The `openai` package sends and tries again; `openai_client` bounds it; `stream` reads what comes. This module decides what
to ask, and says what went wrong without a word of the server's own, which may hold the key or the prompt.
"""

from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING, Any

from datasette_embeddings.chat import ChatModel
from datasette_embeddings.chat.pieces import EMPTY, Pieces, Sink, failure
from datasette_embeddings.chat.stream import messages, read_choice
from datasette_embeddings.limits import (
    CHAT_DEADLINE_TIMEOUTS,
    CHAT_RETRIES,
    CHAT_TIMEOUT_SECONDS,
    MAX_ANSWER_TOKENS,
    STREAM_BYTES,
    STREAM_BYTES_PER_TOKEN,
)
from datasette_embeddings.models.openai import (
    ADVICE,
    CHECKS,
    OPENAI_URL,
    check_settings,
    check_url,
    find_key,
    is_loopback,
    is_number,
    is_whole,
    tried,
)
from datasette_embeddings.models.openai_client import Call, UnusableError, make_client

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LIMIT_NAMES = ("max_tokens", "max_completion_tokens")
"""How a request names the most tokens of its answer. OpenAI's models that think refuse the first name; Ollama passes over the
second in silence, and then writes without a limit; llama.cpp and vLLM take both; OpenAI refuses both at once."""

SETTINGS = {
    "api_key": "{$env: NAME}",
    "base_url": "an address",
    "temperature": "a number from 0 to 2, or null to leave it to the server",
    "answer_tokens": f"a whole number from 1 to {MAX_ANSWER_TOKENS}",
    "token_limit": " or ".join(LIMIT_NAMES),
    "max_retries": "a whole number from 0 to 20",
    "timeout": "seconds, more than 0",
}
"""Setting -> what it must be."""

RULES = {
    **{name: CHECKS[name] for name in ("api_key", "base_url", "max_retries", "timeout")},
    "temperature": lambda value: value is None or (is_number(value) and value <= 2),
    "answer_tokens": lambda value: is_whole(value, 1, MAX_ANSWER_TOKENS),
    "token_limit": lambda value: value in LIMIT_NAMES,
}

REFUSED_PARAMETERS = {
    "temperature": "it takes no such temperature: set `temperature: null` for this model",
    "max_tokens": "set `token_limit: max_completion_tokens` for this model",
    "max_completion_tokens": "set `token_limit: max_tokens` for this model",
}
"""The parameter that an error names -> what to do about it."""

CHAT_ADVICE = ADVICE | {
    400: "it refuses the request: check the model's name and its settings, and whether it can read so much text at once",
    408: "it was too slow: try again later",
    413: "the prompt is too long for it: ask with fewer excerpts",
    422: "it refuses the request: check the model's name and its settings",
    429: "the rate limit or the quota is used up: try again later",
}

FILTERED = "a content filter of the server stopped it"


def check(name: str, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError for a setting that is unknown or makes no sense."""
    check_settings(name, settings, SETTINGS, RULES)
    check_url(name, settings.get("base_url", OPENAI_URL))


def load(name: str, settings: Mapping[str, Any]) -> ChatModel:
    """Return the model; raises ConfigError, MissingKey, or MissingExtra without the `openai` package."""
    return OpenAIChat(name, settings)


class OpenAIChat(ChatModel):
    """A chat model behind OpenAI's protocol; *settings* are those of SETTINGS."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        check(name, settings)
        self.name = name
        self._model = name.partition("/")[2]
        self._settings = settings
        base_url = settings.get("base_url", OPENAI_URL)
        self.remote = not is_loopback(base_url)
        self._limit_name = settings.get("token_limit", LIMIT_NAMES[base_url == OPENAI_URL])
        timeout = float(settings.get("timeout", CHAT_TIMEOUT_SECONDS))
        self._seconds = CHAT_DEADLINE_TIMEOUTS * timeout
        key = find_key(name, settings.get("api_key"), base_url)
        retries = settings.get("max_retries", CHAT_RETRIES)
        self._client, self._calls = make_client(key, base_url, timeout, retries, not self.remote)

    def answer(self, system: str, user: str, max_tokens: int) -> Pieces:
        """Return the pieces of the answer as they come; see ChatModel."""
        sink = Sink(self._settings.get("answer_tokens", max_tokens))
        call = ChatCall(time.monotonic() + self._seconds, sink)
        temperature = self._settings.get("temperature", 0)
        request = {
            "model": self._model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
            self._limit_name: sink.tokens,
            **({} if temperature is None else {"temperature": temperature}),
        }
        return Pieces(self.name, self._seconds, sink, lambda: self._ask(call, request), call.cancel)

    def _ask(self, call: ChatCall, request: Mapping[str, Any]) -> None:
        """Put the answer into the call's sink; raises ChatError."""
        import openai

        self._calls.current = call
        completions = self._client.chat.completions.with_raw_response
        try:
            # A connection of its own: given up by shutting it, no other answer is on it.
            completions.create(stream=True, extra_headers={"Connection": "close"}, **request)
        except openai.APIStatusError as error:
            reason = f"HTTP {error.status_code}, {tried(call.tries)}: {advise(error)}"
        except (openai.OpenAIError, TimeoutError):
            reason = f"{name_server(call.trouble)}, {tried(call.tries)}"
        else:
            reason = call.why_too_early()
        if reason:
            raise failure(self.name, call.begun, reason) from None


class ChatCall(Call):
    """A call whose answer goes into *sink* piece by piece, and that can be given up from another thread."""

    def __init__(self, until: float, sink: Sink) -> None:
        super().__init__(until, STREAM_BYTES + STREAM_BYTES_PER_TOKEN * sink.tokens)
        self._sink = sink
        self._finish = ""
        self._line: Any = None  # httpcore's stream of the connection

    def try_ends(self, timeout: float) -> float:
        """Return the end of the call: an answer that goes on for long is no fault, and silence has the client's timeout."""
        return self.until

    def sends(self, request: Any) -> None:  # noqa: ANN401
        """Have the connection of a try told to us, so that it can be shut before an answer comes."""
        request.extensions["trace"] = self._trace

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        line = info.get("return_value")
        if hasattr(line, "get_extra_info"):
            self._line = line
            if time.monotonic() >= self.until:
                self._shut()

    def receive(self, body: Iterator[bytes]) -> None:
        """Hand on the texts of *body* until the model stops; raises UnusableError where it breaks off before."""
        for message in messages(body):
            text, self._finish = read_choice(message)
            self._sink.put(text)
            self.begun = self._sink.begun
            if self._sink.full:
                self._finish = "length"
            if self._finish:
                return
        raise UnusableError("its answer ended before it was complete")

    def why_too_early(self) -> str:
        """Return why an answer that came is not whole, "" where it is."""
        if not self._finish:
            return name_server(self.trouble)
        reasons = {"length": self._sink.at_limit(), "content_filter": FILTERED, "error": "the server reported an error"}
        return reasons.get(self._finish, "" if self.begun else EMPTY)

    def cancel(self) -> None:
        """Shut the connection and start no further try."""
        self.until = 0.0
        self._shut()

    def _shut(self) -> None:
        """End what waits for the connection: closing it would not wake a thread that reads from it."""
        connection = self._line and self._line.get_extra_info("socket")
        if connection is None:
            return
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # it was closed already
            return


def name_server(trouble: str) -> str:
    """Return what a Call says of "it", told of the server: the reason why an answer is cut stands by itself.

    >>> name_server("it was silent for 60 s"), name_server("its answer is not JSON")
    ('the server was silent for 60 s', "the server's answer is not JSON")
    """
    return re.sub(r"^its\b", "the server's", re.sub(r"^it\b", "the server", trouble))


def advise(error: Any) -> str:  # noqa: ANN401 - openai.APIStatusError
    """Return what to do about an error status, in our own words; of the server's, only names that we know are looked at."""
    if error.code == "context_length_exceeded":
        return CHAT_ADVICE[413]
    if isinstance(error.param, str) and error.param in REFUSED_PARAMETERS:
        return REFUSED_PARAMETERS[error.param]
    if 300 <= error.status_code < 400:
        return "it redirects elsewhere, where the key must not go: set base_url to the final address"
    if error.status_code >= 500:
        return "the server is in trouble: try again later"
    return CHAT_ADVICE.get(error.status_code, "see the server's documentation for this status")
