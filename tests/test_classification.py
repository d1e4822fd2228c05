"""Labels by average location: what a build stores of them, what is predicted, and the query that classifies any text, on both lines."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hard
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai_server import OpenAIServer
from test_datasette import make_site, rows

from datasette_embeddings import register
from datasette_embeddings.classification import Averages, Members, predictions
from datasette_embeddings.limits import MAX_LABEL_CHARACTERS, MAX_LABELS, TILE_ROWS
from datasette_embeddings.models import get_model
from datasette_embeddings.vectors import score_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COLLECTION = {"table": "articles", "columns": ["title", "body"]}
CALM = {"calm": ["a quiet lake", "nobody hurries"], "busy": ["a loud market", "the rush hour"]}


def configure(path: Path, labels: object = "topic", **more: object) -> Path:
    """Write the configuration of the one collection `articles`, by the static model."""
    config = path.with_suffix(".json")
    config.write_text(json.dumps({"collections": {"articles": {**COLLECTION, "labels": labels, **more}}}))
    return config


@pytest.fixture
def labelled(news: Path) -> Path:
    """The articles, two of them without a topic, built with their topics as labels."""
    hard.change(
        news,
        "update articles set topic = null where path = 'news/heat'",
        "update articles set topic = ' ' where path = 'news/hospital'",
    )
    hard.run("build", news, "-c", configure(news))
    return news


def stored(path: Path, table: str = "predictions") -> list[tuple[Any, ...]]:
    """Return the rows of `labels` or `predictions`, without the collection's number."""
    return [row[1:] for row in hard.query(path, f"select * from {table} order by 1, 2")]


def expected(vectors: dict[str, np.ndarray], labels: dict[str, str]) -> dict[str, list[tuple[float, str]]]:
    """Return id -> [(score, label)], best first, by the definition: one pair at a time, each row left out of its own label's average."""
    found: dict[str, list[tuple[float, str]]] = {}
    for item, vector in vectors.items():
        scored = []
        for label in sorted(set(labels.values())):
            others = [vectors[other] for other, own in labels.items() if own == label and other != item]
            if others:
                mean = np.mean(np.array(others, np.float64), axis=0)
                scored.append((float(vector.astype(np.float64) @ mean / np.linalg.norm(mean)), label))
        found[item] = sorted(scored, reverse=True)
    return found


# What is stored


def test_averages_are_those_of_embed_average(labelled: Path, query: Callable[..., list[tuple]]) -> None:
    """`labels` holds the plain mean of the rows of each label, bit for bit; rows without one are in none."""
    wanted = query(
        labelled,
        "select topic, embed_average(embedding), count(*) from articles join embeddings on id = path "
        "where trim(topic) != '' group by topic order by topic",
    )
    assert stored(labelled, "labels") == wanted
    assert [(label, size) for label, _, size in wanted] == [("economy", 2), ("health", 1), ("sport", 2), ("weather", 1)]


def test_every_row_has_a_prediction_that_it_had_no_part_in(labelled: Path) -> None:
    """Nearest label, score and margin are those of the definition, for rows with and without a label of their own."""
    vectors = {i: np.frombuffer(b, "<f4") for i, b in hard.query(labelled, "select id, embedding from embeddings")}
    labels = dict(hard.query(labelled, "select path, topic from articles where trim(topic) != ''"))
    wanted = expected(vectors, labels)
    found = {item: rest for item, *rest in stored(labelled)}
    assert found.keys() == vectors.keys()
    for item, (label, score, margin) in found.items():
        (best, name), (second, _), *_ = wanted[item]
        assert label == name
        assert score == pytest.approx(best, abs=2e-6)
        assert margin == pytest.approx(best - second, abs=3e-6)
        assert (score, margin) == (round(score, 6), round(margin, 6))
    assert found["news/storm"][0] != "weather", "the only row of its label is not compared with itself"


@pytest.mark.parametrize(("rows", "wanted"), [(0, []), (1, []), (2, [("a", None), ("a", None)])])
def test_few_rows_and_one_label(tmp_path: Path, rows: int, wanted: list[tuple]) -> None:
    """Where there is nothing to compare with, there is no prediction; where there is no second label, no margin."""
    path = tmp_path / "x.db"
    hard.change(path, "create table articles (path text primary key, title text, body text, topic text)")
    for number in range(rows):
        hard.change(path, ("insert into articles values (?, 'storm and rain', 'wind', 'a')", [number]))
    hard.run("build", path, "-c", configure(path))
    assert [(label, margin) for _, label, _, margin in stored(path)] == wanted
    assert len(stored(path, "labels")) == min(rows, 1)


def test_no_row_has_a_label(news: Path) -> None:
    """Without any label there are no averages and no predictions, and no error."""
    hard.change(news, "update articles set topic = null")
    assert "none, as no row has one" in hard.run("build", news, "-c", configure(news)).output
    assert stored(news) == stored(news, "labels") == []
    assert "Nothing changed" in hard.run("build", news, "-c", configure(news)).output


def test_numbers_are_labels_and_bytes_are_none(news: Path) -> None:
    """A number is the label that SQLite writes it as, so that it can be joined; bytes count as no label, and the build says so."""
    hard.change(
        news,
        "alter table articles add column grade",
        "update articles set grade = case topic when 'economy' then 1 when 'sport' then 2.5 when 'weather' then x'00ff' end",
    )
    output = hard.run("build", news, "-c", configure(news, "Grade")).output
    assert "2 rows hold bytes in 'Grade'" in output
    assert [(label, size) for label, _, size in stored(news, "labels")] == [("1", 2), ("2.5", 2)]
    joined = "select count(*) from articles a join labels l on l.label = cast(a.grade as text)"
    assert hard.query(news, joined) == [(4,)]


@pytest.mark.parametrize(
    ("change", "labels", "said"),
    [
        (None, "topics", "no column 'topics'; did you mean topic?"),
        ("update articles set topic = hex(zeroblob(200))", "topic", f"at most {MAX_LABEL_CHARACTERS}"),
        (
            f"insert into articles select 'x' || value, 'rain', 'rain', value from (with recursive n(value) as "
            f"(select 1 union all select value + 1 from n where value <= {MAX_LABELS}) select value from n)",
            "topic",
            f"more than {MAX_LABELS:,} different values",
        ),
        (None, {"calm": ["a quiet lake"]}, "2 to"),
        (None, {"calm": ["a quiet lake"], "busy": ["🚆🥖"]}, "no vector for any example of the label 'busy'"),
    ],
)
def test_what_cannot_be_labels_is_refused(news: Path, change: str | None, labels: object, said: str) -> None:
    """A column that is not there, or tells rows apart, and examples that say nothing, end the build with a sentence."""
    if change:
        hard.change(news, change)
    assert said in hard.run("build", news, "-c", configure(news, labels), expect=1).output
    if isinstance(labels, str):
        assert not hard.query(news, "select name from sqlite_master where name = 'embeddings'"), (
            "nothing is embedded before"
        )


def test_a_label_that_changes_is_enough_to_build(labelled: Path) -> None:
    """New labels of rows, and other ideas of what labels are, bring both tables up to date; no text is embedded for that."""
    config = configure(labelled)
    assert "Nothing changed" in hard.run("build", labelled, "-c", config).output
    hard.change(labelled, "update articles set topic = 'money' where topic = 'economy'")
    assert " 0 texts embedded" in hard.run("build", labelled, "-c", config).output
    assert [row[0] for row in stored(labelled, "labels")] == ["health", "money", "sport", "weather"]
    hard.run("build", labelled, "-c", configure(labelled, CALM))
    assert [row[0] for row in stored(labelled, "labels")] == ["busy", "calm"]
    assert {label for _, label, *_ in stored(labelled)} <= {"busy", "calm"}
    hard.run("build", labelled, "-c", configure(labelled, None))
    assert stored(labelled) == stored(labelled, "labels") == []
    hard.run("build", labelled, "-c", configure(labelled, CALM))
    assert len(stored(labelled, "labels")) == 2


def test_rows_in_chunks_are_classified_as_wholes(labelled: Path) -> None:
    """Of a collection in chunks, a row is the mean of its chunks: ids are those of rows."""
    hard.run("build", labelled, "-c", configure(labelled, chunk=16))
    assert [row[0] for row in stored(labelled)] == [
        p for (p,) in hard.query(labelled, "select path from articles order by 1")
    ]


# Examples, by a model on another machine


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    """A model behind a connection, that counts what it is asked."""
    with OpenAIServer(dimensions=8) as running:
        yield running


def remote(path: Path, server: OpenAIServer, labels: object, **more: object) -> Path:
    """Write the configuration of `articles`, by the model behind a connection."""
    return hard.write_config(path.with_suffix(".json"), server, {"articles": {**COLLECTION, "labels": labels, **more}})


def paid(server: OpenAIServer, work: Callable[[], object]) -> Counter[str]:
    """Return the texts that were paid for."""
    before = len(server.texts)
    work()
    return Counter(text for text in server.texts[before:] if text != "hello")


def test_examples_are_paid_for_once(news: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go out with the rows, with what is put before these, and not again while they stay as they are, whatever rows do."""
    config = remote(news, server, CALM, prefix="passage: ")
    monkeypatch.setattr(get_model(hard.MODEL, hard.settings(server)), "remote", True)
    refused = hard.run("build", news, "-c", config, expect=1)
    assert "send 12 texts" in refused.output
    examples = Counter(f"passage: {text}" for some in CALM.values() for text in some)
    assert examples <= paid(server, lambda: hard.run("build", news, "-c", config, "--yes"))
    assert not paid(server, lambda: hard.run("build", news, "-c", config))
    before = stored(news, "labels")
    hard.change(news, "update articles set body = 'a quiet lake' where path = 'news/heat'")
    assert paid(server, lambda: hard.run("build", news, "-c", config)) == {
        "passage: Hottest summer on record a quiet lake": 1
    }
    assert stored(news, "labels") == before
    (tokens,) = hard.query(news, "select tokens from embeddings_collections")[0]
    other = remote(news, server, {**CALM, "busy": ["a crowd"]}, prefix="passage: ")
    hard.run("build", news, "-c", other, "--max-cost", "0.0000001", expect=1)
    assert stored(news, "labels") == before
    asked = paid(server, lambda: hard.run("build", news, "-c", other))
    assert asked == {"passage: a crowd": 1, "passage: a quiet lake": 1, "passage: nobody hurries": 1}
    assert hard.query(news, "select tokens from embeddings_collections")[0][0] == tokens + 10
    assert [(label, size) for label, _, size in stored(news, "labels")] == [("busy", 1), ("calm", 2)]


# Numbers


@pytest.mark.parametrize("seed", range(4))
def test_predictions_are_exact_among_many_labels(seed: int) -> None:
    """Fast products only choose candidates: all is as one pair at a time gives it, over the bounds of blocks, ties and equal rows included."""
    random = np.random.default_rng(seed)
    count, labels, size = (TILE_ROWS + 50, 40, 16) if seed == 0 else (300, 7 * seed, 8)
    values = random.standard_normal((count, size)).astype(np.float32)
    values[::7] = values[0]  # equal rows, whose labels are equally near
    matrix = values / np.linalg.norm(values, axis=1, keepdims=True)
    own = random.integers(-1, labels, count)
    places = [np.flatnonzero(own == label) for label in range(labels)]
    found = {f"label {n:02}": (matrix[some].sum(axis=0, dtype=np.float64), len(some)) for n, some in enumerate(places)}
    found = {name: value for name, value in found.items() if value[1]}
    averages = Averages.of(found, size)
    names = {name: place for place, name in enumerate(averages.names)}
    own = np.array([names.get(f"label {label:02}", -1) for label in own])
    sums = np.array([found[name][0] for name in averages.names])
    members = Members(own, sums, np.array(averages.sizes))
    given = predictions([str(n) for n in range(count)], matrix, averages, members)
    assert len(given) == count
    units = averages.units
    for place in range(0, count, 1 if count < 1000 else 97):
        scores = score_rows(units, matrix[place])
        if own[place] >= 0:
            others = sums[own[place]] - matrix[place]
            scores[own[place]] = -np.inf
            if averages.sizes[own[place]] > 1:
                unit = (others / np.linalg.norm(others)).astype(np.float32)
                scores[own[place]] = score_rows(unit[None], matrix[place])[0]
        best = int(np.argmax(scores))
        margin = round(scores[best] - np.max(np.delete(scores, best)), 6)
        assert given[place] == (str(place), averages.names[best], scores[best], margin)


def test_what_cancels_out_lies_nowhere() -> None:
    """A label whose vectors have no average is none; a row whose label has none without it is compared with the others."""
    one, other = np.eye(2, dtype=np.float32)
    found = Averages.of({"nowhere": (one.astype(float) - one, 2), "there": (other.astype(float), 1)}, 2)
    assert found.names == ["there"]
    matrix = np.array([one, one, -one])
    members = Members(np.array([0, 0, 0]), np.array([one, other], float), np.array([3, 1]))
    averages = Averages.of({"x": (one.astype(float), 3), "y": (other.astype(float), 1)}, 2)
    assert predictions(["a", "b", "c"], matrix, averages, members) == [
        ("a", "y", 0.0, None),
        ("b", "y", 0.0, None),
        ("c", "y", 0.0, 1.0),
    ]


WORDS = ["red bread", "nine trains", "cats", "dogs and cats", "rain", "butter and bread", ""]
LABELS = st.sampled_from(["a", "b", "c", None, ""])
EDITS = st.tuples(
    st.sampled_from(["insert", "update", "label", "label", "delete"]),
    st.integers(0, 30),
    st.sampled_from(WORDS),
    LABELS,
)


@settings(
    max_examples=int(os.environ.get("EXAMPLES", "8")),
    deadline=None,
    derandomize="EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
@given(steps=st.lists(st.lists(EDITS, min_size=1, max_size=4), min_size=1, max_size=3), by_column=st.booleans())
def test_incremental_equals_from_scratch(steps: list, by_column: bool) -> None:
    """Any edits of texts and of labels, built step by step, give the tables of one build."""
    with tempfile.TemporaryDirectory(dir=hard.MEMORY) as folder:
        path, scratch = Path(folder) / "x.db", Path(folder) / "scratch.db"
        hard.change(
            path, "create table articles (path integer primary key, title text default '', body text, topic text)"
        )
        for number in range(8):
            text = [f"{WORDS[number % 6]} {number}", "abc"[number % 3]]
            hard.change(path, ("insert into articles (body, topic) values (?, ?)", text))
        config = configure(path, "topic" if by_column else CALM)
        hard.run("build", path, "-c", config)
        for edits in steps:
            for kind, number, text, label in edits:
                edit(path, kind, number, text, label)
            hard.run("build", path, "-c", config)
        assert "Nothing changed" in hard.run("build", path, "-c", config).output
        with closing(sqlite3.connect(scratch)) as conn, conn:
            conn.execute(
                "create table articles (path integer primary key, title text default '', body text, topic text)"
            )
            conn.execute("attach ? as other", [str(path)])
            conn.execute("insert into articles select * from other.articles")
        hard.run("build", scratch, "-c", config)
        for table in ("labels", "predictions"):
            assert stored(path, table) == stored(scratch, table)
        assert len(stored(path)) >= bool(hard.query(path, "select 1 from embeddings")) * (not by_column)


def edit(path: Path, kind: str, number: int, text: str, label: str | None) -> None:
    """Do one edit; *number* chooses the row."""
    if kind == "insert":
        hard.change(path, ("insert into articles (body, topic) values (?, ?)", [text, label]))
        return
    what = {
        "update": "update articles set body = ?",
        "label": "update articles set topic = ?",
        "delete": "delete from articles",
    }
    given = {"update": [text], "label": [label], "delete": []}[kind]
    row = "(select path from articles order by path limit 1 offset ? % max(1, (select count(*) from articles)))"
    hard.change(path, (f"{what[kind]} where path = {row}", [*given, number]))


# Queries


@pytest.mark.asyncio
async def test_classify(labelled: Path) -> None:
    """`classify_c` gives every label and its score, best first, the same as SQL by hand; none for an empty text."""
    site = make_site(labelled.parent)
    found = await rows(site, "/news/classify_articles.json?q=temperatures+and+rain+tomorrow")
    assert list(found[0]) == ["label", "score"]
    assert found[0]["label"] == "weather"
    assert sorted(row["label"] for row in found) == ["economy", "health", "sport", "weather"]
    with closing(sqlite3.connect(labelled)) as conn:
        register(conn)
        sql = (
            "select label, round(embed_cosine(embedding, embed_query('articles', 'temperatures and rain tomorrow')), 6) "
            "from labels order by 2 desc"
        )
        assert [tuple(row.values()) for row in found] == conn.execute(sql).fetchall()
    assert await rows(site, "/news/classify_articles.json?q=") == []
    assert await rows(site, "/news/classify_articles.json") == []


@pytest.mark.asyncio
async def test_rows_that_seem_to_have_another_label(labelled: Path) -> None:
    """`predictions_c` gives the rows whose own label is another or none, the surest first, with their own columns."""
    found = await rows(make_site(labelled.parent), "/news/predictions_articles.json")
    assert list(found[0]) == ["id", "predicted", "score", "margin", "path", "title", "body", "topic"]
    assert {row["id"] for row in found} >= {"news/heat", "news/hospital", "news/storm"}
    assert all(row["predicted"] != row["topic"] for row in found)
    assert [row["margin"] for row in found] == sorted((row["margin"] for row in found), reverse=True)


@pytest.mark.asyncio
async def test_predictions_by_examples(labelled: Path) -> None:
    """Where examples give the labels, no row has one of its own: all are there. A column of the same name as one of ours has another."""
    hard.change(labelled, "alter table articles rename column body to predicted")
    config = configure(labelled, CALM, columns=["title", "predicted"])
    hard.run("build", labelled, "-c", config)
    found = await rows(make_site(labelled.parent), "/news/predictions_articles.json")
    assert len(found) == 8
    assert {row["predicted"] for row in found} <= set(CALM)
    assert "row_predicted" in found[0]


@pytest.mark.asyncio
async def test_no_labels_no_queries(built: Path) -> None:
    """A collection without labels has no such query."""
    site = make_site(built.parent)
    for query in ("classify_articles", "predictions_articles"):
        assert (await site.client.get(f"/news/{query}.json")).status_code == 404


@pytest.mark.asyncio
async def test_queries_use_indexes(labelled: Path) -> None:
    """Neither query scans a table."""
    from datasette_embeddings import queries

    with closing(sqlite3.connect(labelled)) as conn:
        register(conn)
        mine = [query for query in queries.queries_of(conn) if query.name.startswith(("classify", "predictions"))]
        for query in mine:
            plan = [row[3] for row in conn.execute("explain query plan " + query.sql, {"q": "x"})]
            scans = [step for step in plan if step.startswith("SCAN") and not {"CONSTANT", "asked"} & set(step.split())]
            assert not scans, (query.name, plan)
    assert len(mine) == 2


@pytest.mark.asyncio
async def test_a_remote_model_classifies_within_the_budget(
    news: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text goes out once, as a document, with what is put before rows; beyond the budget it is refused in words."""
    monkeypatch.setattr(get_model(hard.MODEL, hard.settings(server)), "remote", True)
    hard.run("build", news, "-c", remote(news, server, "topic", prefix="passage: "), "--yes")
    news.with_suffix(".json").unlink()
    plugin = {"models": hard.settings(server), "limits": {"queries_per_minute": 2}}
    site = make_site(news.parent, plugin)
    path = "/news/classify_articles.json?q=heavy+rain&_shape=array"
    before = len(server.texts)
    assert (await site.client.get(path)).json()[0].keys() == {"label", "score"}
    assert server.texts[before:] == ["passage: heavy rain"]
    await site.client.get(path)
    assert len(server.texts) == before + 1
    statuses = [(await site.client.get(f"/news/classify_articles.json?q=rain+{n}")) for n in range(2)]
    assert [answer.status_code for answer in statuses] == [200, 429]
    assert "used up" in statuses[1].json()["error"]
    too_long = await site.client.get("/news/classify_articles.json?q=" + "x" * 9_000)
    assert too_long.status_code == 400
    assert "9,000 characters" in too_long.json()["error"]


@pytest.mark.asyncio
async def test_labels_of_a_private_table_are_private(labelled: Path) -> None:
    """Who may not see the table may see neither its labels nor what is predicted, and classify nothing by it."""
    site = make_site(labelled.parent, databases={"news": {"tables": {"articles": {"allow": {"id": "root"}}}}})
    for path in ("labels.json", "predictions.json", "classify_articles.json?q=rain", "predictions_articles.json"):
        assert (await site.client.get(f"/news/{path}")).status_code == 403, path
    assert (await site.client.get("/-/embeddings/news/articles/spectrum?q=rain")).status_code == 403
