"""Files shared with the `llm` tool: it reads what we write, and we read what it writes, by its real command."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from datasette.app import Datasette

if TYPE_CHECKING:
    from collections.abc import Callable

LLM = Path(sys.executable).with_name("llm")


@pytest.fixture
def llm(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run the llm command with a home of its own; returns its output."""
    home = tmp_path_factory.mktemp("llm")

    def run(*arguments: object, stdin: str | None = None) -> str:
        done = subprocess.run(
            [str(LLM), *[str(a) for a in arguments]],
            input=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, "LLM_USER_PATH": str(home)},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def schema(path: Path, tables: str) -> list[tuple]:
    """Return what sqlite_master holds of llm's tables."""
    with sqlite3.connect(path) as conn:
        sql = f"select type, name, sql from sqlite_master where tbl_name in ({tables}) order by name"
        return conn.execute(sql).fetchall()


RECORDS = '{"id": 1, "text": "a cat sat on the mat"}\n{"id": 2, "text": "interest rates rise"}\n{"id": 3, "text": "kittens"}\n'


def test_schema_and_migrations_are_those_of_llm(built: Path, llm: Callable, tmp_path: Path) -> None:
    """Tables, indexes and recorded migrations equal those of a file that llm itself made."""
    theirs = tmp_path / "theirs.db"
    llm("embed-multi", "pets", "-", "-m", "static", "-d", theirs, "--format", "nl", stdin=RECORDS)
    llm_tables = "'collections', 'embeddings', '_sqlite_migrations'"
    assert schema(built, llm_tables) == schema(theirs, llm_tables)
    migrations = "select migration_set, name from _sqlite_migrations where migration_set = 'llm.embeddings' order by id"
    with sqlite3.connect(built) as ours, sqlite3.connect(theirs) as other:
        assert ours.execute(migrations).fetchall() == other.execute(migrations).fetchall()


def test_llm_reads_our_file(built: Path, llm: Callable) -> None:
    """`llm collections` and `llm similar` work on what we wrote, by text and by id, with our scores."""
    listed = json.loads(llm("collections", "list", "--json", "-d", built))
    assert listed == [{"name": "articles", "model": "static", "num_embeddings": 8}]
    by_text = [
        json.loads(line) for line in llm("similar", "articles", "-d", built, "-c", "football match").splitlines()
    ]
    assert by_text[0]["id"] in {"news/football", "news/tennis"}
    by_id = [json.loads(line) for line in llm("similar", "articles", "news/rates", "-d", built).splitlines()]
    with sqlite3.connect(built) as conn:
        stored = dict(conn.execute("select other_id, score from similarities where id = 'news/rates'").fetchall())
    assert {row["id"]: pytest.approx(row["score"], abs=1e-5) for row in by_id} == stored


def test_llm_adds_to_our_file_and_the_next_build_follows(built: Path, llm: Callable, cli: Callable) -> None:
    """Rows that llm adds to our file are found, and the similarities take them in."""
    cli("embed", built, "pets", "-", stdin=RECORDS.encode())
    llm("embed", "pets", "4", "-m", "static", "-d", built, "-c", "my cat and her kittens")
    assert "stale" in cli("status", built).output
    cli("similarities", built, "pets")
    with sqlite3.connect(built) as conn:
        sql = "select other_id from similarities where id = '4' order by score desc"
        assert conn.execute(sql).fetchone()[0] in {"1", "3"}


@pytest.mark.asyncio
async def test_file_made_by_llm_works_without_configuration(tmp_path: Path, llm: Callable, cli: Callable) -> None:
    """`datasette FILE` on what llm made: search and related content, before and after `similarities`."""
    path = tmp_path / "pets.db"
    llm("embed-multi", "pets", "-", "-m", "static", "-d", path, "--store", "--format", "nl", stdin=RECORDS)
    assert cli("search", path, "pets", "kitten", "-n", 1).output.split()[1] == "3"
    site = Datasette([str(path)])
    found = (await site.client.get("/pets/search_pets.json?q=kitten&_shape=array")).json()
    assert found[0]["content"] == "kittens"
    before = (await site.client.get("/pets/related_pets.json?id=3&_shape=array")).json()
    assert [row["id"] for row in before] == ["1", "2"]
    cli("similarities", path, "pets")
    site = Datasette([str(path)])
    assert (await site.client.get("/pets/related_pets.json?id=3&_shape=array")).json() == before


def test_we_add_to_a_collection_of_llm(tmp_path: Path, llm: Callable, cli: Callable) -> None:
    """`embed` on a collection that llm made keeps its model, and embeds only what llm has not."""
    path = tmp_path / "pets.db"
    llm("embed-multi", "pets", "-", "-m", "static", "-d", path, "--store", "--format", "nl", stdin=RECORDS)
    more = RECORDS + '{"id": 4, "text": "a puppy"}\n'
    said = cli("embed", path, "pets", "-", stdin=more.encode()).output
    assert "4 rows: 4 embedded" in said
    assert "1 text embedded" in said
    assert len(llm("similar", "pets", "4", "-d", path).splitlines()) == 3


def test_sqlite_utils_has_the_functions(built: Path) -> None:
    """The sqlite-utils command sees the functions through its plugin hook."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("sqlite-utils")),
            str(built),
            "select embed_dimensions(embedding) as d from embeddings limit 1",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [{"d": 256}]
