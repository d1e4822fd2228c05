"""The finder in a browser: walks from picture to picture, a picture of one's own, keys, and all of it without a script."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from serving import HOSTILE, running_browser, served
from test_browser import CONTRAST, PROVOKE, UNLABELLED, WCAG, WIDTHS, assert_readable, tab_until, visiting

sys.path.insert(0, str(Path(__file__).parent.parent))
import finder_site
from pictures import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser
    from test_browser import Visit

FINDER = "/-/embeddings/shop/things/images"

PAGES = {
    "finder": FINDER,
    "similar": f"{FINDER}?like=p-02&price_eur__lt=200",
    "picked": f"{FINDER}?like=p-02&like=p-08&unlike=p-14",
    "words": f"{FINDER}?q=blue+green",
    "phrases": f"{FINDER}?id=p-02&phrase=red&phrase=blue",
    "nothing": f"{FINDER}?q=red&price_eur__lt=0",
    "unknown": f"{FINDER}?q=zzz",
    "collection": "/-/embeddings/shop/things",
    "item": "/-/embeddings/shop/things/item/p-02",
}

DROP = """([data, name, type]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, {type}));
  const fire = (kind) => document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true}));
  fire('dragover');
  const seen = document.body.classList.contains('finder-dropping');
  fire('drop');
  return seen;
}"""

PASTE = """([data, name, type]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, {type}));
  document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: transfer, bubbles: true, cancelable: true}));
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a site with the catalogue, one of whose things has a hostile name."""
    folder = tmp_path_factory.mktemp("finder")
    model = finder_site.build(folder, finder_site.write_eye(tmp_path_factory.mktemp("eye")), {"p-03": HOSTILE})
    plugins = {"plugins": {"datasette-embeddings": finder_site.settings(f"onnx/{model}")}}
    (folder / "metadata.yml").write_text(yaml.safe_dump({**plugins, **finder_site.TABLES}))
    with served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def long_visit(browser: Browser, site: str) -> Iterator[Visit]:
    with visiting(browser, site) as visit:
        yield visit


@pytest.fixture
def visit(long_visit: Visit) -> Visit:
    """A visit on a wide screen in the light, nothing wrong so far."""
    long_visit.page.goto("about:blank")
    long_visit.page.set_viewport_size({"width": WIDTHS[0], "height": 800})
    long_visit.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    long_visit.troubles.clear()
    return long_visit


def query(visit: Visit) -> dict[str, list[str]]:
    return parse_qs(urlsplit(visit.page.url).query)


def shown(visit: Visit) -> list[str]:
    """Return the ids of the pictures of the grid."""
    links = visit.page.locator("#finder-grid .finder-similar").all()
    return [parse_qs(urlsplit(str(link.get_attribute("href"))).query)["like"][0] for link in links]


def broken_pictures(visit: Visit) -> list[str]:
    return visit.ask(
        "[...document.images].filter((one) => one.complete && !one.naturalWidth).map((one) => one.src)",
    )


@pytest.mark.parametrize("name", PAGES)
def test_page(visit: Visit, name: str) -> None:
    visit.go(PAGES[name])
    visit.page.wait_for_load_state("networkidle")
    assert visit.ask("document.querySelectorAll('h1').length") == 1
    visit.ask("document.querySelectorAll('.content details').forEach(one => one.open = true)")
    for width in WIDTHS:
        visit.page.set_viewport_size({"width": width, "height": 800})
        assert visit.ask("document.scrollingElement.scrollWidth") <= width, width
        assert_readable(visit, ".content", CONTRAST)
    assert visit.ask(UNLABELLED, ".content") == []
    assert_readable(visit, ".content", WCAG)
    assert broken_pictures(visit) == []
    assert visit.ask(PROVOKE)
    assert visit.unexpected() == []


@pytest.mark.parametrize("scripts", [True, False], ids=["javascript", "no-javascript"])
def test_three_steps_of_find_similar(browser: Browser, site: str, scripts: bool) -> None:
    """And back, and forward."""
    with visiting(browser, site, java_script_enabled=scripts) as visit:
        visit.go(FINDER)
        steps = [visit.page.url]
        grids = [shown(visit)]
        for _ in range(3):
            item = next(
                i
                for i in grids[-1][1:]
                if i not in [q for s in steps for q in parse_qs(urlsplit(s).query).get("like", [])]
            )
            visit.follow(visit.page.locator("#finder-grid .finder-similar").nth(grids[-1].index(item)))
            assert query(visit)["like"] == [item]
            assert item not in shown(visit)
            assert visit.page.locator(".finder-pick img").get_attribute("alt")
            steps.append(visit.page.url)
            grids.append(shown(visit))
        for place in (2, 1, 0):
            visit.page.go_back()
            assert (visit.page.url, shown(visit)) == (steps[place], grids[place])
        visit.page.go_forward()
        assert (visit.page.url, shown(visit)) == (steps[1], grids[1])
        visit.follow(visit.page.locator(".finder-pick .finder-title a"))
        assert visit.path.startswith("/shop/things/")
        assert visit.unexpected() == []


def test_words_then_cheaper(visit: Visit) -> None:
    """A visitor types words, takes one of what is found, and wants the same for less."""
    visit.go(FINDER)
    visit.page.get_by_label("What should it look like?").fill("red")
    with visit.page.expect_navigation():
        visit.page.keyboard.press("Enter")
    assert shown(visit)[0] == "p-00"
    visit.follow(visit.page.locator(".finder-similar").nth(4))
    price = int(visit.page.locator(".finder-numbers li").first.inner_text().split()[1].rstrip(":"))
    visit.page.locator(".finder-numbers li").first.get_by_role("link", name="less").click()
    visit.page.locator(".embeddings-chip").wait_for()
    assert query(visit)["price_eur__lt"] == [str(price)]
    facts = visit.page.locator("#finder-grid .finder-facts").all_inner_texts()
    assert facts
    assert all(int(fact.split("price_eur ")[1].split()[0]) < price for fact in facts)
    visit.page.get_by_label("colour", exact=True).select_option("red")
    with visit.page.expect_navigation():
        visit.page.get_by_role("button", name="Narrow").click()
    assert (query(visit)["colour"], query(visit)["price_eur__lt"]) == (["red"], [str(price)])
    assert shown(visit)
    assert visit.unexpected() == []


def test_more_and_less_keep_the_place(visit: Visit) -> None:
    """What is picked is added to the address; the page stays where it was scrolled to, and Back takes it off."""
    visit.page.set_viewport_size({"width": 1280, "height": 500})
    visit.go(f"{FINDER}?like=p-02&k=24")
    card = visit.page.locator(".finder-picture").nth(8)
    item = shown(visit)[8]
    more = card.get_by_text("more like this")
    more.scroll_into_view_if_needed()
    before = visit.ask("window.scrollY")
    assert before > 100
    more.click()
    visit.page.wait_for_function("document.querySelectorAll('.finder-pick').length === 2")
    assert query(visit)["like"] == ["p-02", item]
    assert abs(visit.ask("window.scrollY") - before) < 5
    assert visit.page.locator("#finder-told").text_content() == "24 pictures"
    other = shown(visit)[3]
    visit.page.locator(".finder-picture").nth(3).get_by_text("less").click()
    visit.page.wait_for_function("document.querySelectorAll('.finder-pick').length === 3")
    assert query(visit)["unlike"] == [other]
    assert other not in shown(visit)
    visit.page.go_back()
    visit.page.wait_for_function("document.querySelectorAll('.finder-pick').length === 2")
    assert "unlike" not in query(visit)
    visit.page.go_back()
    visit.page.wait_for_function("document.querySelectorAll('.finder-pick').length === 1")
    visit.page.go_forward()
    visit.page.wait_for_function("document.querySelectorAll('.finder-pick').length === 2")
    visit.page.get_by_role("link", name="remove").first.click()
    visit.page.wait_for_function("document.querySelectorAll('.finder-pick').length === 1")
    assert query(visit)["like"] == [item]
    assert visit.unexpected() == []


def test_like_this_but(visit: Visit) -> None:
    """Words beside a picture turn what is found towards them; what was picked and filters stay."""
    visit.go(f"{FINDER}?like=p-00&price_eur__gt=20&k=4")
    assert shown(visit)[0] == "p-02"
    visit.page.get_by_label("Like this, but").fill("blue")
    with visit.page.expect_navigation():
        visit.page.keyboard.press("Enter")
    assert query(visit) == {"like": ["p-00"], "q": ["blue"], "price_eur__gt": ["20"]}
    assert visit.page.get_by_label("What should it look like?").input_value() == ""
    assert visit.page.get_by_label("Like this, but").input_value() == "blue"
    assert shown(visit)[0] != "p-02"
    assert visit.unexpected() == []


def file(data: bytes) -> list[str]:
    return [base64.b64encode(data).decode(), "mine.png", "image/png"]


@pytest.mark.parametrize("how", ["drop", "paste", "choose", "large"])
def test_a_picture_of_ones_own(visit: Visit, how: str) -> None:
    """Dropped, pasted or chosen; similar ones are found, and Back from one of them comes to what was found."""
    visit.go(FINDER)
    noisy = plain("#0000ff", (3000, 2000), "BMP") if how == "large" else plain("blue")
    if how == "drop":
        assert visit.ask(DROP, file(plain("blue")))
    elif how == "paste":
        visit.ask(PASTE, file(plain("blue")))
    else:
        mime = "image/bmp" if how == "large" else "image/png"
        visit.page.get_by_label("Or a picture of your own").set_input_files(
            {"name": "mine", "mimeType": mime, "buffer": noisy}
        )
    own = visit.page.get_by_alt_text("The picture that you sent")
    own.wait_for()
    found = shown(visit)
    assert found[0] == "p-12"
    assert urlsplit(visit.page.url).query == ""
    visit.follow(visit.page.locator("#finder-grid .finder-similar").nth(1))
    assert query(visit)["like"] == [found[1]]
    visit.page.go_back()
    own.wait_for()
    assert shown(visit) == found
    visit.page.reload()
    own.wait_for()
    assert visit.ask("document.querySelector('.finder-pick img').naturalWidth") > 0
    visit.page.go_back()
    visit.page.get_by_text("A few at random").wait_for()
    assert not own.is_visible()
    assert visit.unexpected() == []


def test_what_is_no_picture(visit: Visit) -> None:
    """Is said where a screen reader hears it, and the page stays of use."""
    visit.go(FINDER)
    visit.ask(DROP, [base64.b64encode(b"a,b").decode(), "table.csv", "text/csv"])
    told = visit.page.locator("#finder-told")
    assert "no picture" in told.inner_text()
    assert told.get_attribute("aria-live") == "polite"
    visit.ask(DROP, [base64.b64encode(b"no picture at all").decode(), "mine.png", "image/png"])
    alert = visit.page.get_by_role("alert")
    alert.wait_for()
    assert "o readable image" in alert.inner_text()
    assert shown(visit) == []
    assert visit.page.locator(".finder-similar").count() == 6
    visit.page.route("**/images", lambda route: route.abort())
    visit.ask(PASTE, file(plain("blue")))
    visit.page.wait_for_function("document.getElementById('finder-told').textContent.includes('not looked at')")
    visit.page.unroute("**/images")


def test_without_a_script(browser: Browser, site: str) -> None:
    """A chosen picture is sent by the form, also by who has cookies; filters and what is picked are links."""
    with visiting(browser, site, 390, java_script_enabled=False) as visit:
        visit.go(FINDER)
        visit.page.context.add_cookies([{"name": "other", "value": "1", "url": visit.address}])
        visit.page.get_by_label("Or a picture of your own").set_input_files(
            {"name": "mine.png", "mimeType": "image/png", "buffer": plain("blue")}
        )
        with visit.page.expect_navigation():
            visit.page.locator("#finder-own input[type=submit]").click()
        assert shown(visit)[0] == "p-12"
        assert "no address to share" in visit.page.locator(".finder-pick").inner_text()
        visit.follow(visit.page.locator("#finder-grid .finder-similar").first)
        assert query(visit)["like"] == ["p-12"]
        visit.follow(visit.page.get_by_text("more like this").first)
        assert len(query(visit)["like"]) == 2
        assert visit.unexpected() == []


def test_by_keys_alone(visit: Visit) -> None:
    """Arrows go from picture to picture, as they stand in rows, and Enter finds similar ones."""
    visit.go(f"{FINDER}?q=red")
    focus = tab_until(visit, lambda focus: "like=" in focus["href"], presses=14)
    assert focus["outline"] >= 2
    columns = visit.ask(
        "(all => all.filter((one) => one.offsetTop === all[0].offsetTop).length)([...document.querySelectorAll('.finder-picture')])"
    )
    assert columns > 3
    items = shown(visit)
    visit.page.keyboard.press("ArrowDown")
    visit.page.keyboard.press("ArrowRight")
    visit.page.keyboard.press("ArrowRight")
    visit.page.keyboard.press("ArrowLeft")
    visit.page.keyboard.press("ArrowDown")
    visit.page.keyboard.press("ArrowUp")
    with visit.page.expect_navigation():
        visit.page.keyboard.press("Enter")
    assert query(visit)["like"] == [items[columns + 1]]


def test_nothing_moves_when_pictures_come(browser: Browser, site: str) -> None:
    with visiting(browser, site, 390) as visit:
        visit.page.add_init_script(
            "window.moved = 0; new PerformanceObserver((list) => list.getEntries().forEach((e) => { window.moved += e.value; }))"
            ".observe({type: 'layout-shift', buffered: true})"
        )
        visit.page.route("**/*.webp*", lambda route: route.continue_())
        visit.go(f"{FINDER}?like=p-02")
        visit.page.wait_for_load_state("networkidle")
        assert visit.ask("window.moved") < 0.02


def test_a_strict_content_security_policy(browser: Browser, site: str) -> None:
    """Scripts and styles are files of the site."""
    with visiting(browser, site) as visit:

        def strictly(route: Any) -> None:
            answer = route.fetch()
            body = answer.text()
            head, found, tail = body.partition("<script>")
            while found:
                body = head + tail.partition("</script>")[2]
                head, found, tail = body.partition("<script>")
            policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:"
            route.fulfill(response=answer, body=body, headers={**answer.headers, "content-security-policy": policy})

        visit.page.route("**/images?*", strictly)
        visit.go(f"{FINDER}?like=p-02")
        assert visit.ask(DROP, file(plain("blue")))
        visit.page.get_by_alt_text("The picture that you sent").wait_for()
        assert visit.unexpected() == []
