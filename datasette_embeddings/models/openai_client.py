"""The `openai` package's client, bounded: in seconds and bytes, to one host, with the key kept out of logs.

The SDK sends, waits and tries again. What it leaves open is closed here: its timeouts bound one read each, so
that a server which drips holds a build for ever; it reads answers of any size; it follows redirects. What is
made of the bytes of an answer is up to the Call, within the try: a subclass can hand them on as they come.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from concurrent import futures
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from datasette_embeddings.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType
    from typing import Any, Protocol

    from openai import OpenAI

    class Answer(Protocol):
        """The part of a response of httpx or httpx2 that is read here."""

        headers: Mapping[str, str]

        def iter_raw(self) -> Iterator[bytes]:
            """Yield the body as it comes, not decompressed."""


ACTED_UPON = ("content-type", "retry-after", "retry-after-ms", "x-should-retry", "x-request-id")
"""Headers of an answer that the SDK or we act upon; others may hold anything, and are dropped."""

LOGGERS = ("httpx", "httpx2", "httpcore.http11", "httpcore2.http11", "openai._base_client")
"""Where the libraries below print a server's headers when all is logged."""


@dataclass
class Call:
    """One request with all its tries: its bounds (clock, bytes), and what the last try came to."""

    until: float
    most_bytes: int
    tries: int = 0
    trouble: str = "no try was made"
    answer: object = None
    begun: bool = False
    """Part of an answer was handed on: another try would repeat it, so what fails now is only noted as *trouble*."""

    def try_ends(self, timeout: float) -> float:
        """Return when the try that begins now must be over; *timeout*, seconds, is the client's."""
        return min(time.monotonic() + timeout, self.until)

    def sends(self, request: Any) -> None:  # noqa: ANN401 - of httpx or httpx2
        """Called before each try."""

    def receive(self, body: Iterator[bytes]) -> None:
        """Make `answer` of the body of a success, or raise UnusableError."""
        self.answer = parse(b"".join(body))


class UnusableError(Exception):
    """An answer that cannot be used and may be better next time; the text is ours."""


class KeyFilter(logging.Filter):
    """Replaces the keys in log records: a server can echo one in any header."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record, without keys."""
        message = record.getMessage()
        for key in self.keys:
            if key in message:
                message = message.replace(key, "[key]")
                record.msg, record.args = message, ()
        return True


_keys = KeyFilter()


def make_client(
    key: str, base_url: str, timeout: float, retries: int, loopback: bool
) -> tuple[OpenAI, threading.local]:
    """Return an OpenAI client, and where to put the Call (as `current`) that bounds what this thread asks.

    *timeout*, seconds, bounds one try. Raises MissingExtra without the `openai` package.
    """
    try:
        import openai
    except ImportError:
        raise MissingExtra("a model of OpenAI or of a compatible server", "openai") from None
    calls = threading.local()
    if key:
        _keys.keys.add(key)
        for name in LOGGERS:
            logging.getLogger(name).addFilter(_keys)
    # A proxy of the environment is for the network, not for this machine.
    http_client = bounded_client(timeout, calls)(follow_redirects=False, timeout=timeout, trust_env=not loopback)
    client = openai.OpenAI(
        api_key=key or "none",
        base_url=base_url,
        timeout=timeout,
        max_retries=retries,
        http_client=http_client,
        default_headers={"Accept-Encoding": "identity"},  # a compressed kilobyte can unpack to a megabyte
    )
    return client, calls


def bounded_client(timeout: float, calls: threading.local) -> Callable[..., Any]:
    """Return a subclass of the SDK's HTTP client of which each try keeps the bounds of `calls.current`."""
    import openai

    # The SDK sits on httpx or on httpx2, and tries again only after errors of that library.
    http = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]

    class BoundedClient(openai.DefaultHttpxClient):  # type: ignore[misc]
        def send(self, request: object, *, stream: bool = False, **options: object) -> object:
            """Send *request* once, let the Call receive a success in full whatever *stream* says, return the rest."""
            call: Call = calls.current
            until = call.try_ends(timeout)
            if time.monotonic() >= call.until:
                raise TimeoutError
            call.tries += 1
            call.sends(request)
            content = b""
            try:
                answer = super().send(request, stream=True, **options)
                try:
                    body = read(answer, until, call.most_bytes)
                    if answer.is_success:
                        call.receive(body)
                    else:
                        content = b"".join(body)
                finally:
                    answer.close()
                call.trouble = f"HTTP {answer.status_code}"
            except UnusableError as error:
                call.trouble = str(error)
                if not call.begun:
                    raise http.RemoteProtocolError(call.trouble) from None
            except http.RequestError as error:
                call.trouble = explain(error, http, timeout)
                if not call.begun:
                    raise
            headers = {name: answer.headers[name] for name in ACTED_UPON if name in answer.headers}
            return http.Response(answer.status_code, headers=headers, content=content, request=request)

    return BoundedClient


def read(answer: Answer, until: float, most_bytes: int) -> Iterator[bytes]:
    """Yield the body as it comes; raises UnusableError when it is compressed, comes too slowly or is too long."""
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise UnusableError("its answer is compressed, which was not asked for")
    length = 0
    for piece in answer.iter_raw():
        length += len(piece)
        if length > most_bytes:
            raise UnusableError(f"its answer is longer than {most_bytes:,} bytes")
        if time.monotonic() > until:
            raise UnusableError("its answer comes too slowly")
        yield piece


def parse(body: bytes) -> object:
    """Return the JSON of *body*; half an answer or the page of a gateway raises UnusableError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UnusableError("its answer is not JSON") from None


def explain(error: Exception, http: ModuleType, timeout: float) -> str:
    """Return what happened, in our own words: those of the library may quote the server."""
    if isinstance(error, (http.ConnectError, http.ConnectTimeout)):
        return "it cannot be reached (no such host, nobody listens there, or its certificate is not trusted)"
    if isinstance(error, http.TimeoutException):
        return f"it was silent for {timeout:g} s"
    return f"it broke off the connection ({type(error).__name__})"


def within(seconds: float, call: Callable[[], None]) -> None:
    """Run *call* on a thread of its own; raises what it raises, and TimeoutError when it takes longer.

    No other bound covers the look-up of a name, or headers that come byte by byte. What is given up ends with
    its current try: a BoundedClient starts no further one.
    """
    done: futures.Future[None] = futures.Future()

    def run() -> None:
        try:
            call()
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True, name="embeddings-request").start()
    try:
        done.result(timeout=seconds)
    except futures.TimeoutError:  # its own class before Python 3.11
        raise TimeoutError from None
