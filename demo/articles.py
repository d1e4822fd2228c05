"""Table `articles`: pages of real documentation, from source distributions on PyPI and from Python itself.

`make demo-build` downloads the distributions that requirements/corpus.txt pins; they are read here as they
are, without being unpacked or installed. Python's own language reference comes with Python (the module
`pydoc_data`), so those pages differ a little between versions of Python.
"""

from __future__ import annotations

import platform
import re
import tarfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

CORPUS = Path(__file__).parent / "cache"
"""Where the source distributions are."""

MINIMUM_WORDS = 200
"""Shorter pages are stubs and tables of contents: nothing to relate."""

APPARATUS = {
    *("index", "changes", "changelog", "news", "release-notes", "license", "contributing", "code_of_conduct"),
    *("sponsorship", "api", "api-attr", "reference"),
}
"""Pages of many projects that are lists, rules for contributors or directives which only Sphinx can fill."""

TABLE = """
create table articles (
    id text primary key,
    title text not null,
    project text not null,
    topic text not null,
    body text not null,
    words integer not null,
    licence text not null,
    source text not null,
    html text not null
)
"""

Row = tuple[str, str, str, str, str, int, str, str, str]


class Project(NamedTuple):
    """One project whose documentation is read: its name, what it is about, its licence (SPDX)."""

    name: str
    topic: str
    licence: str


PROJECTS = {
    "attrs": Project("attrs", "data classes", "MIT"),
    "click": Project("Click", "command line", "BSD-3-Clause"),
    "flask": Project("Flask", "web", "BSD-3-Clause"),
    "jinja2": Project("Jinja", "templates", "BSD-3-Clause"),
    "marshmallow": Project("marshmallow", "data classes", "MIT"),
    "packaging": Project("packaging", "packaging", "Apache-2.0 OR BSD-2-Clause"),
    "scrapy": Project("Scrapy", "scraping", "BSD-3-Clause"),
    "sqlite_utils": Project("sqlite-utils", "databases", "Apache-2.0"),
    "starlette": Project("Starlette", "web", "BSD-3-Clause"),
    "structlog": Project("structlog", "logging", "MIT OR Apache-2.0"),
    "werkzeug": Project("Werkzeug", "web", "BSD-3-Clause"),
}
"""Source distribution -> project; the licences are those of the distributions' own licence files."""

PYTHON = Project("Python", "language", "PSF-2.0")


def rows() -> Iterator[Row]:
    """Yield the rows of the table, in an order that does not depend on the machine."""
    for distribution, project in PROJECTS.items():
        yield from distribution_rows(archive(distribution), project)
    yield from python_rows()


def archive(distribution: str) -> Path:
    """Return the downloaded source distribution, of which there must be exactly one."""
    found = sorted(CORPUS.glob(f"{distribution}-*.tar.gz"))
    if len(found) != 1:
        raise FileNotFoundError(
            f"{len(found)} source distributions of {distribution} in {CORPUS} where one is expected: "
            "`make demo-build` downloads them"
        )
    return found[0]


def distribution_rows(path: Path, project: Project) -> Iterator[Row]:
    """Yield one row for each page of the folder docs/ of a source distribution."""
    with tarfile.open(path) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            root, *parts = PurePosixPath(member.name).parts
            file = tar.extractfile(member)
            if file and is_page(parts):
                text = file.read().decode("utf-8")
                page = PurePosixPath(*parts[1:]).with_suffix("")
                yield from row(project, page, text, source=f"{root}/{'/'.join(parts)}")


def is_page(parts: list[str]) -> bool:
    """Return whether a path inside a distribution is a page of documentation worth reading.

    >>> is_page(["docs", "deploying", "nginx.rst"])
    True
    >>> is_page(["docs", "changes.rst"]), is_page(["src", "nginx.rst"])
    (False, False)
    """
    name = PurePosixPath(*parts)
    return parts[:1] == ["docs"] and name.suffix in {".md", ".rst"} and name.stem not in APPARATUS


def python_rows() -> Iterator[Row]:
    """Yield one row for each topic of Python's language reference that this Python carries."""
    from pydoc_data.topics import topics

    for name, text in sorted(topics.items()):
        yield from row(PYTHON, PurePosixPath(name), text, source=f"Python {platform.python_version()}, pydoc_data")


def row(project: Project, page: PurePosixPath, text: str, source: str) -> Iterator[Row]:
    """Yield the row of one page, or nothing where the page is too short."""
    from demo.markup import to_html

    title, body = split_title(plain(text))
    words = len(body.split())
    if words >= MINIMUM_WORDS:
        title = title or page.stem.replace("-", " ").capitalize()
        name = f"{project.name.lower()}/{page}"
        html = to_html(text, "md" if source.endswith(".md") else "rst" if source.endswith(".rst") else "pydoc", title)
        yield name, title, project.name, project.topic, body, words, project.licence, source, html


HEADING = re.compile(
    r"""\A\s*
    (?:\#\ (?P<markdown>.+)\n            # '# Title'
    |(?:([=*\-~\#])\2+\ *\n)?            # an overline, where there is one
     \ *(?P<rst>\S.*)\n([=*\-~\#^])\4{2,}\ *\n)  # 'Title' over a row of signs
    """,
    re.VERBOSE,
)


def split_title(text: str) -> tuple[str, str]:
    r"""Return the title of a page, empty where it has none, and the rest.

    >>> split_title("nginx\n=====\n\nA server.")
    ('nginx', 'A server.')
    >>> split_title("# Prompts\n\nClick asks.")
    ('Prompts', 'Click asks.')
    >>> split_title("No title here.")
    ('', 'No title here.')
    """
    match = HEADING.match(text)
    if not match:
        return "", text.strip()
    title = match["markdown"] or match["rst"]
    return re.sub(r'[`"*]', "", title).strip(), text[match.end() :].strip()


UNSEEN = r"(?:py:)?(?:currentmodule|module|highlight|contents|index|meta|toctree|image|rst-class|only|testsetup)"
"""Directives that show nothing in a page of text."""

MARKUP = [
    (re.compile(r"\A---\n.*?\n---\n", re.DOTALL), ""),  # front matter
    (re.compile(r"<!--.*?-->", re.DOTALL), ""),
    (re.compile(r"^ *\.\. [|_].*\n(?: +\S.*\n)*", re.MULTILINE), ""),  # link targets and substitutions
    (re.compile(rf"^( *)\.\. {UNSEEN}::.*\n(?:\1 +\S.*\n| *\n(?=\1 +\S))*", re.MULTILINE), ""),
    (re.compile(rf"^(`{{3,}}|:{{3,}})\{{{UNSEEN}\}}.*?^\1 *\n", re.MULTILINE | re.DOTALL), ""),
    (re.compile(r"^\([\w.:-]+\)= *\n", re.MULTILINE), ""),  # (label)=
    (re.compile(r"[:{][a-z][\w:.+-]*[:}]`[~!]?([^`<]+?)\s*(?:<[^`>]*>)?`"), r"\1"),  # :doc:`x`, {func}`x`
    (re.compile(r"(?<!`)`([^`<]+?)\s+<[^`>]*>`_{0,2}"), r"\1"),  # `text <https://...>`_
    (re.compile(r"(?<![`\w])`([^`<\n]+)`__?(?!\w)"), r"\1"),  # `text`_
    (re.compile(r"\n{3,}"), "\n\n"),
]
"""What only a documentation builder understands (reStructuredText, MyST), and what the table has instead."""


def plain(text: str) -> str:
    """Return a page without the marks that only a documentation builder understands.

    >>> plain("See :doc:`the guide <guide>` and `nginx`_.")
    'See the guide and nginx.'
    """
    for pattern, replacement in MARKUP:
        text = pattern.sub(replacement, text)
    return text
