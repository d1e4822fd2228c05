"""The finder and the thumbnails: what is found and shown, for whom, and what becomes of a picture that somebody sends.

The model is a tiny CLIP that sees a picture's mean colour, so that what is similar is known; of relevance nothing is proved.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sqlite3
import sys
import threading
import time
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import finder_site
import llm
import numpy as np
import pytest
from datasette import hookimpl
from datasette.plugins import pm
from datasette.utils import tilde_encode
from datasette.utils.asgi import Request, Response
from finder_site import ODD_IDS, TABLES, colours, settings, vectors
from pictures import claiming, plain
from test_datasette import IS_V1, make_site
from test_pages import GOLDEN, Page, page, rows, sql_rows
from test_xss import PAYLOADS, Elements

from datasette_embeddings import asking, embedder, finder, holdings, pictures
from datasette_embeddings.errors import VISITORS_CHARACTERS, for_visitors
from datasette_embeddings.limits import MAX_IMAGE_BYTES
from datasette_embeddings.pages import uploads
from datasette_embeddings.remembered import holdings_of
from datasette_embeddings.site import embedder_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasette.app import Datasette

pytestmark = pytest.mark.asyncio(loop_scope="module")

HERE = "/-/embeddings/shop/things"
FINDER = f"{HERE}/images"
VECTORS = vectors()


@pytest.fixture(scope="module")
def shop_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the catalogue, built, and its model; copied by `shop`."""
    folder = tmp_path_factory.mktemp("shop")
    finder_site.build(folder, finder_site.write_eye(tmp_path_factory.mktemp("eye")))
    return folder


def site_of(folder: Path, **more: Any) -> Datasette:
    return make_site(folder, settings(f"onnx/{folder / 'eye'}"), **{**TABLES, **more})


@pytest.fixture(scope="module")
def site(shop_once: Path) -> Datasette:
    """A site that all tests ask which change nothing."""
    return site_of(shop_once)


@pytest.fixture
def shop(shop_once: Path, tmp_path: Path) -> Path:
    """A folder of one's own. The model stays where it was, as the file names it so."""
    shutil.copy(shop_once / "shop.db", tmp_path / "shop.db")
    return tmp_path


def links(html: str) -> set[str]:
    """Return where a page leads."""
    return {unescape(href) for href in re.findall(r'href="([^"]*)"', html)}


async def found(site: Datasette, query: str, status: int = 200) -> dict[str, Any]:
    """Return the finder's JSON."""
    answer = await site.client.get(f"{FINDER}.json?{query}")
    assert answer.status_code == status, answer.text
    return answer.json()


def ids(body: dict[str, Any]) -> list[str]:
    return [one["id"] for one in body["results"]]


def nearest(vector: np.ndarray, k: int, without: tuple[str, ...] = (), among: set[str] | None = None) -> list[str]:
    """Return what should be found, by numpy alone."""
    unit = vector / np.linalg.norm(vector)
    scores = {item: round(float(v.astype(np.float32) @ unit.astype(np.float32)), 6) for item, v in VECTORS.items()}
    left = [item for item in scores if item not in without and (among is None or item in among)]
    return sorted(left, key=lambda item: (-scores[item], item))[:k]


TWINS = {
    "images": "",
    "images, seed": "?seed=a&k=3",
    "images, next": "?k=5&after=p-03",
    "images, filter": "?k=3&colour=red&price_eur__lt=30",
    "images, words": "?q=blue+green&k=4",
    "images, like": "?like=p-02&k=3",
    "images, like and unlike": "?like=p-02&like=p-08&unlike=p-13&k=3",
    "images, like and words": "?like=p-02&q=blue&k=3&colour=blue",
    "images, phrases": "?id=p-02&phrase=red&phrase=blue+green&k=2",
}


@pytest.mark.parametrize("kind", TWINS)
async def test_pages_and_their_json(site: Datasette, shop_once: Path, kind: str) -> None:
    """Every page is there, leads to its JSON, and that is byte for byte what it was, on both lines."""
    query = TWINS[kind]
    shown = await page(site, FINDER + query)
    assert shown.link("JSON") == f"{FINDER}.json{query}"
    answer = await site.client.get(f"{FINDER}.json{query}")
    assert answer.status_code == 200
    body = answer.text.replace(str(shop_once), "...")
    golden = json.loads(GOLDEN.read_text())
    if "WRITE_GOLDEN" in os.environ:
        GOLDEN.write_text(json.dumps({**golden, kind: body}, indent=1, sort_keys=True) + "\n")
    else:
        assert body == golden[kind]


async def test_thumbnails(site: Datasette, shop_once: Path) -> None:
    """What is stored is sent, as a picture and nothing else; a browser that has it is told so."""
    with closing(sqlite3.connect(shop_once / "shop.db")) as conn:
        (stored,) = conn.execute("select data from thumbnails where id = 'p-04'").fetchone()
    url = (await found(site, "like=p-03&k=5"))["results"]
    url = next(one["image"]["url"] for one in url if one["id"] == "p-04")
    answer = await site.client.get(url)
    assert answer.content == stored
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    for tag in (answer.headers["etag"], f'"other", W/{answer.headers["etag"]}', "*"):
        again = await site.client.get(url, headers={"if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")
    other = await site.client.get(url, headers={"if-none-match": '"other"'})
    assert other.status_code == 200
    for plainly in (url.partition("?")[0], url.partition("?")[0] + "?v=000000000000"):
        answer = await site.client.get(plainly)
        assert answer.headers["cache-control"] == "public, max-age=300"
        assert answer.content == stored
    for missing in ("none", "nothing", "P-04", "p-04~20"):
        assert (await site.client.get(f"{FINDER}/{missing}.webp")).status_code == 404


async def test_thumbnails_do_not_wait_for_searches(site: Datasette) -> None:
    """A page of sixty asks for them while somebody else searches."""
    await site.client.get(FINDER)
    release = threading.Event()
    try:
        for _ in range(os.cpu_count() or 1):
            site.executor._searching.submit(release.wait, 60)
        answer = await asyncio.wait_for(site.client.get(f"{FINDER}/p-04.webp"), 20)
    finally:
        release.set()
    assert answer.status_code == 200


@pytest.mark.parametrize("item", ODD_IDS)
async def test_odd_ids(site: Datasette, item: str) -> None:
    """Lead to their thumbnail, their row and what is similar, from a page and from JSON."""
    body = await found(site, urlencode({"colour": "white", "k": 100}))
    one = next(one for one in body["results"] if one["id"] == item)
    assert one["image"]["url"].startswith(f"{FINDER}/{tilde_encode(item)}.webp?v=")
    picture = await site.client.get(one["image"]["url"])
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/webp")
    assert (await site.client.get(one["url"])).status_code == 200
    similar = await found(site, urlencode({"like": item, "k": 5}))
    assert ids(similar) == nearest(VECTORS[item], 5, (item,))
    html = (await site.client.get(one["similar_url"])).text
    assert f'src="{one["image"]["url"]}"' in html


@pytest.mark.parametrize("k", [3, 10, 24])
async def test_find_similar(site: Datasette, k: int) -> None:
    """Is the same whether stored or computed, by score and then by id; as many as are stored where nobody says how many."""
    body = await found(site, f"like=p-07&k={k}")
    assert ids(body) == nearest(VECTORS["p-07"], k, ("p-07",))
    scores = [one["score"] for one in body["results"]]
    assert scores == sorted(scores, reverse=True)
    assert ("similarities" in body["sql"]) == (k <= 10)
    assert len(ids(await found(site, "like=p-07"))) == 10
    assert len(ids(await found(site, "like=p-07&price_eur__gt=0"))) == finder.USUAL_PICTURES


async def test_words(site: Datasette) -> None:
    """Are compared with pictures alone: that a row speaks of blue, as all do, counts for nothing."""
    assert ids(await found(site, "q=blue&k=4")) == nearest(np.array([0, 0, 1.0]), 4)
    assert ids(await found(site, "q=red+blue&k=4")) == nearest(np.array([1.0, 0, 1]), 4)
    unknown = await found(site, "q=zzz")
    assert unknown["results"] == []
    assert "knows no word" in (await page(site, f"{FINDER}?q=zzz")).text
    keeping_away = await found(site, "q=zzz&unlike=p-00")
    assert (keeping_away["results"], keeping_away["sql"]) == ([], "")
    assert "knows no word" in (await page(site, f"{FINDER}?q=zzz&unlike=p-00")).text


async def test_more_like_these_and_less_like_that(site: Datasette) -> None:
    """The mean of what is liked less half of the mean of what is not; what was picked is not found again."""
    liked, unliked = ("p-00", "p-06"), ("p-12", "p-20")
    mean = np.mean([VECTORS[item] for item in liked], axis=0)
    body = await found(site, urlencode({"like": liked, "unlike": unliked, "k": 7}, doseq=True))
    away = mean - np.mean([VECTORS[item] for item in unliked], axis=0) / 2
    assert ids(body) == nearest(away, 7, (*liked, *unliked))
    both = np.mean([VECTORS["p-00"], [0, 0, 2]], axis=0)
    assert ids(await found(site, "like=p-00&q=blue&k=5")) == nearest(both, 5, ("p-00",))
    twice = await found(site, "like=p-00&like=p-00&k=3")
    assert ids(twice) == ids(await found(site, "id=p-00&k=3"))
    for query, sentence in [
        ("unlike=p-00", "what to look for"),
        ("phrase=red", "one picture"),
        ("like=p-00&like=p-01&phrase=red", "one picture"),
        ("id=p-00" + "&phrase=red" * 11, "10 phrases at most"),
        ("".join(f"&like=p-{n:02}" for n in range(21)), "at most 20 pictures"),
        ("like=p-00&k=0", "from 1 to 1000"),
        ("_where=1", "no argument of this page"),
        ("q=blue" + "&price_eur__gt=0" * 33, "32 filters at most"),
        ("q=" + quote("blue " + "車" * 1_000), "8,000 are the most"),
        ("colr=red", "did you mean colour?"),
    ]:
        assert sentence in (await found(site, query, 400))["error"], query
    assert (await found(site, "like=nobody", 404))["ok"] is False


@pytest.mark.parametrize(
    "query",
    [
        "like=p-05&colour=green&k=4",
        "like=p-05&price_eur__lt=150&colour__in=red,blue&k=6",
        "q=blue&price_eur__gte=100&price_eur__lte=150&k=3",
        "like=p-05&unlike=p-09&weight__gt=4&k=9",
        "like=p-05&colour=blue&colour=&price_eur__lt=&k=50",
    ],
)
async def test_filters_keep_the_number(site: Datasette, query: str) -> None:
    """Similar, and cheaper: the best of the rows that Datasette's own filters leave."""
    pairs = [(name, value) for name, value in parse_qsl(query) if name not in {"like", "unlike", "q", "k"}]
    left = {row["id"] for row in await rows(site, f"/shop/things.json?{urlencode([*pairs, ('_size', 'max')])}")}
    given = parse_qsl(query)
    like = [value for name, value in given if name == "like"]
    unlike = [value for name, value in given if name == "unlike"]
    vector = np.mean([VECTORS[i] for i in like], axis=0) if like else np.array([0, 0, 1.0])
    if unlike:
        vector = vector - VECTORS[unlike[0]] / 2
    k = int(dict(given)["k"])
    body = await found(site, query)
    assert ids(body) == nearest(vector, k, (*like, *unlike), left)
    assert len(ids(body)) == min(k, len(left & set(VECTORS) - {*like, *unlike}))


SQL_PAGES = [
    "?q=blue&k=5",
    "?like=p-03",
    "?like=p-03&k=24",
    "?like=p-03&like=p-11&unlike=p-20",
    "?like=p-03&q=blue+white&colour=blue",
    "?like=p-03&q=zzz&k=5",
    "?like=p-03&unlike=p-20&q=zzz&colour=blue",
    "?q=red+white&price_eur__lt=100",
    "?like=quote%22%27&unlike=sl%2Fash&colour__in=white,red",
]


@pytest.mark.parametrize("query", SQL_PAGES)
async def test_sql_of_a_page_gives_the_same(site: Datasette, query: str) -> None:
    shown = await page(site, FINDER + query)
    body = await found(site, query[1:])
    wanted = [(one["id"], one["score"]) for one in body["results"]]
    got = await sql_rows(site, shown.link("View and edit SQL"))
    assert [(row["id"], row["score"]) for row in got] == wanted
    assert wanted


async def test_all_pictures_page_by_page(site: Datasette) -> None:
    """Each stands on one page, in the order of ids; the last leads nowhere."""
    seen, url = [], f"{FINDER}.json?k=7"
    while url:
        body = (await site.client.get(url)).json()
        assert body["total"] == len(VECTORS)
        seen += ids(body)
        url = body["next_url"]
    assert seen == sorted(VECTORS)
    one = await page(site, f"{FINDER}?k=17")
    assert one.link("Next page") == f"{FINDER}?k=17&after={sorted(VECTORS)[16]}"
    last = await page(site, one.link("Next page"))
    assert "Next page" not in last.text
    assert "All pictures" in last.text


async def test_a_handful_at_random(site: Datasette, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the same seed, and the same all day; another day another."""
    first, again, other = [(await found(site, f"seed={seed}"))["random"] for seed in "aab"]
    assert first == again
    assert first != other
    assert len({one["id"] for one in first}) == finder.HANDFUL
    assert (await found(site, ""))["random"] == []
    pages = []
    for day in ("2024-01-01", "2024-01-01", "2024-01-02"):
        monkeypatch.setattr("datasette_embeddings.pictures.today", lambda day=day: day)
        html = (await site.client.get(FINDER)).text
        pages.append(re.findall(r"like=([^&\"]+)", html.partition("<h2>All")[0]))
    assert pages[0] == pages[1] != pages[2]


async def test_phrases(site: Datasette) -> None:
    """One picture, a bar for each phrase; what the model does not know has none."""
    body = await found(site, "id=p-00&phrase=red&phrase=blue&phrase=red+green&phrase=zzz&phrase=")
    assert [one["phrase"] for one in body["phrases"]] == ["red", "blue", "red green", "zzz"]
    assert [one["score"] for one in body["phrases"]] == [1.0, 0.0, pytest.approx(0.707107), None]
    html = (await site.client.get(f"{FINDER}?id=p-00&phrase=red&phrase=red+green")).text
    assert [float(width) for width in re.findall(r'<rect width="([\d.]+)" height="8"', html)] == [100.0, 70.7]


async def test_a_page_of_pictures(site: Datasette) -> None:
    """Says what each is, leads to its row and to similar ones, keeps filters, and names the model."""
    html = (await site.client.get(f"{FINDER}?like=p-02&colour=red")).text
    assert 'alt="red thing 3" width="40" height="60"' in html
    shown = Page(html)
    assert f"{FINDER}?like=p-03&colour=red" in links(html)
    assert f"{FINDER}?like=p-02&like=p-03&colour=red" in links(html)
    assert f"{FINDER}?like=p-02&unlike=p-03&colour=red" in links(html)
    assert f"{FINDER}?like=p-02&colour=red&price_eur__lt=29" in links(html)
    assert 'price_eur__lt=29" rel="nofollow"' in html
    assert shown.link('where colour = "red"') == f"{FINDER}?like=p-02"
    assert "price_eur 39" in shown.text
    assert "Pictures compared by onnx/" in shown.text
    assert "what their rows say is never read" in shown.text
    assert '<option value="red" selected>red (7)</option>' in html
    assert 'name="price_eur__gte" value="" placeholder="1"' in html
    toy = (await page(site, FINDER)).text
    assert "toy" not in toy


async def test_a_model_says_what_it_is(site: Datasette, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasette_embeddings.models.exported.ABOUT", "A toy and no more.", raising=False)
    assert "/eye. A toy and no more. The pictures alone are looked at" in (await page(site, FINDER)).text


async def test_other_collections_have_no_pictures(world: Path) -> None:
    site = make_site(world.parent)
    assert (await site.client.get("/-/embeddings/world/articles/images")).status_code == 404
    assert (await site.client.get("/-/embeddings/world/articles/images/news~2Fstorm.webp")).status_code == 404


async def send(
    site: Datasette, data: bytes, fields: dict[str, str] | None = None, path: str = f"{FINDER}.json", **more: Any
) -> Any:
    """Send a picture in a form, as a browser does."""
    return await site.client.post(path, files={"picture": ("a.png", data, "image/png")}, data=fields or {}, **more)


@pytest.mark.parametrize("how", ["form", "bytes", "accept"])
async def test_a_picture_of_ones_own(site: Datasette, how: str) -> None:
    """Finds what looks like it, among the rows that filters leave."""
    data = plain("#2000ff", form="JPEG")
    fields = {"colour__in": "red,green", "k": "3", "price_eur__lt": ""}
    if how == "form":
        answer = await send(site, data, fields)
    else:
        path = FINDER if how == "accept" else f"{FINDER}.json"
        headers = {"content-type": "image/jpeg", **({"accept": "application/json"} if how == "accept" else {})}
        answer = await site.client.post(f"{path}?{urlencode(fields)}", content=data, headers=headers)
    assert answer.status_code == 200, answer.text
    left = {item for item, name, _ in colours() if name in {"red", "green"}}
    assert ids(answer.json()) == nearest(np.array([32, 0, 255.0]), 3, (), left)
    assert answer.json()["sql"] == ""
    assert answer.headers["cache-control"] == "private, no-store"


async def test_the_page_of_a_picture_of_ones_own(site: Datasette) -> None:
    """Shows it, says that it has no address, and leads to pages that have one."""
    answer = await send(site, plain("red"), {"colour": "red"}, FINDER)
    assert (answer.status_code, answer.headers["x-robots-tag"]) == (200, "noindex")
    shown = Page(answer.text)
    assert 'src="data:image/webp;base64,' in answer.text
    assert "It was looked at and is not kept, so this page has no address to share" in shown.text
    assert f"{FINDER}?like=p-00&colour=red" in links(answer.text)
    assert "JSON" not in [text for text, _ in shown.links]


async def test_nothing_of_it_is_kept(shop: Path, shop_once: Path) -> None:
    """Neither in the file nor in memory; nor does SQL keep pictures beside their vectors."""
    site = make_site(shop, settings(f"onnx/{shop_once / 'eye'}"), **TABLES)
    before = (shop / "shop.db").read_bytes()
    kept = set(embedder._cache)
    data = plain("#123456", (300, 300))
    assert (await send(site, data)).status_code == 200
    assert (shop / "shop.db").read_bytes() == before
    assert set(embedder._cache) == kept
    address = "/shop/-/query.json" if IS_V1 else "/shop.json"
    sql = f"select embed_dimensions(embed_image('onnx/{shop_once / 'eye'}', x'{data.hex()}')) as d"
    assert await rows(site, f"{address}?{urlencode({'sql': sql})}") == [{"d": 3}]
    (key,) = set(embedder._cache) - kept
    assert all(not isinstance(part, bytes) or len(part) == 32 for part in key)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "no picture came"),
        (b"not a picture", "no readable image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "no readable image"),
        (claiming(60_000, 60_000), "40,000,000 in all are the most"),
        (plain("red", (2000, 20))[:60], "no readable image"),
        (b"GIF89a<script>alert(1)</script>", "no readable image"),
    ],
)
async def test_what_is_no_picture(site: Datasette, data: bytes, sentence: str) -> None:
    """Is said on the page, which stays of use, and as JSON."""
    answer = await send(site, data)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]
    shown = await send(site, data, path=FINDER)
    assert shown.status_code == 400
    assert sentence in Page(shown.text).text.replace(" No ", " no ")
    assert "A few at random" in shown.text


BOUNDARY = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n'
FIELD = b'--b\r\nContent-Disposition: form-data; name="colour"\r\n\r\nred\r\n'
END = b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (BOUNDARY, FIELD + PART + plain("red") + END, 200),
        ('Multipart/Form-Data; charset=utf-8; boundary="b"', PART + plain("red") + END, 200),
        ("multipart/form-data", PART + plain("red") + END, 400),
        ("multipart/form-data; boundary=", PART + plain("red") + END, 400),
        ("multipart/form-data; boundary=" + "b" * 71, PART + plain("red") + END, 400),
        (BOUNDARY, b"", 400),
        (BOUNDARY, b"--b--\r\n", 400),
        (BOUNDARY, plain("red"), 400),
        (BOUNDARY, PART + plain("red"), 400),
        (BOUNDARY, b"preamble\r\n" + PART + plain("red") + END, 400),
        (BOUNDARY, PART + plain("red") + b"\r\n" + PART + plain("red") + END, 400),
        (BOUNDARY, PART.replace(b"picture", b"other") + plain("red") + END, 400),
        (BOUNDARY, PART.replace(b'name="picture"; ', b"") + plain("red") + END, 400),
        (BOUNDARY, b"--b\r\n\r\n" + plain("red") + END, 400),
        (BOUNDARY, FIELD * 70 + PART + plain("red") + END, 400),
        (BOUNDARY, FIELD.replace(b"red", b"r" * 200_000) + PART + plain("red") + END, 413),
        (BOUNDARY, PART.replace(b"\r\n\r\n", b"\r\nX: " + b"y" * 200_000 + b"\r\n\r\n") + plain("red") + END, 413),
        (BOUNDARY, FIELD.replace(b"colour", b"_where") + PART + plain("red") + END, 400),
        (BOUNDARY, FIELD.replace(b"colour", b"\xff\xfe") + PART + plain("red") + END, 400),
        ("image/svg+xml", b"<svg/>", 400),
        ("application/octet-stream", plain("red"), 200),
        ("application/json", b"[]", 400),
        ("application/x-www-form-urlencoded", b"colour=" + b"r" * 200_000, 413),
        ("text/plain", b"r" * 200_000, 413),
    ],
)
async def test_bodies(site: Datasette, kind: str, body: bytes, status: int) -> None:
    """Forms are understood as browsers send them; what is damaged is refused in words, never with a 500."""
    answer = await site.client.post(f"{FINDER}.json", content=body, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    assert answer.json()["ok"] is (status == 200)


async def test_no_more_is_read_than_a_picture_may_have(site: Datasette) -> None:
    """One that says that it is larger is not read at all, one that does not no further than that."""
    answer = await site.client.post(
        f"{FINDER}.json",
        content=b"x",
        headers={"content-type": "image/png", "content-length": str(MAX_IMAGE_BYTES + 1)},
    )
    assert answer.status_code == 413
    assert "20,000,000 bytes at most" in answer.json()["error"]
    read = 0
    part = bytes(1_000_000)

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += len(part)
        return {"type": "http.request", "body": part, "more_body": read < 100 * len(part)}

    sent = await asgi(site, receive, [(b"content-type", b"image/png")])
    assert sent[0]["status"] == 413
    assert read == MAX_IMAGE_BYTES + len(part)


async def asgi(site: Datasette, receive: Callable, headers: list[tuple[bytes, bytes]]) -> list[dict[str, Any]]:
    """Send a body piece by piece; returns what is answered."""
    path = f"{FINDER}.json"
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "http",
        "headers": [(b"host", b"localhost"), *headers],
    }

    async def keep(message: dict[str, Any]) -> None:
        sent.append(message)

    await site.app()(scope, receive, keep)
    return sent


async def test_a_picture_that_does_not_arrive(site: Datasette, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not waited for for ever; and few are read at the same time, so that none fill memory."""
    monkeypatch.setattr(uploads, "UPLOAD_SECONDS", 0.3)

    async def never() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    slow = [
        asyncio.ensure_future(asgi(site, never, [(b"content-type", b"image/png")]))
        for _ in range(uploads.UPLOADS_AT_ONCE)
    ]
    await asyncio.sleep(0.1)
    refused = await send(site, plain("red"))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert {sent[0]["status"] for sent in await asyncio.gather(*slow)} == {408}
    form = [(b"content-type", b"application/x-www-form-urlencoded")]
    assert (await asyncio.wait_for(asgi(site, never, form), 20))[0]["status"] == 408
    assert (await send(site, plain("red"))).status_code == 200

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    assert (await asgi(site, gone, [(b"content-type", b"image/png")]))[0]["status"] == 400


async def test_only_from_our_own_pages(shop: Path, shop_once: Path) -> None:
    """Another site's page sends nothing, with cookies or without."""
    site = make_site(shop, settings(f"onnx/{shop_once / 'eye'}"), **TABLES)
    for cookies in ({}, {"ds_actor": site.sign({"a": {"id": "root"}}, "actor")}):
        for origin in ("cross-site", "same-site"):
            headers = {"sec-fetch-site": origin, "origin": "https://elsewhere.example"}
            assert (await send(site, plain("red"), headers=headers, cookies=cookies)).status_code == 403
            form = await site.client.post(FINDER, data={"q": "red"}, headers=headers, cookies=cookies)
            assert form.status_code == 403
        own = {"sec-fetch-site": "same-origin", "origin": "http://localhost"}
        assert (await send(site, plain("red"), headers=own, cookies=cookies)).status_code == 200
        older = {"origin": "http://localhost"}
        assert (await send(site, plain("red"), headers=older, cookies=cookies)).status_code == 200
        elsewhere = {"origin": "https://elsewhere.example"}
        assert (await send(site, plain("red"), headers=elsewhere, cookies=cookies)).status_code == 403


class Notebook:
    """A plugin that takes whatever is posted below an address of its own."""

    __name__ = "notebook"

    @hookimpl
    def register_routes(self) -> list[tuple[str, Callable]]:
        async def keep(request: Request) -> Response:
            return Response.text("kept")

        return [(r"^/notes/.*$", keep)]


@pytest.mark.skipif(IS_V1, reason="1.0 looks at where a request comes from, whatever its address is")
async def test_other_plugins_keep_their_tokens(shop: Path, shop_once: Path) -> None:
    """0.65 asks for its token everywhere but at the finder itself, where the site is below another address too."""
    notebook = Notebook()
    pm.register(notebook)
    try:
        site = make_site(shop, settings(f"onnx/{shop_once / 'eye'}"), settings={"base_url": "/below/"}, **TABLES)
        cookies = {"ds_actor": site.sign({"a": {"id": "root"}}, "actor")}
        form = {"data": {"q": "blue"}, "cookies": cookies}
        ours = await site.client.post(FINDER, **form)
        assert (ours.status_code, ours.headers["location"]) == (303, f"/below{FINDER}?q=blue")
        for theirs in ("/notes/a", f"/notes{FINDER}", f"/notes/{FINDER.replace('/', '%2F')}"):
            assert (await site.client.post(theirs, **form)).status_code == 403, theirs
    finally:
        pm.unregister(notebook)


async def test_a_picture_that_is_given_up_is_let_go(site: Datasette, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the one that the model is busy with may take long, those that wait behind it must not fill memory."""
    monkeypatch.setattr(asking, "PREFETCH_SECONDS", 0.2)
    held = await holdings_of(site, "shop")
    data = plain("red")
    release = threading.Event()
    before = sys.getrefcount(data)
    asking._gate.submit(release.wait, 60)
    try:
        with pytest.raises(asking.Refused, match="no vector within"):
            await asking.picture_vector(embedder_of(site), held.collections["things"], data)
        assert sys.getrefcount(data) == before
    finally:
        release.set()


async def test_the_finder_sets_no_cookie(site: Datasette) -> None:
    """As Datasette lets browsers keep nothing that they ask for with one, thumbnails would be sent again and again."""
    for query in ("", "?q=blue", "?like=p-02"):
        answer = await site.client.get(FINDER + query)
        assert "set-cookie" not in answer.headers
        assert "no-store" not in answer.headers.get("cache-control", "")


class Eyes(llm.EmbeddingModel):
    """A multimodal model behind a key, that counts what it is sent."""

    model_id = "eyes"
    supports_binary = True
    needs_key = "eyes"
    key_env_var = "EYES_KEY"
    seen: ClassVar[list[Any]] = []

    def embed_batch(self, items: Any, **_: object) -> Any:
        for item in items:
            self.seen.append(item)
            yield [1.0, 0.0, 0.0]


@pytest.fixture
def eyes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The model, registered with llm."""
    from llm.plugins import load_plugins, pm

    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    monkeypatch.setenv("EYES_KEY", "a-secret-key-of-eyes")
    load_plugins()
    model = Eyes()
    model.seen.clear()

    class Plugin:
        @llm.hookimpl
        def register_embedding_models(self, register: Callable) -> None:
            register(model)

    plugin = Plugin()
    pm.register(plugin)
    yield model
    pm.unregister(plugin)


async def test_a_flood_stays_within_the_budget(shop: Path, eyes: Eyes) -> None:
    """Pictures that go to another machine count as queries do, and what is no picture is not sent at all."""
    with closing(sqlite3.connect(shop / "shop.db")) as conn, conn:
        conn.execute("update collections set model = 'eyes'")
    site = make_site(shop, {"limits": {"queries_per_minute": 3}, "models": {"llm/eyes": {}}}, **TABLES)
    answers = [await send(site, plain(f"#0000{n:02x}")) for n in range(12)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 9
    assert answers[-1].headers["retry-after"].isdigit()
    assert len(eyes.seen) == 3
    assert (await send(site, b"no picture")).status_code == 400
    shown = await page(site, FINDER)
    assert len(eyes.seen) == 3
    assert "Compare" not in [text for text, _ in shown.links]
    html = (await site.client.get(FINDER)).text
    assert 'aria-label="Find pictures by words" action="/-/embeddings/shop/things/images" method="post"' in html
    assert "It is sent to eyes, on another machine." in shown.text
    refused = await site.client.get(f"{FINDER}?q=blue")
    assert (refused.status_code, "Retry-After" in refused.headers) == (429, True)
    assert "Nearest to" not in Page(refused.text).text


async def test_words_go_to_another_machine_by_post(shop: Path, eyes: Eyes) -> None:
    """And lead to a page that has an address."""
    with closing(sqlite3.connect(shop / "shop.db")) as conn, conn:
        conn.execute("update collections set model = 'eyes'")
    site = make_site(shop, {"models": {"llm/eyes": {}}}, **TABLES)
    answer = await site.client.post(FINDER, data={"q": "blue", "colour": "red", "k": "3"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"{FINDER}?q=blue&k=3&colour=red")
    assert (await site.client.get(answer.headers["location"])).status_code == 200
    assert eyes.seen[-1] == "blue"
    own = Page((await send(site, plain("red"), path=FINDER)).text)
    assert "sent to eyes, on another machine, and is not kept here" in own.text


async def test_without_a_model(shop: Path) -> None:
    """Everything works but words and pictures of one's own, which say why they do not."""
    with closing(sqlite3.connect(shop / "shop.db")) as conn, conn:
        conn.execute("update collections set model = 'onnx/nowhere'")
    site = make_site(shop, settings("onnx/nowhere"), **TABLES)
    for query in ("", "like=p-02", "like=p-02&k=24", "like=p-02&like=p-08&unlike=p-13&colour=red", "colour=red&seed=a"):
        assert (await found(site, query))["results"], query
        assert (await site.client.get(f"{FINDER}?{query}")).status_code == 200
    reason = (await found(site, "q=blue", 400))["error"]
    assert "nowhere" in reason
    assert (await send(site, plain("red"))).json()["error"] == reason
    shown = await site.client.get(f"{FINDER}?q=blue")
    assert shown.status_code == 400
    assert 'role="alert"' in shown.text
    assert reason[1:40] in Page(shown.text).text
    assert "A few at random" in shown.text
    assert (await site.client.get(f"{FINDER}/p-02.webp")).status_code == 200


PARTS = ["", ".json", "?like=p-02", ".json?q=blue", "/p-02.webp", "/p-02.webp?v=000000000000"]


async def test_only_for_whom_the_source_is(shop: Path, shop_once: Path) -> None:
    """Page, JSON, thumbnails, queries and what is sent; and no shared cache keeps what not everybody may see."""
    tables = {
        "databases": {
            "shop": {"tables": {"things": {**TABLES["databases"]["shop"]["tables"]["things"], "allow": {"id": "root"}}}}
        }
    }
    site = make_site(shop, settings(f"onnx/{shop_once / 'eye'}"), **tables)
    root = {"ds_actor": site.sign({"a": {"id": "root"}}, "actor")}
    for path in [FINDER + part for part in PARTS] + ["/shop/images_things.json?q=blue", "/shop/thumbnails.json", HERE]:
        refused = await site.client.get(path)
        assert refused.status_code == 403, path
        assert "thing 3" not in refused.text
        answer = await site.client.get(path, cookies=root)
        assert answer.status_code == 200, path
        if path.startswith("/-/"):
            assert answer.headers["cache-control"] == "private, no-store"
    assert (await send(site, plain("red"))).status_code == 403
    missing = await site.client.get(f"{FINDER}/nothing.webp")
    assert missing.status_code == 403
    assert (await site.client.get("/-/embeddings/shop/nothing/images")).status_code == 404


async def test_images_c(site: Datasette) -> None:
    """The same as a query, which no hybrid one stands beside; pictures stand in its cells."""
    got = await rows(site, "/shop/images_things.json?q=blue")
    assert [row["id"] for row in got] == nearest(np.array([0, 0, 1.0]), 10)
    assert (await site.client.get("/shop/hybrid_things")).status_code == 404
    html = (await site.client.get("/shop/images_things?q=blue")).text
    assert f'<a href="{FINDER}?like=p-12"><img src="{FINDER}/p-12.webp"' in html
    assert '<a href="/shop/things/p-12">p-12</a>' in html
    for query in ("related_things?id=sl%2Fash", "duplicates_things", "search_things?q=blue"):
        html = (await site.client.get(f"/shop/{query}")).text
        assert "<img src=" in html, query


async def test_pictures_in_cells(site: Datasette) -> None:
    """In the source's own table and row pages, as thumbnails that lead to similar ones; a row without one has none."""
    html = (await site.client.get("/shop/things?_size=100&_sort=id")).text
    assert html.count('loading="lazy"') == len(VECTORS)
    item = "sl/ash"
    wanted = f'<a href="{FINDER}?{urlencode({"like": item})}"><img src="{FINDER}/{tilde_encode(item)}.webp"'
    assert wanted in html
    assert wanted in (await site.client.get(f"/shop/things/{tilde_encode(item)}")).text
    row = (await site.client.get("/shop/things/none")).text
    assert "none.webp" not in row
    columns = (await site.client.get("/shop/things?_col=picture&_size=2")).text
    assert columns.count("<img") == 2


async def test_cells_of_rows_since_the_build(shop: Path, shop_once: Path) -> None:
    """Are Datasette's own, with the way to their BLOB, in place of a picture that is not there."""
    with closing(sqlite3.connect(shop / "shop.db")) as conn, conn:
        conn.execute("insert into things (id, picture) select 'new', picture from things where id = 'p-01'")
    site = make_site(shop, settings(f"onnx/{shop_once / 'eye'}"), **TABLES)
    for path in ("/shop/things?id__in=new,p-01", "/shop/things/new"):
        html = (await site.client.get(path)).text
        assert "/shop/things/new.blob?_blob_column=picture" in html
        assert "new.webp" not in html
    assert "p-01.webp" in (await site.client.get("/shop/things?id__in=new,p-01")).text


async def test_cells_of_a_database_in_memory(site: Datasette, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cost nothing: what such a database holds is read anew each time."""
    memory = site.add_memory_database("notes")
    try:
        await memory.execute_write("create table notes (id integer primary key, a text, b text, c text)")
        await memory.execute_write_many("insert into notes values (?, 'a', 'b', 'c')", [[n] for n in range(50)])
        reads: list[object] = []
        read = holdings.read
        monkeypatch.setattr(holdings, "read", lambda conn: reads.append(conn) or read(conn))
        assert (await site.client.get("/notes/notes")).status_code == 200
        assert len(reads) < 50
    finally:
        site.remove_database("notes")


async def test_row_pages_and_menus(site: Datasette) -> None:
    """Related pictures are seen, and lead on to the finder."""
    html = (await site.client.get("/shop/things/p-02")).text
    assert f'<img src="{FINDER}/p-03.webp" alt=""' in html
    assert f'href="{FINDER}?like=p-02"' in html
    table = (await site.client.get("/shop/things")).text
    assert f'href="{FINDER}"' in table
    assert "Find pictures" in table
    item = (await site.client.get(f"{HERE}/item/p-02")).text
    assert f'src="{FINDER}/p-02.webp"' in item
    assert f'src="{FINDER}/p-03.webp"' in item


async def test_other_pages_lead_to_the_finder(site: Datasette) -> None:
    for ending in ("", ".json"):
        answer = await site.client.get(f"{HERE}/search{ending}?q=blue&colour=red")
        assert (answer.status_code, answer.headers["location"]) == (307, f"{FINDER}{ending}?q=blue&colour=red")
    refused = await site.client.get(f"{HERE}/ask.json?q=blue")
    assert refused.status_code == 400
    assert "no text to quote" in refused.json()["error"]
    shown = await page(site, HERE)
    assert shown.link("All pictures") == FINDER
    assert "ask" not in {urlsplit(href).path.rsplit("/", 1)[-1] for _, href in shown.links}
    html = (await site.client.get(HERE)).text
    assert html.count(".webp") == 12


async def test_what_a_visitor_sent_is_said_again_in_no_time() -> None:
    """However long it is: finding folders in it took with its square, a minute for so much."""
    begun = time.monotonic()
    said = for_visitors(f"there is no {'a.' * 100_000!r} in /home/someone/here")
    assert len(said) == VISITORS_CHARACTERS
    assert time.monotonic() - begun < 5


async def test_keys_of_every_kind(tmp_path: Path, shop_once: Path, cli: Callable) -> None:
    """Numbers, compound keys, none at all, and files that no table has: pictures are found, shown in cells, and lead to their rows."""
    model = f"onnx/{shop_once / 'eye'}"
    tables = {
        "numbers": "id integer primary key, name text, picture blob",
        "compound": "town text, nr integer, name text, picture blob, primary key (town, nr)",
        "rowids": "name text, picture blob",
        "t": "e text primary key, id text, name text, picture blob",
    }
    files = tmp_path / "files"
    files.mkdir()
    path = tmp_path / "keys.db"
    with closing(sqlite3.connect(path)) as conn, conn:
        for name, columns in tables.items():
            conn.execute(f"create table {name} ({columns})")
            for number, colour in enumerate(("red", "#ff2000", "blue")):
                key = {
                    "numbers": [number + 5],
                    "compound": [f"a/{number}, b", number],
                    "rowids": [],
                    "t": [f"k{number}", "same"],
                }[name]
                conn.execute(
                    f"insert into {name} values ({', '.join('?' * (len(key) + 2))})",
                    [*key, f"{colour} one", plain(colour)],
                )
                (files / f"{number} ä#.png").write_bytes(plain(colour))
    for name in tables:
        cli("add", path, name, "--image", "picture", "-m", model)
    cli("embed", path, "files", "--files", files, "*.png", "--images", "-m", model)
    site = make_site(tmp_path, {"models": {model: {}}})
    for name in (*tables, "files"):
        start = (await site.client.get(f"/-/embeddings/keys/{name}/images.json")).json()["results"]
        assert len(start) == 3, name
        html = (await site.client.get(start[0]["similar_url"])).text
        assert f'src="{start[1]["image"]["url"]}"' in html, name
        assert {start[1]["url"], start[1]["similar_url"]} <= links(html)
        similar = (await site.client.get(start[0]["similar_url"].replace("/images?", "/images.json?"))).json()
        assert [one["id"] for one in similar["results"]] == [start[1]["id"], start[2]["id"]]
        words = (await site.client.get(f"/-/embeddings/keys/{name}/images.json?q=blue&k=1")).json()
        assert [one["title"] for one in words["results"]] == ["blue one" if name != "files" else start[2]["id"]]
        for one in start:
            assert (await site.client.get(one["url"])).status_code == 200
            assert (await site.client.get(one["image"]["url"])).headers["content-type"] == "image/webp"
        if name in tables:
            assert (await site.client.get(f"/keys/{name}")).text.count(".webp") == 3
        wanted = [one["id"] for one in words["results"]]
        assert [row["id"] for row in await rows(site, f"/keys/images_{name}.json?q=blue")][:1] == wanted
    refused = await site.client.get("/-/embeddings/keys/files/images.json?q=blue&colour=red")
    assert refused.status_code == 400


async def test_a_page_is_few_statements(shop_once: Path) -> None:
    """Sixty pictures are read by one, however many there are."""
    from datasette_embeddings import catalog, register

    with closing(sqlite3.connect(shop_once / "shop.db")) as conn:
        register(conn)
        tables, collection = catalog.tables_and_collection(conn, "things")
        page_of = pictures.ids_after(conn, tables, collection)
        said: list[str] = []
        conn.set_trace_callback(said.append)
        found = pictures.pictures_of(conn, tables, collection, page_of)
        assert len(found) == len(VECTORS)
        assert sum("thumbnail" in sql for sql in said if sql.startswith("select our_item")) == 1
        assert len(said) < 20
        assert not any("select *" in sql for sql in said)
        (sql,) = (sql for sql in said if sql.startswith("select our_item"))
        plan = [row[3] for row in conn.execute(f"explain query plan {sql}")]
        assert plan[0].startswith("SCAN our_wish")
        assert all(step.startswith("SEARCH") and "id=?" in step for step in plan[1:])


async def test_no_payload_makes_an_element(tmp_path: Path, shop_once: Path) -> None:
    """Names of things and what is asked for are text on every page, and alternative texts of pictures."""
    item, item2 = "p-02", "p-03"
    counts = []
    for number, texts in enumerate(
        (["harmless"] * 5, PAYLOADS[:5], PAYLOADS[5:10], PAYLOADS[10:15], PAYLOADS[15:20], PAYLOADS[20:])
    ):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        shutil.copy(shop_once / "shop.db", folder / "shop.db")
        with closing(sqlite3.connect(folder / "shop.db")) as conn, conn:
            conn.execute("update things set name = ?, colour = ?, note = ?", ["".join(texts)] * 3)
        site = make_site(folder, settings(f"onnx/{shop_once / 'eye'}"), **TABLES)
        hostile = quote("".join(texts))
        paths = [
            FINDER,
            f"{FINDER}?like={item}",
            f"{FINDER}?like={item}&unlike={item2}&phrase=",
            f"{FINDER}?id={item}&phrase={hostile}",
        ]
        paths += [
            f"{FINDER}?q={hostile}",
            f"{FINDER}?like={hostile}",
            f"{FINDER}?like={item}&colour={hostile}",
            f"{FINDER}?after={hostile}",
        ]
        paths += [
            f"{FINDER}?{hostile}=1",
            "/shop/things",
            f"/shop/things/{item}",
            "/shop/images_things?q=blue",
            HERE,
            f"{HERE}/item/{item}",
        ]
        found = []
        for path in paths:
            shown = Elements((await site.client.get(path)).text)
            assert not [a for a in shown.addresses if a.lower().lstrip().startswith("javascript:")]
            found.append({tag[0] for tag in shown.found} | {name for tag in shown.found for name in tag[1:]})
        counts.append(found)
    known = set().union(*counts[0])
    for number, shown_ones in enumerate(counts):
        for path, one in zip(paths, shown_ones, strict=True):
            assert one <= known, (number, path)
