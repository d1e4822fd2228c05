"""Full-text search of a collection: which FTS5 table holds the words of its items, and what it says to a visitor's words.

A source that has an FTS5 index of its own over the columns that are embedded is searched by that; for any other, `build` keeps
one of ours, which holds no text, only where words are.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from datasette_embeddings import templating
from datasette_embeddings.database import item_id, quote, table_names
from datasette_embeddings.limits import MAX_QUERY_WORDS, MAX_TEXT_MATCHES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.tables import Tables

TOKENIZER = "porter unicode61 remove_diacritics 2"
"""English endings are cut (a word of another language rarely suffers), accents do not matter."""

SHADOWS = ("", "_data", "_idx", "_content", "_docsize", "_config")
"""Endings of the tables that an FTS5 table consists of."""

PREFIX = "embeddings_fts_"


class Match(NamedTuple):
    """An item that holds some of the words, and its BM25: higher is better."""

    id: str
    bm25: float


@dataclass(frozen=True)
class TextIndex:
    """An FTS5 table, and how its rowids lead to items: *columns* of the table *rows*, whose *rowid* they are, make the id."""

    name: str
    rows: str
    rowid: str
    columns: tuple[str, ...]

    def matches(self, conn: sqlite3.Connection, expression: str, limit: int = MAX_TEXT_MATCHES) -> list[Match]:
        """Return the items that match an FTS5 expression, best first."""
        chosen = ", ".join(f"r.{quote(column)}" for column in self.columns)
        name = quote(self.name)
        found = conn.execute(
            f"select t.rank, {chosen} from (select rowid, rank from {name} where {name} match ? order by rank limit ?) as t "
            f"join {quote(self.rows)} as r on r.{quote(self.rowid)} = t.rowid order by t.rank",
            [expression, limit],
        ).fetchall()
        named = ((item_id(row[1:]), -row[0]) for row in found)
        return [Match(item, score) for item, score in named if item is not None]

    def shares(self, conn: sqlite3.Connection, wanted: Sequence[str]) -> dict[str, float]:
        """Return how much of the BM25 that a text can reach at most for some terms each item reaches, in [0, 1].

        FTS5 sums idf * f (k1 + 1) / (f + k1 (...)), f being how often a text has the term, k1 = 1.2, and takes 1e-6 for the idf of
        a term that most texts have (https://sqlite.org/fts5.html#the_bm25_function); such terms are not looked for beside others.
        A term that no text has counts in full, and the most is at least what one such term would count.
        """
        (texts,) = conn.execute(f"select count(*) from {quote(self.name + '_docsize')}").fetchone()
        name = quote(self.name)
        sql = f"select count(*) from {name} where {name} match ?"
        counts = {term: conn.execute(sql, [term]).fetchone()[0] for term in wanted}
        idf = {term: max(COMMON, math.log((texts - n + 0.5) / (n + 0.5))) for term, n in counts.items()}
        most = max((K1 + 1) * sum(idf.values()), math.log(2 * texts + 1), COMMON)
        telling = [term for term in wanted if idf[term] > COMMON]
        return {item: min(1.0, bm25 / most) for item, bm25 in self.matches(conn, any_of(telling or wanted))}


K1 = 1.2
COMMON = 1e-6


def text_index(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> TextIndex | None:
    """Return the index that a collection's words are found by: ours, or its source's own; None where there is none."""
    if collection.full_text:
        return TextIndex(collection.full_text, tables.plain("embeddings_documents"), "number", ("id",))
    if collection.chunk:  # an index of the source's own knows rows only
        return None
    return source_index(conn, collection.table, collection.key, embedded_columns(collection))


def embedded_columns(collection: Collection) -> tuple[str, ...]:
    """Return the columns whose text is embedded, as far as that is known; none of a collection of pictures."""
    if collection.images:
        return ()
    columns = tuple((collection.source or {}).get("columns", ()))
    return columns or (templating.names(collection.template) if collection.table and collection.template else ())


def source_index(
    conn: sqlite3.Connection, table: str | None, key: Sequence[str], columns: Sequence[str]
) -> TextIndex | None:
    """Return the FTS5 index that a table has of its own over all of *columns*, None where it has none."""
    if table is None or not columns or not key:
        return None
    wanted = {column.lower() for column in columns}
    for name, sql in conn.execute(
        "select name, sql from sqlite_master where sql like '%fts5%' order by name"
    ).fetchall():
        declared = declaration(sql)
        if declared and declared.serves and declared.content == table.lower() and wanted <= declared.columns:
            return TextIndex(name, table, declared.options.get("content_rowid", "rowid"), tuple(key))
    return None


class Declaration(NamedTuple):
    """What an FTS5 table was declared as: the columns that it indexes, in lower case, and its options."""

    columns: frozenset[str]
    options: dict[str, str]

    @property
    def content(self) -> str:
        """The table that its text is in, in lower case."""
        return self.options.get("content", "").lower()

    @property
    def serves(self) -> bool:
        """Whether it finds phrases, as identifiers are, and knows how long its texts are."""
        return self.options.get("detail", "full").lower() == "full" and self.options.get("columnsize") != "0"


QUOTED = r""""(?:[^"]|"")*"|'(?:[^']|'')*'|`(?:[^`]|``)*`|\[[^\]]*\]"""
FTS5 = re.compile(r"\busing\s+fts5\s*\((.*)\)\s*\Z", re.I | re.S)
ARGUMENT = re.compile(rf"(?:{QUOTED}|[^,])+")
OPTION = re.compile(rf"\s*(\w+)\s*=\s*({QUOTED}|[^\s]+)\s*\Z")
COLUMN = re.compile(rf"\s*({QUOTED}|[^\s]+)(.*)\Z", re.S)


def declaration(sql: str) -> Declaration | None:
    """Return what a `create virtual table ... using fts5(...)` declares, None for any other statement.

    >>> declaration("create virtual table x using fts5(Title, url UNINDEXED, content='my, table')")
    Declaration(columns=frozenset({'title'}), options={'content': 'my, table'})
    """
    inside = FTS5.search(sql)
    if inside is None:
        return None
    columns, options = set(), {}
    for argument in ARGUMENT.findall(inside[1]):
        if option := OPTION.match(argument):
            options[option[1].lower()] = _unquoted(option[2])
        elif (column := COLUMN.match(argument)) and "unindexed" not in column[2].lower():
            columns.add(_unquoted(column[1]).lower())
    return Declaration(frozenset(columns), options)


def _unquoted(name: str) -> str:
    if name[0] == "[":
        return name[1:-1]
    return name[1:-1].replace(name[0] * 2, name[0]) if name[0] in "\"'`" else name


def index_name(conn: sqlite3.Connection, tables: Tables, collection: str) -> str:
    """Return the name for an index of ours, none of whose tables has the name of another."""
    existing = {name.lower() for name in table_names(conn)}
    name = tables.plain(PREFIX + collection)
    while any(f"{name}{ending}".lower() in existing for ending in SHADOWS):
        name += "_"
    return name


def index_tables(name: str | None) -> list[str]:
    """Return the names of the tables that an index consists of."""
    return [name + ending for ending in SHADOWS] if name else []


def own_indexes(conn: sqlite3.Connection, tables: Tables) -> list[str]:
    """Return the full-text indexes of ours, those included that a build left which ended early."""
    names = tables.plain(PREFIX).replace("[", "[[]") + "*"
    sql = "select name from sqlite_master where name glob ? and sql like 'create virtual table%using fts5(text, content=%'"
    return [row[0] for row in conn.execute(sql, [names])]


def supported(conn: sqlite3.Connection) -> bool:
    """Tell whether this SQLite has FTS5, as nearly all have."""
    return conn.execute("select 1 from pragma_module_list where name = 'fts5'").fetchone() is not None


def is_behind(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> bool:
    """Tell whether the index is not that of the items as they are now."""
    if not supported(conn) or collection.images:
        return False
    if has_own(conn, collection):
        return collection.full_text is not None
    if collection.full_text is None:
        return True
    return bool(missing_items(conn, tables, collection, 1)) or has_leftovers(conn, tables, collection)


def has_own(conn: sqlite3.Connection, collection: Collection) -> bool:
    """Tell whether the source has an index of its own that serves: for chunks, none does."""
    if collection.chunk:
        return False
    return source_index(conn, collection.table, collection.key, embedded_columns(collection)) is not None


def missing_items(conn: sqlite3.Connection, tables: Tables, collection: Collection, limit: int = -1) -> set[str]:
    """Return the items that are not indexed with the text that they have now."""
    rows = conn.execute(
        f"select e.id from {tables.embeddings} e left join {tables.embeddings_documents} d "
        "on d.collection_id = e.collection_id and d.id = e.id and d.content_hash is e.content_hash "
        "where e.collection_id = ? and d.id is null limit ?",
        [collection.id, limit],
    )
    return {row[0] for row in rows}


def has_leftovers(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> bool:
    """Tell whether texts are indexed that are not those of an item any more."""
    odd = conn.execute(
        f"select 1 from {tables.embeddings_documents} d left join {tables.embeddings} e "
        "on e.collection_id = d.collection_id and e.id = d.id and e.content_hash is d.content_hash "
        "where d.collection_id = ? and e.id is null limit 1",
        [collection.id],
    ).fetchone()
    return odd is not None


WORD = re.compile(r"[\w\u0300-\u036f]+")
"""A word, its accents among it where they are characters of their own."""

PHRASE = re.compile(rf'"([^"]*)"|({WORD.pattern})')


def terms(text: str) -> list[str]:
    """Return what an FTS5 expression can be made of: the words of a text, and what stands in double quotes as a phrase.

    Each is an FTS5 string, so that no sign and no word of a visitor is an operator.

    >>> terms('list "all plugins" NOT (a OR b)*')
    ['"list"', '"all plugins"', '"NOT"', '"a"', '"OR"', '"b"']
    """
    found = (" ".join(WORD.findall(phrase or word)) for phrase, word in PHRASE.findall(text))
    return list(dict.fromkeys(f'"{term}"' for term in found if re.search(r"\w", term)))[:MAX_QUERY_WORDS]


def any_of(wanted: Sequence[str]) -> str:
    """Return the expression that any of *terms* matches."""
    return " OR ".join(wanted)
