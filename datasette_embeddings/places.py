"""A collection as a visitor reaches it: which database, whether they may see it, and where its rows and pages are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasette_embeddings import access, compat, indexes, remembered
from datasette_embeddings.database import snapshot
from datasette_embeddings.glance import glance

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Hashable
    from typing import TypeVar

    from datasette.app import Datasette

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.glance import Glance

    Result = TypeVar("Result")

ROOT = "/-/embeddings"


@dataclass(frozen=True)
class Place:
    """A collection that the actor may see, in one Datasette."""

    datasette: Datasette
    actor: object
    database: str
    collection: Collection

    @property
    def settings(self) -> dict[str, Any]:
        """What the site's configuration says of the source table."""
        table = self.collection.table
        return compat.table_settings(self.datasette, self.database, table) if table else {}

    @property
    def label(self) -> str | None:
        """The column that names a row, where the site says which."""
        return self.settings.get("label_column")

    @property
    def url(self) -> str:
        """The address of the collection's own page."""
        return collection_url(self.datasette, self.database, self.collection.name)

    @property
    def search_url(self) -> str:
        """The address where the collection is searched: the finder, of pictures."""
        return f"{self.url}/{'images' if self.collection.images else 'search'}"

    def item_url(self, item: str) -> str:
        """Return the address of the page of an item and what is related to it."""
        from datasette.utils import tilde_encode

        return f"{self.url}/item/{tilde_encode(item)}"

    def thumbnail_url(self, item: str, version: str = "") -> str:
        """Return the address of an item's thumbnail. *version*: of its picture, with which browsers need ask no second time."""
        from datasette.utils import tilde_encode

        return f"{self.url}/images/{tilde_encode(item)}.webp" + (f"?v={version}" if version else "")

    def similar_url(self, item: str) -> str:
        """Return the address of what is nearest to an item: of a picture in the finder, of others the item's own page."""
        from urllib.parse import urlencode

        return f"{self.url}/images?{urlencode({'like': item})}" if self.collection.images else self.item_url(item)

    def row_url(self, item: str) -> str:
        """Return the address of an item's source row; of the item's own page where it has none."""
        from datasette.utils import tilde_encode

        collection = self.collection
        if not collection.table or not collection.key or not self.has_rows:
            return self.item_url(item)
        path = tilde_encode(item) if len(collection.key) == 1 else item
        return str(self.datasette.urls.row(self.database, collection.table, path))

    def cluster_url(self, cluster: int) -> str:
        """Return the address of the rows of a cluster: the source's own page, or of what has no table the query that gives them."""
        from urllib.parse import urlencode

        collection, urls = self.collection, self.datasette.urls
        if collection.table and collection.key:
            return f"{urls.table(self.database, collection.table)}?{urlencode({'_cluster': f'{collection.name}:{cluster}'})}"
        if collection.queryable:
            return f"{urls.query(self.database, f'cluster_{collection.name}')}?cluster={cluster}"
        return f"{self.url}/clusters#cluster-{cluster}"

    @property
    def has_rows(self) -> bool:
        """Whether the source is a table, whose rows have pages; those of a view have none."""
        return self.collection.name in remembered.known_holdings(self.datasette, self.database).with_row_pages

    async def run(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a function that reads in one of Datasette's SQL threads, within the time that a query may take."""
        result: Result = await self.datasette.get_database(self.database).execute_fn(self._limited(function))
        return result

    async def search(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a function that searches the collection: what it looks in is loaded first, however long that takes."""
        await self.datasette.get_database(self.database).execute_fn(
            lambda conn: indexes.warm(conn, self.collection.name)
        )
        return await self.run(function)

    async def read_once(self, what: Hashable, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """Return what a function reads, as `run` does, read anew when the file changed. *what*: names it."""
        return await remembered.read_once(self.datasette, self.database, what, self._limited(function))

    def _limited(self, function: Callable[[sqlite3.Connection], Result]) -> Callable[[sqlite3.Connection], Result]:
        from datasette.utils import sqlite_timelimit

        def limited(conn: sqlite3.Connection) -> Result:
            with snapshot(conn), sqlite_timelimit(conn, self.datasette.sql_time_limit_ms):
                return function(conn)

        return limited

    async def glance(self) -> Glance:
        """Return what is prepared for row pages of this collection's table."""
        tables = (await remembered.holdings_of(self.datasette, self.database)).tables
        assert tables is not None
        key = ("glance", self.collection.name, self.label)
        return await self.read_once(key, lambda conn: glance(conn, tables, self.collection, self.label))

    async def is_public(self) -> bool:
        """Tell whether everybody may see the collection."""
        return self.actor is None or await access.is_public(self.datasette, self.database, self.collection)


def collection_url(datasette: Datasette, database: str, collection: str) -> str:
    """Return the address of a collection's own page."""
    from datasette.utils import tilde_encode

    return str(datasette.urls.path(f"{ROOT}/{tilde_encode(database)}/{tilde_encode(collection)}"))


async def find_place(datasette: Datasette, actor: object, database: str, collection: str) -> Place:
    """Return the place of that name; raises Datasette's NotFound and Forbidden."""
    from datasette.utils.asgi import Forbidden, NotFound

    if database not in compat.served_databases(datasette):
        raise NotFound(f"Database not found: {database}")
    if not await compat.may_view_database(datasette, actor, database):
        raise Forbidden("You do not have permission to view this database")
    held = await remembered.holdings_of(datasette, database)
    if collection not in held.collections:
        raise NotFound(f"Collection not found: {collection}")
    found = held.collections[collection]
    if not await access.may_view_collection(datasette, actor, database, found):
        raise Forbidden("You do not have permission to view what this collection was made from")
    return Place(datasette, actor, database, found)


async def all_places(datasette: Datasette, actor: object) -> list[Place]:
    """Return every collection that an actor may see, database by database."""
    return [
        Place(datasette, actor, database, collection)
        for database in sorted(compat.served_databases(datasette))
        for collection in (await remembered.holdings_of(datasette, database)).collections.values()
        if await access.may_view_collection(datasette, actor, database, collection)
    ]


async def places_of_table(datasette: Datasette, actor: object, database: str, table: str) -> list[Place]:
    """Return the collections made from a table that an actor may see."""
    if database not in compat.served_databases(datasette):
        return []
    held = await remembered.holdings_of(datasette, database)
    return [
        Place(datasette, actor, database, collection)
        for collection in held.of_table(table)
        if await access.may_view_collection(datasette, actor, database, collection)
    ]
