"""Clusters where people meet them: their page, the pages of their rows, queries, items and rows; on whichever line is installed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hard
import pytest
from datasette.utils import tilde_encode
from grouped import put_clusters
from test_datasette import IS_V1, make_site, rows
from test_pages import GOLDEN, Page, data, page

from datasette_embeddings import catalog, queries, register
from datasette_embeddings.timelines import date_column, timelines

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasette.app import Datasette

pytestmark = pytest.mark.asyncio(loop_scope="module")

HERE = "/-/embeddings/world"
WEATHER = ["news/storm", "news/heat"]
OTHERS = ["news/tennis", "news/football", "news/rates", "news/inflation", "news/vaccine", "news/hospital"]


def ids_of(path: Path, name: str) -> list[str]:
    """Return the ids of a collection."""
    sql = "select e.id from embeddings e join collections c on c.id = e.collection_id where c.name = ? order by e.id"
    return [item for (item,) in hard.query(path, sql, [name])]


HALVED = ("odd", "compound", "numbers", "untyped", "table_x", "other_key", "plain_rows", "seen", "query", "pipe")


@pytest.fixture(scope="module")
def grouped_once(world_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world, all of whose collections but `titles` have two clusters; its articles say when they were published."""
    path = Path(shutil.copy(world_once, tmp_path_factory.mktemp("grouped") / "world.db"))
    put_clusters(
        path, "articles", [WEATHER, OTHERS], ["storm, <b>rain</b>", "cup, rates"], '["storm, <b>rain</b>", "wind"]'
    )
    for name in HALVED:
        ids = ids_of(path, name)
        put_clusters(path, name, [ids[::2], ids[1::2]], ["one"])
    hard.change(path, "alter table articles add column published text")
    for number, item in enumerate([*WEATHER, *OTHERS]):
        hard.change(path, ("update articles set published = ? where path = ?", [str(2018 + number // 2), item]))
    return path


@pytest.fixture(scope="module")
def site(grouped_once: Path) -> Datasette:
    """A site of the grouped world that all tests ask which change nothing."""
    return make_site(grouped_once.parent)


@pytest.fixture
def grouped(grouped_once: Path, tmp_path: Path) -> Path:
    """A copy of the grouped world."""
    return Path(shutil.copy(grouped_once, tmp_path / "world.db"))


# The page


async def test_page_shows_clusters(site: Datasette) -> None:
    """The largest first, each with its name, size, terms, most central items and dates; links lead on."""
    shown = await page(site, f"{HERE}/articles/clusters")
    assert "2 groups of rows by meaning" in shown.text
    assert shown.text.index("cup, rates") < shown.text.index("storm, <b>rain</b>")
    assert "by published, from 2018 to 2021" in shown.text
    assert "6 rows" in shown.text
    assert "Young player wins the tournament" in shown.text
    assert "Prices climb again" not in shown.text
    answer = await site.client.get(f"{HERE}/articles/clusters")
    assert re.findall(r'role="img" aria-label="([^"]+)"', answer.text) == [
        "published: 2019 to 2021, most in 2019, 2 of 6",
        "published: 2018 to 2018, most in 2018, 2 of 2",
    ]
    for text, href in shown.links:
        if href.startswith("/") and text != "Map":
            assert (await site.client.get(href)).status_code == 200, href
    body = await data(site, f"{HERE}/articles/clusters.json?k=1")
    assert body["count"] == 2
    assert body["dates"] == {"column": "published", "bars": ["2018", "2019", "2020", "2021"]}
    assert body["clusters"][1] == {
        "cluster": 1,
        "label": "storm, <b>rain</b>",
        "size": 2,
        "terms": ["storm, <b>rain</b>", "wind"],
        "dates": [2, 0, 0, 0],
        "items": [
            {
                "id": "news/storm",
                "score": 0.9,
                "title": "Storm floods the coast",
                "url": "/world/articles/news~2Fstorm",
            }
        ],
        "url": "/world/articles?_cluster=articles%3A1",
    }
    assert body["clusters"][0]["dates"] == [0, 2, 2, 2]


@pytest.mark.parametrize("name", ["articles", "pipe"])
async def test_json_is_what_it_was(site: Datasette, name: str) -> None:
    """Byte for byte, on both lines."""
    body = (await site.client.get(f"{HERE}/{name}/clusters.json")).text
    golden = json.loads(GOLDEN.read_text())
    if "WRITE_GOLDEN" in os.environ:
        GOLDEN.write_text(json.dumps({**golden, f"clusters, {name}": body}, indent=1, sort_keys=True) + "\n")
    else:
        assert body == golden[f"clusters, {name}"]


async def test_number_of_items(site: Datasette) -> None:
    """Three of each cluster, as many as k says, up to 20; of one that has fewer all of them."""
    for query, number in (("", 3), ("?k=1", 1), ("?k=5", 5), ("?k=20", 6)):
        body = await data(site, f"{HERE}/articles/clusters.json{query}")
        assert len(body["clusters"][0]["items"]) == number
        scores = [item["score"] for item in body["clusters"][0]["items"]]
        assert scores == sorted(scores, reverse=True)
    for query in ("k=21", "k=0", "k=x", "k=-1", "topic=sport", "q=storm"):
        error = (await data(site, f"{HERE}/articles/clusters.json?{query}", 400))["error"]
        assert "k" in error


@pytest.mark.parametrize("name", ["articles", *HALVED])
async def test_sources_of_every_kind(site: Datasette, grouped_once: Path, name: str) -> None:
    """Every item that a page shows, and the rows of every cluster, are there; and the SQL gives the same clusters."""
    body = await data(site, f"{HERE}/{name}/clusters.json?k=20")
    shown = {item["id"] for cluster in body["clusters"] for item in cluster["items"]}
    assert shown == set(ids_of(grouped_once, name))
    for cluster in body["clusters"]:
        for item in cluster["items"]:
            assert item["title"] if name != "pipe" else item["text"]
            if name != "untyped":  # Datasette finds no row by a number in a column without a type
                assert (await site.client.get(item["url"])).status_code == 200
        answer = await site.client.get(cluster["url"])
        assert answer.status_code == 200
        assert ("_cluster=" if name not in {"pipe", "query"} else f"/cluster_{name}?") in cluster["url"]
    shown_page = await page(site, f"{HERE}/{name}/clusters")
    assert (await site.client.get(shown_page.link("View and edit SQL"))).status_code == 200


async def test_no_clusters(site: Datasette, world: Path) -> None:
    """A collection without any says how to make them; one that was clustered when it had no rows says so."""
    shown = await page(site, f"{HERE}/titles/clusters")
    assert (
        "No clusters have been made yet. datasette embeddings clusters world.db titles auto makes them." in shown.text
    )
    assert (await data(site, f"{HERE}/titles/clusters.json"))["clusters"] == []
    llm = await page(site, f"{HERE}/od~2Fd~20na~2Eme~20~3Cb~3E/clusters")
    assert "No clusters have been made" in llm.text
    hard.change(world, "update embeddings_collections set clusters = 'auto'")
    assert "no row has an embedding" in (await page(make_site(world.parent), f"{HERE}/titles/clusters")).text


@pytest.mark.parametrize("number", [1, 450, 1100])
async def test_any_number_of_clusters(tmp_path: Path, cli: Callable, number: int) -> None:
    """One is shown as it is; of many the smaller stand in a list, of the smallest only how many they are."""
    path = tmp_path / "many.db"
    hard.change(path, "create table t (id integer primary key, title text)")
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.executemany("insert into t (title) values (?)", [(f"Title {n}",) for n in range(1, number + 2)])
    cli("add", path, "t")
    put_clusters(path, "t", [["1", str(number + 1)], *([str(n)] for n in range(2, number + 1))])
    site = make_site(tmp_path)
    answer = await site.client.get("/-/embeddings/many/t/clusters")
    assert answer.text.count('class="embeddings-cluster"') == min(number, 40)
    shown = Page(answer.text)
    assert f"{number:,} group{'s' if number > 1 else ''} of rows" in shown.text
    assert ("smaller clusters" in shown.text) == (number > 1)
    assert ("960 smaller clusters of 1,060" in shown.text) == (number == 1100)
    assert (f"Title {min(number, 1000)}" in shown.text) == (number <= 1000 or number == 1100)
    body = await data(site, "/-/embeddings/many/t/clusters.json")
    assert (body["count"], len(body["clusters"])) == (number, min(number, 1000))
    assert body["clusters"][0]["size"] == 2


async def test_what_changed_since_the_build(grouped: Path) -> None:
    """A row that is gone is not shown; nor are clusters looked for in a file of an earlier release."""
    hard.change(grouped, "delete from articles where path = 'news/storm'")
    site = make_site(grouped.parent)
    body = await data(site, f"{HERE}/articles/clusters.json")
    assert [item["id"] for item in body["clusters"][1]["items"]] == ["news/heat"]
    assert [row["item"] for row in await rows(site, "/world/clusters_articles.json")] == ["news/tennis", "news/storm"]
    assert len(await rows(site, "/world/articles.json?_cluster=articles:1")) == 1
    hard.change(
        grouped,
        *(f"drop table {name}" for name in ("clusters", "cluster_members", "projections", "labels", "predictions")),
        *(f"alter table embeddings_collections drop column {name}" for name in ("clusters", "projection", "labels")),
    )
    assert (await data(site, f"{HERE}/articles/clusters.json"))["count"] == 0
    assert (await site.client.get(f"{HERE}/articles")).status_code == 200
    assert (await site.client.get("/world/articles?_cluster=articles:1")).status_code == 400


async def test_terms_that_another_program_wrote(grouped: Path) -> None:
    """Are left out where they are no list."""
    site = make_site(grouped.parent)
    for terms in ("{", "7", '{"a": 1}', "[[1]]", None):
        hard.change(grouped, ("update clusters set terms = ?, label = null", [terms]))
        shown = await page(site, f"{HERE}/articles/clusters")
        assert "Cluster 1" in shown.text


# A table's page


@pytest.mark.parametrize(
    "name", ["articles", "odd", "compound", "numbers", "untyped", "table_x", "other_key", "plain_rows", "seen"]
)
async def test_cluster_narrows_a_table(site: Datasette, grouped_once: Path, name: str) -> None:
    """`?_cluster=` leaves the rows of a cluster, for keys of every kind, as HTML, JSON and CSV."""
    tables, collection = catalog_of(grouped_once, name)
    sql = "select id from cluster_members where collection_id = ? and cluster = 1"
    wanted = {item for (item,) in hard.query(grouped_once, sql, [collection.id])}
    table = tilde_encode(collection.table)
    found = await rows(site, f"/world/{table}.json?_cluster={name}:1&_size=100")
    ids = [
        ",".join(tilde_encode(str(row[c])) for c in collection.key)
        if len(collection.key) > 1
        else str(row[collection.key[0]])
        for row in found
    ]
    assert set(ids) == wanted
    assert len(ids) == len(wanted)
    html = await page(site, f"/world/{table}?_cluster={name}:1")
    assert f"(number 1 of {name})" in html.text
    answer = await site.client.get(f"/world/{table}.csv?_cluster={name}:1&_size=100")
    assert len(list(csv.DictReader(io.StringIO(answer.text)))) == len(wanted)
    if name not in {"untyped", "seen"}:
        with closing(sqlite3.connect(grouped_once)) as conn:
            register(conn)
            condition = queries.in_cluster(conn, tables, collection, 1)
            plan = [
                row[3]
                for row in conn.execute(f'explain query plan select * from "{collection.table}" where {condition}')
            ]
            assert not [step for step in plan if step.startswith("SCAN")], plan
            assert any("idx_cluster_members_cluster (cluster=? AND collection_id=?)" in step for step in plan), plan


def catalog_of(path: Path, name: str) -> Any:
    """Return our tables and a collection of a file."""
    with closing(sqlite3.connect(path)) as conn:
        return catalog.tables_and_collection(conn, name)


async def test_cluster_with_other_filters(site: Datasette, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filters, facets, pages and `_meaning` work on what is left; the best are chosen among the cluster's rows."""
    from datasette_embeddings import meaning

    sport = await rows(site, "/world/articles.json?_cluster=articles:2&topic=sport")
    assert {row["path"] for row in sport} == {"news/football", "news/tennis"}
    extra = "" if not IS_V1 else "&_extra=facet_results"
    body = (await site.client.get(f"/world/articles.json?_cluster=articles:2&_facet=topic&_size=4{extra}")).json()
    facets = body["facet_results"]
    facet = (facets.get("results") or facets)["topic"]
    assert {entry["value"]: entry["count"] for entry in facet["results"]} == {"sport": 2, "economy": 2, "health": 2}
    rest = await rows(site, f"/world/articles.json?_cluster=articles:2&_size=4&_next={body['next']}")
    assert len(rest) == 2
    monkeypatch.setattr(meaning, "MEANING_ROWS", 1)
    text = "storm+floods+the+coast,+late+goal"
    (best,) = await rows(site, f"/world/articles.json?_meaning={text}")
    assert best["path"] == "news/storm"
    (best,) = await rows(site, f"/world/articles.json?_meaning={text}&_cluster=articles:2")
    assert best["path"] == "news/football"
    assert await rows(site, "/world/articles.json?_cluster=articles:1&_cluster=articles:2") == []
    assert len(await rows(site, "/world/articles.json?_cluster=")) == 8
    page_of_both = await page(site, "/world/articles?_cluster=articles:2&topic=sport")
    assert 'where cluster is "cup, rates" (number 2 of articles)' in page_of_both.text.replace(
        'topic = "sport" and ', ""
    )


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("articles?_cluster=articles:3", 404, "articles has no cluster 3"),
        ("articles?_cluster=articles:999999999", 404, "articles has no cluster 999999999"),
        ("articles?_cluster=articles", 400, "such as _cluster=articles:1; found 'articles'"),
        ("articles?_cluster=articles:-1", 400, "such as _cluster=articles:1"),
        ("articles?_cluster=titles:1", 400, "such as _cluster=articles:1"),
        ("articles?_cluster=odd:1", 400, "such as _cluster=articles:1"),
        ("notes?_cluster=articles:1", 400, "notes has no clusters"),
    ],
)
async def test_clusters_that_are_none(site: Datasette, path: str, status: int, sentence: str) -> None:
    """Are refused in words, as pages and as JSON."""
    assert sentence in (await page(site, f"/world/{path}", status)).text
    assert sentence in (await data(site, "/world/" + path.replace("?", ".json?"), status))["error"]


# Queries


async def test_queries(site: Datasette) -> None:
    """Give clusters, the rows of one, and the map, each with the rows' own columns."""
    clusters = await rows(site, "/world/clusters_articles.json")
    assert list(clusters[0]) == ["cluster", "label", "size", "item", "title"]
    assert [(row["cluster"], row["size"], row["title"]) for row in clusters] == [
        (2, 6, "Young player wins the tournament"),
        (1, 2, "Storm floods the coast"),
    ]
    members = await rows(site, "/world/cluster_articles.json?cluster=2")
    assert list(members[0]) == ["id", "score", "path", "title", "body", "topic", "words", "published"]
    assert [row["id"] for row in members] == OTHERS
    assert await rows(site, "/world/cluster_articles.json?cluster=") == []
    points = await rows(site, "/world/projection_articles.json")
    assert list(points[0]) == ["id", "x", "y", "cluster", "title"]
    assert {row["id"]: (row["x"], row["y"]) for row in points}["news/football"] == (2, 1)
    assert [row["content"] for row in await rows(site, "/world/clusters_pipe.json")] == ["storm and rain", "cup final"]
    assert {row["city"] for row in await rows(site, "/world/cluster_compound.json?cluster=1")} == {"a,b/c", "til~de"}
    for name in ("clusters_titles", "cluster_titles", "projection_titles"):
        assert (await site.client.get(f"/world/{name}.json")).status_code == 404


async def test_queries_use_indexes(grouped_once: Path) -> None:
    """No query reads more of our tables, or of the source, than its answer needs."""
    with closing(sqlite3.connect(grouped_once)) as conn:
        register(conn)
        for query in queries.queries_of(conn):
            if query.parameters == ("cluster",) or "cluster" in query.clusters:
                plan = [row[3] for row in conn.execute("explain query plan " + query.sql, {"cluster": 1})]
                scans = [step for step in plan if step.startswith("SCAN") and "articles" not in step]
                assert not scans, (query.name, plan)


async def test_cells_lead_to_clusters_and_items(site: Datasette, tmp_path: Path, cli: Callable) -> None:
    """In the results of these queries; a source's own columns of such names stay as they are."""
    links = dict((await page(site, "/world/clusters_articles")).links)
    assert links["2"] == "/world/articles?_cluster=articles%3A2"
    assert links["news/tennis"] == "/world/articles/news~2Ftennis"
    assert dict((await page(site, "/world/projection_odd")).links)["1"] == "/world/odd?_cluster=odd%3A1"
    assert dict((await page(site, "/world/clusters_pipe")).links)["1"] == "/world/cluster_pipe?cluster=1"
    path = tmp_path / "x.db"
    hard.change(
        path, "create table t (id integer primary key, title text, item text, cluster integer, label text, x text)"
    )
    hard.change(
        path,
        "insert into t values (1, 'storm', 'i', 77, 'l', 'wide')",
        "insert into t values (2, 'rain', 'j', 78, 'm', 'y')",
    )
    cli("embed", path, "t", "--table", "t", "--column", "title")
    put_clusters(path, "t", [["1", "2"]], ["weather"])
    other = make_site(tmp_path)
    shown = await page(other, "/x/cluster_t?cluster=1")
    assert {"i", "77"}.isdisjoint(dict(shown.links))
    assert dict(shown.links)["1"] == "/x/t/1"
    (row,) = await rows(other, "/x/clusters_t.json")
    assert (row["label"], row["title"]) == ("weather", "storm")


async def test_title_columns_with_names_of_ours(tmp_path: Path, cli: Callable) -> None:
    """A source named like our table, whose title column is named like ours: both are in the results."""
    path = tmp_path / "x.db"
    hard.change(path, "create table wanted (item text primary key, label text)")
    hard.change(
        path, "insert into wanted values ('a', 'storm and rain')", "insert into wanted values ('b', 'cup final')"
    )
    cli("embed", path, "c", "--table", "wanted", "--column", "label")
    put_clusters(path, "c", [["a", "b"]], ["weather"])
    site = make_site(tmp_path)
    (row,) = await rows(site, "/x/clusters_c.json")
    assert row == {"cluster": 1, "label": "weather", "size": 2, "item": "a", "row_label": "storm and rain"}
    body = await data(site, "/-/embeddings/x/c/clusters.json")
    assert [item["title"] for item in body["clusters"][0]["items"]] == ["storm and rain", "cup final"]


# Where else they are


async def test_items_and_rows_say_their_cluster(site: Datasette) -> None:
    """With a link to the others in it; those of a collection without clusters say nothing."""
    body = await data(site, f"{HERE}/articles/item/news~2Fstorm.json")
    url = "/world/articles?_cluster=articles%3A1"
    assert body["cluster"] == {"cluster": 1, "label": "storm, <b>rain</b>", "size": 2, "url": url}
    for path in (f"{HERE}/articles/item/news~2Fstorm", "/world/articles/news~2Fstorm"):
        shown = await page(site, path)
        assert shown.link("storm, <b>rain</b>") == url
        assert shown.text.count("In the cluster") == 1
    assert (await data(site, f"{HERE}/titles/item/news~2Fstorm.json"))["cluster"] is None
    assert (await data(site, f"{HERE}/pipe/item/p2.json"))["cluster"]["url"] == "/world/cluster_pipe?cluster=2"


async def test_collection_names_its_largest(site: Datasette, grouped_once: Path, cli: Callable) -> None:
    """With links to their rows, to all of them, and to the map; its state counts them, as does the command line."""
    shown = await page(site, f"{HERE}/articles")
    assert shown.link("cup, rates") == "/world/articles?_cluster=articles%3A2"
    assert shown.link("All 2 clusters") == f"{HERE}/articles/clusters"
    assert shown.link("Map") == f"{HERE}/articles/map"
    body = await data(site, f"{HERE}/articles.json")
    assert (body["clusters"], body["projection"]) == (2, "pca")
    assert "clusters" not in (await page(site, f"{HERE}/titles")).text
    assert ", 2 clusters, a map by pca; generation" in cli("status", grouped_once).output


# Dates


DATES = {
    "ISO dates": (["2024-03-01", "2024-03-05", None, "2024-03-03"], ["2024-03-01", "2024-03-05"], 5),
    "times": (["2023-01-31T23:59:59+02:00", "2024-12-01 10:00", "2023-07-01T00:00:00Z"], ["2023-01", "2024-12"], 24),
    "months": (["2024-03", "2024-01", "2024-02"], ["2024-01", "2024-03"], 3),
    "quarters": (["2015-02-03", "2022-11-05", "2020-01-02"], ["2015-01", "2022-12"], 32),
    "years": ([1999, "2001", 2003], ["1999", "2003"], 5),
    "long ago": ([1066, 1492, "2001"], ["1050", "2049"], 20),
    "some unknown": ([*["2020-01-01"] * 9, "2021-01-01", "unknown"], ["2020", "2021"], 2),
    "mostly unknown": (["2020-01-01", "unknown", "2021-01-01"], None, 0),
    "one day": (["2020-01-01", "2020-01-01"], None, 0),
    "no days": (["2020-13-45", "0000-00-00", "2020-02"], None, 0),
    "numbers": ([1.5, 17, 123456789, -2000], None, 0),
    "none": ([None, None], None, 0),
}


@pytest.mark.parametrize("kind", DATES)
async def test_dates_of_every_kind(tmp_path: Path, kind: str) -> None:
    """Are counted over days, months or years, no finer than all of them are told; every row that has one is counted."""
    values, ends, bars = DATES[kind]
    path = tmp_path / "x.db"
    hard.change(path, "create table t (id integer primary key, title text, published)")
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.executemany("insert into t (title, published) values ('storm', ?)", [(value,) for value in values])
    hard.run("embed", path, "t", "--table", "t", "--column", "title")
    put_clusters(path, "t", [["1"], [str(n) for n in range(2, len(values) + 1)]])
    with closing(sqlite3.connect(path)) as conn:
        found = timelines(conn, *catalog.tables_and_collection(conn, "t"))
    if ends is None:
        assert found is None
        return
    assert found is not None
    assert list(found.ends) == ends
    assert len(found.bars) == bars
    dated = [value for value in values if value not in {None, "unknown"}]
    assert sum(sum(counts) for counts in found.counts.values()) == len(dated)
    drawn = found.drawing(2)
    assert re.fullmatch(r"(M\d+ 24v-[\d.]+h4v[\d.]+z)+", drawn)
    assert drawn.count("M") == sum(map(bool, found.counts[2]))
    assert "v-24h" in drawn


COLUMNS = {
    "name text, published text": (["x", "2020-01-01"], "published"),
    "updated text, created text": (["2020-01-01", "2020-01-01"], "created"),
    "updated text, noted text": (["2020-01-01", "2020-01-01"], "noted"),
    "updated text, name text": (["2020-01-01", "x"], "updated"),
    "words integer, year integer": ([2020, 2020], "year"),
    "words integer, price real": ([2020, 2020], None),
    '"datePublished" text, "a ""b" text': (["2020-01-01", "2020-01-01"], "datePublished"),
    "published blob, other text": (["2020-01-01", "2020-01-01"], "other"),
}


@pytest.mark.parametrize("columns", COLUMNS)
async def test_which_column_has_the_dates(conn: sqlite3.Connection, columns: str) -> None:
    """The one whose name says that rows came to be then, before others; years only where the name speaks of time."""
    values, wanted = COLUMNS[columns]
    conn.execute(f'create table "t""x" (id integer primary key, {columns})')
    conn.execute('insert into "t""x" values (1, ?, ?)', values)
    assert date_column(conn, 't"x') == wanted


async def test_dates_that_take_too_long(grouped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Are left out; the page has the rest."""
    from datasette_embeddings import timelines as module

    slow = "(with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n where i < {})"
    monkeypatch.setattr(module, "_day", lambda value: slow.format(f"length({value})"))
    site = make_site(grouped.parent, settings={"sql_time_limit_ms": 200})
    shown = await page(site, f"{HERE}/articles/clusters")
    assert "cup, rates" in shown.text
    assert "published" not in shown.text
    assert json.loads((await site.client.get(f"{HERE}/articles/clusters.json")).text)["dates"] is None
