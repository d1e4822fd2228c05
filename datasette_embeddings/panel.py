"""What is related to a row, where people already are: on the row's own page, and in a site's own templates."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from datasette_embeddings import access, asking, finding, pictures
from datasette_embeddings.errors import EmbeddingsError, for_visitors
from datasette_embeddings.grouping import cluster_of
from datasette_embeddings.places import all_places, find_place, places_of_table

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable

    from datasette.app import Datasette
    from datasette.utils.asgi import Request
    from markupsafe import Markup

    from datasette_embeddings.pictures import Picture
    from datasette_embeddings.places import Place
    from datasette_embeddings.results import Result

PANEL_ITEMS = 5
"""Related rows on a row's page: a glance, the item's own page has more."""

STYLESHEET = "/-/static-plugins/datasette-embeddings-suite/embeddings.css"

log = logging.getLogger(__name__)


class Neighbor(NamedTuple):
    """A related row, ready to be shown. *picture*: the address of its thumbnail, "" where it has none."""

    url: str
    title: str
    score: str
    picture: str


@dataclass(frozen=True)
class Panel:
    """What is related to a row in one collection, ready to be shown; or why nothing is.

    *cluster*: the address, name and size of the cluster that the row is in.
    """

    name: str
    note: str
    related: list[Neighbor]
    more_url: str
    search_url: str
    cluster: tuple[str, str, int] | None = None


async def panels_of_row(datasette: Datasette, request: Request, database: str, table: str) -> list[Panel]:
    """Return a panel for each collection made from the table of a row page, where the actor may see it."""
    from datasette.utils import urlsafe_components

    places = await places_of_table(datasette, request.actor, database, table)
    if not places:
        return []
    values = urlsafe_components(request.url_vars["pks"])
    panels = [await _panel(place, tuple(values)) for place in places]
    return [panel for panel in panels if panel and (panel.related or panel.note)]


async def _panel(place: Place, values: tuple[str, ...]) -> Panel | None:
    glance = await place.glance()

    def read(conn: sqlite3.Connection) -> Panel | None:
        item = glance.item(conn, values)
        if item is None:
            return None
        found = glance.neighbors(conn, item, PANEL_ITEMS)
        related = [
            Neighbor(
                place.row_url(other),
                title,
                f"{score:.2f}",
                place.thumbnail_url(other) if glance.collection.images else "",
            )
            for other, score, title in found
        ]
        note = glance.state(conn, item).note
        note = f"{note[0].upper()}{note[1:]}." if note else ""
        cluster = cluster_of(conn, glance.tables, glance.collection, item)
        group = (place.cluster_url(cluster.number), cluster.label, cluster.size) if cluster else None
        return Panel(place.collection.name, note, related, place.similar_url(item), place.search_url, group)

    return await place.read_once(("panel", place.collection.name, values), read)


async def panel_html(datasette: Datasette, request: Request, database: str, table: str) -> Markup | None:
    """Return the HTML of the panels of a row page; None where there are none.

    What goes wrong here leaves the row's own page as it is. Datasette shows that page to nobody who may not view the table.
    """
    import sqlite3

    from markupsafe import Markup

    access.known_to_view(request.actor, database, table)
    try:
        panels = await panels_of_row(datasette, request, database, table)
    except (EmbeddingsError, sqlite3.Error) as error:
        log.warning("no related rows are shown for %s/%s: %s", database, table, error)
        return None
    if not panels:
        return None
    template = datasette_environment(datasette, request).get_template("embeddings/_panel.html")
    stylesheet = datasette.urls.path(STYLESHEET)
    return Markup(await template.render_async(panels=panels, stylesheet=stylesheet))  # noqa: S704 (rendered with escaping)


def datasette_environment(datasette: Datasette, request: Request) -> Any:  # noqa: ANN401
    """Return the Jinja environment that Datasette renders a request with."""
    if hasattr(datasette, "get_jinja_environment"):
        return datasette.get_jinja_environment(request)
    return datasette.jinja_env


def template_functions(datasette: Datasette, request: Request | None) -> dict[str, Callable[..., Awaitable[Any]]]:
    """Return the functions that a site's own templates may call: `related`, `semantic_search`, `collections_of` and `pictures_of`."""
    actor = request.actor if request else None

    async def collections_of(database: str) -> list[dict[str, Any]]:
        """Return `name`, `url` and `rows` of each collection of a database that the reader may see."""
        places = [place for place in await all_places(datasette, actor) if place.database == database]
        return [
            {"name": place.collection.name, "url": place.url, "rows": place.collection.rows or 0} for place in places
        ]

    async def related(database: str, collection: str, item: object, k: int = PANEL_ITEMS) -> list[dict[str, Any]]:
        """Return what is related to an item; [] where there is nothing, or nothing that the reader may see."""
        place = await visible_place(datasette, actor, database, collection)
        if place is None:
            return []
        try:
            found = await finding.related(place, str(item), k)
        except EmbeddingsError as error:
            log.warning("nothing related is shown for %s of %s/%s: %s", item, database, collection, error)
            return []
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

    async def pictures_of(database: str, collection: str, k: int = PANEL_ITEMS) -> list[dict[str, Any]]:
        """Return some pictures at random, others each day; [] where there are none that the reader may see."""
        place = await visible_place(datasette, actor, database, collection)
        found = await place.run(lambda conn: _some(conn, place, k)) if place and place.collection.images else []
        return [
            {
                "id": one.id,
                "title": one.title,
                "url": place.row_url(one.id),
                "similar_url": place.similar_url(one.id),
                "picture": place.thumbnail_url(one.id, one.version),
                "width": one.width,
                "height": one.height,
                "row": one.row,
            }
            for one in found
            if place
        ]

    return {
        "related": related,
        "semantic_search": semantic_search,
        "collections_of": collections_of,
        "pictures_of": pictures_of,
    }


def _some(conn: sqlite3.Connection, place: Place, number: int) -> list[Picture]:
    tables, collection = finding.current(conn, place)
    return pictures.some(conn, tables, collection, number, label=place.label)


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
        "similar_url": place.similar_url(result.id),
        "picture": place.thumbnail_url(result.id) if place.collection.images else None,
        "score": result.score,
        "percent": result.percent,
        "weak": result.weak,
        "excerpt": result.excerpt.text,
        "row": result.row,
    }
