"""The demonstration's own pages, on whichever line is installed: served as they are, over a few rows."""

from __future__ import annotations

import re
import shutil
import sqlite3
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner
from datasette.app import Datasette

from datasette_embeddings.cli import embeddings
from demo import articles, catalogue, functions, sentences, words

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> \"' & {{ 7 * 7 }}"

PAGES = {
    "jinja/templates": (
        "Template Designer Documentation",
        "Templates inherit a header and footer from a base template.",
    ),
    "flask/templating": ("Templates", "Flask renders templates with a template engine, which inherit a base template."),
    "scrapy/topics/autothrottle": (
        "AutoThrottle extension",
        "Slow down requests so that web sites do not block a spider.",
    ),
    "evil/page": (f"{HOSTILE} title", f"A hostile body: {HOSTILE}"),
}

CODE = "def add_column(table, column): pass"
FUNCTIONS = [
    (
        "db.py:add_column",
        "sqlite_utils",
        "db.py",
        1,
        "add_column",
        "function",
        "def add_column()",
        "Add a column.",
        CODE,
    )
]


@pytest.fixture(scope="module")
def built_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root's site over a few rows, built with the static model; not to be written to."""
    directory = tmp_path_factory.mktemp("demo")
    for name in ("templates", "static"):
        shutil.copytree(ROOT / name, directory / name)
    for name in ("datasette.yml", "settings.json"):
        shutil.copy(ROOT / name, directory)
    configure(directory, lambda metadata: None)
    pages = [
        (name, title, name.partition("/")[0], "web", body, 9, "MIT", f"x/{name}.rst", f"<p>The page of {name}.</p>")
        for name, (title, body) in PAGES.items()
    ]
    tables = [("articles", articles.TABLE, pages), ("functions", functions.TABLE, FUNCTIONS)]
    tables.append(("sentences", sentences.TABLE, list(sentences.rows())[:3]))
    tables.append(("words", words.TABLE, list(words.rows())[:100]))
    drawn = [(*attributes, image) for attributes, image in (catalogue.drawn(catalogue.SEED, n) for n in range(4))]
    tables.append(("catalogue", catalogue.TABLE, drawn))
    with sqlite3.connect(directory / "demo.db") as conn:
        for name, create, rows in tables:
            conn.execute(create)
            conn.executemany(f"insert into {name} values ({', '.join('?' * len(rows[0]))})", rows)
    conn.close()
    result = CliRunner().invoke(embeddings, ["build", str(directory)])
    assert result.exit_code == 0, result.output
    return directory


@pytest.fixture
def demo(built_demo: Path, tmp_path: Path) -> Path:
    """The same site, in a folder of its own."""
    return Path(shutil.copytree(built_demo, tmp_path / "site"))


def configure(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Write the root's metadata.yml, changed, for the models that every environment has."""
    models = {"words": f"words/{words.LIST.with_suffix('.npy')}", "catalogue": f"bridge/{ROOT / 'demo' / 'eye'}"}
    metadata = yaml.safe_load((ROOT / "metadata.yml").read_text())
    for name, collection in metadata["plugins"]["datasette-embeddings"]["collections"].items():
        collection["model"] = models.get(name, "static")
    change(metadata)
    (directory / "metadata.yml").write_text(yaml.safe_dump(metadata))


async def page(directory: Path, path: str) -> str:
    """Return a page, which must answer 200."""
    response = await Datasette(config_dir=directory).client.get(path)
    assert response.status_code == 200, response.text
    return response.text


class Elements(HTMLParser):
    """Reads what elements HTML has, each with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in tags]


SITE = ["/", "/search", "/search?q=base+template", "/demo/articles/jinja~2Ftemplates"]


@pytest.mark.asyncio
@pytest.mark.parametrize("path", SITE)
async def test_pages_of_the_site(built_demo: Path, path: str) -> None:
    """Every page names its language and itself, has one h1, labels its controls and runs no script."""
    html = await page(built_demo, path)
    elements = Elements(html)
    assert html.lstrip().startswith('<!DOCTYPE html>\n<html lang="en">')
    assert re.search("<title>.+</title>", html)
    assert len(elements.all("h1")) == 1
    assert not elements.all("script", "style", "iframe")
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    labels = {attributes.get("for") for attributes in elements.all("label")}
    assert all(attributes["id"] in labels for attributes in elements.all("input") if attributes["type"] != "radio")
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "#content" in [attributes["href"] for attributes in elements.all("a")]


@pytest.mark.asyncio
@pytest.mark.parametrize("path", SITE)
async def test_no_link_is_dead(built_demo: Path, path: str) -> None:
    """Whatever a page of the site links to on this site is there."""
    site = Datasette(config_dir=built_demo)
    html = (await site.client.get(path)).text
    links = {attributes.get("href") for attributes in Elements(html).all("a", "link")}
    here = sorted(link for link in links if link and link.startswith("/"))
    assert len(here) > 5
    assert [link for link in here if (await site.client.get(link)).status_code != 200] == []


@pytest.mark.asyncio
async def test_home_leads_to_everything(built_demo: Path) -> None:
    """The home page searches, shows three collections, what is near a page, sums of words, and the data."""
    html = await page(built_demo, "/")
    assert "<h1>What rows mean</h1>" in html
    for name in ("articles", "functions", "sentences"):
        for link in (f"/search?in={name}", f"/demo/{name}", f"/-/embeddings/demo/{name}"):
            assert f'href="{link}"' in html
    assert 'href="/demo/articles/flask~2Ftemplating"' in html
    assert 'href="/demo/arithmetic_words?q=germany%20%2B%20paris%20-%20france"' in html
    assert 'href="/demo"' in html


@pytest.mark.asyncio
async def test_home_speaks_only_of_what_may_be_seen(demo: Path) -> None:
    """A table that is kept from a visitor is on no page that the visitor gets."""
    configure(demo, lambda metadata: metadata["databases"]["demo"]["tables"]["articles"].update(allow=False))
    html = await page(demo, "/")
    assert "/demo/functions" in html
    assert "articles" not in html
    assert "AutoThrottle" not in html + await page(demo, "/search?q=slow+down+requests")


@pytest.mark.asyncio
async def test_article(built_demo: Path) -> None:
    """An article's page has its text, where it is from, and what is related to it."""
    html = await page(built_demo, "/demo/articles/jinja~2Ftemplates")
    assert "<h1>Template Designer Documentation</h1>" in html
    assert "<p>The page of jinja/templates.</p>" in html
    assert "x/jinja/templates.rst" in html
    assert 'href="/demo/articles/flask~2Ftemplating"' in html
    link = re.search(r'href="([^"]*json[^"]*)">as JSON', html)
    assert link
    row = (await Datasette(config_dir=built_demo).client.get(unescape(link[1]))).json()["rows"][0]
    assert "jinja/templates" in (row.values() if isinstance(row, dict) else row)


def test_related_articles_take_two_lines() -> None:
    """The article's template asks for related articles as the README says, and in no other way."""
    lines = (ROOT / "templates/row-demo-articles.html").read_text()
    two = ['{% set related_items = related("demo", "articles", id) %}', '{% include "embeddings/_related.html" %}']
    assert re.sub(r"\s+", " ", " ".join(two)) in re.sub(r"\s+", " ", lines)
    assert not (ROOT / "templates/embeddings").exists()  # which would stand before the plugin's own


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("where", "q", "found"),
    [
        ("articles", "web sites block spiders", "/demo/articles/scrapy~2Ftopics~2Fautothrottle"),
        ("functions", "column of a table", "/demo/functions/db~2Epy~3Aadd_column"),
        ("sentences", "freedom and trust", "/demo/sentences/1"),
        ("elsewhere", "web sites block spiders", "/demo/articles/scrapy~2Ftopics~2Fautothrottle"),
    ],
)
async def test_search(built_demo: Path, where: str, q: str, found: str) -> None:
    """Each collection can be searched, articles where the choice is none; robots stay away from results."""
    html = await page(built_demo, f"/search?in={where}&q={q.replace(' ', '+')}")
    assert f'href="{found}"' in html
    assert f'value="{q}"' in html
    assert '<meta name="robots" content="noindex">' in html


@pytest.mark.asyncio
async def test_search_without_a_question(built_demo: Path) -> None:
    """An empty search offers questions, and may be indexed."""
    for path in ("/search", "/search?q=", "/search?q=+&in=functions"):
        html = await page(built_demo, path)
        assert 'class="questions"' in html
        assert "noindex" not in html
        assert 'class="results"' not in html


@pytest.mark.asyncio
async def test_search_of_what_is_not_built(demo: Path) -> None:
    """A collection that is not there is said, not an error of the server."""
    with sqlite3.connect(demo / "demo.db") as conn:
        conn.execute("delete from embeddings")
        conn.execute("delete from collections")
    conn.close()
    html = await page(demo, "/search?q=anything")
    assert 'class="notice' in html
    assert "Template Designer Documentation" in await page(demo, "/demo/articles/jinja~2Ftemplates")
    await page(demo, "/")


@pytest.mark.asyncio
async def test_site_without_its_database(demo: Path) -> None:
    """Before the demonstration is built, `datasette .` serves pages that say less."""
    (demo / "demo.db").unlink()
    assert "What rows mean" in await page(demo, "/")
    assert "What are you looking for?" in await page(demo, "/search")


@pytest.mark.asyncio
async def test_hostile_text_is_text(built_demo: Path) -> None:
    """Neither a row nor a question becomes markup or template code."""
    paths = ["/demo/articles/evil~2Fpage", "/search?q=hostile+body", "/demo/articles/jinja~2Ftemplates"]
    for path in [*paths, "/search?in=%3Cscript%3E&q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E%7B%7B7*7%7D%7D"]:
        html = await page(built_demo, path)
        elements = Elements(html)
        assert not elements.all("script", "img"), path
        assert "49" not in re.sub(r"0\.\d+|width=\"\d+\"", "", html)


@pytest.mark.asyncio
async def test_tables_leave_html_out(built_demo: Path) -> None:
    """The style that hides the column is on Datasette's own pages, whose cells have the class that it names."""
    html = await page(built_demo, "/demo/articles")
    assert '"/static/data.css"' in html
    assert "table-articles" in html
    assert 'class="col-html' in html
    assert ".table-articles" in (ROOT / "static/data.css").read_text()


def test_html_is_not_embedded() -> None:
    """What an article means is its title and body."""
    metadata = yaml.safe_load((ROOT / "metadata.yml").read_text())
    assert metadata["plugins"]["datasette-embeddings"]["collections"]["articles"]["columns"] == ["title", "body"]


# Pages as HTML


@pytest.fixture
def to_html() -> Callable[..., str]:
    """What makes HTML of a page, where its libraries are installed (requirements/demo.txt)."""
    pytest.importorskip("docutils")
    pytest.importorskip("markdown_it")
    from demo.markup import to_html

    return to_html


ATTACKS = {
    "rst": [
        ".. raw:: html\n\n   <script>alert(1)</script>\n",
        ".. role:: raw-html(raw)\n   :format: html\n\n:raw-html:`<script>alert(1)</script>`\n",
        ".. include:: /etc/passwd\n",
        ".. csv-table::\n   :file: /etc/passwd\n",
        ".. literalinclude:: /etc/passwd\n",
        ".. image:: x\n   :target: javascript:alert(1)\n",
        '.. image:: x" onerror="alert(1)\n',
        '.. code-block:: "><script>alert(1)</script>\n\n   x\n',
        '.. note:: <script>alert(1)</script>\n   :class: "><script>\n',
        '.. class:: x" onclick="alert(1)\n\ntext\n',
        "`go <javascript:alert(1)>`_ and `on <data:text/html,<script>alert(1)</script>>`__ and javascript:alert(1)\n",
        ".. _go: vbscript:x\n\ngo_ |x|_ :unknown:`<script>` `<img src=x>`\n\n.. |x| image:: javascript:alert(1)\n",
        '.. container:: "><svg/onload=alert(1)>\n\n   x\n',
        ".. math::\n\n   \\href{javascript:alert(1)}{x}\n",
        ".. meta::\n   :http-equiv=refresh: 0; url=javascript:alert(1)\n",
    ],
    "md": [
        "<script>alert(1)</script>\n\n<img src=x onerror=alert(1)>\n",
        "[x](javascript:alert(1)) [y](<java\nscript:alert(1)>) ![z](javascript:alert(1)) <javascript:alert(1)>\n",
        '[x](https://e.example/"onmouseover="alert(1)) [x]: https://e.example "\\" onclick=x"\n',
        '```html"><script>alert(1)</script>\nx\n```\n',
        "```{eval-rst}\n.. raw:: html\n\n   <script>alert(1)</script>\n```\n",
        ":::{note} <script>alert(1)</script>\n<iframe src=javascript:alert(1)>\n:::\n",
        '!!! note "<script>alert(1)</script>"\n    <svg onload=alert(1)>\n',
        '<a href="https://e.example/" onclick="alert(1)">x</a> <a href="javascript:alert(1)">y</a>\n',
    ],
    "pydoc": [
        '"<script>alert(1)</script>" and\n\n   x ::= "<img src=x onerror=alert(1)>"\n',
        "Text:\n\n   <script>alert(1)</script>\n\n.. raw:: html\n\n   <script>alert(1)</script>\n",
    ],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in ATTACKS.items() for text in texts])
def test_markup_of_a_page_is_inert(to_html: Callable[..., str], kind: str, text: str) -> None:
    """Whatever is in a page, its HTML holds no script, no handler, no picture, and no link but to the web."""
    from demo.markup import KEPT

    html = to_html(f"{text}\n\nThe end.\n", kind, "A title")
    for tag, attributes in Elements(html).found:
        assert tag in KEPT | {"pre", "div", "span"}
        assert set(attributes) <= {"href", "id", "class", "colspan", "rowspan", "start", "tabindex"}
        assert re.match(r"https?://|#s-", attributes.get("href") or "#s-")
    assert "root:" not in html
    assert "The end." in html


def test_markup_degrades(to_html: Callable[..., str]) -> None:
    """What only Sphinx knows keeps its text; nothing is said about it, and headings begin below the title."""
    text = (
        "Title\n=====\n\n.. currentmodule:: x\n\nOne :meth:`~a.b` of :ref:`many <few>`.\n\n.. autoclass:: Some\n   :members:\n"
        "\n.. versionadded:: 2.0\n   With *this*.\n\nUsage\n-----\n\nSee `there <there.html>`_ or `that <https://a.example/>`_.\n"
        "\n.. code-block:: python\n   :emphasize-lines: 1\n\n   def f(): pass\n"
    )
    html = to_html(text, "rst", "Title")
    assert html.startswith("<p>One <code>a.b</code> of many.</p>")
    assert "<dt><code>Some</code></dt>" in html
    assert '<p class="admonition-title">New in 2.0</p>\n<p>With <em>this</em>.</p>' in html
    assert '<section id="s-usage">\n<h2>Usage</h2>\n<p>See there or <a href="https://a.example/">that</a>.</p>' in html
    assert (
        '<pre tabindex="0"><code><span class="k">def</span> <span class="f">f</span>(): <span class="k">pass</span></code></pre>'
        in html
    )
    assert not re.search("Title|problematic|System Message|Unknown", html)


def test_markdown_degrades(to_html: Callable[..., str]) -> None:
    """What only MyST or MkDocs knows keeps its text."""
    text = (
        "---\nid: x\n---\n\n(label)=\n# Title\n\nSee {func}`f` and [there](there.md).\n\n```{note}\nMind *this*.\n```\n\n"
        '!!! tip "Quick"\n    Do it.\n\n```{toctree}\nx\n```\n\n## Usage\n\n```python\nx = 1\n```\n'
    )
    html = to_html(text, "md", "Title")
    assert html.startswith("<p>See <code>f</code> and there.</p>")
    assert '<aside class="admonition"><p class="admonition-title">Note</p><p>Mind <em>this</em>.</p>' in html
    assert '<p class="admonition-title">Quick</p><p>Do it.</p>' in html
    assert "<h2>Usage</h2>" in html
    assert '<pre tabindex="0"><code>x = <span class="m">1</span></code></pre>' in html
    assert not re.search(r"Title|toctree|!!!|\{|label", html)


def test_pydoc_becomes_markup(to_html: Callable[..., str]) -> None:
    """In Python's own reference, quoted names and indented code are code, and signatures have descriptions."""
    text = (
        'Title\n*****\n\nThe "x in s" of *s*, as in:\n\n   print("x")\n\nobject.f(self)\n\n   Says "y".\n\n'
        '+-----+-----+\n| A   | B   |\n|=====|=====|\n| "c" | (1) |\n+-----+-----+\n'
    )
    html = to_html(text, "pydoc", "Title")
    assert (
        '<p>The <code>x in s</code> of <em>s</em>, as in:</p>\n<pre tabindex="0"><code>print("x")</code></pre>' in html
    )
    assert "<dl>\n<dt><code>object.f(self)</code></dt>\n<dd><p>Says <code>y</code>.</p>\n</dd>\n</dl>" in html
    assert re.search(r"<th><p>A</p></th>.*<code>c</code>.*\(1\)", html, re.DOTALL)
