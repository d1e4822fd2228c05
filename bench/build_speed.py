"""A build of 20,000 short titles: the first one, a second with nothing changed, and one with 1 percent of the rows changed.

Each is `datasette embeddings build` in a process of its own, similarities (10) included where not said otherwise; "beyond
start-up" leaves out what the same command takes that finds nothing to do on a file of one title: Python, imports, the model. Titles are the names and first docstring lines of functions
and classes in the Python packages at hand, all different. "Embedding alone" is the model in memory, from a cold cache of words.
"""

from __future__ import annotations

import ast
import random
import sqlite3
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from bench import common

ROWS, QUICK_ROWS = 20_000, 1_000
CHANGED = 0.01
MODELS = ("static", "minilm")

MOST_AGAIN = 2.0
MOST_SHARE = 10.0
TITLES_A_SECOND = 10_000
EMBEDDED_A_SECOND = 30_000

CONFIG = """
plugins:
  datasette-embeddings:
    collections:
      titles: {{database: {database}, table: titles, columns: [title], model: {model}, similarities: {k}}}
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    if list(argv or sys.argv[1:])[:1] == ["--embed"]:
        embed_alone(int(sys.argv[2]))
        return
    quick = common.quick(__doc__, argv)
    rows = QUICK_ROWS if quick else ROWS
    texts = titles(rows)
    columns = ("model", "build", "s", "beyond start-up", "processor s beyond start-up", "share of the first")
    table = common.Table(columns)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        startup = {model: start_up(model, folder) for model in MODELS}
        for model in MODELS:
            measure(model, folder / f"{model}.db", texts, startup[model], table, quick)
        into_the_table(folder / "plain.db", texts, startup["static"], table, quick)
    embedded(rows, table, quick)
    print(table)


def start_up(model: str, folder: Path) -> common.Used:
    """Return the median of what a build takes that has nothing to do on one title."""
    path = folder / f"{model}-start.db"
    write(path, ["one title"])
    config = CONFIG.format(database=path.stem, model=model, k=10)
    common.build(path, config)
    return sorted((common.build(path, config) for _ in range(5)), key=lambda one: one.processor)[2]


def measure(model: str, path: Path, texts: list[str], startup: common.Used, table: common.Table, quick: bool) -> None:
    """Add three builds by one model to *table*."""
    write(path, texts)
    config = CONFIG.format(database=path.stem, model=model, k=10)
    first = common.build(path, config)
    again = common.build(path, config)
    change(path, len(texts))
    changed = common.build(path, config)
    for name, used in (("first", first), ("nothing changed", again), ("1 percent changed", changed)):
        table.rows.append((model, name, *figures(used, startup, first)))
    if not quick:
        table.goal(f"{model}, nothing changed", again.seconds - startup.seconds, MOST_AGAIN, "s beyond start-up")
        share = 100 * (changed.processor - startup.processor) / (first.processor - startup.processor)
        table.goal(f"{model}, 1 percent changed, of the first build's processor time", share, MOST_SHARE, "percent")


def into_the_table(path: Path, texts: list[str], startup: common.Used, table: common.Table, quick: bool) -> None:
    """Add a first build by the static model without similarities."""
    write(path, texts)
    used = common.build(path, CONFIG.format(database=path.stem, model="static", k=0))
    table.rows.append(("static", "first, without similarities", *figures(used, startup, used)))
    if not quick:
        rate = len(texts) / (used.seconds - startup.seconds)
        table.goal("static, end to end", rate, TITLES_A_SECOND, "titles a second", least=True)
        rate = len(texts) / (used.processor - startup.processor)
        table.goal("the same by processor time", rate, TITLES_A_SECOND, "titles a second", least=True)


def embedded(rows: int, table: common.Table, quick: bool) -> None:
    """Add the model alone: the median of several processes, each with a cold cache."""
    runs = sorted(float(common.output("-m", "bench.build_speed", "--embed", str(rows))) for _ in range(5))
    table.note(
        f"Static model, embedding alone, {rows:,} titles: {common.number(rows / runs[2])} titles a processor second."
    )
    if not quick:
        table.goal("static, embedding alone", rows / runs[2], EMBEDDED_A_SECOND, "titles a second", least=True)


def embed_alone(rows: int) -> None:
    """Print the processor seconds that the static model, loaded but with nothing remembered, takes for the titles."""
    from datasette_embeddings.models import get_model

    texts, model = titles(rows), get_model("static")
    started = time.process_time()
    for _ in model.embed_many(texts, "document"):
        pass
    print(time.process_time() - started)


def figures(used: common.Used, startup: common.Used, first: common.Used) -> tuple[str, ...]:
    """Return the columns of one build."""
    beyond = used.processor - startup.processor
    return (
        common.number(used.seconds),
        common.number(used.seconds - startup.seconds),
        common.number(beyond),
        f"{beyond / (first.processor - startup.processor):.1%}",
    )


def write(path: Path, texts: list[str]) -> None:
    """Make a table of titles."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("create table titles (id integer primary key, title text)")
        conn.executemany("insert into titles (title) values (?)", ((text,) for text in texts))


def change(path: Path, rows: int) -> None:
    """Change 1 percent of the titles, spread over the table."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("update titles set title = title || ', revised' where id % ? = 0", [round(1 / CHANGED)])


def titles(count: int) -> list[str]:
    """Return that many different short titles, in an order that does not change on one machine."""
    found: dict[str, None] = {}
    for folder in dict.fromkeys((sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))):
        for path in sorted(Path(folder).rglob("*.py")):
            found.update(dict.fromkeys(titles_of(path)))
            if len(found) >= 3 * count:
                break
    texts = list(found)
    random.Random(common.SEED).shuffle(texts)
    if len(texts) < count:
        raise SystemExit(f"the packages at hand have {len(texts)} documented functions; {count} are needed")
    return texts[:count]


def titles_of(path: Path) -> Iterator[str]:
    """Yield the titles in one source file: name, colon, first line of the docstring."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # files that test what no Python can read
        return
    for item in ast.walk(tree):
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            lines = (ast.get_docstring(item) or "").splitlines()
            if lines and lines[0]:
                yield f"{item.name}: {lines[0]}"


if __name__ == "__main__":
    main()
