"""How every page answers: as HTML or JSON, with the headers that keep what is private out of caches, and errors in words."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from datasette_embeddings import compat
from datasette_embeddings.asking import Refused
from datasette_embeddings.errors import EmbeddingsError, for_visitors
from datasette_embeddings.places import find_place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from datasette.app import Datasette
    from datasette.utils.asgi import Request, Response

    from datasette_embeddings.places import Place

PRIVATE = {"Cache-Control": "private, no-store"}
NOT_INDEXED = {"X-Robots-Tag": "noindex"}


def explains(page: Callable[..., Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """Let a page answer errors of ours, and queries that take too long, with a sentence."""

    @functools.wraps(page)
    async def explaining(datasette: Datasette, request: Request) -> Response:
        import sqlite3

        try:
            return await page(datasette, request)
        except Refused as refused:
            response = await compat.error_response(datasette, request.scope, refused.sentence, refused.status)
            response.headers.update(refused.headers)
        except EmbeddingsError as error:
            response = await compat.error_response(datasette, request.scope, for_visitors(error), 400)
        except sqlite3.OperationalError as error:
            interrupted = str(error) == "interrupted"
            sentence = "this took longer than a query may take here; ask for fewer rows" if interrupted else str(error)
            response = await compat.error_response(datasette, request.scope, for_visitors(sentence), 400)
        response.headers.update(NOT_INDEXED)
        return response

    return explaining


async def require_instance(datasette: Datasette, request: Request) -> None:
    """Raise Datasette's Forbidden where the actor may view nothing of the site."""
    from datasette.utils.asgi import Forbidden

    if not await compat.may_view_instance(datasette, request.actor):
        raise Forbidden("You do not have permission to view this site")


def is_json(request: Request) -> bool:
    """Tell whether the twin of a page is asked for."""
    return bool(request.url_vars.get("format"))


async def place_of(datasette: Datasette, request: Request) -> Place:
    """Return the collection that a request's address names, where the actor may see it."""
    from datasette.utils import tilde_decode

    names = [tilde_decode(request.url_vars[name]) for name in ("database", "collection")]
    return await find_place(datasette, request.actor, *names)


def require_own_page(request: Request) -> None:
    """Raise Datasette's Forbidden where another site's page sent a request: 0.65 checks visitors with cookies only.

    Browsers say where a request comes from, older ones by its origin alone; what says neither is no browser.
    """
    from datasette.utils.asgi import Forbidden

    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    own = urlsplit(origin or "").netloc == request.headers.get("host", "") if origin else True
    if site not in {"same-origin", "none"} if site else not own:
        raise Forbidden("What costs this site time or money is asked for from its own pages")


async def posted_fields(request: Request) -> list[tuple[str, str]]:
    """Return the names and values of a form, or of a JSON object, that a page of this site sent; raises EmbeddingsError for what is neither.

    Raises Datasette's Forbidden where another site's page sent it.
    """
    import orjson

    require_own_page(request)
    body = await request.post_body()
    if not request.headers.get("content-type", "").startswith("application/json"):
        return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, (str, int, float)) for value in found.values()):
        raise EmbeddingsError(
            'the body is a JSON object of texts and numbers such as {"q": "..."}; found something else'
        )
    return [(name, str(value)) for name, value in found.items()]


def json_answer(datasette: Datasette, body: dict[str, Any], headers: dict[str, str]) -> Response:
    """Return JSON that is the same on both lines of Datasette, open to other sites where the site is (`--cors`)."""
    import orjson
    from datasette.utils import add_cors_headers
    from datasette.utils.asgi import Response

    if datasette.cors:
        add_cors_headers(headers)
    text = orjson.dumps({"ok": True, **body}, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return Response(text, headers=headers, content_type="application/json; charset=utf-8")


async def html_answer(
    datasette: Datasette, request: Request, template: str, context: dict[str, Any], headers: dict[str, str]
) -> Response:
    """Return a page."""
    from datasette.utils.asgi import Response

    twin = datasette.urls.path(request.path.removeprefix(datasette.setting("base_url").rstrip("/")) + ".json")
    query = f"?{request.query_string}" if request.query_string else ""
    shared = {"json_url": f"{twin}{query}", "root_url": datasette.urls.path("/-/embeddings")}
    html = await datasette.render_template(f"embeddings/{template}", {**shared, **context}, request=request)
    html = html.replace("<html>", '<html lang="en">', 1)  # 0.65 does not say which language its pages are in
    return Response.html(html, headers=headers)


async def headers_of(place: Place) -> dict[str, str]:
    """Return the headers of pages about a collection."""
    return {} if await place.is_public() else dict(PRIVATE)
