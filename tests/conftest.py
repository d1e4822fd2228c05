"""Fixtures shared by all tests: a small newsroom database, the same one built, and sites that serve it."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import world_of_sources
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
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits between tries, recorded instead of slept."""
    taken: list[float] = []
    monkeypatch.setattr(time, "sleep", taken.append)
    return taken


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


@pytest.fixture(scope="session")
def world_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of every kind of collection, built; copied by `world` for each test."""
    path = tmp_path_factory.mktemp("world") / "world.db"
    world_of_sources.make_world(path, ARTICLES)
    return path


@pytest.fixture
def world(world_once: Path, tmp_path: Path) -> Path:
    """A database with a collection of every kind."""
    return Path(shutil.copy(world_once, tmp_path / "world.db"))
