"""The pages at /-/embeddings, their JSON, and the ways in from Datasette's own pages, on whichever line is installed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sqlite3
import stat
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

import hard
import pytest
import yaml
from datasette.app import Datasette
from datasette.utils import tilde_encode
from openai_server import OpenAIServer
from test_datasette import IS_V1, make_site, rows
from world_of_sources import ODD_IDS

from datasette_embeddings import embedder, register
from datasette_embeddings.errors import ModelError
from datasette_embeddings.models import get_model
from datasette_embeddings.places import find_place

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio(loop_scope="module")

HERE = "/-/embeddings/world"
GOLDEN = Path(__file__).parent / "golden" / "pages.json"
"""What the JSON of every page is, on both lines; written anew by WRITE_GOLDEN=1."""

SETTINGS = {"databases": {"world": {"tables": {"articles": {"facets": ["topic", "words"], "label_column": "title"}}}}}


@pytest.fixture(scope="module")
def site(world_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Datasette:
    """A site of the world that all tests ask which change nothing; starting one takes longer than most of them."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(world_once, folder / "world.db")
    return make_site(folder, **SETTINGS)


class Page(HTMLParser):
    """A page's elements with their attributes, its links by text, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._href: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self._href = dict(attrs).get("href") if tag == "a" else None

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._href is not None:
            self.links.append((data.strip(), self._href))
            self._href = None

    def link(self, words: str) -> str:
        """Return the address of a link."""
        (found,) = {href for text, href in self.links if text == words}
        return found

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


async def page(site: Datasette, path: str, status: int = 200, **cookies: str) -> Page:
    """Return a page of the site."""
    answer = await site.client.get(path, cookies=cookies)
    assert answer.status_code == status, answer.text
    return Page(answer.text)


async def data(site: Datasette, path: str, status: int = 200) -> dict[str, Any]:
    """Return the JSON of an address."""
    answer = await site.client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    return answer.json()


TWINS = {
    "index": ("/-/embeddings", ""),
    "collection": (f"{HERE}/articles", ""),
    "collection of llm": (f"{HERE}/od~2Fd~20na~2Eme~20~3Cb~3E", ""),
    "search without a text": (f"{HERE}/articles/search", ""),
    "search": (f"{HERE}/articles/search", "?q=storm+floods"),
    "search, k": (f"{HERE}/articles/search", "?q=storm+floods&k=2"),
    "search, filters": (f"{HERE}/articles/search", "?q=storm+floods&topic=health&words__gt=600"),
    "search, nonsense": (f"{HERE}/articles/search", "?q=florp+zundle"),
    "search, unknown words": (f"{HERE}/articles/search", "?q=%F0%9F%9A%86"),
    "search, compound": (f"{HERE}/compound/search", "?q=rain"),
    "search, pipe": (f"{HERE}/pipe/search", "?q=rain"),
    "search, query": (f"{HERE}/query/search", "?q=rain"),
    "search, view": (f"{HERE}/seen/search", "?q=rain&topic=weather"),
    "search, llm": (f"{HERE}/od~2Fd~20na~2Eme~20~3Cb~3E/search", "?q=storm"),
    "item": (f"{HERE}/articles/item/news~2Fstorm", ""),
    "item, k": (f"{HERE}/articles/item/news~2Fstorm", "?k=2"),
    "item, computed": (f"{HERE}/titles/item/news~2Fstorm", "?k=2"),
    "item, compound": (f"{HERE}/compound/item/{tilde_encode('a~2Cb~2Fc,1')}", ""),
    "item, pipe": (f"{HERE}/pipe/item/p~2F1", ""),
    "item, odd": (f"{HERE}/odd/item/{tilde_encode(ODD_IDS[6])}", "?k=1"),
}


@pytest.mark.parametrize("kind", TWINS)
async def test_pages_and_their_json(site: Datasette, kind: str) -> None:
    """Every page is there, leads to its JSON, and that is byte for byte what it was, on both lines."""
    path, query = TWINS[kind]
    shown = await page(site, path + query)
    assert shown.link("JSON") == f"{path}.json{query}"
    answer = await site.client.get(f"{path}.json{query}")
    assert answer.status_code == 200
    text = answer.text
    for private in (str(Path(site.get_database("world").path).parent), "datasette_version", "query_ms"):
        assert private not in text
    body = re.sub(r'"built":"[^"]+"', '"built":"..."', text)
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if "WRITE_GOLDEN" in os.environ:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps({**golden, kind: body}, indent=1, sort_keys=True) + "\n")
    else:
        assert body == golden[kind]
    assert answer.json()["ok"] is True


@pytest.mark.parametrize("item", ODD_IDS, ids=range(len(ODD_IDS)))
async def test_odd_ids_lead_back_and_forth(site: Datasette, item: str) -> None:
    """From an item to its row and back, whatever the id holds."""
    body = await data(site, f"{HERE}/odd/item/{tilde_encode(item)}.json")
    assert (body["id"], body["title"], body["state"]) == (item, " ".join(f"Row {item}".split()), "current")
    assert {related["id"] for related in body["related"]} <= set(ODD_IDS) - {item}
    row = await site.client.get(body["url"])
    assert row.status_code == 200
    back = next(href for text, href in Page(row.text).links if text == "More like this")
    assert back == f"{HERE}/odd/item/{tilde_encode(item)}"
    assert urlsplit(body["url"])[:2] == ("", "")
    shown = await page(site, back)
    assert shown.link("Open this row") == body["url"]


@pytest.mark.parametrize(
    "path",
    [
        "/-/embeddings/none/articles",
        f"{HERE}/none",
        f"{HERE}/ARTICLES",
        "/-/embeddings/WORLD/articles",
        f"{HERE}/articles~20",
        f"{HERE}/articles/item/none",
        f"{HERE}/articles/item/NEWS~2Fstorm",
        f"{HERE}/numbers/item/9",
        f"{HERE}/articles~7Enext",
    ],
)
async def test_what_is_not_there(site: Datasette, path: str) -> None:
    """Is not found, as a page and as JSON."""
    for twin in ("", ".json"):
        assert (await site.client.get(path + twin)).status_code == 404


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("k=0", "a number from 1 to 1000; found '0'"),
        ("k=-1", "found '-1'"),
        ("k=x", "found 'x'"),
        ("k=1001", "found '1001'"),
        ("k=1e308", "found '1e308'"),
        ("k=9223372036854775807", "found '9223372036854775807'"),
        ("topik=weather", "'articles' has no column 'topik' to filter by; did you mean topic?"),
        ("words__gtt=1", "there is no filter 'gtt'; did you mean gt?"),
        ("_facet=topic", "'_facet' is no argument of this page"),
        ("_where=1", "'_where' is no argument"),
        ("_sort=topic", "'_sort' is no argument"),
        ("_shape=array", "'_shape' is no argument"),
        ("topic__in=[weather", "the value of a filter cannot be read"),
        ("topic__in=[[1]]", "the value of a filter is a text or a number"),
        ("words__gt=%C2%B2", None),
        ("words__gt=99999999999999999999", None),
        ("words__in=[99999999999999999999]", None),
        ("topic__arraycontains=weather", "malformed JSON"),
        ("q=" + "a" * 8001, "8,001 characters"),
    ],
)
async def test_arguments_that_are_none(site: Datasette, query: str, sentence: str | None) -> None:
    """Are answered with what is wrong and what is near, as a page and as JSON; never with a 500."""
    query = query if query.startswith("q=") else f"q=storm&{query}"
    answer = await site.client.get(f"{HERE}/articles/search.json?{query}")
    shown = await site.client.get(f"{HERE}/articles/search?{query}")
    assert answer.status_code == shown.status_code
    if sentence is None:
        assert answer.status_code in {200, 400}
        return
    assert answer.status_code == 400, answer.text
    assert sentence in answer.json()["error"]
    assert sentence in unescape(shown.text)


async def test_filters_of_what_is_no_table(site: Datasette) -> None:
    """Are refused in words."""
    body = await data(site, f"{HERE}/pipe/search.json?q=storm&topic=weather", 400)
    assert "'pipe' was not made from one table" in body["error"]


FILTERS = [
    "topic=weather",
    "topic=health&k=1",
    "words__gt=350",
    "words__lte=300&k=2",
    "body__contains=the",
    "topic__in=health,sport&k=3",
    'topic__in=["health"]',
    "topic__exact=sport",
    "topic__not=sport&words__gte=200",
    "title__isnull=1",
    "topic__notblank=1&k=8",
    "title__startswith=Storm&topic=weather",
    "topic=nothing",
]


@pytest.mark.parametrize("query", FILTERS)
async def test_filters_keep_the_number(site: Datasette, query: str) -> None:
    """The k best of the rows that Datasette's own filters give, in the order and with the scores of a search of all."""
    k = int(dict(parse_qsl(query)).get("k", 10))
    every = await data(site, f"{HERE}/articles/search.json?q=final+match&k=100")
    plain = "&".join(part for part in query.split("&") if not part.startswith("k="))
    left = {row["path"] for row in await rows(site, f"/world/articles.json?{plain}")}
    wanted = [(hit["id"], hit["score"]) for hit in every["results"] if hit["id"] in left]
    found = await data(site, f"{HERE}/articles/search.json?q=final+match&{query}")
    assert [(hit["id"], hit["score"]) for hit in found["results"]] == wanted[:k]


async def test_columns_whose_names_look_like_arguments(tmp_path: Path, cli: Callable) -> None:
    """Are filtered by their long form, to which facets lead."""
    path = tmp_path / "x.db"
    hard.change(
        path,
        "create table t (id integer primary key, title text, q text, _kind text, a__b text)",
        "insert into t values (1, 'storm', 'xx', 'yy', 'zz'), (2, 'storm', 'uu', 'vv', 'ww')",
    )
    cli("embed", path, "t", "--table", "t", "--column", "title")
    facets = {"facets": ["q", "_kind", "a__b"]}
    site = make_site(tmp_path, databases={"x": {"tables": {"t": facets}}})
    shown = await page(site, "/-/embeddings/x/t/search?q=storm")
    for value in ("xx", "yy", "zz"):
        found = await data(site, shown.link(value).replace("search?", "search.json?"))
        assert [hit["id"] for hit in found["results"]] == ["1"]
        narrowed = await rows(site, "/x/t.json?_meaning=storm&" + shown.link(value).split("q=storm&")[1])
        assert [row["id"] for row in narrowed] == [1]


async def test_facets_narrow_and_widen(site: Datasette) -> None:
    """A value leads to the same search among its rows, and a chosen one back."""
    shown = await page(site, f"{HERE}/articles/search?q=storm&k=3")
    narrow = shown.link("weather")
    assert dict(parse_qsl(urlsplit(narrow).query)) == {"q": "storm", "k": "3", "topic": "weather"}
    narrowed = await page(site, narrow)
    back = {
        href for text, href in narrowed.links if href.startswith(HERE) and text.startswith(("weather", "where topic"))
    }
    assert [dict(parse_qsl(urlsplit(href).query)) for href in back] == [{"q": "storm", "k": "3"}]


async def sql_rows(site: Datasette, address: str) -> list[dict[str, Any]]:
    """Return what Datasette's own SQL page gives at an address, as its JSON; the page itself must be there too."""
    answer = await site.client.get(address, follow_redirects=True)
    assert answer.status_code == 200, answer.text
    path, query = address.split("?", 1)
    return await rows(site, f"{path}.json?{query}")


SQL_PAGES = [
    f"{HERE}/articles/search?q=storm",
    f"{HERE}/articles/search?q=",
    f"{HERE}/articles/search?q=it%27s+%22quoted%22+%3Aid&k=3",
    f"{HERE}/articles/search?q=final&topic=sport&words__gt=100&k=20",
    f"{HERE}/articles/search?q=final&topic__in=sport,health",
    f"{HERE}/compound/search?q=rain&city=a,b/c",
    f"{HERE}/numbers/search?q=rain&kind=x",
    f"{HERE}/untyped/search?q=rain&title__contains=rain",
    f"{HERE}/table_x/search?q=rain&the+id=k+1",
    f"{HERE}/other_key/search?q=rain&slug=s-1",
    f"{HERE}/plain_rows/search?q=rain&title__contains=rain",
    f"{HERE}/seen/search?q=rain&topic=weather",
    f"{HERE}/pipe/search?q=rain",
    f"{HERE}/query/search?q=rain",
    f"{HERE}/od~2Fd~20na~2Eme~20~3Cb~3E/search?q=rain",
    f"{HERE}/articles/search?q=%F0%9F%9A%86",
    f"{HERE}/articles/item/news~2Fstorm",
    f"{HERE}/articles/item/news~2Fstorm?k=3",
    f"{HERE}/articles/item/news~2Fstorm?k=500",
    f"{HERE}/titles/item/news~2Fstorm?k=3",
    f"{HERE}/compound/item/{tilde_encode('a~2Cb~2Fc,1')}",
    f"{HERE}/odd/item/{tilde_encode(ODD_IDS[5])}",
    f"{HERE}/untyped/item/12",
    f"{HERE}/pipe/item/p~2F1",
]


@pytest.mark.parametrize("path", SQL_PAGES)
async def test_sql_of_a_page_gives_the_same(site: Datasette, path: str) -> None:
    """The link "View and edit SQL" leads to Datasette's own page with the same ids and scores in the same order."""
    shown = await page(site, path)
    bare, _, query = path.partition("?")
    body = await data(site, f"{bare}.json?{query}")
    wanted = [(hit["id"], hit["score"]) for hit in body.get("results", body.get("related"))]
    found = await sql_rows(site, shown.link("View and edit SQL"))
    assert [(row["id"], row["score"]) for row in found] == wanted
    if "q=&" not in path and not path.endswith(("q=", "%86")):
        assert wanted


async def test_no_sql_where_it_is_denied(world: Path) -> None:
    """The pages work, and do not lead to a 403."""
    site = make_site(world.parent, settings={"default_allow_sql": False})
    for path in SQL_PAGES:
        assert "View and edit SQL" not in (await page(site, path)).text
    assert (await site.client.get("/-/embeddings/embed.json?text=storm")).status_code == 403


async def test_search_page_shows_what_was_found(site: Datasette) -> None:
    """Title, marked excerpt, score as bar and number, the way to similar rows, and more results."""
    html = (await site.client.get(f"{HERE}/articles/search?q=storms+railway&k=2")).text
    shown = Page(html)
    assert "<mark>Storm</mark> floods the coast" in html
    assert "roads and <mark>railways</mark>" in html
    best = (await data(site, f"{HERE}/articles/search.json?q=storms+railway&k=2"))["results"][0]
    assert f"{best['score']:.3f}" in shown.text
    assert re.search(rf'embeddings-bar"[^/]*"{round(best["score"] * 100)}"', html)
    assert f"{HERE}/articles/item/news~2Fstorm" in [href for _, href in shown.links]
    assert "k=4" in shown.link("More results")
    assert "_meaning=storms+railway" in shown.link("As a table, with facets and CSV")


async def test_weak_matches_say_so(site: Datasette) -> None:
    """Nonsense finds nothing that is called near, a question does; a model without a floor calls nothing weak."""
    nonsense = await data(site, f"{HERE}/articles/search.json?q=florp+zundle")
    assert nonsense["weak"]
    assert "Nothing here is close to that" in (await page(site, f"{HERE}/articles/search?q=florp+zundle")).text
    question = await data(site, f"{HERE}/articles/search.json?q=storm+at+the+coast&k=8")
    assert not question["weak"]
    assert [hit["weak"] for hit in question["results"]] == [
        hit["score"] < question["noise_floor"] for hit in question["results"]
    ]
    shown = await page(site, f"{HERE}/articles/search?q=storm+at+the+coast&k=8")
    assert "Nothing here is close" not in shown.text
    assert shown.text.count("Weak matches") == 1


MEANING = {
    "articles": ("path", "articles"),
    "odd": ("id", "odd"),
    "numbers": ("id", "numbers"),
    "untyped": ("id", "untyped"),
    "my~20table~2Fx": ("the id", "table_x"),
    "other_key": ("slug", "other_key"),
    "compound": (None, "compound"),
    "plain_rows": ("rowid", "plain_rows"),
    "seen": ("path", "seen"),
}


@pytest.mark.parametrize("table", MEANING)
async def test_meaning_narrows_a_table(site: Datasette, world_once: Path, table: str) -> None:
    """`?_meaning=` leaves the rows that embed_hybrid finds and are not weak, for keys of every kind, as HTML, JSON and CSV."""
    key, collection = MEANING[table]
    text = "storm" if table in {"articles", "seen"} else "rain"
    with sqlite3.connect(world_once) as conn:
        register(conn)
        (found,) = conn.execute("select embed_hybrid(?, ?, 100)", [collection, text]).fetchone()
        sql = "select noise_floor from embeddings_collections join collections on id = collection_id where name = ?"
        (floor,) = conn.execute(sql, [collection]).fetchone()
    wanted = {hit["id"] for hit in json.loads(found) if hit["score"] >= floor}
    assert wanted
    path = f"/world/{table}"
    shown = await rows(site, f"{path}.json?_meaning={text}&_size=100")
    ids = [str(row[key]) if key else f"{tilde_encode(row['city'])},{row['number']}" for row in shown]
    assert set(ids) == wanted
    assert len(ids) == len(wanted)
    html = await page(site, f"{path}?_meaning={text}")
    assert f'meaning is near "{text}"' in html.text
    answer = await site.client.get(f"{path}.csv?_meaning={text}&_size=100")
    assert len(list(csv.DictReader(io.StringIO(answer.text)))) == len(wanted)


@pytest.mark.parametrize(
    "query", ["topic=weather", "topic__in=sport,weather&words__gt=200", "title__contains=on", "topic="]
)
async def test_meaning_with_other_filters(site: Datasette, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best are chosen among the rows that the other filters leave, and facets count those."""
    from datasette_embeddings import meaning

    monkeypatch.setattr(meaning, "MEANING_ROWS", 2)
    best = await data(site, f"{HERE}/articles/search.json?q=final&k=2&{query}")
    found = await rows(site, f"/world/articles.json?_meaning=final&{query}")
    assert {row["path"] for row in found} == {hit["id"] for hit in best["results"] if not hit["weak"]}
    extra = "" if not IS_V1 else "&_extra=facet_results"
    body = (await site.client.get(f"/world/articles.json?_meaning=final&{query}&_facet=topic{extra}")).json()
    facets = body["facet_results"]
    facet = (facets.get("results") or facets).get("topic", {"results": []})
    assert sum(entry["count"] for entry in facet["results"]) == len(found)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("notes?_meaning=x", "notes has no embeddings to search"),
        ("articles?_meaning=" + "a" * 8001, "8,001 characters"),
        ("articles?_meaning=x&topik=1", "did you mean topic?"),
    ],
)
async def test_meaning_that_cannot_be_answered(site: Datasette, path: str, sentence: str) -> None:
    """Is refused in words; an empty one is none."""
    assert sentence in (await page(site, f"/world/{path}", 400)).text
    body = await data(site, "/world/" + path.replace("?", ".json?"), 400)
    assert sentence in body["error"]
    assert len(await rows(site, "/world/articles.json?_meaning=")) == 8


PANELS = {
    "articles/news~2Fstorm": ("Related articles", "Related titles"),
    "odd/sl~2Fash": ("Related",),
    "compound/a~2Cb~2Fc,1": ("Related",),
    "numbers/7": ("Related",),
    "my~20table~2Fx/k~201": ("Related",),
    "other_key/1": ("Related",),
    "plain_rows/1": ("Related",),
    "notes/1": (),
    "numbers/9": (),
}


@pytest.mark.parametrize("path", PANELS)
async def test_row_pages_show_what_is_related(site: Datasette, path: str) -> None:
    """One panel for each collection of the table, whose links lead to rows; none where there is no collection."""
    html = (await site.client.get(f"/world/{path}")).text
    asides = re.findall(r'<aside class="embeddings-panel".*?</aside>', html, re.S)
    assert [Page(aside).text for aside in asides] == [
        text for text, start in zip((Page(a).text for a in asides), PANELS[path], strict=True) if text.startswith(start)
    ]
    for aside in asides:
        links = Page(aside).links
        assert len(links) > 2
        for _, href in links:
            assert (await site.client.get(href)).status_code == 200, href


async def test_row_pages_tell_what_is_not_as_it_was(world: Path) -> None:
    """An edited row says so, a new one that it is not embedded yet and what to do, a skipped one why."""
    hard.change(
        world,
        "update articles set title = 'Snow' where path = 'news/storm'",
        "insert into articles (path, title, body) values ('new', 'Flood', 'water')",
        "insert into plain_rows values ('new')",
        "delete from embeddings where id = 'sl/ash'",
        "insert into embeddings_issues select id, 'sl/ash', 'skipped', 'empty', null from collections where name = 'odd'",
    )
    site = make_site(world.parent)
    assert "edited since the last build" in (await page(site, "/world/articles/news~2Fstorm")).text
    assert "edited since" not in (await page(site, "/world/articles/news~2Fheat")).text
    new = (await page(site, "/world/articles/new")).text
    assert "not embedded yet: build again" in new
    assert "not embedded yet" in (await page(site, "/world/plain_rows/3")).text
    assert "no embedding (empty)" in (await page(site, "/world/odd/sl~2Fash")).text
    states = {}
    for item in ("articles/item/news~2Fstorm", "articles/item/news~2Fheat", "articles/item/new", "odd/item/sl~2Fash"):
        states[item] = (await data(site, f"{HERE}/{item}.json"))["state"]
    assert list(states.values()) == ["edited", "current", "new", "skipped"]
    hard.change(world, "delete from articles where path = 'news/storm'")
    assert (await site.client.get(f"{HERE}/articles/item/news~2Fstorm")).status_code in {200, 404}
    assert "Storm" not in (await page(site, f"{HERE}/articles/search?q=storm&k=20")).text.replace("Search", "")


@pytest.mark.parametrize("path", ["/world/numbers/007", "/world/numbers/7.0", "/world/numbers/%207"])
async def test_other_spellings_of_a_key(site: Datasette, path: str) -> None:
    """A row that SQLite finds by another spelling of its key is not called new."""
    answer = await site.client.get(path)
    assert "not embedded yet" not in answer.text


async def test_cells_of_vectors_and_ids(site: Datasette) -> None:
    """A vector says how long it is and leads to its neighbours; ids in our queries' results lead to rows."""
    shown = await page(site, "/world/embeddings?_size=100&id=news/storm")
    assert "256 dimensions" in shown.text
    for _, href in (entry for entry in shown.links if entry[0] == "find similar"):
        assert (await site.client.get(href)).status_code == 200
    assert sum(text == "find similar" for text, _ in shown.links) == 4
    for query, name in (
        ("hybrid_odd?q=row", "odd"),
        ("search_compound?q=x", "compound"),
        ("related_articles?id=news/heat", "articles"),
    ):
        found = await page(site, f"/world/{query}")
        body = await rows(site, "/world/" + query.replace("?", ".json?"))
        links = dict(found.links)
        for row in body:
            text = row["id"].strip()
            assert (await site.client.get(links[text])).status_code == 200, (name, text)
    plain = await page(site, ("/world/-/query" if IS_V1 else "/world") + "?sql=select+'news/storm'+as+id")
    assert "news/storm" not in dict(plain.links)


async def test_duplicates_are_pairs(tmp_path: Path, cli: Callable) -> None:
    """Each pair once, also where only one side lists the other; with what both rows are called, and links to both."""
    path = tmp_path / "x.db"
    hard.change(path, "create table t (id integer primary key, title text)")
    texts = [
        "storm floods the coast",
        "late goal decides",
        "storm floods the coast!",
        "storm floods the coast",
        "nurses",
    ]
    hard.change(path, *(("insert into t values (?, ?)", [n, text]) for n, text in enumerate(texts)))
    cli("embed", path, "t", "--table", "t", "--column", "title", "-n", "1")
    site = make_site(tmp_path)
    found = await rows(site, "/x/duplicates_t.json")
    pairs = [(row["id"], row["other_id"]) for row in found]
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    assert {item for pair in pairs for item in pair} == {"0", "2", "3"}
    assert all(row["score"] >= 0.95 for row in found)
    assert all({row["title"], row["other_title"]} <= set(texts) for row in found)
    links = dict((await page(site, "/x/duplicates_t")).links)
    assert links["0"] == "/x/t/0"
    cli("embed", path, "t", "--table", "t", "--column", "title", "-n", "4")
    found = await rows(site, "/x/duplicates_t.json")
    assert sorted((row["id"], row["other_id"]) for row in found) == [("0", "2"), ("0", "3"), ("2", "3")]


@pytest.mark.parametrize("path", ["hybrid_articles.json", "hybrid_articles.json?q=", "hybrid_articles.json?q=+"])
async def test_hybrid_query_without_a_text(site: Datasette, path: str) -> None:
    """Finds nothing."""
    assert await rows(site, f"/world/{path}") == []


async def test_hybrid_query_gives_what_its_page_gives(world: Path) -> None:
    """The same ten rows, and columns of the rows themselves; also where arbitrary SQL is off."""
    site = make_site(world.parent, settings={"default_allow_sql": False})
    found = await rows(site, "/world/hybrid_articles.json?q=final")
    body = await data(site, f"{HERE}/articles/search.json?q=final")
    assert [(row["id"], row["score"]) for row in found] == [(hit["id"], hit["score"]) for hit in body["results"]]
    assert list(found[0]) == ["id", "score", "path", "title", "body", "topic", "words"]
    odd = await rows(site, "/world/hybrid_odd.json?q=%22%27%28*+NEAR")
    assert len(odd) == 10


async def menu_of(site: Datasette, path: str) -> dict[str, str]:
    return {text: href for text, href in (await page(site, path)).links if "/-/embeddings" in href}


async def test_ways_in(site: Datasette) -> None:
    """From the main menu, a table's menu, a view's and a row's, and the jump menu."""
    assert (await menu_of(site, "/"))["Semantic search"] == "/-/embeddings"
    table = await menu_of(site, "/world/articles")
    assert table["Semantic search: titles"] == f"{HERE}/titles/search"
    links = [href for text, href in (await page(site, "/world/odd")).links if text == "Semantic search"]
    assert f"{HERE}/odd/search" in links
    if IS_V1:
        view = [href for text, href in (await page(site, "/world/seen")).links if text == "Semantic search"]
        assert f"{HERE}/seen/search" in view
        row = dict((await page(site, "/world/odd/sl~2Fash")).links)
        assert row["Find similar"] == f"{HERE}/odd/item/sl~2Fash"
        jump = (await site.client.get("/-/jump.json?q=semantic+search+articles")).json()
        assert any(entry["url"] == f"{HERE}/articles/search" for entry in jump["matches"])


TEMPLATES = {
    "pages/list.html": (
        "{% for item in related('world', 'articles', 'news/storm', 2) %}[{{ item.title }}|{{ item.url }}|{{ item.score }}|"
        "{{ item.row.topic }}]{% endfor %}"
    ),
    "pages/part.html": (
        "{% set related_items = related('world', 'articles', 'news/storm') %}\n{% include 'embeddings/_related.html' %}"
    ),
    "pages/none.html": (
        "[{{ related('world', 'none', 'x') }}{{ related('none', 'articles', 'x') }}{{ related('world', 'articles', 'none') }}"
        "{{ related('world', 'articles', '') }}{{ semantic_search('world', 'none', 'x').results }}"
        "{{ semantic_search('world', 'articles', '').results }}{{ semantic_search('world', 'articles', none).results }}]"
    ),
    "pages/find.html": (
        "{% set found = semantic_search('world', 'articles', request.args.get('q'), 2) %}"
        "[{{ found.error }}|{{ found.weak }}|{% for item in found.results %}{{ item.id }}={{ item.percent }},{% endfor %}]"
    ),
    "pages/number.html": "[{{ related('world', 'numbers', 7)[0].title }}]",
}


def site_with_templates(path: Path, **more: Any) -> Datasette:
    """Return a site with pages of its own."""
    for name, text in TEMPLATES.items():
        file = path.parent / "templates" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return make_site(path.parent, **more)


async def test_functions_for_templates(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """related() and semantic_search() in pages of a site's own, the partial, and what they give where there is nothing."""
    site = site_with_templates(world)
    body = await data(site, f"{HERE}/articles/item/news~2Fstorm.json?k=2")
    listed = (await site.client.get("/list")).text
    wanted = [f"[{r['title']}|{r['url']}|{r['score']}|{r['row']['topic']}]" for r in body["related"]]
    assert unescape(listed) == "".join(wanted)
    part = await page(site, "/part")
    assert len(part.links) == 5
    assert part.text.startswith("Related")
    assert (await site.client.get("/none")).text.strip("[] ") == ""
    assert (await site.client.get("/number")).text == "[cup final]"
    assert (await site.client.get("/find?q=storm+at+sea")).text.startswith("[None|False|news/storm=")
    assert "8,001 characters" in (await site.client.get("/find?q=" + "a" * 8001)).text

    def gone(*_: object) -> None:
        raise ModelError("the weights of <it> are missing")

    monkeypatch.setattr(embedder, "get_model", gone)
    assert "[the weights of &lt;it&gt; are missing|" in (await site.client.get("/find?q=storm")).text
    hard.change(world, "update embeddings set embedding = x'00000000' where id = 'p/1'")
    assert (await site.client.get("/list")).text == listed


async def test_damaged_vector_leaves_other_pages_as_they_are(world: Path) -> None:
    """A row whose vector is none has nothing related, and says why on its own page; a row's and a site's pages go on."""
    hard.change(world, "update embeddings set embedding = x'0000' where id = 'news/storm'")
    file = world.parent / "templates" / "pages" / "list.html"
    file.parent.mkdir(parents=True)
    file.write_text("[{{ related('world', 'titles', 'news/storm')|length }}]")
    site = make_site(world.parent)
    assert (await site.client.get("/list")).text == "[0]"
    assert (await site.client.get("/world/articles/news~2Fstorm")).status_code == 200
    assert (await data(site, f"{HERE}/titles/item/news~2Fstorm.json", 400))["error"]


async def test_page_reads_one_state_of_the_file(world: Path) -> None:
    """A build that is written while a page is read is seen by the next page, and by no half of this one."""
    hard.change(world, "pragma journal_mode = wal")
    site = make_site(world.parent)
    await site.invoke_startup()
    place = await find_place(site, None, "world", "articles")

    def read(conn: sqlite3.Connection) -> list[int]:
        counts = [conn.execute("select count(*) from articles").fetchone()[0]]
        hard.change(world, "delete from articles where path = 'news/storm'")
        return [*counts, conn.execute("select count(*) from articles").fetchone()[0]]

    assert await place.run(read) == [8, 8]
    assert await place.run(read) == [7, 7]


@pytest.fixture
def elsewhere(news: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch):
    """The newsroom, embedded by a server that counts as remote: its site and the server."""
    with OpenAIServer() as server:
        block = {"models": {"openai/any": {"base_url": server.url}}, "default_model": "openai/any"}
        (news.parent / "metadata.yml").write_text(yaml.safe_dump({"plugins": {"datasette-embeddings": block}}))
        cli("add", news, "articles", "-m", "openai/any", "--yes")
        monkeypatch.setattr(get_model("openai/any", block["models"]), "remote", True, raising=False)
        server.texts.clear()
        yield make_site(news.parent, block), server


async def test_forms_that_spend_are_posted(elsewhere: Any) -> None:
    """From another site they are refused and cost nothing; from our own they lead to a page that costs nothing more."""
    site, server = elsewhere
    path = "/-/embeddings/news/articles/search"
    for start in (path, path.removesuffix("/search"), "/-/embeddings"):
        text = (await site.client.get(start)).text
        assert 'method="post"' in text, start
    body = {"q": "storm at sea", "k": "3", "topic": "weather"}
    if IS_V1:
        cross = await site.client.post(
            path, data=body, headers={"sec-fetch-site": "cross-site", "origin": "https://evil"}
        )
        cookies, token = {}, {}
    else:
        answer = await site.client.get(path)
        cookies = {"ds_csrftoken": answer.cookies["ds_csrftoken"]}
        cross = await site.client.post(path, data=body, cookies=cookies)
        token = {"csrftoken": re.search(r'name="csrftoken" value="([^"]+)"', answer.text)[1]}
    assert cross.status_code == 403
    assert server.texts == []
    posted = await site.client.post(path, data={**body, **token}, cookies=cookies)
    assert posted.status_code == 303, posted.text
    address = posted.headers["location"]
    assert dict(parse_qsl(urlsplit(address).query)) == body
    assert server.texts == ["storm at sea"]
    assert (await site.client.get(address)).status_code == 200
    assert server.texts == ["storm at sea"]
    twice = [("q", "storm at sea"), ("topic", "weather"), ("topic__not", "sport"), ("topic", "weather"), *token.items()]
    encoded = "&".join(f"{quote(name)}={quote(value)}" for name, value in twice)
    kind = {"content-type": "application/x-www-form-urlencoded"}
    posted = await site.client.post(path, content=encoded, headers=kind, cookies=cookies)
    assert parse_qsl(urlsplit(posted.headers["location"]).query) == twice[:4]


@pytest.mark.parametrize(
    "text", ["//evil.example", "/\\evil.example", "x\r\nLocation: https://evil.example", "https://evil.example"]
)
async def test_redirects_stay_here(site: Datasette, text: str) -> None:
    """Whatever was searched for, and in whichever filter it stands."""
    path = f"{HERE}/articles/search"
    answer = await site.client.post(path, data={"q": text, "topic": text})
    assert answer.status_code == 303, answer.text
    split = urlsplit(answer.headers["location"])
    assert (split.scheme, split.netloc, split.path) == ("", "", path)
    assert answer.headers.get_list("location") == [answer.headers["location"]]
    assert dict(parse_qsl(split.query)) == {"q": text, "topic": text}


async def test_private_answers_are_not_kept(world: Path) -> None:
    """What not everybody may see no cache may keep; what all may see says nothing; neither is for search engines."""
    private = {"databases": {"world": {"tables": {"articles": {"allow": {"id": "root"}}}}}}
    site = make_site(world.parent, **private)
    root = {"ds_actor": site.sign({"a": {"id": "root"}}, "actor")}
    searches = ["/search?q=storm", "/search.json?q=storm", "/item/news~2Fstorm", "/item/news~2Fstorm.json"]
    for end in ("", ".json", *searches):
        answer = await site.client.get(f"{HERE}/articles{end}", cookies=root)
        assert answer.headers["cache-control"] == "private, no-store", end
        assert "🔒" in answer.text or "json" in end
        public = await site.client.get(f"{HERE}/odd" + end.replace("news~2Fstorm", "sl~2Fash"))
        assert "no-store" not in public.headers.get("cache-control", "")
        for headers in (answer.headers, public.headers):
            assert (headers.get("x-robots-tag") == "noindex") == (end in searches)
    assert (await site.client.get("/-/embeddings", cookies=root)).headers["cache-control"] == "private, no-store"
    assert "no-store" not in (await site.client.get("/-/embeddings")).headers.get("cache-control", "")
    refused = await site.client.get(f"{HERE}/odd/search?q=x&nope=1")
    assert refused.headers["x-robots-tag"] == "noindex"
    embed = await site.client.get("/-/embeddings/embed.json?text=storm")
    assert embed.headers["cache-control"] == "private, no-store"


async def test_under_another_base(world: Path) -> None:
    """With `base_url` every link of every page starts with it, and leads somewhere."""
    site = make_site(world.parent, settings={"base_url": "/prefix/"}, **SETTINGS)
    for path, query in TWINS.values():
        for start in ("/prefix", ""):
            answer = (
                await site.client.get(start + path + query) if start == "" else await raw(site, start + path + query)
            )
            assert answer.status_code == 200
            shown = Page(answer.text)
            ours = [href for _, href in shown.links if href.startswith("/")]
            assert ours
            assert [href for href in ours if not href.startswith("/prefix/")] == []
            assert not any(href.startswith("/prefix/prefix") for href in ours)
            assert shown.link("JSON") == f"/prefix{path}.json{query}"
    body = (await raw(site, f"/prefix{HERE}/articles/search.json?q=storm")).json()
    assert body["results"][0]["url"] == "/prefix/world/articles/news~2Fstorm"
    assert (await raw(site, body["results"][0]["url"])).status_code == 200
    found = Page((await raw(site, "/prefix/world/hybrid_articles?q=storm")).text)
    assert dict(found.links)["news/storm"] == "/prefix/world/articles/news~2Fstorm"
    row = Page((await raw(site, "/prefix/world/articles/news~2Fstorm")).text)
    assert f"/prefix{HERE}/articles/item/news~2Fstorm" in [href for _, href in row.links]


async def raw(site: Datasette, path: str) -> Any:
    """Ask for a path as it is, as a proxy hands it on; Datasette's own client puts the base before it."""
    import importlib

    try:
        httpx = importlib.import_module("httpx2") if IS_V1 else importlib.import_module("httpx")
    except ImportError:
        httpx = importlib.import_module("httpx")
    await site.invoke_startup()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=site.app()), base_url="http://localhost") as client:
        return await client.get(path)


async def test_files_that_nobody_may_write(world: Path) -> None:
    """Immutable, in a folder without write permission: every page is there, and nothing is written."""
    before = sorted(os.listdir(world.parent))
    world.chmod(stat.S_IREAD)
    world.parent.chmod(stat.S_IREAD | stat.S_IEXEC)
    try:
        for site in (Datasette([], immutables=[str(world)]), Datasette([str(world)])):
            for path, query in TWINS.values():
                assert (await site.client.get(path + query)).status_code == 200, path
            for path in (
                "/world/articles/news~2Fstorm",
                "/world/articles?_meaning=storm",
                "/world/hybrid_articles?q=storm",
            ):
                assert (await site.client.get(path)).status_code == 200, path
    finally:
        world.parent.chmod(stat.S_IRWXU)
    assert sorted(os.listdir(world.parent)) == before


@pytest.mark.parametrize("name", ["my data", "a.b,it's", "til~de🚆"])
async def test_databases_whose_names_are_encoded(world: Path, name: str) -> None:
    """Links, queries and cells are right under any name of a file."""
    path = world.rename(world.with_name(f"{name}.db"))
    site = make_site(path.parent)
    here = f"/-/embeddings/{tilde_encode(name)}/articles"
    body = await data(site, f"{here}/search.json?q=storm")
    assert body["database"] == name
    assert (await site.client.get(body["results"][0]["url"])).status_code == 200
    shown = await page(site, f"{here}/search?q=storm")
    assert (await sql_rows(site, shown.link("View and edit SQL")))[0]["id"] == "news/storm"
    found = await page(site, f"/{tilde_encode(name)}/hybrid_articles?q=storm")
    assert (await site.client.get(dict(found.links)["news/storm"])).status_code == 200
    collection = await page(site, here)
    for query in ("search_articles", "hybrid_articles", "related_articles", "duplicates_articles"):
        assert (await site.client.get(collection.link(query))).status_code == 200
    assert (await site.client.get(f"/{tilde_encode(name)}/articles?_meaning=storm")).status_code == 200


async def test_collections_with_names_of_llm(site: Datasette) -> None:
    """Have pages, and no queries."""
    shown = await page(site, f"{HERE}/od~2Fd~20na~2Eme~20~3Cb~3E")
    assert "od/d na.me <b>" in shown.text
    assert "As SQL" not in shown.text
    listed = (await site.client.get("/world.json")).json()
    assert not [query["name"] for query in listed["queries"] if "od/d" in query["name"]]


async def test_other_sites_may_read_where_the_site_says_so(world: Path) -> None:
    """`--cors`, for JSON."""
    for cors in (True, False):
        site = Datasette([str(world)], cors=cors)
        for path in ("/-/embeddings.json", f"{HERE}/articles/search.json?q=x", "/-/embeddings/embed.json?text=x"):
            headers = (await site.client.get(path)).headers
            assert (headers.get("access-control-allow-origin") == "*") == cors


async def test_one_vector(site: Datasette, conn: sqlite3.Connection) -> None:
    """embed.json gives what embed_text gives; an empty text has none, an unknown model or word is said."""
    body = await data(site, "/-/embeddings/embed.json?model=static&text=storm+at+sea")
    (wanted,) = conn.execute("select embed_decode(embed_text('static', 'storm at sea'))").fetchone()
    assert body["embedding"] == json.loads(wanted)
    assert (body["model"], body["dimensions"]) == ("static", 256)
    assert (await data(site, "/-/embeddings/embed.json?text="))["embedding"] is None
    assert "not named" in (await data(site, "/-/embeddings/embed.json?model=x/y&text=a", 400))["error"]
    assert "no word" in (await data(site, "/-/embeddings/embed.json?text=%F0%9F%9A%86", 400))["error"]
    assert "characters" in (await data(site, "/-/embeddings/embed.json?text=" + "a" * 8001, 400))["error"]


async def test_one_vector_is_under_the_rules_of_sql(elsewhere: Any) -> None:
    """A remote model is not open to it unless it is to SQL."""
    site, server = elsewhere
    body = await data(site, "/-/embeddings/embed.json?model=openai/any&text=spend", 400)
    assert "not open to SQL" in body["error"]
    assert server.texts == []


async def test_tables_that_are_gone_or_damaged(world: Path) -> None:
    """A source that was dropped, a table of ours that was, no collection at all: pages, never a 500."""
    site = make_site(world.parent)
    hard.change(world, "drop table odd", "alter table compound rename to other", "drop table embeddings_fts_numbers")
    for path in (
        "/-/embeddings",
        f"{HERE}/odd",
        f"{HERE}/odd/search?q=storm",
        f"{HERE}/odd/search.json?q=storm",
        f"{HERE}/odd/item/sl~2Fash",
        f"{HERE}/compound/search?q=storm",
        f"{HERE}/numbers/search?q=storm",
        f"{HERE}/numbers",
        "/world/numbers/7",
        "/world/numbers?_meaning=storm",
        "/world/other?_meaning=storm",
    ):
        assert (await site.client.get(path)).status_code < 500, path


async def test_site_without_collections(tmp_path: Path) -> None:
    """Says how the first is made."""
    hard.change(tmp_path / "x.db", "create table t (id integer primary key)")
    site = make_site(tmp_path)
    assert "datasette embeddings add" in (await page(site, "/-/embeddings")).text
    assert (await data(site, "/-/embeddings.json"))["collections"] == []
    assert "Semantic search" not in dict((await page(site, "/")).links)


@pytest.mark.asyncio
async def test_best_matches_where_facets_have_no_time(built: Path) -> None:
    """A facet that is not suggested in time is left out; the table's page answers all the same."""
    site = make_site(built.parent, settings={"facet_suggest_time_limit_ms": 1})
    page = await site.client.get("/news/articles?_meaning=heavy+rain+and+wind&_facet=topic")
    assert page.status_code == 200
    assert "Storm floods the coast" in page.text


@pytest.mark.asyncio
async def test_a_search_that_is_stopped_says_so(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Datasette stops inside one of our functions is for it a query that took too long, and for facets no error."""
    from datasette_embeddings import functions

    def stopped(*_: object) -> None:
        raise sqlite3.OperationalError("interrupted")

    site = make_site(built.parent)
    monkeypatch.setattr(functions, "answer_once", stopped)
    answer = await site.client.get("/news/hybrid_articles.json?q=storm&_shape=array")
    assert answer.status_code == 400
    assert "took too long" in answer.json()["error"]
