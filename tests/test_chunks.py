"""Rows embedded in chunks: where chunks stand, what searches say of rows, and what edits, refusals and changes of mind leave."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hard
import numpy as np
import pytest
import yaml
from datasette.utils import tilde_encode
from openai_server import OpenAIServer, status
from test_datasette import make_site, rows
from test_faults import answer_and, start
from test_fulltext import matches
from test_llm_interop import llm  # noqa: F401
from test_pages import data, page, sql_rows

from datasette_embeddings import queries, register
from datasette_embeddings.catalog import find_collection
from datasette_embeddings.chunks import stored_texts
from datasette_embeddings.tables import find_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOIL = (
    "Good soil is dark and crumbles in the hand. Dig in compost every autumn, so that worms and roots find air. "
    "Clay holds water for weeks, while sand lets it run away within the hour."
)
WATER = (
    "Every tap on the terrace has a washer of rubber. When a faucet drips, close the main valve and change the washer. "
    "A hose that is left in the sun grows stiff and cracks at its ends."
)
WINTER = (
    "Before the first frost the dahlias are lifted and kept in a dry cellar. Roses are earthed up with straw. "
    "Hedgehogs sleep below the leaves, so leave a heap of them in a corner."
)
TAXES = (
    "The ministry of finance has published new rules on value added tax. Exporters file their returns each quarter. "
    "A refund is paid within two months, unless the auditor asks for invoices."
)
PIANO = (
    "A concert grand has eighty-eight keys and three pedals. The tuner listens for beats between two strings. "
    "Felt hammers harden with the years and make the tone shrill."
)


BREAD = (
    "Flour, water and salt are kneaded until the dough is smooth. It rises overnight in a cool room. "
    "The oven is hot enough when a pinch of meal browns at once."
)


def guide(*sections: tuple[str, str]) -> str:
    """Return Markdown with a section for each (heading, text)."""
    return "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections)


GARDEN = guide(("Soil", SOIL), ("Water", WATER), ("Winter", WINTER))
LEDGER = guide(("Taxes", TAXES), ("Music", PIANO))

DOCS = [
    ("garden", "The garden book", GARDEN, "home"),
    ("ledger", "A ledger of oddities", LEDGER, "work"),
    ("a", "Soil alone", SOIL, "home"),
    ("a#0", "Bread alone", BREAD, "home"),
    ("a#0#1", "Winter alone", WINTER, "home"),
    ("a#", "Taxes alone", TAXES, "work"),
    ("a$", "Piano alone", PIANO, "art"),
    ("a5", "Short", "A single line about chess.", "art"),
    ("7", "Seven", guide(("Piano", PIANO), ("Soil", SOIL)), "art"),
    ("naïve/😀,~%", "Odd", guide(("Winter", WINTER), ("Taxes", TAXES)), "work"),
]
"""Rows of one and of several chunks, with ids that look like chunks of one another."""

SCHEMA = "create table docs (id text primary key, title text, body text, topic text)"
COLLECTION = {"table": "docs", "columns": ["title", "body"], "similarities": 3, "chunk": 32}


def make_docs(path: Path, docs: list[tuple[str, str, str, str]] = DOCS) -> Path:
    """Write the table docs."""
    hard.change(path, SCHEMA, *(("insert into docs values (?, ?, ?, ?)", row) for row in docs))
    return path


def build(path: Path, *more: object, expect: int = 0, **collection: object) -> str:
    """Build COLLECTION as `c` by a configuration of its own, with changes; None leaves a key out. Returns the output."""
    wanted = {key: value for key, value in {**COLLECTION, **collection}.items() if value is not None}
    config = path.with_suffix(".yml")
    config.write_text(yaml.safe_dump({"default_model": "static", "collections": {"c": wanted}}))
    return hard.run("build", path, "-c", config, *more, expect=expect).output


@pytest.fixture(scope="module")
def docs_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documents in chunks, built."""
    path = make_docs(tmp_path_factory.mktemp("docs") / "docs.db")
    build(path)
    return path


@pytest.fixture
def docs(docs_once: Path, tmp_path: Path) -> Path:
    """A copy of the documents in chunks."""
    return Path(shutil.copy(docs_once, tmp_path / "docs.db"))


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    """A model on this machine: what a build pays for can be counted, and what texts share is their words."""
    with OpenAIServer(dimensions=32) as running:
        yield running


@pytest.fixture
def paid(server: OpenAIServer, tmp_path: Path) -> Callable[..., tuple[str, list[str]]]:
    """Build COLLECTION by the server's model, with changes; returns the output and the texts that this build paid for."""

    def run(path: Path, *more: object, **collection: object) -> tuple[str, list[str]]:
        wanted = {key: value for key, value in {**COLLECTION, **collection}.items() if value is not None}
        config = hard.write_config(tmp_path / "paid.json", server, {"c": wanted})
        before = len(server.texts)
        output = hard.run("build", path, "-c", config, *more).output
        return output, [text for text in server.texts[before:] if text != "hello"]

    return run


def md5(text: str) -> bytes:
    return hashlib.md5(text.encode()).digest()


def chunks_of(path: Path, prefix: str = "", name: str = "c") -> list[dict[str, Any]]:
    """Return the chunks of a collection in order, with what `embeddings` holds of each; both tables hold the same ids."""
    with closing(sqlite3.connect(path)) as conn:
        conn.row_factory = sqlite3.Row
        (cid,) = conn.execute(f"select id from {prefix}collections where name = ?", [name]).fetchone()
        held = conn.execute(f"select id from {prefix}embeddings where collection_id = ? order by 1", [cid]).fetchall()
        found = conn.execute(
            f"select c.*, e.embedding, e.content, e.content_hash as embedded_hash from {prefix}chunks c "
            f"join {prefix}embeddings e using (collection_id, id) where collection_id = ? order by parent_id, position",
            [cid],
        ).fetchall()
        others = conn.execute(f"select count(*) from {prefix}chunks where collection_id != ?", [cid]).fetchone()[0]
    assert others == 0
    assert sorted(row["id"] for row in found) == [row["id"] for row in held]
    return [dict(row) for row in found]


def check_places(path: Path, texts: dict[str, str], prepend: str = "", *, stored: bool) -> None:
    """Check that chunks are of these rows, hold every character, and that hashes are of what was embedded."""
    found = chunks_of(path)
    assert {chunk["parent_id"] for chunk in found} == texts.keys()
    for row, text in texts.items():
        own = [chunk for chunk in found if chunk["parent_id"] == row]
        assert [chunk["id"] for chunk in own] == [f"{row}#{n}" for n in range(len(own))]
        assert [chunk["position"] for chunk in own] == list(range(len(own)))
        covered = 0
        for chunk in own:
            assert chunk["start"] <= covered < chunk["end"]
            covered = chunk["end"]
            said = text[chunk["start"] : chunk["end"]]
            heading = f"{chunk['heading']}\n\n" if chunk["heading"] else ""
            assert chunk["content"] == (prepend + heading + said if stored else None)
            assert chunk["content_hash"] == chunk["embedded_hash"] == md5(prepend + heading + said)
            assert chunk["row_hash"] == md5(prepend + text)
        assert own[0]["start"] == 0
        assert covered == len(text)


def search(path: Path, text: str, *more: object, function: str = "embed_search") -> list[dict[str, Any]]:
    """Return what a function of SQL finds in `c`."""
    marks = ", ".join("?" * (2 + len(more)))
    with closing(sqlite3.connect(path)) as conn:
        register(conn)
        return json.loads(conn.execute(f"select {function}({marks})", ["c", text, *more]).fetchone()[0])


def by_hand(path: Path, text: str, ids: list[str] | None = None) -> list[dict[str, Any]]:
    """Return what `embed_search` must find, by comparing every chunk in SQL: each row once, by its best chunk."""
    with closing(sqlite3.connect(path)) as conn:
        register(conn)
        scored = conn.execute(
            "select c.parent_id, e.id, round(embed_cosine(e.embedding, embed_query('c', ?)), 5) from chunks c "
            "join embeddings e using (collection_id, id)",
            [text],
        ).fetchall()
    best: dict[str, tuple[float, str]] = {}
    for row, chunk, score in scored:
        if ids is None or row in ids:
            best[row] = min(best.get(row, (2.0, "")), (-score, chunk))
    return [{"id": row, "score": -score, "chunk": chunk} for row, (score, chunk) in best.items()]


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Tell whether results are as expected, their scores to 5 decimals, best first."""
    assert [hit["score"] for hit in found] == sorted((hit["score"] for hit in found), reverse=True)
    scores = {hit["id"]: (pytest.approx(hit["score"], abs=2e-5), hit["chunk"]) for hit in expected}
    return {hit["id"]: (hit["score"], hit["chunk"]) for hit in found} == scores


# Where chunks stand


@pytest.mark.parametrize(
    ("more", "prepend"),
    [
        ({}, ""),
        ({"store": True}, ""),
        ({"prefix": "passage: "}, "passage: "),
        ({"store": True, "prefix": "passage: "}, "passage: "),
    ],
    ids=["", "stored", "prefix", "stored prefix"],
)
def test_chunks_stand_where_they_say(tmp_path: Path, more: dict[str, Any], prepend: str) -> None:
    """Ids, places, headings and hashes agree with the rows; a second build finds nothing to do."""
    path = make_docs(tmp_path / "docs.db")
    assert f"{len(DOCS)} rows: {len(DOCS)} embedded, 0 skipped, 0 failed" in build(path, **more)
    texts = {row[0]: f"{row[1]}\n\n{row[2]}" for row in DOCS}
    check_places(path, texts, prepend, stored="store" in more)
    (best,) = search(path, "a dripping faucet", 1)
    (chunk,) = [chunk for chunk in chunks_of(path) if chunk["id"] == best["chunk"]]
    (shown,) = json.loads(hard.run("search", path, "c", "a dripping faucet", "-n", 1, "--json").output)
    assert (shown["id"], shown["heading"]) == ("garden", chunk["heading"])
    assert shown["text"] == " ".join(texts["garden"][chunk["start"] : chunk["end"]].split())
    sizes = {row: [c for c in chunks_of(path) if c["parent_id"] == row] for row in ("garden", "a5")}
    assert len(sizes["garden"]) > 3
    assert len(sizes["a5"]) == 1
    assert any("Water" in chunk["heading"] for chunk in sizes["garden"])
    assert "nothing changed" in build(path, **more)


def test_add_keeps_what_it_was_told_before(tmp_path: Path, cli: Callable) -> None:
    """The same command without its options changes nothing; only what is said anew does."""
    path = make_docs(tmp_path / "docs.db")
    columns = ["--column", "title", "--column", "body"]
    cli("add", path, "docs", *columns, "--chunk-tokens", 24, "-n", 2)
    assert "nothing changed" in cli("add", path, "docs", *columns).output
    assert "3 changed" not in cli("add", path, "docs", *columns, "-n", 3).output
    assert hard.query(path, "select chunk, similarities from embeddings_collections") == [(24, 3)]
    cli("add", path, "docs", *columns, "--no-chunk")
    assert hard.query(path, "select chunk, similarities from embeddings_collections") == [(None, 3)]


def test_pages_of_html_are_cut_at_their_headings(tmp_path: Path) -> None:
    """By a template: tags are not embedded, and lists and code stay what they are."""
    path = tmp_path / "web.db"
    html = f"<h1>Garden</h1><script>x()</script><h2>Soil &amp; sun</h2><p>{SOIL}<h2>Water</h2><ul><li>{WATER}<li>can</ul><pre>a\n  b</pre>"
    hard.change(
        path, "create table docs (id text primary key, body text)", ("insert into docs values ('g', ?)", [html])
    )
    build(path, columns=None, template="{{ body|html_to_markdown }}", chunk=60, store=True)
    found = chunks_of(path)
    assert {chunk["heading"] for chunk in found} == {"Garden > Soil & sun", "Garden > Water"}
    text = "".join(chunk["content"] for chunk in found)
    assert "<" not in text
    assert "x()" not in text
    assert "\n- can\n\n```\na\n  b\n```" in text


KEYS = {
    "integer": ("create table t (id integer primary key, body text)", [(-7, GARDEN), (12, LEDGER)], ["-7", "12"]),
    "compound": (
        "create table t (l text, n integer, body text, primary key (l, n))",
        [("x,y/", 1, GARDEN), ("#0", 2, LEDGER)],
        ["x~2Cy~2F,1", "~230,2"],
    ),
    "rowid": ("create table t (body text)", [(GARDEN,), (LEDGER,)], ["1", "2"]),
    "blob of text": (
        "create table t (id text primary key, body blob)",
        [("b", GARDEN.encode()), ("b#0", LEDGER.encode())],
        ["b", "b#0"],
    ),
    "empty": ("create table t (id text primary key, body text)", [("", GARDEN), ("#", LEDGER)], ["", "#"]),
}


@pytest.mark.parametrize(("kind", "template"), [*((kind, None) for kind in KEYS), ("compound", "{{ body }}")])
def test_keys_of_every_kind(tmp_path: Path, kind: str, template: str | None) -> None:
    """Rows are found by what a deep chunk says, whatever their keys, also among few ids; each is related to the other."""
    ddl, data, ids = KEYS[kind]
    path = tmp_path / "t.db"
    marks = ", ".join("?" * len(data[0]))
    hard.change(path, ddl, *((f"insert into t values ({marks})", row) for row in data))
    collection = {"table": "t", "columns": None if template else ["body"], "template": template}
    build(path, **collection)
    check_places(path, dict(zip(ids, (GARDEN, LEDGER), strict=True)), stored=False)
    for place, text in enumerate(["a dripping faucet", "piano tuner"]):
        (first,) = search(path, text, 1)
        assert first["id"] == ids[place]
        assert first["chunk"].startswith(ids[place] + "#")
        assert search(path, text, 5, json.dumps([ids[1 - place]]))[0]["id"] == ids[1 - place]
        assert [hit["id"] for hit in search(path, text, 5, json.dumps(ids))] == [ids[place], ids[1 - place]]
    assert hard.query(path, "select id, other_id from similarities order by 1") == sorted(
        [tuple(ids), tuple(ids[::-1])]
    )
    found = json.loads(hard.run("search", path, "c", "a dripping faucet", "--json").output)
    assert "faucet" in found[0]["text"]


def test_files_pipes_and_queries(tmp_path: Path, cli: Callable) -> None:
    """`embed --chunk` cuts them too; what is stored is shown of the chunk that was found, and nothing with --no-store."""
    folder = tmp_path / "texts"
    folder.mkdir()
    texts = {"garden.md": "# Garden\n\n" + GARDEN, "ledger.md": LEDGER}
    for name, text in texts.items():
        (folder / name).write_text(text)
    records = json.dumps([{"id": name, "text": text} for name, text in texts.items()]).encode()
    source = make_docs(tmp_path / "source.db", [(name, "x", text, "y") for name, text in texts.items()])
    ways = {
        "files": (["--files", folder, "*.md"], None),
        "pipe": (["-"], records),
        "sql": (["--attach", "s", source, "--sql", "select id, body from s.docs"], None),
    }
    for way, (arguments, stdin) in ways.items():
        for store in (True, False):
            path = tmp_path / f"{way}{store}.db"
            options = ["--chunk-tokens", 32, *([] if store else ["--no-store"])]
            cli("embed", path, "c", *arguments, *options, stdin=stdin)
            check_places(path, texts, stored=store)
            said = cli("search", path, "c", "a dripping faucet", "-n", 1).output
            assert "garden.md" in said
            assert ("faucet drips" in said) == store
            assert matches(path, "hedgehogs")[0].startswith("garden.md#")
            assert "Nothing changed" in cli("embed", path, "c", *arguments, *options, stdin=stdin).output
            unsaid = ["--no-store"] if not store else []
            assert (
                "Nothing changed" in cli("embed", path, "c", *arguments, *unsaid, stdin=stdin).output
            )  # chunks as before


def test_what_is_stored_is_put_together_again(tmp_path: Path, cli: Callable) -> None:
    """The text of a row that is in no table is that of its chunks, what they share once, also where one has no vector."""
    path = tmp_path / "docs.db"
    cats = "猫 犬 鳥 魚 " * 200
    texts = {
        "one": " ".join(f"Cat {n} ran off." for n in range(99)),
        "two": GARDEN,
        "gap": f"{SOIL}\n\n{cats}\n\n{BREAD} {PIANO}",
    }
    records = json.dumps([{"id": row, "text": text} for row, text in texts.items()]).encode()
    cli("embed", path, "c", "-", "--chunk-tokens", 64, "--prepend", "鳥 ", stdin=records)
    places = [(c["start"], c["end"]) for c in chunks_of(path) if c["parent_id"] == "one"]
    assert any(start < end for (_, end), (start, _) in pairwise(places)), "no chunks overlap, so this shows nothing"
    with closing(sqlite3.connect(path)) as conn:
        tables = find_tables(conn)
        found = stored_texts(conn, tables, find_collection(conn, "c", tables), list(texts))
    assert found["one"] == texts["one"]
    assert found["two"] == GARDEN
    assert found["gap"].count("猫") < texts["gap"].count("猫") / 2
    assert re.sub("[猫犬鳥魚]", "", found["gap"]).split() == f"{SOIL} {BREAD} {PIANO}".split()


def test_add_prints_a_configuration_that_finds_the_same(tmp_path: Path, cli: Callable) -> None:
    """What `add --chunk` made is what `build` finds unchanged, by the file's own record and by the configuration printed."""
    path = make_docs(tmp_path / "docs.db")
    for options, printed in ((["--chunk"], True), (["--chunk-tokens", 24], 24)):
        said = cli("add", path, "docs", "--column", "title", "--column", "body", *options).output
        assert "Nothing changed" in cli("build", path).output
        block = yaml.safe_load(said[said.index("plugins:") : said.index("Now:")])
        assert block["plugins"]["datasette-embeddings"]["collections"]["docs"]["chunk"] == printed
        (tmp_path / "metadata.yml").write_text(yaml.safe_dump(block))
        assert f"{len(DOCS)} rows: {len(DOCS)} embedded" in cli("build", path).output
        assert "Nothing changed" in cli("build", path).output
        (tmp_path / "metadata.yml").unlink()
        cli("delete", path, "docs")


# Searches


def test_rows_are_found_by_their_best_chunk(docs: Path) -> None:
    """Every row once, with the score of its best chunk, for many queries, numbers and lists of ids; ties by id."""
    everything = [row[0] for row in DOCS]
    for text in ("a dripping faucet", "hedgehogs in winter", "tax refund", "piano", "soil"):
        expected = by_hand(docs, text)
        found = search(docs, text, 50)
        assert same(found, expected)
        assert search(docs, text, 3) == found[:3]
        assert search(docs, text, 0) == []
        for ids in (["a"], ["a#0", "a"], ["garden", "naïve/😀,~%", "no such row"], ["garden#0"], [7, "a5"], []):
            wanted = [str(item) for item in ids]
            among = search(docs, text, 50, json.dumps(ids))
            assert among == [hit for hit in found if hit["id"] in wanted]
            many = wanted + [f"nothing {n}" for n in range(300)]  # so many that they are looked up in the matrix
            assert search(docs, text, 50, json.dumps(many)) == among
    assert {hit["id"] for hit in found} == set(everything)


def test_hybrid_raises_the_chunk_that_has_the_words(docs: Path) -> None:
    """Words in one chunk of a row count for that chunk, which is the one that is shown."""
    (first, *_) = search(docs, "auditor invoices", 5, function="embed_hybrid")
    text = {chunk["id"]: (chunk["start"], chunk["end"]) for chunk in chunks_of(docs)}
    body = {row[0]: f"{row[1]}\n\n{row[2]}" for row in DOCS}[first["id"]]
    assert "auditor" in body[slice(*text[first["chunk"]])]
    assert first["score"] > search(docs, "auditor invoices", 1)[0]["score"]
    among = search(docs, "auditor invoices", 5, '["garden", "ledger"]', function="embed_hybrid")
    assert [hit["id"] for hit in among] == ["ledger", "garden"]
    assert set(matches(docs, "hedgehogs")) == {
        chunk["id"]
        for chunk in chunks_of(docs)
        if "Hedgehogs"
        in {row[0]: f"{row[1]}\n\n{row[2]}" for row in DOCS}[chunk["parent_id"]][chunk["start"] : chunk["end"]]
    }


def test_an_index_of_the_source_serves_whole_rows_only(docs: Path) -> None:
    """Chunks have an index of their own beside it, which goes when rows are embedded whole again."""
    own = "select name from sqlite_master where name = 'embeddings_fts_c'"
    hard.change(
        docs,
        "create virtual table docs_fts using fts5(title, body, content='docs')",
        "insert into docs_fts (docs_fts) values ('rebuild')",
    )
    assert "nothing changed" in build(docs)
    assert all("#" in item for item in matches(docs, "hedgehogs"))
    build(docs, chunk=None)
    assert hard.query(docs, own) == []
    assert "garden" in matches(docs, "hedgehogs")
    build(docs)
    assert hard.query(docs, own) == [("embeddings_fts_c",)]
    assert any(item.startswith("garden#") for item in matches(docs, "hedgehogs"))


def test_k_rows_though_one_has_hundreds_of_good_chunks(tmp_path: Path) -> None:
    """A long row that is all about the query does not push the others out of the results."""
    long = "\n\n".join(f"Storm number {n} floods the coast and the wind is strong all day." for n in range(400))
    others = [
        (f"o{n}", "other", f"The storm of year {n} was mild and the piano was out of tune.", "x") for n in range(9)
    ]
    path = make_docs(tmp_path / "docs.db", [("long", "storms", long, "x"), *others])
    build(path, similarities=0, chunk=16)
    assert len(chunks_of(path)) > 200
    for k in (1, 2, 5, 10):
        found = search(path, "storm floods the coast, strong wind", k)
        assert len({hit["id"] for hit in found}) == k
        assert found[0]["id"] == "long"
    assert same(found, by_hand(path, "storm floods the coast, strong wind"))
    assert len(search(path, "storm", 10, function="embed_hybrid")) == 10


def test_equal_rows_are_in_the_order_of_their_ids(tmp_path: Path) -> None:
    """Rows that say the same have the same score; the smaller id is first, and the first of equal chunks is shown."""
    twice = "\n\n".join([SOIL, TAXES] * 2)
    path = make_docs(tmp_path / "docs.db", [(key, "", twice, "x") for key in ("b", "a", "c", "a#0")])
    build(path)
    found = search(path, "clay and sand", 4)
    assert [hit["id"] for hit in found] == ["a", "a#0", "b", "c"]
    assert len({hit["score"] for hit in found}) == 1
    assert len({hit["chunk"].removeprefix(hit["id"]) for hit in found}) == 1
    assert search(path, "clay and sand", 2) == found[:2]


# Related rows


def test_similarities_are_those_of_the_means_of_chunks(docs: Path) -> None:
    """Rows, not chunks; scores are those of the normalised means; the nearest three of each."""
    means: dict[str, np.ndarray] = {}
    for chunk in chunks_of(docs):
        vector = np.frombuffer(chunk["embedding"], "<f4").astype(float)
        means[chunk["parent_id"]] = means.get(chunk["parent_id"], 0.0) + vector / np.linalg.norm(vector)
    means = {row: mean / np.linalg.norm(mean) for row, mean in means.items()}
    stored = hard.query(docs, "select id, other_id, score from similarities")
    assert {row[0] for row in stored} == means.keys()
    for row, mean in means.items():
        scores = {other: float(mean @ vector) for other, vector in means.items() if other != row}
        nearest = sorted(scores, key=lambda other: (-round(scores[other], 6), other))[:3]
        assert {other for item, other, _ in stored if item == row} == set(nearest)
        for _, other, score in (entry for entry in stored if entry[0] == row):
            assert score == pytest.approx(scores[other], abs=2e-6)


async def related(path: Path, row: str) -> list[tuple[str, float]]:
    """Return what the canned query gives."""
    found = await rows(make_site(path.parent), "/docs/related_c.json?id=" + row)
    return [(entry["id"], entry["score"]) for entry in found]


@pytest.mark.asyncio
async def test_related_rows_by_query_command_and_page(docs: Path, cli: Callable) -> None:
    """All say the same rows, as stored; where more are wanted than are stored, as many as there are."""
    stored = hard.query(docs, "select other_id, score from similarities where id = 'a' order by score desc, other_id")
    assert await related(docs, "a") == stored
    for number, wanted in ((2, stored[:2]), (3, stored), (9, stored)):
        found = json.loads(cli("similar", docs, "c", "a", "-n", number, "--json").output)
        assert [(entry["id"], entry["score"]) for entry in found] == wanted
    site = make_site(docs.parent)
    page = (await site.client.get("/-/embeddings/docs/c/item/a.json?k=9")).json()
    assert [(entry["id"], entry["score"]) for entry in page["related"]] == stored
    assert all("chunk" not in entry for entry in page["related"])
    assert "no item" in cli("similar", docs, "c", "a#0#0", code=1).output


@pytest.mark.asyncio
async def test_related_rows_where_none_are_stored(docs: Path, cli: Callable) -> None:
    """They are computed: the row's mean with the best chunk of each other, the same by query, command and page."""
    build(docs, similarities=0)
    assert hard.query(docs, "select count(*) from similarities") == [(0,)]
    found = await related(docs, "a")
    assert len(found) == len(DOCS) - 1
    said = json.loads(cli("similar", docs, "c", "a", "-n", 9, "--json").output)
    assert [(entry["id"], entry["score"]) for entry in said] == found
    page = (await make_site(docs.parent).client.get("/-/embeddings/docs/c/item/a.json")).json()
    assert [(entry["id"], entry["score"]) for entry in page["related"]] == found
    assert found[0][0] in {"garden", "7"}


@pytest.mark.asyncio
async def test_duplicates_are_rows(docs: Path) -> None:
    """`duplicates_c` shows rows that say the same, once."""
    hard.change(docs, ("insert into docs values ('copy', 'The garden book', ?, 'home')", [GARDEN]))
    build(docs)
    found = await rows(make_site(docs.parent), "/docs/duplicates_c.json")
    assert [(entry["id"], entry["other_id"], entry["score"]) for entry in found] == [("copy", "garden", 1.0)]


# Pages


@pytest.fixture(scope="module")
def site(docs_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A site of the documents that tests ask which change nothing."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(docs_once, folder / "docs.db")
    return make_site(folder)


HERE = "/-/embeddings/docs/c"


@pytest.mark.asyncio
async def test_the_excerpt_is_of_the_chunk(site: Any, docs_once: Path) -> None:
    """The page and its JSON show the chunk that was found and the heading it stands under, not the beginning of the row."""
    body = await data(site, f"{HERE}/search.json?q=dripping+faucet&k=3")
    best = body["results"][0]
    (chunk,) = [chunk for chunk in chunks_of(docs_once) if chunk["id"] == best["chunk"]]
    assert (best["id"], best["title"], best["heading"]) == ("garden", "The garden book", chunk["heading"])
    assert "faucet drips" in best["excerpt"]
    assert "Good soil" not in best["excerpt"]
    assert best["row"]["body"] == GARDEN
    shown = await page(site, f"{HERE}/search?q=dripping+faucet")
    assert "faucet drips" in shown.text
    assert "Water" in shown.text
    for path in ("search?q=dripping+faucet&k=3", "search?q=dripping+faucet&topic=work", "item/garden", "item/a~230"):
        await check_sql(site, path)


async def check_sql(site: Any, path: str) -> None:
    """Check that the SQL behind a page gives what the page gives."""
    bare, _, query = path.partition("?")
    body = await data(site, f"{HERE}/{bare}.json?{query}")
    wanted = body.get("results", body.get("related"))
    found = await sql_rows(site, (await page(site, f"{HERE}/{path}")).link("View and edit SQL"))
    columns = ["id", "score", *(["chunk", "heading"] if "results" in body else [])]
    assert wanted
    assert [[row[name] for name in columns] for row in found] == [[hit[name] for name in columns] for hit in wanted]


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["search_c", "hybrid_c"])
async def test_queries_tell_chunk_and_heading(site: Any, docs_once: Path, name: str) -> None:
    """Canned queries give each row once, with its best chunk, that chunk's heading and the row's own columns, by index."""
    found = await rows(site, f"/docs/{name}.json?q=dripping+faucet")
    assert list(found[0]) == ["id", "score", "chunk", "heading", "title", "body", "topic"]
    function = {"search_c": "embed_search", "hybrid_c": "embed_hybrid"}[name]
    hits = search(docs_once, "dripping faucet", 10, function=function)
    assert [{key: row[key] for key in ("id", "score", "chunk")} for row in found] == hits
    headings = {chunk["id"]: chunk["heading"] for chunk in chunks_of(docs_once)}
    assert [row["heading"] for row in found] == [headings[row["chunk"]] for row in found]
    with closing(sqlite3.connect(docs_once)) as conn:
        register(conn)
        for query in queries.queries_of(conn):
            plan = [row[3] for row in conn.execute("explain query plan " + query.sql, {"q": "x", "id": "x"})]
            assert not [step for step in plan if step.startswith("SCAN") and "VIRTUAL TABLE" not in step], (query, plan)


@pytest.mark.asyncio
async def test_filters_are_of_rows(site: Any, docs_once: Path) -> None:
    """Filters leave rows, of which the k best are shown; `?_meaning=` leaves the rows of the source that are not weak."""
    art = await data(site, f"{HERE}/search.json?q=piano+tuner&topic=art&k=2")
    assert [hit["id"] for hit in art["results"]] == [
        hit["id"] for hit in search(docs_once, "piano tuner", 2, '["a$", "a5", "7"]', function="embed_hybrid")
    ]
    assert {hit["id"] for hit in art["results"]} == {"a$", "7"}
    found = await rows(site, "/docs/docs.json?_meaning=piano+tuner&_size=100")
    everything = await data(site, f"{HERE}/search.json?q=piano+tuner&k=100")
    assert {row["id"] for row in found} == {hit["id"] for hit in everything["results"] if not hit["weak"]}
    assert {"a$", "7", "ledger"} <= {row["id"] for row in found}


@pytest.mark.asyncio
async def test_a_row_edited_after_the_build(docs: Path) -> None:
    """Its chunk is not cut out of the new text: the row is shown; its panel and page say that it was edited, others do not."""
    hard.change(docs, "update docs set body = 'now about chess' where id = 'garden'")
    site = make_site(docs.parent)
    best = (await data(site, f"{HERE}/search.json?q=dripping+faucet"))["results"][0]
    assert (best["id"], best["excerpt"]) == ("garden", "now about chess")
    assert (await data(site, f"{HERE}/item/garden.json"))["state"] == "edited"
    assert (await data(site, f"{HERE}/item/ledger.json"))["state"] == "current"
    assert "This row was edited since the last build" in (await site.client.get("/docs/docs/garden")).text
    assert "edited since" not in (await site.client.get("/docs/docs/ledger")).text
    build(docs)
    site = make_site(docs.parent)
    assert "edited since" not in (await site.client.get("/docs/docs/garden")).text
    assert (await data(site, f"{HERE}/item/garden.json"))["state"] == "current"


@pytest.mark.asyncio
async def test_while_a_build_is_under_way(docs: Path) -> None:
    """Vectors and texts of chunks come before their places: until these are written nothing is cut by those of before."""
    build(docs, store=True)
    places = {chunk["id"]: chunk for chunk in chunks_of(docs)}
    hard.change(
        docs,
        "update embeddings set content = 'new dripping faucet, and more words than there were', content_hash = x'00' "
        "where id like 'garden#%' and content like '%faucet drips%'",
    )
    best = (await data(make_site(docs.parent), f"{HERE}/search.json?q=dripping+faucet"))["results"][0]
    (text,) = hard.query(docs, "select title || char(10, 10) || body from docs where id = 'garden'")[0]
    chunk = places[best["chunk"]]
    assert best["excerpt"] == " ".join(text[chunk["start"] : chunk["end"]].split())


@pytest.mark.asyncio
async def test_a_row_that_is_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond the limit of one text is in no chunk, and the build says so; the row is current all the same."""
    from datasette_embeddings.sources import row

    monkeypatch.setattr(row, "MAX_TEXT_CHARACTERS", 400)
    path = make_docs(tmp_path / "docs.db")
    assert "texts were cut at the limit" in build(path)
    assert max(chunk["end"] for chunk in chunks_of(path)) == 400
    site = make_site(tmp_path)
    assert (await data(site, f"{HERE}/item/garden.json"))["state"] == "current"
    best = (await data(site, f"{HERE}/search.json?q=good+soil+is+dark"))["results"][0]
    assert "crumbles" in best["excerpt"]


@pytest.mark.asyncio
async def test_row_pages_show_related_rows(site: Any, docs_once: Path) -> None:
    """The panel names rows, by their titles; items are rows, and a chunk is none."""
    sql = "select title from similarities join docs on docs.id = other_id where similarities.id = 'a'"
    text = (await site.client.get("/docs/docs/a")).text
    for (title,) in hard.query(docs_once, sql):
        assert title in text
    for row in DOCS:
        assert (await data(site, f"{HERE}/item/{tilde_encode(row[0])}.json"))["related"]
    assert (await site.client.get(f"{HERE}/item/{tilde_encode('garden#0')}.json")).status_code == 404


@pytest.mark.asyncio
async def test_headings_are_as_private_as_their_rows(docs: Path) -> None:
    """Who may not see the source sees neither its chunks nor the queries that tell of them."""
    site = make_site(docs.parent, databases={"docs": {"tables": {"docs": {"allow": False}}}})
    for path in (
        "/docs/chunks",
        "/docs/chunks.json",
        "/docs/search_c.json?q=soil",
        f"{HERE}/search.json",
    ):
        assert (await site.client.get(path)).status_code == 403, path
    assert (await make_site(docs.parent).client.get("/docs/chunks.json")).status_code == 200


@pytest.mark.asyncio
async def test_pages_of_what_is_in_no_table(tmp_path: Path, cli: Callable) -> None:
    """A pipe's rows are shown by the chunk that was found, related ones by their first that has a vector; by queries too."""
    path = tmp_path / "docs.db"
    records = [{"id": row[0], "text": row[2]} for row in DOCS]
    records[0]["text"] = "猫 犬 鳥 魚 " * 60 + "\n\n" + GARDEN  # no vector for the first chunk
    said = cli("embed", path, "c", "-", "--chunk-tokens", 32, stdin=json.dumps(records).encode()).output
    assert "others of their rows are embedded" in said
    assert f"{len(DOCS)} rows: {len(DOCS)} embedded" in said
    site = make_site(tmp_path)
    best = (await data(site, f"{HERE}/search.json?q=dripping+faucet"))["results"][0]
    assert (best["id"], best["row"]) == ("garden", {})
    assert "faucet drips" in best["excerpt"]
    found = await rows(site, "/docs/search_c.json?q=dripping+faucet")
    assert list(found[0]) == ["id", "score", "chunk", "heading", "content", "metadata"]
    assert "faucet drips" in found[0]["content"]
    stored = hard.query(path, "select other_id from similarities where id = 'a' order by score desc, other_id")
    found = await rows(site, "/docs/related_c.json?id=a")
    assert [(row["id"],) for row in found] == stored
    assert ("garden",) in stored
    texts = {row["id"]: row["content"] for row in found}
    assert "Soil" in texts["garden"]
    said = json.loads(cli("similar", path, "c", "a", "--json").output)
    assert all(entry["text"] for entry in said)
    item = await data(site, f"{HERE}/item/garden.json")
    assert (item["state"], len(item["related"])) == ("current", len(DOCS) - 1)
    assert "Hedgehogs" in {row["id"]: row["excerpt"] for row in item["related"]}["naïve/😀,~%"]
    await check_sql(site, "search?q=dripping+faucet")
    await check_sql(site, "item/a")


# Edits


def chunk_texts(path: Path) -> dict[str, str]:
    """Return what each chunk of the table docs says, by the file's own places."""
    bodies = {row: f"{title}\n\n{body}" for row, title, body in hard.query(path, "select id, title, body from docs")}
    return {c["id"]: bodies[c["parent_id"]][c["start"] : c["end"]] for c in chunks_of(path)}


def vectors(path: Path) -> dict[str, bytes]:
    return {chunk["id"]: chunk["embedding"] for chunk in chunks_of(path)}


def check_from_scratch(path: Path, paid: Callable, **collection: object) -> None:
    """Check that a new file of the same rows has the same tables after one build."""
    scratch = path.with_name("scratch.db")
    make_docs(scratch, hard.query(path, "select * from docs"))
    paid(scratch, **collection)
    assert hard.tables_of(path, "c") == hard.tables_of(scratch, "c")
    for word in ("faucet", "hedgehogs", "chess", "piano"):
        assert sorted(matches(path, word)) == sorted(matches(scratch, word)), word
    scratch.unlink()


def test_only_chunks_that_changed_are_paid_for(tmp_path: Path, paid: Callable) -> None:
    """A word in one section costs the chunks that hold it; text before all others moves their places and costs itself."""
    path = make_docs(tmp_path / "docs.db")
    _, texts = paid(path)
    assert len(texts) == len(set(texts)) == len({chunk["content_hash"] for chunk in chunks_of(path)})
    hard.change(path, "update docs set body = replace(body, 'Hedgehogs', 'Badgers') where id = 'garden'")
    said, texts = paid(path)
    assert "0 new, 1 changed, 0 removed" in said
    assert "reused" not in said  # what did not change is not written again
    assert 1 <= len(texts) <= 2
    assert all("Badgers" in text for text in texts)
    check_from_scratch(path, paid)
    before, places = vectors(path), {c["id"]: c["start"] for c in chunks_of(path)}
    hard.change(
        path,
        "update docs set body = '## Chess\n\n' || ? || '\n\n' || body where id = 'garden'".replace("?", f"'{TAXES}'"),
    )
    said, texts = paid(path)
    assert "0 new, 1 changed, 0 removed" in said
    assert all("Badgers" not in text and "faucet" not in text for text in texts)
    after = vectors(path)
    garden = [chunk for chunk in chunks_of(path) if chunk["parent_id"] == "garden"]
    moved = [chunk for chunk in garden if chunk["start"] != places.get(chunk["id"])]
    assert sum(chunk["embedding"] in before.values() for chunk in moved) > 3
    assert {item for item in before if after[item] == before[item]} >= {
        i for i in before if not i.startswith("garden#")
    }
    check_from_scratch(path, paid)
    assert "nothing changed" in paid(path)[0]


EDITS = {
    "shrinks": ("update docs set body = substr(body, 1, 300) where id = 'garden'", "0 new, 1 changed, 0 removed"),
    "a section goes": (
        "update docs set body = substr(body, 1, instr(body, '## Winter') - 1) where id = 'garden'",
        "0 new, 1 changed, 0 removed",
    ),
    "deleted": ("delete from docs where id = 'garden'", "0 new, 0 changed, 1 removed"),
    "emptied": ("update docs set title = '', body = ' ' where id = 'garden'", "0 new, 0 changed, 1 removed"),
    "renamed": ("update docs set id = 'garden#1' where id = 'garden'", "1 new, 0 changed, 1 removed"),
    "a copy": ("insert into docs select 'a#0#2', title, body, topic from docs where id = 'garden'", "1 new, 0 changed"),
    "swapped": (
        "update docs set id = 'a ' where id = 'ledger'; update docs set id = 'ledger' where id = 'a'; "
        "update docs set id = 'a' where id = 'a '",
        "0 new, 2 changed, 0 removed",
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edits_that_need_no_new_vector_or_few(tmp_path: Path, paid: Callable, edit: str) -> None:
    """Chunks go and come with their rows, similarities and words follow, as in a file that is built from scratch."""
    path = make_docs(tmp_path / "docs.db")
    paid(path)
    statements, expected = EDITS[edit]
    hard.change(path, *statements.split("; "))
    said, texts = paid(path)
    assert expected in said
    assert len(texts) == (1 if edit == "shrinks" else 0)
    check_from_scratch(path, paid)
    assert "nothing changed" in paid(path)[0]


def test_rows_that_come_bit_by_bit(tmp_path: Path, cli: Callable) -> None:
    """A pipe with some of the rows changes those alone, whose chunks that are no more go; the others stay, unless told."""
    path, scratch = tmp_path / "docs.db", tmp_path / "scratch.db"
    texts = {row[0]: row[2] for row in DOCS}

    def embed(on: Path, given: dict[str, str], *more: str) -> str:
        records = json.dumps([{"id": key, "text": text} for key, text in given.items()]).encode()
        return cli("embed", on, "c", "-", "--chunk-tokens", 32, "-n", 3, *more, stdin=records).output

    embed(path, texts)
    changed = {"garden": SOIL, "a#1": WATER, "a#0": " "}
    said = embed(path, changed)
    assert f"{len(DOCS) + 1} rows: {len(DOCS)} embedded, 1 skipped" in said
    assert "1 new, 1 changed, 1 removed" in said
    embed(scratch, texts | changed)
    assert everything_of(path) == everything_of(scratch)
    check_places(path, {row: text for row, text in (texts | changed).items() if text.strip()}, stored=True)
    said = embed(path, changed, "--delete-missing")
    assert "3 rows: 2 embedded, 1 skipped" in said
    assert f"{len(DOCS) - 2} removed" in said
    assert {chunk["parent_id"] for chunk in chunks_of(path)} == {"garden", "a#1"}


def test_rows_without_content_or_known_words(docs: Path) -> None:
    """They are accounted for, and not asked about again; also with a prefix, which is no content by itself."""
    hard.change(
        docs,
        "insert into docs values ('blank', '', ' \n', 'x')",
        "insert into docs values ('null', null, null, 'x')",
        ("insert into docs values ('cats', '', ?, 'x')", ["猫 犬 " * 200]),
    )
    for more in ({}, {"prefix": "猫 "}):
        said = build(docs, **more)
        assert f"{len(DOCS) + 3} rows: {len(DOCS)} embedded, 3 skipped, 0 failed" in said
        issues = hard.query(docs, "select id, status, reason from embeddings_issues order by id")
        assert issues == [
            ("blank", "skipped", "empty"),
            ("cats", "skipped", "the model knows no word of it"),
            ("null", "skipped", "empty"),
        ]
        assert len({chunk["parent_id"] for chunk in chunks_of(docs)}) == len(DOCS)
        assert "nothing changed" in build(docs, **more)


def test_chunks_that_the_model_refuses(tmp_path: Path, server: OpenAIServer, paid: Callable) -> None:
    """One of a row: the others stay, the build says so, the row counts as embedded; all of a row: it has failed. Asked once."""
    path = make_docs(tmp_path / "docs.db")
    server.refuse = lambda text: "faucet" in text or "chess" in text
    said, _ = paid(path)
    assert f"{len(DOCS)} rows: {len(DOCS) - 1} embedded, 0 skipped, 1 failed" in said
    assert "chunks, others of their rows are embedded" in said
    assert "0 removed" in said
    assert [row[:2] for row in hard.query(path, "select id, status from embeddings_issues")] == [("a5", "failed")]
    assert not [text for text in chunk_texts(path).values() if "faucet" in text]
    positions = [c["position"] for c in chunks_of(path) if c["parent_id"] == "garden"]
    assert positions != list(range(len(positions)))
    calls = server.calls
    assert "nothing changed" in paid(path)[0]
    hard.change(path, "update docs set body = body || ' More.' where id = 'ledger'")
    paid(path)
    assert not [
        text for request in server.requests[calls:] for text in request.texts if "faucet" in text or "chess" in text
    ]
    check_from_scratch(path, paid)
    asked = server.calls
    hard.change(path, "update docs set body = replace(body, 'crumbles', 'falls') where id = 'garden'")
    paid(path)  # of an edited row all chunks are asked that have no vector
    assert [text for request in server.requests[asked:] for text in request.texts if "faucet" in text]
    hard.change(path, "update docs set body = 'chess and more chess' where id = 'a'")
    assert "1 changed, 1 removed" in paid(path)[0]
    assert "a" not in {chunk["parent_id"] for chunk in chunks_of(path)}
    server.refuse = lambda text: False
    hard.change(path, "update docs set body = body || ' ' where id in ('garden', 'a5', 'a#0', 'a')")
    said, _ = paid(path)
    assert f"{len(DOCS)} rows: {len(DOCS)} embedded, 0 skipped, 0 failed" in said
    check_from_scratch(path, paid)


@pytest.mark.parametrize("back", [False, True], ids=["stays", "taken back"])
def test_rows_that_change_while_the_model_runs(
    tmp_path: Path, server: OpenAIServer, paid: Callable, *, back: bool
) -> None:
    """Text that comes before all others meanwhile moves what is indexed; the next build puts it right, whatever is then."""
    path = make_docs(tmp_path / "docs.db")
    before = "'First of all, this is about hedgehogs.' || char(10, 10)"
    edit = f"update docs set body = {before} || body where id = 'garden'"
    server.script(answer_and(server, lambda: hard.change(path, edit)))
    paid(path)
    if back:
        hard.change(path, f"update docs set body = substr(body, length({before}) + 1) where id = 'garden'")
    paid(path)
    check_from_scratch(path, paid)
    assert "nothing changed" in paid(path)[0]


def test_a_build_of_chunks_that_is_killed(tmp_path: Path, server: OpenAIServer) -> None:
    """SIGKILL in the middle of edits: what was there is served, what was bought is kept, and the next build is whole."""
    path = make_docs(tmp_path / "docs.db")
    config = hard.write_config(tmp_path / "small.json", server, {"c": COLLECTION}, batch_items=3)
    hard.run("build", path, "-c", config)
    before = {row: [c["id"] for c in chunks_of(path) if c["parent_id"] == row] for row in ("garden", "ledger")}
    hard.change(
        path,
        ("update docs set body = ? where id = 'garden'", [guide(("Bread", BREAD), ("Taxes", TAXES))]),
        "update docs set body = body || body where id = 'ledger'",
        "delete from docs where id = 'a'",
    )
    bought = len(server.texts)
    child: list[Any] = []
    server.script(None, answer_and(server, lambda: os.kill(child[0].pid, signal.SIGKILL)))
    child.append(start(path, config))
    child[0].communicate(timeout=60)
    assert child[0].returncode == -signal.SIGKILL
    assert hard.query(path, "pragma integrity_check") == [("ok",)]
    held = {row[0] for row in hard.query(path, "select id from embeddings")}
    assert held.issuperset([*before["garden"], *before["ledger"], "a#0"])
    hard.run("build", path, "-c", config)
    texts = [text for text in server.texts[bought:] if text != "hello"]
    assert len(texts) - len(set(texts)) <= 3
    check_places(
        path, {r: f"{t}\n\n{b}" for r, t, b in hard.query(path, "select id, title, body from docs")}, stored=False
    )
    assert "othing changed" in hard.run("build", path, "-c", config).output
    scratch = make_docs(tmp_path / "scratch.db", hard.query(path, "select * from docs"))
    hard.run("build", scratch, "-c", config)
    assert everything_of(path) == everything_of(scratch)


# Changes of mind


def everything_of(path: Path) -> dict[str, Any]:
    """Return what is there of all collections, to be compared with a file that never had another."""
    chunks = hard.query(path, "select id, parent_id, position, start, [end], heading from chunks order by 1")
    return {"tables": hard.tables_of(path, "c"), "chunks": chunks, "words": sorted(matches(path, "faucet"))}


def test_on_off_and_other_sizes(tmp_path: Path, server: OpenAIServer, paid: Callable) -> None:
    """Each change is built beside what serves and takes its place; nothing of the old is left."""
    path = make_docs(tmp_path / "docs.db")
    seen = []
    for chunk in (None, 32, 24, True, False, 32):
        server.always(answer_and(server, lambda: seen.append(len(hard.query(path, "select * from collections")))))
        said, _ = paid(path, chunk=chunk)
        server.always(None)
        assert f"{len(DOCS)} rows: {len(DOCS)} embedded" in said
        assert "0 removed" in said
        fresh = make_docs(tmp_path / "fresh.db")
        paid(fresh, chunk=chunk)
        assert everything_of(path) == everything_of(fresh)
        assert hard.query(path, "select count(*) from embeddings") == hard.query(
            fresh, "select count(*) from embeddings"
        )
        assert [row[0] for row in hard.query(path, "select name from collections")] == ["c"]
        fresh.unlink()
    assert max(seen) == 2
    assert (chunk, chunks_of(path) != []) == (32, True)


def test_a_change_serves_the_old_until_it_is_whole(tmp_path: Path, server: OpenAIServer, paid: Callable) -> None:
    """While rows are cut anew, searches find the old chunks; a build that ends early goes on, and pays for none twice."""
    path = make_docs(tmp_path / "docs.db")
    paid(path, chunk=32)
    before = chunks_of(path)

    def look() -> None:
        (cid,) = hard.query(path, "select id from collections where name = 'c'")[0]
        held = hard.query(path, "select id from embeddings where collection_id = ? order by 1", [cid])
        assert [row[0] for row in held] == sorted(chunk["id"] for chunk in before)

    config = hard.write_config(tmp_path / "small.json", server, {"c": {**COLLECTION, "chunk": 24}}, batch_items=4)
    server.script(answer_and(server, look), answer_and(server, look), status(500))
    bought = len(server.texts)
    hard.run("build", path, "-c", config, expect=1)
    look()
    hard.run("build", path, "-c", config)
    texts = [text for text in server.texts[bought:] if text != "hello"]
    assert len(texts) == len(set(texts))
    fresh = make_docs(tmp_path / "fresh.db")
    hard.run("build", fresh, "-c", config)
    assert everything_of(path) == everything_of(fresh)


def test_a_collection_of_llm_is_cut_beside_it(tmp_path: Path, cli: Callable) -> None:
    """Rows that llm embedded whole make way for their chunks; what this source does not have is not dropped unasked."""
    path = tmp_path / "docs.db"
    records = [{"id": row[0], "text": row[2]} for row in DOCS]
    cli("embed", path, "c", "-", stdin=json.dumps(records).encode())
    for table in ("embeddings_collections", "embeddings_documents", "similarities", "embeddings_issues"):
        hard.change(path, f"delete from {table}")
    said = cli("embed", path, "c", "-", "--chunk-tokens", 32, stdin=json.dumps(records[1:]).encode(), code=1).output
    assert "1 of its items are not in this source" in said
    said = cli("embed", path, "c", "-", "--chunk-tokens", 32, stdin=json.dumps(records).encode()).output
    assert f"{len(DOCS)} rows: {len(DOCS)} embedded" in said
    check_places(path, {row[0]: row[2] for row in DOCS}, stored=True)
    assert hard.query(path, "select count(*) from similarities") == [(len(DOCS) * (len(DOCS) - 1),)]


@pytest.mark.parametrize("prefix", ["", "emb_"])
def test_delete_leaves_nothing(tmp_path: Path, cli: Callable, prefix: str) -> None:
    """A collection's chunks go with it, and with `--all` the schema is as it was; also under a prefix, with queries."""
    path = make_docs(tmp_path / "docs.db")
    schema = "select type, name, tbl_name, sql from sqlite_master order by 1, 2"
    before = hard.query(path, schema)
    options = ["--table", "docs", "--column", "body", "--chunk-tokens", 32, "--table-prefix", prefix]
    cli("embed", path, "c", *options)
    assert len(chunks_of(path, prefix)) > len(DOCS)
    assert search(path, "dripping faucet", 1)[0]["chunk"].startswith("garden#")
    with closing(sqlite3.connect(path)) as conn:
        register(conn)
        for query in queries.queries_of(conn):
            assert conn.execute(query.sql, {"q": "dripping faucet", "id": "a"}).fetchall() or "duplicates" in query.name
    cli("embed", path, "other", *options)
    cli("delete", path, "c")
    assert len(chunks_of(path, prefix, "other")) > len(DOCS)
    cli("delete", path, "--all")
    assert hard.query(path, schema) == before


def test_chunks_of_a_row_are_found_by_index(docs: Path) -> None:
    """SQLite prefers the order of a table without rowid to an index that begins as it does, and then reads whole collections."""
    sql = 'select id, start, "end", heading from chunks where collection_id = 1 and parent_id = ?'
    with closing(sqlite3.connect(docs)) as conn:
        (plan,) = [row[3] for row in conn.execute("explain query plan " + sql, ["garden"])]
    assert "idx_chunks_parent_id (parent_id=?" in plan


def test_status_counts_rows_and_chunks(docs: Path, cli: Callable) -> None:
    """Rows are accounted for as rows; how many chunks they are in is said beside."""
    number = len(chunks_of(docs))
    assert f"{len(DOCS)} rows = {len(DOCS)} embedded in {number} chunks + 0 skipped" in cli("status", docs).output
    (state,) = json.loads(cli("status", docs, "--json").output)
    assert (state["rows"], state["embedded"], state["chunks"], state["stale"]) == (len(DOCS), len(DOCS), number, False)
    assert json.loads(cli("collections", docs, "--json").output)[0]["items"] == len(DOCS)
    hard.change(docs, "delete from embeddings where id = 'garden#1'")
    assert json.loads(cli("status", docs, "--json").output)[0]["stale"]
    assert "1 changed" in build(docs)
    assert len(chunks_of(docs)) == number


# Files of others, and of before


@pytest.mark.parametrize("name", ["chunks", "Chunks"])
def test_a_table_of_the_site_that_is_called_chunks(tmp_path: Path, cli: Callable, name: str) -> None:
    """A new file says how both are kept; queries work where the source itself has that name, in whatever case."""
    path = tmp_path / "docs.db"
    hard.change(path, SCHEMA.replace("docs", name), *(("insert into chunks values (?, ?, ?, ?)", row) for row in DOCS))
    said = build(path, expect=1, table="chunks")
    assert f"already has a table {name!r}" in said
    assert "--table-prefix emb_" in said
    cli("embed", path, "c", "--table", "chunks", "--column", "body", "--chunk-tokens", 32, "--table-prefix", "emb_")
    with closing(sqlite3.connect(path)) as conn:
        register(conn)
        found = {
            query.name: conn.execute(query.sql, {"q": "dripping faucet", "id": "a"}).fetchall()
            for query in queries.queries_of(conn)
        }
    assert found["search_c"][0][0] == found["hybrid_c"][0][0] == "garden"
    assert len(found["related_c"]) == len(DOCS) - 1


def of_before(path: Path) -> None:
    """Make a file what it would be, had it been built before rows could be in chunks."""
    hard.change(
        path,
        "drop table chunks",
        "alter table embeddings_collections drop column chunk",
        "delete from _sqlite_migrations where name = 'm003_chunks'",
    )


@pytest.mark.asyncio
async def test_files_of_before(tmp_path: Path, cli: Callable) -> None:
    """An older file is searched and served as it is; the next build brings it up to date, unless `chunks` is taken."""
    path = make_docs(tmp_path / "docs.db")
    build(path, chunk=None)
    schema = "select name from sqlite_master order by 1"
    new, expected = hard.query(path, schema), search(path, "dripping faucet", 3, function="embed_hybrid")
    of_before(path)
    path.chmod(0o444)
    assert search(path, "dripping faucet", 3, function="embed_hybrid") == expected
    assert f"{len(DOCS)} rows = {len(DOCS)} embedded + 0" in cli("status", path).output
    site = make_site(tmp_path)
    assert [hit["id"] for hit in (await data(site, f"{HERE}/search.json?q=dripping+faucet&k=3"))["results"]] == [
        hit["id"] for hit in expected
    ]
    assert (await data(site, f"{HERE}/item/garden.json"))["state"] == "current"
    path.chmod(0o644)
    assert "nothing changed" in build(path, chunk=None)
    hard.change(path, "create table chunks (id, text)", "insert into chunks values (1, 'mine')")
    hard.change(path, "update docs set body = 'about chess' where id = 'a'")
    for chunk in (None, 32):
        said = build(path, expect=1, chunk=chunk)
        assert "has a table 'chunks' that is not ours" in said
        assert "alter table chunks rename to my_chunks" in said
    assert hard.query(path, "select * from chunks") == [(1, "mine")]
    hard.change(path, "alter table chunks rename to my_chunks")
    assert "1 changed" in build(path, chunk=None)
    assert hard.query(path, schema) == sorted([*new, ("my_chunks",)])
    build(path)
    check_places(
        path, {r: f"{t}\n\n{b}" for r, t, b in hard.query(path, "select id, title, body from docs")}, stored=False
    )


def test_llm_finds_chunks(docs: Path, llm: Callable) -> None:  # noqa: F811
    """`llm similar` works on our file, as for any collection: its items are chunks."""
    found = [json.loads(line) for line in llm("similar", "c", "-d", docs, "-c", "dripping faucet").splitlines()]
    assert search(docs, "dripping faucet", 1)[0]["chunk"] == found[0]["id"]


def add_as_llm(path: Path, item: str, text: str) -> None:
    """Add an item to `c` as `llm embed` does."""
    with closing(sqlite3.connect(path)) as conn, conn:
        register(conn)
        conn.execute(
            "insert into embeddings (collection_id, id, embedding, content, content_hash, updated) "
            "values (1, ?1, embed_text('static', ?2), ?2, ?3, strftime('%s', 'now'))",
            [item, text, md5(text)],
        )


@pytest.mark.parametrize("kind", ["table", "pipe"])
def test_items_that_llm_adds(tmp_path: Path, cli: Callable, kind: str) -> None:
    """Each is a row of its own until a build, which removes it where the source is a table; a pipe's stay and are settled."""
    path = make_docs(tmp_path / "docs.db")
    records = json.dumps([{"id": row[0], "text": row[2]} for row in DOCS]).encode()

    def again() -> str:
        return (
            build(path) if kind == "table" else cli("embed", path, "c", "-", "--chunk-tokens", 32, stdin=records).output
        )

    again()
    for item in ("stray", "stray#x"):
        add_as_llm(path, item, "dripping faucet")
        assert search(path, "dripping faucet", 1)[0] == {"id": item, "score": 1.0, "chunk": item}
        assert json.loads(cli("status", path, "--json").output)[0]["stale"]
        cli("similarities", path, "c", "-n", 3 if kind == "table" else 10)
        assert hard.query(path, "select 1 from similarities where id = ?", [item])
        said = again()
        if kind == "pipe":
            assert search(path, "dripping faucet", 1)[0]["id"] == item
        else:
            assert f"{len(DOCS)} embedded" in said
            assert hard.query(path, "select 1 from similarities where id = ?", [item]) == []
        assert "othing changed" in again()
        assert not json.loads(cli("status", path, "--json").output)[0]["stale"]
        hard.change(path, ("delete from embeddings where id = ?", [item]))
        again()
    assert search(path, "dripping faucet", 1)[0]["id"] == "garden"


# What is asked for wrongly


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        (0, "true, or the number of tokens of one chunk, was expected; found 0"),
        (-1, "found -1"),
        ("x", "found 'x'"),
        (1.5, "found 1.5"),
        ([32], "found [32]"),
        (5, "at least 16 tokens and at most the 100000 that static reads; found 5; leave the number out for 256"),
        (100_001, "found 100001; leave the number out for 256"),
    ],
)
def test_bad_sizes(tmp_path: Path, chunk: object, said: str) -> None:
    """One sentence says what was found, what is expected and what to do; nothing is written."""
    path = make_docs(tmp_path / "docs.db")
    before = path.read_bytes()
    assert said in build(path, expect=1, chunk=chunk)
    assert path.read_bytes() == before


def test_options_that_contradict_each_other(docs: Path, cli: Callable) -> None:
    """Usage errors; numbers that are no size are refused."""
    for command in (["add", docs, "docs"], ["embed", docs, "x", "--table", "docs", "--column", "body"]):
        assert "contradict each other" in cli(*command, "--no-chunk", "--chunk-tokens", 32, code=2).output
        for number in ("0", "-3", "x", "5"):
            assert "--chunk-tokens" in cli(*command, "--chunk-tokens", number, code=2).output


def test_only_text_is_cut(tmp_path: Path) -> None:
    """A BLOB that is no text is a failed row, as without chunks; other rows are embedded."""
    path = tmp_path / "docs.db"
    hard.change(
        path, "create table docs (id integer primary key, body)", ("insert into docs values (1, ?)", [b"\xff\xd8\xff"])
    )
    hard.change(path, ("insert into docs values (2, ?)", [GARDEN]))
    assert "2 rows: 1 embedded, 0 skipped, 1 failed" in build(path, columns=["body"])
    assert {chunk["parent_id"] for chunk in chunks_of(path)} == {"2"}
    assert "nothing changed" in build(path, columns=["body"])


# What leaves


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("store", [True, False], ids=["stored", ""])
@pytest.mark.parametrize(
    "edit",
    [
        "delete from docs where id = 'secret'",
        "update docs set title = 'x', body = 'quiet' where id = 'secret'",
        "update docs set body = replace(replace(body, 'Zanzibarcanary', 'Water'), 'zanzibarcanary', 'x') where id = 'secret'",
    ],
    ids=["deleted", "replaced", "a word"],
)
def test_what_left_is_in_no_byte(tmp_path: Path, journal: str, store: bool, edit: str) -> None:
    """After the next build no heading, text, word or vector of a chunk that went is in the file (rule 10)."""
    secret = guide(("Soil", SOIL), ("Zanzibarcanary", WATER), ("Winter", f"The zanzibarcanary sings. {WINTER}"))
    path = make_docs(tmp_path / "docs.db", [*DOCS, ("secret", "The secret", secret, "x")])
    hard.change(path, f"pragma journal_mode = {journal}")
    build(path, "--keep-wal", store=store)
    gone = {c["id"]: c for c in chunks_of(path)}
    held = b"".join(file.read_bytes() for file in tmp_path.glob("docs.db*"))
    assert b"zanzibarcanari" in held  # its stem, in the index
    assert any("Zanzibarcanary" in chunk["heading"] for chunk in gone.values())
    hard.change(path, edit)
    build(path, store=store)
    kept = {chunk["embedding"] for chunk in chunks_of(path)}
    left = [chunk["embedding"] for chunk in gone.values() if chunk["embedding"] not in kept]
    assert left
    for file in tmp_path.glob("docs.db*"):
        held = file.read_bytes()
        assert b"zanzibarcanar" not in held.lower(), file
        assert not [vector for vector in left if vector[64:128] in held], file
