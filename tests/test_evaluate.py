"""`evaluate`: one's own questions, asked of a collection by words, by meaning and by both."""

from __future__ import annotations

import csv
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from datasette_embeddings import evaluation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ASKED = [
    ("storm that floods the coast", "news/storm"),
    ("injection for children", "news/vaccine"),
    ("tournament on grass", "news/tennis"),
    ("patients wait for operations", "news/hospital"),
    ("temperature in the warm season", "news/heat"),
    ("sports result", "news/football"),
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Questions to the articles, as CSV."""
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("question", "id"), *ASKED])
    return path


def measured(cli: Callable, path: Path, pairs: Path, *options: object) -> dict[str, Any]:
    """Return what --json says."""
    return json.loads(cli("evaluate", path, "articles", "--pairs", pairs, "--json", *options).output)


def by_way(said: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["way"]: one for one in said["measures"]}


# Measures


def test_reciprocal_rank_and_recall() -> None:
    """Of the first right item, and of all of them; what comes after the depth counts for nothing."""
    found = [f"item{n}" for n in range(1, 21)]
    assert evaluation.reciprocal_rank(found, {"item1"}) == 1.0
    assert evaluation.reciprocal_rank(found, {"item4", "item9"}) == 0.25
    assert evaluation.reciprocal_rank(found, {"item10"}) == pytest.approx(0.1)
    assert evaluation.reciprocal_rank(found, {"item11"}) == 0.0
    assert evaluation.reciprocal_rank(found, {"item11"}, depth=20) == pytest.approx(1 / 11)
    assert evaluation.reciprocal_rank([], {"item1"}) == 0.0
    assert evaluation.recall(found, {"item1", "item10", "item11", "other"}) == 0.5
    assert evaluation.recall(["item1", "item1"], {"item1", "item2"}) == 0.5
    with pytest.raises(ValueError, match="there are none"):
        evaluation.recall(found, set())


def test_interval_is_that_of_the_mean() -> None:
    """About 1.96 standard errors to each side of many values; the same every time, however they are drawn."""
    values = np.random.default_rng(3).random(400)
    mean, low, high = evaluation.interval(values)
    error = values.std() / np.sqrt(len(values))
    assert mean == pytest.approx(values.mean())
    assert (mean - low, high - mean) == (pytest.approx(1.96 * error, rel=0.1), pytest.approx(1.96 * error, rel=0.1))
    assert evaluation.interval(values) == (mean, low, high)
    assert evaluation.interval(values, seed=1) != (mean, low, high)
    assert evaluation.interval(np.ones(5)) == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="no values"):
        evaluation.interval(np.array([]))


def test_interval_of_many_values_needs_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are drawn bit by bit, all of those that were asked for."""
    values = np.random.default_rng(3).random(300)
    monkeypatch.setattr(evaluation, "NUMBERS_AT_ONCE", 1_000)
    mean, low, high = evaluation.interval(values, resamples=2_000)
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(300), rel=0.15)


# Three ways


def test_figures_are_those_of_the_searches(built: Path, pairs: Path, cli: Callable, query: Callable) -> None:
    """Counted again from embed_search and embed_hybrid."""
    said = by_way(measured(cli, built, pairs))
    for way, function in (("meaning", "embed_search"), ("both", "embed_hybrid")):
        sql = f"select json_extract(value, '$.id') from json_each({function}('articles', ?, 10))"
        ranks = [[row[0] for row in query(built, sql, text)].index(right) + 1 for text, right in ASKED]
        assert said[way]["mrr"]["mean"] == pytest.approx(np.mean([1 / rank for rank in ranks]))
        assert said[way]["first"] == ranks.count(1)
        assert (said[way]["within"], said[way]["not_found"]) == (6, 0)
        assert said[way]["recall"]["mean"] == 1.0
        assert said[way]["mrr"]["low"] <= said[way]["mrr"]["mean"] <= said[way]["mrr"]["high"]
    assert said["words"]["not_found"] == 1
    assert said["words"]["recall"]["mean"] == pytest.approx(5 / 6)


def test_difference_to_the_better_of_the_two(built: Path, pairs: Path, cli: Callable) -> None:
    """Paired: both less meaning, which finds more here than words do."""
    said = measured(cli, built, pairs)
    ways = by_way(said)
    assert said["difference"]["over"] == "meaning"
    assert said["difference"]["mrr"]["mean"] == pytest.approx(
        ways["both"]["mrr"]["mean"] - ways["meaning"]["mrr"]["mean"]
    )
    lines = cli("evaluate", built, "articles", "--pairs", pairs).output.splitlines()
    assert lines[0] == "articles: 6 questions to 8 items, by static"
    assert [line.split()[0] for line in lines[3:6]] == ["words", "meaning", "both"]
    assert any(line.startswith("both - meaning, the better of the two: MRR@10 ") for line in lines)


def test_depth_decides_what_counts_as_found(built: Path, pairs: Path, cli: Callable) -> None:
    """`-n 1`: what is not first is not found, in MRR and in recall."""
    deep, shallow = by_way(measured(cli, built, pairs)), by_way(measured(cli, built, pairs, "-n", 1))
    for way in ("words", "meaning", "both"):
        assert shallow[way]["first"] == shallow[way]["within"] == deep[way]["first"]
        assert shallow[way]["mrr"]["mean"] == shallow[way]["recall"]["mean"] == shallow[way]["first"] / 6
    assert "MRR@1 " in cli("evaluate", built, "articles", "--pairs", pairs, "-n", 1).output


def test_questions_answered_worst(built: Path, tmp_path: Path, cli: Callable) -> None:
    """With where the answer stood, also below the depth, and what came first instead."""
    path = tmp_path / "pairs.json"
    path.write_text(
        json.dumps(
            [{"question": "new vaccine for children", "id": "news/tennis"}, {"question": "storm", "id": "news/storm"}]
        )
    )
    (failure,) = measured(cli, built, path, "-n", 1)["failures"]
    assert failure["question"] == "new vaccine for children"
    assert failure["wanted"] == ["news/tennis"]
    assert failure["rank"] > 1
    assert (failure["first"], failure["text"][:20]) == ("news/vaccine", "New vaccine approved")
    line = cli("evaluate", built, "articles", "--pairs", path).output.splitlines()[-1]
    assert line.split()[0] == str(failure["rank"])
    assert "news/tennis" in line
    assert "news/vaccine: New vaccine approved" in line


# Pairs


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pairs.csv", "question,id\nstorm,news/storm\nfloods,news/storm\nfloods,news/heat\n"),
        ("pairs.tsv", "Question\tID\nstorm\tnews/storm\nfloods\tnews/storm\nfloods\tnews/heat\n"),
        ("pairs.txt", "asked;right\nstorm;news/storm\nfloods;news/storm\nfloods;news/heat\n"),
        ("pairs.csv", 'notes,id,question\nx,news/storm,storm\ny,"[""news/storm"", ""news/heat""]",floods\n'),
        (
            "pairs.json",
            '[{"question": "storm", "id": "news/storm"}, {"question": "floods", "ids": ["news/storm", "news/heat"]}]',
        ),
        (
            "pairs.ndjson",
            '{"question": "storm", "id": "news/storm"}\n{"question": "floods", "id": ["news/storm", "news/heat"]}\n',
        ),
        ("pairs.csv", "\ufeffquestion,id\r\nstorm,news/storm\r\nfloods,news/storm\r\nfloods,news/heat\r\n\r\n"),
    ],
)
def test_forms_of_pairs(name: str, text: str, built: Path, tmp_path: Path, cli: Callable) -> None:
    """Named columns, or the first two; one question on several lines, or with a list, has several right answers."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    said = measured(cli, built, tmp_path / name)
    assert said["questions"] == 2
    assert by_way(said)["meaning"]["recall"]["mean"] == 1.0
    assert {tuple(one["wanted"]) for one in said["failures"]} <= {("news/storm",), ("news/storm", "news/heat")}


def test_pairs_from_a_pipe(built: Path, cli: Callable) -> None:
    """`--pairs -`."""
    text = b'{"question": "storm", "id": "news/storm"}\n{"question": "flu", "id": "news/vaccine"}\n'
    assert "2 questions" in cli("evaluate", built, "articles", "--pairs", "-", stdin=text).output


def test_answers_that_are_not_in_the_collection(built: Path, tmp_path: Path, cli: Callable) -> None:
    """Are counted and named, and their questions left out; a question with another right answer stays."""
    path = tmp_path / "pairs.csv"
    wrong = [(f"question {n}", f"gone/{n}") for n in range(7)]
    rows = [("question", "id"), ("storm", "news/storm"), ("storm", "gone/storm"), *wrong]
    path.write_text("\n".join(map(",".join, rows)))
    said = measured(cli, built, path)
    assert said["questions"] == 1
    assert said["notes"][0] == (
        "8 right ids are not in the collection 'articles': gone/storm, gone/0, gone/1, gone/2, gone/3 and 3 more; "
        "7 questions are left out"
    )
    path.write_text("question,id\nstorm,1\n")
    output = cli("evaluate", built, "articles", "--pairs", path, code=1).output
    assert "1 right id is not in the collection 'articles': 1; no question is left" in output
    assert "such as: news/" in output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; it holds, as CSV, TSV, JSON or NDJSON, a question and the id of the row that answers it"),
        ("  \n", "is empty"),
        ("question,id\n", "holds no question"),
        ("question,id\n,news/storm\nstorm,\n", "holds no question"),
        ("storm\nfloods\n", "in columns `question` and `id`; found storm"),
        ("[1, 2]", "every line holds a question and the id of the row that answers it"),
        ('{"question": "storm"', "cannot be read as"),
    ],
)
def test_pairs_that_are_none(text: str, message: str, built: Path, tmp_path: Path, cli: Callable) -> None:
    """Are an error that says what is expected."""
    path = tmp_path / ("pairs.json" if text[:1] in {"[", "{"} else "pairs.csv")
    path.write_text(text)
    output = cli("evaluate", built, "articles", "--pairs", path, code=1).output
    assert message in output
    assert path.name in output


def test_lines_that_say_nothing_are_counted(built: Path, tmp_path: Path, cli: Callable) -> None:
    """And so are too few questions for an interval."""
    path = tmp_path / "pairs.csv"
    path.write_text("question,id\nstorm,news/storm\n,news/heat\nflood,\n")
    notes = measured(cli, built, path)["notes"]
    assert notes[0] == "2 lines have no question or no id, and count for nothing"
    assert notes[1].startswith("fewer than 10 questions: the intervals mean little")


def test_file_and_collection_that_are_not_there(built: Path, pairs: Path, cli: Callable) -> None:
    """Are said by name."""
    assert "cannot be read" in cli("evaluate", built, "articles", "--pairs", pairs.parent / "no.csv", code=1).output
    assert "did you mean articles?" in cli("evaluate", built, "article", "--pairs", pairs, code=1).output


# Collections of every kind


def test_words_that_the_model_does_not_know(built: Path, tmp_path: Path, cli: Callable) -> None:
    """Are found by words alone, or not at all, and are no error."""
    path = tmp_path / "pairs.csv"
    path.write_text("question,id\n東京,news/storm\n")
    said = by_way(measured(cli, built, path))
    assert [said[way]["not_found"] for way in ("words", "meaning", "both")] == [1, 1, 1]


def test_without_a_full_text_index(built: Path, pairs: Path, cli: Callable) -> None:
    """Meaning alone is measured, and it says so."""
    with sqlite3.connect(built) as conn:
        conn.execute("update embeddings_collections set full_text = null")
    said = measured(cli, built, pairs)
    assert list(by_way(said)) == ["meaning"]
    assert said["difference"] is None
    assert "there is no full-text index" in said["notes"][0]
    assert "there is no full-text index" in cli("evaluate", built, "articles", "--pairs", pairs).output


def test_every_kind_of_collection(world: Path, tmp_path: Path, cli: Callable) -> None:
    """Tables with any key, queries, files and pipes: each row is found by its own text."""
    with sqlite3.connect(world) as conn:
        names = [row[0] for row in conn.execute("select name from collections order by name")]
        items = {
            name: [row[0] for row in conn.execute(
                "select e.id from embeddings e join collections c on c.id = e.collection_id where c.name = ?", [name]
            )]
            for name in names
        }  # fmt: skip
    assert len(names) > 4
    for name in names:
        path = tmp_path / "pairs.json"
        path.write_text(json.dumps([{"question": "storm on the coast", "id": item} for item in items[name]]))
        said = json.loads(cli("evaluate", world, name, "--pairs", path, "--json", "-n", 1000).output)
        assert said["items"] == len(items[name])
        assert by_way(said)["meaning"]["recall"]["mean"] == 1.0
        assert said["notes"][-1:] != [] and not any("not in the collection" in note for note in said["notes"])


def test_collection_in_chunks(news: Path, pairs: Path, cli: Callable) -> None:
    """Answers are rows, whatever is embedded."""
    with sqlite3.connect(news) as conn:
        conn.execute(
            "update articles set body = body || char(10, 10) || replace(hex(zeroblob(200)), '0', 'Filler words stand here. ')"
        )
    cli("add", news, "articles", "--chunk-tokens", 32)
    said = measured(cli, news, pairs)
    assert (said["items"], said["questions"]) == (8, 6)
    assert by_way(said)["meaning"]["recall"]["mean"] == 1.0
    assert by_way(said)["words"]["recall"]["mean"] == pytest.approx(5 / 6)


def test_words_of_rows_that_the_collection_leaves_out(news: Path, tmp_path: Path, cli: Callable) -> None:
    """Count for nothing, though the table's own full-text index finds them."""
    with sqlite3.connect(news) as conn:
        conn.execute("create virtual table found using fts5(title, body, content='articles', content_rowid='rowid')")
        conn.execute("insert into found (found) values ('rebuild')")
    source = {"table": "articles", "columns": ["title", "body"], "where": "path != 'news/storm'"}
    block = {"plugins": {"datasette-embeddings": {"collections": {"articles": source}}}}
    (tmp_path / "metadata.json").write_text(json.dumps(block))
    cli("build", tmp_path)
    path = tmp_path / "pairs.csv"
    path.write_text("question,id\nstorm floods the coast in summer,news/heat\n")
    assert by_way(measured(cli, news, path))["words"]["first"] == 1
