"""Any sequence of edits, built step by step, gives the tables of one build from scratch and pays for no text twice."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import hard
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openai_server import OpenAIServer

from datasette_embeddings import derive
from datasette_embeddings.chunking import Chunker
from datasette_embeddings.models import get_model
from datasette_embeddings.store import Store, StoredItem
from datasette_embeddings.vectors import score_rows

EXAMPLES = int(os.environ.get("EXAMPLES", "30"))
"""Sequences of edits tried; EXAMPLES=500 for a long run."""

PHASES = [Phase.explicit, Phase.reuse, Phase.generate] + ([Phase.shrink] if "EXAMPLES" in os.environ else [])
"""A failure is made small in long runs only: that takes minutes."""

KEYS = {
    "text": "create table t (k text primary key, body text, title text default 'x')",
    "integer": "create table t (k integer primary key, body text, title text default 'x')",
    "without rowid": "create table t (k text primary key, body text, title text default 'x') without rowid",
    "compound": "create table t (k text, l integer default 0, body text, title text default 'x', primary key (k, l))",
    "rowid": "create table t (k, body text, title text default 'x')",
}
WORDS = [
    "red bread",
    "bread red",
    "butter and bread",
    "nine trains",
    "trains, nine",
    "cats",
    "dogs and cats",
    "rain",
]
SENTENCES = [
    f"{a} are {b} and nobody knows why." for a in WORDS for b in ("sold at the station", "lost in the mountains")
]
LONG = st.lists(st.sampled_from([*SENTENCES, "## Heading", "refuse this one."]), min_size=2, max_size=9).map(
    "\n\n".join
)
"""Texts of several chunks, which share some."""

TEXTS = st.one_of(
    LONG,
    st.sampled_from([*WORDS, *(f"{a} {b}" for a in WORDS for b in ("today", "again"))]),
    st.sampled_from(["", " \n", None, "refuse me", "refuse that"]),
)
CHUNKS = [False, 16, 24]
SPARE = [0, 1, 4]
"""Neighbours kept in reserve; 0 for small collections, which keep none."""

EDITS = st.tuples(
    st.sampled_from(
        "insert insert update update before after half swap delete delete rekey duplicate vacuum "
        "template model prefix similarities store chunk".split()
    ),
    st.integers(0, 40),
    st.integers(0, 40),
    TEXTS,
)


@pytest.fixture(scope="module")
def server():
    with OpenAIServer(dimensions=8, refuse=lambda text: "refuse" in text) as running:
        yield running


@dataclass
class World:
    """A table, how it is configured, and a plain model of what a build of it must pay for."""

    path: Path
    kind: str
    server: OpenAIServer
    config: dict = field(
        default_factory=lambda: {
            "table": "t",
            "template": "{{ body }}",
            "similarities": 3,
            "model": hard.MODEL,
            "chunk": False,
        }
    )
    serial: int = 1000
    known: set = field(default_factory=set)

    def __post_init__(self) -> None:
        hard.change(self.path, KEYS[self.kind])
        for number in range(16):
            self.insert(WORDS[number % len(WORDS)] + f" {number % 5}")
        self.insert("\n\n".join(SENTENCES[:6]))

    def rows(self) -> list[tuple]:
        """Return (rowid or key, body) in a fixed order."""
        name = "k" if self.kind == "without rowid" else "rowid"
        return hard.query(self.path, f"select {name}, body from t order by 1")

    def insert(self, text: str | None) -> None:
        self.serial += 1
        key = self.serial if self.kind == "integer" else f"key {self.serial}"
        hard.change(self.path, ("insert into t (k, body) values (?, ?)", [key, text]))

    def edit(self, kind: str, i: int, j: int, text: str | None) -> None:
        """Do one edit; i and j choose rows."""
        rows = self.rows()
        name = "k" if self.kind == "without rowid" else "rowid"
        if kind == "insert":
            self.insert(text)
        elif kind == "vacuum":
            with closing(sqlite3.connect(self.path, isolation_level=None)) as conn:
                conn.execute("vacuum")
        elif kind == "template":
            self.config["template"] = ["{{ body }}", "{{ body }} {{ title }}"][i % 2]
        elif kind == "model":
            self.config["model"] = [hard.MODEL, "openai/two"][i % 2]
        elif kind == "prefix":
            self.config["prefix"] = ["", "passage: "][i % 2]
        elif kind == "similarities":
            self.config["similarities"] = [3, 1, 0, 40][i % 4]
        elif kind == "store":
            self.config["store"] = bool(i % 2)
        elif kind == "chunk":
            self.config["chunk"] = CHUNKS[i % len(CHUNKS)]
        elif rows:
            (one, first), (other, second) = rows[i % len(rows)], rows[j % len(rows)]
            self.serial += 1
            update = f"update t set body = ? where {name} = ?"
            new = self.serial if self.kind == "integer" else f"again {self.serial}"
            hard.change(
                self.path,
                *{
                    "update": [(update, [text, one])],
                    "before": [(update, [f"{text}\n\n{first}", one])],
                    "after": [(update, [f"{first}\n\n{text}", one])],
                    "half": [(update, [(first or "")[: len(first or "") // 2], one])],
                    "duplicate": [(update, [second, one])],
                    "swap": [(update, [second, one]), (update, [first, other])],
                    "delete": [(f"delete from t where {name} = ?", [one])],
                    "rekey": [(f"update t set k = ? where {name} = ?", [new, one])],
                }[kind],
            )

    def contents(self) -> set[tuple[str, str]]:
        """Return (model, text) of all that has a vector after a build."""
        texts = hard.query(self.path, "select body, title from t")
        prefix, template = self.config.get("prefix", ""), self.config["template"]
        filled = [template.replace("{{ body }}", b or "").replace("{{ title }}", t or "") for b, t in texts]
        made = [prefix + text for text in filled if text.strip()]
        if self.config["chunk"]:
            model = get_model(self.config["model"], hard.settings(self.server))
            cut = Chunker(model, self.config["chunk"], prefix)
            made = [chunk.content for text in made for chunk in cut.chunks("", text)]
        return {(self.config["model"], text) for text in made if "refuse" not in text}

    def build(self) -> str:
        """Build, and check that exactly the texts that had no vector were paid for, once each."""
        wanted = self.contents()
        before = len(self.server.texts)
        config = hard.write_config(self.path.with_suffix(".json"), self.server, {"c": self.config})
        output = hard.run("build", self.path, "-c", config).output
        paid = Counter(text for text in self.server.texts[before:] if text != "hello")
        assert paid == Counter(text for _, text in wanted - self.known)
        self.known = wanted
        return output

    def from_scratch(self) -> Path:
        """Return a new file with the same rows, built once."""
        path = self.path.with_name("scratch.db")
        hard.change(path, KEYS[self.kind])
        columns = "body, title, k" + {"compound": ", l", "rowid": ", rowid"}.get(self.kind, "")
        with closing(sqlite3.connect(path)) as conn, conn:
            conn.execute("attach ? as other", [str(self.path)])
            conn.execute(f"insert into t ({columns}) select {columns} from other.t")
        fresh = World.__new__(World)
        fresh.__dict__.update(self.__dict__, path=path, known=set())
        fresh.build()
        return path


@contextmanager
def reserve(spare: int):
    """Have collections of any size keep so many neighbours in reserve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(derive, "RESERVED_ROWS", 0)
        patch.setattr(derive, "RESERVED_SIMILARITIES", spare)
        yield


@pytest.mark.parametrize("kind", KEYS)
@settings(
    phases=PHASES,
    max_examples=max(1, EXAMPLES // len(KEYS)),
    deadline=None,
    derandomize="EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
@given(
    steps=st.lists(st.lists(EDITS, min_size=1, max_size=3), min_size=2, max_size=4),
    chunk=st.sampled_from(CHUNKS),
    spare=st.sampled_from(SPARE),
)
def test_incremental_equals_from_scratch(server, kind, steps, chunk, spare):
    with tempfile.TemporaryDirectory(dir=hard.MEMORY) as folder, reserve(spare):
        world = World(Path(folder) / "data.db", kind, server)
        world.config["chunk"] = chunk
        world.build()
        for edits in steps:
            for edit in edits:
                world.edit(*edit)
            world.build()
        assert "nothing changed" in world.build().lower()
        assert hard.tables_of(world.path, "c") == hard.tables_of(world.from_scratch(), "c")
        rows = len(world.rows())
        assert hard.account(world.path, "c")[0] == rows


def direction(number: int) -> bytes:
    """Return one of 27 vectors, some of which are equal and most of which score the same with many others."""
    digits = np.array([number // 9 % 3, number // 3 % 3, number % 3], np.float32) - 1
    row = np.append(digits, np.float32(0.5))
    return (row / np.linalg.norm(row)).astype(np.float32).tobytes()


def nearest(path: Path, k: int) -> list[tuple[str, str, float]]:
    """Return the *k* nearest of each item, by comparing all with all."""
    stored = hard.query(path, "select id, embedding from embeddings order by id")
    names = [name for name, _ in stored]
    rows = np.array([np.frombuffer(blob, np.float32) for _, blob in stored])
    found = []
    for place, name in enumerate(names):
        ranked = sorted(zip(-score_rows(rows, rows[place]), names, strict=True))
        found += [(name, other, -score) for score, other in ranked if other != name][:k]
    return sorted(found)


def similarities(path: Path, k: int) -> list[tuple[str, str, float]]:
    """Bring the stored similarities up to date, and return them."""
    hard.run("similarities", path, "c", "-n", k)
    return hard.query(path, "select id, other_id, score from similarities order by 1, 2, 3")


ITEMS = 40
VECTOR_EDITS = st.tuples(st.sampled_from("replace copy delete insert".split()), st.integers(0, 99), st.integers(0, 99))


def edit_vector(path: Path, kind: str, i: int, j: int) -> None:
    """Change one vector as another program would that knows llm's tables only."""
    names = [name for (name,) in hard.query(path, "select id from embeddings order by id")]
    later = "cast(strftime('%s', 'now') as integer) + 5"
    sql, values = {
        "replace": (
            f"update embeddings set embedding = ?, updated = {later} where id = ?",
            [direction(j), names[i % len(names)]],
        ),
        "copy": (
            f"update embeddings set embedding = (select embedding from embeddings where id = ?), updated = {later} where id = ?",
            [names[i % len(names)], names[j % len(names)]],
        ),
        "delete": ("delete from embeddings where id = ?", [names[i % len(names)]]),
        "insert": (
            "insert or ignore into embeddings (collection_id, id, embedding) values (1, ?, ?)",
            [f"{j:02}", direction(i)],
        ),
    }[kind]
    hard.change(path, (sql, values))


def collection_of(path: Path, vectors: list[bytes]) -> None:
    """Make a file with one collection `c`."""
    with Store(path, create=True) as store:
        items = [StoredItem(f"{n:02}", vector, None, None, b"", None) for n, vector in enumerate(vectors)]
        store.save(store.create("c", "static"), items, 0, None)


@settings(
    phases=PHASES,
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
@given(steps=st.lists(st.tuples(st.sampled_from(SPARE), st.lists(VECTOR_EDITS, max_size=8)), min_size=2, max_size=6))
def test_similarities_follow_the_vectors(steps):
    """Whatever the ties, whatever was kept in reserve before."""
    with tempfile.TemporaryDirectory(dir=hard.MEMORY) as folder:
        path = Path(folder) / "data.db"
        collection_of(path, [direction(7 * n) for n in range(ITEMS)])
        for spare, edits in steps:
            for edit in edits:
                edit_vector(path, *edit)
            with reserve(spare):
                assert similarities(path, 3) == nearest(path, 3)
            kept = hard.query(path, "select value from embeddings_reserve, json_each(ids)")
            names = hard.query(path, "select id from embeddings order by id")
            assert kept == (names if spare else [])


def test_who_follows_a_neighbour_that_goes_is_kept(tmp_path, monkeypatch):
    """Only rows that lost more than was kept in reserve are compared with all others again."""
    path, random = tmp_path / "data.db", np.random.default_rng(1)
    rows = random.standard_normal((ITEMS, 8)).astype(np.float32)
    collection_of(path, [row.tobytes() for row in rows / np.linalg.norm(rows, axis=1, keepdims=True)])
    compared = []
    neighbors_of = derive.neighbors_of
    monkeypatch.setattr(
        derive,
        "neighbors_of",
        lambda matrix, rows, *more: compared.append(len(rows)) or neighbors_of(matrix, rows, *more),
    )
    with reserve(4):
        similarities(path, 3)
        for item in ("03", "11"):
            hard.change(path, ("delete from embeddings where id = ?", [item]))
            assert similarities(path, 3) == nearest(path, 3)
        assert set(compared) == {0}
        hard.change(path, "delete from embeddings_reserve")
        hard.change(path, "delete from embeddings where id = '20'")
        assert similarities(path, 3) == nearest(path, 3)
        assert max(compared) > 0


@pytest.mark.parametrize(
    "damage",
    [
        "delete from similarities where id = '04'",
        "delete from similarities where id = '05' and score = (select max(score) from similarities where id = '05')",
        "insert into similarities values ('04', 'gone', 0.5, 1)",
        "update embeddings_reserve set others = x'00'",
        "update embeddings_reserve set others = others || others",
        "update embeddings_reserve set others = cast(replace(hex(others), '0', '7') as blob)",
        "update embeddings_reserve set ids = '[]'",
        "update embeddings_reserve set ids = null",
        "delete from embeddings_reserve",
    ],
)
def test_damaged_similarities_are_made_anew(tmp_path, damage):
    path = tmp_path / "data.db"
    collection_of(path, [direction(7 * n) for n in range(ITEMS)])
    with reserve(2):
        before = similarities(path, 3)
        hard.change(path, damage)
        assert similarities(path, 3) == before
