"""Ways in from Datasette's own pages: its menus, the actions of tables and rows, and the jump menu of 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasette_embeddings.places import ROOT, all_places, places_of_table

if TYPE_CHECKING:
    from datasette.app import Datasette

    from datasette_embeddings.places import Place

    Links = list[dict[str, str]]


async def home_links(datasette: Datasette, actor: object) -> Links:
    """Return the link of the main menu, where the actor may see any collection."""
    if not await all_places(datasette, actor):
        return []
    return [{"href": datasette.urls.path(ROOT), "label": "Semantic search"}]


async def table_links(datasette: Datasette, actor: object, database: str, table: str) -> Links:
    """Return the links of a table's or view's menu."""
    places = await places_of_table(datasette, actor, database, table)
    return [
        {
            "href": place.search_url,
            "label": _called(place, len(places) == 1),
            "description": "Find pictures by what they show"
            if place.collection.images
            else "Find rows by what they mean",
        }
        for place in places
    ]


def _called(place: Place, only: bool) -> str:
    what = "Find pictures" if place.collection.images else "Semantic search"
    return what if only else f"{what}: {place.collection.name}"


async def row_links(datasette: Datasette, actor: object, database: str, table: str, row: Any) -> Links:  # noqa: ANN401
    """Return the links of a row's menu (1.0)."""
    from datasette_embeddings.database import item_id

    places = await places_of_table(datasette, actor, database, table)
    found = []
    for place in places:
        columns = set(row.keys())
        item = (
            item_id(tuple(row[name] for name in place.collection.key)) if columns >= set(place.collection.key) else None
        )
        if item is not None:
            found.append(
                {
                    "href": place.similar_url(item),
                    "label": "Find similar",
                    "description": "Pictures that look like this one"
                    if place.collection.images
                    else "Rows nearest in meaning to this one",
                }
            )
    return found


async def jump_items(datasette: Datasette, actor: object) -> list[Any]:
    """Return the entries of the jump menu (1.0)."""
    from datasette.jump import JumpSQL

    return [
        JumpSQL.menu_item(
            label=f"Search {place.collection.name}",
            url=place.search_url,
            description=f"Semantic search of {place.collection.name} in {place.database}",
            search_text=f"semantic search {place.collection.name} {place.database}",
            item_type="search",
        )
        for place in await all_places(datasette, actor)
    ]
