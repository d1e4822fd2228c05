"""Maps: what coordinates mean, that they stay while rows come and go, and what becomes of data that has no two directions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import hard
import numpy as np
import pytest
import yaml

from datasette_embeddings.store import Store, StoredItem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

RANDOM = np.random.default_rng(5)


def units(rows: NDArray) -> Rows:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def write(path: Path, rows: Rows) -> Path:
    """Write vectors as the collection `c`, as another program would."""
    with Store(path, create=True) as store:
        collection = store.create("c", "static")
        items = [StoredItem(f"{n:04}", row.tobytes(), None, None, b"%d" % n, None) for n, row in enumerate(rows)]
        store.save(collection, items, 0, None)
    return path


def points(path: Path) -> dict[str, tuple[float, float]]:
    return {item: point for item, *point in hard.query(path, "select id, x, y from projections order by id")}


def axes(path: Path) -> list[tuple]:
    return hard.query(path, "select method, mean, basis, explained, items from embeddings_projections")


def test_coordinates_are_those_of_the_principal_components(tmp_path: Path) -> None:
    """As a decomposition of the centred rows gives them, but for signs; and what they show is kept."""
    rows = units(RANDOM.standard_normal((300, 24)) / np.arange(1, 25) + 0.3)
    path = write(tmp_path / "c.db", rows)
    hard.run("project", path, "c")
    found = np.array(list(points(path).values()))
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    for axis in (0, 1):
        expected = centred @ directions[axis]
        sign = np.sign(expected @ found[:, axis])
        np.testing.assert_allclose(found[:, axis], sign * expected, atol=2e-5)
        assert (sign * directions[axis])[np.abs(directions[axis]).argmax()] > 0
    ((method, _, _, explained, items),) = axes(path)
    assert (method, items) == ("pca", 300)
    np.testing.assert_allclose(json.loads(explained), (values**2 / (values**2).sum())[:2], atol=1e-5)


DEGENERATE = {
    "none": np.zeros((0, 8)),
    "one": np.ones((1, 8)),
    "two": np.eye(8)[:2],
    "all equal": np.ones((50, 8)),
    "rank 1": np.array([[1.0] * 8, [-1.0] * 8] * 20),
    "fewer than dimensions": RANDOM.standard_normal((3, 64)),
    "one dimension": np.array([[1.0], [-1.0], [1.0]]),
    "repeated": np.repeat(RANDOM.standard_normal((4, 8)), 10, axis=0),
}


@pytest.mark.parametrize("kind", DEGENERATE)
def test_data_without_two_directions_has_a_map(tmp_path: Path, kind: str) -> None:
    """Every row has finite coordinates, equal rows the same, and the same again."""
    rows = DEGENERATE[kind]
    path = write(tmp_path / "c.db", units(rows) if len(rows) else rows.astype(np.float32))
    hard.run("project", path, "c")
    found = points(path)
    assert len(found) == len(rows)
    assert np.isfinite(list(found.values())).all()
    alike: dict[bytes, set[tuple[float, float]]] = {}
    for row, point in zip(rows, found.values(), strict=True):
        alike.setdefault(row.tobytes(), set()).add(tuple(point))
    assert all(len(places) == 1 for places in alike.values())
    if kind in {"one", "all equal"}:
        assert set(map(tuple, found.values())) == {(0.0, 0.0)}
    before = points(path), axes(path)
    hard.run("project", path, "c")
    assert (points(path), axes(path)) == before


def make_notes(path: Path, count: int) -> Path:
    """Write a table of short notes, and a configuration that maps them."""
    words = "rain snow wind bread butter train bus cat dog river mountain law court vote bank".split()
    rows = [(n, f"{words[n % 15]} and {words[n * 7 % 13]} in the {words[n * 3 % 11]}") for n in range(count)]
    hard.change(path, "create table notes (id integer primary key, body text)")
    hard.change(path, *(("insert into notes values (?, ?)", row) for row in rows))
    configure(path, projection="pca")
    return path


def configure(path: Path, **more: object) -> Path:
    collection = {"table": "notes", "columns": ["body"], "model": "static", "similarities": 0, **more}
    config = path.with_suffix(".yml")
    config.write_text(yaml.safe_dump({"collections": {"notes": collection}}))
    return config


def build(path: Path, *more: object) -> str:
    return hard.run("build", path, "-c", path.with_suffix(".yml"), *more).output


def test_a_map_stays_while_rows_come_and_go(tmp_path: Path) -> None:
    """Rows keep their coordinates; new and changed ones are placed along the same axes; a second build has nothing to do."""
    path = make_notes(tmp_path / "n.db", 60)
    build(path)
    before, made = points(path), axes(path)
    assert "nothing changed" in build(path)
    hard.change(
        path,
        "delete from notes where id in (3, 4)",
        "update notes set body = 'a quiet court' where id = 5",
        "insert into notes values (100, 'a bus in the wind')",
        "insert into notes values (101, 'rain and rain in the rain')",
    )
    build(path)
    after = points(path)
    assert after.keys() == before.keys() - {"3", "4"} | {"100", "101"}
    moved = {item for item in after.keys() & before.keys() if after[item] != before[item]}
    assert moved == {"5"}
    assert axes(path) == made
    build(path, "--rebuild")
    assert axes(path) != made


@pytest.mark.parametrize("sign", [1, -1])
def test_a_map_of_twice_as_many_rows_is_drawn_anew_the_same_way_round(tmp_path: Path, sign: int) -> None:
    """Its axes are those of all rows then, each in the direction in which it was."""
    path = make_notes(tmp_path / "n.db", 40)
    build(path)
    ((_, _, old, _, _),) = axes(path)
    was = sign * np.frombuffer(old, "<f4")
    hard.change(path, ("update embeddings_projections set basis = ?", [was.tobytes()]))
    hard.change(path, "insert into notes select id + 1000, body || ' again' from notes")
    build(path)
    ((_, _, new, _, items),) = axes(path)
    assert items == 80
    turned = np.vecdot(np.frombuffer(new, "<f4").reshape(2, -1), was.reshape(2, -1))
    assert (turned > 0).all()


def test_a_map_goes_when_nobody_wants_it(tmp_path: Path) -> None:
    """By the configuration, and by the command, which says what a configuration then does."""
    path = make_notes(tmp_path / "n.db", 20)
    build(path)
    assert len(points(path)) == 20
    configure(path)
    build(path)
    assert (points(path), axes(path)) == ({}, [])
    said = hard.run("project", path, "notes").output
    assert "20 rows on a map by pca" in said
    assert "projection: pca" in said
    assert "no map" in hard.run("project", path, "notes", "--remove").output
    assert (points(path), axes(path)) == ({}, [])
    assert "contradict" in hard.run("project", path, "notes", "--remove", "--method", "pca", expect=2).output


def test_rows_in_chunks_are_on_the_map_once(tmp_path: Path) -> None:
    """At the normalised mean of their chunks."""
    path = make_notes(tmp_path / "n.db", 12)
    hard.change(
        path, "update notes set body = replace(hex(zeroblob(4)), '00', body || '. And ' || body || char(10, 10))"
    )
    configure(path, projection="pca", chunk=16)
    build(path)
    assert len(hard.query(path, "select 1 from chunks")) > 12
    assert points(path).keys() == {str(n) for n in range(12)}


def test_umap_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the command that brings it, and what is there stays."""
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    path = make_notes(tmp_path / "n.db", 20)
    build(path)
    before = points(path)
    failed = hard.run("project", path, "notes", "--method", "umap", expect=1)
    assert "pip install 'datasette-embeddings-suite[umap]'" in failed.output
    assert points(path) == before


@pytest.mark.parametrize(("value", "said"), [("mds", "pca or umap was expected"), (3, "pca or umap was expected")])
def test_an_unknown_method(tmp_path: Path, cli: Callable, value: object, said: str) -> None:
    """What is expected is named."""
    path = make_notes(tmp_path / "n.db", 2)
    config = configure(path, projection=value)
    assert said in cli("build", path, "-c", config, code=1).output


@pytest.mark.models
def test_umap_keeps_near_what_is_near_and_places_new_rows_among_it(tmp_path: Path) -> None:
    """Groups stay groups; a second build changes nothing; new rows stand by their nearest, and nobody moves."""
    pytest.importorskip("umap")
    groups = np.repeat(np.eye(16)[:4], 40, axis=0)
    rows = units(groups + 0.2 * RANDOM.standard_normal((160, 16)))
    path = write(tmp_path / "c.db", rows)
    hard.run("project", path, "c", "--method", "umap")
    found = np.array(list(points(path).values())).reshape(4, 40, 2)
    centres = found.mean(axis=1)
    spread = np.linalg.norm(found - centres[:, None], axis=2).mean()
    apart = min(np.linalg.norm(centres[a] - centres[b]) for a in range(4) for b in range(a))
    assert apart > 2 * spread
    before = points(path)
    hard.run("project", path, "c", "--method", "umap")
    assert points(path) == before
    with Store(path) as store:
        new = StoredItem("new", units(groups[:1] + 0.01).tobytes(), None, None, b"new", None)
        store.save(store.find("c"), [new], 0, None)
    hard.run("similarities", path, "c", "-n", "2")
    after = points(path)
    assert {item: after[item] for item in before} == before
    assert np.linalg.norm(np.array(after["new"]) - centres[0]) < spread * 2
