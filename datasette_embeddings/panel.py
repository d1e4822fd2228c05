"""What is related to a row, where people already are: on the row's own page, and in a site's own templates."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasette_embeddings import asking, finding
from datasette_embeddings.database import item_id, quote, table_key
from datasette_embeddings.errors import EmbeddingsError, for_visitors
from datasette_embeddings.freshness import RowState, row_state
from datasette_embeddings.places import find_place, places_of_table

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Sequence

    from datasette.app import Datasette
    from datasette.utils.asgi import Request
    from markupsafe import Markup

    from datasette_embeddings.places import Place
    from datasette_embeddings.results import Result

PANEL_ITEMS = 5
"""Related rows on a row's page: a glance, the item's own page has more."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Panel:
    """What is related to a row in one collection, or why nothing is."""

    place: Place
    id: str
    results: list[Result]
    state: RowState


async def panels_of_row(datasette: Datasette, request: Request, database: str, table: str) -> list[Panel]:
    """Return a panel for each collection made from the table of a row page, where the actor may see it."""
    from datasette.utils import urlsafe_components

    places = await places_of_table(datasette, request.actor, database, table)
    if not places:
        return []
    values = urlsafe_components(request.url_vars["pks"])
    return await places[0].run(lambda conn: [p for place in places if (p := _panel(conn, place, table, values))])


def _panel(conn: sqlite3.Connection, place: Place, table: str, values: Sequence[str]) -> Panel | None:
    tables, collection = finding.current(conn, place)
    item = _item_of_row(conn, table, collection.key, values)
    if item is None:
        return None
    state = row_state(conn, tables, collection, item)
    results = finding.related_now(conn, place, item, PANEL_ITEMS).results
    return Panel(place, item, results, state) if results or state.note else None


def _item_of_row(conn: sqlite3.Connection, table: str, key: tuple[str, ...], values: Sequence[str]) -> str | None:
    """Return the item id of the row that a page's address names by its primary key."""
    columns = table_key(conn, table).columns
    if columns == key:
        return item_id(tuple(values))
    if len(columns) != len(values):
        return None
    chosen = ", ".join(quote(column) for column in key)
    where = " and ".join(f"{quote(column)} = ?" for column in columns)
    row = conn.execute(f"select {chosen} from {quote(table)} where {where}", list(values)).fetchone()
    return item_id(row) if row else None


async def panel_html(datasette: Datasette, request: Request, database: str, table: str) -> Markup | None:
    """Return the HTML of the panels of a row page; None where there are none.

    What goes wrong here leaves the row's own page as it is.
    """
    import sqlite3

    from markupsafe import Markup

    try:
        panels = await panels_of_row(datasette, request, database, table)
    except (EmbeddingsError, sqlite3.Error) as error:
        log.warning("no related rows are shown for %s/%s: %s", database, table, error)
        return None
    if not panels:
        return None
    template = datasette_environment(datasette, request).get_template("embeddings/_panel.html")
    return Markup(await template.render_async(panels=panels))  # noqa: S704 (rendered with escaping)


def datasette_environment(datasette: Datasette, request: Request) -> Any:  # noqa: ANN401
    """Return the Jinja environment that Datasette renders a request with."""
    if hasattr(datasette, "get_jinja_environment"):
        return datasette.get_jinja_environment(request)
    return datasette.jinja_env


def template_functions(datasette: Datasette, request: Request | None) -> dict[str, Callable[..., Awaitable[Any]]]:
    """Return the functions that a site's own templates may call: `related` and `semantic_search`."""
    actor = request.actor if request else None

    async def related(database: str, collection: str, item: object, k: int = PANEL_ITEMS) -> list[dict[str, Any]]:
        """Return what is related to an item; [] where there is nothing, or nothing that the reader may see."""
        place = await visible_place(datasette, actor, database, collection)
        if place is None:
            return []
        found = await finding.related(place, str(item), k)
        return [_shown(place, result) for result in found.results]

    async def semantic_search(database: str, collection: str, q: object, k: int = 10) -> dict[str, Any]:
        """Return `results`, whether all are `weak`, and `error`: why there are none, where that is no fault of the words."""
        place = await visible_place(datasette, actor, database, collection)
        text = str(q or "")
        if place is None or not text.strip():
            return {"results": [], "weak": False, "error": None}
        try:
            found = await finding.search(place, text, k)
        except asking.Refused as refused:
            return {"results": [], "weak": False, "error": refused.sentence}
        except EmbeddingsError as error:
            return {"results": [], "weak": False, "error": for_visitors(error)}
        return {"results": [_shown(place, result) for result in found.results], "weak": found.weak, "error": None}

    return {"related": related, "semantic_search": semantic_search}


async def visible_place(datasette: Datasette, actor: object, database: str, collection: str) -> Place | None:
    """Return a collection where there is one that the actor may see; a page is no place to say that there is none."""
    from datasette.utils.asgi import Forbidden, NotFound

    try:
        return await find_place(datasette, actor, database, collection)
    except (NotFound, Forbidden):
        return None


def _shown(place: Place, result: Result) -> dict[str, Any]:
    return {
        "id": result.id,
        "title": result.title,
        "url": place.row_url(result.id),
        "score": result.score,
        "percent": result.percent,
        "weak": result.weak,
        "excerpt": result.excerpt.text,
        "row": result.row,
    }
