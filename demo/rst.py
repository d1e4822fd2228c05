"""reStructuredText as HTML by docutils, with what only Sphinx knows shown as well as can be without Sphinx."""

from __future__ import annotations

import re
from collections import defaultdict
from textwrap import dedent, indent
from typing import ClassVar

from docutils import nodes
from docutils.core import publish_doctree, publish_from_doctree
from docutils.parsers.rst import Directive, directives, roles
from docutils.parsers.rst.languages import en

SETTINGS = {
    "raw_enabled": False,
    "file_insertion_enabled": False,
    "_disable_config": True,
    "report_level": 5,
    "halt_level": 5,
    "doctitle_xform": False,
    "initial_header_level": 2,
    "id_prefix": "s-",
    "auto_id_prefix": "s-",
    "syntax_highlight": "none",
    "smart_quotes": False,
    "embed_stylesheet": False,
    "math_output": "HTML",
}

HIDDEN = {
    *("currentmodule", "py:currentmodule", "module", "automodule", "highlight", "contents", "index", "meta", "toctree"),
    *("image", "figure", "rst-class", "only", "testsetup", "testcleanup", "include", "literalinclude", "cog"),
    *("raw", "settingslist", "jinja:nodes", "jinja:filters", "jinja:tests", "mermaid", "towncrier-draft-entries"),
}
"""Directives that show nothing on a page by itself."""

CODE = {
    **dict.fromkeys(("doctest", "testcode", "testoutput", "ipython"), "pycon"),
    **dict.fromkeys(("code", "code-block", "sourcecode", "productionlist"), ""),
    **dict.fromkeys(("click:example", "click:run"), "python"),
}
"""Directives that hold code, and its language where they do not name one."""

HEADINGS = {
    "versionadded": "New in",
    "versionchanged": "Changed in",
    "deprecated": "Deprecated since",
    "seealso": "See also",
}


def heading(name: str, argument: str) -> tuple[str, str]:
    """Return what stands above a directive's content, and what of its argument is content.

    >>> heading("versionadded", "2.0 For tables"), heading("note", "So."), heading("tab", "Linux")
    (('New in 2.0', 'For tables'), ('Note', 'So.'), ('Linux', ''))
    """
    if name.startswith(("version", "deprecated")):
        version, _, text = argument.partition(" ")
        return f"{HEADINGS[name]} {version}", text
    if name in TITLED:
        return argument, ""
    return HEADINGS.get(name, "" if name in PLAIN else name.capitalize()), argument


TITLED = {"admonition", "tab", "group-tab"}
PLAIN = {"tabs", "glossary"}
"""Directives whose argument is a title, and those that only hold others."""


def html(text: str, title: str = "") -> str:
    """Return the HTML of reStructuredText without the heading that repeats *title*, not yet made safe."""
    return publish(parse(text), title)


def parse(text: str) -> nodes.document:
    """Return the document, every directive and role in it made known to docutils first."""
    for name in set(re.findall(r"^ *\.\. ([\w:.+-]+)::", text, re.MULTILINE)):
        if name in HIDDEN | CODE.keys() | TITLED or not known(name):
            directives.register_directive(name, Loose)
    for name in {"", *re.findall(r":([a-z][\w:.+-]*):`", text)}:
        roles.register_local_role(name, role)
    document = publish_doctree(text, settings_overrides=SETTINGS)
    if language := re.search(r"^\.\. highlight:: *(\S+)", text, re.MULTILINE):
        for node in document.findall(nodes.literal_block):
            node["classes"] = node["classes"] or [f"language-{language[1]}"]
    return document


def known(name: str) -> bool:
    """Return whether docutils has a directive of its own of this name."""
    return name in en.directives and name != "class"  # which is one of Python to Sphinx


def publish(document: nodes.document, title: str) -> str:
    """Return the HTML of a document."""
    for kind in (nodes.system_message, nodes.comment, nodes.image):
        for node in list(document.findall(kind)):
            node.parent.remove(node)
    for node in list(document.findall(nodes.problematic)):
        node.parent.replace(node, nodes.Text(node.astext().strip("`_|*")))
    for node in list(document.findall(nodes.enumerated_list)):
        if not node.astext().strip():  # a cell of a table that holds nothing but (1)
            number = f"({node.get('start', 1)})"
            node.parent.replace(node, nodes.paragraph(number, number))
    first = next(document.findall(nodes.title), None)
    if first is not None and same(first.astext(), title):
        section = first.parent
        section.remove(first)
        section.parent.replace(section, section.children)
    whole = str(publish_from_doctree(document, writer="html5", settings_overrides=SETTINGS), "utf-8")
    return whole.partition("<body")[2].partition(">")[2].rpartition("</body>")[0]


class Loose(Directive):  # type: ignore[misc]
    """A directive of Sphinx: code, a note, or the signature of an object over its description."""

    optional_arguments = 1
    final_argument_whitespace = True
    has_content = True

    option_spec: ClassVar = defaultdict(lambda: directives.unchanged, name=directives.unchanged)  # any option

    def run(self) -> list[nodes.Node]:
        """Return what is shown."""
        argument = " ".join(" ".join(self.arguments).split())
        if self.name in HIDDEN:
            return []
        if self.name in CODE:
            return [code("\n".join(self.content), argument or CODE[self.name])]
        if self.name not in HEADINGS.keys() | TITLED | PLAIN and argument:
            return [described(argument, self.nested())]
        title, text = heading(self.name, argument)
        return [note(self.inline(title), [*self.paragraph(text), *self.nested()])]

    def inline(self, text: str) -> list[nodes.Node]:
        """Return a line, parsed."""
        return self.state.inline_text(text, self.lineno)[0] if text else []

    def paragraph(self, text: str) -> list[nodes.Node]:
        """Return the paragraph that a text is, none for no text."""
        return [nodes.paragraph("", "", *self.inline(text))] if text else []

    def nested(self) -> list[nodes.Node]:
        """Return the content, parsed."""
        parent = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, parent)
        return list(parent.children)


def code(text: str, language: str) -> nodes.Node:
    """Return a block of code."""
    return nodes.literal_block(text, text, classes=[f"language-{language}"] if language else [])


def note(title: list[nodes.Node], body: list[nodes.Node]) -> nodes.Node:
    """Return a note under its title, or just what is in it where it has none."""
    return nodes.admonition("", nodes.title("", "", *title), *body) if title else nodes.container("", *body)


def described(signature: str, body: list[nodes.Node]) -> nodes.Node:
    """Return the description of a function, class, setting or the like, under its signature."""
    term = nodes.term("", "", nodes.literal(signature, signature))
    return nodes.definition_list("", nodes.definition_list_item("", term, nodes.definition("", *body)))


PROSE = {"doc", "ref", "term", "gh", "issue", "commit", "rev", "external:ref"}
"""Roles whose text is language; that of all others is a name, and shown as code."""

PREFIXES = {"gh": "#", "issue": "#", "pep": "PEP ", "rfc": "RFC "}


def role(
    name: str,
    rawtext: str,
    text: str,
    *_: object,
    **__: object,
) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """Show a role of Sphinx as its text, without what it leads to."""
    shown = PREFIXES.get(name, "") + re.sub(r"\s*<[^>]*>$", "", nodes.unescape(text)).lstrip("~!")
    return [nodes.Text(shown) if name in PROSE | PREFIXES.keys() else nodes.literal(rawtext, shown)], []


def same(title: str, other: str) -> bool:
    """Return whether two titles have the same words, whatever their markup."""
    return re.sub(r"\W+", "", title) == re.sub(r"\W+", "", other)


# Python's language reference, as pydoc has it: Sphinx wrote it as text

QUOTED = re.compile(r'"([ -~]+?)"')
HIDE = 0xE000
"""Characters of quoted code are moved here, one for one so that tables keep their columns, while docutils reads."""


def pydoc(text: str, title: str) -> str:
    """Return the HTML of a topic of pydoc, not yet made safe."""
    text = re.sub(r"^\|(=[=|]*=)\|$", lambda match: match[0].replace("|", "+"), text, flags=re.MULTILINE)
    text = re.sub(r"\*(\w)\*(th\b|s\b)", r"\1\2  ", text)  # *i*th, which is no emphasis, as wide as it was
    text = "\n\n".join(pydoc_blocks(re.split(r"\n[ \t]*\n", text)))
    document = parse(QUOTED.sub(lambda match: "".join(chr(HIDE + ord(sign)) for sign in match[0]), text))
    for node in list(document.findall(nodes.Text)):
        if isinstance(node.parent, nodes.literal_block):
            node.parent.replace(node, nodes.Text(shown(node)))
        else:
            parts = re.split("([\ue020-\ue07e]+)", node)
            names = [
                nodes.literal("", shown(part)[1:-1]) if n % 2 else nodes.Text(part) for n, part in enumerate(parts)
            ]
            node.parent.replace(node, names)
    for node in list(document.findall(nodes.block_quote)):
        describe(node)
    return publish(document, title)


def describe(quote: nodes.block_quote) -> None:
    """Make a description of what is indented under the signatures of functions."""
    signatures: list[nodes.Node] = []
    place = quote.parent.index(quote)
    while (
        place
        and isinstance(before := quote.parent[place - 1], nodes.paragraph)
        and SIGNATURE.fullmatch(before.astext())
    ):
        place -= 1
        signatures.insert(0, before)
    if signatures:
        terms = [nodes.term("", "", nodes.literal("", one.astext())) for one in signatures]
        item = nodes.definition_list_item("", *terms, nodes.definition("", *quote.children))
        quote.parent[place : place + len(signatures) + 1] = [nodes.definition_list("", item)]


SIGNATURE = re.compile(
    r"(?:class |async |classmethod |static )*[\w.]+(?:\(.*\))?|\w+[^\w\s]{1,2}\w+|[\w.]+ = .*|\w\[.*\]", re.DOTALL
)


def pydoc_blocks(blocks: list[str]) -> list[str]:
    """Return the blocks of a page with grammar and code marked as such."""
    marked: list[str] = []
    for block, following in zip(blocks, [*blocks[1:], ""], strict=True):
        if "::=" in block and not "".join(marked[-1:]).endswith("::"):
            marked.append("::\n\n" + indent(dedent(block), "   "))
        else:
            code_follows = block.endswith(":") and indentation(following) >= indentation(block) + 3
            marked.append(f"{block}:" if code_follows else block)
    return marked


def indentation(block: str) -> int:
    """Return how far the first line of a block is indented."""
    line = block.lstrip("\n").partition("\n")[0]
    return len(line) - len(line.lstrip())


def shown(text: str) -> str:
    """Return text with hidden characters in their own place again."""
    return "".join(chr(ord(sign) - HIDE) if HIDE <= ord(sign) < HIDE + 128 else sign for sign in text)
