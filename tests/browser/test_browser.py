"""Every page in a browser: nothing breaks, everybody can read it and reach all of it, and what others wrote runs nowhere."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import hard
import pytest
from axe_playwright_python.sync_playwright import Axe
from datasette.utils import tilde_decode, tilde_encode
from grouped import put_clusters
from serving import HOSTILE, make_site, running_browser, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

COLLECTION = "/-/embeddings/news/articles"
SEARCH = f"{COLLECTION}/search"
QUERY = "money is worth less"

PAGES = {
    "index": "/-/embeddings",
    "collection": COLLECTION,
    "search": f"{SEARCH}?q={quote_plus(QUERY)}",
    "weak": f"{SEARCH}?q=flibbertigibbet+zorp",
    "filtered": f"{SEARCH}?q=final&topic=sport&k=3",
    "empty": SEARCH,
    "nothing": f"{SEARCH}?q=final&topic=none",
    "ask": f"{COLLECTION}/ask?q=what+happened+at+the+coast%3F",
    "ask-filtered": f"{COLLECTION}/ask?q=who+won+the+final%3F&topic=sport&k=2",
    "ask-empty": f"{COLLECTION}/ask",
    "ask-nothing": f"{COLLECTION}/ask?q=flibbertigibbet+zorp",
    "clusters": f"{COLLECTION}/clusters",
    "item": f"{COLLECTION}/item/news~2Frates",
    "without-vector": f"{COLLECTION}/item/news~2Fempty",
    "row": "/news/articles/news~2Frates",
    "table": "/news/articles?_meaning=money&_facet=topic",
    "cluster": "/news/articles?_cluster=articles:1&_facet=topic",
    "query": "/news/hybrid_articles?q=money",
    "vectors": "/news/embeddings",
    "error": f"{SEARCH}?q=money&k=abc",
}
HOSTILE_ID = tilde_encode("news/hostile" + HOSTILE)
CLUSTERS = [["news/hostile" + HOSTILE, "news/storm", "news/heat"], ["news/rates", "news/inflation"], ["news/tennis"]]
HOSTILE_PATHS = [
    "/-/embeddings",
    COLLECTION,
    f"{SEARCH}?q={quote_plus(HOSTILE)}",
    f"{SEARCH}?q=weather&topic={quote_plus(HOSTILE)}",
    f"{COLLECTION}/ask?q={quote_plus(HOSTILE)}",
    f"{COLLECTION}/ask?q=weather&topic={quote_plus(HOSTILE)}",
    f"{SEARCH}?{quote_plus(HOSTILE)}=1",
    f"{SEARCH}?q=weather&k={quote_plus(HOSTILE)}",
    f"{COLLECTION}/item/{HOSTILE_ID}",
    f"{COLLECTION}/item/news~2Fstorm?k=9",
    f"/-/embeddings/news/{tilde_encode(HOSTILE)}/search",
    f"{COLLECTION}/clusters",
    f"{COLLECTION}/clusters?k={quote_plus(HOSTILE)}",
    "/news/articles?_cluster=articles:1",
    f"/news/articles?_cluster={quote_plus(HOSTILE)}",
    "/news/clusters_articles",
    f"/news/articles/{HOSTILE_ID}",
    "/news/articles/news~2Fstorm",
    f"/news/articles?_meaning={quote_plus(HOSTILE)}",
    f"/news/hybrid_articles?q={quote_plus(HOSTILE)}",
    "/news/embeddings",
]
"""Pages that show what somebody hostile wrote, in a row or in an address."""

WIDTHS = (1280, 390)
HEIGHT = 800

DATASETTES = {"row", "table", "cluster", "query", "vectors", "error"}
"""Pages of Datasette itself, where only what we add to them is ours; 0.65 shows a query's SQL wider than a phone."""

WCAG = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
HEADINGS = {"heading-order": {"enabled": True}, "empty-heading": {"enabled": True}}
CONTRAST = ["color-contrast", "link-in-text-block"]

PROBLEMS = """async ([root, only, rules]) => {
  const found = await axe.run({include: [[root]]}, {resultTypes: ['violations'], runOnly: only, rules});
  return found.violations.flatMap(rule => rule.nodes.map(node => `${rule.id}: ${node.html} ${node.failureSummary}`));
}"""

UNLABELLED = """root => [...document.querySelectorAll(root + ' :is(input, select, textarea, button):not([type=hidden])')]
  .filter(field => !(field.labels?.length || field.ariaLabel || field.textContent.trim() || field.type === 'submit' && field.value))
  .map(field => field.outerHTML)"""

FOCUSED = """() => {
  const element = document.activeElement, style = getComputedStyle(element), box = element.getBoundingClientRect();
  return {
    name: element.name ?? '', href: element.getAttribute('href') ?? '', in_heading: !!element.closest('h3'),
    outline: style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth),
    seen: box.width > 0 && box.top >= 0 && box.bottom <= innerHeight,
  };
}"""

PROVOKE = """() => {
  for (const element of document.querySelectorAll('*'))
    for (const type of ['error', 'load', 'mouseover', 'focus', 'click'])
      if (element['on' + type]) element.dispatchEvent(new Event(type));
  return window.__xss === undefined;
}"""


@pytest.fixture(scope="module")
def site(built_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a site that this environment's Datasette serves."""
    folder = tmp_path_factory.mktemp("site")
    make_site(folder, built_once)
    put_clusters(folder / "news.db", "articles", CLUSTERS, [HOSTILE, "money, rates"], json.dumps([HOSTILE, "money"]))
    hard.change(folder / "news.db", "alter table articles add column year integer")
    hard.change(folder / "news.db", "update articles set year = 2000 + rowid")
    with served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The one browser of all tests here; it closes after them, since Playwright's event loop would stop asynchronous ones."""
    with running_browser() as running:
        yield running


@dataclass
class Visit:
    """A page in a browser of its own, and what went wrong on it."""

    page: Page
    address: str
    troubles: list[str]

    def go(self, path: str) -> None:
        """Open a page of the site."""
        self.page.goto(self.address + path)

    def ask(self, script: str, argument: object = None) -> Any:
        """Return what a script gives in the page."""
        return self.page.evaluate(script, argument)

    @property
    def path(self) -> str:
        """The path of the page that is shown."""
        return self.page.url.removeprefix(self.address).split("?")[0]

    @property
    def title(self) -> str:
        """The page's heading."""
        return self.page.locator("h1").inner_text().strip()

    def result_ids(self) -> list[str]:
        """Return the ids of the results that are listed."""
        links = self.page.locator(".embeddings-result h3 a").all()
        return [tilde_decode(str(link.get_attribute("href")).rsplit("/", 1)[1]) for link in links]

    def follow(self, link: Locator) -> None:
        """Click a link and wait for the page that it leads to."""
        with self.page.expect_navigation():
            link.click()

    def unexpected(self) -> list[str]:
        """Return what went wrong, but for the answer that says that a page asked for is an error."""
        return [trouble for trouble in self.troubles if "status of 400" not in trouble]


@contextmanager
def visiting(browser: Browser, address: str, width: int = WIDTHS[0], **options: Any) -> Iterator[Visit]:
    """Visit the site anew: no cookies, nothing cached."""
    context = browser.new_context(viewport={"width": width, "height": HEIGHT}, **options)
    context.set_default_timeout(10_000)
    page = context.new_page()
    visit = Visit(page, address, [])
    page.on("console", lambda message: message.type == "error" and visit.troubles.append(message.text))
    page.on("pageerror", lambda error: visit.troubles.append(str(error)))
    page.on("requestfailed", lambda request: visit.troubles.append(f"{request.url}: {request.failure}"))
    page.on("response", lambda answer: answer.status > 400 and visit.troubles.append(f"{answer.url}: {answer.status}"))
    page.on("request", lambda asked: asked.url.startswith(address) or visit.troubles.append(f"left for {asked.url}"))
    try:
        yield visit
    finally:
        context.close()


@pytest.fixture(scope="module")
def long_visit(browser: Browser, site: str) -> Iterator[Visit]:
    """One visit, since a page that is opened anew takes longer than most tests."""
    with visiting(browser, site) as visit:
        yield visit


@pytest.fixture
def visit(long_visit: Visit) -> Visit:
    """A visit on a wide screen in the light, nothing wrong so far."""
    long_visit.page.goto("about:blank")
    long_visit.page.set_viewport_size({"width": WIDTHS[0], "height": HEIGHT})
    long_visit.page.emulate_media(color_scheme="light")
    long_visit.troubles.clear()
    return long_visit


@pytest.mark.parametrize("name", PAGES)
def test_page(visit: Visit, name: str) -> None:
    visit.go(PAGES[name])
    assert visit.ask("document.querySelectorAll('h1').length") == 1
    assert name in DATASETTES or visit.ask("document.documentElement.lang") == "en"
    visit.ask("document.querySelectorAll('.content details').forEach(one => one.open = true)")
    for width in WIDTHS:
        visit.page.set_viewport_size({"width": width, "height": 800})
        assert name == "query" or visit.ask("document.scrollingElement.scrollWidth") <= width, width
        if name not in DATASETTES:
            assert_readable(visit, ".content", CONTRAST)
    if name not in DATASETTES or name == "row":
        own = ".embeddings-panel" if name == "row" else ".content"
        assert visit.ask(UNLABELLED, own) == []
        assert_readable(visit, own, WCAG)
    assert visit.unexpected() == []


def assert_readable(visit: Visit, root: str, rules: object) -> None:
    """Assert that a part of a page meets rules of WCAG 2.2, has its headings in order, and has contrast in the dark too."""
    if not visit.ask("'axe' in window"):
        visit.ask(Axe().axe_script)
    visit.page.emulate_media(color_scheme="light")
    assert visit.ask(PROBLEMS, [root, rules, HEADINGS if rules is WCAG else {}]) == []
    visit.page.emulate_media(color_scheme="dark")
    assert visit.ask(PROBLEMS, [root, CONTRAST, {}]) == [], "in the dark"


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_dark_pages_are_ours_only(browser: Browser, site: str, scheme: str, dark: bool) -> None:
    with visiting(browser, site, color_scheme=scheme) as visit:
        for name, ours in [
            ("index", True),
            ("collection", True),
            ("search", True),
            ("ask", True),
            ("clusters", True),
            ("item", True),
            ("row", False),
        ]:
            visit.go(PAGES[name])
            is_dark = brightness(visit.ask("getComputedStyle(document.body).backgroundColor")) < 128
            assert is_dark == (dark and ours), name
        panel = brightness(visit.ask("getComputedStyle(document.querySelector('.embeddings-panel')).backgroundColor"))
        assert panel > 128


def brightness(colour: str) -> float:
    """Return how bright a colour is, 0 to 255."""
    red, green, blue = map(float, re.findall(r"[\d.]+", colour)[:3])
    return 0.299 * red + 0.587 * green + 0.114 * blue


@pytest.mark.parametrize("scripts", [True, False], ids=["javascript", "no-javascript"])
def test_by_keyboard_alone(browser: Browser, site: str, scripts: bool) -> None:
    with visiting(browser, site, java_script_enabled=scripts) as visit:
        visit.go(COLLECTION)
        tab_until(visit, lambda focus: focus["name"] == "q", presses=12)
        visit.page.keyboard.type(QUERY)
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_url("**/search?q=*")
        assert visit.page.get_by_label("What are you looking for?").input_value() == QUERY
        visit.page.get_by_label("What are you looking for?").focus()
        focus = tab_until(visit, lambda focus: focus["in_heading"], presses=3)
        title = visit.page.locator(".embeddings-result h3").first.inner_text()
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_url(f"**{focus['href']}")
        assert title in visit.page.locator("body").inner_text()
        assert visit.page.locator(".embeddings-panel a").count() > 1
        assert visit.unexpected() == []


def tab_until(visit: Visit, reached: Callable[[dict[str, Any]], bool], presses: int) -> dict[str, Any]:
    """Press Tab until the focus is where it should be, in sight and outlined; return what has it."""
    for _ in range(presses):
        visit.page.keyboard.press("Tab")
        focus = visit.ask(FOCUSED)
        if reached(focus):
            assert focus["outline"] >= 2
            assert focus["seen"]
            return focus
    pytest.fail(f"not reached by pressing Tab {presses} times; the focus is on {focus}")


def test_narrowing_a_search(browser: Browser, site: str) -> None:
    with visiting(browser, site, 390, java_script_enabled=False) as visit:
        visit.go(PAGES["search"])
        choice = visit.page.locator(".embeddings-facets a", has_text="economy")
        assert not choice.is_visible()
        visit.page.locator(".embeddings-facets summary").click()
        visit.follow(choice)
        assert sorted(visit.result_ids()) == ["news/inflation", "news/rates"]
        visit.follow(visit.page.locator(".embeddings-chips a"))
        assert len(visit.result_ids()) == 9
    with visiting(browser, site) as visit:
        visit.go(PAGES["search"])
        assert visit.page.locator(".embeddings-facets a", has_text="economy").is_visible()
        assert not visit.page.locator(".embeddings-facets summary").is_visible()


def test_three_steps_of_similar_to_this(visit: Visit) -> None:
    visit.go(PAGES["search"])
    seen: list[str] = []
    for _ in range(3):
        titles = visit.page.locator(".embeddings-result h3").all_inner_texts()
        number = next(n for n, title in enumerate(titles) if title not in seen)
        seen.append(titles[number])
        visit.follow(visit.page.locator(".embeddings-result").nth(number).get_by_text("Similar to this"))
        assert visit.title == seen[-1]
        assert seen[-1] not in visit.page.locator(".embeddings-result h3").all_inner_texts()
    visit.follow(visit.page.get_by_text("Open this row"))
    assert visit.path.startswith("/news/articles/")
    assert visit.unexpected() == []


@pytest.mark.parametrize("name", ["search", "filtered", "item"])
def test_the_sql_gives_the_same(visit: Visit, name: str) -> None:
    visit.go(PAGES[name])
    ids = visit.result_ids()
    assert len(ids) >= 2
    visit.follow(visit.page.get_by_text("View and edit SQL"))
    assert [cell.strip() for cell in visit.page.locator("td.col-id").all_inner_texts()] == ids
    assert visit.unexpected() == []


def test_the_table_has_the_same_rows(visit: Visit) -> None:
    visit.go(PAGES["filtered"])
    ids = visit.result_ids()
    visit.follow(visit.page.get_by_text("As a table"))
    assert sorted(cell.strip() for cell in visit.page.locator("td.col-path").all_inner_texts()) == sorted(ids)


def test_nothing_that_others_wrote_runs(visit: Visit) -> None:
    for path in HOSTILE_PATHS:
        visit.go(path)
        visit.page.mouse.move(300, 300)
        assert visit.ask(PROVOKE), path
        assert visit.ask("document.querySelectorAll('[src*=xss]').length") == 0, path
        assert not [trouble for trouble in visit.troubles if "/xss" in trouble], path


def test_hostile_text_is_shown(visit: Visit) -> None:
    """It is there to be read: so the test above looks at pages that hold it."""
    visit.go(f"{COLLECTION}/item/{HOSTILE_ID}")
    assert visit.title == HOSTILE
    visit.go(f"{SEARCH}?q={quote_plus(HOSTILE)}")
    assert HOSTILE in visit.page.locator(".embeddings-result h3").all_inner_texts()
    assert visit.page.get_by_label("What are you looking for?").input_value() == HOSTILE
