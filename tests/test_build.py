"""What a build must not do: lose items, send or spend unasked, trust a bad vector, forget what was refused."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import make_news
from openai_server import OpenAIServer
from test_cli import ARTICLES, configure

from datasette_embeddings.models import get_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PETS = b'{"id": 1, "text": "a cat"}\n{"id": 2, "text": "a dog"}\n{"id": 3, "text": "a horse"}\n'
ONE = b'{"id": 4, "text": "a mouse"}\n'


def ids(path: Path, name: str = "pets") -> list[str]:
    """Return the ids of a collection."""
    with sqlite3.connect(path) as conn:
        sql = "select e.id from embeddings e join collections c on c.id = e.collection_id where c.name = ? order by 1"
        return [row[0] for row in conn.execute(sql, [name])]


@pytest.mark.parametrize("changed", [("--prepend", "doc: "), ("--template", "{{ text }}!")])
def test_other_options_do_not_drop_items(tmp_path: Path, cli: Callable, changed: tuple[str, str]) -> None:
    """A pipe with some rows and another prefix or template is refused, unless it brings everything or may delete."""
    path = tmp_path / "pets.db"
    cli("embed", path, "pets", "-", stdin=PETS)
    said = cli("embed", path, "pets", "-", *changed, stdin=ONE, code=1).output
    assert "3 of its items are not in this source" in said
    assert ids(path) == ["1", "2", "3"]
    cli("embed", path, "pets", "-", *changed, stdin=PETS + ONE)
    assert ids(path) == ["1", "2", "3", "4"]
    assert "4 removed" in cli("embed", path, "pets", "-", "--delete-missing", stdin=b'{"id": 9, "text": "x y"}').output
    assert ids(path) == ["9"]


def test_collections_of_another_making_are_left_alone(built: Path, cli: Callable) -> None:
    """`add` and `build` do not take over what `embed` made, nor `embed` what `add` made."""
    cli("embed", built, "pets", "-", stdin=PETS)
    with sqlite3.connect(built) as conn:
        conn.execute("create table pets (id integer primary key, text text)")
        conn.execute("insert into pets values (1, 'a tame cat')")
    assert "was made by `embed`" in cli("add", built, "pets", code=1).output
    configure(built.parent, collections={"pets": {"table": "pets", "columns": ["text"]}})
    assert "was made by `embed`" in cli("build", built.parent, code=1).output
    assert "was made by `add`" in cli("embed", built, "articles", "-", stdin=PETS, code=1).output
    assert ids(built) == ["1", "2", "3"]


def test_collections_of_llm_are_not_emptied(built: Path, cli: Callable) -> None:
    """What llm made is adopted where the table has all of it, and refused where items would go."""
    with sqlite3.connect(built) as conn:
        conn.execute("create table notes (id text primary key, text text)")
        conn.executemany("insert into notes values (?, ?)", [("x1", "first words"), ("x2", "second words")])
        conn.execute("insert into collections (name, model) values ('notes', 'static')")
        number = conn.execute("select id from collections where name = 'notes'").fetchone()[0]
        blob = conn.execute("select embedding from embeddings limit 1").fetchone()[0]
        sql = "insert into embeddings (collection_id, id, embedding, updated) values (?, ?, ?, 0)"
        conn.executemany(sql, [(number, "x1", blob), (number, "lost", blob)])
    assert "made by llm and holds 1 items" in cli("add", built, "notes", code=1).output
    with sqlite3.connect(built) as conn:
        conn.execute("insert into notes values ('lost', 'third words')")
    cli("add", built, "notes")
    assert ids(built, "notes") == ["lost", "x1", "x2"]


def test_a_swap_counts_what_goes(built: Path, cli: Callable) -> None:
    """A changed template replaces the collection; rows that left at the same time are counted as removed."""
    configure(built.parent, collections={"titles": {**ARTICLES, "columns": ["title"]}})
    cli("build", built.parent, "--only", "titles")
    with sqlite3.connect(built) as conn:
        conn.execute("delete from articles where topic = 'sport'")
    configure(built.parent, collections={"titles": {**ARTICLES, "columns": ["title", "topic"]}})
    assert "2 gone" in cli("build", built.parent, "--only", "titles", "--dry-run").output
    assert "2 removed" in cli("build", built.parent, "--only", "titles").output


@pytest.fixture
def remote(news: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, OpenAIServer, dict[str, Any]]]:
    """A priced model on a server that counts as remote."""
    with OpenAIServer() as server:
        models = {"openai/any": {"base_url": server.url, "price": 1000.0}}
        monkeypatch.setattr(get_model("openai/any", models), "remote", True)
        yield news, server, models


def test_a_change_to_a_remote_model_is_asked_about(remote: Any, cli: Callable) -> None:
    """That a local model was used before says nothing about sending texts away now."""
    news, server, models = remote
    configure(news.parent, models=models, collections={"articles": ARTICLES})
    cli("build", news.parent)
    configure(news.parent, models=models, collections={"articles": {**ARTICLES, "model": "openai/any"}})
    assert "send 8 texts" in cli("build", news.parent, code=1).output
    assert server.calls == 0


def test_the_limit_is_for_the_whole_run(remote: Any, cli: Callable) -> None:
    """Three collections, in two files, share one budget."""
    news, server, models = remote
    make_news(news.with_name("more.db"))
    wanted = {
        f"c{n}": {**ARTICLES, "columns": [column], "model": "openai/any", "database": database}
        for n, (column, database) in enumerate([("title", "news"), ("body", "news"), ("topic", "more")])
    }
    configure(news.parent, models=models, collections=wanted)
    cli("build", news.parent, "--only", "c0", "--yes")
    for path in news.parent.glob("*.db"):
        path.unlink()
        make_news(path)
    spent = sum(len(text.split()) for text in server.texts) / 1000
    paid = len(server.texts)
    said = cli("build", news.parent, "--yes", "--max-cost", f"{spent * 1.5}", code=1).output
    assert "is reached" in said
    assert sum(len(text.split()) for text in server.texts[paid:]) / 1000 <= spent * 1.5


def test_a_limit_needs_a_price(remote: Any, cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody knows what a model costs, a limit cannot be kept and nothing is sent."""
    news, server, models = remote
    monkeypatch.setattr(get_model("openai/any", models), "usd_per_million_tokens", None)
    configure(news.parent, models=models, collections={"articles": {**ARTICLES, "model": "openai/any"}})
    assert "set `price`" in cli("build", news.parent, "--yes", "--max-cost", "1", code=1).output
    assert server.calls == 0
    configure(
        news.parent,
        models=models,
        limits={"max_cost_usd": 0},
        collections={"articles": {**ARTICLES, "model": "openai/any"}},
    )
    assert "set `price`" in cli("build", news.parent, "--yes", code=1).output


def test_bad_vectors_are_not_reused(built: Path, tmp_path: Path, cli: Callable, query: Callable) -> None:
    """NaN, zeros and cut vectors in the earlier file are embedded anew."""
    old = built.rename(tmp_path / "old.file")
    bad = [b"\0\0\xc0\x7f" * 256, b"\0" * 1024, b"\0\0\x80\x3f" * 255]
    with sqlite3.connect(old) as conn:
        chosen = conn.execute("select id from embeddings order by id limit 3").fetchall()
        conn.executemany(
            "update embeddings set embedding = ? where id = ?", [(b, i) for b, (i,) in zip(bad, chosen, strict=False)]
        )
    make_news(built)
    configure(tmp_path, collections={"articles": ARTICLES})
    assert "3 texts embedded, 5 vectors reused" in cli("build", built, "--reuse", old).output
    sql = "select count(*) from embeddings where embed_valid(embedding) and abs(embed_dot(embedding, embedding) - 1) < 1e-5"
    assert query(built, sql) == [(8,)]


def test_similarities_alone_remember_what_was_refused(tmp_path: Path, cli: Callable) -> None:
    """After `similarities`, a text that the model knows no word of is still not asked about again."""
    path = tmp_path / "pets.db"
    rows = PETS + '{"id": 7, "text": "猫"}\n'.encode()
    said = cli("embed", path, "pets", "-", stdin=rows).output
    assert "1 skipped" in said
    assert "0 removed" in said
    cli("similarities", path, "pets", "-n", "1")
    assert "Nothing changed." in cli("embed", path, "pets", "-", "-n", "1", stdin=rows).output


def test_rows_of_a_pipe_survive_another_build(tmp_path: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that commits between the reading of a pipe and its writing takes no row away from it."""
    from datasette_embeddings import build as building

    path = tmp_path / "pets.db"
    cli("embed", path, "other", "-", stdin=PETS)
    real = building._ask_before_sending
    began = threading.Event()

    def meanwhile(*arguments: Any) -> None:
        real(*arguments)
        if not began.is_set():
            began.set()
            cli("embed", path, "other", "-", stdin=ONE)

    monkeypatch.setattr(building, "_ask_before_sending", meanwhile)
    assert "3 rows: 3 embedded" in cli("embed", path, "pets", "-", stdin=PETS).output
    assert ids(path) == ["1", "2", "3"]
    assert json.loads(cli("status", path, "--json").output)[0]["rows"] == 4


def test_the_old_collection_serves_until_the_new_one_is_whole(news: Path, cli: Callable) -> None:
    """A changed template is built beside what is there: readers see all of the old, then all of the new."""
    with OpenAIServer() as server:
        wanted = {**ARTICLES, "model": "openai/any"}
        models = {"openai/any": {"base_url": server.url, "batch_items": 2, "price": 1}}
        configure(news.parent, models=models, collections={"articles": wanted})
        cli("build", news.parent)
        before = vectors_of(news)
        seen = []
        server.refuse = lambda text: bool(seen.append(vectors_of(news)))
        changed = {key: value for key, value in wanted.items() if key != "columns"}
        configure(
            news.parent, models=models, collections={"articles": {**changed, "template": "{{ topic }}: {{ title }}"}}
        )
        cli("build", news.parent)
    assert len(seen) == len(before) == 8
    assert all(during == before for during in seen)
    assert vectors_of(news).keys() == before.keys()
    assert not set(vectors_of(news).values()) & set(before.values())


def vectors_of(path: Path) -> dict[str, bytes]:
    """Return id -> vector of the collection that serves under the name `articles`."""
    with sqlite3.connect(path) as conn:
        sql = "select e.id, e.embedding from embeddings e join collections c on c.id = e.collection_id where c.name = 'articles'"
        return dict(conn.execute(sql).fetchall())
