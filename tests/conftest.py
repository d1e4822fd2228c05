"""Fixtures shared by all tests: a small newsroom database, the same one built, and sites that serve it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from datasette_embeddings import register
from datasette_embeddings.cli import embeddings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

ARTICLES = [
    (
        "news/rates",
        "Central bank raises interest rates",
        "Borrowing becomes dearer as inflation stays high.",
        "economy",
    ),
    (
        "news/inflation",
        "Prices climb again",
        "Inflation reached a new peak and households pay more for food.",
        "economy",
    ),
    (
        "news/football",
        "Late goal decides the cup final",
        "The striker scored in the last minute of the match.",
        "sport",
    ),
    ("news/tennis", "Young player wins the tournament", "She won the final in three sets on grass.", "sport"),
    ("news/storm", "Storm floods the coast", "Heavy rain and wind closed roads and railways.", "weather"),
    ("news/heat", "Hottest summer on record", "Temperatures stayed above thirty degrees for weeks.", "weather"),
    ("news/vaccine", "New vaccine approved", "Doctors can give the injection to children from next month.", "health"),
    ("news/hospital", "Hospitals short of nurses", "Patients wait longer for operations.", "health"),
]


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Run `datasette embeddings ...` in this process; fails the test on a traceback, or on another exit code than told."""

    def run(*arguments: object, code: int = 0, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(embeddings, [str(a) for a in arguments], input=stdin)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def news(tmp_path: Path) -> Path:
    """A database with eight short articles, not built."""
    path = tmp_path / "news.db"
    make_news(path)
    return path


def make_news(path: Path) -> None:
    """Write the articles table."""
    with sqlite3.connect(path) as conn:
        conn.execute("create table articles (path text primary key, title text, body text, topic text)")
        conn.executemany("insert into articles values (?, ?, ?, ?)", ARTICLES)
    conn.close()


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The articles, built with the static model; copied by `built` for each test."""
    path = tmp_path_factory.mktemp("built") / "news.db"
    make_news(path)
    result = CliRunner().invoke(embeddings, ["add", str(path), "articles"])
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def built(built_once: Path, tmp_path: Path) -> Path:
    """The articles with embeddings and similarities by the static model."""
    return Path(shutil.copy(built_once, tmp_path / "news.db"))


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    """An in-memory connection with the SQL functions."""
    connection = sqlite3.connect(":memory:")
    register(connection)
    yield connection
    connection.close()


@pytest.fixture
def query() -> Callable[..., list[tuple]]:
    """Run one SQL query on a file with the SQL functions registered; returns all rows."""

    def run(path: Path, sql: str, *parameters: object) -> list[tuple]:
        connection = sqlite3.connect(path)
        try:
            register(connection)
            return connection.execute(sql, parameters).fetchall()
        finally:
            connection.close()

    return run


ODD_IDS = [
    "sl/ash",
    "d.o.t",
    "per%cent",
    "til~de",
    "com,ma",
    "emoji🚆",
    "new\nline",
    "quo\"te'",
    "a b+c&d=e?f#g",
    "//evil.example",
    "/\\evil.example",
    "cr\r\nLocation: https://evil.example",
    "<b>x</b>",
    "item.json",
    "x" * 500,
]
"""Ids that addresses must carry as they are."""

WORLD = """
create table articles (path text primary key, title text, body text, topic text, words integer);
create table odd (id text primary key, title text, body text);
create table compound (city text, number integer, title text, primary key (city, number));
create table numbers (id integer primary key, title text, kind text);
create table untyped (id primary key, title);
create table "my table/x" ("the id" text primary key, "the, title" text);
create table other_key (id integer primary key, slug text unique, title text);
create table plain_rows (title text);
create table notes (id integer primary key, text text);
insert into compound values ('a,b/c', 1, 'storm and rain'), ('a,b/c', 2, 'cup final'), ('til~de', 1, 'wind and rain');
insert into numbers values (7, 'storm and rain', 'x'), (-8, 'cup final', 'y'), (9, 'wind and rain', 'x');
insert into untyped values ('7', 'storm and rain'), ('a', 'cup final'), (12, 'wind and rain');
insert into "my table/x" values ('k 1', 'storm and rain'), ('k/2', 'cup final');
insert into other_key values (1, 's-1', 'storm and rain'), (2, 's-2', 'cup final');
insert into plain_rows values ('storm and rain'), ('cup final');
create view seen as select path, title || ' ' || body as text, topic from articles;
"""
"""Sources of every kind."""


def make_world(path: Path) -> None:
    """Write and build a database with a collection of every kind, made by us and by llm."""
    conn = sqlite3.connect(path)
    conn.executescript(WORLD)
    rows = [(*row, 100 * number) for number, row in enumerate(ARTICLES)]
    conn.executemany("insert into articles values (?, ?, ?, ?, ?)", rows)
    conn.executemany("insert into odd values (?, ?, ?)", [(i, f"Row {i}", "storm and rain") for i in ODD_IDS])
    conn.commit()
    collections = {
        "articles": {"table": "articles", "columns": ["title", "body"]},
        "titles": {"table": "articles", "columns": ["title"], "similarities": 0},
        "odd": {"table": "odd", "columns": ["title", "body"]},
        "compound": {"table": "compound", "columns": ["title"]},
        "numbers": {"table": "numbers", "columns": ["title"], "where": "id != 9"},
        "untyped": {"table": "untyped", "columns": ["title"]},
        "table_x": {"table": "my table/x", "columns": ["the, title"]},
        "other_key": {"table": "other_key", "columns": ["title"], "key": ["slug"]},
        "plain_rows": {"table": "plain_rows", "columns": ["title"]},
        "seen": {"table": "seen", "columns": ["text"], "key": ["path"]},
        "query": {"sql": "select path, title from articles"},
    }
    config = path.with_name("build.json")
    config.write_text(json.dumps({"collections": collections}))
    texts = path.with_name("texts.json")
    texts.write_text(json.dumps([{"id": "p/1", "text": "storm and rain"}, {"id": "p2", "text": "cup final"}]))
    for arguments in (["build", path, "-c", config], ["embed", path, "pipe", texts]):
        result = CliRunner().invoke(embeddings, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
    register(conn)
    conn.execute("insert into collections (name, model) values ('od/d na.me <b>', 'static')")
    conn.execute(
        "insert into embeddings (collection_id, id, embedding, content) "
        "select max(id), 'l1', embed_text('storm'), 'storm' from collections"
    )
    conn.commit()
    conn.close()
    config.unlink()
    texts.unlink()


@pytest.fixture(scope="session")
def world_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of every kind of collection, built; copied by `world` for each test."""
    path = tmp_path_factory.mktemp("world") / "world.db"
    make_world(path)
    return path


@pytest.fixture
def world(world_once: Path, tmp_path: Path) -> Path:
    """A database with a collection of every kind."""
    return Path(shutil.copy(world_once, tmp_path / "world.db"))
