"""What belongs to one request: which page it is, and what was found out for it already, which the next request finds out anew."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass
class Scope:
    """One request. *searches*: whether it does. *answers*: permissions that were asked for. *states*: of database files, by path."""

    path: str = ""
    searches: bool = False
    answers: dict[tuple[str, ...], bool] = field(default_factory=dict)
    states: dict[str | None, tuple[object, ...]] = field(default_factory=dict)


SEARCHES = re.compile(r"/-/embeddings/[^/]+/(?!.*\.webp\Z)|/(search|hybrid|images)_\w+(\.[a-z]+)?\Z")
ASKS_FOR_SEARCHES = re.compile(rb"embed_(search|hybrid|context)|(^|&)_meaning=")
"""Addresses, and what follows the question mark, of what reads for as long as a search takes: our pages and queries, SQL, tables."""

_current: ContextVar[Scope | None] = ContextVar("embeddings_scope", default=None)


def current() -> Scope:
    """Return the scope of the request that is being answered; outside of one a new scope, so that nothing is kept."""
    return _current.get() or Scope()


def wrap(app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Return an ASGI application each of whose requests has a scope."""

    async def scoped(scope: dict[str, Any], receive: object, send: object) -> None:
        path, query = scope.get("path", ""), scope.get("query_string", b"")
        token = _current.set(Scope(path, bool(SEARCHES.search(path) or ASKS_FOR_SEARCHES.search(query))))
        try:
            await app(scope, receive, send)
        finally:
            _current.reset(token)

    return scoped
