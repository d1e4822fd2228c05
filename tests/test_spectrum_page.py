"""The page that colours a text between two labels: its numbers, its limits, and that nothing of the text is kept or runs."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import hard
import pytest
from openai_server import OpenAIServer
from test_classification import configure, remote
from test_datasette import make_site
from test_pages import Page
from test_xss import PAYLOADS, Elements

from datasette_embeddings import register
from datasette_embeddings.limits import SPECTRUM_CHARACTERS, SPECTRUM_SENTENCES
from datasette_embeddings.models import get_model

if TYPE_CHECKING:
    from datasette.app import Datasette

pytestmark = pytest.mark.asyncio(loop_scope="module")

HERE = "/-/embeddings/news/articles/spectrum"
TEXT = "The bank raised interest rates.  The striker scored!\n\nRain and wind?"
SENTENCES = ["The bank raised interest rates.", "The striker scored!", "Rain and wind?"]
VALUE = (
    "select round(embed_spectrum(embed_query('articles', ?, 'document'), (select embedding from labels where label = ?), "
    "(select embedding from labels where label = ?)), 6)"
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newsroom's articles with their topics as labels, built."""
    from conftest import make_news

    path = tmp_path_factory.mktemp("site") / "news.db"
    make_news(path)
    config = configure(path)
    hard.run("build", path, "-c", config)
    config.unlink()
    return path


@pytest.fixture(scope="module")
def site(path: Path) -> Datasette:
    """A site that serves them."""
    return make_site(path.parent)


async def data(site: Datasette, status: int = 200, **arguments: str) -> dict[str, Any]:
    """Return the page's JSON."""
    answer = await site.client.get(f"{HERE}.json", params=arguments)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_values_are_those_of_embed_spectrum(site: Datasette, path: Path) -> None:
    """Each sentence has the value that SQL gives it between the same labels, and the average is their mean."""
    found = await data(site, q=TEXT, low="sport", high="economy")
    assert [one["text"] for one in found["sentences"]] == SENTENCES
    assert [TEXT[one["start"] : one["end"]] for one in found["sentences"]] == SENTENCES
    with closing(sqlite3.connect(path)) as conn:
        register(conn)
        wanted = [conn.execute(VALUE, [text, "sport", "economy"]).fetchone()[0] for text in SENTENCES]
        mean = "select avg(embed_spectrum(embedding, (select embedding from labels where label = 'sport'), (select embedding from labels where label = 'economy'))) from embeddings join articles on path = id where topic = ?"
        ends = [conn.execute(mean, [label]).fetchone()[0] for label in ("sport", "economy")]
    assert [one["value"] for one in found["sentences"]] == wanted
    assert wanted[0] > wanted[2] > wanted[1]
    assert found["average"] == pytest.approx(sum(wanted) / 3, abs=1e-6)
    assert [found["low"]["average"], found["high"]["average"]] == pytest.approx(ends, abs=1e-5)
    assert found["labels"] == ["economy", "health", "sport", "weather"]


async def test_the_page_shows_the_text_and_every_number(site: Datasette) -> None:
    """The text stands there as it was given, its blank lines too, each sentence with its number; the SQL of the page gives the same."""
    answer = await site.client.get(HERE, params={"q": TEXT, "low": "sport", "high": "economy"})
    assert answer.status_code == 200
    found = await data(site, q=TEXT, low="sport", high="economy")
    shown = Page(answer.text)
    body = answer.text.split('<div class="embeddings-spectrum">')[1].split("</div>")[0]
    plain = "".join(Page(body).words)
    for one in found["sentences"]:
        plain = plain.replace(f"{one['text']} {one['value']:.2f}", one["text"])
    assert plain == TEXT
    assert f"on average {found['average']:.2f}: 0 is sport, 1 is economy" in shown.text
    assert shown.link("JSON").startswith(f"{HERE}.json?q=")
    sql = urlsplit(shown.link("View and edit SQL"))
    rows = (await site.client.get(f"{sql.path}.json?{sql.query}&_shape=array")).json()
    assert [(row["sentence"], row["spectrum"]) for row in rows] == [
        (one["text"], one["value"]) for one in found["sentences"]
    ]


async def test_a_form_leads_to_an_address_where_the_text_is_short(site: Datasette) -> None:
    """A short text gets an address that can be passed on; a long one is answered at once, and no cache may keep it."""
    short = await site.client.post(HERE, data={"q": TEXT, "low": "sport", "high": "economy"})
    assert short.status_code == 303
    assert parse_qs(urlsplit(short.headers["location"]).query) == {"q": [TEXT], "low": ["sport"], "high": ["economy"]}
    assert (await site.client.get(short.headers["location"])).status_code == 200
    long = await site.client.post(HERE, data={"q": "The striker scored. " * 200})
    assert long.status_code == 200
    assert "200 sentences" in Page(long.text).text
    twin = await site.client.post(f"{HERE}.json", json={"q": TEXT, "low": "sport", "high": "economy"})
    assert twin.headers["cache-control"] == "private, no-store"
    assert twin.json() == await data(site, q=TEXT, low="sport", high="economy")
    elsewhere = await site.client.post(HERE, data={"q": TEXT}, headers={"sec-fetch-site": "cross-site"})
    assert elsewhere.status_code == 403


async def test_limits(site: Datasette) -> None:
    """So many characters are taken, of these so many sentences looked at, k of them where fewer are wanted; what is left out is counted."""
    found = (await site.client.post(f"{HERE}.json", data={"q": "Rain fell. " * (SPECTRUM_SENTENCES + 7)})).json()
    assert (len(found["sentences"]), found["left_out"]) == (SPECTRUM_SENTENCES, 7)
    found = await data(site, q=TEXT, k="2")
    assert ([one["text"] for one in found["sentences"]], found["left_out"]) == (SENTENCES[:2], 1)
    shown = Page((await site.client.get(HERE, params={"q": TEXT, "k": "2"})).text)
    assert "The 1 after them were not looked at." in shown.text
    refused = await site.client.post(f"{HERE}.json", data={"q": "x" * (SPECTRUM_CHARACTERS + 1)})
    assert refused.status_code == 400
    assert f"at most {SPECTRUM_CHARACTERS:,}" in refused.json()["error"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"low": "sports"}, "no label 'sports'; did you mean sport?"),
        ({"low": "sport", "high": "sport"}, "two different labels"),
        ({"k": "0"}, "a number from 1"),
        ({"topic": "sport"}, "'topic' is no argument of this page; it takes q, k, low and high"),
    ],
)
async def test_what_cannot_be_shown_is_said(site: Datasette, arguments: dict[str, str], said: str) -> None:
    """A label that is not there, twice the same one, and other arguments are errors in words."""
    assert said in (await data(site, 400, q=TEXT, **arguments))["error"]
    assert (await site.client.get(HERE, params={"q": TEXT, **arguments})).status_code == 400


async def test_texts_that_say_nothing(site: Datasette) -> None:
    """Without a text the page is a form; a sentence of no known word has no number, and no part in the average."""
    empty = await data(site)
    assert (empty["sentences"], empty["average"]) == ([], None)
    assert (empty["low"]["label"], empty["high"]["label"]) == ("economy", "health")
    assert (await data(site, low="economy", q=" \n "))["sentences"] == []
    found = await data(site, q="The striker scored. 🚆🥖")
    assert found["sentences"][1]["value"] is None
    assert found["average"] == found["sentences"][0]["value"]
    unknown = await site.client.get(HERE, params={"q": "🚆🥖"})
    assert "The model knows no word of this text." in Page(unknown.text).text


async def test_a_collection_without_two_labels_has_no_such_page(built: Path) -> None:
    """It is not found there, and no page leads to it."""
    site = make_site(built.parent)
    assert (await site.client.get(HERE)).status_code == 404
    assert "spectrum" not in (await site.client.get(HERE.removesuffix("/spectrum"))).text


async def test_the_page_of_the_collection_leads_there(site: Datasette) -> None:
    """Where there are labels, it says so."""
    shown = Page((await site.client.get(HERE.removesuffix("/spectrum"))).text)
    assert HERE in [href for _, href in shown.links]


async def test_hostile_texts_and_labels_are_text(tmp_path: Path) -> None:
    """What is pasted, and what labels are called, makes no element and no attribute."""
    from conftest import make_news

    path = tmp_path / "news.db"
    make_news(path)
    labels = [label[:60] for label in PAYLOADS[:4]]
    for number, label in enumerate(labels):
        hard.change(path, ("update articles set topic = ? where rowid % 4 = ?", [label, number]))
    config = configure(path)
    hard.run("build", path, "-c", config)
    config.unlink()
    site = make_site(tmp_path)
    plain = Elements((await site.client.get(HERE, params={"q": "Rain fell. Snow too."})).text)
    for payload in PAYLOADS:
        for low, high in ((labels[0], labels[1]), (labels[2], labels[3])):
            answer = await site.client.get(
                HERE, params={"q": f"Rain {payload} fell. {payload}", "low": low, "high": high}
            )
            after = Elements(answer.text)
            assert answer.status_code == 200
            for tag in ("script", "img", "iframe", "svg", "textarea", "title", "form", "style"):
                count, usual = (sum(n for e, n in found.items() if e[0] == tag) for found in (after.found, plain.found))
                assert count == usual, (payload, tag)
            assert not [e for e in after.found if any(name.startswith("on") for name in e[1:])]
            assert "<script" not in json.dumps(after.comments)


async def test_a_remote_model_reads_within_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All sentences go out in one request, each counts, and where they are more than may be sent none is."""
    from conftest import make_news

    path = tmp_path / "news.db"
    make_news(path)
    with OpenAIServer(dimensions=8) as server:
        monkeypatch.setattr(get_model(hard.MODEL, hard.settings(server)), "remote", True)
        config = remote(path, server, "topic")
        hard.run("build", path, "-c", config, "--yes")
        config.unlink()
        site = make_site(tmp_path, {"models": hard.settings(server), "limits": {"queries_per_minute": 4}})
        before, calls = len(server.texts), server.calls
        refused = await site.client.post(f"{HERE}.json", data={"q": f"{TEXT} {TEXT}"})
        assert refused.status_code == 429
        assert "this would be 6" in refused.json()["error"]
        assert len(server.texts) == before
        shown = await site.client.post(HERE, data={"q": TEXT})
        assert shown.status_code == 200
        assert sorted(server.texts[before:]) == sorted(SENTENCES)
        assert server.calls == calls + 1
        assert "View and edit SQL" not in shown.text
        again = await site.client.post(f"{HERE}.json", data={"q": TEXT})
        assert again.status_code == 429
        assert int(again.headers["retry-after"]) > 0
