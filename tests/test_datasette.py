"""The plugin inside Datasette, on whichever line is installed: functions, queries, permissions, configuration."""

from __future__ import annotations

import html
import json
import os
import re
import sqlite3
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from datasette.app import Datasette
from datasette.utils import StartupError
from openai_server import OpenAIServer

from datasette_embeddings import asking, budget, compat, embedder
from datasette_embeddings.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

IS_V1 = hasattr(Datasette, "allowed")


def make_site(directory: Path, plugin: dict[str, Any] | None = None, **site: Any) -> Datasette:
    """Return a Datasette of a directory, with a plugin block and further configuration where each line reads it."""
    plugins = {"plugins": {"datasette-embeddings": plugin}} if plugin else {}
    if IS_V1:
        (directory / "metadata.yml").write_text(yaml.safe_dump(plugins))
        (directory / "datasette.yml").write_text(yaml.safe_dump(site))
    else:
        settings = site.pop("settings", {})
        (directory / "metadata.yml").write_text(yaml.safe_dump({**plugins, **site}))
        (directory / "settings.json").write_text(json.dumps(settings))
    return Datasette(config_dir=directory)


async def rows(site: Datasette, path: str, **cookies: str) -> list[dict[str, Any]]:
    """Return the rows of a query as objects."""
    response = await site.client.get(path + ("&" if "?" in path else "?") + "_shape=array", cookies=cookies)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.asyncio
async def test_plugin_is_listed(built: Path) -> None:
    """`/-/plugins.json` names the distribution."""
    listed = (await make_site(built.parent).client.get("/-/plugins.json")).json()
    assert "datasette-embeddings-suite" in [plugin["name"] for plugin in listed]


@pytest.mark.asyncio
async def test_functions_run_in_sql(built: Path) -> None:
    """The SQL functions, and the seed's spellings, are on every connection."""
    site = make_site(built.parent)
    sql = "select embed_dimensions(embedding) as d, llm_embed_cosine(embedding, embedding) as c from embeddings limit 1"
    found = await rows(site, "/news/-/query.json?sql=" + sql if IS_V1 else "/news.json?sql=" + sql)
    assert found[0]["d"] == 256
    assert found[0]["c"] == pytest.approx(1.0)


@pytest.mark.asyncio
async def test_search_finds_by_meaning(built: Path) -> None:
    """`search_c` returns the row's own columns and a score, nearest first, of words that the row does not use."""
    found = await rows(make_site(built.parent), "/news/search_articles.json?q=weather+temperature")
    assert list(found[0]) == ["id", "score", "path", "title", "body", "topic"]
    assert {row["topic"] for row in found[:2]} == {"weather"}
    assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)
    assert len(found) == 8


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["search_articles.json?q=", "search_articles.json", "related_articles.json?id="])
async def test_empty_parameter_finds_nothing(built: Path, path: str) -> None:
    """An empty form is not an error and not every row."""
    assert await rows(make_site(built.parent), f"/news/{path}") == []


@pytest.mark.asyncio
async def test_related_reads_the_stored_similarities(built: Path) -> None:
    """`related_c` gives what the similarities table holds for that id, the row itself left out."""
    found = await rows(make_site(built.parent), "/news/related_articles.json?id=news/rates")
    with sqlite3.connect(built) as conn:
        sql = "select other_id, score from similarities where id = 'news/rates' order by score desc, other_id"
        stored = conn.execute(sql).fetchall()
    assert [(row["id"], row["score"]) for row in found] == stored
    assert found[0]["id"] == "news/inflation"


@pytest.mark.asyncio
async def test_queries_use_indexes(built: Path) -> None:
    """No query scans the source table or the similarities."""
    with sqlite3.connect(built) as conn:
        from datasette_embeddings import queries, register

        register(conn)
        for query in queries.queries_of(conn):
            plan = [
                row[3] for row in conn.execute("explain query plan " + query.sql, {"q": "x", "id": "x", "cluster": 1})
            ]
            scans = [step for step in plan if step.startswith("SCAN") and "VIRTUAL TABLE" not in step]
            assert not scans, (query.name, plan)


@pytest.mark.asyncio
async def test_query_of_the_same_name_is_left_alone(built: Path) -> None:
    """What the site configured under our name stays what it was, also on the second request."""
    own = {"databases": {"news": {"queries": {"search_articles": {"sql": "select 'mine' as whose, :q as q"}}}}}
    site = make_site(built.parent, **own)
    for _ in range(2):
        assert await rows(site, "/news/search_articles.json?q=x") == [{"whose": "mine", "q": "x"}]
        assert (await rows(site, "/news/related_articles.json?id=news/rates"))[0]["id"] == "news/inflation"


@pytest.mark.asyncio
async def test_queries_run_where_arbitrary_sql_is_off(built: Path) -> None:
    """A public site without SQL still serves its searches."""
    site = make_site(built.parent, settings={"default_allow_sql": False})
    sql = "/news/-/query.json?sql=select+1" if IS_V1 else "/news.json?sql=select+1"
    assert (await site.client.get(sql)).status_code == 403
    assert len(await rows(site, "/news/search_articles.json?q=football")) == 8


@pytest.mark.asyncio
async def test_query_page_shows_title_and_sql(built: Path) -> None:
    """The HTML page has a form, a title and the SQL to copy."""
    text = (await make_site(built.parent).client.get("/news/search_articles?q=football")).text
    assert "Search articles by meaning" in text
    assert "embed_search(" in text
    assert 'name="q"' in text


@pytest.mark.asyncio
async def test_new_collection_appears_in_a_running_site(news: Path, cli: Callable) -> None:
    """A build beside the server needs no restart."""
    site = make_site(news.parent)
    await site.invoke_startup()
    assert (await site.client.get("/news/search_articles.json?q=x")).status_code == 404
    cli("add", news, "articles")
    assert (await rows(site, "/news/search_articles.json?q=football"))[0]["topic"] == "sport"
    cli("delete", news, "articles")
    assert (await site.client.get("/news/search_articles.json?q=x")).status_code == 404


@pytest.mark.asyncio
async def test_baked_file_needs_no_model_and_no_writing(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Immutable, in a folder without write permission, with every model gone: related content is served."""

    def gone(*_: object) -> None:
        raise ModelError("no model is installed here")

    monkeypatch.setattr(embedder, "get_model", gone)
    before = sorted(os.listdir(built.parent))
    built.chmod(stat.S_IREAD)
    built.parent.chmod(stat.S_IREAD | stat.S_IEXEC)
    try:
        site = Datasette([], immutables=[str(built)])
        assert (await rows(site, "/news/related_articles.json?id=news/rates"))[0]["id"] == "news/inflation"
        vector = "/news/related_articles.json?id=news/none"
        assert await rows(site, vector) == []
        assert (await site.client.get("/news/search_articles.json?q=storm")).status_code == 400
    finally:
        built.parent.chmod(stat.S_IRWXU)
    assert sorted(os.listdir(built.parent)) == before


@pytest.mark.asyncio
async def test_search_does_not_scale_with_the_time_limit(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model slower than Datasette's SQL time limit still answers our own query: it is asked before the SQL runs."""
    import time

    from datasette_embeddings.models.static import StaticModel

    real = StaticModel.embed_batch
    asked = []

    def slow(self: Any, items: Any, *rest: Any) -> Any:
        asked.append(items)
        time.sleep(0.4)
        return real(self, items, *rest)

    monkeypatch.setattr(StaticModel, "embed_batch", slow)
    site = make_site(built.parent, settings={"sql_time_limit_ms": 200})
    assert len(await rows(site, "/news/search_articles.json?q=a+text+never+asked+before")) == 8
    assert len(asked) == 1


@pytest.fixture
def remote(news: Path, cli: Callable):
    """The articles, embedded by a server on this machine that counts as remote, and its settings."""
    with OpenAIServer() as server:
        settings = {"models": {"openai/any": {"base_url": server.url}}}
        (news.parent / "metadata.yml").write_text(yaml.safe_dump({"plugins": {"datasette-embeddings": settings}}))
        cli("add", news, "articles", "-m", "openai/any", "--yes")
        yield news, server, settings


@pytest.mark.asyncio
async def test_remote_model_is_not_open_to_sql(remote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arbitrary SQL cannot spend; our own query can; `allow_sql: true` opens it."""
    news, server, settings = remote
    from datasette_embeddings.models import get_model

    monkeypatch.setattr(get_model("openai/any", settings["models"]), "remote", True, raising=False)
    site = make_site(news.parent, settings)
    paid = len(server.texts)
    sql = "select embed_text('openai/any', 'spend my money') as v"
    url = ("/news/-/query.json?sql=" if IS_V1 else "/news.json?sql=") + sql
    assert (await site.client.get(url)).status_code == 400
    assert len(server.texts) == paid
    assert len(await rows(site, "/news/search_articles.json?q=storm+floods")) == 8
    assert len(server.texts) == paid + 1
    await rows(site, "/news/search_articles.json?q=storm+floods")
    assert len(server.texts) == paid + 1
    opened = make_site(news.parent, {**settings, "allow_sql": True})
    assert (await opened.client.get(url)).status_code == 200
    assert len(server.texts) == paid + 2


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["onnx/.", "sentence-transformers/some/repository", "llm/clip", "openai/other"])
async def test_visitors_do_not_choose_models(built: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Neither SQL nor a database file makes a site load a model that its configuration does not name."""
    loaded = []
    monkeypatch.setattr(embedder, "get_model", lambda *a: loaded.append(a))
    site = make_site(built.parent)
    sql = f"select embed_text('{name}', 'x')"
    assert (await site.client.get(("/news/-/query.json?sql=" if IS_V1 else "/news.json?sql=") + sql)).status_code == 400
    with sqlite3.connect(built) as conn:
        conn.execute("update collections set model = ?", [name])
    assert (await site.client.get("/news/search_articles.json?q=storm")).status_code == 400
    assert loaded == []


@pytest.mark.asyncio
async def test_denied_visitor_does_not_spend(remote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not view the database gets 403, and nothing is embedded for them."""
    news, server, settings = remote
    site = make_site(news.parent, settings, databases={"news": {"allow": {"id": "root"}}})
    paid = len(server.texts)
    response = await site.client.get("/news/search_articles.json?q=private+question")
    assert response.status_code == 403
    assert len(server.texts) == paid
    actor = {"ds_actor": site.sign({"a": {"id": "root"}}, "actor")}
    assert len(await rows(site, "/news/search_articles.json?q=private+question", **actor)) == 8


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"models": {"openai/x": {"api_key": "sk-canary"}}}, r"models\.openai/x\.api_key"),
        ({"defaultmodel": "static"}, "did you mean default_model"),
        ({"collections": {"a b": {"table": "t", "columns": ["x"]}}}, "letters, digits"),
    ],
)
async def test_configuration_is_refused_at_start_up(built: Path, block: dict, message: str) -> None:
    """A literal key or an unknown key stops start-up with its place; the key itself is not repeated."""
    site = make_site(built.parent, block)
    with pytest.raises(StartupError, match=message) as caught:
        await site.invoke_startup()
    assert "sk-canary" not in str(caught.value)


@pytest.mark.asyncio
async def test_configuration_in_two_places_is_refused(built: Path) -> None:
    """1.0 would ignore one of them without a word."""
    block = {"plugins": {"datasette-embeddings": {"default_model": "static"}}}
    for name in ("metadata.yml", "datasette.yml"):
        (built.parent / name).write_text(yaml.safe_dump(block))
    with pytest.raises(StartupError, match=r"metadata\.yml and datasette\.yml"):
        await Datasette(config_dir=built.parent).invoke_startup()


@pytest.mark.asyncio
async def test_rival_plugin_is_named(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another distribution with the same import name stops start-up in one sentence."""
    from datasette_embeddings import site as site_module

    monkeypatch.setattr(site_module, "distribution", lambda name: name)
    with pytest.raises(StartupError, match="pip uninstall datasette-embeddings"):
        await make_site(built.parent).invoke_startup()


def test_line_is_known(built: Path) -> None:
    """The one place that tells the lines apart tells them apart."""
    import datasette

    assert compat.is_v1(Datasette([str(built)])) == (not datasette.__version__.startswith("0."))


def make_table(path: Path, script: str) -> None:
    """Run an SQL script on a file."""
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


KEYWORDS = """
abort action add after all alter always analyze and as asc attach autoincrement before begin between by cascade case cast check
collate column commit conflict constraint create cross current current_date current_time current_timestamp database default
deferrable deferred delete desc detach distinct do drop each else end escape except exclude exclusive exists explain fail filter
first following for foreign from full generated glob group groups having if ignore immediate in index indexed initially inner
insert instead intersect into is isnull join key last left like limit match materialized natural no not nothing notnull null
nulls of offset on or order others outer over partition plan pragma preceding primary query raise range recursive references
regexp reindex release rename replace restrict returning right rollback row rows savepoint select set table temp temporary then
ties to transaction trigger unbounded union unique update using vacuum values view virtual when where window with without
""".split()
"""https://sqlite.org/lang_keywords.html"""


@pytest.mark.asyncio
async def test_keywords_may_be_names(tmp_path: Path, cli: Callable) -> None:
    """Columns with the name of any keyword of SQLite, and a table and a key with one, are found and shown."""
    columns = ", ".join(f'"{word}" text' for word in KEYWORDS if word not in {"commit", "key"})
    make_table(
        tmp_path / "words.db",
        f'create table "commit" ("key" text primary key, title text, {columns});'
        "insert into \"commit\" (\"key\", title) values ('a', 'storm and rain'), ('b', 'cup final');",
    )
    cli("embed", tmp_path / "words.db", "commits", "--table", "commit", "--column", "title")
    cli("similarities", tmp_path / "words.db", "commits")
    site = make_site(tmp_path)
    found = await rows(site, "/words/search_commits.json?q=bad+weather")
    assert found[0]["title"] == "storm and rain"
    assert set(KEYWORDS) - {"commit"} <= set(found[0])
    assert [row["id"] for row in await rows(site, "/words/related_commits.json?id=a")] == ["b"]


UNTYPED = {
    "column without a type": "create table u (id primary key, title); insert into u select * from t",
    "blob": "create table u (id blob primary key, title); insert into u select cast(id as blob), title from t",
    "table as select": "create table u as select id + 0 as id, title from t",
    "view": "create view u as select id + 0 as id, title from t",
    "compound": "create table u (id, part, title, primary key (id, part)); insert into u select id, 0, title from t",
    "mixed": "create table u (id primary key, title); insert into u select iif(id = 7, 7, 'x' || id), title from t",
}


@pytest.mark.asyncio
@pytest.mark.parametrize("script", UNTYPED.values(), ids=UNTYPED)
@pytest.mark.parametrize("similarities", [0, 10])
async def test_keys_without_a_type_are_found(tmp_path: Path, cli: Callable, script: str, similarities: int) -> None:
    """A number in a key column that has no type is found by the text of its item id: by queries and by the command line."""
    make_table(
        tmp_path / "u.db",
        "create table t (id integer, title text); insert into t values (7, 'storm and rain'), (8, 'cup final');"
        + script,
    )
    key = ["id", "part"] if "part" in script else ["id"]
    collection = {"table": "u", "columns": ["title"], "key": key, "similarities": similarities}
    site = make_site(tmp_path, {"collections": {"c": collection}})
    cli("build", tmp_path)
    found = await rows(site, "/u/search_c.json?q=bad+weather")
    assert [row["title"] for row in found] == ["storm and rain", "cup final"]
    related = await rows(site, f"/u/related_c.json?id={found[0]['id']}")
    assert [row["title"] for row in related] == ["cup final"]
    assert "storm and rain" in cli("search", tmp_path / "u.db", "c", "bad weather").output


def test_keys_without_a_type_are_found_by_index(tmp_path: Path, cli: Callable) -> None:
    """What compares numbers with text does not scan the table for it."""
    from datasette_embeddings import queries, register

    path = tmp_path / "u.db"
    make_table(path, "create table u (id primary key, title); insert into u values (7, 'storm'), ('a', 'cup');")
    cli("embed", path, "u", "--table", "u", "--column", "title")
    with sqlite3.connect(path) as conn:
        register(conn)
        for query in queries.queries_of(conn):
            plan = [row[3] for row in conn.execute("explain query plan " + query.sql, {"q": "x", "id": "x"})]
            assert any(re.match("SEARCH (u|one) USING INDEX", step) for step in plan), plan


@pytest.mark.asyncio
@pytest.mark.parametrize("table", ["found", "Found", "similarities", "embeddings", "collections"])
@pytest.mark.parametrize("similarities", [0, 10])
async def test_tables_with_the_names_that_queries_use(
    tmp_path: Path, cli: Callable, table: str, similarities: int
) -> None:
    """A source with the name of something in our queries is not confused with it."""
    make_table(
        tmp_path / "x.db",
        f"create table {table} (id integer primary key, value text, score real);"
        f"insert into {table} values (7, 'storm and rain', 0.5), (8, 'cup final', 0.5);",
    )
    collection = {"table": table, "columns": ["value"], "similarities": similarities}
    site = make_site(tmp_path, {"table_prefix": "e_", "collections": {"c": collection}})
    cli("build", tmp_path)
    assert [row["id"] for row in await rows(site, "/x/search_c.json?q=bad+weather")] == ["7", "8"]
    assert [row["value"] for row in await rows(site, "/x/related_c.json?id=7")] == ["cup final"]


async def refused(site: Datasette, path: str, status: int = 400) -> str:
    """Return the sentence of an error, which the page and the JSON, whose shape is Datasette's own, both hold."""
    answer = await site.client.get(path.replace("?", ".json?", 1))
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert (body["ok"], body["status"], body["errors"]) == (False, status, [body["error"]])
    page = await site.client.get(path)
    assert page.status_code == status
    assert "<html" in page.text
    assert html.escape(body["error"]) in page.text.replace("&#39;", "&#x27;").replace("&#34;", "&quot;")
    return body["error"]


@pytest.mark.asyncio
async def test_what_goes_wrong_is_said_on_the_page(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is too long, a model that is missing or too slow: the visitor reads the sentence, not SQLite's."""
    site = make_site(built.parent)
    assert "8,001 characters" in await refused(site, "/news/search_articles?q=" + "a" * 8001)

    def gone(*_: object) -> None:
        raise ModelError("the weights of <it> are 'missing'")

    with monkeypatch.context() as patch:
        patch.setattr(embedder, "get_model", gone)
        assert await refused(site, "/news/search_articles?q=storm") == "the weights of <it> are 'missing'"
    monkeypatch.setattr(asking, "PREFETCH_SECONDS", 0.0)
    assert "no vector within" in await refused(site, "/news/search_articles?q=slow", 504)


@pytest.mark.asyncio
async def test_vectors_of_another_length_are_said_on_the_page(built: Path) -> None:
    """A model that gives other dimensions than the collection was built with is named, with what to do."""
    with sqlite3.connect(built) as conn:
        conn.execute("update embeddings_collections set dimensions = 512")
    sentence = await refused(make_site(built.parent), "/news/search_articles?q=storm")
    assert "static gives 256 dimensions" in sentence
    assert "'articles' has 512: build it again" in sentence


@pytest.mark.asyncio
async def test_query_in_our_place_runs_without_our_model(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the site itself put under our query's name is not refused for a vector that it may not need."""
    own = {"databases": {"news": {"queries": {"search_articles": {"sql": "select length(:q) as n"}}}}}
    site = make_site(built.parent, **own)

    def gone(*_: object) -> None:
        raise ModelError("no model is installed here")

    monkeypatch.setattr(embedder, "get_model", gone)
    for length in (5, 8001):
        assert await rows(site, "/news/search_articles.json?q=" + "a" * length) == [{"n": length}]


@pytest.mark.asyncio
async def test_errors_are_for_who_may_view(built: Path) -> None:
    """A visitor without permission learns nothing but that."""
    site = make_site(built.parent, databases={"news": {"allow": {"id": "root"}}})
    assert (await site.client.get("/news/search_articles.json?q=" + "a" * 8001)).status_code == 403


@pytest.mark.asyncio
async def test_visitors_have_a_budget(remote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many queries a minute a remote model is not asked, whoever asks; what is known stays free."""
    news, server, settings = remote
    from datasette_embeddings.models import get_model

    monkeypatch.setattr(get_model("openai/any", settings["models"]), "remote", True, raising=False)
    clock = [1000.0]
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    site = make_site(news.parent, {**settings, "allow_sql": True, "limits": {"queries_per_minute": 3}})
    search = "/news/search_articles.json?q=budget+"
    paid = len(server.texts)
    for word in ("one", "two", "three"):
        assert len(await rows(site, search + word)) == 8
    answer = await site.client.get(search + "four")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "20")
    assert "at most 3 queries a minute" in await refused(site, "/news/search_articles?q=budget+four", 429)
    sql = "select embed_text('openai/any', 'spend it by SQL') as v"
    assert (await site.client.get(("/news/-/query.json?sql=" if IS_V1 else "/news.json?sql=") + sql)).status_code == 400
    assert len(await rows(site, search + "one")) == 8
    assert len(server.texts) == paid + 3
    clock[0] += 20
    assert len(await rows(site, search + "four")) == 8
    assert (await site.client.get(search + "five")).status_code == 429
    assert len(server.texts) == paid + 4
    closed = make_site(news.parent, {**settings, "limits": {"queries_per_minute": 0}})
    assert "no queries" in await refused(closed, "/news/search_articles?q=budget+six", 429)


@pytest.mark.asyncio
async def test_local_models_have_no_budget(built: Path) -> None:
    """What runs on this machine costs nothing."""
    site = make_site(built.parent, {"limits": {"queries_per_minute": 0}})
    assert len(await rows(site, "/news/search_articles.json?q=free")) == 8


@pytest.mark.asyncio
async def test_shortened_vectors_of_openai_answer_queries(
    news: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file calls the model as llm does, `text-embedding-3-small-512`: that is the configured model, with its key."""
    from datasette_embeddings.models import openai

    with OpenAIServer(dimensions=1536, key="sk-of-this-site") as server:
        monkeypatch.setattr(openai, "OPENAI_URL", server.url)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        monkeypatch.setenv("MYKEY", "sk-of-this-site")
        settings = {"dimensions": 512, "api_key": {"$env": "MYKEY"}}
        collection = {"table": "articles", "columns": ["title", "body"], "model": "openai/text-embedding-3-small"}
        block = {"collections": {"c": collection}, "models": {"openai/text-embedding-3-small": settings}}
        site = make_site(news.parent, block)
        cli("build", news.parent, "--yes")
        with sqlite3.connect(news) as conn:
            assert conn.execute("select model from collections").fetchall() == [("text-embedding-3-small-512",)]
        found = await rows(site, "/news/search_c.json?q=late+goal+decides+the+cup+final")
        assert found[0]["id"] == "news/football"
        assert "news/football" in cli("search", news, "c", "late goal decides the final").output
        assert len(server.texts) == 10


@pytest.mark.asyncio
async def test_files_of_llm_are_searched_with_minilm_also_beside_torch(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name that llm gives to these weights is open to a site without configuration, whatever is installed."""
    from datasette_embeddings import models

    loaded = []

    def load(name: str, settings: Any) -> Any:
        loaded.append(name)
        return models.get_model("static", settings)

    monkeypatch.setattr(models, "find_spec", lambda name: name)
    monkeypatch.setattr(embedder, "get_model", load)
    with sqlite3.connect(built) as conn:
        conn.execute("update collections set model = 'sentence-transformers/all-MiniLM-L6-v2'")
    assert len(await rows(make_site(built.parent), "/news/search_articles.json?q=storm")) == 8
    assert set(loaded) == {"minilm"}
