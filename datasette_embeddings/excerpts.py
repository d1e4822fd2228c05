"""What of a row is shown for a search: the part around the words that were looked for, those words marked.

SQLite's own full-text functions find and mark them, in memory, so that what is marked is what full-text search found, endings
and accents aside.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from datasette_embeddings import templating
from datasette_embeddings.fulltext import TOKENIZER, any_of, supported, terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

EXCERPT_WORDS = 36
"""Words of an excerpt: two to four lines of a page."""

LOOKED_AT_CHARACTERS = 60_000
"""Of a text that are searched for words to show; a match further on is shown by the text's beginning."""

GRAMMAR = frozenset(
    """
    a about all an and any are as at be been being but by can could did do does for from had has have he her his how i if in into is it
    its just like me more most my no not of on or our out over s she should so some such t than that the their them then there
    these they this those to too up very was we were what when where which while who whom why will with would you your
    """.split()
)
"""English words that nearly every text has: to mark them would hide the others."""

ORNAMENT = re.compile(r"([=\-~^*#_.`+])\1{3,}|``+|\*\*|^[^\S\n]*[#>]+\s|:[a-z]+:(?=`)", re.M)
"""Underlines of headings and other marks of Markdown and reStructuredText that are noise on one line."""

OPEN, CLOSE = "\x02", "\x03"
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
TAGS = re.compile(r"<(?:p|div|br|h[1-6]|ul|ol|li|a|table|span|article|section)\b[^>]*>", re.I)


class Excerpt(NamedTuple):
    """A title and a part of a text as HTML, what was looked for in `<mark>`, and whether anything was found in either."""

    title: Markup
    text: Markup
    found: bool

    @property
    def plain_title(self) -> str:
        """The title without marks."""
        return self.title.striptags()

    @property
    def plain_text(self) -> str:
        """The text without marks."""
        return self.text.striptags()


def excerpts(texts: Sequence[tuple[str, str]], query: str = "") -> list[Excerpt]:
    """Return an excerpt of each (title, text), around the words of a query."""
    shown = [(_line(title), _readable(text)) for title, text in texts]
    wanted = telling(terms(query))
    found = _found(shown, any_of(wanted)) if wanted else {}
    return [_excerpt(title, text, found.get(number)) for number, (title, text) in enumerate(shown)]


def telling(wanted: Sequence[str]) -> list[str]:
    """Return the terms that are worth marking: those that are more than grammar, or all where none is.

    >>> telling(['"how"', '"to"', '"list"', '"plugins"']), telling(['"to"', '"be"'])
    (['"list"', '"plugins"'], ['"to"', '"be"'])
    """
    return [term for term in wanted if term.strip('"').lower() not in GRAMMAR] or list(wanted)


def _excerpt(title: str, text: str, marked: tuple[str, str] | None) -> Excerpt:
    title, text = marked or (title, _beginning(text))
    return Excerpt(_html(title), _html(text), marked is not None)


def _found(texts: Sequence[tuple[str, str]], expression: str) -> dict[int, tuple[str, str]]:
    """Return the number of each text that holds what is looked for, with its title and excerpt, marked."""
    with closing(sqlite3.connect(":memory:")) as conn:
        if not supported(conn):
            return {}
        conn.execute(f"create virtual table texts using fts5(title, body, tokenize='{TOKENIZER}')")
        conn.executemany(
            "insert into texts (rowid, title, body) values (?, ?, ?)",
            [(number, title, text) for number, (title, text) in enumerate(texts)],
        )
        rows = conn.execute(
            "select rowid, highlight(texts, 0, ?1, ?2), snippet(texts, 1, ?1, ?2, ' … ', ?3) from texts where texts match ?4",
            [OPEN, CLOSE, EXCERPT_WORDS, expression],
        )
        return {number: (title, text) for number, title, text in rows}


def _readable(text: str) -> str:
    """Return a text on one line, of HTML its words."""
    text = text[:LOOKED_AT_CHARACTERS]
    return _line(ORNAMENT.sub(" ", templating.strip_html(text) if TAGS.search(text) else text))


def _line(text: str) -> str:
    return " ".join(CONTROL.sub(" ", text).split())


def _beginning(text: str) -> str:
    words = text.split(" ", EXCERPT_WORDS)
    return text if len(words) <= EXCERPT_WORDS else " ".join(words[:EXCERPT_WORDS]) + " …"


def _html(text: str) -> Markup:
    from markupsafe import Markup, escape

    return Markup(str(escape(text)).replace(OPEN, "<mark>").replace(CLOSE, "</mark>"))  # noqa: S704 (escaped)
