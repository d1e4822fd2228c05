"""The map as it is sent: points, colours, ids and items, for whom, and the picture that needs no script."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing
from html import unescape
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

import numpy as np
import pytest
from datasette.utils import tilde_encode
from mapped import CLUSTERS, PLACES, put_map
from test_datasette import make_site

from datasette_embeddings.mapping import GRID, colors_of

if TYPE_CHECKING:
    from pathlib import Path

    from datasette.app import Datasette

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAP = "/-/embeddings/news/articles/map"
PARTS = ("", ".json", "/points.bin", "/ids.json", "/items.json?at=0", "/colors.bin?column=topic")
HOSTILE = "</title></text><script>alert(1)</script>\"'"


def unpack(body: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the JSON at the head of a response, and the bytes after it."""
    length = int.from_bytes(body[:4], "little")
    return json.loads(body[4 : 4 + length]), body[4 + length :]


class Links(HTMLParser):
    """The addresses and texts of a page's links, scripts and map."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.picture: list[str] = []
        self.tags: list[str] = []
        self.data: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.addresses += [found[name] for name in ("href", "src", "action") if name in found]
        self.addresses += [value for name, value in found.items() if name.startswith("data-") and value.startswith("/")]
        self.tags.append(tag)
        if found.get("id") == "embeddings-map":
            self.data = {name.removeprefix("data-"): value for name, value in found.items()}


@pytest.fixture
def site(built: Path) -> Datasette:
    """A site with the map of the articles."""
    put_map(built)
    return make_site(built.parent)


async def points_of(site: Datasette, path: str = MAP) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Return the head, the coordinates and the clusters of a map, as a browser reads them."""
    head, rest = unpack((await site.client.get(f"{path}/points.bin")).content)
    count = head["points"]
    places = np.frombuffer(rest, "<u2", 2 * count).reshape(count, 2)
    assert len(rest) == 6 * count
    return head, places * (head["span"] / GRID) + head["low"], np.frombuffer(rest, "<u2", count, 4 * count)


async def test_points(site: Datasette) -> None:
    """They stand in the order of their ids, as exactly as 65,536 steps are, with their clusters."""
    head, places, clusters = await points_of(site)
    ids = (await site.client.get(f"{MAP}/ids.json")).json()["ids"]
    assert ids == sorted(PLACES)
    assert places == pytest.approx(np.array([PLACES[item] for item in ids]), abs=head["span"] / GRID)
    wanted = {item: n // 2 + 1 for n, item in enumerate(PLACES)}
    assert dict(zip(ids, clusters.tolist(), strict=True)) == wanted
    assert [group["label"] for group in head["clusters"]] == list(CLUSTERS)
    assert [group["size"] for group in head["clusters"]] == [2, 2, 2, 2]


async def test_json(site: Datasette) -> None:
    """The twin says all but the points themselves, the same as the head of these."""
    found = (await site.client.get(f"{MAP}.json")).json()
    head, _, _ = await points_of(site)
    about = {"ok": True, "database": "news", "collection": "articles", "columns": ["topic"]}
    assert found == {**about, **head}
    assert (found["points"], found["items"]) == (8, 8)


async def test_what_is_kept(site: Datasette, built: Path) -> None:
    """An address that names the content lasts; another map has another name, and others are asked for anew."""
    url = Links((await site.client.get(MAP)).text).data["points"]
    first = await site.client.get(url)
    assert first.headers["cache-control"] == "max-age=31536000, immutable"
    plain = await site.client.get(f"{MAP}/points.bin")
    assert plain.headers["cache-control"] == "no-cache"
    again = await site.client.get(f"{MAP}/points.bin", headers={"if-none-match": plain.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    put_map(built, {**PLACES, "news/rates": (0.0, 0.0)})
    changed = make_site(built.parent)
    assert Links((await changed.client.get(MAP)).text).data["points"] != url
    stale = await changed.client.get(url)
    assert stale.headers["cache-control"] == "no-cache"
    assert stale.content != first.content


async def test_items(site: Datasette) -> None:
    """What stands at a place, with the title and excerpt that a search shows."""
    ids = sorted(PLACES)
    found = (await site.client.get(f"{MAP}/items.json?at=7,0,99")).json()["items"]
    assert [(item["at"], item["id"]) for item in found] == [(0, ids[0]), (7, ids[7])]
    assert found[0]["title"] == "Late goal decides the cup final"
    assert found[0]["excerpt"].startswith("The striker scored")
    assert found[0]["url"] == "/news/articles/news~2Ffootball"
    for bad in ("", "x", "-1", "1,,2", ",".join("0" * 41), "9" * 12):
        answer = await site.client.get(f"{MAP}/items.json?at={bad}")
        assert answer.status_code == 400, bad
        assert "numbers of points" in answer.text


async def test_colors(site: Datasette) -> None:
    """Values in the order of how common they are, the first of them 0."""
    legend, codes = unpack((await site.client.get(f"{MAP}/colors.bin?column=topic")).content)
    assert legend["values"] == ["economy", "health", "sport", "weather"]
    assert legend["counts"] == [2, 2, 2, 2]
    assert list(codes) == [2, 3, 1, 0, 0, 3, 2, 1]
    for column in ("path", "body", "nothing", ""):
        answer = await site.client.get(f"{MAP}/colors.bin?column={column}")
        assert answer.status_code == 400, column


async def test_legends() -> None:
    """Numbers and days on a scale, whatever is between them; more values than colours end as others."""
    numbers = [*range(200), None, 10_000, math.inf]
    legend, codes = colors_of(numbers)
    assert (legend["kind"], legend["low"], legend["high"], legend["missing"]) == ("numbers", 2, 198, 2)
    assert list(codes[[0, 100, 200, 201, 202]]) == [0, 127, 255, 254, 255]
    days = [f"2024-01-{day:02}T10:00" for day in range(1, 32)] + ["2024-02-31", None]
    legend, codes = colors_of(days)
    assert (legend["kind"], legend["low"], legend["high"], legend["missing"]) == (
        "dates",
        "2024-01-01",
        "2024-01-31",
        2,
    )
    assert list(codes[[0, 15, 30, 31, 32]]) == [0, 127, 254, 255, 255]
    legend, codes = colors_of([f"tag {n % 20}" for n in range(50)])
    assert (len(legend["values"]), legend["other"]) == (11, 50 - sum(legend["counts"]))
    assert set(codes.tolist()) == set(range(12))
    assert colors_of([None, ""])[0]["missing"] == 2


@pytest.mark.parametrize("part", PARTS)
async def test_only_for_whom_the_source_is(built: Path, part: str) -> None:
    put_map(built)
    site = make_site(built.parent, databases={"news": {"tables": {"articles": {"allow": {"id": "root"}}}}})
    refused = await site.client.get(MAP + part)
    assert refused.status_code == 403
    assert "storm" not in refused.text
    cookies = {"ds_actor": site.sign({"a": {"id": "root"}}, "actor")}
    shown = await site.client.get(MAP + part, cookies=cookies)
    assert (shown.status_code, shown.headers["cache-control"]) == (200, "private, no-store")


async def test_the_picture(site: Datasette) -> None:
    """Every article is a link in its colour, with its name; the names of clusters are on it, and in the list beside."""
    page = (await site.client.get(MAP)).text
    svg = page[page.index("<svg viewBox") : page.index("</svg>", page.index("<svg viewBox"))]
    assert svg.count("<a href=") == 8
    assert '<a href="/news/articles/news~2Fstorm"><title>Storm floods the coast</title><circle class="map-c2"' in svg
    assert all(f">{label}</text>" in svg for label in CLUSTERS)
    assert "Each point leads to its item." in page
    assert "A sample:" not in page
    assert f'href="/news/articles?_cluster={quote("articles:3")}">storm, heat</a>' in page


async def test_a_sample(built: Path) -> None:
    """Of many articles some are drawn, which the picture says; all are sent as points."""
    places = {f"more/{n:03}": (n % 30, n / 30) for n in range(1_000)}
    with closing(sqlite3.connect(built)) as conn, conn:
        conn.executemany("insert into articles (path, title) values (?, ?)", [(item, item) for item in places])
    put_map(built, places, ["one"])
    site = make_site(built.parent)
    page = (await site.client.get(MAP)).text
    drawn = page.count("<circle")
    assert 390 <= drawn <= 400
    assert f"A sample: {drawn} of 1,000 items." in page
    assert (await points_of(site))[0]["points"] == 1_000


@pytest.mark.parametrize(
    ("places", "drawn"),
    [
        ({"news/rates": (3.0, 3.0)}, 1),
        (dict.fromkeys(PLACES, (0.5, 0.5)), 8),
        ({**PLACES, "news/rates": (None, 1.0), "news/heat": (math.inf, 1.0)}, 6),
        ({item: (1e-9 * n, 1e9) for n, item in enumerate(PLACES)}, 8),
        ({**PLACES, "gone": (0.0, 0.0)}, 9),
    ],
    ids=["one", "same", "nowhere", "line", "gone"],
)
async def test_odd_places(built: Path, places: dict[str, Any], drawn: int) -> None:
    """Every map is drawn that has a point; a point without a row is one that nothing can be told of."""
    put_map(built, places)
    site = make_site(built.parent)
    head, found, _ = await points_of(site)
    assert head["points"] == drawn
    assert np.isfinite(found).all()
    page = await site.client.get(MAP)
    assert page.status_code == 200
    assert page.text.count("<circle") == min(drawn, len(places.keys() & PLACES.keys()))
    items = (await site.client.get(f"{MAP}/items.json?at={','.join(map(str, range(drawn)))}")).json()["items"]
    assert len(items) == min(drawn, len(places.keys() & PLACES.keys()))


async def test_no_map(built: Path) -> None:
    """The page says how to come by one."""
    put_map(built, {})
    site = make_site(built.parent)
    page = await site.client.get(MAP)
    assert page.status_code == 200
    assert "projection: pca" in page.text
    assert "<script defer" not in page.text
    assert (await site.client.get(f"{MAP}.json")).json()["points"] == 0
    assert (await site.client.get(f"{MAP}/points.bin")).status_code == 404


async def test_a_part_as_sql(site: Datasette) -> None:
    """The page's own SQL gives every item; with other bounds those between them."""
    link = Links((await site.client.get(MAP)).text).data["sql"]
    path, arguments = urlsplit(link).path, dict(parse_qsl(urlsplit(link).query))
    assert len(await rows_of(site, path, arguments)) == 8
    part = await rows_of(site, path, {**arguments, "x_low": "-1.6", "x_high": "-0.6", "y_low": "-2", "y_high": "1.2"})
    assert [row["id"] for row in part] == ["news/inflation", "news/storm"]
    assert part[1]["title"] == "Storm floods the coast"


async def rows_of(site: Datasette, path: str, arguments: dict[str, str]) -> list[dict[str, Any]]:
    answer = await site.client.get(f"{path}.json", params={**arguments, "_shape": "array"})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_no_sql_for_who_may_run_none(built: Path) -> None:
    put_map(built)
    site = make_site(built.parent, settings={"default_allow_sql": False})
    assert "sql" not in Links((await site.client.get(MAP)).text).data


async def test_under_a_path(built: Path) -> None:
    """Every address of a site that is not at the root begins with where it is."""
    put_map(built)
    site = make_site(built.parent, settings={"base_url": "/here/"})
    page = Links((await site.client.get(MAP)).text)
    assert {"points", "ids", "items", "colors", "sql"} <= page.data.keys()
    ours = [address for address in page.addresses if address.startswith("/")]
    assert ours
    assert all(address.startswith("/here/") for address in ours), ours
    for name in ("points", "ids"):
        assert (await site.client.get(page.data[name].removeprefix("/here"))).status_code == 200


async def test_hostile_names(built: Path) -> None:
    """Names of clusters, titles and columns are text."""
    with closing(sqlite3.connect(built)) as conn, conn:
        conn.execute("update articles set title = ?", [HOSTILE])
        conn.execute(f'alter table articles add column "{HOSTILE.replace(chr(34), chr(34) * 2)}" text default "x"')
    put_map(built, PLACES, [HOSTILE] * 4)
    site = make_site(built.parent)
    page = (await site.client.get(MAP)).text
    assert "<script>alert" not in page
    assert HOSTILE in unescape(page)
    answer = await site.client.get(f"{MAP}/colors.bin", params={"column": HOSTILE})
    assert unpack(answer.content)[0]["values"] == ["x"]


async def test_every_kind_of_collection(world: Path) -> None:
    """Tables with any key, views, files and what has no source: each has its map, and its points lead to what they are."""
    with closing(sqlite3.connect(world)) as conn:
        sql = "select c.name, e.id from embeddings e join collections c on c.id = e.collection_id"
        items = conn.execute(sql).fetchall()
        chunked = {row[0] for row in conn.execute("select distinct collection_id from chunks")}
        names = dict(conn.execute("select name, id from collections"))
    for name, number in names.items():
        ids = dict.fromkeys(item.rpartition("#")[0] if number in chunked else item for n, item in items if n == name)
        put_map(world, {item: (n, -n) for n, item in enumerate(ids)}, ["all"], name)
    site = make_site(world.parent)
    for name in names:
        path = f"/-/embeddings/world/{tilde_encode(name)}/map"
        page = await site.client.get(path)
        assert page.status_code == 200, (name, page.text)
        head, _, _ = await points_of(site, path)
        found = (
            await site.client.get(f"{path}/items.json?at={','.join(map(str, range(min(head['points'], 40))))}")
        ).json()
        assert len(found["items"]) == head["points"], name
        for item in found["items"]:
            assert (await site.client.get(item["item_url"])).status_code == 200, item
        for column in (await site.client.get(f"{path}.json")).json()["columns"]:
            answer = await site.client.get(f"{path}/colors.bin", params={"column": column})
            legend, codes = unpack(answer.content)
            assert len(codes) == head["points"]
            assert legend["missing"] < head["points"] or legend["kind"] != "values", (name, column)
