"""A build of 20,000 short titles: the first one, a second with nothing changed, and with 1 percent of the rows added or changed.

Each is `datasette embeddings build` in a process of its own, similarities (10) included where not said otherwise; "beyond
start-up" leaves out what the same command takes that finds nothing to do on a file of one title: Python, imports, the model. Titles are the names and first docstring lines of functions
and classes in the Python packages at hand, all different. "Embedding alone" is the model in memory, from a cold cache of words.

"Of which full text" is what the same build takes less, of the processor, on a table that has an FTS5 index of its own, for which none of
ours is kept; both in turns, medians.
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
TURNS = {"static": 5, "minilm": 1}
"""Times that all builds are run; once where that takes minutes."""

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
    texts = titles(rows + round(rows * CHANGED))
    columns = (
        *("model", "build", "s", "beyond start-up", "processor s beyond start-up", "share of the first"),
        "of which full text, processor s",
    )
    table = common.Table(columns)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        startup = {model: start_up(model, folder) for model in MODELS}
        for model in MODELS:
            measure(model, folder, texts, startup[model], table, quick)
        into_the_table(folder / "plain.db", texts[:rows], startup["static"], table, quick)
    embedded(rows, table, quick)
    print(table)


def start_up(model: str, folder: Path) -> common.Used:
    """Return the median of what a build takes that has nothing to do on one title."""
    path = folder / f"{model}-start.db"
    write(path, ["one title"])
    config = CONFIG.format(database=path.stem, model=model, k=10)
    common.build(path, config)
    return sorted((common.build(path, config) for _ in range(5)), key=lambda one: one.processor)[2]


def measure(model: str, folder: Path, texts: list[str], startup: common.Used, table: common.Table, quick: bool) -> None:
    """Add four builds by one model to *table*."""
    turns = 1 if quick else TURNS[model]
    ours: dict[str, list[common.Used]] = {}
    theirs: dict[str, list[common.Used]] = {}
    for turn in range(turns):
        for name, used in builds(folder / f"{model}{turn}.db", model, texts).items():
            ours.setdefault(name, []).append(used)
        if turns > 1:
            for name, used in builds(folder / f"{model}{turn}-fts.db", model, texts, full_text=True).items():
                theirs.setdefault(name, []).append(used)
    median = {name: middle(found) for name, found in ours.items()}
    first = median["first"]
    for name, used in median.items():
        share = "" if name not in theirs else full_text_share(used, middle(theirs[name]), startup)
        table.rows.append((model, name, *figures(used, startup, first), share))
    if not quick:
        again = median["nothing changed"].seconds - startup.seconds
        table.goal(f"{model}, nothing changed", again, MOST_AGAIN, "s beyond start-up")
        for name in ("1 percent added", "1 percent changed"):
            share = 100 * (median[name].processor - startup.processor) / (first.processor - startup.processor)
            table.goal(f"{model}, {name}, of the first build's processor time", share, MOST_SHARE, "percent")


def builds(path: Path, model: str, texts: list[str], full_text: bool = False) -> dict[str, common.Used]:
    """Return what four builds took of one file, the last two after rows were added and changed."""
    more = round(len(texts) * CHANGED / (1 + CHANGED))
    write(path, texts[:-more])
    if full_text:
        index_titles(path)
    config = CONFIG.format(database=path.stem, model=model, k=10)
    found = {name: common.build(path, config) for name in ("first", "nothing changed")}
    add(path, texts[-more:])
    found["1 percent added"] = common.build(path, config)
    change(path)
    found["1 percent changed"] = common.build(path, config)
    return found


def middle(found: list[common.Used]) -> common.Used:
    """Return the one whose processor time is the median."""
    return sorted(found, key=lambda used: used.processor)[len(found) // 2]


def full_text_share(ours: common.Used, theirs: common.Used, startup: common.Used) -> str:
    """Return the processor's seconds that the full-text index took, and their share."""
    seconds = ours.processor - theirs.processor
    return f"{seconds:.2f} ({seconds / (ours.processor - startup.processor):.0%})"


def into_the_table(path: Path, texts: list[str], startup: common.Used, table: common.Table, quick: bool) -> None:
    """Add a first build by the static model without similarities."""
    write(path, texts)
    used = common.build(path, CONFIG.format(database=path.stem, model="static", k=0))
    table.rows.append(("static", "first, without similarities", *figures(used, startup, used), ""))
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


def index_titles(path: Path) -> None:
    """Give the table a full-text index of its own, as `sqlite-utils enable-fts` does."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("create virtual table titles_fts using fts5(title, content='titles', content_rowid='id')")
        conn.execute("insert into titles_fts (titles_fts) values ('rebuild')")


def add(path: Path, texts: list[str]) -> None:
    """Add titles."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.executemany("insert into titles (title) values (?)", ((text,) for text in texts))


def change(path: Path) -> None:
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
