"""How cost grows with the rows: builds, the similarities, searches and updates of 1,000 to 100,000 short texts, and the exponents.

Seconds are of whole commands, less what the same command takes that finds nothing to do on a file of one text. Texts are those of bench/real.py;
the model is `static`, of 256 dimensions. "Build" embeds all and indexes their words, without similarities;
"similarities" is `datasette embeddings similarities -n 10` on its result; "update" is a build after 1 percent of the texts have changed, on
the file without and with similarities. A search is of the file that the build left, warm, through SQL.

An exponent b is that of seconds = a rows^b, by least squares of the logarithms; "off" is how far the measured ones lie from that at most. The
last tenfold tells better where a fit to all of them does not hold: what does not depend on the rows weighs most where there are few.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from bench import common, real

SIZES = (1_000, 10_000, 100_000)
QUICK_SIZES = (500, 2_000)
CHANGED = 0.01
SEARCHES = 60
CONFIG = """
plugins:
  datasette-embeddings:
    collections:
      texts: {{database: {database}, table: texts, columns: [text], model: static, similarities: {k}}}
"""
WORK = ("build", "similarities", "search", "update", "update with similarities", "file, MB", "peak of the build, MB")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small data")
    parser.add_argument("--folder", type=Path, help="where results are kept: what is there is not measured again")
    parser.add_argument("--rows", type=int, action="append", help="only so many")
    options = parser.parse_args(argv)
    sizes = [size for size in (QUICK_SIZES if options.quick else SIZES) if not options.rows or size in options.rows]
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(exist_ok=True)
        found = {size: measured(size, folder) for size in sizes}
    print(*tables(found), sep="\n\n")


def measured(size: int, folder: Path) -> dict[str, float]:
    """Return what each work takes for so many rows: seconds, for a file and memory MB; of now or of the folder."""
    kept = folder / f"scale-{size}.json"
    if not kept.exists():
        common.say(f"{size:,} rows")
        with tempfile.TemporaryDirectory(dir=folder) as name:
            kept.write_text(json.dumps(dict(measure(Path(name), size))))
    return json.loads(kept.read_text())


def measure(folder: Path, rows: int) -> Iterator[tuple[str, float]]:
    """Yield each work and what it took, of a child that starts while this process is small, as its peak of memory begins with that."""
    startup = start_up(folder)
    database = folder / "many.db"
    common.output("-m", "bench.scale", "--write", str(database), str(rows))
    first = build(database, 0)
    yield "build", first.seconds - startup
    yield "peak of the build, MB", first.peak
    yield "file, MB", database.stat().st_size / 1e6
    yield "search", search(database)
    change(database, rows, "revised")
    yield "update", build(database, 0).seconds - startup
    command = ("-m", "datasette_embeddings", "similarities", str(database), "texts", "-n", "10")
    yield "similarities", common.run(*command).seconds - startup
    build(database, 10)
    change(database, rows, "once more")
    yield "update with similarities", build(database, 10).seconds - startup


def start_up(folder: Path) -> float:
    """Return the seconds of a build that has nothing to do, the median of three."""
    path = folder / "one.db"
    write(path, ["one text"])
    build(path, 0)
    return statistics.median(build(path, 0).seconds for _ in range(3))


def build(database: Path, k: int) -> common.Used:
    """Build a file with so many similarities."""
    return common.build(database, CONFIG.format(database=database.stem, k=k))


def write(path: Path, rows: Sequence[str]) -> None:
    """Make a table of texts."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("create table texts (id integer primary key, text text)")
        conn.executemany("insert into texts (text) values (?)", ((text,) for text in rows))


def change(path: Path, count: int, word: str) -> None:
    """Change 1 percent of the texts, spread over the table."""
    with closing(sqlite3.connect(path)) as conn, conn:
        step = round(1 / CHANGED)
        changed = conn.execute("update texts set text = text || ? where id % ? = 0", [f", {word}", step]).rowcount
    if changed != count // step:
        raise SystemExit(f"{changed} texts were changed, {count // step} expected")


def search(path: Path) -> float:
    """Return the seconds of a search for a vector of the collection, the median, the first left out."""
    import datasette_embeddings

    with closing(sqlite3.connect(path)) as conn:
        datasette_embeddings.register(conn)
        every = "select embedding from embeddings where rowid % ? = 0 limit ?"
        total = conn.execute("select count(*) from embeddings").fetchone()[0]
        vectors = [row[0] for row in conn.execute(every, [max(1, total // SEARCHES), SEARCHES])]
        sql = "select value ->> 'id', value ->> 'score' from json_each(embed_search('texts', ?, 10))"
        taken = [common.timed(lambda vector=vector: conn.execute(sql, [vector]).fetchall()) for vector in vectors]
    return statistics.median(taken[5:])


def tables(found: dict[int, dict[str, float]]) -> Iterator[common.Table]:
    """Yield what was measured, and the exponents."""
    measured = common.Table(("seconds, where not said otherwise", *(f"{size:,} rows" for size in found)))
    fits = common.Table(("work", "rows", "exponent", "off", "exponent of the last tenfold"))
    for work in WORK:
        points = [(size, figures[work]) for size, figures in found.items() if figures.get(work, 0) > 0]
        cells = [common.number(figures[work]) if work in figures else "" for figures in found.values()]
        measured.rows.append((work, *cells))
        if len(points) > 1:
            fits.rows.append((work, f"{points[0][0]:,} to {points[-1][0]:,}", *fitted(points)))
    yield measured
    yield fits


def fitted(points: Sequence[tuple[float, float]]) -> tuple[str, str, str]:
    """Return the exponent of a power law through (rows, cost), how far the costs are off it at most, and the exponent of the last two."""
    rows, costs = np.log(np.array(points, float)).T
    slope, start = np.polyfit(rows, costs, 1)
    off = float(np.exp(np.abs(costs - (slope * rows + start)).max())) - 1
    last = (costs[-1] - costs[-2]) / (rows[-1] - rows[-2])
    return f"{slope:.2f}", f"{off:.0%}", f"{last:.2f}"


def write_texts(path: str, rows: str) -> None:
    """Make a table of so many texts, all different."""
    known = real.texts()
    if int(rows) > len(known):
        raise SystemExit(f"there are {len(known):,} texts")
    write(Path(path), known[: int(rows)])


if __name__ == "__main__":
    write_texts(*sys.argv[2:]) if sys.argv[1:2] == ["--write"] else main()
