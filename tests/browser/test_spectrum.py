"""The page that colours a text, in a browser: with and without JavaScript, on a phone, in the dark, and with hostile text."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from serving import HOSTILE, make_site, running_browser, served
from test_browser import CONTRAST, PROVOKE, UNLABELLED, WCAG, WIDTHS, assert_readable, visiting

from datasette_embeddings.cli import embeddings
from datasette_embeddings.leaning import TONES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

SPECTRUM = "/-/embeddings/news/articles/spectrum"
TEXT = "The bank raised interest rates.\n\nThe striker scored! Rain fell on the coast."

EVERY_TONE = """tones => {
  for (let tone = 0; tone < tones; tone++) {
    const one = document.createElement('span');
    one.className = 'embeddings-tone-' + tone;
    one.textContent = ' A sentence of this colour. ';
    document.querySelector('.embeddings-spectrum').append(one);
  }
}"""


@pytest.fixture(scope="module")
def site(built_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a site whose articles are labelled by topic, one of them hostile."""
    folder = tmp_path_factory.mktemp("spectrum")
    make_site(folder, built_once)
    database, config = folder / "news.db", folder / "build.json"
    with sqlite3.connect(database) as conn:
        conn.execute("update articles set topic = substr(?, 1, 180) where path like 'news/hostile%'", [HOSTILE])
        conn.execute("update embeddings_collections set owner = 'config'")
    conn.close()
    articles = {"table": "articles", "columns": ["title", "body"], "labels": "topic"}
    config.write_text(json.dumps({"collections": {"articles": articles}}))
    result = CliRunner().invoke(embeddings, ["build", str(database), "-c", str(config)])
    assert result.exit_code == 0, result.output
    config.unlink()
    with served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.mark.parametrize("scripts", [True, False], ids=["javascript", "no-javascript"])
def test_a_text_is_coloured(browser: Browser, site: str, scripts: bool) -> None:
    """From the collection's page to a coloured text and its SQL, by a form that needs no JavaScript."""
    with visiting(browser, site, java_script_enabled=scripts) as visit:
        visit.go(SPECTRUM.removesuffix("/spectrum"))
        visit.follow(visit.page.get_by_text("Colour a text"))
        visit.page.get_by_label("Which text?").fill(TEXT)
        visit.page.get_by_label("From").select_option("sport")
        visit.page.get_by_label("to", exact=True).select_option("economy")
        visit.follow(visit.page.get_by_role("button", name="Colour"))
        assert visit.path == SPECTRUM
        assert visit.title == "Between sport and economy"
        assert visit.page.get_by_label("Which text?").input_value() == TEXT
        shown = visit.page.locator(".embeddings-spectrum > [class*=tone]")
        assert shown.all_inner_texts() == TEXT.replace("\n\n", " ").replace("! ", "!|").replace(". ", ".|").split("|")
        tones = [str(one.get_attribute("class")) for one in shown.all()]
        numbers = [
            float(text) for text in visit.page.locator(".embeddings-spectrum .embeddings-value").all_inner_texts()
        ]
        assert [int(tone[-1]) for tone in tones] == pytest.approx([number * TONES for number in numbers], abs=1.1)
        assert visit.unexpected() == []


def test_everybody_can_read_it(browser: Browser, site: str) -> None:
    """Every step of the scale is readable in the light and in the dark, all has a name, and nothing is wider than a phone."""
    for path in (SPECTRUM, f"{SPECTRUM}?q={TEXT.replace(chr(10), '%0A')}&low=sport&high=weather"):
        with visiting(browser, site) as visit:
            visit.go(path)
            visit.ask("document.querySelectorAll('.content details').forEach(one => one.open = true)")
            assert visit.ask(UNLABELLED, ".content") == []
            assert_readable(visit, ".content", WCAG)
            if "?" in path:
                visit.ask(EVERY_TONE, TONES)
            for width in WIDTHS:
                visit.page.set_viewport_size({"width": width, "height": 800})
                assert visit.ask("document.scrollingElement.scrollWidth") <= width
                assert_readable(visit, ".content", CONTRAST)
            assert visit.unexpected() == []


def test_hostile_text_runs_nowhere(browser: Browser, site: str) -> None:
    """Neither what is pasted nor the label of a hostile row becomes a script."""
    with visiting(browser, site) as visit:
        visit.go(SPECTRUM)
        visit.page.get_by_label("Which text?").fill(f"{HOSTILE} fell. Rain {HOSTILE}")
        visit.page.get_by_label("From").select_option(index=0)
        visit.follow(visit.page.get_by_role("button", name="Colour"))
        assert "script" in visit.page.locator(".embeddings-spectrum").inner_text()
        assert "script" in visit.title
        assert visit.ask(PROVOKE)
        assert visit.unexpected() == []
