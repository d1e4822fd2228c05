"""Reading a picture that a visitor sends: no more bytes than a picture may have, in no longer than that may take.

A form comes as multipart/form-data (RFC 7578), of which as much is understood as browsers and curl send, and the rest is refused.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from datasette_embeddings.asking import Refused
from datasette_embeddings.limits import MAX_IMAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from datasette.utils.asgi import Request

UPLOADS_AT_ONCE = 4
"""Pictures that are being read or looked at at the same time: 80 MB at most, 40 more while a form is taken apart, and none waits long
for the one model."""

UPLOAD_SECONDS = 30.0
"""Longest time that a picture may take to arrive: what 20 MB take at 5 Mbit/s."""

FORM_BYTES = 100_000
"""What a form may hold beside its picture: the words, the filters, and the lines between them."""

FIELDS = 64
"""Most fields of a form."""

BOUNDARY = re.compile(
    r"""multipart/form-data\s*;.*\bboundary=(?:"([^"\r\n]{1,70})"|([^\s";,]{1,70}))\s*(?:;|\Z)""", re.I
)
NAME = re.compile(rb'[;\s]name="([^"\r\n]*)"', re.I)
FILE_NAME = re.compile(rb"[;\s]filename\*?=", re.I)

FINDER = re.compile(r"/-/embeddings/[^/]+/[^/]+/images(\.json)?")

PICTURE_FIELD = "picture"

_reading = 0


class Form(NamedTuple):
    """A picture, None where none was chosen, and the other fields."""

    picture: bytes | None
    fields: list[tuple[str, str]]


@contextmanager
def one_of_few() -> Iterator[None]:
    """Be one of UPLOADS_AT_ONCE; raises Refused where there are as many."""
    global _reading  # noqa: PLW0603
    if _reading >= UPLOADS_AT_ONCE:
        raise Refused("several pictures are being looked at just now; try again in a moment", 503, 5)
    _reading += 1
    try:
        yield
    finally:
        _reading -= 1


def is_finder(scope: Mapping[str, Any], base_url: str) -> bool:
    """Tell whether Datasette leads a request to where pictures are sent, which checks by itself that its own page sent them.

    No more than that: the whole address is looked at, as it came, so that none of another plugin's passes for it.
    """
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
    return FINDER.fullmatch(path.removeprefix(base_url.rstrip("/"))) is not None


def brings_picture(request: Request) -> bool:
    """Tell whether the body of a request is a picture, or a form that holds one."""
    kind = str(request.headers.get("content-type", "")).partition(";")[0].strip().lower()
    return kind in {"multipart/form-data", "application/octet-stream"} or kind.startswith("image/")


async def read_form(request: Request) -> Form:
    """Return the picture that a request brings; raises Refused for one that is too large or takes too long, and what is no form."""
    kind = request.headers.get("content-type", "")
    multipart = kind.strip().lower().startswith("multipart/form-data")
    body = await _in_time(request, "picture", MAX_IMAGE_BYTES, FORM_BYTES * multipart)
    return parsed(kind, body) if multipart else Form(body or None, [])


async def short(request: Request) -> Request:
    """Return a request that brings no picture, its body read; raises Refused as `read_form` does. 0.65 would read a body of any size."""
    from datasette.utils.asgi import Request

    body = await _in_time(request, "form without a picture", FORM_BYTES)

    async def replay() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    return Request(request.scope, replay)


async def _in_time(request: Request, what: str, most: int, beside: int = 0) -> bytes:
    try:
        return await asyncio.wait_for(_body(request, what, most, beside), UPLOAD_SECONDS)
    except asyncio.TimeoutError as error:
        raise Refused(f"the {what} did not arrive within {UPLOAD_SECONDS:.0f} s; send a smaller one", 408) from error


async def _body(request: Request, what: str, most: int, beside: int) -> bytes:
    """Return the body of a request; raises Refused as soon as it is known to be longer than *most* and what may stand *beside*."""
    too_large = Refused(f"a {what} has {most:,} bytes at most, and this is larger; send a smaller one", 413)
    most += beside
    told = request.headers.get("content-length", "")
    if told.isascii() and told.isdigit() and int(told[:20]) > most:
        raise too_large
    parts, size = [], 0
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise Refused(f"the {what} did not arrive whole; send it again")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise too_large
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def parsed(kind: str, body: bytes) -> Form:
    """Return what a form of multipart/form-data holds; raises Refused for one that is damaged, too long, or has two pictures."""
    found = BOUNDARY.match(kind)
    if found is None:
        raise Refused("a form of several parts names their boundary in its content type; found none")
    line = b"\r\n--" + (found[1] or found[2]).encode("latin-1", "replace")
    before, *parts = (b"\r\n" + body).split(line, FIELDS + 2)
    if before or not parts or parts.pop().rstrip(b"\r\n") != b"--":
        raise Refused(f"the form is cut off, or has more than {FIELDS} fields; send it again")
    picture, fields, size = None, [], 0
    for part in parts:
        head, blank, content = part.partition(b"\r\n\r\n")
        name = NAME.search(head)
        if not head.startswith(b"\r\n") or not blank or name is None:
            raise Refused("a part of the form has no name; send it again")
        is_file = FILE_NAME.search(head) is not None
        size += len(head) + (0 if is_file else len(content))
        if size > FORM_BYTES:
            raise Refused(f"the fields of the form have more than {FORM_BYTES:,} bytes", 413)
        if not is_file:
            fields.append((_text(name[1]), _text(content)))
        elif _text(name[1]) != PICTURE_FIELD:
            raise Refused(f"the picture is in the field {PICTURE_FIELD!r}; found a file in {_text(name[1])[:40]!r}")
        elif content:
            if picture is not None:
                raise Refused("one picture at a time; found two")
            picture = content
    return Form(picture, fields)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
