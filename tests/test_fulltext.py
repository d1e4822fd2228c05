"""The full-text indexes that builds keep: where there is one, what it holds after any edits, and what visitors may type."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import hard
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from datasette_embeddings import fulltext, indexing, register, search
from datasette_embeddings.catalog import find_collection
from datasette_embeddings.store import Store
from datasette_embeddings.tables import find_tables

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = int(os.environ.get("EXAMPLES", "12"))
PHASES = [Phase.explicit, Phase.reuse, Phase.generate] + ([Phase.shrink] if "EXAMPLES" in os.environ else [])

T = "create table t (k text primary key, title text, body text);"
ROWS = "insert into t values ('a', 'storm and rain', 'roads closed'), ('b', 'cup final', 'late goal');"
FTS = "create virtual table own using fts5({});insert into own(own) values ('rebuild');"


def make(path: Path, script: str) -> Path:
    """Write a database."""
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript(script)
    return path


def build(path: Path, **collection: object) -> str:
    """Build one collection `c` by a configuration of its own; returns the output."""
    block = {"default_model": "static", "collections": {"c": {"similarities": 0, **collection}}}
    config = path.with_suffix(".yml")
    config.write_text(yaml.safe_dump(block))
    return hard.run("build", path, "-c", config).output


def names(path: Path) -> list[str]:
    """Return the full-text tables of ours, without their shadow tables."""
    return [
        name
        for name, sql in hard.query(path, "select name, sql from sqlite_master where name glob '*embeddings_fts_*'")
        if "fts5" in sql
    ]


def matches(path: Path, words: str, name: str = "c") -> list[str]:
    """Return the items that hold any of some words, best first."""
    with closing(sqlite3.connect(path)) as conn:
        tables = find_tables(conn)
        index = fulltext.text_index(conn, tables, find_collection(conn, name, tables))
        assert index is not None
        return [match.id for match in index.matches(conn, fulltext.any_of(fulltext.terms(words)))]


def hybrid(path: Path, text: str, name: str = "c", k: int = 10) -> list[dict]:
    """Return what embed_hybrid gives."""
    with closing(sqlite3.connect(path)) as conn:
        register(conn)
        return json.loads(conn.execute("select embed_hybrid(?, ?, ?)", [name, text, k]).fetchone()[0])


SOURCES = {
    "table": (T + ROWS, {"table": "t", "columns": ["title", "body"]}),
    "template": (T + ROWS, {"table": "t", "template": "{{ title }}: {{ body|strip_html }}"}),
    "sql": (T + ROWS, {"sql": "select k, title || ' ' || body as text from t"}),
    "compound": (
        "create table t (l text, n integer, title text, body text, primary key (l, n));"
        "insert into t values ('x,y/', 1, 'storm', 'rain'), ('x,y/', 2, 'cup', 'goal');",
        {"table": "t", "columns": ["title", "body"]},
    ),
    "without rowid": (
        T.replace("body text)", "body text) without rowid") + ROWS,
        {"table": "t", "columns": ["title", "body"]},
    ),
    "integer key": (
        "create table t (id integer primary key, title text); insert into t values (-7, 'storm'), (9, 'cup');",
        {"table": "t", "columns": ["title"]},
    ),
    "no key": (
        "create table t (title text); insert into t values ('storm'), ('cup');",
        {"table": "t", "columns": ["title"]},
    ),
    "view": (
        T + ROWS + "create view v as select k, title || ' ' || body as text from t;",
        {"table": "v", "columns": ["text"], "key": ["k"]},
    ),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_build_keeps_an_index(tmp_path: Path, kind: str) -> None:
    """For every source that has none: the item of each word is found, by words and by words and meaning."""
    script, collection = SOURCES[kind]
    path = make(tmp_path / "x.db", script)
    build(path, **collection)
    assert names(path) == ["embeddings_fts_c"]
    (storm,), (cup,) = matches(path, "storm"), matches(path, "CUPS")
    assert storm != cup
    assert hybrid(path, "storm")[0]["id"] == storm
    assert hybrid(path, "cup")[0]["id"] == cup
    assert "nothing changed" in build(path, **collection)


def test_files_and_pipes_have_an_index(tmp_path: Path, cli: Callable) -> None:
    """What is in no table is found by its words all the same, also where its text is not stored."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "one.txt").write_text("storm and rain")
    (folder / "two.txt").write_text("cup final")
    path = tmp_path / "x.db"
    cli("embed", path, "files", "--files", folder, "*.txt")
    cli("embed", path, "bare", "--files", folder, "*.txt", "--no-store")
    cli("embed", path, "pipe", "-", stdin=b'[{"id": "p", "text": "storm and rain"}, {"id": "q", "text": "cup final"}]')
    assert names(path) == ["embeddings_fts_files", "embeddings_fts_bare", "embeddings_fts_pipe"]
    assert matches(path, "rain", "files") == ["one.txt"]
    assert matches(path, "rain", "bare") == ["one.txt"]
    assert matches(path, "finals", "pipe") == ["q"]


def test_prepended_text_is_not_indexed(tmp_path: Path) -> None:
    """What the model is told before every text is no word of any."""
    path = make(tmp_path / "x.db", T + ROWS)
    build(path, table="t", columns=["title"], prefix={"document": "passage: ", "query": "query: "})
    assert matches(path, "passage") == []
    assert matches(path, "storm") == ["a"]


OWN = {
    "external content": (T + ROWS + FTS.format("title, body, content='t'"), True),
    "columns in another order, and more": (T + ROWS + FTS.format('k, body, title, content="t"'), True),
    "unquoted, over lines": (T + ROWS + FTS.format("\n  title,\n  body,\n  content=t\n"), True),
    "as sqlite-utils writes it": (
        T + ROWS + "CREATE VIRTUAL TABLE [own] USING FTS5 (\n    [title], [body],\n    tokenize='porter',\n"
        "    content=[t]\n);insert into own(own) values ('rebuild');",
        True,
    ),
    "two lines before the module": (
        T
        + ROWS
        + "create virtual table own\nusing\nfts5(title, body, content = 't' );insert into own(own) values ('rebuild');",
        True,
    ),
    "another case": (T + ROWS + FTS.format("Title, BODY, content='T'"), True),
    "one column": (T + ROWS + FTS.format("title, content='t'"), False),
    "a column that is not indexed": (T + ROWS + FTS.format("title, body UNINDEXED, content='t'"), False),
    "another table": (
        T + ROWS + "create table u (title text, body text);" + FTS.format("title, body, content='u'"),
        False,
    ),
    "without lengths": (T + ROWS + FTS.format("title, body, content='t', columnsize=0"), False),
    "without positions": (T + ROWS + FTS.format("title, body, content='t', detail=none"), False),
    "its own text": (T + ROWS + "create virtual table own using fts5(title, body);", False),
    "no text": (T + ROWS + "create virtual table own using fts5(title, body, content='');", False),
    "FTS4": (T + ROWS + "create virtual table own using fts4(title, body, content='t');", False),
}


@pytest.mark.parametrize("kind", OWN)
def test_index_of_the_source_serves(tmp_path: Path, kind: str) -> None:
    """Where the source has an FTS5 index over all that is embedded it is used; for any other, the build keeps one."""
    script, serves = OWN[kind]
    path = make(tmp_path / "x.db", script)
    build(path, table="t", columns=["title", "body"])
    assert names(path) == ([] if serves else ["embeddings_fts_c"])
    assert matches(path, "storm list_plugins") == ["a"]
    assert hybrid(path, "late-goal")[0]["id"] == "b"
    assert "nothing changed" in build(path, table="t", columns=["title", "body"])


def test_index_with_a_rowid_of_its_own_and_odd_names(tmp_path: Path) -> None:
    """content_rowid is followed, and names that must be quoted are read."""
    path = make(
        tmp_path / "x.db",
        'create table "my, (odd) \'table\'" (slug text primary key, "the text" text, n integer unique) without rowid;'
        "insert into \"my, (odd) 'table'\" values ('a', 'storm', 70), ('b', 'cup', 3);"
        'create virtual table "o""wn" using fts5("the text", content="my, (odd) \'table\'", content_rowid="n");'
        'insert into "o""wn"("o""wn") values (\'rebuild\');',
    )
    build(path, table="my, (odd) 'table'", columns=["the text"])
    assert names(path) == []
    assert matches(path, "storm") == ["a"]
    assert matches(path, "cup") == ["b"]


def test_index_of_the_source_comes_and_goes(tmp_path: Path) -> None:
    """Ours makes way for an index of the source's own, and is back when that is gone."""
    path = make(tmp_path / "x.db", T + ROWS)
    collection = {"table": "t", "columns": ["title", "body"]}
    build(path, **collection)
    make(path, FTS.format("title, body, content='t'"))
    build(path, **collection)
    assert names(path) == []
    assert hard.query(path, "select count(*) from embeddings_documents") == [(0,)]
    assert matches(path, "storm") == ["a"]
    hard.change(path, "drop table own")
    assert fulltext_of(path) is None
    assert [hit["id"] for hit in hybrid(path, "storm")] == ["a", "b"]
    build(path, **collection)
    assert names(path) == ["embeddings_fts_c"]


def fulltext_of(path: Path) -> object:
    """Return the index of collection c."""
    with closing(sqlite3.connect(path)) as conn:
        tables = find_tables(conn)
        return fulltext.text_index(conn, tables, find_collection(conn, "c", tables))


WORDS = "storm rain roads cup goal final storms closing".split()
EDITS = st.tuples(
    st.sampled_from("insert insert update swap delete rekey same".split()),
    st.integers(0, 20),
    st.integers(0, 20),
    st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join),
)


@settings(
    phases=PHASES,
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
@given(steps=st.lists(st.lists(EDITS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_incremental_equals_from_scratch(steps: list) -> None:
    """After any edits every word leads to the rows that an index made anew leads to, in the same order, with the same BM25."""
    collection = {"table": "t", "columns": ["title"]}
    with tempfile.TemporaryDirectory(dir=hard.MEMORY) as folder:
        path = make(Path(folder) / "x.db", "create table t (k text primary key, title text);")
        hard.change(path, *(("insert into t values (?, ?)", [f"k{n}", f"{WORDS[n]} {WORDS[-n]}"]) for n in range(6)))
        build(path, **collection)
        for number, edits in enumerate(steps):
            for place, edit in enumerate(edits):
                change(path, f"{number}.{place}", *edit)
            build(path, **collection)
        scratch = make(Path(folder) / "scratch.db", "create table t (k text primary key, title text);")
        rows = hard.query(path, "select k, title from t")
        hard.change(scratch, *(("insert into t values (?, ?)", row) for row in rows))
        build(scratch, **collection)
        for word in WORDS:
            assert bm25s(path, word) == bm25s(scratch, word), word
        held = "select id, content_hash from embeddings_documents order by 1"
        assert hard.query(path, held) == hard.query(scratch, held)
        assert hard.query(path, "select count(*) from embeddings_fts_c_docsize") == hard.query(
            scratch, "select count(*) from embeddings_fts_c_docsize"
        )


def change(path: Path, new: str, kind: str, i: int, j: int, text: str) -> None:
    """Edit the table t."""
    rows = hard.query(path, "select k, title from t order by k")
    if kind == "insert" or not rows:
        hard.change(path, ("insert into t values (?, ?)", [new, text]))
        return
    (one, first), (other, second) = rows[i % len(rows)], rows[j % len(rows)]
    update = "update t set title = ? where k = ?"
    edits = {
        "update": [(update, [text, one])],
        "same": [(update, [second, one])],
        "swap": [(update, [second, one]), (update, [first, other])],
        "delete": [("delete from t where k = ?", [one])],
        "rekey": [("update t set k = ? where k = ?", [new, one])],
    }
    hard.change(path, *edits[kind])


def bm25s(path: Path, word: str) -> list[tuple[str, float]]:
    """Return items and their BM25."""
    with closing(sqlite3.connect(path)) as conn:
        tables = find_tables(conn)
        index = fulltext.text_index(conn, tables, find_collection(conn, "c", tables))
        return sorted((match.id, round(match.bm25, 9)) for match in index.matches(conn, f'"{word}"'))


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("edit", ["delete from t where k = 'a'", "update t set title = 'quiet' where k = 'a'"])
def test_words_that_left_are_in_no_byte(tmp_path: Path, journal: str, edit: str) -> None:
    """After the next build, neither a deleted nor a replaced word is in the file (rule 10)."""
    path = make(tmp_path / "x.db", f"pragma journal_mode = {journal};" + T + ROWS)
    hard.change(path, "update t set title = 'zanzibarcanary storm' where k = 'a'")
    build(path, table="t", columns=["title", "body"])
    assert matches(path, "zanzibarcanary") == ["a"]
    assert b"zanzibarcanari" in b"".join(file.read_bytes() for file in tmp_path.glob("x.db*"))  # its stem, in the index
    hard.change(path, edit)
    build(path, table="t", columns=["title", "body"])
    assert matches(path, "zanzibarcanary") == []
    for file in tmp_path.glob("x.db*"):
        assert b"zanzibarcanar" not in file.read_bytes().lower(), file


class Killed(BaseException):
    """Stands for what ends a process."""


POINTS = ["begin_index", "add_texts", "end_index", "finish"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("afterwards", ["build", "take back", "delete"])
def test_build_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, afterwards: str) -> None:
    """Between the new index and the finish the old one serves; whatever is done next leaves no trace of the attempt."""
    path = make(tmp_path / "x.db", T + ROWS)
    collection = {"table": "t", "columns": ["title", "body"]}
    build(path, **collection)
    hard.change(path, "update t set title = 'zanzibarcanary' where k = 'a'", "delete from t where k = 'b'")
    real = getattr(Store, point)

    def killed(*arguments: object) -> None:
        if point != "finish":
            real(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Store, point, killed)
        with pytest.raises(Killed):
            build(path, **collection)
    assert matches(path, "storm") == ["a"]
    assert matches(path, "cup") == ["b"]
    if afterwards == "take back":
        hard.change(path, "delete from t", ROWS.strip(";"))
    if afterwards == "delete":
        hard.run("delete", path, "c")
        assert names(path) == []
    else:
        build(path, **collection)
        assert names(path) == ["embeddings_fts_c"]
        assert matches(path, "zanzibarcanary") == (["a"] if afterwards == "build" else [])
        assert matches(path, "storm") == ([] if afterwards == "build" else ["a"])
        assert "nothing changed" in build(path, **collection)
    if afterwards != "build":
        assert b"zanzibarcanari" not in path.read_bytes()


def test_failure_while_indexing_keeps_the_old_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full on the way, for one: what was committed is whole."""
    path = make(tmp_path / "x.db", T + ROWS)
    build(path, table="t", columns=["title"])
    hard.change(path, "update t set title = 'thunder' where k = 'a'")
    with monkeypatch.context() as patch:
        patch.setattr(indexing, "CHARACTERS_AT_ONCE", 1)
        failing = iter([False, True])
        real = Store.add_texts

        def full(*arguments: object) -> None:
            if next(failing):
                raise sqlite3.OperationalError("database or disk is full")
            real(*arguments)

        patch.setattr(Store, "add_texts", full)
        with pytest.raises(sqlite3.OperationalError):
            build(path, table="t", columns=["title"])
    assert matches(path, "storm") == ["a"]
    build(path, table="t", columns=["title"])
    assert matches(path, "thunder") == ["a"]
    assert matches(path, "storm") == []
    assert names(path) == ["embeddings_fts_c"]


@pytest.mark.parametrize("order", [["a", "a_data"], ["a_data", "a"], ["a_config", "a_idx", "a"]])
def test_names_that_clash(tmp_path: Path, cli: Callable, order: list[str]) -> None:
    """An index of one collection is not a part of another's, whichever came first, also after edits and deletion."""
    path = make(tmp_path / "x.db", T + ROWS)
    for name in order:
        cli("embed", path, name, "--table", "t", "--column", "title")
    for name in order:
        assert matches(path, "storm", name) == ["a"]
    hard.change(path, "update t set title = 'thunder' where k = 'a'")
    for name in order:
        cli("embed", path, name, "--table", "t", "--column", "title")
    for name in order:
        assert matches(path, "thunder", name) == ["a"]
        assert matches(path, "storm", name) == []
    cli("delete", path, order[0])
    for name in order[1:]:
        assert matches(path, "thunder", name) == ["a"]


def test_table_of_the_site_with_the_name_of_an_index(tmp_path: Path, cli: Callable) -> None:
    """Somebody's own table is left as it is."""
    path = make(
        tmp_path / "x.db",
        T + ROWS + "create table embeddings_fts_t_config (x); create view embeddings_fts_t as select 1",
    )
    cli("add", path, "t")
    assert matches(path, "storm", "t") == ["a"]
    cli("delete", path, "--all")
    left = hard.query(path, "select name from sqlite_master where name like 'emb%' order by 1")
    assert left == [("embeddings_fts_t",), ("embeddings_fts_t_config",)]


@pytest.mark.parametrize("prefix", ["", "emb_"])
def test_delete_leaves_the_schema_as_it_was(tmp_path: Path, cli: Callable, prefix: str) -> None:
    """A collection's index goes with it, and everything with `--all`; also under a prefix."""
    path = make(tmp_path / "x.db", T + ROWS + FTS.format("title, content='t'"))
    schema = "select type, name, tbl_name, sql from sqlite_master order by 1, 2"
    before = hard.query(path, schema)
    for name in ("one", "two"):
        cli("embed", path, name, "--table", "t", "--column", "title", "--column", "body", "--table-prefix", prefix)
    assert names(path) == [f"{prefix}embeddings_fts_one", f"{prefix}embeddings_fts_two"]
    assert matches(path, "storm", "two") == ["a"]
    cli("delete", path, "one")
    assert names(path) == [f"{prefix}embeddings_fts_two"]
    assert {row[0] for row in hard.query(path, f"select distinct collection_id from {prefix}embeddings_documents")} == {
        2
    }
    cli("delete", path, "--all")
    assert hard.query(path, schema) == before


def downgrade(path: Path) -> None:
    """Make a file what it would be, had it been built before there were full-text indexes."""
    hard.change(
        path,
        "drop table embeddings_fts_c",
        "drop table embeddings_documents",
        "drop index embeddings_duplicates",
        *(f"alter table embeddings_collections drop column {name}" for name in ("full_text", "noise_floor", "version")),
        "delete from _sqlite_migrations where name = 'm002_search'",
    )


def test_files_of_before(tmp_path: Path, cli: Callable) -> None:
    """A file that was built before is searched by its vectors, and the next build brings it up to date."""
    path = make(tmp_path / "x.db", T + ROWS)
    collection = {"table": "t", "columns": ["title", "body"], "similarities": 3}
    build(path, **collection)
    schema = "select name, sql from sqlite_master order by 1"
    new, by_vectors = hard.query(path, schema), cli("search", path, "c", "storm", "--json").output
    downgrade(path)
    assert fulltext_of(path) is None
    assert cli("search", path, "c", "storm", "--json").output == by_vectors
    with closing(sqlite3.connect(path)) as conn:
        register(conn)
        (same,) = conn.execute("select embed_hybrid('c', 'storm') = embed_search('c', 'storm')").fetchone()
        assert same
    cli("status", path)
    assert "nothing changed" not in build(path, **collection)
    assert [name for name, _ in hard.query(path, schema)] == [name for name, _ in new]
    assert matches(path, "storm") == ["a"]
    assert hard.query(path, "select noise_floor is not null from embeddings_collections") == [(1,)]
    assert "nothing changed" in build(path, **collection)


HOSTILE = [
    '"',
    '""',
    '"""',
    'storm"',
    '"storm',
    "'; drop table t; --",
    "storm AND",
    "OR",
    "NOT storm",
    "storm NEAR rain",
    "NEAR(storm rain, 2)",
    "storm*",
    "*",
    "^storm",
    "^",
    "(storm",
    ")storm(",
    "title:storm",
    "{title body} : storm",
    "- title : storm",
    "storm + rain",
    "storm\0rain",
    '"storm\0rain"',
    '"\0"',
    "\0",
    "🚆",
    '"🚆" storm',
    "👩‍👩‍👧 storm",
    "storm\n\train",
    "\u202estorm",
    "e\u0301",
    "हिन्दी storm",
    "a" * 8000,
    "storm " * 1333,
    " ".join(f"w{n}" for n in range(1400)),
    "\\",
    "%_",
    "--",
    "\x02storm\x03",
    "rank",
    "storm:rank",
    '"storm" "rain"',
    '""storm""',
]


@pytest.mark.parametrize("own", [False, True])
def test_nothing_that_a_visitor_types_breaks_a_search(tmp_path: Path, own: bool) -> None:
    """Quotes, operators, parentheses, NUL, emoji, 8,000 characters: there is an answer, and the word storm finds the storm."""
    path = make(tmp_path / "x.db", T + ROWS + (FTS.format("title, body, content='t'") if own else ""))
    build(path, table="t", columns=["title", "body"])
    with closing(sqlite3.connect(path)) as conn:
        register(conn)
        for text in HOSTILE:
            found = json.loads(conn.execute("select embed_hybrid('c', ?)", [text]).fetchone()[0])
            assert all(-1 <= hit["score"] <= 1 for hit in found), text
            if "storm" in text and "NOT" not in text:
                assert found[0]["id"] == "a", text
        assert conn.execute("select count(*) from t").fetchone() == (2,)


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        ("café", "cafe"),
        ("cafe", "CAFÉ"),
        ("cafés", "cafe\u0301s"),
        ("cafe\u0301s", "cafés"),
        ("running", "runs"),
        ("libraries", "Library"),
        ("Straße", "straße"),
        ("list_plugins", "list plugins"),
        ("naïve", "NAIVE"),
    ],
)
def test_accents_and_endings_match(tmp_path: Path, held: str, asked: str) -> None:
    """A word is found by its other forms."""
    path = make(tmp_path / "x.db", "create table t (k text primary key, body text);")
    hard.change(path, ("insert into t values ('a', ?), ('b', 'another thing')", [f"the {held} of it"]))
    build(path, table="t", columns=["body"])
    assert matches(path, asked) == ["a"]


def test_identifiers_are_found_first(tmp_path: Path) -> None:
    """What only its exact name tells, vectors alone do not rank first; words and meaning together do."""
    path = make(tmp_path / "x.db", "create table f (name text primary key, code text);")
    rows = [
        ("get_plugins", "def get_plugins(): return each plugin of the list that is installed"),
        (
            "list_plugins",
            "def list_plugins(folder): open it, read every entry, warn. See list_plugins of the other module",
        ),
        ("plugin_names", "def plugin_names(hooks): a plugin has a name, and hooks that it is called by"),
        *((f"open_{n}", f"def open_file_{n}(path): read the file number {n}") for n in range(30)),
    ]
    hard.change(path, *(("insert into f values (?, ?)", row) for row in rows))
    build(path, table="f", columns=["code"])
    with closing(sqlite3.connect(path)) as conn:
        register(conn)
        by_vector = json.loads(conn.execute("select embed_search('c', 'list_plugins')").fetchone()[0])
    assert by_vector[0]["id"] == "get_plugins"
    assert hybrid(path, "list_plugins")[0]["id"] == "list_plugins"


def test_words_that_the_model_does_not_know(tmp_path: Path) -> None:
    """Are found by full-text search alone; without any such word nothing is found, and that is no error."""
    path = make(tmp_path / "x.db", T + ROWS + "insert into t values ('x', 'the 東京 office', '')")
    build(path, table="t", columns=["title", "body"])
    (hit,) = hybrid(path, "東京")
    assert hit["id"] == "x"
    assert 0 < hit["score"] <= 1
    assert hybrid(path, "北京") == hybrid(path, "🚆") == []
    with closing(sqlite3.connect(path)) as conn:
        register(conn)
        found = conn.execute("select embed_hybrid('c', '東京', 10, '[\"a\"]')").fetchone()
        assert found == ("[]",)


def test_word_of_every_row_counts_little(tmp_path: Path) -> None:
    """Scores stay in [-1, 1] and above the cosine where every row has the word, and in a collection of one row."""
    path = make(tmp_path / "x.db", T + "insert into t values ('a', 'storm', '')")
    build(path, table="t", columns=["title"])
    (hit,) = hybrid(path, "storm")
    assert hit == {"id": "a", "score": 1.0}
    hard.change(path, "insert into t values ('b', 'storm', ''), ('c', 'storm rain', '')")
    build(path, table="t", columns=["title"])
    assert all(hit["score"] <= 1 for hit in hybrid(path, "storm"))


def test_without_fts5_a_build_and_a_search_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SQLite without FTS5 searches by vectors, and does not build for ever."""
    monkeypatch.setattr(fulltext, "supported", lambda conn: False)
    path = make(tmp_path / "x.db", T + ROWS)
    build(path, table="t", columns=["title"])
    assert names(path) == []
    assert "nothing changed" in build(path, table="t", columns=["title"])
    assert hybrid(path, "storm")[0]["id"] == "a"


def test_raised_scores_do_not_depend_on_what_is_searched_among(tmp_path: Path) -> None:
    """An item's score is of the item and the query alone."""
    path = make(tmp_path / "x.db", T + ROWS)
    build(path, table="t", columns=["title", "body"])
    with closing(sqlite3.connect(path)) as conn:
        register(conn)
        every = dict(
            conn.execute("select value->>'id', value->>'score' from json_each(embed_hybrid('c', 'late goal'))")
        )
        one = conn.execute("select embed_hybrid('c', 'late goal', 10, '[\"b\"]')").fetchone()[0]
        assert json.loads(one) == [{"id": "b", "score": every["b"]}]
        assert len(every) <= search.MAX_K


# Texts in a language that the model was not made for

GERMAN = [
    ("deich", "Der Sturm hat den Deich beschädigt, und die Straßen sind nicht mehr zu befahren."),
    ("pokal", "Das Spiel um den Pokal wurde mit einem Tor in der letzten Minute entschieden."),
    ("brot", "Die Bäcker klagen über die Preise für das Mehl, und das Brot ist teurer als im Jahr zuvor."),
    ("zug", "Die Züge fahren am Montag nicht, weil die Lokführer für einen höheren Lohn streiken."),
]


@pytest.mark.parametrize(("others", "power"), [(0, 0.5), (5, 2)], ids=["german", "mostly english"])
def test_words_count_more_where_the_model_does_not_know_the_language(tmp_path: Path, others: int, power: float) -> None:
    """As the texts that are there now are, also where a build finds little to do."""
    path = make(tmp_path / "t.db", "create table t (k text primary key, body text)")
    english = [
        (f"e{n}", f"The storm of the year {n} was over, and it was in the news for a week.") for n in range(others)
    ]
    hard.change(path, *(("insert into t values (?, ?)", row) for row in (*GERMAN, *english)))
    build(path, table="t", columns=["body"])
    share = len(GERMAN) / (len(GERMAN) + others)
    assert hard.query(path, "select foreign_share from embeddings_collections") == [(pytest.approx(share),)]
    with closing(sqlite3.connect(path)) as conn:
        register(conn)
        tables = find_tables(conn)
        index = fulltext.text_index(conn, tables, find_collection(conn, "c", tables))
        shares = index.shares(conn, fulltext.terms("Preise Mehl Hafen"))
        found = dict(
            conn.execute(
                "select json_extract(value, '$.id'), json_extract(value, '$.score') from json_each(embed_hybrid('c', 'Preise Mehl Hafen'))"
            )
        )
        cosines = dict(
            conn.execute(
                "select json_extract(value, '$.id'), json_extract(value, '$.score') from json_each(embed_search('c', 'Preise Mehl Hafen'))"
            )
        )
    assert 0 < shares["brot"] < 1
    for item, cosine in cosines.items():
        assert found[item] == pytest.approx(cosine + (1 - cosine) * shares.get(item, 0.0) ** power, abs=2e-6)
    hard.change(path, ("delete from t where k != ?", ["brot"]))
    build(path, table="t", columns=["body"])
    assert hard.query(path, "select foreign_share from embeddings_collections") == [(1.0,)]
