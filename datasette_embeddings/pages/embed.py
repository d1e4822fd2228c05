"""/-/embeddings/embed.json?model=&text=: one vector, for a program elsewhere, under the rules that SQL is under."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasette_embeddings import asking, compat, site, vectors
from datasette_embeddings.pages.answering import NOT_INDEXED, PRIVATE, explains, json_answer, require_instance

if TYPE_CHECKING:
    from datasette.app import Datasette
    from datasette.utils.asgi import Request, Response


@explains
async def embed_json(datasette: Datasette, request: Request) -> Response:
    """Give the vector of a text; to whom could have it by SQL, so to who may run SQL on a database here."""
    from datasette.utils.asgi import Forbidden

    await require_instance(datasette, request)
    databases = compat.served_databases(datasette)
    if not any([await compat.may_execute_sql(datasette, request.actor, name) for name in databases]):
        raise Forbidden("Who may run no SQL here may embed no texts either")
    embedder = site.embedder_of(datasette)
    model = request.args.get("model") or embedder.default_model
    vector = await asking.text_vector(embedder, model, request.args.get("text") or "")
    embedding = vectors.decode(vector) if vector else None
    dimensions = None if embedding is None else embedding.size
    body = {"model": model, "dimensions": dimensions, "embedding": embedding}
    return json_answer(datasette, body, {**PRIVATE, **NOT_INDEXED})
