"""What a search by words and meaning promises, the vectors that it keeps in memory, and how near nonsense comes."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hard
import numpy as np
import pytest
from openai_server import OpenAIServer

from datasette_embeddings import build as building
from datasette_embeddings import indexes, matrices, noise, register, search
from datasette_embeddings.catalog import Collection, find_collection
from datasette_embeddings.errors import EmbeddingsError, ModelError
from datasette_embeddings.models import get_model
from datasette_embeddings.models.static import StaticModel
from datasette_embeddings.search import Scored, best, hybrid_items, nearest_items
from datasette_embeddings.tables import find_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUERIES = [
    "storm",
    "how much does money cost",
    "cup final",
    "young doctors",
    "inflation prices",
    "asdf",
    "the",
    "rain 30",
]


@pytest.fixture
def opened(built: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the built newsroom."""
    with closing(sqlite3.connect(built)) as conn:
        register(conn)
        yield conn


def ask(conn: sqlite3.Connection, function: str, *arguments: object) -> list[tuple[str, float]]:
    """Return (id, score) of one of our functions."""
    marks = ", ".join("?" * len(arguments))
    (found,) = conn.execute(f"select {function}({marks})", arguments).fetchone()
    return [(hit["id"], hit["score"]) for hit in json.loads(found)]


@pytest.mark.parametrize("text", QUERIES)
def test_words_only_raise_a_score(opened: sqlite3.Connection, text: str) -> None:
    """At least the cosine and at most 1; ranked by score, then id."""
    cosines = dict(ask(opened, "embed_search", "articles", text))
    found = ask(opened, "embed_hybrid", "articles", text)
    assert {item for item, _ in found} == cosines.keys()
    assert all(cosines[item] <= score <= 1 for item, score in found)
    assert found == sorted(found, key=lambda hit: (-hit[1], hit[0]))
    for k in (0, 1, 3, 8, 1000, 2**62):
        assert ask(opened, "embed_hybrid", "articles", text, k) == found[:k]


def test_words_are_counted(opened: sqlite3.Connection) -> None:
    """A word that only one row has raises that row, and no other one."""
    cosines, found = (dict(ask(opened, name, "articles", "nurses")) for name in ("embed_search", "embed_hybrid"))
    assert [item for item, score in found.items() if score > cosines[item]] == ["news/hospital"]


@pytest.mark.parametrize("text", ["asdf qwer", "money", "?"])
def test_without_words_it_is_a_search_by_meaning(opened: sqlite3.Connection, text: str) -> None:
    """Where no row has any of the words the scores are cosines, exactly."""
    assert ask(opened, "embed_hybrid", "articles", text) == ask(opened, "embed_search", "articles", text)


def test_without_an_index_it_is_a_search_by_meaning(opened: sqlite3.Connection) -> None:
    """As in files of llm, and in those built before there were indexes."""
    opened.execute("update embeddings_collections set full_text = null")
    assert ask(opened, "embed_hybrid", "articles", "storm") == ask(opened, "embed_search", "articles", "storm")


@pytest.mark.parametrize("function", ["embed_search", "embed_hybrid"])
def test_ids_narrow_before_the_number(opened: sqlite3.Connection, function: str) -> None:
    """The k best of the given ids, with the scores that they have among all; unknown ids and repetitions change nothing."""
    every = ask(opened, function, "articles", "storm and rain")
    worst = [item for item, _ in every[-3:]]
    given = json.dumps([*worst, worst[0], "no such", 7])
    assert ask(opened, function, "articles", "storm and rain", 2, given) == every[-3:-1]
    assert ask(opened, function, "articles", "storm and rain", 2, "[]") == []
    many = json.dumps([*worst, *(f"none {n}" for n in range(search.FEW_IDS))])
    assert ask(opened, function, "articles", "storm and rain", 2, many) == every[-3:-1]
    for wrong in ("{}", "x", "", "1"):
        with pytest.raises(sqlite3.OperationalError):
            ask(opened, function, "articles", "storm", 2, wrong)


@pytest.mark.parametrize("k", [-1, "x", 1.5e400])
def test_number_that_is_none(opened: sqlite3.Connection, k: object) -> None:
    """Is an error, never a guess."""
    with pytest.raises(sqlite3.OperationalError):
        ask(opened, "embed_hybrid", "articles", "storm", k)


def test_nothing_in_nothing_out(opened: sqlite3.Connection) -> None:
    """NULL gives NULL, an empty text finds nothing, a BLOB is no text."""
    assert opened.execute("select embed_hybrid('articles', null)").fetchone() == (None,)
    assert ask(opened, "embed_hybrid", "articles", " ") == []
    with pytest.raises(sqlite3.OperationalError):
        ask(opened, "embed_hybrid", "articles", b"storm")


def test_ties_are_by_id() -> None:
    """Also where they are cut."""
    scored = Scored(["b", "d", "a", "c", "e"], np.array([0.5, 0.5, 0.5, 0.5, 0.9]))
    for k in range(7):
        assert [hit.id for hit in best(lambda _: scored, k, Collection(1, "c", "static"))] == ["e", "a", "b", "c", "d"][
            :k
        ]


def test_other_dimensions_are_an_error(built: Path) -> None:
    """A vector of another model finds nothing plausible."""
    with closing(sqlite3.connect(built)) as conn:
        tables = find_tables(conn)
        collection = find_collection(conn, "articles", tables)
        vector = np.ones(8, np.float32).tobytes()
        for search in (nearest_items, lambda *a: hybrid_items(*a[:4], "storm", a[4])):
            with pytest.raises(EmbeddingsError, match="the query has 8 dimensions, the collection 'articles' has 256"):
                search(conn, tables, collection, vector, 3)


WRITES = {
    "our build": lambda path: hard.run("add", path, "articles"),
    "llm": lambda path: hard.change(
        path,
        "insert or replace into embeddings (collection_id, id, embedding, content_hash) "
        "select collection_id, 'news/rates', embedding, content_hash from embeddings where id = 'news/storm'",
    ),
    "deletion": lambda path: hard.change(path, "delete from embeddings where id = 'news/storm'"),
}


@pytest.mark.parametrize("way", WRITES)
def test_what_is_written_is_seen_by_the_next_search(built: Path, way: str) -> None:
    """On every connection and in every thread, whoever wrote it."""
    hard.change(built, "update articles set title = 'Storm floods the coast', body = 'wind' where path = 'news/rates'")
    with closing(sqlite3.connect(built, check_same_thread=False)) as one, closing(sqlite3.connect(built)) as other:
        for conn in (one, other):
            register(conn)
        before = ask(one, "embed_search", "articles", "storm")
        assert ask(other, "embed_search", "articles", "storm") == before
        WRITES[way](built)
        after = ask(other, "embed_search", "articles", "storm")
        assert after != before
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(ask(one, "embed_search", "articles", "storm")))
        thread.start()
        thread.join()
        assert found == [after]
        scores = dict(after)
        by_hand = "select id, round(embed_cosine(embedding, embed_text('static', 'storm')), 6) from embeddings"
        assert scores == pytest.approx(dict(other.execute(by_hand)), abs=2e-6)


def test_matrix_is_shared(opened: sqlite3.Connection, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one connection read the others use."""
    ask(opened, "embed_search", "articles", "storm")

    def read_again(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(indexes, "load_matrix", read_again)
    with closing(sqlite3.connect(built)) as conn:
        register(conn)
        assert len(ask(conn, "embed_search", "articles", "storm")) == 8


@pytest.mark.parametrize("how", ["replaced", "written over"])
def test_two_files_at_one_path(tmp_path: Path, how: str) -> None:
    """A file that takes the place of another, built in the same second, as often, with as many rows, is not taken for it."""
    files = []
    for text in ("storm and rain", "cup final"):
        path = tmp_path / f"{text[:3]}.db"
        hard.change(path, "create table t (k text primary key, body text)", ("insert into t values ('a', ?)", [text]))
        hard.run("embed", path, "c", "--table", "t", "--column", "body")
        hard.change(path, "update embeddings_collections set built = '2026-11-25T00:00:00+00:00'")
        files.append(path)
    served = tmp_path / "served.db"
    scores = []
    for path in files:
        if how == "replaced":
            os.replace(shutil.copy(path, tmp_path / "copy.db"), served)
        else:
            shutil.copyfile(path, served)
        with closing(sqlite3.connect(served)) as conn:
            register(conn)
            ((_, score),) = ask(conn, "embed_search", "c", "cup final")
            scores.append(score)
    assert scores[1] == 1.0
    assert scores[0] < 0.5


@pytest.mark.parametrize("function", ["embed_search", "embed_hybrid"])
def test_larger_collections_are_read_in_parts(
    opened: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """With the same results, and kept by nobody."""
    every = [ask(opened, function, "articles", text) for text in QUERIES]
    some = ask(opened, function, "articles", "storm", 2, '["news/rates", "news/heat", "news/storm"]')
    monkeypatch.setattr(matrices, "SEARCH_CHUNK_ROWS", 3)
    monkeypatch.setattr(indexes, "cache", indexes.Cache(8 * 256 * 4 - 1))
    assert [ask(opened, function, "articles", text) for text in QUERIES] == every
    assert ask(opened, function, "articles", "storm", 2, '["news/rates", "news/heat", "news/storm"]') == some
    assert len(indexes.cache) == 0


def test_memory_is_bounded(built: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collection that was searched longest ago makes room."""
    cli("embed", built, "second", "--table", "articles", "--column", "title")
    monkeypatch.setattr(indexes, "cache", indexes.Cache(8 * (256 * 4 + indexes.BYTES_OF_AN_ID)))
    with closing(sqlite3.connect(built)) as conn:
        register(conn)
        for name in ("articles", "second", "articles"):
            ask(conn, "embed_search", name, "storm")
            assert len(indexes.cache) == 1


def test_malformed_vectors_are_passed_over(opened: sqlite3.Connection) -> None:
    """By a search of all as by one among ids."""
    opened.execute("update embeddings set embedding = x'00' where id = 'news/storm'")
    opened.execute("update embeddings_collections set version = version + 1")
    assert len(ask(opened, "embed_hybrid", "articles", "storm")) == 7
    assert ask(opened, "embed_hybrid", "articles", "storm", 3, '["news/storm"]') == []


def test_searches_beside_builds_see_one_state(built: Path) -> None:
    """While builds change a row back and forth, every answer is of one of the two states, rows and scores together."""
    states = [("Storm floods the coast", "wind"), ("Late goal", "cup")]
    edit = "update articles set title = ?, body = ? where path = 'news/rates'"
    truths = []
    for state in states:
        hard.change(built, (edit, state))
        hard.run("add", built, "articles")
        with closing(sqlite3.connect(built)) as conn:
            register(conn)
            truths.append(ask(conn, "embed_hybrid", "articles", "storm"))
    hard.change(built, "pragma journal_mode = wal")
    seen: list[Any] = []
    done = threading.Event()

    def read() -> None:
        with closing(sqlite3.connect(built, timeout=10)) as conn:
            register(conn)
            while not done.is_set():
                seen.append(ask(conn, "embed_hybrid", "articles", "storm"))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for number in range(6):
            hard.change(built, (edit, states[number % 2]))
            hard.run("add", built, "articles")
    finally:
        done.set()
        for reader in readers:
            reader.join()
    between = [answer for answer in seen if answer not in truths]
    # A batch of vectors is committed before the index that belongs to it: there the scores may be of vectors alone.
    assert all({item for item, _ in answer} == {item for item, _ in truths[0]} for answer in between)
    assert any(answer == truths[0] for answer in seen)
    assert any(answer == truths[1] for answer in seen)


def floor_of(path: Path) -> float | None:
    """Return the noise floor of the newsroom."""
    return hard.query(path, "select noise_floor from embeddings_collections")[0][0]


@pytest.mark.parametrize("text", ["florp zundle wexit", "qzx vwk", "mrgl brfl", "snorf blib"])
def test_nonsense_finds_nothing_strong(opened: sqlite3.Connection, built: Path, text: str) -> None:
    """Its best result is under the floor, or hardly above it."""
    assert text not in noise.NONSENSE
    assert ask(opened, "embed_hybrid", "articles", text)[0][1] < floor_of(built) + 0.05


@pytest.mark.parametrize(
    "text", ["interest rates of the central bank", "bad weather at the sea", "nurses", "football match"]
)
def test_questions_find_something_strong(opened: sqlite3.Connection, built: Path, text: str) -> None:
    """A question about what is there comes clearly above nonsense."""
    assert ask(opened, "embed_hybrid", "articles", text)[0][1] > floor_of(built)


def test_floor_follows_the_rows(built: Path) -> None:
    """It is of the vectors that are there after the build, and the same from scratch."""
    before = floor_of(built)
    hard.change(built, "delete from articles where path != 'news/storm'")
    hard.run("add", built, "articles")
    assert floor_of(built) not in {None, before}
    incremental = floor_of(built)
    hard.run("delete", built, "articles")
    hard.run("add", built, "articles")
    assert floor_of(built) == incremental
    hard.change(built, "delete from articles")
    hard.run("add", built, "articles", expect=None)


def test_no_floor_for_models_elsewhere(news: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """No texts that nobody wrote are sent to another machine; results are then never called weak."""
    with OpenAIServer() as server:
        block = {"plugins": {"datasette-embeddings": {"models": {"openai/any": {"base_url": server.url}}}}}
        (news.parent / "metadata.yml").write_text(json.dumps(block))
        cli("add", news, "articles", "-m", "openai/any", "--yes")
        assert floor_of(news) is None
        assert not set(noise.NONSENSE) & set(server.texts)


@pytest.mark.parametrize("error", [ModelError("no"), None])
def test_model_that_fails_on_nonsense_fails_no_build(news: Path, monkeypatch: pytest.MonkeyPatch, error: Any) -> None:
    """There is no floor then, and all else is built."""
    real = StaticModel.embed_batch

    def fails(self: Any, items: Any, purpose: Any, prompt: str) -> Any:
        if purpose == "query" and error:
            raise error
        embedded = real(self, items, purpose, prompt)
        if purpose == "query":
            embedded.vectors[:] = 0
        return embedded

    monkeypatch.setattr(StaticModel, "embed_batch", fails)
    hard.run("add", news, "articles")
    assert floor_of(news) is None
    assert hard.query(news, "select count(*) from similarities") == [(8 * 7,)]


def test_matrix_of_a_build_is_that_of_a_search(built: Path) -> None:
    """The floor is measured on the vectors that searches will see."""
    with closing(sqlite3.connect(built)) as conn:
        tables = find_tables(conn)
        collection = find_collection(conn, "articles", tables)
        matrix = building.load_matrix(conn, tables, collection)
        assert noise.noise_floor(get_model("static", {}), collection, matrix) == floor_of(built)
