"""Every kind of source gives the same items as the same data in its plainest form, in any encoding and under any name."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import hard
import pytest
from click.testing import CliRunner
from openai_server import OpenAIServer

from datasette_embeddings.cli import embeddings

RECORDS = [
    ("one", "café au lait"),
    ("two/2,~", "naïve “quotes” € and <b>bold</b>"),
    ("3", "trains, plain\nand long"),
]


@pytest.fixture(scope="module")
def server():
    with OpenAIServer(dimensions=8) as running:
        yield running


@pytest.fixture
def path(tmp_path):
    """A database with RECORDS in a table."""
    path = tmp_path / "data.db"
    hard.change(path, "create table t (id text primary key, body text)")
    hard.change(path, *(("insert into t values (?, ?)", record) for record in RECORDS))
    return path


@pytest.fixture
def embed(tmp_path, server):
    """Run `embed` into a new file, or into *into*; returns (id, content) of all items."""

    def run(*options: object, into: Path | None = None, stdin: bytes | None = None, expect: int = 0):
        database = into or tmp_path / "new.db"
        config = hard.write_config(tmp_path / "config.json", server, {})
        words = ["embed", str(database), "c", *map(str, options), "-c", str(config), "-n", "2"]
        result = CliRunner().invoke(embeddings, words, input=stdin, catch_exceptions=False)
        assert result.exit_code == expect, result.output
        if expect:
            return result.output
        assert sum(hard.account(database, "c")[1:]) == hard.account(database, "c")[0]
        return hard.query(database, "select id, content from embeddings order by id")

    return run


def as_csv(delimiter=","):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([("id", "body"), *RECORDS])
    return text.getvalue()


JSON = json.dumps([dict(zip(("id", "body"), record, strict=True)) for record in RECORDS], ensure_ascii=False)
NDJSON = "\n".join(json.dumps(dict(zip(("id", "body"), r, strict=True)), ensure_ascii=False) for r in RECORDS)
FORMS = {"csv": as_csv(), "tsv": as_csv("\t"), "json": JSON, "nl": NDJSON}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"])
def test_records_are_read_in_every_form_and_encoding(embed, tmp_path, form, encoding):
    raw = FORMS[form].encode(encoding)
    named = ["--encoding", encoding] if encoding == "utf-16-le" else []
    (tmp_path / "records").write_bytes(raw)
    assert embed(tmp_path / "records", *named, into=tmp_path / "a.db") == sorted(RECORDS)
    assert embed("-", "--format", form, *named, stdin=raw, into=tmp_path / "b.db") == sorted(RECORDS)
    assert embed("-", *named, stdin=raw, into=tmp_path / "c.db") == sorted(RECORDS)


def test_latin_1_is_read_as_what_it_is(embed, tmp_path):
    (tmp_path / "r.csv").write_bytes("id,body\n1,café é\n".encode("latin-1"))
    assert embed(tmp_path / "r.csv") == [("1", "café é")]


def test_a_pipe_adds_and_a_whole_source_removes(embed):
    embed("-", stdin=b"id,body\n1,one\n2,two\n")
    assert embed("-", stdin=b"id,body\n2,two b\n3,three\n") == [("1", "one"), ("2", "two b"), ("3", "three")]
    assert embed("-", "--delete-missing", stdin=b"id,body\n3,three\n") == [("3", "three")]


def test_rows_without_an_id_are_counted_once_however_often_a_pipe_is_read(embed, tmp_path):
    records = b'[{"id": null, "b": "x"}, {"id": 1, "b": ""}, {"id": 2, "b": "two"}, {"id": 2, "b": "again"}]'
    for _ in range(2):
        assert embed("-", stdin=records) == [("2", "two")]
        assert hard.account(tmp_path / "new.db", "c") == (4, 1, 1, 2)


def test_half_a_surrogate_pair_is_replaced(embed):
    records = b'[{"id": "a\\ud800", "body": "half \\udc00 pair", "more": "\\ud801"}]'
    assert embed("-", "--metadata", stdin=records) == [("a?", "half ? pair ?")]


RUINED = {
    "empty": (b"", "is empty"),
    "blank": (b" \n ", "is empty"),
    "broken json": (b'[{"id": 1, "b": "x"}, {', "cannot be read"),
    "no records": (b"[1, 2]", "fields"),
    "one column": (b"id\n1\n2\n", "cannot be read"),
    "binary": (bytes(range(256)), "NUL"),
    "wrong encoding": ("id,body\n1,é\n".encode("cp1252"), "encoding utf-8", "--encoding", "utf-8"),
    "unknown encoding": (b"id,body\n1,x\n", "unknown encoding", "--encoding", "klingon"),
    "no such file": (None, "cannot be read"),
}


@pytest.mark.parametrize("case", RUINED.values(), ids=RUINED)
def test_records_that_cannot_be_read_are_said_to_be(embed, tmp_path, case):
    raw, message, *options = case
    if raw is not None:
        (tmp_path / "records").write_bytes(raw)
    output = embed(tmp_path / "records", *options, expect=1)
    assert message in output
    assert output.count("\n") == 1


def test_files_by_glob_in_any_encoding(embed, tmp_path):
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    text = "café € “x”"
    files = {
        "a.md": text.encode(),
        "b.md": text.encode("cp1252"),
        "c.md": text.encode("utf-16"),
        "deep/d.md": codecs.BOM_UTF8 + text.encode(),
        "e\udcff.md".encode("utf-8", "surrogateescape"): text.encode(),
        "other.txt": b"not asked for",
    }
    for name, raw in files.items():
        Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name)))).write_bytes(raw)
    (folder / "binary.md").write_bytes(b"\x00\x01\xff")
    (folder / "empty.md").write_bytes(b"")
    (tmp_path / "secret.md").write_text("a secret outside")
    (folder / "link.md").symlink_to(tmp_path / "secret.md")
    found = embed("--files", folder, "**/*.md")
    assert found == [(name, text) for name in ("a.md", "b.md", "c.md", "deep/d.md", "e?.md")]
    assert dict(hard.query(tmp_path / "new.db", "select id, reason from embeddings_issues")) == {
        "binary.md": "a binary file, no text",
        "empty.md": "empty",
        "link.md": "a link that leads out of the folder",
    }


@pytest.mark.parametrize("glob", ["/etc/*", "", "**/a**b"])
def test_an_impossible_glob_is_refused(embed, tmp_path, glob):
    assert "glob" in embed("--files", tmp_path, glob, expect=1)


def test_a_pattern_that_no_file_has_is_named(embed, tmp_path):
    assert "no file in" in embed("--files", tmp_path, "*.zzz", expect=1)


def test_a_folder_that_is_none_is_named(embed, tmp_path):
    assert "is no folder" in embed("--files", tmp_path / "none", "*", expect=1)


# Tables and SQL


def test_sql_and_table_give_what_the_records_are(embed, path, tmp_path):
    assert embed("--sql", "select id, body from t", into=path) == sorted(RECORDS)
    assert embed("--table", "T", "--column", "BODY", "--store", into=path) == sorted(RECORDS)
    rendered = embed("--table", "t", "--template", "{{ body|strip_html }}", "--store", into=path)
    assert dict(rendered)["two/2,~"] == "naïve “quotes” € and bold"


def test_an_attached_database(embed, path, tmp_path):
    sql = "select id, body from other.t"
    assert embed("--attach", "other", path, "--sql", sql) == sorted(RECORDS)
    for alias, file in (("main", path), ("other", tmp_path / "none.db"), ("other", tmp_path)):
        assert "cannot be attached" in embed("--attach", alias, file, "--sql", sql, expect=1)
    assert "this SQL fails" in embed(
        "--attach",
        "other",
        path,
        "--sql",
        "select id, iif(id = '3', json(body), body) from other.t",
        expect=1,
    )


def test_full_text_tables_can_be_sources(embed, path):
    hard.change(path, "create virtual table f using fts5 (body)", "insert into f select body from t")
    assert len(embed("--sql", "select rowid, body from f where f match 'plain OR lait'", into=path)) == 2


SQL = {
    "drop": "drop table t",
    "delete": "delete from t returning id, body",
    "insert": "insert into t values (1, 2)",
    "attach": "attach 'x.db' as x",
    "schema": "update sqlite_master set sql = ''",
    "pragma": "pragma journal_mode = wal",
    "pragma function": "select name, type from pragma_table_info('t')",
    "two": "select id, body from t; drop table t",
    "vacuum into": "vacuum into 'x.db'",
    "no table": "select id, body from tt",
    "no column": "select id, nothing from t",
    "no SQL": "hello",
    "empty": " ; ",
    "one column": "select id from t",
    "fails at once": "select id, json(body) from t",
    "fails on the way": "select id, iif(id = '3', json(body), body) from t",
    "too big": "select id, zeroblob(3000000000) from t",
}


@pytest.mark.parametrize("sql", SQL.values(), ids=SQL)
def test_sql_that_writes_or_fails_is_refused(embed, path, sql):
    before = path.read_bytes()
    assert embed("--sql", sql, into=path, expect=1).startswith("Error: ")
    assert path.read_bytes() == before


def test_sql_that_names_no_table_is_told_the_nearest(embed, path):
    assert "did you mean t?" in embed("--sql", "select id, body from tt", into=path, expect=1)
    assert "did you mean body?" in embed("--table", "t", "--column", "bodi", into=path, expect=1)
    assert "known: t" in embed("--table", "zebra", "--column", "body", into=path, expect=1)


# The hard database


@pytest.fixture
def difficult(tmp_path):
    return hard.hard_database(tmp_path / "hard.db")


def build(tmp_path, server, path, collections):
    config = hard.write_config(tmp_path / "config.json", server, collections)
    return hard.run("build", path, "-c", config).output


def test_every_row_of_hard_tables_is_accounted_for(tmp_path, server, difficult):
    columns = dict.fromkeys(hard.TABLES, "text") | {"hostile": 'se]lect "x'}
    tables = {name: name for name in hard.TABLES} | {"hostile": 'qu"o]te/;-- 🚆'}
    spec = {n: {"table": tables[n], "columns": [columns[n]], "similarities": 2} for n in hard.TABLES}
    spec["view"] = {"table": "shown", "columns": ["text"], "key": "id"}
    build(tmp_path, server, difficult, spec)
    for name, collection in spec.items():
        count = hard.query(difficult, "select count(*) from " + quoted(collection["table"]))[0][0]
        assert hard.account(difficult, name)[0] == count, name
    assert hard.account(difficult, "plain") == (15, 11, 3, 1)
    assert hard.account(difficult, "untyped") == (10, 7, 0, 3)
    reasons = hard.query(
        difficult,
        "select reason, count(*) from embeddings_issues join collections on id = collection_id".replace(
            "on id", "on collections.id"
        )
        + " where name = 'untyped' group by 1 order by 1",
    )
    assert reasons == [
        ("its id is that of an earlier row", 1),
        ("its key is NULL, so nothing can point at it", 2),
    ]
    before = difficult.read_bytes()
    assert "Nothing changed" in build(tmp_path, server, difficult, spec)
    assert difficult.read_bytes() == before
    for name in spec:
        item = hard.query(
            difficult,
            "select e.id from embeddings e join collections c on c.id = collection_id "
            "where name = ? order by e.id limit 1",
            [name],
        )[0][0]
        assert hard.run("similar", difficult, name, "--json", "--", item).output.startswith("[")
    assert " = " in hard.run("status", difficult).output


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize("name", hard.NAMES)
def test_a_hostile_name_changes_nothing(tmp_path, server, name):
    plain, hostile = tmp_path / "plain.db", tmp_path / "hostile.db"
    texts = [f"text {n} about {'cats' if n % 2 else 'dogs'}" for n in range(6)]
    for path, table, key, column in ((plain, "t", "id", "body"), (hostile, name, name + "k", name + "c")):
        with closing(sqlite3.connect(path)) as conn, conn:
            conn.execute(f"create table {quoted(table)} ({quoted(key)} text primary key, {quoted(column)} text)")
            conn.executemany(
                f"insert into {quoted(table)} values (?, ?)",
                [(f"{name}{n}", text) for n, text in enumerate(texts)],
            )
        build(tmp_path, server, path, {"c": {"table": table, "columns": [column], "similarities": 2}})
    ours, theirs = hard.tables_of(hostile, "c"), hard.tables_of(plain, "c")
    for table in ("embeddings", "similarities", "embeddings_issues"):
        assert ours[table] == theirs[table]
    found = [hard.run("similar", path, "c", "--json", "--", name + "1").output for path in (plain, hostile)]
    assert found[0] == found[1]
    assert len(json.loads(found[0])) == 5


def test_ids_lead_back_to_their_rows(tmp_path, server, difficult):
    spec = {"c": {"table": "compound", "columns": ["text"]}, "k": {"table": "keyed", "columns": ["text"]}}
    build(tmp_path, server, difficult, spec)
    with closing(sqlite3.connect(difficult)) as conn:
        from datasette_embeddings import register

        register(conn)
        conn.text_factory = lambda raw: raw.decode("utf-8", "replace")
        joined = (
            "select count(*) from embeddings e join compound t on t.a = embed_key(e.id, 0) and t.b = embed_key(e.id, 1) "
            "where collection_id = (select id from collections where name = 'c')"
        )
        assert conn.execute(joined).fetchone()[0] == hard.account(difficult, "c")[1]
        joined = (
            "select count(*) from embeddings e join keyed t on t.id = e.id "
            "where collection_id = (select id from collections where name = 'k')"
        )
        assert conn.execute(joined).fetchone()[0] == hard.account(difficult, "k")[1] - 1  # one key is no UTF-8


def test_names_that_differ_only_in_the_case_of_accents_are_two(tmp_path, server):
    path = tmp_path / "data.db"
    for table in ("é", "É"):
        hard.change(
            path,
            f'create table "{table}" (id integer primary key, body)',
            f"insert into \"{table}\" values (1, '{table}')",
        )
    build(tmp_path, server, path, {"c": {"table": "É", "columns": ["body"], "store": True}})
    assert hard.query(path, "select content from embeddings") == [("É",)]


def test_rowids_and_full_text_indexes_survive_a_build(tmp_path, server):
    path = tmp_path / "data.db"
    hard.change(
        path,
        "create table t (body)",
        "create virtual table f using fts5 (body, content=t)",
        *(("insert into t values (?)", [f"text {n}"]) for n in range(9)),
        "delete from t where rowid in (2, 5)",
        "insert into f (f) values ('rebuild')",
    )
    spec = {"c": {"table": "t", "columns": ["body"]}}
    build(tmp_path, server, path, spec)
    hard.change(path, "delete from t where rowid = 7")
    schema = hard.query(path, "select * from sqlite_master where tbl_name = 't'")
    before = len(server.texts)
    build(tmp_path, server, path, spec)
    assert len(server.texts) == before
    assert hard.query(path, "select rowid from t") == [(n,) for n in (1, 3, 4, 6, 8, 9)]
    assert hard.query(path, "select t.body from f join t on t.rowid = f.rowid where f match '8'") == [("text 8",)]
    assert hard.query(path, "select t.body from f join t on t.rowid = f.rowid where f match '7'") == [("text 7",)]
    assert [r[:4] for r in hard.query(path, "select * from sqlite_master where tbl_name = 't'")] == [
        r[:4] for r in schema
    ]
