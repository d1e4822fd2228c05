"""`openai/NAME`: embeddings from OpenAI, or from any server that speaks its protocol (`base_url`).

The `openai` package sends and tries again, within the bounds of `openai_client`; `openai_answer` reads what
comes back. This module decides what to send, finds the one text for which a server refuses a batch, and says
what went wrong without a word of the server's own, which may hold the key or the texts.
"""

from __future__ import annotations

import ipaddress
import os
import re
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import numpy as np

from datasette_embeddings.errors import ConfigError, MissingKey, ProviderError, nearest
from datasette_embeddings.models.base import Embedded, EmbeddingModel
from datasette_embeddings.models.openai_answer import place, usage
from datasette_embeddings.models.openai_client import Call, make_client, within
from datasette_embeddings.models.prompts import before, prompts_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from openai import OpenAI

    from datasette_embeddings.models.base import Item, Purpose

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"

DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
"""OpenAI's own models and how long their vectors are."""

PRICES = {"text-embedding-3-small": 0.02, "text-embedding-3-large": 0.13, "text-embedding-ada-002": 0.10}
"""USD per million tokens: list prices, which may have changed; the setting `price` overrides them."""

VARIANTS = {
    f"text-embedding-3-{size}-{dimensions}": (f"text-embedding-3-{size}", dimensions)
    for size, dimensions in [("small", 512), ("large", 256), ("large", 1024)]
}
"""Names that the llm tool has for models with shortened vectors -> (the model, dimensions)."""

MAX_INPUTS = 2_048
"""Texts a request, as the protocol allows."""

BATCH_INPUTS = 256
"""Texts a request by default: an answer of 2 MB at 1,536 dimensions; little to pay again if it is lost."""

REQUEST_TOKENS = 300_000
"""Tokens summed over a request, as the protocol allows."""

TEXT_TOKENS = 8_191
"""Tokens of one text that OpenAI's models read."""

BYTES_PER_TOKEN = 3
"""Cautious estimate: English has about four UTF-8 bytes a token, Chinese and Japanese about three."""

TIMEOUT_SECONDS = 60.0
"""Longest silence, and longest time for one try; the SDK's own 600 s would hang a build."""

MAX_RETRIES = 5
"""Tries after the first, on 408, 409, 429, 5xx and broken connections; the SDK honours Retry-After."""

DEADLINE_TIMEOUTS = 5
"""A request with all its tries and waits may take this many timeouts."""

ANSWER_BYTES = 1_000_000
"""Largest answer, apart from the vectors."""

ANSWER_BYTES_PER_TEXT = 250_000
"""And for each text: 8,192 dimensions, printed as JSON numbers of 25 bytes, with commas and blanks."""

PROBE = "hello"
"""A text that no server has a reason to refuse: tells a bad request from a bad text."""

SETTINGS = {
    "api_key": "{$env: NAME}",
    "base_url": "an address",
    "dimensions": "a whole number from 1",
    "max_tokens": "a whole number from 1",
    "batch_items": f"a whole number from 1 to {MAX_INPUTS}",
    "max_retries": "a whole number from 0 to 20",
    "timeout": "seconds, more than 0",
    "price": "USD per million tokens, 0 or more",
    "query_prompt": "a text",
    "document_prompt": "a text",
}
"""Setting -> what it must be. `max_tokens`: how much of a text the model reads; `timeout`: of one try."""

REFUSED = {400, 413, 422}
"""Statuses that mean: the request itself is at fault, which may be one text of it."""

ADVICE = {
    401: "the key is missing, wrong or withdrawn",
    402: "the account has nothing left to spend",
    403: "the key may not use this model",
    404: "there is no such model, or no such address: check the name and base_url",
    408: "it was too slow: try again later, or lower batch_items",
    429: "the rate limit or the quota is used up: try again later, or lower batch_items",
}


def load(rest: str, settings: Mapping[str, Any]) -> EmbeddingModel:
    """Return the model `openai/rest`, without asking the server anything or needing a key yet.

    Raises ConfigError for a setting that makes no sense.
    """
    return OpenAIModel(rest, settings)


def name_at_llm(rest: str, settings: Mapping[str, Any]) -> str | None:
    """Return the llm tool's name for the vectors of a model with these settings, None where it has none."""
    if settings.get("base_url", OPENAI_URL) != OPENAI_URL:
        return None
    model, variant = VARIANTS.get(rest, (rest, None))
    dimensions = settings.get("dimensions", variant)
    if dimensions is None or dimensions == DIMENSIONS.get(model):
        return model
    return next((name for name, cut in VARIANTS.items() if cut == (model, dimensions)), None)


class RefusedError(ProviderError):
    """The server refuses these texts, or one of them. *reason* says so of a single text."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class OpenAIModel(EmbeddingModel):
    """An embedding model behind OpenAI's protocol; *settings* are those of SETTINGS."""

    def __init__(self, rest: str, settings: Mapping[str, Any]) -> None:
        self.name = f"openai/{rest}"
        check_settings(self.name, settings, SETTINGS, CHECKS)
        self._model, variant = VARIANTS.get(rest, (rest, None))
        self.prompts = prompts_of(rest, settings)
        self._asked = settings.get("dimensions", variant)
        native = DIMENSIONS.get(self._model)
        if self._asked and native and self._asked > native:
            raise ConfigError(f"{self.name}: dimensions must be at most {native} here, and is {self._asked}")
        base_url = settings.get("base_url", OPENAI_URL)
        self._host = check_url(self.name, base_url)
        local, official = is_loopback(base_url), base_url == OPENAI_URL
        self.remote = not local
        self.in_process = False
        self.dimensions = self._asked or (native if official else None)
        self.llm_name = name_at_llm(rest, settings)
        self.max_tokens = settings.get("max_tokens", TEXT_TOKENS if native else None)
        cut = {"dimensions": self._asked, "max_tokens": settings.get("max_tokens")}
        self.revision = ",".join(f"{name}={value}" for name, value in cut.items() if value)
        self.batch_items = settings.get("batch_items", BATCH_INPUTS)
        self.batch_tokens = REQUEST_TOKENS
        listed = PRICES.get(self._model) if official else None
        self.usd_per_million_tokens = settings.get("price", 0.0 if local else listed)
        self._timeout = float(settings.get("timeout", TIMEOUT_SECONDS))
        self._answered = False
        self._settings = settings
        self._base_url = base_url

    @cached_property
    def _connection(self) -> tuple[OpenAI, threading.local]:
        """Made at the first text: a build with nothing to embed, or a baked site, needs neither key nor package."""
        key = find_key(self.name, self._settings.get("api_key"), self._base_url)
        retries = self._settings.get("max_retries", MAX_RETRIES)
        return make_client(key, self._base_url, self._timeout, retries, not self.remote)

    def prepare(self) -> None:
        """Raise MissingKey, or MissingExtra without the `openai` package, where texts could not be embedded now."""
        _ = self._connection

    def token_counts(self, items: Sequence[Item]) -> list[int]:
        """Return a cautious estimate for each text, from its UTF-8 bytes."""
        return [estimate(item) for item in before(self.prompts.document, items)]

    def embed_batch(self, items: Sequence[Item], purpose: Purpose, prompt: str = "") -> Embedded:
        """Return (n, d) float32 in the order of *items*; blank texts are not sent, refused ones are failures.

        A text longer than max_tokens by estimate is cut after max_tokens * BYTES_PER_TOKEN bytes of UTF-8.
        Raises ProviderError when the server fails, or when any part of an answer makes no sense.
        """
        if any(isinstance(item, bytes) for item in items):
            raise ProviderError(f"{self.name} embeds texts, not images: choose a model that has images")
        texts = before(prompt, items)
        counts = [estimate(text) for text in texts]
        failures = {at: "the text is empty" for at, item in enumerate(items) if not item.strip()}
        sent = [at for at in range(len(items)) if at not in failures]
        rows, refusals, tokens = self._embed_texts([self._cut(texts[at]) for at in sent])
        vectors = np.zeros((len(items), self.dimensions or 0), np.float32)
        for at, row in rows.items():
            vectors[sent[at]] = row
        failures |= {sent[at]: reason for at, reason in refusals.items()}
        limit = self.max_tokens
        truncated = {at: counts[at] for at in sent if limit and counts[at] > limit}
        return Embedded(vectors, failures, tokens, truncated)

    def _cut(self, item: Item) -> str:
        limit = self.max_tokens * BYTES_PER_TOKEN if self.max_tokens else None
        return encode(item)[:limit].decode("utf-8", "ignore")

    def _embed_texts(self, texts: list[str]) -> tuple[dict[int, NDArray[np.float32]], dict[int, str], int]:
        """Return (position -> vector, position -> why refused, tokens), halving what the server refuses.

        One bad text among n costs at most 2 * ceil(log2(n)) requests more.
        """
        rows: dict[int, NDArray[np.float32]] = {}
        refusals: dict[int, str] = {}
        tokens = 0
        pending = [(0, len(texts))] if texts else []
        while pending:
            start, stop = pending.pop()
            try:
                vectors, used = self._ask(texts[start:stop])
            except RefusedError as refusal:
                if stop - start > 1:
                    middle = (start + stop) // 2
                    pending += [(middle, stop), (start, middle)]
                    continue
                refusals[start] = refusal.reason
                if not self._answered and len(refusals) == min(2, len(texts)):
                    self._probe()
                continue
            rows.update(enumerate(vectors, start))
            tokens += used
        return rows, refusals, tokens

    def _probe(self) -> None:
        """Raise ProviderError when even the simplest text is refused: then no text is at fault."""
        try:
            self._ask([PROBE])
        except RefusedError as refusal:
            raise ProviderError(
                f"{self.name}: {refusal.reason}, and every other, even {PROBE!r}: check the model's name and "
                "its settings, above all `dimensions`. Nothing of this batch was kept"
            ) from None

    def _ask(self, texts: list[str]) -> tuple[NDArray[np.float32], int]:
        """Return ((n, d) float32, tokens) from one request; raises RefusedError and ProviderError."""
        answer = self._send(texts)
        try:
            vectors = place(answer, len(texts))
        except ValueError as error:
            self._give_up(f"its answer makes no sense, {error}; is this an OpenAI-compatible server?")
        self._check_dimensions(vectors.shape[1])
        self._answered = True
        tokens = usage(answer)
        return vectors, sum(map(estimate, texts)) if tokens is None else tokens

    def _check_dimensions(self, got: int) -> None:
        if self.dimensions is None:
            self.dimensions = got
        if got == self.dimensions:
            return
        if self._asked:
            self._give_up(
                f"it was asked for {self._asked} dimensions and gave {got}, so it ignores `dimensions`: "
                "remove that setting, or choose a model that can shorten its vectors"
            )
        self._give_up(f"it gave {got} dimensions where {self.dimensions} were expected: another model answers")

    def _send(self, texts: list[str]) -> object:
        """Return the parsed JSON of the answer to one request, tried again by the SDK, within a deadline."""
        client, calls = self._connection  # first: it says where the package is missing
        import openai

        seconds = DEADLINE_TIMEOUTS * self._timeout
        call = Call(time.monotonic() + seconds, ANSWER_BYTES + ANSWER_BYTES_PER_TEXT * len(texts))
        more = {"dimensions": self._asked} if self._asked else {}

        def create() -> None:
            calls.current = call
            embeddings = client.embeddings.with_raw_response
            embeddings.create(model=self._model, input=texts, encoding_format="base64", **more)

        try:
            within(seconds, create)
        except TimeoutError:
            self._give_up(f"no usable answer within {seconds:g} s, {tried(call.tries)}; the last: {call.trouble}")
        except openai.APIStatusError as error:
            self._report(error.status_code, error.response.headers.get("x-request-id", ""), call.tries)
        except openai.OpenAIError:
            self._give_up(f"{call.trouble}, {tried(call.tries)}")
        return call.answer

    def _report(self, status: int, request_id: str, tries: int) -> NoReturn:
        """Raise what *status* means, in our own words."""
        reason = f"HTTP {status}{self._shown(request_id)}"
        if status in REFUSED:
            refuses = f"{self._host} refuses"
            raise RefusedError(f"{self.name}: {refuses} the request ({reason})", f"{refuses} this text ({reason})")
        if 300 <= status < 400:
            advice = "it redirects elsewhere, where the key must not go: set base_url to the final address"
        elif status >= 500:
            advice = "the server is in trouble: try again later"
        else:
            advice = ADVICE.get(status, "see the server's documentation for this status")
        self._give_up(f"{reason}, {tried(tries)}: {advice}")

    def _shown(self, request_id: str) -> str:
        """Return the id for the provider's support, if it looks like one: a server can echo the key."""
        if self._connection[0].api_key in request_id or not re.fullmatch(r"(req_)?[0-9a-fA-F-]{8,64}", request_id):
            return ""
        return f", request id {request_id}"

    def _give_up(self, what: str) -> NoReturn:
        raise ProviderError(f"{self.name}: {self._host}: {what}. Nothing of this batch was kept") from None


def check_settings(
    name: str, settings: Mapping[str, Any], known: Mapping[str, str], rules: Mapping[str, Callable[[Any], bool]]
) -> None:
    """Raise ConfigError for a setting not *known* or one that breaks its rule, without showing what may be a key."""
    for key, value in settings.items():
        if key not in known:
            raise ConfigError(f"{name}: there is no setting {key}; {nearest(key, known)}")
        if not rules[key](value):
            found = "something else, not shown as it may be a key" if key == "api_key" else repr(value)
            raise ConfigError(f"{name}: {key} must be {known[key]}, and is {found}")


def is_whole(value: object, low: int, high: float) -> bool:
    """Tell whether *value* is an int in the closed range (True and False are none)."""
    return type(value) is int and low <= value <= high


def is_number(value: object) -> bool:
    """Tell whether *value* is a finite number from 0 on."""
    return type(value) in (int, float) and 0 <= value < float("inf")  # type: ignore[operator]


CHECKS = {
    "api_key": lambda value: isinstance(value, dict) and list(value) == ["$env"] and bool(str(value["$env"])),
    "base_url": lambda value: isinstance(value, str),
    "dimensions": lambda value: is_whole(value, 1, float("inf")),
    "max_tokens": lambda value: is_whole(value, 1, float("inf")),
    "batch_items": lambda value: is_whole(value, 1, MAX_INPUTS),
    "max_retries": lambda value: is_whole(value, 0, 20),
    "timeout": lambda value: is_number(value) and value > 0,
    "price": is_number,
    "query_prompt": lambda value: isinstance(value, str),
    "document_prompt": lambda value: isinstance(value, str),
}


def check_url(name: str, base_url: str) -> str:
    """Return the host (and port) of *base_url*; ConfigError unless it is https, or http to this machine."""
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in {"http", "https"}:
        raise ConfigError(f"{name}: base_url is no web address; expected https://HOST/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"{name}: base_url holds a user name, password, query or fragment; expected https://HOST/v1, "
            "and the key as api_key: {$env: NAME}"
        )
    if parts.scheme == "http" and not is_loopback(base_url):
        raise ConfigError(f"{name}: base_url must be https, as {host} is not this machine")
    return f"{host}:{port}" if port else host


def is_loopback(base_url: str) -> bool:
    """Tell whether the address is on this machine.

    >>> [is_loopback(url) for url in ("http://127.0.0.1:8000/v1", "http://[::1]/v1", "https://localhost.example/v1")]
    [True, True, False]
    """
    host = urlsplit(base_url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_key(name: str, reference: Mapping[str, str] | None, base_url: str) -> str:
    """Return the API key from the environment, "" where none is needed; raises MissingKey.

    OPENAI_API_KEY is OpenAI's: no other server gets it unless the configuration says so.
    """
    if reference is None and base_url != OPENAI_URL:
        if is_loopback(base_url):
            return ""
        host = urlsplit(base_url).hostname
        raise MissingKey(f"{name}: say which key {host} gets: api_key: {{$env: NAME}} in the model's settings")
    variable = str(reference["$env"]) if reference else OPENAI_KEY
    key = os.environ.get(variable, "").strip()
    if not key:
        raise MissingKey(f"{name} needs an API key: set the environment variable {variable}")
    if not (key.isascii() and key.isprintable()):
        raise MissingKey(f"{name}: the environment variable {variable} holds characters that no API key has")
    return key


def estimate(item: Item) -> int:
    """Return cautiously how many tokens a text has."""
    return max(1, -(-len(encode(item)) // BYTES_PER_TOKEN))


def encode(item: Item) -> bytes:
    """Return the UTF-8 bytes of a text; a lone surrogate becomes a question mark, as JSON cannot hold it."""
    return item.encode("utf-8", "replace") if isinstance(item, str) else item


def tried(tries: int) -> str:
    """Return how often it was tried.

    >>> tried(1), tried(6)
    ('after 1 try', 'after 6 tries')
    """
    return f"after {tries} {'try' if tries == 1 else 'tries'}"
