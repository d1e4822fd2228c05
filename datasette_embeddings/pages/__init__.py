"""The pages of the plugin at /-/embeddings, each with a twin that gives the same as JSON.

A page checks what the actor may see, asks `finding`, and renders. Everything that it shows is escaped by its template.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasette_embeddings.pages.ask import ask_page
from datasette_embeddings.pages.clusters import clusters_page
from datasette_embeddings.pages.collection import collection_page, index_page
from datasette_embeddings.pages.embed import embed_json
from datasette_embeddings.pages.images import images_page, thumbnail_webp
from datasette_embeddings.pages.item import item_page
from datasette_embeddings.pages.map import colors_bin, ids_json, items_json, map_page, points_bin
from datasette_embeddings.pages.search import search_page
from datasette_embeddings.pages.spectrum import spectrum_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Routes = list[tuple[str, Callable[..., Any]]]

HERE = r"^/-/embeddings/(?P<database>[^/]+)/(?P<collection>[^/]+?)"


def routes() -> Routes:
    """Return the addresses of the pages, as Datasette takes them."""
    return [
        (r"^/-/embeddings(?P<format>\.json)?$", index_page),
        (r"^/-/embeddings/embed\.json$", embed_json),
        (HERE + r"(?P<format>\.json)?$", collection_page),
        (HERE + r"/clusters(?P<format>\.json)?$", clusters_page),
        (HERE + r"/map(?P<format>\.json)?$", map_page),
        (HERE + r"/map/points\.bin$", points_bin),
        (HERE + r"/map/colors\.bin$", colors_bin),
        (HERE + r"/map/ids\.json$", ids_json),
        (HERE + r"/map/items\.json$", items_json),
        (HERE + r"/images(?P<format>\.json)?$", images_page),
        (HERE + r"/images/(?P<item>[^/]+)\.webp$", thumbnail_webp),
        (HERE + r"/search(?P<format>\.json)?$", search_page),
        (HERE + r"/ask(?P<format>\.json)?$", ask_page),
        (HERE + r"/spectrum(?P<format>\.json)?$", spectrum_page),
        (HERE + r"/item/(?P<item>[^/]+?)(?P<format>\.json)?$", item_page),
    ]
