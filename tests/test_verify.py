"""`verify`: a built file passes, and each damage is named."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import hard
import pytest
import yaml

from datasette_embeddings import build

if TYPE_CHECKING:
    from pathlib import Path

WORDS = "rain snow wind bread butter train bus cat dog river mountain law court vote bank".split()
HERE = "collection_id = (select id from collections where name = 'notes')"

DAMAGES = {
    "a lost vector": (f"update embeddings set embedding = x'00' where id = '3' and {HERE}", "1 stored vectors are malformed"),
    "vectors of a third program": (f"delete from embeddings where id = '3' and {HERE}", "vectors changed since the last build"),
    "a row twice": (f"insert into embeddings_issues select collection_id, id, 'failed', 'x', null from embeddings where id = '3' and {HERE}", "both have a vector"),
    "an account that does not add up": (f"update embeddings_collections set rows = 99 where {HERE}", "are not 99 rows"),
    "orphans": ("insert into similarities values ('a', 'b', 0.5, 4711)", "1 rows of similarities belong to no collection"),
    "a lost neighbour": (f"delete from similarities where id = '3' and {HERE}", "1 ('3') have not 4 neighbours"),
    "a strange neighbour": (f"update similarities set other_id = 'zz' where rowid_of = 0 and {HERE}", "similarities name 1 ('zz')"),
    "itself": (f"update similarities set other_id = id where id = '3' and score = (select max(score) from similarities where id = '3' and {HERE}) and {HERE}", "neighbours of themselves"),
    "a score of 2": (f"update similarities set score = 2.0 where id = '3' and {HERE}", "another score than the vectors, of 4 ('3'"),
    "a score that is text": (f"update similarities set score = 'high' where id = '3' and {HERE}", "cannot be read"),
    "not the nearest": ("", "the stored neighbours of 1 ('0') are not the nearest"),
    "a table that is gone": ("drop table projections", "projections of our tables and indexes are gone"),
    "an index that is gone": ("drop index idx_predictions_label", "idx_predictions_label of our tables and indexes are gone"),
    "a row off the map": (f"delete from projections where id = '3' and {HERE}", "1 ('3') are in only one of projections and embeddings"),
    "a place that is no number": (f"update projections set x = 9e999 where id = '3' and {HERE}", "1 ('3') have no place on the map"),
    "a row in no cluster": (f"delete from cluster_members where id = '3' and {HERE}", "1 ('3') are in only one of cluster_members and embeddings"),
    "a cluster of another size": (f"update clusters set size = size + 1 where cluster = 2 and {HERE}", "clusters 1 ('2') have not the size"),
    "a cluster that is gone": (f"delete from clusters where cluster = 2 and {HERE}", "clusters 1 ('2') have not the size"),
    "a row without prediction": (f"delete from predictions where id = '3' and {HERE}", "1 ('3') are in only one of predictions and embeddings"),
    "an unknown label": (f"update predictions set label = 'x' where id = '3' and {HERE}", "1 ('3') have a predicted label that is not in labels"),
    "words that are not found": (f"delete from embeddings_documents where id = '3' and {HERE}", "its full-text index is not that of its rows"),
    "sketches of other vectors": (f"update embeddings_sketches set stamp = 'x' where {HERE}", "its sketches are not of its vectors"),
    "an unfinished build": ("insert into embeddings_builds values (1, null, 'here', 0)", "a build is running, or ended before its end"),
    "a half-built successor": ("insert into collections (name, model) values ('notes~next', 'static')", "was not finished"),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with everything that a build makes."""
    path = tmp_path_factory.mktemp("whole") / "n.db"
    rows = [
        (n, f"{WORDS[n % 15]} and {WORDS[n * 7 % 13]} in the {WORDS[n * 3 % 11]}", "even odd".split()[n % 2])
        for n in range(60)
    ]
    hard.change(path, "create table notes (id integer primary key, body text, kind text)")
    hard.change(path, *(("insert into notes values (?, ?, ?)", row) for row in rows))
    common = {"table": "notes", "model": "static", "similarities": 4, "clusters": 3, "projection": "pca"}
    collections = {
        "notes": {**common, "columns": ["body"], "labels": "kind"},
        "parts": {**common, "template": "{{ body }}\n\n{{ body }} again", "chunk": 16},
    }
    path.with_suffix(".yml").write_text(yaml.safe_dump({"collections": collections}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "SKETCHED_ROWS", 10)
        hard.run("build", path, "-c", path.with_suffix(".yml"))
    return path


@pytest.fixture
def whole(whole_once: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copy(whole_once, tmp_path / "n.db")


def test_a_built_file_is_whole(whole: Path) -> None:
    """Nothing is written to it either."""
    before = whole.read_bytes()
    assert hard.run("verify", whole).output == "n.db: 2 collections, all as it should be\n"
    assert whole.read_bytes() == before


def test_files_without_collections(tmp_path: Path) -> None:
    """A file that nothing was built in has nothing broken."""
    path = tmp_path / "plain.db"
    hard.change(path, "create table t (x)")
    assert "0 collections, all as it should be" in hard.run("verify", path).output


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_named(whole: Path, damage: str) -> None:
    """In words, with exit code 1."""
    statement, said = DAMAGES[damage]
    if damage == "not the nearest":
        far = hard.query(
            whole,
            f"select e.id from embeddings e where e.{HERE} and e.id != '0' and e.id not in (select other_id from similarities where id = '0' and {HERE})",
        )
        swap_last(whole, far[0][0])
    elif damage == "a strange neighbour":
        (other,) = hard.query(whole, f"select other_id from similarities where id = '3' and {HERE} limit 1")[0]
        hard.change(
            whole, (f"update similarities set other_id = 'zz' where id = '3' and other_id = ? and {HERE}", [other])
        )
    else:
        hard.change(whole, statement)
    assert said in hard.run("verify", whole, expect=1).output


def swap_last(path: Path, far: str) -> None:
    """Put another row, with its true score, in the place of the last neighbour of the row 0."""
    from contextlib import closing

    from datasette_embeddings import register
    from datasette_embeddings.database import connect

    with closing(connect(path)) as conn:
        register(conn)
        vectors = f"(select embedding from embeddings where id = ? and {HERE})"
        (score,) = conn.execute(f"select round(embed_dot({vectors}, {vectors}), 6)", ["0", far]).fetchone()
        (last,) = conn.execute(
            f"select other_id from similarities where id = '0' and {HERE} order by score, other_id desc"
        ).fetchone()
    hard.change(
        path,
        (
            f"update similarities set other_id = ?, score = ? where id = '0' and other_id = ? and {HERE}",
            [far, score, last],
        ),
    )


def test_damages_of_chunks(whole: Path) -> None:
    """A chunk without a vector, and a vector without a place."""
    hard.change(whole, "delete from chunks where id = '3#0'")
    assert "1 ('3#0') have a vector, and stand nowhere in chunks" in hard.run("verify", whole, expect=1).output
    hard.change(whole, "delete from embeddings where id in ('3#0', '4#0')")
    assert "vectors changed since the last build" in hard.run("verify", whole, expect=1).output


def test_a_damaged_page(whole: Path) -> None:
    """What SQLite finds is said."""
    size = whole.stat().st_size
    with whole.open("r+b") as file:
        file.seek(size - 4_096)
        file.write(b"\xff" * 2_048)
    assert hard.run("verify", whole, expect=1).output
