"""Malformed vectors, configurations and templates; and: what leaves the source leaves the file."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
import struct
from contextlib import closing

import hard
import pytest
from datasette.app import Datasette
from datasette.utils import StartupError
from openai_server import OpenAIServer

from datasette_embeddings import register
from datasette_embeddings.config import parse
from datasette_embeddings.errors import ConfigError

NAN, INF = math.nan, math.inf


def floats(*values, order="<"):
    return struct.pack(f"{order}{len(values)}f", *values)


@pytest.fixture
def server():
    with OpenAIServer(dimensions=8) as running:
        yield running


# Vectors

GOOD = floats(*range(1, 9))
MALFORMED = {
    "empty": b"",
    "1 byte": b"a",
    "2 bytes": b"ab",
    "3 bytes": b"abc",
    "5 bytes": b"abcde",
    "one byte more": GOOD + b"x",
    "one byte less": GOOD[:-1],
    "three bytes more": GOOD + b"xyz",
    "NaN first": floats(NAN, *range(7)),
    "NaN last": floats(*range(7), NAN),
    "only NaN": floats(*[NAN] * 8),
    "negative NaN": struct.pack("<8I", *[0xFFC00000] * 8),
    "signalling NaN": struct.pack("<8I", *[0x7F800001] * 8),
    "infinite": floats(INF, *range(7)),
    "minus infinite": floats(*range(7), -INF),
    "both infinite": floats(INF, -INF, *range(6)),
    "float64 NaN": struct.pack("<4d", *[NAN] * 4),
    "text": "[1,2,3,4,5,6,7,8]",
    "text of 32 bytes": "x" * 32,
    "empty text": "",
    "integer": 7,
    "zero": 0,
    "float": 0.5,
    "huge integer": 2**62,
    "1 MB": b"\0\0\x80?" * 262_144,
    "65,537 dimensions": b"\0\0\x80?" * 65_537,
    "json": json.dumps([1.0] * 8).encode()[:31],
}
ODD = {
    "zeros": floats(*[0.0] * 8),
    "minus zeros": floats(*[-0.0] * 8),
    "subnormal": floats(*[1e-45] * 8),
    "tiny": floats(*[1e-30] * 8),
    "huge": floats(*[3e38] * 8),
    "huge and tiny": floats(3e38, 1e-38, *[0.0] * 6),
    "mixed signs": floats(*[3e38, -3e38] * 4),
    "big-endian": floats(*range(1, 9), order=">"),
    "float64": struct.pack("<4d", 1, 2, 3, 4),
    "one dimension": floats(1.0),
    "seven dimensions": floats(*range(7)),
    "nine dimensions": floats(*range(9)),
    "sixteen dimensions": floats(*range(16)),
    "not of unit length": floats(*[100.0] * 8),
}
FUNCTIONS = [
    "embed_decode({0})", "embed_dimensions({0})", "embed_normalize({0})", "embed_scale({0}, 2)",
    "embed_cosine({0}, {1})", "embed_cosine({1}, {0})", "embed_dot({0}, {1})", "embed_dot({1}, {0})",
    "embed_l2({0}, {1})", "embed_l2({1}, {0})", "embed_add({0}, {1})", "embed_add({1}, {0})",
    "embed_subtract({0}, {1})", "embed_subtract({1}, {0})", "embed_spectrum({0}, {1}, embed_scale({1}, -1))",
    "embed_spectrum({1}, {0}, {2})", "embed_spectrum({1}, {2}, {0})",
    "(select embed_average(v) from (select {0} as v))", "(select embed_average(v) from (select {1} as v union all select {0}))",
]  # fmt: skip


@pytest.fixture(scope="module")
def conn():
    with closing(sqlite3.connect(":memory:")) as conn:
        register(conn)
        yield conn


def outcome(conn, function, value):
    """Return what a function gives for a value beside a good vector, "error" where it refuses."""
    sql = "select " + function.format("?1", "?2", "?3")
    try:
        return conn.execute(
            sql,
            [value, GOOD, floats(*range(8, 0, -1))][: 3 if "{2}" in function else 2 if "{1}" in function else 1],
        ).fetchone()[0]
    except sqlite3.OperationalError as error:
        assert "user-defined" in str(error)
        return "error"


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_vector_is_an_error_everywhere(conn, value):
    assert conn.execute("select embed_valid(?)", [value]).fetchone() == (0,)
    given = {function: outcome(conn, function, value) for function in FUNCTIONS}
    assert given == dict.fromkeys(FUNCTIONS, "error")


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_odd_vectors_give_a_right_value_or_an_error_and_never_nan(conn, value):
    assert conn.execute("select embed_valid(?)", [value]).fetchone() == (1,)
    for function in FUNCTIONS:
        got = outcome(conn, function, value)
        assert got is not None, function
        if isinstance(got, float):
            assert math.isfinite(got), function
        elif isinstance(got, bytes):
            assert all(map(math.isfinite, struct.unpack(f"<{len(got) // 4}f", got))), function
        if len(value) != len(GOOD) and "{1}" in function:
            assert got == "error", function
    a, b = (struct.unpack("<8f", v) for v in (value, GOOD)) if len(value) == 32 else ((), ())
    lengths = math.hypot(*a) * math.hypot(*b) if a else 0
    if lengths:
        expected = math.fsum(x / math.hypot(*a) * (y / math.hypot(*b)) for x, y in zip(a, b, strict=True))
        assert outcome(conn, "embed_cosine({0}, {1})", value) == pytest.approx(expected, abs=1e-6)
    elif a:
        assert outcome(conn, "embed_cosine({0}, {1})", value) == "error"


def test_null_gives_null(conn):
    for function in FUNCTIONS:
        if "average" not in function:
            assert outcome(conn, function, None) is None, function


def test_a_collection_that_holds_malformed_vectors(tmp_path, server):
    path = tmp_path / "data.db"
    hard.change(path, "create table t (id text primary key, body text)")
    hard.change(path, *(("insert into t values (?, ?)", [f"ok {n}", f"text {n} of {n % 3}"]) for n in range(6)))
    config = hard.write_config(
        tmp_path / "config.json", server, {"c": {"table": "t", "columns": ["body"], "similarities": 3}}
    )
    hard.run("build", path, "-c", config)
    before = [json.loads(r) for r in (search(path, config), similar(path))]
    stored = hard.tables_of(path, "c")["similarities"]
    bad = {
        **MALFORMED,
        "null": None,
        **{n: ODD[n] for n in ("zeros", "nine dimensions", "one dimension", "float64 NaN") if n in ODD},
    }
    bad.pop("1 MB")
    rows = [
        ("insert into embeddings (collection_id, id, embedding) values (1, ?, ?)", [f"bad {n}", v])
        for n, v in bad.items()
    ]
    hard.change(path, *rows)
    assert [json.loads(r) for r in (search(path, config), similar(path))] == before
    hard.run("similarities", path, "c", "-n", 3)
    assert hard.tables_of(path, "c")["similarities"] == stored
    assert "malformed" in hard.run("status", path).output
    for name in bad:
        output = hard.run("similar", path, "c", f"bad {name}", expect=1).output
        assert output.startswith("Error: ")
    with closing(sqlite3.connect(path)) as conn:
        register(conn)
        found = conn.execute(
            "select embed_search('c', (select embedding from embeddings where id = 'ok 1'), 100)"
        ).fetchone()
        assert {hit["id"] for hit in json.loads(found[0])} == {f"ok {n}" for n in range(6)}
    hard.run("build", path, "-c", config)
    assert hard.account(path, "c") == (6, 6, 0, 0)


def search(path, config):
    return hard.run("search", path, "c", "text 1", "-c", config, "--json").output


def similar(path):
    return hard.run("similar", path, "c", "ok 1", "--json").output


def test_a_collection_of_mixed_dimensions_takes_those_that_most_have(tmp_path):
    path = tmp_path / "llm.db"
    hard.change(
        path,
        "create table collections (id integer primary key, name text, model text)",
        "create table embeddings (collection_id integer, id text, embedding blob, content text, content_blob blob, "
        "content_hash blob, metadata text, updated integer, primary key (collection_id, id))",
        "insert into collections values (1, 'c', 'some model that nobody has')",
        *(
            (
                "insert into embeddings (collection_id, id, embedding) values (1, ?, ?)",
                [str(n), floats(n, 1, 2)],
            )
            for n in range(4)
        ),
        ("insert into embeddings (collection_id, id, embedding) values (1, 'long', ?)", [GOOD]),
    )
    hard.run("similarities", path, "c", "-n", 2)
    assert {row[0] for row in hard.query(path, "select id from similarities")} == {"0", "1", "2", "3"}


def test_a_model_that_changes_its_dimensions_is_refused(tmp_path, server):
    path = tmp_path / "data.db"
    hard.change(path, "create table t (id integer primary key, body text)", "insert into t values (1, 'one')")
    spec = {"c": {"table": "t", "columns": ["body"]}}
    hard.run("build", path, "-c", hard.write_config(tmp_path / "a.json", server, spec))
    before = hard.tables_of(path, "c")
    hard.change(path, "insert into t values (2, 'two')")
    with OpenAIServer(dimensions=16) as other:
        output = hard.run("build", path, "-c", hard.write_config(tmp_path / "b.json", other, spec), expect=1).output
    assert "--rebuild" in output
    assert hard.tables_of(path, "c")["embeddings"] == before["embeddings"]


# Configuration

TABLE = {"table": "t", "columns": ["body"]}
CONFIGS = {
    "unknown key": ({"colections": {}}, "did you mean collections?"),
    "unknown key of a collection": (
        {"collections": {"c": {**TABLE, "simlarities": 3}}},
        "did you mean similarities?",
    ),
    "unknown limit": ({"limits": {"max_cost": 3}}, "did you mean max_cost_usd?"),
    "limit that is text": ({"limits": {"max_cost_usd": "much"}}, "limits.max_cost_usd"),
    "negative limit": ({"limits": {"max_cost_usd": -1}}, "a number from 0 on"),
    "limit true": ({"limits": {"max_cost_usd": True}}, "a number from 0 on"),
    "list": ([1], "keys and values were expected"),
    "text": ("hello", "keys and values were expected"),
    "collections list": ({"collections": [TABLE]}, "keys and values were expected"),
    "collection null": ({"collections": {"c": None}}, "keys and values were expected"),
    "collection text": ({"collections": {"c": "t"}}, "keys and values were expected"),
    "name with a space": ({"collections": {"a b": TABLE}}, "letters, digits and _"),
    "name with a quote": ({"collections": {"a'": TABLE}}, "letters, digits and _"),
    "empty name": ({"collections": {"": TABLE}}, "letters, digits and _"),
    "no source": ({"collections": {"c": {"columns": ["a"]}}}, "either `table` or `sql`"),
    "columns beside sql": ({"collections": {"c": {"sql": "select 1, 2", "columns": ["x"]}}}, "belongs to `table`"),
    "two sources": ({"collections": {"c": {**TABLE, "sql": "select 1, 2"}}}, "either `table` or `sql`"),
    "nothing to embed": ({"collections": {"c": {"table": "t"}}}, "say what is embedded"),
    "columns and template": ({"collections": {"c": {**TABLE, "template": "x"}}}, "say what is embedded"),
    "columns number": ({"collections": {"c": {"table": "t", "columns": 5}}}, "a column name or a list"),
    "columns of numbers": ({"collections": {"c": {"table": "t", "columns": [1]}}}, "a column name or a list"),
    "table number": ({"collections": {"c": {"table": 5, "columns": "a"}}}, "str was expected"),
    "similarities text": ({"collections": {"c": {**TABLE, "similarities": "ten"}}}, "int was expected"),
    "similarities true": ({"collections": {"c": {**TABLE, "similarities": True}}}, "int was expected"),
    "similarities negative": ({"collections": {"c": {**TABLE, "similarities": -1}}}, "from 0 to 1000"),
    "similarities huge": ({"collections": {"c": {**TABLE, "similarities": 10**9}}}, "from 0 to 1000"),
    "store text": ({"collections": {"c": {**TABLE, "store": "yes"}}}, "bool was expected"),
    "prefix list": ({"collections": {"c": {**TABLE, "prefix": ["a"]}}}, "keys and values were expected"),
    "prefix unknown": ({"collections": {"c": {**TABLE, "prefix": {"doc": "a"}}}}, "unknown key 'doc'"),
    "model number": ({"collections": {"c": {**TABLE, "model": 3}}}, "str was expected"),
    "default model list": ({"default_model": ["static"]}, "str was expected"),
    "allow_sql text": ({"allow_sql": "yes"}, "bool was expected"),
    "models list": ({"models": ["minilm"]}, "keys and values were expected"),
    "model settings text": ({"models": {"minilm": "fast"}}, "keys and values were expected"),
    "number as key": ({5: 6}, "unknown key 5"),
}


@pytest.mark.parametrize("case", CONFIGS.values(), ids=CONFIGS)
def test_a_wrong_configuration_names_its_place(case):
    block, message = case
    with pytest.raises(ConfigError) as raised:
        parse(block, "metadata.yml")
    assert str(raised.value).startswith("metadata.yml")
    assert message in str(raised.value)


CANARY = "sk-canary-0123456789"
SECRETS = [
    {"models": {"openai/x": {"api_key": CANARY}}},
    {"models": {"openai/x": {"OPENAI_API_KEY": CANARY}}},
    {"models": {"openai/x": {"key": CANARY}}},
    {"models": {"openai/x": {"key": [CANARY]}}},
    {"models": {"openai/x": {"credentials": {"openai": CANARY}}}},
    {"models": {"openai/x": {"headers": {"Authorization": f"Bearer {CANARY}"}}}},
    {"models": {"openai/x": {"headers": {"x-api-key": CANARY}}}},
    {"models": {"openai/x": {"api_key": {"$env": "A", "default": CANARY}}}},
    {"models": {"openai/x": {"base_url": f"https://user:{CANARY}@example.com/v1"}}},
    {"models": {"openai/x": {"token": 123456789}}},
    {"api_key": CANARY},
    {"collections": {"c": {**TABLE, "api_key": CANARY}}},
]


@pytest.mark.parametrize("block", SECRETS, ids=str)
def test_a_literal_key_is_refused_and_not_shown(block):
    with pytest.raises(ConfigError, match="from the environment only") as raised:
        parse(block, "metadata.yml")
    assert CANARY not in str(raised.value)


def test_what_only_looks_like_a_secret_is_not_refused():
    parse(
        {
            "collections": {
                "token": {
                    "table": "secret",
                    "columns": ["password"],
                    "key": ["key"],
                    "where": "token = 'x:y@z'",
                },
                "api_key": {"table": "t", "columns": "token", "key": "id"},
            },
            "models": {"llm/my_key": {"max_tokens": 5}, "openai/x": {"api_key": {"$env": "MY_KEY"}}},
        }
    )


@pytest.mark.parametrize(
    "text", ["{", "plugins: [", "plugins: 5", "- a", "\tx", "a: b: c", "plugins:\n  datasette-embeddings: 7"]
)
def test_a_configuration_file_that_is_no_mapping(tmp_path, text):
    (tmp_path / "metadata.yml").write_text(text)
    hard.change(tmp_path / "data.db", "create table t (id integer primary key, body text)")
    assert "metadata.yml" in hard.run("build", tmp_path, expect=1).output
    assert "metadata.yml" in hard.run("build", tmp_path / "data.db", "-c", tmp_path / "metadata.yml", expect=1).output


@pytest.mark.parametrize(
    "content",
    [
        {"plugins": {"datasette-embeddings-suite": {"collections": {}}}},
        {"plugins": {"datasette_embeddings": {"collections": {}}}},
        {"datasette-embeddings": {"collections": {}}},
        {"databases": {"t": {"plugins": {"datasette-embeddings": {"collections": {}}}}}},
    ],
)
def test_a_configuration_that_nothing_would_read_is_refused(tmp_path, content):
    """By builds and, under another name, at start-up: it is no configuration with nothing in it."""
    (tmp_path / "metadata.json").write_text(json.dumps(content))
    hard.change(tmp_path / "t.db", "create table t (id integer primary key, body text)")
    for path in (tmp_path, tmp_path / "t.db"):
        assert "'datasette-embeddings'" in hard.run("build", path, expect=1).output
    if (
        "plugins" in content
    ):  # Datasette 1.0 reads nothing but `plugins` and `databases` of a metadata file into its configuration
        with pytest.raises(StartupError, match="'datasette-embeddings'"):
            asyncio.run(Datasette(config_dir=tmp_path).invoke_startup())


def test_a_configuration_in_two_places_is_refused(tmp_path):
    for name in ("metadata.yml", "datasette.yml"):
        (tmp_path / name).write_text("plugins:\n  datasette-embeddings: {collections: {c: {table: t, columns: [a]}}}")
    hard.change(tmp_path / "data.db", "create table t (id integer primary key, a text)")
    output = hard.run("build", tmp_path, expect=1).output
    assert "both metadata.yml and datasette.yml" in output


# Templates

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ body.__class__ }}",
    "{{ cycler.__init__.__globals__.os.popen('touch {marker}').read() }}",
    "{{ lipsum.__globals__['os'].system('touch {marker}') }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__['__builtins__'] }}",
    "{{ self.__init__.__globals__ }}",
    "{{ ''['__cla' ~ 'ss__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ '{0.__class__}'.format(body) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}x",
    "{{ [].append(1) }}",
    "{{ body.foo.bar }}",
    "{{ 1 / 0 }}",
    "{{ 'x' * 10**12 }}",
    "{% for i in range(10**9) %}x{% endfor %}",
    "{{ '{nothing}'.format() }}",
    "{{ [1][5] + 1 }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_a_template_reaches_nothing_but_its_row(tmp_path, server, template):
    path, marker = tmp_path / "data.db", tmp_path / "marker"
    hard.change(path, "create table t (id integer primary key, body text)", "insert into t values (1, 'one')")
    spec = {"c": {"table": "t", "template": template.replace("{marker}", str(marker)), "store": True}}
    config = hard.write_config(tmp_path / "config.json", server, spec)
    output = hard.run("build", path, "-c", config, expect=None).output
    assert "fails on this row" in output or "Error: " in output
    assert (server.texts, marker.exists()) == ([], False)


@pytest.mark.parametrize("template", ["{{ body", "{% if %}", "{{ body|no_such_filter }}", "{% nothing %}"])
def test_a_template_that_is_none_is_refused(tmp_path, server, template):
    path = tmp_path / "data.db"
    hard.change(path, "create table t (id integer primary key, body text)", "insert into t values (1, 'one')")
    config = hard.write_config(tmp_path / "config.json", server, {"c": {"table": "t", "template": template}})
    assert "is not valid Jinja" in hard.run("build", path, "-c", config, expect=1).output


def test_a_template_with_a_wrong_column_is_told_the_nearest(tmp_path, server):
    path = tmp_path / "data.db"
    hard.change(path, "create table t (id integer primary key, body text)", "insert into t values (1, 'one')")
    config = hard.write_config(tmp_path / "config.json", server, {"c": {"table": "t", "template": "{{ bodi }}"}})
    assert "did you mean body?" in hard.run("build", path, "-c", config, expect=1).output


# What leaves the source leaves the file

TRACE = "canary " + "zebracanarytext " * 40


@pytest.mark.parametrize("mode", ["delete", "wal", "truncate"])
@pytest.mark.parametrize("store", [False, True], ids=["not stored", "stored"])
@pytest.mark.parametrize("edit", ["delete from t where id = 7", "update t set body = 'short' where id = 7",
                                  "update t set body = null where id = 7"], ids=["deleted", "changed", "emptied"])  # fmt: skip
def test_what_leaves_the_source_leaves_the_file(tmp_path, server, mode, store, edit):
    path = tmp_path / "data.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(f"pragma journal_mode = {mode}")
    hard.change(path, "create table t (id integer primary key, body text)")
    hard.change(path, *(("insert into t values (?, ?)", [n, f"text {n} " + "filler " * n]) for n in range(1, 30)))
    hard.change(path, ("update t set body = ? where id = 7", [TRACE]))
    spec = {"c": {"table": "t", "columns": ["body"], "store": store, "similarities": 3}}
    config = hard.write_config(tmp_path / "config.json", server, spec)
    hard.run("build", path, "-c", config)
    ((vector,),) = hard.query(path, "select embedding from embeddings where id = '7'")
    assert b"zebracanary" in path.read_bytes()
    assert vector in path.read_bytes()
    hard.change(path, edit)
    hard.run("build", path, "-c", config)
    for file in tmp_path.glob("data.db*"):
        assert b"zebracanary" not in file.read_bytes()
        assert vector not in file.read_bytes()


def test_a_build_that_was_interrupted_is_cleared_up_by_the_next(tmp_path, server, monkeypatch):
    from datasette_embeddings.store import Store

    path = tmp_path / "data.db"
    hard.change(path, "create table t (id integer primary key, body text)", ("insert into t values (1, ?)", [TRACE]))
    hard.change(path, "insert into t values (2, 'other')")
    config = hard.write_config(tmp_path / "config.json", server, {"c": {"table": "t", "columns": ["body"]}})
    hard.run("build", path, "-c", config)
    hard.change(path, "delete from t where id = 1")

    def interrupted(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Store, "scrub", interrupted)
        hard.run("build", path, "-c", config, expect=1)
    assert b"zebracanary" in path.read_bytes()
    hard.run("build", path, "-c", config)
    assert b"zebracanary" not in path.read_bytes()
    assert "Nothing changed" in hard.run("build", path, "-c", config).output


def test_a_change_of_model_that_was_taken_back_leaves_nothing(tmp_path, server):
    path = tmp_path / "data.db"
    hard.change(path, "create table t (id integer primary key, body text)")
    hard.change(path, *(("insert into t values (?, ?)", [n, f"text {n}"]) for n in range(9)))
    spec = {"table": "t", "columns": ["body"], "store": True}
    one = hard.write_config(tmp_path / "one.json", server, {"c": spec}, batch_items=2)
    two = hard.write_config(tmp_path / "two.json", server, {"c": {**spec, "model": "openai/two"}}, batch_items=2)
    hard.run("build", path, "-c", one)
    from openai_server import status

    server.script(None, None, status(500))
    hard.run("build", path, "-c", two, expect=1)
    assert len(hard.query(path, "select * from collections")) == 2
    hard.run("build", path, "-c", one)
    assert hard.query(path, "select name from collections") == [("c",)]
    assert hard.query(path, "select count(*) from embeddings") == [(9,)]


def schema(path):
    return hard.query(path, "select type, name, tbl_name, sql from sqlite_master order by 1, 2")


def test_delete_all_leaves_the_schema_as_it_was(tmp_path, server):
    path = hard.hard_database(tmp_path / "hard.db")
    before, rows = schema(path), hard.query(path, "select rowid, * from nokey")
    spec = {
        "c": {"table": "nokey", "columns": ["text"]},
        "d": {"table": "keyed", "columns": ["text"], "store": True},
    }
    hard.run("build", path, "-c", hard.write_config(tmp_path / "config.json", server, spec))
    assert schema(path) != before
    hard.run("delete", path, "--all")
    assert schema(path) == before
    assert hard.query(path, "select rowid, * from nokey") == rows
    assert hard.query(path, "pragma integrity_check") == [("ok",)]


def test_delete_all_keeps_the_collections_of_llm(tmp_path, server):
    import llm
    import sqlite_utils

    class Model(llm.EmbeddingModel):
        model_id = "made for this test"

        def embed_batch(self, items):
            return [[float(len(item)), 1.0, 2.0] for item in items]

    path = tmp_path / "llm.db"
    collection = llm.Collection("theirs", sqlite_utils.Database(path), model=Model())
    collection.embed_multi([(str(n), f"text {n}" * n) for n in range(5)], store=True)
    hard.change(path, "create table t (id integer primary key, body text)", "insert into t values (1, 'one')")
    before, rows = schema(path), hard.query(path, "select * from embeddings order by id")
    migrations = hard.query(path, "select * from _sqlite_migrations")
    hard.run("similarities", path, "theirs")
    spec = {"ours": {"table": "t", "columns": ["body"]}}
    hard.run("build", path, "-c", hard.write_config(tmp_path / "config.json", server, spec))
    assert len(hard.query(path, "select * from collections")) == 2
    hard.run("delete", path, "--all")
    assert schema(path) == before
    assert hard.query(path, "select * from embeddings order by id") == rows
    assert hard.query(path, "select * from _sqlite_migrations") == migrations
