"""What the finder shows beside pictures: what each says and leads to, and the forms that narrow; and wishes as addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from datasette_embeddings import finder, pictures, remembered
from datasette_embeddings.database import quote
from datasette_embeddings.errors import EmbeddingsError
from datasette_embeddings.finder import Wish
from datasette_embeddings.finding import as_number, current, is_filter
from datasette_embeddings.keys import declared_types

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from datasette_embeddings.finder import Look
    from datasette_embeddings.pictures import Picture
    from datasette_embeddings.places import Place

    Pairs = Sequence[tuple[str, str]]

OWN_ARGUMENTS = ("q", "id", "like", "unlike", "phrase", "k", "after", "seed", "csrftoken")

NUMBERS = 4
"""Columns of numbers that pictures are narrowed by: those that come first, as people order columns by what matters."""

LONGEST_ADDRESS = 8_000
"""Characters of an address: common web servers take no longer one, and each picture of a page has several such addresses."""


def wish_of(fields: Iterable[tuple[str, str]]) -> Wish:
    """Return what an address or a form asks for; raises EmbeddingsError. A filter of nothing is a field that was left empty."""
    given = [(name, value) for name, value in fields if value != "" or name not in OWN_ARGUMENTS]
    own = {name: [value for other, value in given if other == name] for name in OWN_ARGUMENTS}
    pairs = tuple((name, value) for name, value in given if name not in OWN_ARGUMENTS and value != "")
    unknown = next((name for name, _ in given if name not in OWN_ARGUMENTS and not is_filter(name)), None)
    if unknown is not None:
        takes = "q, like, unlike, phrase, k, after, seed"
        raise EmbeddingsError(f"{unknown[:80]!r} is no argument of this page; it takes {takes}, and filters by column")
    first = {name: (own[name] or [""])[0] for name in ("q", "after", "seed")}
    k = as_number((own["k"] or [""])[0])
    phrases = tuple(phrase for phrase in own["phrase"] if phrase.strip())
    return Wish(
        like=(*own["id"], *own["like"]), unlike=tuple(own["unlike"]), phrases=phrases, k=k, pairs=pairs, **first
    )


def url_of(place: Place, wish: Wish, **changes: Any) -> str:  # noqa: ANN401
    """Return the address of what a wish finds, with some changes to it."""
    wish = wish._replace(**changes)
    own = {
        "q": [wish.q] if wish.q.strip() else [],
        "like": wish.like,
        "unlike": wish.unlike,
        "phrase": wish.phrases,
        "k": [wish.k] if wish.k else [],
        "after": [wish.after] if wish.after else [],
        "seed": [wish.seed] if wish.seed else [],
    }
    query = [*((name, str(value)) for name, values in own.items() for value in values), *wish.pairs]
    return f"{place.url}/images" + (f"?{urlencode(query)}" if query else "")


def addressed(place: Place, wish: Wish) -> Wish:
    """Return a wish that an address can hold; raises EmbeddingsError."""
    length = len(url_of(place, wish))
    if length > LONGEST_ADDRESS:
        raise EmbeddingsError(
            f"what is looked for makes an address of {length:,} characters, and {LONGEST_ADDRESS:,} are the most; shorten it"
        )
    return wish


class Card(NamedTuple):
    """A picture with what it leads to. *facts*: of its row, in words.

    *more*, *less*: the wish with it, "" where that makes no sense; *without*: where it is not picked any more.
    """

    picture: Picture
    url: str
    similar: str
    row: str
    facts: list[str]
    more: str = ""
    less: str = ""
    without: str = ""


class Fact(NamedTuple):
    """A number of the picture that others are similar to, and where those with less and with more of it are."""

    name: str
    value: Any
    less: str
    more: str


class Choice(NamedTuple):
    """A column to narrow by one of its values."""

    name: str
    field: str
    values: list[tuple[str, int | None]]
    chosen: str


class Range(NamedTuple):
    """A column of numbers, its least and most, and the bounds that are set: (filter, value) of both ends."""

    name: str
    low: Any
    high: Any
    least: tuple[str, str]
    most: tuple[str, str]


def card_of(place: Place, wish: Wish, picture: Picture, facets: Sequence[str], numbers: Sequence[str]) -> Card:
    """Return a picture as a page with that wish shows it; *facets*, *numbers*: columns of which it says what they hold."""
    item = picture.id
    others = wish._replace(
        like=tuple(other for other in wish.like if other != item),
        unlike=tuple(other for other in wish.unlike if other != item),
        phrases=(),
    )
    wished = bool(others.like or others.q.strip())
    full = len(wish.picked) >= finder.MOST_PICKED
    return Card(
        picture,
        place.thumbnail_url(item, picture.version),
        url_of(place, Wish(like=(item,), pairs=wish.pairs)),
        place.row_url(item),
        facts_of(picture, facets, numbers),
        url_of(place, others, like=(*others.like, item)) if wished and not full else "",
        url_of(place, others, unlike=(*others.unlike, item)) if wished and not full else "",
        url_of(place, others if wished else others._replace(unlike=())),
    )


async def at_random(place: Place, number: int) -> list[Card]:
    """Return some pictures of a collection, others each day; [] where it has none."""

    def read(conn: sqlite3.Connection) -> list[Picture]:
        return pictures.some(conn, *current(conn, place), number, label=place.label)

    found = await place.run(read) if place.collection.images else []
    return [card_of(place, Wish(), picture, [], []) for picture in found]


def numbers_of(place: Place, wish: Wish, look: Look, columns: Sequence[str]) -> list[Fact]:
    """Return the numbers of the one picture that others are similar to, by which these can be narrowed: similar, and cheaper."""
    if wish.alone is None or not look.like:
        return []
    row = look.like[0].row
    found = []
    for column in columns:
        value = row.get(column)
        if isinstance(value, (int, float)):
            others = [pair for pair in wish.pairs if not _bounds(pair[0], column)]
            less, more = (
                url_of(place, wish, k=None, pairs=(*others, (f"{column}__{way}", str(value)))) for way in ("lt", "gt")
            )
            found.append(Fact(column, value, less, more))
    return found


def _bounds(name: str, column: str) -> bool:
    return name in {f"{column}__{way}" for way in ("lt", "lte", "gt", "gte")}


def facts_of(picture: Picture, facets: Sequence[str], numbers: Sequence[str]) -> list[str]:
    """Return what is said below a picture: its values of facets that its title does not name, and numbers with their names."""
    row, title = picture.row, picture.title.lower()
    values = [
        str(row[name]) for name in facets if row.get(name) not in {None, ""} and str(row[name]).lower() not in title
    ]
    return [*values, *(f"{name} {row[name]}" for name in numbers if isinstance(row.get(name), (int, float)))]


async def facets_of(place: Place, pairs: Pairs) -> list[Choice]:
    """Return the columns that the site names as facets, with their commonest values and the one that is chosen."""
    table = place.collection.table
    columns = [facet for facet in place.settings.get("facets") or [] if isinstance(facet, str)]
    if not columns or not table:
        return []
    counts = await remembered.facet_counts(place.datasette, place.database, table, columns)
    found = []
    for name, values in counts.items():
        plain = is_filter(name) and "__" not in name and name not in OWN_ARGUMENTS
        field = name if plain else f"{name}__exact"
        chosen = next((value for other, value in pairs if other in {name, f"{name}__exact"}), "")
        listed: list[tuple[str, int | None]] = [(value, count) for value, count in values if value]
        if chosen and chosen not in dict(listed):
            listed.append((chosen, None))
        found.append(Choice(name, field, listed, chosen))
    return found


async def ranges_of(place: Place, pairs: Pairs) -> list[Range]:
    """Return the first columns of numbers, the key and what our own arguments are called apart, with what they range over."""
    ends = await place.read_once(("ranges", place.collection.name), lambda conn: _ends(conn, place))
    given = dict(pairs)

    def bound(name: str, *ways: str) -> tuple[str, str]:
        fields = [f"{name}__{way}" for way in ways]
        field = next((field for field in fields if field in given), fields[0])
        return field, given.get(field, "")

    return [
        Range(name, low, high, bound(name, "gte", "gt"), bound(name, "lte", "lt")) for name, (low, high) in ends.items()
    ]


def _ends(conn: sqlite3.Connection, place: Place) -> dict[str, tuple[float, float]]:
    """Return column -> (least, most) of numbers that are not all the same; {} where there is no table, or one that cannot be read in time."""
    import sqlite3

    _, collection = current(conn, place)
    if not collection.table:
        return {}
    kinds = declared_types(conn, collection.table)
    numeric = ("INT", "REAL", "FLOA", "DOUB", "NUM", "DEC")
    names = [
        n for n, kind in kinds.items() if any(word in kind.upper() for word in numeric) and n not in collection.key
    ]
    if not names:
        return {}
    ends = ", ".join(f"min({quote(name)}), max({quote(name)})" for name in names)
    try:
        row = conn.execute(f"select {ends} from {quote(collection.table)}").fetchone()
    except sqlite3.OperationalError:
        return {}
    found = {name: (row[2 * n], row[2 * n + 1]) for n, name in enumerate(names)}
    numbers = {
        n: (a, b)
        for n, (a, b) in found.items()
        if isinstance(a, (int, float)) and isinstance(b, (int, float)) and a < b
    }
    return dict(list(numbers.items())[:NUMBERS])


def other_pairs(pairs: Pairs, facets: Sequence[Choice], numbers: Sequence[Range]) -> list[tuple[str, str]]:
    """Return the filters that the form has no field for."""
    shown = {(facet.name, facet.chosen) for facet in facets} | {(facet.field, facet.chosen) for facet in facets}
    bounded = {f"{number.name}__{way}" for number in numbers for way in ("lt", "lte", "gt", "gte")}
    return [pair for pair in pairs if pair not in shown and pair[0] not in bounded]
