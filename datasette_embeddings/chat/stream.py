"""The text in what a chat server sends: an event stream, or one JSON body where a server does not stream.

Event streams are read by the rules of the HTML standard ("Interpreting an event stream"), and what stands in them by
OpenAI's chat protocol. Whatever else is in a message (roles, reasoning, calls of tools, usage) is left out.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from datasette_embeddings.models.openai_client import UnusableError, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DONE = {"choices": [{"finish_reason": "stop"}]}
"""What the event `[DONE]` says."""


def messages(body: Iterable[bytes]) -> Iterator[object]:
    """Yield the JSON of every event of *body*, or of the whole; raises UnusableError for what is neither."""
    lines = split_lines(body)
    first = next((line for line in lines if line.strip()), b"")
    if first.lstrip().startswith(b"{"):  # no event begins so, and the type that servers declare is not always true
        yield parse(first + b"".join(lines))
        return
    if first.lstrip().startswith(b"<"):
        raise UnusableError("its answer is a web page")
    data: list[bytes] = []
    for line in chain([first], lines, [b""]):  # the blank line after the last event may be missing
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif not line and data:
            event = b"\n".join(data)
            data.clear()
            yield DONE if event.startswith(b"[DONE]") else parse(event)


def split_lines(body: Iterable[bytes]) -> Iterator[bytes]:
    r"""Yield the lines, without their ends, of a body that comes in pieces of any size.

    >>> list(split_lines([b"a\r", b"\nb\n\nc\r", b"d"]))
    [b'a', b'b', b'', b'c', b'd']
    """
    rest = b""
    for piece in body:
        lines = (rest + piece).splitlines(keepends=True)
        # An end of line may be half of CR LF; a letter may be half of its UTF-8.
        rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        for line in lines:
            yield line.rstrip(b"\r\n")
    yield from rest.splitlines()


def read_choice(message: object) -> tuple[str, str]:
    """Return (text, why the model stopped: "" while it goes on) of one message; UnusableError for an error in it.

    >>> read_choice({"choices": [{"delta": {"content": "Bread"}, "finish_reason": None}]})
    ('Bread', '')
    """
    if not isinstance(message, dict):
        return "", ""
    if message.get("error"):
        raise UnusableError("it reported an error")
    choice = first_choice(message.get("choices"))
    said = choice.get("delta") or choice.get("message")
    finish = choice.get("finish_reason")
    return read_text(said.get("content") if isinstance(said, dict) else None), finish if isinstance(finish, str) else ""


def first_choice(choices: object) -> dict[str, Any]:
    """Return the one choice that was asked for, {} where a message has none, as those of usage."""
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) else {}


def read_text(content: object) -> str:
    """Return the text of a content, which some servers send as a list of parts.

    >>> read_text("a"), read_text([{"type": "thinking"}, {"type": "text", "text": "b"}]), read_text(None)
    ('a', 'b', '')
    """
    if isinstance(content, list):
        parts = (part["text"] for part in content if isinstance(part, dict) and part.get("type") == "text")
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
