"""Ways of finding the ten nearest, ours and those of others: each answers in a process of its own, which has nothing else loaded.

`python -m bench.peers NAME FOLDER` loads what the way needs, says what that took, and then answers a line with the number of a question by
seconds, ids and memory, as JSON: bench.search asks all of them in turns. The folder has vectors.npy, queries.npy and, made by `make` of the ways
that are asked, their files.
"""

from __future__ import annotations

import gc
import json
import sqlite3
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import common

if TYPE_CHECKING:
    from collections.abc import Callable

    Ids = list[int]
    Search = Callable[[common.Matrix], Ids]

K = 10
AT_ONCE = 10_000


@dataclass(frozen=True)
class Way:
    """A way of searching.

    *module*: what must be importable, *hidden*: what must not. *open* loads it for a folder and returns what answers one vector (d,). *make* writes its files, once.
    *most*: numbers, rows times dimensions, beyond which it would take minutes to make or to ask.
    """

    open: Callable[[Path], Search]
    make: Callable[[Path], None] | None = None
    module: str = "numpy"
    most: int = 10**12
    hidden: str = ""


def rows_in(folder: Path) -> common.Matrix:
    """Return the vectors of a folder, without reading them."""
    return np.load(folder / "vectors.npy", mmap_mode="r")


def loaded(folder: Path) -> common.Matrix:
    """Return the vectors of a folder in memory."""
    return np.load(folder / "vectors.npy")


def in_parts(rows: common.Matrix) -> Any:
    """Yield (number, blob) of each row."""
    for start in range(0, len(rows), AT_ONCE):
        yield from enumerate((row.tobytes() for row in np.array(rows[start : start + AT_ONCE])), start)


# Ours


def make_plain(folder: Path) -> None:
    """Write a collection as `datasette embeddings embed` does, without what searches of it read."""
    from datasette_embeddings.store import Store, StoredItem

    rows = rows_in(folder)
    with Store(folder / "plain.db", create=True) as store:
        collection = store.create("items", "minilm")
        batch = []
        for number, blob in in_parts(rows):
            batch.append(StoredItem(f"item-{number:07}", blob, None, None, b"", None))
            if len(batch) == AT_ONCE or number == len(rows) - 1:
                store.save(collection, batch, 0, None)
                batch = []


def make_baked(folder: Path) -> None:
    """Write the same with what a build leaves in the file for searches, where the collection is large enough for that."""
    import shutil

    make_once(make_plain, folder)
    shutil.copy(folder / "plain.db", folder / "baked.db")
    bake(folder / "baked.db")


def bake(path: Path) -> None:
    """Do what the end of a build does for searches."""
    from datasette_embeddings.build import sketches_of
    from datasette_embeddings.matrices import load_matrix
    from datasette_embeddings.store import Finish, Store

    with Store(path) as store:
        collection = store.find("items")
        assert collection is not None
        sketches = sketches_of(load_matrix(store.conn, store.tables, collection))
        store.finish(collection, Finish((), (), None, {}, sketches=sketches))


def ours(name: str) -> Callable[[Path], Search]:
    """Return how a file is searched by `embed_search`."""

    def opened(folder: Path) -> Search:
        import datasette_embeddings

        conn = sqlite3.connect(f"file:{folder / name}?mode=ro", uri=True)
        datasette_embeddings.register(conn)
        sql = f"select value ->> 'id', value ->> 'score' from json_each(embed_search('items', ?, {K}))"
        return lambda query: [int(row[0][5:]) for row in conn.execute(sql, [query.tobytes()]).fetchall()]

    return opened


# Tables and functions that are loaded into SQLite


def extended(path: Path, extension: str) -> sqlite3.Connection:
    """Return a connection with an extension."""
    conn = sqlite3.connect(path)
    conn.enable_load_extension(True)
    conn.load_extension(extension)
    return conn


def with_sqlite_vec(path: Path) -> sqlite3.Connection:
    """Return a connection with sqlite-vec."""
    return extended(path, import_module("sqlite_vec").loadable_path())


def with_sqlite_vector(path: Path) -> sqlite3.Connection:
    """Return a connection with sqliteai-vector."""
    found = import_module("sqlite_vector").__path__[0]
    return extended(path, str(Path(found) / "binaries" / "vector"))


def make_vec0(folder: Path) -> None:
    """Write a vec0 table of float32. Its own measure, L2, ranks unit vectors as the cosine does, and is the faster one."""
    rows = rows_in(folder)
    conn = with_sqlite_vec(folder / "vec0.db")
    conn.execute(f"create virtual table items using vec0(embedding float[{rows.shape[1]}])")
    conn.executemany("insert into items (rowid, embedding) values (?, ?)", in_parts(rows))
    conn.commit()
    conn.close()


def open_vec0(folder: Path) -> Search:
    """Return how a vec0 table is searched."""
    conn = with_sqlite_vec(folder / "vec0.db")
    sql = f"select rowid from items where embedding match ? and k = {K} order by distance"
    return lambda query: [row[0] for row in conn.execute(sql, [query.tobytes()]).fetchall()]


def by_scan(function: str) -> str:
    """Return SQL that sorts a collection by a function."""
    return f"select id from embeddings order by {function} limit {K}"


def open_vec_scan(folder: Path) -> Search:
    """Return how our table is sorted by sqlite-vec's function."""
    conn, sql = with_sqlite_vec(folder / "plain.db"), by_scan("vec_distance_cosine(embedding, ?)")
    return lambda query: [int(row[0][5:]) for row in conn.execute(sql, [query.tobytes()]).fetchall()]


def open_llm_embed(folder: Path) -> Search:
    """Return how our table is sorted by the function of datasette-llm-embed."""
    conn, sql = sqlite3.connect(folder / "plain.db"), by_scan("llm_embed_cosine(embedding, ?) desc")
    conn.create_function("llm_embed_cosine", 2, import_module("datasette_llm_embed").llm_embed_cosine)
    return lambda query: [int(row[0][5:]) for row in conn.execute(sql, [query.tobytes()]).fetchall()]


def make_vector(folder: Path) -> None:
    """Write a table for sqliteai-vector and what it makes of it in 8 bits."""
    rows = rows_in(folder)
    conn = with_sqlite_vector(folder / "vector.db")
    conn.execute("create table items (id integer primary key, embedding blob)")
    conn.executemany("insert into items values (?, ?)", in_parts(rows))
    conn.commit()
    initialised(conn, rows)
    conn.execute("select vector_quantize('items', 'embedding')").fetchall()
    conn.commit()
    conn.close()


def initialised(conn: sqlite3.Connection, rows: common.Matrix) -> None:
    """Tell sqliteai-vector what the column holds."""
    options = f"type=FLOAT32,dimension={rows.shape[1]},distance=cosine"
    conn.execute("select vector_init('items', 'embedding', ?)", [options]).fetchall()


def vector(function: str, *, preload: bool) -> Callable[[Path], Search]:
    """Return how a table is searched by a function of sqliteai-vector."""

    def opened(folder: Path) -> Search:
        conn = with_sqlite_vector(folder / "vector.db")
        initialised(conn, rows_in(folder))
        if preload:
            conn.execute("select vector_quantize_preload('items', 'embedding')").fetchall()
        sql = f"select rowid from {function}('items', 'embedding', ?, {K})"
        return lambda query: [row[0] for row in conn.execute(sql, [query.tobytes()]).fetchall()]

    return opened


# In memory, without SQL


def open_numpy(folder: Path) -> Search:
    """Return the plain way: one product of a matrix and a vector."""
    rows = loaded(folder)

    def search(query: common.Matrix) -> Ids:
        scores = rows @ query
        best = np.argpartition(scores, len(scores) - K)[-K:]
        return best[np.argsort(-scores[best])].tolist()

    return search


def open_faiss(folder: Path) -> Search:
    """Return a flat index of faiss; on one thread, as two take three times as long for one question, waking each other."""
    faiss = import_module("faiss")
    faiss.omp_set_num_threads(1)
    rows = rows_in(folder)
    index = faiss.IndexFlatIP(rows.shape[1])
    for start in range(0, len(rows), AT_ONCE):
        index.add(np.array(rows[start : start + AT_ONCE]))
    return lambda query: index.search(query[None], K)[1][0].tolist()


def open_usearch_exact(folder: Path) -> Search:
    """Return the exact search of usearch over a matrix."""
    from usearch.index import MetricKind, search

    rows = loaded(folder)
    return lambda query: search(rows, query, K, MetricKind.IP, exact=True).keys.tolist()


def make_hnsw(folder: Path) -> None:
    """Write a graph of usearch."""
    from usearch.index import Index

    rows = loaded(folder)
    index = Index(ndim=rows.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=128, expansion_search=64)
    index.add(np.arange(len(rows)), rows)
    index.save(str(folder / "hnsw.usearch"))


def open_hnsw(folder: Path) -> Search:
    """Return how a graph of usearch is searched, all of it in memory."""
    from usearch.index import Index

    index = Index.restore(str(folder / "hnsw.usearch"), view=False)
    return lambda query: index.search(query, K).keys.tolist()


FAST = "ours, `fast`"
BASE = "ours, base"
FAST_UNBAKED = "ours, `fast`, nothing baked"
BASE_UNBAKED = "ours, base, nothing baked"
VEC0 = "sqlite-vec vec0"
QUANTISED = "sqliteai-vector, 8 bits"

WAYS: dict[str, Way] = {
    FAST: Way(ours("baked.db"), make_baked, "numkong"),
    BASE: Way(ours("baked.db"), make_baked, hidden="numkong"),
    FAST_UNBAKED: Way(ours("plain.db"), make_plain, "numkong"),
    BASE_UNBAKED: Way(ours("plain.db"), make_plain, hidden="numkong"),
    VEC0: Way(open_vec0, make_vec0, "sqlite_vec"),
    "sqlite-vec `vec_distance_cosine`": Way(open_vec_scan, make_plain, "sqlite_vec"),
    QUANTISED: Way(vector("vector_quantize_scan", preload=True), make_vector, "sqlite_vector"),
    "sqliteai-vector, full scan": Way(vector("vector_full_scan", preload=False), make_vector, "sqlite_vector"),
    "datasette-llm-embed": Way(open_llm_embed, make_plain, "datasette_llm_embed", 20_000 * 384),
    "numpy": Way(open_numpy),
    "faiss IndexFlatIP": Way(open_faiss, module="faiss"),
    "usearch, exact": Way(open_usearch_exact, module="usearch"),
    "usearch HNSW": Way(open_hnsw, make_hnsw, "usearch", 200_000 * 384),
}
OURS = (FAST, BASE, FAST_UNBAKED, BASE_UNBAKED)
LOADABLE = {"sqlite_vec", "sqlite_vector"}
"""Modules that need a sqlite3 which loads extensions."""


def usable(way: Way, table: common.Table) -> bool:
    """Tell whether what a way needs is there; where not, the table says so."""
    if way.module in LOADABLE and not hasattr(sqlite3.Connection, "enable_load_extension"):
        table.note(f"{way.module} was not measured: the sqlite3 of this Python loads no extensions; Debian's does.")
        return False
    return common.peer(way.module, table) is not None


def make_once(make: Callable[[Path], None], folder: Path) -> None:
    """Write the files of a way in a folder unless that was done; keeps the seconds that it took."""
    done = folder / f"{make.__name__}.json"
    if not done.exists():
        common.say(f"{folder.name}: {make.__name__}")
        started = time.perf_counter()
        make(folder)
        done.write_text(json.dumps(time.perf_counter() - started))


def made_in(way: Way, folder: Path) -> float | None:
    """Return the seconds that writing the files of a way took; None where it has none of its own."""
    return None if way.make is None else float(json.loads((folder / f"{way.make.__name__}.json").read_text()))


def main(name: str, place: str) -> None:
    """Answer questions until there are no more."""
    folder, way = Path(place), WAYS[name]
    queries = np.load(folder / "queries.npy")
    if way.hidden:
        sys.modules[way.hidden] = None  # type: ignore[assignment]
    else:
        import_module(way.module)
    if name in OURS:
        import_module("datasette_embeddings")
    gc.collect()
    gc.disable()
    started = time.perf_counter()
    search = way.open(folder)
    reply(time.perf_counter() - started, [])
    for line in sys.stdin:
        query = queries[int(line)]
        started = time.perf_counter()
        found = search(query)
        reply(time.perf_counter() - started, found)


def reply(seconds: float, ids: Ids) -> None:
    """Print one answer."""
    print(json.dumps([seconds, ids, common.memory()]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
