"""A real HTTP server on this machine that speaks OpenAI's chat protocol, streams, and fails on request.

    with ChatServer("Bread is baked [1].") as server:
        chat = get_chat("openai/any", {"openai/any": {"base_url": server.url}})
        "".join(chat.answer("system", "user", 100))
        server.script(status(503, {"retry-after-ms": "1"}), None)     # of openai_server: before an answer
        server.script(stream(delta("Bread "), then=reset))            # within one

What it answers is *reply*: a text, or a function from the request's body to one; it comes word by word.
"""

from __future__ import annotations

import json
import re
import select
import threading
from typing import TYPE_CHECKING, Any

from openai_server import OpenAIServer, error, reset, trickle

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai_server import Fault, Handler, Request

    Part = bytes | str | dict[str, Any]
    """What is sent of a stream at once: bytes as they are, the data of an event as text, or as JSON."""

__all__ = ["ChatServer", "chunk", "delta", "drip_stream", "end", "hold", "reset", "stream"]


class ChatServer(OpenAIServer):
    """The server; use it as a context manager.

    streams: whether it honours `stream`, or answers with one JSON body all the same.
    hung_up: set once the other side closed a connection while something was sent, or while `hold` kept it open.
    """

    def __init__(
        self,
        reply: str | Callable[[dict[str, Any]], str] = "Bread is baked from flour [1].",
        key: str | None = None,
        streams: bool = True,
    ) -> None:
        super().__init__(key=key)
        self.reply = reply
        self.streams = streams
        self.hung_up = threading.Event()

    @property
    def prompts(self) -> list[tuple[str, str]]:
        """What was asked, in order: (system, user)."""
        sent = [{message["role"]: message["content"] for message in call.body["messages"]} for call in self.requests]
        return [(messages["system"], messages["user"]) for messages in sent]

    def arrive(self, request: Request) -> Fault | None:
        """Record a call and return what shall happen to it: a fault of the script, or an answer that streams."""
        fault = super().arrive(request)
        good = self.answer(request)[0] == 200
        if fault is None and good and self.streams and request.body.get("stream"):
            words = re.findall(r"\s*\S+\s*$|\s*\S+", self.say(request))
            return stream(delta("", role="assistant"), *map(delta, words), *end())
        return fault

    def answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        """Return the status and JSON of an answer that does not stream."""
        given = request.headers.get("authorization")
        if self.key is not None and given != f"Bearer {self.key}":
            return 401, error(f"Incorrect API key provided: {given}", "invalid_api_key")
        if request.path != "/v1/chat/completions":
            return 404, error(f"Unknown path {request.path}")
        return 200, self.completion(self.say(request))

    @staticmethod
    def completion(text: str) -> dict[str, Any]:
        """Return the JSON of a whole answer."""
        message = {"role": "assistant", "content": text}
        return {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }

    def say(self, request: Request) -> str:
        return self.reply(request.body) if callable(self.reply) else self.reply


def chunk(part: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """Return the JSON of one event of a stream."""
    choice = {"index": 0, "delta": part, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}


def delta(text: str | None, **more: object) -> dict[str, Any]:
    """Return an event that adds *text* to the answer; *more*: other fields of the delta."""
    return chunk({"content": text, **more})


def end(finish: str = "stop") -> list[Part]:
    """Return the events that end a stream: the reason, the usage, and [DONE]."""
    return [chunk({}, finish), {"choices": [], "usage": {"total_tokens": 2}}, "[DONE]"]


def event(part: Part) -> bytes:
    if isinstance(part, bytes):
        return part
    return f"data: {part if isinstance(part, str) else json.dumps(part)}\n\n".encode()


def stream(*parts: Part, then: Fault | None = None, content_type: str = "text/event-stream") -> Fault:
    """An answer that streams these parts, each in a segment of its own, and *then* fails where told to, or ends."""

    def fault(handler: Handler, request: Request, answer: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("content-type", content_type)
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        try:
            for part in parts:
                data = event(part)
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            if then is None:
                handler.wfile.write(b"0\r\n\r\n")
            else:
                then(handler, request, answer)
        except OSError:  # the other side has read enough
            handler.close_connection = True
            handler.server.suite.hung_up.set()

    return fault


def close(handler: Handler, request: Request, answer: dict[str, Any]) -> None:
    """A fault: the connection is closed in good order, in the middle of a body."""
    handler.close_connection = True


def hold(handler: Handler, request: Request, answer: dict[str, Any]) -> None:
    """A fault: silence, until the other side hangs up (then `hung_up` is set) or the server stops."""
    handler.close_connection = True
    suite = handler.server.suite
    while not suite.stopped.is_set():
        if select.select([handler.connection], [], [], 0.02)[0]:
            suite.hung_up.set()
            return


def drip_stream(handler: Handler, request: Request, answer: dict[str, Any]) -> None:
    """A fault: the size of a chunk, a digit every 50 ms, so that no byte of the body ever comes."""
    handler.close_connection = True
    trickle(handler, b"0" * 10_000)


def drip_comments(handler: Handler, request: Request, answer: dict[str, Any]) -> None:
    """A fault: the comments that keep a connection alive, for ever."""
    handler.close_connection = True
    trickle(handler, b"3\r\n:\n\n\r\n" * 10_000)
