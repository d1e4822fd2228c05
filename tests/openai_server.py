"""A real HTTP server on this machine that speaks OpenAI's embeddings protocol and fails on request.

    with OpenAIServer() as server:
        model = get_model("openai/any", {"openai/any": {"base_url": server.url}})
        server.script(status(429, {"retry-after-ms": "1"}), None, reset)   # three calls; then all goes well
        ...
        assert server.calls == 4 and server.texts == [...]

Vectors depend on the text alone: the normalised sum of one random direction for each word, so texts that
share words are near each other. A *fault* answers a request in some wrong way; many are below.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import sys
import threading
from dataclasses import dataclass
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Fault = Callable[["Handler", "Request", dict[str, Any]], None]
    """Answers a request itself; given the handler, the request, and the answer that would have been right."""


@lru_cache(maxsize=10_000)
def word_direction(word: str, dimensions: int, revision: str) -> np.ndarray:
    """Return (dimensions,) float64, the same for the same word in every process."""
    seed = int.from_bytes(hashlib.md5((revision + word).encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dimensions)


def vector(text: str, dimensions: int, revision: str = "") -> np.ndarray:
    """Return the unit vector (dimensions,) float32 that the server gives for *text*."""
    words = re.findall(r"\w+", text.lower()) or [text]
    total = np.sum([word_direction(word, dimensions, revision) for word in words], axis=0)
    return (total / np.linalg.norm(total)).astype(np.float32)


def count_tokens(text: str) -> int:
    """Return what the server bills for *text*: its words."""
    return max(1, len(text.split()))


@dataclass
class Request:
    """One call as it arrived; *texts* is [] where the body is no embeddings request."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def texts(self) -> list[str]:
        given = self.body.get("input", [])
        return [given] if isinstance(given, str) else list(given)


class OpenAIServer:
    """The server; use it as a context manager.

    dimensions: of every vector, unless the request asks for fewer.
    key: required as bearer token when given.
    ignores: request fields that this server ignores, as some do: "dimensions", "encoding_format".
    refuse: tells whether a text makes the whole request a 400.
    revision: change it, and every text gets another vector from then on, as when a provider swaps its model.

    url: the base_url. requests: every call in order. calls: their number, the failed ones too.
    texts: the texts that were answered with vectors, in order: what would have been paid for.
    """

    def __init__(
        self,
        dimensions: int = 64,
        key: str | None = None,
        ignores: frozenset[str] | set[str] = frozenset(),
        refuse: Callable[[str], bool] = lambda text: False,
    ) -> None:
        self.dimensions = dimensions
        self.key = key
        self.ignores = ignores
        self.refuse = refuse
        self.revision = ""
        self.requests: list[Request] = []
        self.texts: list[str] = []
        self.stopped = threading.Event()
        self._script: list[Fault | None] = []
        self._always: Fault | None = None
        self._lock = threading.Lock()
        self._http = QuietServer(("127.0.0.1", 0), Handler)
        self._http.suite = self

    def __enter__(self) -> OpenAIServer:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def calls(self) -> int:
        return len(self.requests)

    def script(self, *faults: Fault | None) -> None:
        """Let the next calls meet these faults, in order; None is a call that goes well."""
        self._script = list(faults)

    def always(self, fault: Fault | None) -> None:
        """Let every call meet this fault once the script is through; None ends it."""
        self._always = fault

    def arrive(self, request: Request) -> Fault | None:
        """Record a call and return what shall happen to it."""
        with self._lock:
            self.requests.append(request)
            return self._script.pop(0) if self._script else self._always

    def answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        """Return the status and JSON that a faultless server would give."""
        given = request.headers.get("authorization")
        if self.key is not None and given != f"Bearer {self.key}":
            return 401, error(f"Incorrect API key provided: {given}", "invalid_api_key")
        if request.path != "/v1/embeddings":
            return 404, error(f"Unknown path {request.path}")
        texts = request.texts
        if not texts or not all(isinstance(text, str) and text for text in texts) or len(texts) > 2048:
            return 400, error("input must be 1 to 2048 strings, none of them empty")
        refused = [text for text in texts if self.refuse(text)]
        if refused:
            return 400, error(f"This text cannot be embedded: {refused[0]}")
        asked = None if "dimensions" in self.ignores else request.body.get("dimensions")
        if asked is not None and asked > self.dimensions:
            return 400, error(f"dimensions must be at most {self.dimensions}")
        printed = "encoding_format" in self.ignores or request.body.get("encoding_format") != "base64"
        vectors = [vector(text, asked or self.dimensions, self.revision) for text in texts]
        tokens = sum(map(count_tokens, texts))
        data = [
            {"object": "embedding", "index": index, "embedding": row.tolist() if printed else pack(row)}
            for index, row in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return 200, {"object": "list", "data": data, "model": request.body.get("model"), "usage": usage}

    def paid(self, texts: list[str]) -> None:
        """Record texts that were answered."""
        with self._lock:
            self.texts += texts


class QuietServer(ThreadingHTTPServer):
    """Prints nothing where the other side hung up, as these tests make it do."""

    daemon_threads = True

    def handle_error(self, request: object, address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.loads(raw) if raw else {}
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        suite: OpenAIServer = self.server.suite
        fault = suite.arrive(request)
        code, answer = suite.answer(request)
        if fault:
            fault(self, request, answer)
            return
        if code == 200:
            suite.paid(request.texts)
        self.give(code, json.dumps(answer).encode())

    def do_GET(self) -> None:
        self.give(404, json.dumps(error("Only POST /v1/embeddings is here")).encode())

    def give(self, code: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None) -> None:
        """Send an answer; *length* is the Content-Length to claim."""
        self.send_response(code)
        sent = {"content-type": "application/json", "x-request-id": "req_0123456789abcdef", **(headers or {})}
        for name, value in sent.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


def error(message: str, code: str | None = None) -> dict[str, Any]:
    """Return an error as OpenAI words them."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def pack(row: np.ndarray) -> str:
    """Return a vector in base64, as OpenAI sends it."""
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


def status(code: int, headers: dict[str, str] | None = None, message: str = "scripted") -> Fault:
    """A fault: this status. Give {"retry-after-ms": "1"} so that a retry does not wait."""
    return lambda handler, request, answer: handler.give(code, json.dumps(error(message)).encode(), headers)


def edited(edit: Callable[[dict[str, Any]], object]) -> Fault:
    """A fault: the right answer after *edit* changed it in place."""

    def fault(handler: Handler, request: Request, answer: dict[str, Any]) -> None:
        edit(answer)
        handler.give(200, json.dumps(answer).encode())

    return fault


def raw(body: bytes, headers: dict[str, str] | None = None) -> Fault:
    """A fault: status 200 with this body."""
    return lambda handler, request, answer: handler.give(200, body, headers)


def reset(handler: Handler, request: Request, answer: dict[str, Any]) -> None:
    """A fault: the connection is reset without an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.rfile.close()  # the last to hold the socket but for the connection itself
    handler.connection.close()


def half(handler: Handler, request: Request, answer: dict[str, Any]) -> None:
    """A fault: half of the body that was announced, then the end of the connection."""
    body = json.dumps(answer).encode()
    handler.close_connection = True
    handler.give(200, body[: len(body) // 2], {"connection": "close"}, length=len(body))


def silence(handler: Handler, request: Request, answer: dict[str, Any]) -> None:
    """A fault: no answer at all, until the server stops."""
    handler.server.suite.stopped.wait(30)
    handler.close_connection = True


def drip(handler: Handler, request: Request, answer: dict[str, Any]) -> None:
    """A fault: the right answer, one byte every 50 ms."""
    handler.close_connection = True
    body = json.dumps(answer).encode()
    handler.give(200, b"", {"connection": "close"}, length=len(body))
    trickle(handler, body)


def drip_headers(handler: Handler, request: Request, answer: dict[str, Any]) -> None:
    """A fault: headers that never end, one byte every 50 ms."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nx-filler: ")
    trickle(handler, b"x" * 10_000)


def trickle(handler: Handler, data: bytes) -> None:
    """Send *data* slowly until the other side hangs up or the server stops."""
    for byte in data:
        if handler.server.suite.stopped.wait(0.05):
            return
        try:
            handler.wfile.write(bytes([byte]))
        except OSError:
            return
