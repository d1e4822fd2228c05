"""What searches of large collections look in: the answers of scoring every row, whatever the data, the file and the memory do."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, NamedTuple

import hard
import numpy as np
import pytest
from datasette.app import Datasette
from hypothesis import given, settings
from hypothesis import strategies as st

from datasette_embeddings import build, embedder, fulltext, indexes, register, search, sketches
from datasette_embeddings.catalog import tables_and_collection
from datasette_embeddings.store import Store, StoredItem
from datasette_embeddings.vectors import score_rows, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Rows = NDArray[np.float32]


class World(NamedTuple):
    """A collection `c`: its file, its ids by position, and its unit rows."""

    path: Path
    ids: list[str]
    rows: Rows


def units(rows: NDArray[Any]) -> Rows:
    """Return rows scaled to length 1, as float32."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(random: np.random.Generator, count: int, size: int) -> Rows:
    """Rows with neighbours and a falling spectrum, as those of texts."""
    spread = 1 / np.sqrt(np.arange(1, size + 1))
    centres = random.standard_normal((count // 20 + 1, size)) * spread
    return units(
        centres[random.integers(0, len(centres), count)] + 0.4 * random.standard_normal((count, size)) * spread
    )


KINDS: dict[str, Callable[[np.random.Generator, int, int], Rows]] = {
    "clustered": clustered,
    "isotropic": lambda random, count, size: units(random.standard_normal((count, size))),
    "all equal": lambda random, count, size: np.repeat(units(random.standard_normal((1, size))), count, axis=0),
    "repeated": lambda random, count, size: units(random.standard_normal((7, size)))[random.integers(0, 7, count)],
    "near duplicates": lambda random, count, size: units(1 + 1e-3 * random.standard_normal((count, size))),
    "few directions": lambda random, count, size: np.eye(size, dtype=np.float32)[random.integers(0, size, count)],
    "opposites": lambda random, count, size: units(random.choice([-1.0, 1.0], (count, 1)) * np.ones((1, size))),
}


def write(path: Path, rows: Rows, ids: list[str] | None = None, *, baked: bool = True) -> World:
    """Write a collection of vectors, with sketches where asked for."""
    names = ids or [f"item {n}" for n in range(len(rows))]
    with Store(path, create=True) as store:
        collection = store.create("c", "static")
        items = [
            StoredItem(name, row.tobytes(), None, None, name.encode(), None)
            for name, row in zip(names, rows, strict=True)
        ]
        store.save(collection, items, 0, None)
    if baked:
        hard.run("similarities", path, "c", "-n", "1")
    return World(path, names, rows)


def nearest(world: World, query: Rows, k: int, among: list[str] | None = None) -> list[tuple[str, float]]:
    """Return what scoring every row finds."""
    scores = score_rows(world.rows, unit_rows(query[None])[0][0])
    found = sorted(zip(world.ids, scores.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    return [pair for pair in found if among is None or pair[0] in among][:k]


def ask(conn: sqlite3.Connection, query: Rows, k: object = 10, *more: object) -> list[tuple[str, float]]:
    """Return (id, score) of embed_search."""
    marks = "".join(", ?" for _ in more)
    (found,) = conn.execute(f"select embed_search('c', ?, ?{marks})", [query.tobytes(), k, *more]).fetchone()
    return [(hit["id"], hit["score"]) for hit in json.loads(found)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let collections count as large, in a cache of their own."""
    for module in (build, indexes):
        monkeypatch.setattr(module, "SKETCHED_ROWS", 300)
    monkeypatch.setattr(indexes, "cache", indexes.Cache())


@pytest.fixture(params=["numkong", "numpy"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What multiplies: the kernel of the extra `fast`, or numpy alone."""
    if request.param == "numpy":
        monkeypatch.setattr(sketches, "kernel_works", lambda: False)
    else:
        pytest.importorskip("numkong")
        assert sketches.kernel_works()
    return str(request.param)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """1,000 rows with sketches in the file."""
    return write(tmp_path / "world.db", clustered(np.random.default_rng(1), 1_000, 64))


@pytest.fixture
def opened(world: World) -> Iterator[sqlite3.Connection]:
    """A connection to it."""
    with closing(sqlite3.connect(world.path)) as conn:
        register(conn)
        yield conn


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    count=st.sampled_from([1, 31, 700]),
    size=st.sampled_from([1, 3, 33, 96]),
    seed=st.integers(0, 1_000),
    k=st.sampled_from([1, 10, 100, 900]),
)
@pytest.mark.parametrize("numpy_alone", [False, True])
def test_screen_leaves_the_best(numpy_alone: bool, kind: str, count: int, size: int, seed: int, k: int) -> None:
    """Whatever the vectors are: all that belong to the k best, with their scores, or nothing, which means that all are to be scored."""
    random = np.random.default_rng(seed)
    rows = KINDS[kind](random, count, size)
    query = units(rows[:1] + random.standard_normal((1, size)) * random.choice([0.0, 0.01, 0.3, 3.0]))[0]
    with pytest.MonkeyPatch.context() as patch:
        if numpy_alone:
            patch.setattr(sketches, "kernel_works", lambda: False)
        screen = sketches.Screen(sketches.sketched(rows))
        taken: list[int] = []
        found = screen.nearest(query, k, lambda positions: (taken.append(len(positions)), rows[positions])[1])
    if found is None:
        return
    scores = score_rows(rows, query)
    floor = np.sort(scores)[-min(k, count)]
    positions, theirs = found
    assert set(np.flatnonzero(scores >= floor)) <= set(positions.tolist())
    assert (theirs == scores[positions]).all()
    assert max(taken) < count or count <= sketches.SEEDS * k


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("baked", [True, False])
def test_answers_are_those_of_scoring_every_row(tmp_path: Path, kernel: str, kind: str, baked: bool) -> None:
    """Through SQL: the first time, and when the index is used again; among all and among some; few and many."""
    random = np.random.default_rng(5)
    world = write(tmp_path / "any.db", KINDS[kind](random, 500, 48), baked=baked)
    some = [world.ids[n] for n in random.permutation(500)[:300]]
    with closing(sqlite3.connect(world.path)) as conn:
        register(conn)
        for query in (world.rows[3], units(random.standard_normal((1, 48)))[0]):
            for k in (1, 10, 450):
                assert ask(conn, query, k) == nearest(world, query, k), (kind, k)
                assert ask(conn, query, k, json.dumps(some)) == nearest(world, query, k, some), (kind, k)


def test_few_rows_are_scored(
    world: World, opened: sqlite3.Connection, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of texts, and with sketches in the file, vectors are read by the dozen, and never all of them."""
    monkeypatch.setattr(indexes, "load_matrix", None)
    read: list[int] = []
    real = indexes.vectors_of

    def counted(conn: Any, tables: Any, collection: Any, items: Any, size: int) -> Any:
        read.append(len(items))
        return real(conn, tables, collection, items, size)

    monkeypatch.setattr(indexes, "vectors_of", counted)
    for row in world.rows[:20]:
        assert ask(opened, row) == nearest(world, row, 10)
    assert sum(read) < 20 * 150


def test_chunks_are_found_by_their_rows(tmp_path: Path, kernel: str) -> None:
    """The k best rows, each with the score of its best chunk, though one row has many of the nearest chunks."""
    random = np.random.default_rng(2)
    rows = clustered(random, 800, 48)
    rows[:60] = units(rows[0] + 0.01 * random.standard_normal((60, 48)))
    ids = [f"row {0 if n < 60 else n // 4}#{n}" for n in range(800)]
    world = write(tmp_path / "chunks.db", rows, ids)
    hard.change(world.path, "update embeddings_collections set chunk = 100")
    with closing(sqlite3.connect(world.path)) as conn:
        register(conn)
        for query in (rows[0], rows[500]):
            best: dict[str, float] = {}
            for item, score in nearest(world, query, 800):
                best.setdefault(item.split("#")[0], score)
            wanted = sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:20]
            assert ask(conn, query, 20) == wanted
            among = [item for item, _ in wanted[5:]] + [f"row {n}" for n in range(900, 1_300)]
            assert ask(conn, query, 20, json.dumps(among)) == wanted[5:]


def test_words_are_found_beyond_the_nearest(tmp_path: Path) -> None:
    """A row that is far by meaning and holds the words is among the results of a search by both, with the score that it has among all."""
    path = tmp_path / "words.db"
    rows = [(n, f"text number {n} about the weather and rain in month {n % 12}") for n in range(600)]
    hard.change(path, "create table t (k integer primary key, body text)")
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.executemany("insert into t values (?, ?)", [*rows, (600, "xylograph")])
    hard.run("embed", path, "c", "--table", "t", "--column", "body", "-m", "static")
    far = "embed_scale(embed_query('c', 'xylograph'), -1)"
    with closing(sqlite3.connect(path)) as conn, conn:
        register(conn)
        conn.execute(f"update embeddings set embedding = {far} where id = '600'")
    hard.run("similarities", path, "c", "-n", "1")
    with closing(sqlite3.connect(path)) as conn:
        register(conn)
        asked = (
            "select json_extract(value, '$.id'), json_extract(value, '$.score') from json_each(embed_hybrid('c', ?, ?))"
        )
        text = "xylograph"
        few = conn.execute(asked, [text, 5]).fetchall()
        assert few == conn.execute(asked, [text, 601]).fetchall()[:5]
        assert "600" in {item for item, _ in few}
        vector = conn.execute("select embed_query('c', ?)", [text]).fetchone()[0]
        assert "600" not in {item for item, _ in ask(conn, np.frombuffer(vector, np.float32), 100)}


def test_nothing_is_remembered_of_a_connection_that_is_gone(tmp_path: Path) -> None:
    """The next one may stand at the same address, and be open on another file that was written alike."""
    paths = []
    for name in ("old", "new"):
        paths.append(tmp_path / f"{name}.db")
        (tmp_path / f"{name}.json").write_text(json.dumps([{"id": name, "text": "rain in the hills"}]))
        hard.run("embed", paths[-1], "c", tmp_path / f"{name}.json", "-m", "static")
    with closing(sqlite3.connect(paths[0])) as conn:
        register(conn)
        (answer,) = conn.execute("select embed_hybrid('c', 'rain') || embed_context('c', 'rain')").fetchone()
        assert '"old"' in answer
    del conn
    vector = embedder.Embedder("static", {}).item("static", "rain", "document")
    with ExitStack() as stack:
        for conn in [stack.enter_context(closing(sqlite3.connect(paths[1]))) for _ in range(10)]:
            found = search.nearest_items(conn, *tables_and_collection(conn, "c"), vector, 1)
            assert [hit.id for hit in found] == ["new"]


def test_rows_found_by_words_have_the_score_of_their_best_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where that was not among the nearest that were looked at first."""
    angles = np.array([*np.linspace(0.1, 0.3, 2 * search.CHUNKS_A_ROW), 0.4, 1.5, 1.2])
    ids = [*(f"a#{n}" for n in range(2 * search.CHUNKS_A_ROW)), "b#0", "b#1", "c#0"]
    world = write(tmp_path / "c.db", np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32), ids)
    hard.change(world.path, "update embeddings_collections set chunk = 100")
    monkeypatch.setattr(fulltext, "text_index", lambda *_: Words())
    with closing(sqlite3.connect(world.path)) as conn:
        tables, collection = tables_and_collection(conn, "c")
        query = np.array([1.0, 0.0], np.float32).tobytes()
        found = search.hybrid_items(conn, tables, collection, query, "word", 2)
    assert [(hit.id, hit.chunk) for hit in found] == [("a", "a#0"), ("b", "b#0")]


class Words:
    """A full-text index that finds one chunk."""

    def shares(self, *_: object) -> dict[str, float]:
        """Return how much of a query each item holds."""
        return {"b#1": 0.5}


# What happens to the file


REPLACE = (
    "insert or replace into embeddings (collection_id, id, embedding, content_hash, updated) values (1, ?, ?, x'00', ?)"
)


@pytest.mark.parametrize("item", ["item 0", "item 999", "new"])
def test_writes_by_other_programs_are_seen(world: World, opened: sqlite3.Connection, item: str) -> None:
    """Also that of the row that was written last, whose successor gets the same place."""
    query = units(np.random.default_rng(3).standard_normal((1, 64)))[0]
    before = ask(opened, query)
    hard.change(world.path, ("delete from embeddings where id = ?", [item]), (REPLACE, [item, query.tobytes(), 5]))
    assert ask(opened, query) == [(item, 1.0), *[hit for hit in before if hit[0] != item]][:10]
    hard.change(world.path, ("delete from embeddings where id = ?", [item]))
    assert ask(opened, query) == [hit for hit in ask(opened, query, 20) if hit[0] != item][:10]


def test_what_is_taken_back_was_never_there(world: World, opened: sqlite3.Connection) -> None:
    """A connection sees what it wrote itself as long as that stands."""
    query = units(np.random.default_rng(3).standard_normal((1, 64)))[0]
    before = ask(opened, query)
    opened.execute(REPLACE, ["item 999", query.tobytes(), 5])
    assert ask(opened, query, 1) == [("item 999", 1.0)]
    with closing(sqlite3.connect(world.path)) as other:
        register(other)
        assert ask(other, query) == before
    opened.rollback()
    assert ask(opened, query) == before
    opened.execute("update collections set name = 'd'")
    renamed = "select embed_search('d', ?, 1)"
    assert opened.execute(renamed, [query.tobytes()]).fetchone()
    opened.rollback()
    with pytest.raises(sqlite3.OperationalError):
        opened.execute(renamed, [query.tobytes()])
    assert ask(opened, query) == before


def test_snapshot_is_answered_as_it_is(world: World) -> None:
    """Though others wrote since it was taken, and nothing was loaded before."""
    query = units(np.random.default_rng(3).standard_normal((1, 64)))[0]
    hard.change(world.path, "pragma journal_mode = wal")
    with closing(sqlite3.connect(world.path)) as old, closing(sqlite3.connect(world.path)) as new:
        register(old)
        register(new)
        old.execute("begin")
        old.execute("select count(*) from embeddings").fetchone()
        hard.change(world.path, (REPLACE, ["item 3", query.tobytes(), 5]))
        for _ in range(2):
            assert ask(old, query) == nearest(world, query, 10)
            assert ask(new, query, 1) == [("item 3", 1.0)]
        old.rollback()
        assert ask(old, query, 1) == [("item 3", 1.0)]


@pytest.mark.parametrize(
    "damage",
    [
        "update embeddings_sketch_parts set codes = substr(codes, 2)",
        "update embeddings_sketch_parts set ids = '{'",
        "update embeddings_sketch_parts set units = null",
        "update embeddings_sketches set basis = x'00'",
        "update embeddings_sketches set basis = null",
        "update embeddings_sketches set head = 0",
        "update embeddings_sketches set stamp = 'x'",
        "update embeddings_sketches set dimensions = 3",
        "delete from embeddings_sketch_parts",
        "delete from embeddings_sketches",
        """update embeddings_sketch_parts set ids = replace(ids, '"item 5"', '"item x"')""",
        "drop table embeddings_sketches",
        "drop table embeddings_sketch_parts",
    ],
)
def test_damaged_sketches_are_passed_over(world: World, damage: str) -> None:
    """Their vectors are read in their place."""
    hard.change(world.path, damage)
    with closing(sqlite3.connect(world.path)) as conn:
        register(conn)
        for row in world.rows[:5]:
            assert ask(conn, row) == nearest(world, row, 10)


def test_sketches_go_with_their_collection(world: World) -> None:
    """And those of a collection that has become small."""
    assert hard.query(world.path, "select count(*) from embeddings_sketch_parts") == [(1,)]
    hard.change(world.path, "delete from embeddings where rowid > 100")
    hard.run("similarities", world.path, "c", "-n", "1")
    assert hard.query(world.path, "select count(*) from embeddings_sketch_parts") == [(0,)]
    assert hard.query(world.path, "select count(*) from embeddings_sketches") == [(0,)]


def test_file_cut_short_is_an_error(world: World) -> None:
    """Under a connection that has it open: no answer rather than a wrong one."""
    with closing(sqlite3.connect(world.path)) as conn:
        register(conn)
        conn.execute("pragma cache_size = 0")
        size = world.path.stat().st_size
        with world.path.open("r+b") as file:
            file.truncate(size // 3)
        with pytest.raises(sqlite3.DatabaseError):
            ask(conn, world.rows[0])


# Time and memory


@pytest.mark.parametrize("baked", [True, False])
def test_loading_is_not_stopped_by_the_limit_of_a_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, baked: bool
) -> None:
    """What loads for longer than a query may run is loaded all the same, and found by the next one."""
    world = write(tmp_path / "slow.db", clustered(np.random.default_rng(4), 2_000, 16), baked=baked)
    late: list[int] = []
    real = indexes.load
    monkeypatch.setattr(indexes, "load", lambda *a, **named: (late.append(1), real(*a, **named))[1])
    with closing(sqlite3.connect(world.path)) as conn:
        register(conn)
        conn.set_progress_handler(lambda: len(late), 1)  # a query that began to load has no time left
        with pytest.raises(sqlite3.OperationalError):
            ask(conn, world.rows[0])
        conn.set_progress_handler(None, 1)
        assert ask(conn, world.rows[0]) == nearest(world, world.rows[0], 10)
    assert len(late) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "address",
    [
        "/news/search_articles.json?q=storm",
        "/news/hybrid_articles.json?q=storm",
        "/news/articles.json?_meaning=storm",
        "/-/embeddings/news/articles/search?q=storm",
        "/-/embeddings/news/articles/ask.json?q=storm",
    ],
)
async def test_first_visitor_waits_for_what_loads_long(
    built: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Longer than a query may run: the first search is answered all the same, wherever it is asked."""
    real = indexes.load
    monkeypatch.setattr(indexes, "load", lambda *a, **named: (time.sleep(0.6), real(*a, **named))[1])
    site = Datasette([str(built)], settings={"sql_time_limit_ms": 300})
    await site.invoke_startup()
    answer = await site.client.get(address)
    assert answer.status_code == 200, answer.text
    assert "Storm floods the coast" in answer.text


@pytest.mark.asyncio
async def test_memory_is_configured(built: Path) -> None:
    """By the site that was started last; what is no number is refused."""
    block = {"plugins": {"datasette-embeddings": {"limits": {"index_megabytes": 7}}}}
    (built.parent / "metadata.json").write_text(json.dumps(block))
    await Datasette(config_dir=built.parent).invoke_startup()
    assert indexes.cache.limit == 7_000_000
    (built.parent / "metadata.json").unlink()
    await Datasette(config_dir=built.parent).invoke_startup()
    assert indexes.cache.limit == indexes.INDEX_BYTES


def test_memory_for_sketches_alone(world: World, kernel: str) -> None:
    """Where all vectors are too much: they stay in the file, and are looked at where sketches say nothing."""
    hard.change(world.path, "delete from embeddings_sketches")
    indexes.cache.limit = 1_000 * indexes.BYTES_OF_AN_ID + 4 * 64 * 1_000 - 1
    with closing(sqlite3.connect(world.path)) as conn:
        register(conn)
        for k in (10, 900):
            for row in world.rows[:5]:
                assert ask(conn, row, k) == nearest(world, row, k)
        assert len(indexes.cache) == 1


@pytest.mark.parametrize("limit", [0, 1, 100_000])
def test_hardly_any_memory(
    world: World, opened: sqlite3.Connection, limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Every search reads what it needs, and the log says what to do, once."""
    indexes.cache.limit = limit
    for row in world.rows[:3]:
        assert ask(opened, row) == nearest(world, row, 10)
    assert len(indexes.cache) == 0
    assert caplog.text.count("index_megabytes") == 1


def test_threads_share_one_index(world: World, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is loaded once, however many ask first."""
    loads: list[int] = []
    real = indexes.load
    monkeypatch.setattr(indexes, "load", lambda *a, **named: (loads.append(1), real(*a, **named))[1])
    wrong: list[object] = []

    def asking(number: int) -> None:
        with closing(sqlite3.connect(world.path)) as conn:
            register(conn)
            asked = world.rows[number::50]
            wrong.extend(row for row in asked if ask(conn, row) != nearest(world, row, 10))

    threads = [threading.Thread(target=asking, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(loads) == 1


@pytest.mark.parametrize("k", [0, "0", 5, "5", 10**9])
def test_numbers_of_results(world: World, opened: sqlite3.Connection, k: object) -> None:
    """From none to all that a search may give."""
    assert ask(opened, world.rows[0], k) == nearest(world, world.rows[0], int(k))


@pytest.mark.parametrize("k", [-1, "many", 1.5e400, b"5"])
def test_numbers_that_are_none(world: World, opened: sqlite3.Connection, k: object) -> None:
    """Are errors."""
    with pytest.raises(sqlite3.OperationalError):
        ask(opened, world.rows[0], k)


def test_query_of_other_dimensions(world: World, opened: sqlite3.Connection) -> None:
    """Is an error, with an index in memory and without one."""
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError):
            ask(opened, world.rows[0, :32])
        ask(opened, world.rows[0])


@pytest.mark.asyncio
async def test_pages_do_not_wait_for_searches(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches have threads of their own: a table is shown while as many of them run as there are threads for SQL."""
    real = indexes.load
    monkeypatch.setattr(indexes, "load", lambda *a, **named: (time.sleep(0.6), real(*a, **named))[1])
    site = Datasette([str(built)], settings={"num_sql_threads": 1})
    await site.invoke_startup()
    assert (await site.client.get("/news/articles")).status_code == 200
    done: list[str] = []

    async def get(address: str) -> None:
        assert (await site.client.get(address)).status_code == 200
        done.append(address)

    searches = [f"/news/search_articles?q={n}" for n in range(3)] + ["/-/embeddings/news/articles/search?q=storm"]
    waiting = [asyncio.create_task(get(address)) for address in searches]
    await asyncio.sleep(0.2)
    await get("/news/articles")
    await asyncio.gather(*waiting)
    assert done[0] == "/news/articles"


@pytest.mark.parametrize("wrong", ["'text'", "x''", "x'0000'", "null", "zeroblob(8)"])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_what_is_no_embedding_is_passed_over(tmp_path: Path, wrong: str, share: float) -> None:
    """Though it comes first, or there is nothing else."""
    world = write(tmp_path / "wrong.db", clustered(np.random.default_rng(9), 400, 8), baked=False)
    count = int(400 * share)
    hard.change(world.path, f"update embeddings set embedding = {wrong} where rowid <= {count}")
    hard.run("similarities", world.path, "c", "-n", "2")
    assert hard.query(world.path, "select count(*) from similarities") == [(2 * (400 - count),)]
    with closing(sqlite3.connect(world.path)) as conn:
        register(conn)
        left = World(world.path, world.ids[count:], world.rows[count:])
        if share < 1:
            assert ask(conn, world.rows[-1]) == nearest(left, world.rows[-1], 10)
