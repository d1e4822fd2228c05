"""What SQL and database files may spend: calls of models, seconds, and the threads that serve other pages."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from openai_server import OpenAIServer, drip
from test_datasette import make_site, make_table, rows
from test_sql_errors import query_path, said

from datasette_embeddings import budget
from datasette_embeddings.models import get_model, openai
from datasette_embeddings.models.static import StaticModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from datasette.app import Datasette

LIMIT_MS = 500
"""The time limit of SQL on the sites here, half of Datasette's own."""

SOON = 4.0
"""Seconds within which what is bounded has ended, however busy the machine; without bounds these queries take 10, 40, or have no end."""

TEXTS = (
    "with recursive n(i) as (select 1 union all select i + 1 from n {}) "
    "select sum(length(embed_text('openai/any', '{} ' || i))) from n"
)
"""A query that embeds texts of which there are no two the same: up to a limit, or without end."""


class Held:
    """A fault: the right answer, but only when it may go."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.may_go = threading.Event()

    def __call__(self, handler: Any, request: Any, answer: dict[str, Any]) -> None:
        self.arrived.set()
        self.may_go.wait(10)
        handler.server.suite.paid(request.texts)
        handler.give(200, json.dumps(answer).encode())


class Remote:
    """The newsroom, embedded by a server on this machine that counts as remote, and sites of it that are open to SQL."""

    def __init__(self, news: Path, server: OpenAIServer) -> None:
        self.news, self.server = news, server
        self.block = {"models": {"openai/any": {"base_url": server.url}}}

    def site(self, per_minute: int = 60, limit_ms: int = LIMIT_MS, **plugin: Any) -> Datasette:
        block = {**self.block, "allow_sql": True, "limits": {"queries_per_minute": per_minute}, **plugin}
        return make_site(self.news.parent, block, settings={"sql_time_limit_ms": limit_ms})


@pytest.fixture
def remote(news: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """See Remote."""
    with OpenAIServer() as server:
        made = Remote(news, server)
        (news.parent / "metadata.yml").write_text(yaml.safe_dump({"plugins": {"datasette-embeddings": made.block}}))
        cli("add", news, "articles", "-m", "openai/any", "--yes")
        monkeypatch.setattr(get_model("openai/any", made.block["models"]), "remote", True, raising=False)
        server.texts.clear()
        yield made


async def timed(site: Datasette, path: str) -> tuple[float, Any]:
    """Return how many seconds a page took, and the answer."""
    start = time.monotonic()
    answer = await site.client.get(path)
    return time.monotonic() - start, answer


@pytest.mark.asyncio
async def test_remote_model_is_closed_to_sql(remote: Remote) -> None:
    """Unless the configuration opens it, and the visitor reads how."""
    sentence = await said(remote.site(allow_sql=False), "select embed_text('openai/any', 'spend')")
    assert "openai/any runs on another machine and is not open to SQL here" in sentence
    assert "`allow_sql: true`" in sentence
    assert remote.server.texts == []


@pytest.mark.asyncio
async def test_budget_that_is_used_up_says_when_to_try_again(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """In seconds."""
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    site = remote.site(per_minute=3)
    sentence = await said(site, TEXTS.format("limit 9", "seconds"))
    assert sentence.endswith(
        "at most 3 queries a minute to models on other machines, and these are used up; try again in 20 s"
    )
    assert len(remote.server.texts) == 3


@pytest.mark.asyncio
async def test_twenty_hostile_queries(remote: Remote) -> None:
    """Whole-table queries at once: the budget holds exactly, no answer is late, and other pages are served meanwhile."""

    def slowly(handler: Any, request: Any, answer: dict[str, Any]) -> None:
        time.sleep(0.02)
        handler.server.suite.paid(request.texts)
        handler.give(200, json.dumps(answer).encode())

    remote.server.always(slowly)
    site = remote.site(per_minute=6)
    await site.client.get("/news/articles.json")
    hostile = [timed(site, query_path(TEXTS.format("limit 2000", word), ".json")) for word in "abcdefghijklmnopqrst"]
    asked = asyncio.gather(*hostile)
    others = []
    while not asked.done():
        others.append(await timed(site, "/news/articles.json"))
    answers = await asked
    assert {answer.status_code for _, answer in answers} == {400}
    assert max(seconds for seconds, _ in answers) < SOON
    assert len(remote.server.texts) == 6
    assert {answer.status_code for _, answer in others} == {200}
    assert max(seconds for seconds, _ in others) < SOON
    assert any("try again in" in answer.json()["error"] for _, answer in answers)


@pytest.mark.asyncio
async def test_server_that_drips_ends_with_the_time_limit(remote: Remote) -> None:
    """A server that answers byte by byte costs its query the limit, the next one nothing, and our own search not at all."""
    site = remote.site()
    remote.server.always(drip)
    seconds, answer = await timed(site, query_path(TEXTS.format("", "drip"), ".json"))
    assert seconds < SOON
    assert "openai/any gave no vector in the time that a query may run here" in answer.json()["error"]
    assert "0.5 s" in answer.json()["error"]
    seconds, answer = await timed(site, query_path(TEXTS.format("", "next"), ".json"))
    assert seconds < SOON
    assert answer.json()["error"].startswith("openai/any is busy with a text of another query")
    remote.server.always(None)
    assert len(await rows(site, "/news/search_articles.json?q=storm")) == 8


@pytest.mark.asyncio
@pytest.mark.parametrize("is_remote", [True, False])
async def test_one_text_at_a_time(remote: Remote, monkeypatch: pytest.MonkeyPatch, is_remote: bool) -> None:
    """While one query waits for a slow model, others are told so, other pages are served, and no budget is lost."""
    monkeypatch.setattr(get_model("openai/any", remote.block["models"]), "remote", is_remote)
    held = Held()
    remote.server.always(held)
    site = remote.site(per_minute=2, limit_ms=5000)
    slow = asyncio.create_task(timed(site, query_path(TEXTS.format("limit 1", "slow"), ".json")))
    await asyncio.to_thread(held.arrived.wait, 5)
    busy = [timed(site, query_path(TEXTS.format("limit 1", word), ".json")) for word in "abcde"]
    for seconds, answer in await asyncio.gather(*busy):
        assert answer.json()["error"].endswith("takes one at a time from SQL; try again")
        assert seconds < SOON
    seconds, answer = await timed(site, "/news/articles.json")
    assert (answer.status_code, seconds < SOON) == (200, True)
    assert not slow.done()
    held.may_go.set()
    assert (await slow)[1].status_code == 200
    assert (await site.client.get(query_path(TEXTS.format("limit 1", "second"), ".json"))).status_code == 200
    third = await site.client.get(query_path(TEXTS.format("limit 1", "third"), ".json"))
    assert third.status_code == (400 if is_remote else 200)
    assert len(remote.server.texts) == (2 if is_remote else 3)


@pytest.mark.asyncio
async def test_late_answer_is_kept(remote: Remote) -> None:
    """What came after the time limit was paid for: the same query finds it."""
    held = Held()
    remote.server.script(held)
    site = remote.site(per_minute=1)
    path = query_path(TEXTS.format("limit 1", "late"), ".json")
    assert "gave no vector in the time" in (await site.client.get(path)).json()["error"]
    held.may_go.set()
    while (answer := await site.client.get(path)).status_code == 400:
        assert "busy" in answer.json()["error"]
    assert answer.status_code == 200
    assert remote.server.texts == ["late 1"]


@pytest.mark.asyncio
@pytest.mark.parametrize("seconds", [0.0, 0.02])
async def test_texts_without_end(built: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """A query that never runs out of texts ends soon after the time limit, with a quick model and with a slow one."""
    real = StaticModel.embed_batch

    def slow(self: Any, items: Any, *rest: Any) -> Any:
        time.sleep(seconds)
        return real(self, items, *rest)

    monkeypatch.setattr(StaticModel, "embed_batch", slow)
    site = make_site(built.parent, settings={"sql_time_limit_ms": LIMIT_MS})
    sql = TEXTS.format("", f"endless {seconds}").replace("openai/any", "static")
    taken, answer = await timed(site, query_path(sql, ".json"))
    assert answer.status_code == 400
    assert taken < SOON
    if seconds:
        assert "this query has embedded texts for 0.5 s" in answer.json()["error"]
        assert "datasette embeddings embed" in answer.json()["error"]


@pytest.mark.asyncio
async def test_what_is_known_is_free(remote: Remote) -> None:
    """Texts in the cache need no turn, no budget and no time."""
    site = remote.site(per_minute=1)
    path = query_path("select embed_text('openai/any', 'known')", ".json")
    assert (await site.client.get(path)).status_code == 200
    held = Held()
    remote.server.always(held)
    waiting = asyncio.create_task(site.client.get(query_path(TEXTS.format("limit 1", "held"), ".json")))
    for _ in range(20):
        assert (await site.client.get(path)).status_code == 200
    held.may_go.set()
    assert "used up" in (await waiting).json()["error"]


@pytest.mark.asyncio
async def test_model_that_takes_long_to_load(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query waits for the time limit, quick models and our own searches do not, and later queries find the model loaded."""
    real, asked, may_go = openai.load, threading.Event(), threading.Event()

    def slow(rest: str, settings: Any) -> Any:
        asked.set()
        may_go.wait(10)
        return real(rest, settings)

    monkeypatch.setattr(openai, "load", slow)
    with OpenAIServer() as server:
        block = {"models": {"openai/any": {"base_url": server.url}}}
        site = make_site(built.parent, block, settings={"sql_time_limit_ms": LIMIT_MS})
        path = query_path(TEXTS.format("limit 1", "loading"), ".json")
        first = asyncio.create_task(timed(site, path))
        await asyncio.to_thread(asked.wait, 5)
        seconds, answer = await timed(site, query_path("select embed_text('static', 'beside it')", ".json"))
        assert (answer.status_code, seconds < SOON) == (200, True)
        assert len(await rows(site, "/news/search_articles.json?q=loaded+long+ago")) == 8
        seconds, answer = await first
        assert "openai/any is being loaded, which takes longer than a query may run here" in answer.json()["error"]
        assert seconds < SOON
        may_go.set()
        while (answer := await site.client.get(path)).status_code == 400:
            assert "busy" in answer.json()["error"]
        assert answer.status_code == 200


COUNTS = {
    "-1": "whole number from 0 on",
    "0": 0,
    "3": 3,
    "'3'": 3,
    "8": 8,
    "9223372036854775807": 8,
    "1e308": 8,
    "9e999": "whole number from 0 on",
    "'x'": "whole number from 0 on",
    "x'00'": "whole number from 0 on",
    "null": None,
}


@pytest.mark.asyncio
async def test_any_number_of_results(built: Path) -> None:
    """As many as there are, or an error that says what a number is; at once, whatever was asked for."""
    site = make_site(built.parent)
    sql = "select embed_search('articles', 'storm', {}) as found"
    await site.client.get(query_path(sql.format(1), ".json"))
    for count, expected in COUNTS.items():
        start = time.process_time()  # what else runs on this machine does not count
        answer = await site.client.get(query_path(sql.format(count), ".json") + "&_shape=array")
        assert time.process_time() - start < 1, count
        if isinstance(expected, str):
            assert expected in answer.json()["error"], count
        else:
            found = answer.json()[0]["found"]
            assert (found if found is None else len(json.loads(found))) == expected, count


HOSTILE = {
    "view": "create view v as select id, embed_text('view ' || id) as v from t",
    "view without a table": "create view v as select embed_text('openai/any', 'view') as v",
    "generated column": "create table v (id integer primary key, v as (embed_text('column ' || id)));"
    "insert into v (id) values (1)",
    "index": "create table v (id integer primary key, x text); insert into v values (1, 'x');"
    "create index i on v (embed_text('index ' || x)); create index j on v (x) where llm_embed('part ' || x) is not null",
    "check": "create table v (id integer primary key, x text check (embed_text('check ' || x) is not null));"
    "insert into v values (1, 'x')",
    "trigger": "create table v (id integer primary key, x text default (embed_text('default')));"
    "create trigger g after insert on v begin update v set x = embed_text('trigger ' || new.id); end",
}


def make_hostile(path: Path, script: str) -> None:
    """Write a database whose own definitions call our functions, as somebody without this package would."""
    with sqlite3.connect(path) as conn:
        for name in ("embed_text", "llm_embed"):
            conn.create_function(name, -1, lambda *_: b"\0\0\0\0", deterministic=True)
        conn.executescript("create table t (id integer primary key); insert into t values (1), (2);" + script)
    conn.close()


PAGES = [
    "/",
    "/hostile",
    "/hostile/v",
    "/hostile/v.json",
    "/hostile/v.csv",
    "/hostile/t",
    "/hostile/v?_facet=id",
    "/hostile/t/1",
]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", HOSTILE)
async def test_files_do_not_call_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The definitions in a database file call none of our functions on any page; the configuration can trust them."""
    real, asked = StaticModel.embed_batch, []

    def counted(self: Any, items: Any, *rest: Any) -> Any:
        asked.extend(items)
        return real(self, items, *rest)

    monkeypatch.setattr(StaticModel, "embed_batch", counted)
    make_hostile(tmp_path / "hostile.db", HOSTILE[kind])
    site = make_site(tmp_path)
    statuses = {page: (await site.client.get(page)).status_code for page in PAGES}
    assert asked == []
    assert {statuses[page] for page in ("/", "/hostile", "/hostile/t", "/hostile/t/1")} == {200}
    if kind in {"view", "generated column"}:
        error = (await site.client.get("/hostile/v.json")).json()["error"]
        assert error.startswith("unsafe use of embed_text(): a view, column or trigger of this database calls it")
        assert "`trusted_schema: true`" in error
        trusting = make_site(tmp_path, {"trusted_schema": True})
        assert (await trusting.client.get("/hostile/v.json")).status_code == 200
        assert len(asked) == (2 if kind == "view" else 1)
    else:
        assert kind == "view without a table" or set(statuses.values()) == {200}


@pytest.mark.asyncio
async def test_triggers_do_not_call_models(tmp_path: Path) -> None:
    """Nor where a row is written."""
    make_hostile(tmp_path / "hostile.db", HOSTILE["trigger"])
    site = make_site(tmp_path)
    await site.invoke_startup()
    with pytest.raises(sqlite3.OperationalError, match="unsafe use"):
        await site.get_database("hostile").execute_write("insert into v (x) values ('y')")


@pytest.mark.asyncio
async def test_definitions_without_our_functions_stay_as_they_were(built: Path) -> None:
    """Views over full-text search, JSON, pragmas and functions of others, and triggers that keep an index, work as before."""
    make_table(
        built,
        "create virtual table words using fts5(title, content=articles);"
        "insert into words(words) values ('rebuild');"
        "create trigger added after insert on articles begin "
        "insert into words(rowid, title) values (new.rowid, new.title); end;"
        "create view matches as select title, rank from words where words match 'storm';"
        "create view list as select value from json_each('[1, 2]');"
        "create view columns as select name from pragma_table_info('articles');",
    )
    site = make_site(built.parent)
    assert [row["title"] for row in await rows(site, "/news/matches.json")] == ["Storm floods the coast"]
    assert [row["value"] for row in await rows(site, "/news/list.json")] == [1, 2]
    assert len(await rows(site, "/news/columns.json")) == 4
    await site.get_database("news").execute_write("insert into articles (path, title) values ('x', 'Second storm')")
    assert len(await rows(site, "/news/matches.json")) == 2
