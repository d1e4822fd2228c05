"""The map in a browser: what is pointed at, opened, chosen, searched and coloured; by pointer, touch and keys; and what is left without a script."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from datasette.utils import tilde_encode
from serving import DRAWING, HOSTILE, make_site, running_browser, served
from test_browser import CONTRAST, PROVOKE, UNLABELLED, WCAG, assert_readable, tab_until, visiting

from datasette_embeddings.pages.map import BUNDLE

sys.path.insert(0, str(Path(__file__).parent.parent))
from mapped import PLACES as ARTICLES
from mapped import put_map

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser
    from test_browser import Visit

MAP = "/-/embeddings/news/articles/map"
PLACES = {**ARTICLES, "news/hostile" + HOSTILE: (0.0, 0.0)}
LABELS = ("prices, rates", "final, cup", "storm, heat", HOSTILE)

scripted = pytest.mark.skipif(
    not BUNDLE.exists(), reason="the script of the map was not made: npm's registry was not reached"
)


@pytest.fixture(scope="module")
def site(built_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a site whose articles stand at known places."""
    folder = tmp_path_factory.mktemp("map")
    make_site(folder, built_once)
    put_map(folder / "news.db", PLACES, LABELS)
    with served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser(DRAWING) as running:
        yield running


@pytest.fixture(scope="module")
def long_visit(browser: Browser, site: str) -> Iterator[Visit]:
    with visiting(browser, site) as visit:
        yield visit


@pytest.fixture
def visit(long_visit: Visit) -> Visit:
    """A visit to the map, drawn."""
    long_visit.page.goto("about:blank")
    long_visit.page.set_viewport_size({"width": 1280, "height": 800})
    long_visit.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    long_visit.troubles.clear()
    open_map(long_visit)
    return long_visit


def open_map(visit: Visit) -> None:
    visit.go(MAP)
    visit.page.locator(".map-drawn").wait_for()


def pixel(visit: Visit, item: str) -> tuple[float, float]:
    """Return where an item is on the screen before anything was moved, by what the page's JSON says."""
    found = visit.page.request.get(visit.address + MAP + ".json").json()
    box = visit.page.locator("#map-stage").bounding_box()
    border = 1
    width, height = box["width"] - 2 * border, box["height"] - 2 * border
    x0, y0, x1, y1 = found["view"]
    scale = min(width / (1.12 * (x1 - x0)), height / (1.12 * (y1 - y0)))
    x, y = ((at - low) / found["span"] * 65535 for at, low in zip(PLACES[item], found["low"], strict=True))
    left = box["x"] + border + width / 2 + (x - (x0 + x1) / 2) * scale
    top = box["y"] + border + height / 2 - (y - (y0 + y1) / 2) * scale
    return left, top


def listed(visit: Visit) -> list[str]:
    visit.page.locator("#map-found").wait_for()
    return visit.page.locator("#map-found li").all_inner_texts()


@scripted
def test_points_are_drawn_in_their_colours(visit: Visit) -> None:
    """And what is pointed at is told, in its cluster; a click opens it."""
    left, top = pixel(visit, "news/football")
    clip = {"x": left - 3, "y": top - 3, "width": 6, "height": 6}
    assert colour_at(visit, clip) != colour_at(visit, {**clip, "x": left + 60})
    visit.page.mouse.move(left + 2, top + 2)
    visit.page.locator("#map-card .map-title").wait_for()
    assert visit.page.locator("#map-card").inner_text().split("\n\n")[:2] == [
        "Late goal decides the cup final",
        "final, cup",
    ]
    visit.page.mouse.move(left + 60, top + 60)
    visit.page.locator("#map-card").wait_for(state="hidden")
    visit.page.mouse.click(left, top)
    visit.page.wait_for_url("**/news/articles/news~2Ffootball")
    assert visit.unexpected() == []


def colour_at(visit: Visit, clip: dict[str, float]) -> bytes:
    return visit.page.screenshot(clip=clip)


@scripted
def test_dragging_moves_the_map_and_the_wheel_comes_nearer(visit: Visit) -> None:
    left, top = pixel(visit, "news/storm")
    name = visit.page.locator("#map-names span", has_text="storm, heat")
    before = name.bounding_box()
    visit.page.mouse.move(left + 80, top + 80)
    visit.page.mouse.down()
    visit.page.mouse.move(left + 130, top + 110, steps=4)
    visit.page.mouse.up()
    visit.page.wait_for_timeout(500)  # it comes to rest
    after = name.bounding_box()
    assert 30 < after["x"] - before["x"] < 90
    assert 10 < after["y"] - before["y"] < 70
    middle = visit.page.locator("#map-stage").bounding_box()
    x, y = middle["x"] + middle["width"] / 2, middle["y"] + middle["height"] / 2
    from_middle = after["x"] + after["width"] / 2 - x
    visit.page.mouse.move(x, y)
    visit.page.mouse.wheel(0, -20)
    visit.page.wait_for_timeout(300)
    nearer = name.bounding_box()["x"] + after["width"] / 2 - x
    assert nearer / from_middle > 1.05
    visit.page.get_by_role("button", name="the whole map").click()
    assert name.bounding_box() == pytest.approx(before, abs=2)


@scripted
@pytest.mark.parametrize("how", ["shift", "button", "view"])
def test_a_part_is_listed_and_leads_to_the_same_as_sql(visit: Visit, how: str) -> None:
    left, top = pixel(visit, "news/rates")
    right, _ = pixel(visit, "news/inflation")
    if how == "view":
        visit.page.get_by_role("button", name="list what is in view").click()
    else:
        if how == "button":
            visit.page.get_by_role("button", name="choose by a rectangle").click()
        else:
            visit.page.keyboard.down("Shift")
        visit.page.mouse.move(left - 20, top + 20)
        visit.page.mouse.down()
        visit.page.mouse.move(right + 20, top - 90, steps=3)
        visit.page.mouse.up()
        visit.page.keyboard.up("Shift")
    wanted = ["Central bank raises interest rates", "Prices climb again"]
    titles = listed(visit)
    assert sorted(titles) == wanted if how != "view" else len(titles) == 9
    visit.page.locator("#map-found a", has_text="SQL").click()
    visit.page.wait_for_load_state()
    ids = [cell.strip() for cell in visit.page.locator("td.col-title").all_inner_texts()]
    assert sorted(ids) == sorted(titles)
    assert set(parse_qs(urlsplit(visit.page.url).query)) >= {"sql", "x_low", "x_high", "y_low", "y_high"}


@scripted
def test_a_search_lights_up_what_it_finds(visit: Visit) -> None:
    visit.page.get_by_role("searchbox").fill("goal in the cup final")
    visit.page.keyboard.press("Enter")
    assert "Late goal decides the cup final" in listed(visit)
    assert visit.path == MAP
    assert "for “goal in the cup final”" in visit.page.locator("#map-found h2").inner_text()
    left, top = pixel(visit, "news/football")
    box = {"x": left - 8, "y": top - 8, "width": 16, "height": 16}
    lit = colour_at(visit, box)
    visit.page.get_by_role("button", name="Show all again").click()
    visit.page.locator("#map-found").wait_for(state="hidden")
    assert colour_at(visit, box) != lit
    assert visit.unexpected() == []


@scripted
def test_colours_by_a_column(visit: Visit) -> None:
    legend = visit.page.locator("#map-legend")
    assert legend.locator("h2").inner_text() == "Clusters"
    assert legend.locator("a").first.get_attribute("href").endswith("_cluster=articles%3A4")
    visit.page.get_by_label("Colour by").select_option("topic")
    legend.get_by_text("economy").wait_for()
    assert legend.locator("li").all_inner_texts()[0].split() == ["economy", "2"]
    left, top = pixel(visit, "news/rates")
    box = {"x": left - 3, "y": top - 3, "width": 6, "height": 6}
    before = colour_at(visit, box)
    sport = legend.get_by_role("button", name="sport")
    sport.click()
    assert sport.get_attribute("aria-pressed") == "true"
    assert colour_at(visit, box) != before
    sport.click()
    assert colour_at(visit, box) == before


@scripted
def test_by_keys_alone(visit: Visit) -> None:
    """Every control is reached by Tab; arrows move, and the item in the middle is told and opened."""
    visit.page.get_by_label("Colour by").focus()
    canvas = visit.page.locator("#map-canvas")
    tab_until(visit, lambda _: canvas.evaluate("element => element === document.activeElement"), presses=3)
    told = visit.page.locator("#map-told")
    visit.page.wait_for_function("document.getElementById('map-told').textContent")
    assert told.inner_text() == HOSTILE
    for _ in range(12):
        visit.page.keyboard.press("ArrowLeft")
    for _ in range(8):
        visit.page.keyboard.press("ArrowDown")
    visit.page.wait_for_function("document.getElementById('map-told').textContent.startsWith('Central')")
    visit.page.keyboard.press("0")
    visit.page.keyboard.press("l")
    assert len(listed(visit)) == 9
    visit.page.keyboard.press("Escape")
    visit.page.locator("#map-found").wait_for(state="hidden")
    canvas.press("ArrowRight")
    visit.page.locator("#map-card .map-title").wait_for()
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_url("**/news/articles/news~2F*")


@scripted
@pytest.mark.parametrize("width", [1280, 390])
def test_it_can_be_read(visit: Visit, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 800})
    visit.page.get_by_role("button", name="list what is in view").click()
    listed(visit)
    assert visit.ask("document.scrollingElement.scrollWidth") <= width
    assert visit.ask(UNLABELLED, ".content") == []
    assert_readable(visit, ".content", WCAG)
    assert_readable(visit, ".content", CONTRAST)
    assert visit.ask(PROVOKE)
    assert visit.unexpected() == []


@scripted
def test_by_touch(browser: Browser, site: str) -> None:
    """A tap tells, a second one opens."""
    with visiting(browser, site, 390, has_touch=True) as visit:
        open_map(visit)
        visit.page.touchscreen.tap(*pixel(visit, "news/heat"))
        title = visit.page.locator("#map-card .map-title")
        title.wait_for()
        assert title.inner_text() == "Hottest summer on record"
        title.tap()
        visit.page.wait_for_url("**/news/articles/news~2Fheat")


@scripted
def test_a_strict_content_security_policy(browser: Browser, site: str) -> None:
    with visiting(browser, site) as visit:
        visit.page.route("**" + MAP, strictly)
        open_map(visit)
        assert visit.unexpected() == []


def strictly(route: Any) -> None:
    """Answer with a policy that lets nothing run but scripts of the site's own files; Datasette's own menu has one in its page."""
    answer = route.fetch()
    body = answer.text()
    head, found, tail = body.partition("<script>")
    while found:
        body = head + tail.partition("</script>")[2]
        head, found, tail = body.partition("<script>")
    policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:"
    route.fulfill(response=answer, body=body, headers={**answer.headers, "content-security-policy": policy})


@pytest.mark.parametrize("broken", ["script", "webgl", "data"])
def test_the_picture_stays_where_nothing_can_be_drawn(browser: Browser, site: str, broken: str) -> None:
    with visiting(browser, site, java_script_enabled=broken != "script") as visit:
        if broken == "webgl":
            visit.page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
        if broken == "data":
            visit.page.route("**/points.bin*", lambda route: route.abort())
        visit.go(MAP)
        visit.page.wait_for_timeout(0 if broken == "script" else 800)
        points = visit.page.locator(".map-picture a")
        assert points.count() == 9
        assert points.first.is_visible()
        assert visit.page.locator(".map-picture figcaption").is_visible()
        assert not visit.page.locator("#map-canvas").is_visible()
        names = visit.page.locator(".map-picture text").all_text_contents()
        assert "storm, heat" in names
        visit.page.locator("#map-clusters a", has_text="final, cup").wait_for()
        visit.follow(visit.page.locator(f".map-picture a[href$='{tilde_encode('news/rates')}']"))
        assert visit.path == "/news/articles/news~2Frates"
