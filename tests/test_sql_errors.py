"""What visitors read when a function fails inside SQL, on pages and in JSON, and what they must not read."""

from __future__ import annotations

import asyncio
import html
import re
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from datasette import hookimpl
from datasette.plugins import pm
from test_datasette import IS_V1, make_site

if TYPE_CHECKING:
    from pathlib import Path

    from datasette.app import Datasette

SHOWN = re.compile(r'<p class="message-error">(.*?)</p>|border: 3px solid red;">(.*?)</div>', re.S)


def query_path(sql: str, extension: str = "", **parameters: str) -> str:
    """Return the address of the page, or of another form, of an SQL query on news.db."""
    given = "".join(f"&{name}={quote(value)}" for name, value in parameters.items())
    return f"/news/-/query{extension}?sql={quote(sql)}{given}" if IS_V1 else f"/news{extension}?sql={quote(sql)}{given}"


async def said(site: Datasette, sql: str, **parameters: str) -> str:
    """Return the sentence with which a query fails: in JSON, on its page, and in CSV where Datasette shows errors there."""
    answer = await site.client.get(query_path(sql, ".json", **parameters))
    assert answer.status_code == 400, answer.text
    sentence = answer.json()["error"]
    page = await site.client.get(query_path(sql, **parameters))
    assert page.status_code == (200 if IS_V1 else 400)  # Datasette's own for an error in SQL
    assert html.unescape("".join(SHOWN.search(page.text).groups(""))) == sentence
    if IS_V1:
        table = await site.client.get(query_path(sql, ".csv", **parameters))
        assert (table.status_code, table.text) == (400, sentence)
    assert "user-defined" not in sentence
    assert "Traceback" not in sentence
    return sentence


ERRORS: dict[str, list[str]] = {
    "select embed_cosine(zeroblob(1536), zeroblob(6144))": ["different dimensions", "384 and 1536"],
    "select embed_cosine(x'0000803F', title) from articles": ["a BLOB of 4 bytes a dimension", "found text"],
    "select embed_dot(zeroblob(1536), zeroblob(6144))": ["384 and 1536"],
    "select embed_spectrum(x'0000803F', x'0000803F', x'0000803F')": ["two different poles"],
    "select embed_average(zeroblob(4 * length(title))) from articles": ["no average"],
    "select llm_embed_average(x'00')": ["found 1 bytes"],
    "select embed_decode(x'00010203FF')": ["a BLOB of 4 bytes a dimension", "found 5 bytes"],
    "select embed_normalize(zeroblob(8))": ["no direction"],
    "select embed_scale(x'0000803F', 'x')": ["by a number", "found text"],
    "select embed_text('statik', 'storm')": ["the model 'statik'", "did you mean static?", "`models:`"],
    "select llm_embed('minilmm', 'storm')": ["did you mean minilm?"],
    "select embed_text('static', 'storm', 'verse')": ["document or query", "'verse'"],
    "select embed_text(x'00')": ["a text was expected"],
    "select embed_text(printf('%9000c', 'a'))": ["9,000 characters", "limit 8,000"],
    "select embed_image('static', x'00')": ["static embeds text, not image"],
    "select embed_query('artikles', 'storm')": ["no collection 'artikles'", "did you mean articles?"],
    "select embed_search('artikles', 'storm')": ["did you mean articles?"],
    "select embed_search('articles', 'storm', 'many')": ["a whole number from 0 on", "'many'"],
    "select embed_search('articles', 'storm', 3, 'a, b')": ["a JSON array"],
    "select embed_search('articles', embed_encode('[1, 2]'))": ["the query has 2 dimensions", "'articles' has 256"],
    "select embed_hybrid('artikles', 'storm')": ["did you mean articles?"],
    "select embed_key('a,b', -1)": ["a whole number from 0 on"],
}


@pytest.mark.asyncio
async def test_errors_of_functions_are_said(built: Path) -> None:
    """Every kind of failure reaches the visitor in the words that the function raised."""
    site = make_site(built.parent)
    for sql, parts in ERRORS.items():
        sentence = await said(site, sql)
        for part in parts:
            assert part in sentence, sql


@pytest.mark.asyncio
@pytest.mark.parametrize("threads", [0, 1])
async def test_wherever_sql_runs(built: Path, threads: int) -> None:
    """Conditions on a table, its CSV, queries of the site's own; with one SQL thread, and with none."""
    own = {"news": {"queries": {"own": {"sql": "select embed_decode(:v)"}}}}
    site = make_site(built.parent, databases=own, settings={"num_sql_threads": threads})
    condition = "_where=" + quote("embed_dimensions(title) = 3")
    paths = ["/news/articles?", "/news/articles.json?", "/news/articles.csv?", "/news/articles.csv?_stream=1&"]
    for path in paths:
        answer = await site.client.get(path + condition)
        assert answer.status_code == 400
        assert "an embedding is a BLOB of 4 bytes a dimension; found text" in answer.text
    answer = await site.client.get("/news/own.json?v=x")
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "an embedding is a BLOB of 4 bytes a dimension; found text",
    )
    assert "384 and 1536" in await said(site, "select embed_cosine(zeroblob(1536), zeroblob(6144))")
    assert await said(site, "select none_such") == "no such column: none_such"


@pytest.mark.asyncio
async def test_time_limit_inside_a_search(built: Path) -> None:
    """SQLite's own interruption of a statement within a function is named as what it is."""
    site = make_site(built.parent, settings={"sql_time_limit_ms": 20})  # so short, it is looked at after each step
    ids = "'[0' || replace(hex(zeroblob(900000)), '00', ',1') || ']'"
    sql = f"select embed_search('articles', (select max(embedding) from embeddings), 3, {ids})"
    answer = await site.client.get(query_path(sql, ".json"))
    assert answer.status_code == 400
    assert "sql_time_limit_ms" in answer.json()["error"]


@pytest.mark.asyncio
async def test_queries_at_once_keep_their_own_errors(built: Path) -> None:
    """Forty failing queries on three threads: each is told of its own vectors."""
    site = make_site(built.parent)

    async def ask(size: int) -> str:
        sql = f"select embed_cosine(zeroblob({4 * size}), zeroblob({4 * size + 4})) from embeddings"
        answer = await site.client.get(query_path(sql, ".json"))
        return answer.json()["error"]

    sentences = await asyncio.gather(*(ask(size) for size in range(1, 41)))
    for size, sentence in enumerate(sentences, 1):
        assert f"{size} and {size + 1};" in sentence


class Other:
    """Another plugin, with a function that fails without a word of ours."""

    __name__ = "other"

    @hookimpl
    def prepare_connection(self, conn: Any) -> None:
        def fail() -> None:
            raise ValueError("sk-this-is-not-for-visitors")

        conn.create_function("other_fails", 0, fail)


@pytest.mark.asyncio
async def test_errors_of_others_are_not_ours(built: Path) -> None:
    """What another plugin's function raises stays unsaid, and gets no sentence that was left from before."""
    other = Other()
    pm.register(other, name="other")
    try:
        site = make_site(built.parent, settings={"num_sql_threads": 1})
        assert "found 1 bytes" in await said(site, "select embed_decode(x'00')")
        answer = await site.client.get(query_path("select other_fails()", ".json"))
        assert answer.json()["error"] == "user-defined function raised exception"
    finally:
        pm.unregister(other)


KEY = "sk-Canary0123456789"
HIDDEN = {
    "/home/visitor/my models/minilm/model.bin is bad": "model.bin is bad",
    "(/etc/passwd)": "(passwd)",
    "~/secret plans/model": "model",
    "file:///srv/data/model": "model",
    "C:/Users/me/my models/x.bin": "x.bin",
    "onnx//srv/models/bert": "onnx/bert",
    "see https://example.org/a/b": "see https://example.org/a/b",
    "and / or, this/that, ../up": "and / or, this/that, ../up",
    f"the key {KEY} is wrong": "the key [key] is wrong",
}


@pytest.mark.asyncio
async def test_paths_and_keys_stay_unsaid(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a path only the file's name is shown, of a key nothing; addresses stay."""
    monkeypatch.setenv("SOME_API_KEY", KEY)
    site = make_site(built.parent)
    for found, shown in HIDDEN.items():
        sentence = await said(site, "select embed_search(:name, 'x')", name=found)
        assert sentence.startswith(f"there is no collection '{shown}' in this database")


@pytest.mark.asyncio
async def test_long_errors_are_cut(built: Path) -> None:
    """A page is not filled with what a visitor or a library has to say."""
    sentence = await said(make_site(built.parent), "select embed_query(hex(zeroblob(999)), 'x')")
    assert len(sentence) == 600
    assert sentence.endswith("…")


@pytest.mark.asyncio
async def test_missing_weights_are_said_without_their_place(built: Path) -> None:
    """Which file is missing and what to do, in SQL and on the search page, but not where the machine keeps its models."""
    pytest.importorskip("onnxruntime")
    folder = built.parent / "private models"
    site = make_site(built.parent, {"default_model": "minilm", "models": {"minilm": {"path": str(folder)}}})
    sentence = await said(site, "select embed_text('storm')")
    assert sentence.startswith("minilm: model.safetensors is missing; run `datasette embeddings models install minilm`")
    assert "private" not in sentence
    with_model = "update collections set model = 'minilm'"
    await site.get_database("news").execute_write(with_model)
    answer = await site.client.get("/news/search_articles.json?q=storm")
    assert (answer.status_code, answer.json()["error"]) == (400, sentence)


@pytest.mark.asyncio
async def test_missing_package_is_said(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install."""
    monkeypatch.setitem(sys.modules, "openai", None)
    block = {"models": {"openai/none": {"base_url": "http://127.0.0.1:9/v1"}}}
    sentence = await said(make_site(built.parent, block), "select embed_text('openai/none', 'storm')")
    assert "pip install 'datasette-embeddings-suite[openai]'" in sentence
