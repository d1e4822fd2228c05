"""Hit rate at 3 of the twenty questions in demo/questions.json, which were written before anything was embedded.

A question is a hit where one of its right answers is among the first three rows of the table `functions`. The peer is SQLite's
FTS5 over the same text, any word of the question, by BM25.
"""

from __future__ import annotations

import json
import re
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from bench import common
from datasette_embeddings import register

QUESTIONS = common.ROOT / "demo" / "questions.json"
MODELS = ("minilm", "static")
DEPTH = 3
TEMPLATE = "{{ symbol }}\\n\\n{{ code }}"
CONFIG = """
plugins:
  datasette-embeddings:
    collections:
      {model}: {{database: {database}, table: functions, template: "{template}", model: {model}, similarities: 0}}
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    quick = common.quick(__doc__, argv)
    questions = json.loads(QUESTIONS.read_text("utf-8"))["questions"]
    table = common.Table(("search", f"hit rate at {DEPTH}", "right answer first", "not found"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "functions.db"
        fill(path, 200 if quick else None)
        measure("SQLite FTS5, BM25, porter", questions, full_text(path), table)
        for model in MODELS[1:] if quick else MODELS:
            measure(model, questions, semantic(path, model), table)
    print(table)


def fill(path: Path, limit: int | None) -> None:
    """Write the table `functions` as the demonstration does."""
    from demo import functions

    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute(functions.TABLE)
        rows = list(functions.rows())[:limit]
        conn.executemany(f"insert into functions values ({', '.join('?' * len(rows[0]))})", rows)


def measure(
    name: str, questions: list[dict[str, object]], search: Callable[[str], list[str]], table: common.Table
) -> None:
    """Add one way of searching to *table*."""
    ranks = []
    missed = []
    for question in questions:
        found = [item in question["answers"] for item in search(str(question["question"]))]  # type: ignore[operator]
        ranks.append(found.index(True) + 1 if True in found else 0)
        if not ranks[-1]:
            missed.append(str(question["question"]))
    hits = sum(1 for rank in ranks if rank)
    first = sum(1 for rank in ranks if rank == 1)
    share = f"{hits / len(ranks):.2f} ({hits} of {len(ranks)})"
    table.rows.append((name, share, first, "; ".join(missed) or "none"))


def full_text(path: Path) -> Callable[[str], list[str]]:
    """Return a search by FTS5."""
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("create virtual table temp.words using fts5(id unindexed, text, tokenize='porter unicode61')")
    conn.execute("insert into temp.words select id, symbol || char(10, 10) || code from functions")

    def search(question: str) -> list[str]:
        match = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question))
        sql = "select id from temp.words where words match ? order by rank limit ?"
        return [row[0] for row in conn.execute(sql, [match, DEPTH])]

    return search


def semantic(path: Path, model: str) -> Callable[[str], list[str]]:
    """Return a search by the vectors of a model, built by the command that everybody uses."""
    common.build(path, CONFIG.format(model=model, database=path.stem, template=TEMPLATE))
    conn = sqlite3.connect(path)
    register(conn)

    def search(question: str) -> list[str]:
        sql = "select value ->> 'id' from json_each(embed_search(?, ?, ?))"
        return [row[0] for row in conn.execute(sql, [model, question, DEPTH])]

    return search


if __name__ == "__main__":
    main()
