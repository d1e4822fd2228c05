"""Pages of documentation as HTML that is safe to print: column `html` of the table `articles`.

docutils (demo/rst.py) and markdown-it-py make HTML of a page, neither of which lets raw HTML through. `Allowed` then writes
it anew and keeps nothing but the elements and attributes named here, so what is printed does not depend on either. Links
lead to the web or to a place on the same page: what a link relative to the documentation meant is not here.
"""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from pygments.lexers import get_lexer_by_name
from pygments.token import Token
from pygments.util import ClassNotFound

from demo import rst

KEPT = {
    *"p section h2 h3 h4 h5 h6 ul ol li dl dt dd blockquote aside br hr".split(),
    *"em strong cite code kbd sub sup a".split(),
    *"table caption thead tbody tr th td".split(),
}
RENAMED = {"h1": "h2", "tt": "code"}
"""A page has one h1, and that is its title."""

SILENT = {"script", "style", "title", "template", "iframe", "object", "svg", "math"}
"""Elements that leave without what is in them; of all others the text stays."""

VOID = {"br", "hr", "img", "input", "meta", "link", "col", "wbr"}

CLASSES = {"admonition", "admonition-title"}

GUESSES = {
    "pycon": re.compile(r"\A>>> "),
    "console": re.compile(r"\A\$ "),
    "python": re.compile(r"^\s*(?:from \S+ import |import \w|(?:async )?def \w+\(|class \w+[(:]|@\w+)", re.MULTILINE),
}
"""What code is that does not say it."""

EMPTY = [re.compile(r"<(p|section|dd)>\s*</\1>\n?"), re.compile(r"</dl>\s*<dl>\n?")]
"""What says nothing, lists of definitions that begin anew for each among it."""

COLOURS = {
    "k": (Token.Keyword, Token.Operator.Word, Token.Name.Tag),
    "s": (Token.Literal.String,),
    "m": (Token.Literal.Number,),
    "c": (Token.Comment,),
    "f": (Token.Name.Function, Token.Name.Class, Token.Name.Decorator, Token.Name.Attribute),
    "p": (Token.Generic.Prompt,),
}
"""Class of a <span> in code -> the tokens that get it; the rest of the code is as it is."""


def to_html(text: str, kind: str, title: str) -> str:
    """Return a page as HTML without its title; *kind* is `rst`, `md` or `pydoc`.

    >>> to_html("Title\\n=====\\n\\nSee :doc:`guide` and `this <javascript:alert(1)>`_, <b>not that</b>.", "rst", "Title")
    '<p>See guide and this, &lt;b&gt;not that&lt;/b&gt;.</p>'
    >>> to_html("# Title\\n\\n[a](https://a.example/) <script>alert(1)</script>", "md", "Title")
    '<p><a href="https://a.example/">a</a> &lt;script&gt;alert(1)&lt;/script&gt;</p>'
    """
    if kind == "md":
        return safe(markdown(text, title))
    return safe(rst.pydoc(text, title) if kind == "pydoc" else rst.html(text, title))


# Markdown, with what MyST and MkDocs add to it

ROLE = re.compile(r"\{([a-z][\w:.+-]*)\}`[~!]?([^`<]+?)\s*(?:<[^`>]*>)?`")
NOTE = re.compile(r"^(?:!!!|\?\?\?\+?) *(\w+)(?: +\"([^\"\n]*)\")? *\n((?: {4}.*\n|[ \t]*\n)*)", re.MULTILINE)
FENCE = re.compile(
    r"^(?P<fence>:{3,}|`{3,})\{(?P<name>[\w:-]+)\}(?P<argument>.*)\n(?P<body>(?:.*\n)*?)(?P=fence)[ \t]*$", re.MULTILINE
)
ANCHOR = re.compile(r'<a href="(https?://[^"\s()]+)"[^>]*>([^<\[\]]+)</a>')
OPTIONS = re.compile(r"\A(?:[ \t]*:[\w-]+:.*\n|---\n(?:.*\n)*?---\n)+")
UNSEEN = [
    re.compile(r"\A---\n.*?\n---\n", re.DOTALL),  # front matter
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"^\([\w.:-]+\)= *\n", re.MULTILINE),  # (label)=
    re.compile(r"^(?:\?{3}\+? abstract|::: ).*\n(?: {4}.*\n|[ \t]*\n)*", re.MULTILINE),  # what mkdocstrings fills in
    re.compile(r"!\[[^]]*\]\([^)]*\)"),
    re.compile(r"^</?[a-z][^>]*> *\n", re.MULTILINE),  # a line that is one tag
]


def markdown(text: str, title: str) -> str:
    """Return the HTML of a page in Markdown, not yet made safe."""
    for pattern in UNSEEN:
        text = pattern.sub("", text)
    text = ANCHOR.sub(r"[\2](\1)", text)
    text = re.sub(r"\A\s*# (.+)\n", lambda match: "" if rst.same(match[1], title) else match[0], text)
    return markdown_blocks(text)


def markdown_blocks(text: str) -> str:
    """Return the HTML of Markdown in which fences may be directives."""
    html, end = [], 0
    text = NOTE.sub(
        lambda match: f":::{{admonition}} {match[2] or match[1].capitalize()}\n{undent(match[3])}:::\n",
        text.rstrip() + "\n",
    )
    for match in FENCE.finditer(text):
        html += [
            plain_markdown(text[end : match.start()]),
            fence(match["name"], match["argument"].strip(), match["body"]),
        ]
        end = match.end()
    return "".join([*html, plain_markdown(text[end:])])


def plain_markdown(text: str) -> str:
    """Return the HTML of Markdown, roles shown as code; HTML in it is text."""
    text = re.sub(r"^ *:{3,}.*\n", "", text, flags=re.MULTILINE)
    return str(parser().render(ROLE.sub(r"`\2`", text)))


def parser() -> MarkdownIt:
    """Return what reads Markdown."""
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def fence(name: str, argument: str, body: str) -> str:
    """Return the HTML of a directive that is written as a fence."""
    if name == "eval-rst":
        return rst.html(body)
    if name in rst.HIDDEN:
        return ""
    body = OPTIONS.sub("", body)
    if name in rst.CODE:
        return f'<pre lang="{escape(argument or rst.CODE[name])}">{escape(body)}</pre>'
    heading, text = rst.heading(name, argument)
    inside = markdown_blocks(f"{text}\n\n{body}")
    heading = parser().renderInline(ROLE.sub(r"`\2`", heading))
    return f'<aside class="admonition"><p class="admonition-title">{heading}</p>{inside}</aside>'


def undent(text: str) -> str:
    """Return text without the four spaces before each line."""
    return re.sub(r"^ {4}", "", text, flags=re.MULTILINE)


# Whatever made it, this is what is printed


def safe(html: str) -> str:
    """Return HTML with nothing in it but what this module allows."""
    parser = Allowed()
    parser.feed(html)
    parser.close()
    return parser.finished()


class Allowed(HTMLParser):
    """Writes HTML anew: elements and attributes that are allowed, links that lead somewhere, code in colours."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []
        self.open: list[tuple[str, str]] = []  # the element as it was, and what closes it
        self.silent = 0
        self.code: list[str] | None = None  # of the <pre> that is open
        self.language = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element, or leave it out."""
        if tag in SILENT:
            self.silent += 1
        if self.code is not None:
            self.language = self.language or language(attrs)
        elif tag == "pre":
            self.code, self.language = [], language(attrs)
        else:
            start, end = element(tag, {name: value or "" for name, value in attrs})
            self.out.append("" if self.silent else start)
            if tag not in VOID:
                self.open.append((tag, "" if self.silent else end))

    def handle_endtag(self, tag: str) -> None:
        """Close an element, and with it what was left open inside."""
        if tag in SILENT:
            self.silent = max(0, self.silent - 1)
        if self.code is not None:
            if tag == "pre":
                code = coloured("".join(self.code), self.language)
                self.out.append(f'<pre tabindex="0"><code>{code}</code></pre>')  # scrolls, so a keyboard must reach it
                self.code = None
        elif any(tag == name for name, _ in self.open):
            while True:
                name, end = self.open.pop()
                self.out.append(end)
                if name == tag:
                    break

    def handle_data(self, data: str) -> None:
        """Write text, or keep it until its code is complete."""
        if self.silent:
            return
        if self.code is not None:
            self.code.append(data)
        else:
            self.out.append(escape(data, quote=False))

    def finished(self) -> str:
        """Return what was written, everything closed."""
        if self.code is not None:
            self.handle_endtag("pre")
        html = "".join([*self.out, *(end for _, end in reversed(self.open))]).strip()
        for pattern in EMPTY:
            html = pattern.sub("", html)
        return html


def element(tag: str, attributes: dict[str, str]) -> tuple[str, str]:
    """Return the start and the end of an element with the attributes that it may have, both empty where it may not be."""
    classes = attributes.get("class", "").split()
    tag = "code" if "literal" in classes else RENAMED.get(tag, tag)
    if tag not in KEPT:
        return "", ""
    kept = {}
    if tag == "a":
        href = target(attributes.get("href", ""))
        if not href:
            return "", ""
        kept["href"] = href
    if tag in {"section", "dt"} and re.fullmatch(r"s-[\w-]+", attributes.get("id", "")):
        kept["id"] = attributes["id"]
    if tag in {"td", "th"}:
        kept |= {n: attributes[n] for n in ("colspan", "rowspan") if re.fullmatch("[0-9]{1,3}", attributes.get(n, ""))}
    if tag == "ol" and re.fullmatch("[0-9]{1,4}", attributes.get("start", "")):
        kept["start"] = attributes["start"]
    classes = [name for name in classes if name in CLASSES]
    if tag == "aside" and not classes:
        return "", ""
    if classes:
        kept["class"] = " ".join(classes)
    start = "".join([f"<{tag}", *(f' {name}="{escape(value)}"' for name, value in kept.items()), ">"])
    if tag in VOID:
        return start, ""
    return (f'<div class="scroll" tabindex="0">{start}', f"</{tag}></div>") if tag == "table" else (start, f"</{tag}>")


def target(href: str) -> str:
    """Return where a link leads if that is on the web or on the same page, else nothing.

    >>> target("https://example.com/"), target("#s-usage"), target("guide.html"), target(" java\\nscript:alert(1)")
    ('https://example.com/', '#s-usage', '', '')
    """
    if re.fullmatch(r"#s-[\w-]+", href):
        return href
    try:
        parts = urlsplit(href.strip())
    except ValueError:
        return ""
    return parts.geturl() if parts.scheme in {"http", "https"} and parts.netloc else ""


def language(attributes: list[tuple[str, str | None]]) -> str:
    """Return the language that an element names, as docutils does (lang="x") or markdown-it (class="language-x")."""
    named = dict(attributes)
    return named.get("lang") or (named.get("class") or "").removeprefix("language-")


def coloured(code: str, language: str) -> str:
    """Return code as HTML; of an unknown language, or of none, without colours."""
    code = code.strip("\n")
    guess = next((name for name, pattern in GUESSES.items() if pattern.search(code)), "")
    try:
        lexer = get_lexer_by_name(language or guess, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return escape(code, quote=False)
    html = []
    for kind, value in lexer.get_tokens(code):
        colour = next((name for name, kinds in COLOURS.items() if any(kind in k for k in kinds)), None)
        text = escape(value, quote=False)
        html.append(f'<span class="{colour}">{text}</span>' if colour else text)
    return "".join(html)
