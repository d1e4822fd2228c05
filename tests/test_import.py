"""`import`: files as other tools leave them, taken over without a model, a network or a loss."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import struct
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from openai_server import OpenAIServer, vector

from datasette_embeddings import models
from datasette_embeddings.store import Store

WELL_KNOWN = """select til.title from til join similarities on til.path = similarities.other_id
where similarities.id = :path order by similarities.score desc limit 10"""

SERVED = "openai/text-embedding-ada-002"
"""How a build names the model when a server other than OpenAI's gives it, as the one of these tests does."""

TIL = [
    ("python_lists.md", "Python list comprehensions", "A comprehension builds a list in one line of python."),
    ("python_dicts.md", "Python dict comprehensions", "A comprehension builds a dict in one line of python."),
    ("sqlite_fts.md", "Full text search in sqlite", "The module named fts5 gives sqlite full text search."),
    ("sqlite_json.md", "JSON in sqlite", "Functions of sqlite read and write json."),
    ("bread.md", "Sourdough bread", None),
    ("tea.md", "Green tea", "Water for green tea is not boiling."),
]

# openai-to-sqlite 0.4.2 makes its tables by sqlite-utils: this is what it runs through sqlite-utils 4 ...
OPENAI_DDL = """
CREATE TABLE "embeddings" (
   "id" TEXT PRIMARY KEY,
   "embedding" BLOB
);
CREATE TABLE "similarities" (
   "id" TEXT,
   "other_id" TEXT,
   "score" REAL,
   PRIMARY KEY ("id", "other_id")
);
"""
# ... and through sqlite-utils 3, which most of its files were made by.
OPENAI_DDL_3 = """
CREATE TABLE [embeddings] (
   [id] TEXT PRIMARY KEY,
   [embedding] BLOB
);
CREATE TABLE [similarities] (
   [id] TEXT,
   [other_id] TEXT,
   [score] FLOAT,
   PRIMARY KEY ([id], [other_id])
);
"""

# What datasette-embeddings 0.1a3 makes for a table with one key column, and with two.
SHADOW_DDL = """
CREATE TABLE "_embeddings_news" (
   "id" INTEGER PRIMARY KEY,
   "emb_text_embedding_3_small_512" BLOB
);
CREATE TABLE "_embeddings_pages" (
   "lang" TEXT,
   "slug" TEXT,
   "emb_text_embedding_3_small_512" BLOB,
   PRIMARY KEY ("lang", "slug")
);
"""


def pack(values) -> bytes:
    return struct.pack(f"{len(values)}f", *values)


def text_of(title: str, body: str | None) -> str:
    return f"{title} {body or ''}"


def make_til(path: Path, ddl: str = OPENAI_DDL) -> Path:
    """A site's file after `openai-to-sqlite embeddings` and `openai-to-sqlite similar --all --save`."""
    conn = sqlite3.connect(path)
    conn.execute("create table til (path text primary key, title text, body text)")
    conn.executemany("insert into til values (?, ?, ?)", TIL)
    conn.executescript(ddl)
    vectors = {item: vector(text_of(title, body), 1536) for item, title, body in TIL}
    for item, found in vectors.items():
        conn.execute("insert into embeddings values (?, ?)", [item, pack(found.tolist())])
        for other in vectors.keys() - {item}:
            score = float(vectors[other].astype(float) @ found.astype(float))
            conn.execute("insert into similarities values (?, ?, ?)", [item, other, score])
    conn.commit()
    conn.close()
    return path


@pytest.fixture(params=[OPENAI_DDL, OPENAI_DDL_3], ids=["sqlite-utils 4", "sqlite-utils 3"])
def til_of_either(tmp_path, request):
    return make_til(tmp_path / "til.db", request.param)


@pytest.fixture
def til(tmp_path):
    return make_til(tmp_path / "til.db")


@pytest.fixture(autouse=True)
def no_model(monkeypatch, request):
    """Loading any model is an error, but where a test builds."""
    if not {"server", "openai_key"} & set(request.fixturenames):
        monkeypatch.setattr(models, "_load", lambda name, *_: pytest.fail(f"the model {name} was loaded"))


@pytest.fixture
def openai_key(monkeypatch):
    """A key that OpenAI would refuse: a build that sends anything fails."""
    monkeypatch.setenv("OPENAI_API_KEY", "no-key-at-all")


@pytest.fixture
def server(openai_key):
    with OpenAIServer(dimensions=1536) as running:
        yield running


def configure(folder: Path, server=None, **collections) -> None:
    block: dict = {"collections": collections}
    if server:
        block["models"] = {SERVED: {"base_url": server.url}}
    (folder / "metadata.yml").write_text(yaml.safe_dump({"plugins": {"datasette-embeddings": block}}))


def status(cli, path: Path) -> dict:
    return {entry["name"]: entry for entry in json.loads(cli("status", path, "--json").output)}


def rows(path: Path, sql: str, *parameters) -> list[tuple]:
    conn = sqlite3.connect(path)
    try:
        return conn.execute(sql, *parameters).fetchall()
    finally:
        conn.close()


def tables(path: Path) -> set[str]:
    return {name for (name,) in rows(path, "select name from sqlite_master where type = 'table'")}


def script(path: Path, sql: str) -> None:
    conn = sqlite3.connect(path)
    conn.executescript(sql)
    conn.close()


# openai-to-sqlite


def test_openai_to_sqlite_is_taken_over(cli, til_of_either):
    til = til_of_either
    before = rows(til, WELL_KNOWN, {"path": "python_lists.md"})
    blobs = dict(rows(til, "select id, embedding from embeddings"))
    said = cli("import", til).output
    assert "took over 6 vectors of text-embedding-ada-002, 1,536 dimensions, from openai-to-sqlite" in said
    assert rows(til, WELL_KNOWN, {"path": "python_lists.md"}) == before
    assert before[0] == ("Python dict comprehensions",)
    assert dict(rows(til, "select id, embedding from embeddings")) == blobs
    assert dict(rows(til, "select id, embedding from embeddings_old")) == blobs
    assert rows(til, "select count(*) from similarities_old") == [(30,)]
    entry = status(cli, til)["embeddings"]
    assert (entry["rows"], entry["embedded"], entry["skipped"], entry["failed"]) == (6, 6, 0, 0)
    assert entry["similarities"] == 30
    assert not entry["notes"]
    assert "python_dicts.md" in cli("similar", til, "embeddings", "python_lists.md", "-n", "1").output


def test_well_known_query_goes_by_index(cli, til):
    cli("import", til)
    plan = " ".join(str(row[-1]) for row in rows(til, "explain query plan " + WELL_KNOWN, {"path": "tea.md"}))
    assert "SEARCH similarities USING PRIMARY KEY (id=?)" in plan
    assert "SCAN" not in plan


def test_second_import_has_nothing_to_do(cli, til):
    cli("import", til)
    before = til.read_bytes()
    assert cli("import", til).output == "Nothing to take over.\n"
    assert til.read_bytes() == before


def test_dry_run_changes_nothing(cli, til):
    before = til.read_bytes()
    said = cli("import", til, "--dry-run").output
    assert "would take over 6 vectors" in said
    assert "embeddings would be kept as embeddings_old" in said
    assert til.read_bytes() == before


def test_build_adopts_what_was_imported(cli, til, openai_key):
    cli("import", til, "--table", "til", "--column", "title", "--column", "body")
    entry = status(cli, til)["til"]
    assert (entry["owner"], entry["rows"], entry["embedded"], entry["notes"]) == ("import", 6, 6, [])
    made = rows(til, "select id, embedding, content_hash from embeddings order by id")
    configure(til.parent, til={"table": "til", "columns": ["title", "body"], "model": "text-embedding-ada-002"})
    assert "0 texts to embed" in cli("build", til.parent, "--dry-run").output
    assert "0 texts embedded" in cli("build", til.parent).output
    assert status(cli, til)["til"]["owner"] == "config"
    assert rows(til, "select id, embedding, content_hash from embeddings order by id") == made
    assert "Nothing changed." in cli("build", til.parent).output
    assert cli("import", til).output == "Nothing to take over.\n"


def test_build_goes_on_from_what_was_imported(cli, til, server):
    configure(til.parent, server)
    cli("import", til, "--table", "til", "--column", "title", "--column", "body", "--model", SERVED)
    configure(til.parent, server, til={"table": "til", "columns": ["title", "body"], "model": SERVED})
    script(
        til, "update til set body = 'Now with butter' where path = 'bread.md'; delete from til where path = 'tea.md'"
    )
    assert "1 text embedded" in cli("build", til.parent, "--yes").output
    assert server.texts == ["Sourdough bread Now with butter"]
    entry = status(cli, til)["til"]
    assert (entry["rows"], entry["embedded"], entry["notes"]) == (5, 5, [])


def test_search_embeds_only_the_question(cli, til, server):
    configure(til.parent, server)
    cli("import", til, "--table", "til", "--column", "title", "--column", "body", "--model", SERVED)
    assert server.calls == 0
    said = cli("search", til, "til", "water for tea", "-n", "1").output
    assert "tea.md" in said
    assert "Water for green tea is not boiling." in said
    assert server.texts == ["water for tea"]


def test_imported_similarities_are_those_of_a_build(cli, til, tmp_path, server):
    cli("import", til, "--table", "til", "--column", "title", "--column", "body", "-n", "3")
    built = tmp_path / "built" / "til.db"
    built.parent.mkdir()
    make_til(built)
    script(built, "drop table embeddings; drop table similarities")
    collection = {"table": "til", "columns": ["title", "body"], "model": SERVED, "similarities": 3}
    configure(built.parent, server, til=collection)
    cli("build", built.parent, "--yes")
    assert server.calls > 0
    query = "select id, other_id, score from similarities order by id, score desc, other_id"
    assert rows(til, query) == rows(built, query)
    assert len(rows(til, query)) == 18


def test_yaml_that_is_printed_is_what_build_adopts(cli, til, openai_key):
    said = cli("import", til, "--table", "til", "--template", "{{ title }} {{ body }}").output
    printed = yaml.safe_load(said[said.index("plugins:") : said.index("The table")])
    collection = printed["plugins"]["datasette-embeddings"]["collections"]["til"]
    assert collection["model"] == "text-embedding-ada-002"
    configure(til.parent, til=collection)
    assert "0 texts embedded" in cli("build", til.parent).output


def test_sql_names_the_rows(cli, til, openai_key):
    sql = "select path, title, body from til"
    cli("import", til, "--sql", sql, "--collection", "tils")
    configure(til.parent, tils={"sql": sql, "model": "text-embedding-ada-002"})
    assert "0 texts embedded" in cli("build", til.parent).output
    stored = rows(til, "select content from embeddings where id = 'tea.md'")
    assert stored == [("Green tea Water for green tea is not boiling.",)]


def test_configuration_names_the_rows(cli, til):
    configure(til.parent, til={"table": "til", "columns": ["title", "body"], "model": "text-embedding-ada-002"})
    cli("import", til, "--collection", "til")
    assert rows(til, "select count(*) from embeddings where content_hash is not null") == [(6,)]


def test_configured_for_another_model(cli, til):
    configure(til.parent, til={"table": "til", "columns": ["title"], "model": "minilm"})
    before = til.read_bytes()
    said = cli("import", til, "--collection", "til", code=1).output
    assert "is to be made by minilm, and these vectors are by text-embedding-ada-002" in said
    assert til.read_bytes() == before


def test_rows_can_be_named_later(cli, til):
    said = cli("import", til).output
    hint = "import {} --from embeddings_old --collection embeddings --table til --column title --column body"
    assert hint.format(til) in said
    assert rows(til, "select count(*) from embeddings where content_hash is null") == [(6,)]
    cli("import", til, "--from", "embeddings_old", "--collection", "embeddings", "--table", "til", "--column", "title")
    assert rows(til, "select count(*) from embeddings where content_hash is null") == [(0,)]
    assert status(cli, til)["embeddings"]["source"] == "table til"
    again = ("import", til, "--from", "embeddings_old", "--collection", "embeddings")
    assert "Nothing to take over." in cli(*again).output


def test_every_row_and_vector_is_accounted_for(cli, til):
    script(
        til,
        f"""
        update embeddings set embedding = x'{pack([float("nan")] * 1536).hex()}' where id = 'tea.md';
        update embeddings set embedding = zeroblob(1536 * 4) where id = 'bread.md';
        update embeddings set embedding = x'{pack([1.0] * 8).hex()}' where id = 'sqlite_fts.md';
        insert into embeddings values ('deleted_since.md', x'{pack([1.0] * 1536).hex()}');
        insert into til values ('new.md', 'New', 'since then'), ('blank.md', ' ', null);
        """,
    )
    said = cli("import", til, "--table", "til", "--column", "title", "--column", "body").output
    assert "1 left out, as no row has their id" in said
    entry = status(cli, til)["til"]
    assert (entry["rows"], entry["embedded"], entry["skipped"], entry["failed"]) == (8, 3, 2, 3)
    assert {item: (kind, why) for item, kind, why in rows(til, "select id, status, reason from embeddings_issues")} == {
        "tea.md": ("failed", "component 0 of the embedding is NaN or infinite; a number was expected"),
        "bread.md": ("failed", "an embedding of zeros has no direction"),
        "sqlite_fts.md": ("failed", "a vector of 8 dimensions among those of 1,536"),
        "new.md": ("skipped", "it had no vector when it was imported"),
        "blank.md": ("skipped", "empty"),
    }
    assert not rows(til, "select 1 from embeddings where id = 'deleted_since.md'")


def test_bad_values_without_known_rows(cli, til):
    script(
        til,
        "update embeddings set embedding = 'text' where id = 'tea.md';"
        "update embeddings set embedding = x'010203' where id = 'bread.md';"
        f"insert into embeddings values (null, x'{pack([1.0] * 1536).hex()}')",
    )
    cli("import", til)
    entry = status(cli, til)["embeddings"]
    assert (entry["rows"], entry["embedded"], entry["failed"]) == (7, 4, 3)
    reasons = dict(rows(til, "select id, reason from embeddings_issues"))
    assert reasons["(row 7)"] == "its id is NULL"
    assert "found 3 bytes" in reasons["bread.md"]


def test_rows_of_a_view(cli, til, openai_key):
    script(til, "create view tils as select path as place, title || ' ' || coalesce(body, '') as text from til")
    options = ("--table", "tils", "--column", "text")
    assert "name its key column" in cli("import", til, *options, code=1).output
    said = cli("import", til, *options, "--key", "place").output
    printed = yaml.safe_load(said[said.index("plugins:") : said.index("The table")])
    configure(til.parent, **printed["plugins"]["datasette-embeddings"]["collections"])
    assert "0 texts embedded" in cli("build", til.parent).output


def test_ids_that_are_no_keys_of_the_table(cli, til):
    script(til, "create table other (id integer primary key, t text); insert into other values (1, 'x')")
    before = til.read_bytes()
    assert (
        "no id of embeddings (such as 'bread.md') is a key"
        in cli("import", til, "--table", "other", "--column", "t", code=1).output
    )
    assert til.read_bytes() == before


def test_old_tables_are_never_overwritten(cli, til):
    script(til, "create table embeddings_old (mine); create table EMBEDDINGS_old_2 (mine)")
    cli("import", til)
    assert {"embeddings_old", "EMBEDDINGS_old_2", "embeddings_old_3", "similarities_old"} <= tables(til)
    assert rows(til, "select count(*) from embeddings_old_3") == [(6,)]
    assert rows(til, "select json_extract(source, '$.from') from embeddings_collections") == [("embeddings_old_3",)]


def test_views_go_on_reading_similarities(cli, til):
    script(til, "create view related as select id, other_id from similarities where score > 0.5")
    cli("import", til)
    script(til, "drop table similarities_old")
    assert ("python_lists.md", "python_dicts.md") in rows(til, "select * from related")


def test_similarities_alone_make_way(cli, til):
    script(til, "drop table embeddings")
    assert "similarities is kept as similarities_old" in cli("import", til).output
    assert rows(til, "select count(*) from similarities") == [(0,)]
    assert rows(til, "select count(*) from similarities_old") == [(30,)]


def test_empty_peer_table_makes_way(cli, til):
    script(til, "delete from embeddings")
    said = cli("import", til).output
    assert "embeddings holds no vectors" in said
    assert {"embeddings_old", "similarities_old", "collections"} <= tables(til)


def test_clash_leaves_the_file_alone(cli, til):
    script(til, "create table collections (museum text)")
    before = til.read_bytes()
    said = cli("import", til, code=1).output
    assert "'collections' with columns museum, which is not ours" in said
    assert til.read_bytes() == before
    cli("import", til, "--table-prefix", "emb_")
    assert "embeddings_old" not in tables(til)
    assert rows(til, "select count(*) from emb_embeddings") == [(6,)]
    assert "python_dicts.md" in cli("similar", til, "embeddings", "python_lists.md", "-n", "1").output


@pytest.mark.parametrize("step", ["create", "save", "finish"])
def test_interrupted_import_leaves_the_file_as_it_was(cli, til, monkeypatch, step):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = rows(til, "select type, name, sql from sqlite_master")
    with monkeypatch.context() as patch:
        patch.setattr(Store, step, interrupted)
        cli("import", til, code=1)
    assert rows(til, "select type, name, sql from sqlite_master") == before
    assert rows(til, "select count(*) from embeddings") == [(6,)]
    cli("import", til)
    assert status(cli, til)["embeddings"]["embedded"] == 6


def test_change_between_reading_and_writing_is_noticed(cli, til, monkeypatch):
    at_once = Store.at_once

    def late(*arguments):
        script(til, "delete from embeddings where id = 'tea.md'")
        return at_once(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "at_once", late)
        assert "another program changed it meanwhile" in cli("import", til, code=1).output
    assert "embeddings_old" not in tables(til)


def test_running_build_keeps_an_import_out(cli, til):
    cli("import", til)
    script(til, "delete from embeddings_old where id = 'tea.md'")
    claim = [os.getppid(), socket.gethostname(), int(time.time())]
    conn = sqlite3.connect(til)
    conn.execute("insert into embeddings_builds (claim, pid, host, heartbeat) values (1, ?, ?, ?)", claim)
    conn.commit()
    conn.close()
    before = til.read_bytes()
    assert "another build of this file is running" in cli("import", til, "--from", "embeddings_old", code=1).output
    assert til.read_bytes() == before
    script(til, "delete from embeddings_builds")
    cli("import", til, "--from", "embeddings_old")
    assert status(cli, til)["embeddings"]["embedded"] == 5
    assert not rows(til, "select 1 from similarities where 'tea.md' in (id, other_id)")


def test_no_similarities_where_none_are_wanted(cli, til):
    cli("import", til, "-n", "0")
    assert rows(til, "select count(*) from similarities") == [(0,)]
    assert status(cli, til)["embeddings"]["notes"] == []
    assert "Nothing to take over." in cli("import", til, "--from", "embeddings_old").output


def test_file_in_wal_mode_ends_as_one_file(cli, til):
    script(til, "pragma journal_mode = wal")
    cli("import", til)
    assert [file.name for file in til.parent.iterdir()] == ["til.db"]
    assert status(cli, til)["embeddings"]["embedded"] == 6


def test_name_of_another_collection(cli, til):
    cli("import", til)
    script(til, "create table vecs (id text primary key, v blob); insert into vecs values ('a', x'0000803f00000040')")
    said = cli("import", til, "--from", "vecs", "--model", "minilm", "--collection", "embeddings", code=1).output
    assert "there is a collection 'embeddings' already, with other vectors" in said


# datasette-embeddings


@pytest.fixture
def shadowed(tmp_path):
    path = tmp_path / "site.db"
    script(
        path,
        SHADOW_DDL
        + """
        create table news (id integer primary key, title text);
        insert into news values (1, 'One'), (2, 'Two'), (30, 'Thirty');
        create table pages (slug text, lang text, body text, primary key (lang, slug));
        insert into pages values ('a/b', 'en', 'Hello'), ('a,b', 'de', 'Hallo');
        """,
    )
    conn = sqlite3.connect(path)
    conn.executemany("insert into _embeddings_news values (?, ?)", [(n, pack(vector(str(n), 512))) for n in (1, 30)])
    pages = [("en", "a/b", pack(vector("Hello", 512))), ("de", "a,b", pack(vector("Hallo", 512)))]
    conn.executemany("insert into _embeddings_pages values (?, ?, ?)", pages)
    conn.commit()
    conn.close()
    return path


def test_datasette_embeddings_is_taken_over(cli, shadowed):
    cli("import", shadowed)
    found = status(cli, shadowed)
    assert {name: entry["model"] for name, entry in found.items()} == {
        "news": "text-embedding-3-small-512",
        "pages": "text-embedding-3-small-512",
    }
    assert (found["news"]["rows"], found["news"]["embedded"], found["news"]["skipped"]) == (3, 2, 1)
    assert found["news"]["source"] == "table news"
    assert {item for (item,) in rows(shadowed, "select id from embeddings where collection_id = 2")} == {
        "en,a~2Fb",
        "de,a~2Cb",
    }
    assert "Hallo" in cli("similar", shadowed, "pages", "en,a~2Fb").output
    assert rows(shadowed, "select count(*) from _embeddings_news") == [(2,)]
    assert "Nothing to take over." in cli("import", shadowed).output


def test_each_model_is_a_collection(cli, shadowed):
    column = "emb_text_embedding_3_large_256"
    script(shadowed, f"alter table _embeddings_news add column {column} blob")
    conn = sqlite3.connect(shadowed)
    conn.execute(f"insert into _embeddings_news (id, {column}) values (2, ?)", [pack(vector("Two", 256))])
    conn.commit()
    conn.close()
    cli("import", shadowed)
    found = {name: (entry["model"], entry["embedded"]) for name, entry in status(cli, shadowed).items()}
    assert found["news_text_embedding_3_small_512"] == ("text-embedding-3-small-512", 2)
    assert found["news_text_embedding_3_large_256"] == ("text-embedding-3-large-256", 1)


def test_options_about_one_of_several(cli, shadowed):
    said = cli("import", shadowed, "--collection", "mine", code=1).output
    assert "choose one: --from _embeddings_news, _embeddings_pages" in said
    cli("import", shadowed, "--from", "_embeddings_news", "--collection", "mine", "--column", "title")
    assert set(status(cli, shadowed)) == {"mine"}
    assert rows(shadowed, "select count(*) from embeddings where content_hash is not null") == [(2,)]


# sqlite-vec


VEC_DDL = (
    "CREATE VIRTUAL TABLE vec_docs using vec0(doc text primary key, topic text, embedding float[4], small int8[4])"
)
SLOTS = 1024


def as_sqlite_vec(path: Path, count: int, deleted: set[int]) -> None:
    """Write the tables that sqlite-vec 0.1.9 makes for VEC_DDL: *count* rows inserted, some deleted again."""
    conn = sqlite3.connect(path)
    conn.executescript("""
        CREATE TABLE "vec_docs_info" (key text primary key, value any);
        CREATE TABLE "vec_docs_chunks"(chunk_id INTEGER PRIMARY KEY AUTOINCREMENT,size INTEGER NOT NULL,validity BLOB NOT NULL,rowids BLOB NOT NULL);
        CREATE TABLE "vec_docs_rowids"(rowid INTEGER PRIMARY KEY AUTOINCREMENT,id TEXT UNIQUE NOT NULL,chunk_id INTEGER,chunk_offset INTEGER);
        CREATE TABLE "vec_docs_vector_chunks00"(rowid PRIMARY KEY,vectors BLOB NOT NULL);
        CREATE TABLE "vec_docs_vector_chunks01"(rowid PRIMARY KEY,vectors BLOB NOT NULL);
    """)
    conn.execute("pragma writable_schema = on")
    row = ["table", "vec_docs", "vec_docs", 0, VEC_DDL]
    conn.execute("insert into sqlite_master (type, name, tbl_name, rootpage, sql) values (?, ?, ?, ?, ?)", row)
    for chunk in range((count + SLOTS - 1) // SLOTS):
        validity = np.zeros(SLOTS, np.uint8)
        rowids = np.zeros(SLOTS, "<i8")
        matrix = np.zeros((SLOTS, 4), "<f4")
        for slot in range(min(SLOTS, count - chunk * SLOTS)):
            number = chunk * SLOTS + slot + 1
            if number in deleted:
                continue
            validity[slot], rowids[slot], matrix[slot] = 1, number, vec_of(number)
            conn.execute("insert into vec_docs_rowids values (?, ?, ?, ?)", [number, f"d/{number}", chunk + 1, slot])
        blobs = [np.packbits(validity, bitorder="little").tobytes(), rowids.tobytes()]
        conn.execute("insert into vec_docs_chunks values (?, ?, ?, ?)", [chunk + 1, SLOTS, *blobs])
        conn.execute("insert into vec_docs_vector_chunks00 values (?, ?)", [chunk + 1, matrix.tobytes()])
        conn.execute("insert into vec_docs_vector_chunks01 values (?, zeroblob(?))", [chunk + 1, SLOTS * 4])
    conn.commit()
    conn.close()


def vec_of(number: int) -> list[float]:
    return [1.0, float(number), float(number % 7), 0.5]


def with_sqlite_vec(path: Path, count: int, deleted: set[int]) -> sqlite3.Connection:
    """The same by sqlite-vec itself."""
    import sqlite_vec

    conn = sqlite3.connect(path)
    conn.enable_load_extension(True)
    sqlite_vec.load(conn)
    conn.execute(VEC_DDL)
    for number in range(1, count + 1):
        values = [f"d/{number}", "t", pack(vec_of(number))]
        conn.execute(
            "insert into vec_docs (doc, topic, embedding, small) values (?, ?, ?, vec_int8(x'01020304'))", values
        )
    conn.executemany("delete from vec_docs where doc = ?", [(f"d/{number}",) for number in deleted])
    conn.commit()
    return conn


can_load_sqlite_vec = find_spec("sqlite_vec") is not None and hasattr(sqlite3.Connection, "enable_load_extension")


def test_sqlite_vec_is_taken_over_without_the_extension(cli, tmp_path):
    path = tmp_path / "docs.db"
    deleted = {1, 9, 1024, 1026}
    as_sqlite_vec(path, 1030, deleted)
    said = cli("import", path, "--from", "vec_docs.embedding", "--model", "minilm", "--collection", "docs").output
    assert "took over 1,026 vectors of minilm, 4 dimensions, from sqlite-vec" in said
    expected = {f"d/{n}": pack(vec_of(n)) for n in range(1, 1031) if n not in deleted}
    assert dict(rows(path, "select id, embedding from embeddings")) == expected
    said = cli("import", path).output
    assert "vec_docs.small holds int8 vectors; only float ones can be taken over" in said
    assert "Nothing to take over." in said


def test_sqlite_vec_says_no_model(cli, tmp_path):
    path = tmp_path / "docs.db"
    as_sqlite_vec(path, 3, set())
    before = path.read_bytes()
    said = cli("import", path, code=1).output
    assert "nothing says which model made these vectors" in said
    assert "--from vec_docs.embedding --model NAME" in said
    assert "only float ones" in cli("import", path, "--from", "vec_docs.small", "--model", "minilm", code=1).output
    assert path.read_bytes() == before


def test_damaged_sqlite_vec(cli, tmp_path):
    path = tmp_path / "docs.db"
    as_sqlite_vec(path, 3, set())
    script(path, "update vec_docs_vector_chunks00 set vectors = x'00'")
    said = cli("import", path, "--from", "vec_docs.embedding", "--model", "minilm", code=1).output
    assert "chunk 1 of 'vec_docs' is not as sqlite-vec 0.1 writes it" in said


@pytest.mark.skipif(not can_load_sqlite_vec, reason="needs sqlite-vec, and a Python that loads extensions")
def test_layout_is_that_of_sqlite_vec(cli, tmp_path):
    deleted = {1, 9, 1024, 1026}
    real = with_sqlite_vec(tmp_path / "real.db", 1030, deleted)
    as_sqlite_vec(tmp_path / "ours.db", 1030, deleted)
    ours = sqlite3.connect(tmp_path / "ours.db")
    for table in ("vec_docs", "vec_docs_chunks", "vec_docs_rowids", "vec_docs_vector_chunks00"):
        schema = "select sql from sqlite_master where name = ?"
        assert real.execute(schema, [table]).fetchall() == ours.execute(schema, [table]).fetchall()
    for sql in (
        "select * from vec_docs_rowids order by rowid",
        "select chunk_id, size, validity from vec_docs_chunks order by chunk_id",
    ):
        assert real.execute(sql).fetchall() == ours.execute(sql).fetchall()
    expected = dict(real.execute("select doc, embedding from vec_docs").fetchall())
    real.close()
    ours.close()
    cli("import", tmp_path / "real.db", "--from", "vec_docs.embedding", "--model", "minilm")
    assert dict(rows(tmp_path / "real.db", "select id, embedding from embeddings")) == expected


# Any table, .npy, Parquet


@pytest.fixture
def docs(tmp_path):
    path = tmp_path / "docs.db"
    script(path, "create table docs (number integer primary key, text text, emb blob, other text)")
    conn = sqlite3.connect(path)
    texts = ["red apple", "green apple", "blue sea", "blue sky"]
    records = [
        (n, text, pack(vector(text, 16)), json.dumps(vector(text, 16).tolist())) for n, text in enumerate(texts, 7)
    ]
    conn.executemany("insert into docs values (?, ?, ?, ?)", records)
    conn.commit()
    conn.close()
    return path


def test_vectors_in_a_column_of_their_rows(cli, docs):
    cli("import", docs, "--table", "docs", "--vector-column", "emb", "--model", "minilm", "--column", "text")
    entry = status(cli, docs)["docs"]
    assert (entry["source"], entry["rows"], entry["embedded"], entry["dimensions"]) == ("table docs", 4, 4, 16)
    assert "blue sky" in cli("similar", docs, "docs", "9", "-n", "1").output
    assert rows(docs, "select typeof(id) from embeddings limit 1") == [("text",)]


def test_vectors_as_json(cli, docs):
    cli("import", docs, "--from", "docs", "--vector-column", "other", "--model", "minilm")
    assert dict(rows(docs, "select id, embedding from embeddings")) == {
        str(number): emb for number, emb in rows(docs, "select number, emb from docs")
    }


def test_repeated_ids_are_issues(cli, docs):
    script(
        docs,
        "create table v (k text, e blob); insert into v select text, emb from docs; insert into v select text, emb from docs limit 1",
    )
    cli("import", docs, "--from", "v", "--id-column", "k", "--model", "minilm")
    assert status(cli, docs)["v"]["embedded"] == 4
    assert rows(docs, "select id, reason from embeddings_issues") == [
        ("red apple (row 5)", "its id is that of an earlier row")
    ]


def test_unclear_columns(cli, docs):
    script(docs, "create table bare (k text primary key, t text); insert into bare values ('a', 'b')")
    assert "0 columns of 'bare' may hold vectors" in cli("import", docs, "--from", "bare", code=1).output
    said = cli("import", docs, "--from", "docs", "--vector-column", "embb", "--model", "minilm", code=1).output
    assert "did you mean emb?" in said
    assert "did you mean docs?" in cli("import", docs, "--from", "doc", code=1).output


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<f8", ">f4"])
def test_npy_with_ids(cli, docs, tmp_path, dtype):
    matrix = np.stack([vector(word, 16) for word in ("a", "b", "c")]).astype(dtype)
    np.save(tmp_path / "words.npy", matrix)
    (tmp_path / "ids.txt").write_text("é\nb\nc\n", encoding="utf-8")
    cli("import", docs, "--vectors", tmp_path / "words.npy", "--ids", tmp_path / "ids.txt", "--model", "minilm")
    found = dict(rows(docs, "select id, embedding from embeddings"))
    assert found == {item: row.astype("<f4").tobytes() for item, row in zip("ébc", matrix, strict=True)}
    again = ("import", docs, "--vectors", tmp_path / "words.npy", "--ids", tmp_path / "ids.txt", "--model", "minilm")
    assert cli(*again).output == "Nothing to take over.\n"


def test_npy_in_the_order_of_a_tables_keys(cli, docs, tmp_path):
    texts = [text for (text,) in rows(docs, "select text from docs order by number")]
    np.save(tmp_path / "emb.npy", np.stack([vector(text, 64) for text in texts]))
    cli("import", docs, "--vectors", tmp_path / "emb.npy", "--table", "docs", "--column", "text", "--model", "minilm")
    assert "blue sky" in cli("similar", docs, "docs", "9", "-n", "1").output


def test_npy_that_cannot_be_used(cli, docs, tmp_path):
    file = tmp_path / "x.npy"
    options = ("--vectors", file, "--model", "minilm")
    np.save(file, np.ones((3, 4), np.float32))
    assert "holds no ids: give --ids FILE" in cli("import", docs, *options, code=1).output
    said = cli("import", docs, *options, "--table", "docs", code=1).output
    assert "has 3 vectors and the table 'docs' 4 ids" in said
    (tmp_path / "ids").write_text("a\nb\n")
    assert "has 3 vectors and ids 2 ids" in cli("import", docs, *options, "--ids", tmp_path / "ids", code=1).output
    np.save(file, np.ones(3, np.float32))
    assert (
        "of shape (rows, dimensions) were expected" in cli("import", docs, *options, "--table", "docs", code=1).output
    )
    np.save(file, np.array([{"a": 1}], dtype=object))
    assert "cannot be read as a .npy array" in cli("import", docs, *options, "--table", "docs", code=1).output
    assert tables(docs) == {"docs"}


def test_parquet_without_pyarrow(cli, docs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    said = cli("import", docs, "--vectors", tmp_path / "x.parquet", code=1).output
    assert "pip install 'datasette-embeddings-suite[parquet]'" in said


@pytest.mark.models
@pytest.mark.parametrize("kind", ["list", "large_list", "fixed", "double", "binary"])
def test_parquet(cli, docs, tmp_path, kind):
    import pyarrow
    from pyarrow import parquet

    vectors = [vector(str(n), 8) for n in range(3)]
    types = {
        "list": pyarrow.list_(pyarrow.float32()),
        "large_list": pyarrow.large_list(pyarrow.float32()),
        "fixed": pyarrow.list_(pyarrow.float32(), 8),
        "double": pyarrow.list_(pyarrow.float64()),
        "binary": pyarrow.binary(),
    }
    values = [v.tobytes() if kind == "binary" else v.tolist() for v in vectors] + [None]
    table = pyarrow.table({"id": [10, 11, 12, 13], "text": list("abcd"), "v": pyarrow.array(values, types[kind])})
    parquet.write_table(table, tmp_path / "my vectors.parquet")
    options = ["--vector-column", "v"] if kind == "binary" else []
    cli("import", docs, "--vectors", tmp_path / "my vectors.parquet", "--model", "minilm", *options)
    assert dict(rows(docs, "select id, embedding from embeddings")) == {
        str(n): v.tobytes() for n, v in enumerate(vectors, 10)
    }
    entry = status(cli, docs)["my_vectors"]
    assert (entry["rows"], entry["embedded"], entry["failed"]) == (4, 3, 1)


def test_gone_vectors_leave_no_trace(cli, docs):
    script(docs, "create table v (k text primary key, e blob); insert into v select text, emb from docs")
    cli("import", docs, "--from", "v", "--model", "minilm")
    script(
        docs,
        "delete from v where k = 'blue sea'; update docs set text = '', emb = null, other = null where number = 9; vacuum",
    )
    cli("import", docs, "--from", "v")
    assert status(cli, docs)["v"]["embedded"] == 3
    assert b"blue sea" not in docs.read_bytes()
    assert pack(vector("blue sea", 16)) not in docs.read_bytes()


def test_usage(cli, docs, tmp_path):
    assert cli("import", docs).output == "Nothing to take over.\n"
    assert "Give either --table or --sql" in cli("import", docs, "--table", "docs", "--sql", "select 1", code=2).output
    assert "there is no file" in cli("import", tmp_path / "none.db", code=1).output
    (tmp_path / "v.txt").write_text("x")
    assert (
        "from .npy and .parquet files; found .txt"
        in cli("import", docs, "--vectors", tmp_path / "v.txt", code=1).output
    )
