"""The page that answers, in a browser, with a chat model: with and without JavaScript, by keyboard, and when things go wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from serving import HOSTILE, SETTINGS, make_site, running_browser, served
from test_browser import CONTRAST, PROVOKE, UNLABELLED, WCAG, assert_readable, visiting

sys.path.insert(0, str(Path(__file__).parent.parent))
from chat_server import ChatServer, delta, hold, reset, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser
    from test_browser import Visit

ASK = "/-/embeddings/news/articles/ask"
ANSWER = "Rain and wind closed roads [1]. It was bad. Nobody knows [7]."
LABEL = "What do you want to know?"
SCRIPTS = pytest.mark.parametrize("scripts", [True, False], ids=["javascript", "no-javascript"])


@pytest.fixture(scope="module")
def chat() -> Iterator[ChatServer]:
    with ChatServer(ANSWER) as server:
        yield server


@pytest.fixture(scope="module")
def site(built_once: Path, tmp_path_factory: pytest.TempPathFactory, chat: ChatServer) -> Iterator[str]:
    """The address of a site that asks the chat server."""
    folder = tmp_path_factory.mktemp("ask")
    make_site(folder, built_once)
    block = {"chat_model": "openai/any", "models": {"openai/any": {"base_url": chat.url}}}
    block["limits"] = {"answers_per_minute": 100}
    (folder / "metadata.yml").write_text(yaml.safe_dump({**SETTINGS, "plugins": {"datasette-embeddings": block}}))
    with served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


def ask(visit: Visit, question: str = "what happened at the coast?") -> None:
    """Ask by keyboard alone."""
    visit.go(ASK)
    visit.page.get_by_label(LABEL).focus()
    visit.page.keyboard.type(question)
    visit.page.keyboard.press("Enter")


def wait_for(visit: Visit, words: str) -> None:
    visit.page.locator("#embeddings-reply", has_text=words).wait_for()


def unexpected(visit: Visit) -> list[str]:
    """Return what went wrong; Chromium now and then calls a streamed answer aborted that was read to its end."""
    return [trouble for trouble in visit.unexpected() if not trouble.endswith("/ask: net::ERR_ABORTED")]


@SCRIPTS
def test_an_answer(browser: Browser, site: str, scripts: bool) -> None:
    """It looks and leads the same, whether it was streamed or came as a page."""
    for width in (1280, 390):
        with visiting(browser, site, width, java_script_enabled=scripts) as visit:
            ask(visit)
            wait_for(visit, "Written by openai/any")
            answer = visit.page.locator(".embeddings-answer").inner_text()
            assert " ".join(answer.replace("[", " [").split()) == (
                "Rain and wind closed roads. [1] It was bad. no source Nobody knows. no source"
            )
            assert visit.page.locator(".embeddings-unsupported").all_inner_texts() == ["It was bad.", "Nobody knows."]
            source = visit.page.locator(".embeddings-answer a")
            assert source.get_attribute("href") == "/news/articles/news~2Fstorm"
            excerpt = visit.page.locator("#embeddings-sources li").first
            assert excerpt.locator("h3").inner_text() == "[1] Storm floods the coast"
            excerpt.locator("summary").click()
            assert excerpt.locator("p").inner_text() == "Heavy rain and wind closed roads and railways."
            if scripts:
                assert visit.ask("document.scrollingElement.scrollWidth") <= width
                assert visit.ask(UNLABELLED, ".content") == []
                assert_readable(visit, ".content", WCAG)
                assert_readable(visit, ".content", CONTRAST)
            visit.follow(source)
            assert visit.path == "/news/articles/news~2Fstorm"
            assert unexpected(visit) == []


def test_sentences_come_as_they_are_written(browser: Browser, site: str, chat: ChatServer) -> None:
    """And asking again gives the first answer up."""
    chat.hung_up.clear()
    chat.script(stream(delta("Roads were closed [1]. And then"), then=hold))
    with visiting(browser, site) as visit:
        ask(visit)
        wait_for(visit, "Roads were closed.")
        assert "And then" not in visit.page.locator("#embeddings-reply").inner_text()
        assert visit.page.locator("#embeddings-sources li").count() > 0
        visit.page.get_by_label(LABEL).press("Enter")
        wait_for(visit, "Written by openai/any")
        assert chat.hung_up.wait(5)
        assert "Roads were closed." not in visit.page.locator("#embeddings-reply").inner_text()


@SCRIPTS
def test_a_cut_answer(browser: Browser, site: str, chat: ChatServer, scripts: bool) -> None:
    chat.script(stream(delta("Roads were closed [1]. And th"), then=reset))
    with visiting(browser, site, java_script_enabled=scripts) as visit:
        ask(visit)
        wait_for(visit, "The answer is not whole")
        assert "And th" in visit.page.locator(".embeddings-answer").inner_text()


@SCRIPTS
def test_nothing_found(browser: Browser, site: str, chat: ChatServer, scripts: bool) -> None:
    before = chat.calls
    with visiting(browser, site, java_script_enabled=scripts) as visit:
        ask(visit, "flibbertigibbet zorp")
        wait_for(visit, "This is not in these documents.")
        assert not visit.page.locator("#embeddings-sources h2").is_visible()
    assert chat.calls == before


@SCRIPTS
def test_a_model_that_obeys_rows_runs_nothing(browser: Browser, site: str, chat: ChatServer, scripts: bool) -> None:
    """What it writes, and what the rows hold, is shown as text; nothing is loaded, and no link is theirs."""
    chat.reply = f"{HOSTILE} ![x](/xss) [y](javascript:void(0)) [1]. <a href='/xss'>z</a> https://evil.example [1]"
    try:
        with visiting(browser, site, java_script_enabled=scripts) as visit:
            ask(visit, HOSTILE)
            wait_for(visit, "Written by openai/any")
            assert "<script>window.__xss = 1</script>" in visit.page.locator(".embeddings-answer").inner_text()
            links = visit.page.locator(":is(#embeddings-reply, #embeddings-sources) a").all()
            assert links
            assert all(str(link.get_attribute("href")).startswith("/news/articles/") for link in links)
            assert visit.page.locator(".embeddings-main :is(img, script, iframe, form)").count() == 0
            if scripts:
                assert visit.ask(PROVOKE)
            assert unexpected(visit) == []
    finally:
        chat.reply = ANSWER


def test_a_refusal_is_the_page_that_says_why(browser: Browser, site: str) -> None:
    """As without the script."""
    with visiting(browser, site) as visit:
        visit.page.route(re.compile("ask$"), refuse_lines)
        ask(visit)
        visit.page.wait_for_load_state()
        wait_for(visit, "Written by openai/any")  # the form was sent as it is without the script


def refuse_lines(route: object) -> None:
    headers = route.request.headers
    route.fulfill(status=429, body="no") if "ndjson" in headers.get("accept", "") else route.continue_()
