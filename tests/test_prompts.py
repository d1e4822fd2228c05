"""Prompts (`query: `, `passage: `): which a model has, that a collection keeps them, and that nothing embeds without its own."""

from __future__ import annotations

import json
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import yaml
from onnx_files import table_lookup, write_folder
from openai_server import OpenAIServer
from test_datasette import IS_V1, make_site

from datasette_embeddings.models import get_model
from datasette_embeddings.models.prompts import prompts_of
from datasette_embeddings.sources import content_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from datasette.app import Datasette

E5 = "openai/intfloat/multilingual-e5-small"
ARTICLES = {"table": "articles", "columns": ["title", "body"]}


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    """A server on this machine that records what it was asked."""
    with OpenAIServer() as running:
        yield running


def configure(folder: Path, server: OpenAIServer, settings: dict[str, Any] | None = None, **collection: Any) -> None:
    """Write metadata.yml: the articles by E5 at the server, with further settings of the model and of the collection."""
    models = {E5: {"base_url": server.url, **(settings or {})}}
    block = {"models": models, "allow_sql": True, "collections": {"articles": {**ARTICLES, "model": E5, **collection}}}
    (folder / "metadata.yml").write_text(yaml.safe_dump({"plugins": {"datasette-embeddings": block}}))


def site_of(folder: Path) -> Datasette:
    """Return a Datasette of a folder with its own configuration."""
    block = yaml.safe_load((folder / "metadata.yml").read_text())["plugins"]["datasette-embeddings"]
    return make_site(folder, block)


@pytest.fixture
def e5(news: Path, server: OpenAIServer, cli: Callable) -> Path:
    """The articles, built by E5 at the server."""
    configure(news.parent, server)
    cli("build", news.parent, "--yes")
    return news


def stored(path: Path) -> tuple:
    """Return what the file keeps of the collection's prompts."""
    with sqlite3.connect(path) as conn:
        return conn.execute("select document_prefix, query_prefix from embeddings_collections").fetchone()


# Which a model has


@pytest.mark.parametrize(
    ("name", "document", "query"),
    [
        ("intfloat/multilingual-e5-small", "passage: ", "query: "),
        ("text/e5-base-v2:latest", "passage: ", "query: "),
        ("models/multilingual-e5-small-onnx", "passage: ", "query: "),
        ("hf.co/nomic-ai/nomic-embed-text-v1.5-GGUF:Q8_0", "search_document: ", "search_query: "),
        ("BAAI/bge-small-en-v1.5", "", "Represent this sentence for searching relevant passages: "),
        ("mxbai-embed-large", "", "Represent this sentence for searching relevant passages: "),
        ("BAAI/bge-m3", "", ""),
        ("all-MiniLM-L6-v2", "", ""),
        ("me/my-e5-small", "", ""),
    ],
)
def test_known_models(name: str, document: str, query: str) -> None:
    """By the last part of the name, however it is packed; a model of another name is left alone."""
    assert prompts_of(name, {})[:2] == (document, query)
    for model in (f"openai/{name}", f"sentence-transformers/{name}"):
        assert prompts_of(model, {})[:2] == (document, query)


def test_settings_come_before_files_and_files_before_the_card() -> None:
    """And each purpose by itself; empty prompts in a model's files say nothing."""
    files = {"query": "q: ", "passage": "p: "}
    assert prompts_of("e5-small", {"query_prompt": "mine: "}, files)[:2] == ("p: ", "mine: ")
    assert prompts_of("e5-small", {"document_prompt": ""}, files)[:2] == ("", "q: ")
    assert prompts_of("e5-small", {}, files)[:2] == ("p: ", "q: ")
    assert prompts_of("e5-small", {}, {"query": "", "document": ""})[:2] == ("passage: ", "query: ")
    assert prompts_of("x", {}, {"any": "all: "}, "any")[:2] == ("all: ", "all: ")


# Documents and queries


def test_documents_and_queries_of_a_build(e5: Path, server: OpenAIServer, cli: Callable) -> None:
    """No configuration is needed; the file keeps both, and everything that lists collections shows them."""
    assert len(server.texts) == 8
    assert all(text.startswith("passage: ") for text in server.texts)
    assert stored(e5) == ("passage: ", "query: ")
    words = '"passage: " before documents, "query: " before queries'
    assert words in cli("status", e5).output
    assert words in cli("collections", e5).output
    state = json.loads(cli("status", e5, "--json").output)[0]
    assert (state["document_prefix"], state["query_prefix"]) == ("passage: ", "query: ")
    assert "Nothing changed" in cli("build", e5.parent).output
    assert len(server.texts) == 8


def test_build_says_what_a_model_is_known_to_need(news: Path, server: OpenAIServer, cli: Callable) -> None:
    """In one line, with its source and how to have it otherwise; nothing of models that need none."""
    configure(news.parent, server)
    for arguments in (["--dry-run"], []):
        said = cli("build", news.parent, "--yes", *arguments).output
        assert (
            said.count('puts "passage: " before documents, "query: " before queries, as its card says (https://') == 1
        )
        assert (
            '`prefix` of the collection (--prepend of `embed`) says otherwise, and "" that there is to be none' in said
        )
    configure(news.parent, server, prefix="")
    assert " before documents" not in cli("build", news.parent, "--yes").output


def paths(folder: Path, site: Datasette, cli: Callable) -> dict[str, Callable[[str], Any]]:
    """Return every way in which a query to the collection is embedded."""
    news = folder / "news.db"
    sql = "/news/-/query.json?sql=" if IS_V1 else "/news.json?sql="

    def get(path: str) -> Callable[[str], Any]:
        async def ask(text: str) -> None:
            response = await site.client.get(path.format(text=quote(text)))
            assert response.status_code == 200, response.text

        return ask

    def evaluate(text: str) -> None:
        (folder / "pairs.json").write_text(json.dumps([{"question": text, "id": "news/storm"}]))
        cli("evaluate", news, "articles", "--pairs", folder / "pairs.json")

    return {
        "embed_query": get(sql + "select+embed_query('articles','{text}')+is+null"),
        "embed_search": get(sql + "select+embed_search('articles','{text}')"),
        "embed_hybrid": get(sql + "select+embed_hybrid('articles','{text}')"),
        "search_c": get("/news/search_articles.json?q={text}"),
        "hybrid_c": get("/news/hybrid_articles.json?q={text}"),
        "page": get("/-/embeddings/news/articles/search?q={text}"),
        "json": get("/-/embeddings/news/articles/search.json?q={text}"),
        "_meaning": get("/news/articles.json?_meaning={text}"),
        "template": get("/semantic?q={text}"),
        "cli search": lambda text: cli("search", news, "articles", text),
        "cli hybrid": lambda text: cli("search", news, "articles", text, "--hybrid"),
        "cli evaluate": evaluate,
        "cli ask": lambda text: cli("ask", news, "articles", text, "--quote"),
    }


SEMANTIC = "{% for result in semantic_search('news', 'articles', request.args.get('q')) %}{{ result.id }}{% endfor %}"


@pytest.mark.asyncio
async def test_every_query_has_its_prompt(e5: Path, server: OpenAIServer, cli: Callable) -> None:
    """By SQL, canned queries, pages, templates and commands; asked of the server itself, not of what we think we sent."""
    (e5.parent / "templates" / "pages").mkdir(parents=True)
    (e5.parent / "templates" / "pages" / "semantic.html").write_text(SEMANTIC)
    for number, (name, ask) in enumerate(paths(e5.parent, site_of(e5.parent), cli).items()):
        server.texts.clear()
        text = f"which team won match {number}"
        asked = ask(text)
        if asked is not None and hasattr(asked, "__await__"):
            await asked
        assert server.texts == [f"query: {text}"], name


def test_queries_have_the_prompt_that_the_file_was_built_for(e5: Path, server: OpenAIServer, cli: Callable) -> None:
    """Other settings of the model change nothing until a build, which embeds queries with them and documents not again."""
    configure(e5.parent, server, {"query_prompt": "find: "})
    server.texts.clear()
    cli("search", e5, "articles", "a storm")
    assert server.texts == ["query: a storm"]
    assert "8 vectors reused" in cli("build", e5.parent, "--yes").output
    assert stored(e5) == ("passage: ", "find: ")
    server.texts.clear()
    cli("search", e5, "articles", "another storm")
    assert server.texts == ["find: another storm"]


def test_file_of_an_earlier_release(e5: Path, server: OpenAIServer, cli: Callable) -> None:
    """It does not say what belongs before queries: the model does."""
    with sqlite3.connect(e5) as conn:
        conn.execute("update embeddings_collections set query_prefix = null, document_prefix = null")
    server.texts.clear()
    cli("search", e5, "articles", "a storm")
    assert server.texts == ["query: a storm"]


def test_vectors_taken_over_have_no_prompts(news: Path, server: OpenAIServer, cli: Callable) -> None:
    """Neither have queries to them, and the configuration that `import` prints keeps it so: nothing is embedded again."""
    configure(news.parent, server)
    model = get_model(E5, {E5: {"base_url": server.url}})
    with sqlite3.connect(news) as conn:
        rows = conn.execute("select path, title || ' ' || body from articles").fetchall()
        vectors = model.embed([text for _, text in rows], "document", "").vectors
        conn.execute("create table theirs (path text primary key, vector blob)")
        conn.executemany(
            "insert into theirs values (?, ?)", [(row[0], v.tobytes()) for row, v in zip(rows, vectors, strict=True)]
        )
    columns = ["--column", "title", "--column", "body"]
    options = ["--from", "theirs", "--collection", "taken", "--model", E5, "--table", "articles", *columns]
    printed = cli("import", news, *options).output
    server.texts.clear()
    cli("search", news, "taken", "a storm")
    assert server.texts == ["a storm"]
    block = yaml.safe_load(printed[printed.index("plugins:") : printed.index("Now: ")])["plugins"][
        "datasette-embeddings"
    ]
    block["models"] = {E5: {"base_url": server.url}}
    (news.parent / "metadata.yml").write_text(yaml.safe_dump({"plugins": {"datasette-embeddings": block}}))
    assert "0 texts embedded" in cli("build", news.parent, "--yes").output
    assert server.texts == ["a storm"]


def test_documents_with_another_prompt_are_embedded_anew(e5: Path, server: OpenAIServer, cli: Callable) -> None:
    """Also where the texts themselves are as they were."""
    server.texts.clear()
    configure(e5.parent, server, {"document_prompt": "text: "})
    assert "8 texts embedded" in cli("build", e5.parent, "--yes").output
    assert len(server.texts) == 8
    assert all(text.startswith("text: ") for text in server.texts)


@pytest.mark.parametrize(
    ("prefix", "document", "query"),
    [
        ("", "", ""),
        ("about: ", "about: ", "query: "),
        ({"query": "find: "}, "passage: ", "find: "),
        ({"document": ""}, "", "query: "),
        ({"document": "d: ", "query": ""}, "d: ", ""),
    ],
)
def test_a_collection_s_own_prefix(
    prefix: Any, document: str, query: str, news: Path, server: OpenAIServer, cli: Callable
) -> None:
    """Takes the place of the model's prompt, never stands beside it; what is not said is the model's own."""
    configure(news.parent, server, prefix=prefix)
    cli("build", news.parent, "--yes")
    with sqlite3.connect(news) as conn:
        texts = [row[0] for row in conn.execute("select title || ' ' || body from articles")]
    assert sorted(server.texts) == sorted(document + text for text in texts)
    assert stored(news) == (document, query)
    server.texts.clear()
    cli("search", news, "articles", "a storm")
    assert server.texts == [f"{query}a storm"]


def test_prefixes_of_the_embed_command(tmp_path: Path, server: OpenAIServer, cli: Callable) -> None:
    """As of a collection in the configuration."""
    records = b'{"id": 1, "text": "a cat"}\n{"id": 2, "text": "a dog"}\n'
    for number, (options, document, query) in enumerate(
        [([], "passage: ", "query: "), (["--prepend", ""], "", ""), (["--prepend-query", "q: "], "passage: ", "q: ")]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        configure(folder, server)
        server.texts.clear()
        cli("embed", folder / "pets.db", "pets", "-", "-m", E5, *options, "--yes", stdin=records)
        cli("search", folder / "pets.db", "pets", "kitten")
        assert sorted(server.texts) == sorted([f"{document}a cat", f"{document}a dog", f"{query}kitten"])


def test_model_of_a_folder_in_a_file_that_moved(news: Path, tmp_path: Path, cli: Callable) -> None:
    """Built with settings, searched where there is no configuration: the same scores."""
    folder = write_folder(tmp_path / "model", table_lookup())
    name = f"onnx/{folder}"
    block = {
        "models": {name: {"query_prompt": "b ", "document_prompt": "c "}},
        "collections": {"articles": {**ARTICLES, "model": name, "similarities": 0}},
    }
    with sqlite3.connect(news) as conn:
        conn.executemany("update articles set title = ? where rowid = ?", [(w, n) for n, w in enumerate("abcdabcd", 1)])
    (news.parent / "metadata.yml").write_text(yaml.safe_dump({"plugins": {"datasette-embeddings": block}}))
    cli("build", news.parent)
    here = cli("search", news, "articles", "a", "--json").output
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(news, elsewhere)
    assert get_model(name).prompts == ("", "", "")
    assert cli("search", elsewhere / "news.db", "articles", "a", "--json").output == here
    with sqlite3.connect(elsewhere / "news.db") as conn:
        conn.execute("update embeddings_collections set query_prefix = ''")
    assert cli("search", elsewhere / "news.db", "articles", "a", "--json").output != here


def test_collection_of_llm(news: Path, server: OpenAIServer, cli: Callable) -> None:
    """Its rows were embedded without prompts, and so are its queries; a build of that name embeds all of them anew."""
    cli("embed", news.parent / "llm.db", "articles", "-", "--no-store", stdin=b'{"id": 1, "text": "a cup"}\n')
    with sqlite3.connect(news.parent / "llm.db") as conn:
        theirs = [
            row[0]
            for row in conn.execute("select sql from sqlite_master where tbl_name in ('collections', 'embeddings')")
        ]
    with sqlite3.connect(news) as conn:
        for statement in theirs:
            if statement:
                conn.execute(statement)
        conn.execute("insert into collections values (1, 'articles', ?)", [E5])
        rows = conn.execute("select path, title || ' ' || body from articles").fetchall()
        model = get_model(E5, {E5: {"base_url": server.url}})
        vectors = model.embed([text for _, text in rows], "document", "").vectors
        conn.executemany(
            "insert into embeddings (collection_id, id, embedding, content_hash) values (1, ?, ?, ?)",
            [(item, vector.tobytes(), content_hash(text)) for (item, text), vector in zip(rows, vectors, strict=True)],
        )
    (news.parent / "llm.db").unlink()
    configure(news.parent, server)
    server.texts.clear()
    cli("search", news, "articles", "a storm")
    assert server.texts == ["a storm"]
    assert "8 texts embedded" in cli("build", news.parent, "--yes").output
    assert stored(news) == ("passage: ", "query: ")
