"""What a visitor of the finder looks for: pictures like some and less like others, by words, by a picture of their own, or all.

The vector that is compared is the mean of what is liked (pictures, and words twice) less half of the mean of what is not. Liking
counts twice as much as disliking, after Rocchio (1971): what somebody wants says more than what they do not want.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from datasette_embeddings import asking, catalog, pictures, queries, site, vectors
from datasette_embeddings.errors import EmbeddingsError
from datasette_embeddings.finding import Filters, current, filters_of, ids_among
from datasette_embeddings.limits import MAX_K
from datasette_embeddings.search import Hit, nearest_items, related_items

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.embedder import Embedder
    from datasette_embeddings.pictures import Picture
    from datasette_embeddings.places import Place
    from datasette_embeddings.tables import Tables

USUAL_PICTURES = 24
"""Pictures that are found where nobody says how many: rows of two, three, four or six are full."""

HANDFUL = 6
"""Pictures that a page without a wish begins with, at random: one row."""

MOST_PICKED = 20
"""Pictures that may be liked and disliked: their mean says less with each."""

MOST_PHRASES = 10
"""Phrases that one picture is compared with; each is embedded, and where the model is elsewhere, paid for."""


MOST_FILTERS = 32
"""Filters of the rows, which stand in the addresses of each of up to a thousand pictures: with 900 a page took 8 s to make, in which
nobody else was answered, and with as many as these half a second."""


class Wish(NamedTuple):
    """What is looked for. *like*, *unlike*: ids of pictures. *pairs*: filters of the rows. *after*: an id, of all in their order."""

    q: str = ""
    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    k: int | None = None
    after: str = ""
    seed: str = ""
    pairs: tuple[tuple[str, str], ...] = ()

    @property
    def picked(self) -> tuple[str, ...]:
        """The pictures that others are to be like or unlike."""
        return (*self.like, *self.unlike)

    @property
    def alone(self) -> str | None:
        """The picture to which others are to be similar, where nothing else is wished for but filters."""
        return self.like[0] if len(self.like) == 1 and not self.unlike and not self.q.strip() else None


@dataclass(frozen=True)
class Look:
    """What was found. *found*: best first, or in the order of ids. *total*: of how many, where all are shown a page at a time. *following*: the id after which the next page begins.

    *phrases*: each with its score, None where the model knows no word of it. *sql*: gives the same ids and scores; "" where none does.
    """

    found: list[Picture]
    like: list[Picture] = field(default_factory=list)
    unlike: list[Picture] = field(default_factory=list)
    random: list[Picture] = field(default_factory=list)
    phrases: list[tuple[str, float | None]] = field(default_factory=list)
    filters: Filters = field(default_factory=Filters)
    total: int | None = None
    following: str | None = None
    k: int = USUAL_PICTURES
    sql: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


class NoSuchPicture(EmbeddingsError):
    """A picture that others are to be like is not in the collection."""


def check(wish: Wish) -> Wish:
    """Return a wish that can be granted; raises EmbeddingsError."""
    wish = wish._replace(like=tuple(dict.fromkeys(wish.like)), unlike=tuple(dict.fromkeys(wish.unlike)))
    if len(wish.picked) > MOST_PICKED:
        raise EmbeddingsError(f"at most {MOST_PICKED} pictures can be picked; found {len(wish.picked)}")
    if len(wish.phrases) > MOST_PHRASES:
        raise EmbeddingsError(f"a picture is compared with {MOST_PHRASES} phrases at most; found {len(wish.phrases)}")
    if len(wish.pairs) > MOST_FILTERS:
        raise EmbeddingsError(f"pictures are narrowed by {MOST_FILTERS} filters at most; found {len(wish.pairs)}")
    if wish.phrases and len(wish.like) != 1:
        raise EmbeddingsError(f"phrases are compared with one picture, as in id=ID&phrase=...; found {len(wish.like)}")
    if wish.unlike and not wish.like and not wish.q.strip():
        raise EmbeddingsError("unlike=ID says what to keep away from; like=ID or q=WORDS says what to look for")
    return wish


async def look(place: Place, wish: Wish, own: bytes | None = None) -> Look:
    """Return what there is for a wish. *own*: the vector of a visitor's picture, which pictures are to be like.

    Raises EmbeddingsError for a wish that makes no sense, NoSuchPicture, and asking.Refused where words cannot be embedded.
    """
    wish = check(wish)
    embedder = site.embedder_of(place.datasette)
    words = await asking.query_vector(embedder, place.collection, wish.q) if wish.q.strip() else None
    phrases = [await asking.query_vector(embedder, place.collection, phrase) for phrase in wish.phrases]

    def read(conn: sqlite3.Connection) -> Look:
        tables, collection = current(conn, place)
        _require(conn, tables, collection, wish.picked)
        found = _looked(conn, tables, collection, wish, words, own, place.label)
        return replace(
            found,
            like=pictures.pictures_of(conn, tables, collection, wish.like, label=place.label),
            unlike=pictures.pictures_of(conn, tables, collection, wish.unlike, label=place.label),
            phrases=_scored(conn, tables, collection, wish, phrases),
        )

    searches = bool(wish.q.strip() or own) or (bool(wish.like) and not _is_stored(place.collection, wish))
    return await (place.search if searches else place.run)(read)


def _is_stored(collection: Collection, wish: Wish) -> bool:
    """Tell whether the stored similarities answer a wish."""
    return wish.alone is not None and not wish.pairs and collection.stores_related(number_of(collection, wish))


def number_of(collection: Collection, wish: Wish) -> int:
    """Return how many pictures are found: as many as are stored, where that is all that is asked for, and nobody says another number."""
    stored = collection.similarities if wish.alone is not None and not wish.pairs else None
    return wish.k or min(USUAL_PICTURES, stored or USUAL_PICTURES)


def _looked(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    wish: Wish,
    words: bytes | None,
    own: bytes | None,
    label: str | None,
) -> Look:
    filters = filters_of(conn, collection, wish.pairs)
    among = queries.ids_of_rows(conn, collection, filters.conditions) if filters.conditions else ""
    ids = ids_among(conn, among, filters) if among else None
    k = number_of(collection, wish)
    if own is None and not wish.q.strip() and not wish.like:
        return _all(conn, tables, collection, wish, filters, ids, label)
    if own is not None:
        found = pictures.pictures_of_hits(
            conn, tables, collection, nearest_items(conn, tables, collection, own, k, ids), label
        )
        return Look(found, filters=filters, k=k)
    if _is_stored(collection, wish):
        hits = related_items(conn, tables, collection, wish.like[0], k)
    else:
        vector = _wished(conn, tables, collection, wish, words)
        hits = _nearest(conn, tables, collection, vector, k, ids, wish.picked)
    found = pictures.pictures_of_hits(conn, tables, collection, hits, label)
    sql, parameters = _sql(conn, tables, collection, wish, words, k, among)
    return Look(found, filters=filters, k=k, sql=sql, parameters={**parameters, **filters.parameters})


def _all(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    wish: Wish,
    filters: Filters,
    ids: list[str] | None,
    label: str | None,
) -> Look:
    """Return all pictures that meet the filters, a page at a time, and a handful at random where that is wished for."""
    number = wish.k or pictures.PAGE
    page = pictures.ids_after(conn, tables, collection, wish.after, number + 1, ids)
    following = page[number - 1] if len(page) > number else None
    few = pictures.at_random(conn, tables, collection, HANDFUL, wish.seed) if wish.seed else []
    return Look(
        pictures.pictures_of(conn, tables, collection, page[:number], label=label),
        random=pictures.pictures_of(conn, tables, collection, few, label=label),
        filters=filters,
        total=pictures.count(conn, tables, collection, ids),
        following=following,
        k=number,
    )


def _sql(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    wish: Wish,
    words: bytes | None,
    k: int,
    among: str,
) -> tuple[str, dict[str, Any]]:
    if wish.alone is not None and not among:
        return queries.related_sql(conn, tables, collection, k), {"id": wish.alone}
    if not wish.picked:
        return queries.search_sql(conn, tables, collection, "embed_search", k, among), {"q": wish.q}
    named = _named(wish, words)
    if not _likes(named):
        return "", {}
    return queries.alike_sql(conn, tables, collection, k, len(wish.picked), list(named), among), named


def _named(wish: Wish, words: bytes | None) -> dict[str, str]:
    """Return the parameters of `queries.alike_sql` for a wish; words that the model does not know are not among them."""
    picked = {"like": wish.like, "unlike": wish.unlike}
    asked = {"q": wish.q} if words is not None else {}
    return {**asked, **{name: orjson.dumps(ids).decode() for name, ids in picked.items() if ids}}


def _likes(named: dict[str, str]) -> bool:
    """Tell whether there is anything to be near to, and not only to keep away from."""
    return "q" in named or "like" in named


def _wished(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, wish: Wish, words: bytes | None
) -> bytes | None:
    """Return the vector of a wish; None where the model knows no word of it and nothing else is liked."""
    if not wish.picked:
        return words
    named = _named(wish, words)
    if not _likes(named):
        return None
    sql = queries.alike_vector(tables, collection, list(named))
    vector: bytes | None = conn.execute(f"select ({sql})", named).fetchone()[0]
    return vector


def _nearest(
    conn: sqlite3.Connection,
    tables: Tables,
    collection: Collection,
    vector: bytes | None,
    k: int,
    ids: Sequence[str] | None,
    without: Sequence[str],
) -> list[Hit]:
    if vector is None:
        return []
    hits = nearest_items(conn, tables, collection, vector, min(k + len(without), MAX_K), ids)
    return [hit for hit in hits if hit.id not in without][:k]


def _require(conn: sqlite3.Connection, tables: Tables, collection: Collection, items: Sequence[str]) -> None:
    missing = next((item for item in items if not catalog.has_item(conn, collection, item, tables)), None)
    if missing is not None:
        raise NoSuchPicture(f"there is no picture {missing[:80]!r} in {collection.name}")


def _scored(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, wish: Wish, phrases: Sequence[bytes | None]
) -> list[tuple[str, float | None]]:
    """Return the cosine similarity of the one picture to each phrase."""
    if not wish.phrases:
        return []
    picture = catalog.item_vector(conn, collection, wish.like[0], tables)
    return [
        (
            phrase,
            None if found is None or picture is None else round(vectors.cosine(picture, found), vectors.SCORE_DECIMALS),
        )
        for phrase, found in zip(wish.phrases, phrases, strict=True)
    ]


class Own(NamedTuple):
    """A visitor's own picture: its vector, and its thumbnail as WebP."""

    vector: bytes
    drawn: bytes


async def own_picture(place: Place, data: bytes) -> Own:
    """Return what a visitor's picture is compared by; nothing of it is kept. Raises asking.Refused."""
    embedder: Embedder = site.embedder_of(place.datasette)
    vector, drawn = await asking.picture_vector(embedder, place.collection, data)
    return Own(vector, drawn.data)
