"""The SQL functions, through SQL."""

from __future__ import annotations

import gc
import json
import math
import os
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasette_embeddings import register, scan, vectors
from datasette_embeddings.functions import FUNCTIONS

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
vector_lists = st.lists(floats, min_size=1, max_size=40)

EXAMPLES = [(expression, result) for function in FUNCTIONS for expression, result in function.examples]


@pytest.mark.parametrize(("expression", "result"), EXAMPLES, ids=[e for e, _ in EXAMPLES])
def test_documented_examples_hold(conn: sqlite3.Connection, expression: str, result: object) -> None:
    """Every example of the function table gives the result that the documentation shows."""
    assert conn.execute(f"select {expression}").fetchone()[0] == result


SCALARS = [f for f in FUNCTIONS if not f.aggregate]


@pytest.mark.parametrize("function", SCALARS, ids=lambda f: f.name)
def test_null_gives_null(conn: sqlite3.Connection, function) -> None:
    """Each scalar function is NULL when any of its arguments is."""
    for arity in function.arities:
        assert conn.execute(
            f"select {function.name}({', '.join(['null'] * (arity if arity > 0 else 3))})"
        ).fetchone() == (None,)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)
def test_aliases_are_the_same_function(conn: sqlite3.Connection, function) -> None:
    """`llm_embed` and its kin are registered with the arities of what they stand for."""
    rows = conn.execute("select name, narg from pragma_function_list where name like '%embed%'").fetchall()
    for name in (function.name, *function.aliases):
        assert {narg for found, narg in rows if found == name} == set(function.arities)


@settings(max_examples=200, deadline=None)
@given(vector_lists)
def test_encode_and_decode_round_trip(values: list[float]) -> None:
    """JSON to BLOB and back gives the same float32 numbers, in the shortest digits that do."""
    conn = _connection()
    blob, text = conn.execute(
        "select embed_encode(?), embed_decode(embed_encode(?))", [json.dumps(values)] * 2
    ).fetchone()
    assert blob == struct.pack(f"<{len(values)}f", *values)
    assert np.array_equal(np.array(json.loads(text), "<f4"), np.array(values, "<f4"))
    assert all(len(part) <= 16 for part in text[1:-1].split(","))


@settings(max_examples=200, deadline=None)
@given(vector_lists, st.data())
def test_cosine_is_symmetric_bounded_and_right(values: list[float], data: st.DataObject) -> None:
    """Both kernels agree with float64 arithmetic, in either order, within [-1, 1]; a vector of zeros is an error."""
    other = data.draw(st.lists(floats, min_size=len(values), max_size=len(values)))
    a, b = (np.array(v, "<f4").tobytes() for v in (values, other))
    x, y = np.array(values, "<f4").astype(float), np.array(other, "<f4").astype(float)
    for cosine in (scan.numpy_cosine(), scan.kernel_cosine()):
        assert cosine is not None
        if not x.any() or not y.any():
            with pytest.raises(vectors.BadVector):
                cosine(a, b)
            continue
        want = math.fsum((x / np.linalg.norm(x)) * (y / np.linalg.norm(y)))
        assert cosine(a, b) == pytest.approx(want, abs=2e-6)
        assert cosine(a, b) == pytest.approx(cosine(b, a), abs=1e-6)
        assert -1.0 <= cosine(a, b) <= 1.0


BAD = [
    b"",
    b"\0",
    b"\0\0\0",
    b"\0" * 5,
    "text",
    7,
    1.5,
    struct.pack("<2f", float("nan"), 1),
    struct.pack("<f", math.inf),
]
TAKES_VECTOR = [
    "embed_decode(?1)",
    "embed_dimensions(?1)",
    "embed_cosine(?1, ?1)",
    "embed_cosine(?1, x'0000803f')",
    "embed_dot(?1, ?1)",
    "embed_l2(?1, ?1)",
    "embed_add(?1, ?1)",
    "embed_subtract(?1, ?1)",
    "embed_scale(?1, 2)",
    "embed_normalize(?1)",
    "embed_average(?1)",
    "embed_spectrum(?1, x'0000803f', x'000080bf')",
]


@pytest.mark.parametrize("value", BAD, ids=repr)
@pytest.mark.parametrize("expression", TAKES_VECTOR)
def test_malformed_is_an_error(conn: sqlite3.Connection, expression: str, value: object) -> None:
    """What is no embedding is an error in every function, never a plausible number; embed_valid says 0."""
    with pytest.raises(sqlite3.OperationalError):
        conn.execute(f"select {expression}", [value]).fetchall()
    assert conn.execute("select embed_valid(?)", [value]).fetchone() == (0,)


def test_other_dimensions_are_named() -> None:
    """The message says both dimensions."""
    with pytest.raises(vectors.DimensionMismatch, match="3 and 2"):
        vectors.cosine(vectors.encode([1, 2, 3]), vectors.encode([1, 2]))
    for cosine in (scan.numpy_cosine(), scan.kernel_cosine()):
        assert cosine is not None
        with pytest.raises(vectors.DimensionMismatch):
            cosine(vectors.encode([1, 2, 3]), vectors.encode([1, 2]))


def test_average_of_a_group(conn: sqlite3.Connection) -> None:
    """The mean is plain: not normalised, NULLs left out, one for each group."""
    conn.execute("create table v (g, e)")
    rows = [("a", [1, 3]), ("a", [3, 5]), ("b", [7, 7]), ("b", None)]
    conn.executemany("insert into v values (?, embed_encode(?))", [(g, v and json.dumps(v)) for g, v in rows])
    found = conn.execute("select g, embed_decode(embed_average(e)) from v group by g").fetchall()
    assert found == [("a", "[2.0,4.0]"), ("b", "[7.0,7.0]")]


def test_constant_text_is_embedded_once(conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of constants inside ORDER BY is called once a statement, not once a row."""
    from datasette_embeddings.embedder import Embedder

    calls = []
    real = Embedder.item
    monkeypatch.setattr(Embedder, "item", lambda *a: calls.append(a) or real(*a))
    conn.execute("create table v (e)")
    conn.executemany("insert into v values (embed_encode(?))", [(json.dumps([float(n)] * 256),) for n in range(1, 60)])
    conn.execute("select e from v order by embed_cosine(e, embed_text('static', 'a query')) limit 3").fetchall()
    assert len(calls) == 1


def test_arithmetic_of_words(conn: sqlite3.Connection) -> None:
    """`germany + paris - france` is an expression."""
    sql = """select embed_decode(embed_subtract(embed_add(embed_encode('[1,2]'), embed_encode('[5,5]')),
             embed_encode('[2,2]')))"""
    assert conn.execute(sql).fetchone() == ("[4.0,5.0]",)


def test_importing_loads_nothing_heavy() -> None:
    """Neither numpy nor any model's package comes with a bare import, in a fresh interpreter."""
    code = (
        "import sys, datasette_embeddings\n"
        "print([m for m in ('numpy','torch','onnxruntime','tokenizers','openai','llm','sklearn','PIL','numkong') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files where Linux lists them")
def test_connections_are_closed_when_nobody_holds_them(built: Path) -> None:
    """The functions do not keep their connection alive, neither sqlite-utils' nor a plain or derived one."""
    import sqlite_utils

    class Derived(sqlite3.Connection):
        pass

    def use() -> None:
        assert "articles" in sqlite_utils.Database(built).table_names()
        for factory in (sqlite3.Connection, Derived):
            conn = sqlite3.connect(built, factory=factory)
            register(conn)
            found = conn.execute("select json_array_length(embed_search('articles', 'storm', 3))").fetchone()
            assert found == (3,)

    use()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        use()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def _connection() -> sqlite3.Connection:
    conn = sqlite3.connect(":memory:")
    register(conn)
    return conn
