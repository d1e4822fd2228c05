"""From a row's columns to the text that is embedded: plain joining, or a sandboxed Jinja template with text filters."""

from __future__ import annotations

import re
from functools import lru_cache
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from datasette_embeddings.errors import ConfigError, SourceError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jinja2.sandbox import ImmutableSandboxedEnvironment

HIDDEN_TAGS = frozenset({"script", "style", "template", "noscript"})
BLOCK_TAGS = frozenset(
    "address article aside blockquote br dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr "
    "li main nav ol p pre section table td th tr ul".split()
)

MARKDOWN = [
    (re.compile(r"^(```|~~~).*$", re.M), ""),
    (re.compile(r"!\[([^\]]*)\]\([^)]*\)"), r"\1"),
    (re.compile(r"\[([^\]]+)\]\([^)]*\)"), r"\1"),
    (re.compile(r"\[([^\]]+)\]\[[^\]]*\]"), r"\1"),
    (re.compile(r"^[ ]{0,3}\[[^\]]+\]:\s+\S+.*$", re.M), ""),
    (re.compile(r"^[ ]{0,3}#{1,6}[ \t]+(.*?)[ \t]*#*$", re.M), r"\1"),
    (re.compile(r"^[ ]{0,3}>\s?", re.M), ""),
    (re.compile(r"^[ ]{0,3}([-*_]\s*){3,}$", re.M), ""),
    (re.compile(r"^([ \t]*)([-*+]|\d+[.)])\s+", re.M), r"\1"),
    (re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1", re.S), r"\2"),
    (re.compile(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])"), r"\1"),
    (re.compile(r"(?<!\w)_(?=\S)([^_\n]+?)(?<=\S)_(?!\w)"), r"\1"),
    (re.compile(r"`+([^`]+)`+"), r"\1"),
    (re.compile(r"\n{3,}"), "\n\n"),
]


class _Text(HTMLParser):
    """Collects what a reader of a page would see."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.hidden += tag in HIDDEN_TAGS
        if tag in BLOCK_TAGS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self.hidden = max(0, self.hidden - (tag in HIDDEN_TAGS))
        if tag in BLOCK_TAGS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)


def strip_html(value: object) -> str:
    """Return the text of HTML: tags, comments, scripts and styles removed, entities resolved, blocks on own lines.

    >>> strip_html("<p>Caf&eacute; <b>au</b> lait</p><script>x()</script><p>2 &lt; 3</p>")
    'Café au lait\\n2 < 3'
    """
    parser = _Text()
    parser.feed(str(value))
    parser.close()
    lines = (re.sub(r"[ \t\r\f\v]+", " ", line).strip() for line in "".join(parser.parts).split("\n"))
    return "\n".join(line for line in lines if line)


OPENED = {
    **{f"h{depth}": f"\n\n{'#' * depth} " for depth in range(1, 7)},
    **dict.fromkeys(("br", "dd", "dt", "tr"), "\n"),
    **{"li": "\n- ", "pre": "\n\n```\n", "td": " ", "th": " "},
}
CLOSED = {**dict.fromkeys(("dd", "dt", "li", "td", "th", "tr"), ""), "pre": "\n```\n\n"}
"""What Markdown has where a tag opens or closes; of other blocks a blank line."""


class _Structured(_Text):
    """Collects a page's text with its structure in Markdown: headings, paragraphs, lists, preformatted text."""

    def __init__(self) -> None:
        super().__init__()
        self.preformatted = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.hidden += tag in HIDDEN_TAGS
        self.preformatted += tag == "pre"
        if tag in BLOCK_TAGS and self.parts[-1:] != [OPENED["li"]]:  # <li><p>
            self.parts.append(OPENED.get(tag, "\n\n"))

    def handle_endtag(self, tag: str) -> None:
        self.hidden = max(0, self.hidden - (tag in HIDDEN_TAGS))
        self.preformatted = max(0, self.preformatted - (tag == "pre"))
        if tag in BLOCK_TAGS:
            self.parts.append(CLOSED.get(tag, "\n\n"))

    def handle_data(self, data: str) -> None:
        if not self.preformatted:
            begins = not self.parts or self.parts[-1].endswith(("\n", " "))
            data = re.sub(r"\s+", " ", data.lstrip() if begins else data)
        if data and not self.hidden:
            self.parts.append(data)


def html_to_markdown(value: object) -> str:
    """Return the text of HTML with its headings, paragraphs, lists and code as Markdown has them, for texts in chunks.

    >>> html_to_markdown("<h2>Tea</h2><p>Boil <b>water</b>.</p><ul><li>cup<li>pot</ul><script>x()</script>")
    '## Tea\\n\\nBoil water.\\n\\n- cup\\n- pot'
    """
    parser = _Structured()
    parser.feed(str(value))
    parser.close()
    lines = (line.rstrip() for line in "".join(parser.parts).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def strip_markdown(value: object) -> str:
    """Return Markdown without its marks: the words of headings, links, emphasis, lists and code stay.

    >>> strip_markdown("# Title\\n\\nSee [the *docs*](https://example.com) for `x_y`")
    'Title\\n\\nSee the docs for x_y'
    """
    text = str(value)
    for pattern, replacement in MARKDOWN:
        text = pattern.sub(replacement, text)
    return text.strip()


def joined(columns: Sequence[str], separator: str = " ") -> Callable[[Mapping[str, object]], str]:
    """Return a renderer that joins columns, by a space as `llm embed-multi` does, so that its hashes agree with ours."""
    return lambda row: separator.join(as_content(row[column]) for column in columns)


def sandbox() -> ImmutableSandboxedEnvironment:
    """Return what templates are read and rendered in: they reach nothing but the row, and have filters of ours."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    environment.filters.update(strip_html=strip_html, html_to_markdown=html_to_markdown, strip_markdown=strip_markdown)
    return environment


@lru_cache(maxsize=64)
def template(source: str, columns: tuple[str, ...]) -> Callable[[Mapping[str, object]], str]:
    """Return a renderer of a Jinja template; raises ConfigError for bad syntax or an unknown column."""
    from jinja2 import TemplateError, meta

    environment = sandbox()
    try:
        parsed = environment.parse(source)
        compiled = environment.from_string(source)
    except TemplateError as error:
        raise ConfigError(f"the template {source!r} is not valid Jinja: {error}") from error
    for name in sorted(meta.find_undeclared_variables(parsed)):
        if name not in columns and name not in environment.globals:
            raise ConfigError(f"the template {source!r} names {name!r}, which is no column; {nearest(name, columns)}")

    def render(row: Mapping[str, object]) -> str:
        try:
            return compiled.render({name: "" if value is None else value for name, value in row.items()})
        except Exception as error:  # whatever a template does to a row, that row has no text, and others have
            raise SourceError(f"the template fails on this row: {error or type(error).__name__}") from error

    return render


@lru_cache(maxsize=64)
def names(source: str) -> tuple[str, ...]:
    """Return the columns that a template reads, in the order of their first appearance; none where it is no valid one.

    >>> names("{{ title }} {% if body %}{{ body|strip_html }}{% endif %}")
    ('title', 'body')
    """
    from jinja2 import TemplateError, meta

    environment = sandbox()
    try:
        found = meta.find_undeclared_variables(environment.parse(source)) - environment.globals.keys()
    except TemplateError:
        return ()
    return tuple(sorted(found, key=lambda name: (source.find(name), name)))


def as_content(value: Any) -> str:  # noqa: ANN401
    """Return a column's value as text; raises SourceError for a BLOB that is no UTF-8 text."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise SourceError("a column holds a BLOB that is no text") from None
    return str(value)
