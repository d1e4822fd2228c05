"""The ten nearest of one question: ours through SQL beside sqlite-vec, sqliteai-vector, FAISS, usearch, numpy and datasette-llm-embed.

Every way has a process of its own, with nothing else loaded, and all of them are asked in turns, up to five different questions in a row, so
that what else the machine does hits all alike. Times are medians, of SQL where a way has that. Recall counts what scores as high as the true
tenth. "Resident" is the memory of the way's process after its last answer, Python and numpy, about 60 MB, with it; what the system
keeps of files is nobody's. "First" is from an open connection, or none, to the first answer, the file in the system's memory.

"Real" are embeddings of short English texts by MiniLM, "like real" a million with their spectrum, mean and neighbours, or with four times the
dimensions (bench/spectrum.py), "clustered" synthetic ones (`common.vectors`). "Nothing baked" is a file that another program wrote, in which no
build of ours has left sketches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import common, peers, plot, real, spectrum
from bench.peers import WAYS

QUESTIONS = 100
TURN = 5
TURN_SECONDS = 0.25
"""A turn is over when it took that long, however few questions were asked."""

REST = 0.06
"""Seconds between turns: threads of BLAS and OpenMP look for more work for half as long, and would take processors from the next."""

STARTS, MANY_STARTS = 5, 2
"""First searches of ours, the second number beyond 200,000 rows; of the others one."""

TURNS = {500: 20, 2_000: 10, 20_000: 20, 200_000: 15, 1_000_000: 8}
SAME_SCORE = 1e-6
"""Scores that differ less are equal: they are rounded to six decimals here, and sums of float32 elsewhere."""

PLOT = common.ROOT / "docs" / "search-speed.svg"


class Case(NamedTuple):
    """Vectors to search in."""

    kind: str
    rows: int
    dimensions: int

    def __str__(self) -> str:
        return f"{self.kind}, {self.rows:,} x {self.dimensions:,}"

    @property
    def key(self) -> str:
        """Its name as a folder, and for `--case`."""
        return f"{self.kind.replace(' ', '-')}-{self.rows}-{self.dimensions}"


KINDS: dict[str, Callable[[int, int, int], tuple[common.Matrix, common.Matrix]]] = {
    "real": lambda count, _, held_out: real.vectors(count, held_out),
    "like real": spectrum.like,
    "clustered": common.vectors,
}
CASES = (
    Case("real", 500, 384),
    Case("real", 20_000, 384),
    Case("real", 200_000, 384),
    Case("like real", 1_000_000, 384),
    Case("like real", 500, 1_536),
    Case("like real", 20_000, 1_536),
    Case("like real", 200_000, 1_536),
    Case("clustered", 500, 384),
    Case("clustered", 20_000, 384),
    Case("clustered", 200_000, 384),
    Case("clustered", 1_000_000, 384),
)
QUICK_CASES = (Case("clustered", 500, 384), Case("clustered", 20_000, 384))
MIDDLE, LARGE = Case("real", 200_000, 384), Case("like real", 1_000_000, 384)

TIMES_VEC0 = {peers.FAST: 20.0, peers.BASE: 12.0}
TIMES_QUANTISED = 2.0
RECALL = {peers.FAST: 0.999, peers.BASE: 1.0}
LARGE_MS, LARGE_MB = 25.0, 3_000.0
FIRST_SECONDS = {peers.FAST: 0.3, peers.BASE: 0.3, peers.FAST_UNBAKED: 1.0, peers.BASE_UNBAKED: 1.0}

Results = dict[str, dict[str, Any]]
"""Of one case: name of a way -> ms, recall, memory, first, made."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small data, few rounds")
    parser.add_argument("--folder", type=Path, help="where files and results are kept: what is there is not made again")
    parser.add_argument("--case", action="append", help=f"only this: {', '.join(case.key for case in CASES)}")
    parser.add_argument("--prepare", action="store_true", help="only make the files")
    parser.add_argument("--plot", action="store_true", help=f"draw {PLOT.relative_to(common.ROOT)}")
    options = parser.parse_args(argv)
    cases = [case for case in (QUICK_CASES if options.quick else CASES) if not options.case or case.key in options.case]
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        notes = common.Table(())
        if options.prepare:
            for case in cases:
                prepare(case, folder / case.key, notes)
            return
        found = {case: result(case, folder, notes, options) for case in cases}
    print(*tables(found), sep="\n\n")
    if options.plot:
        print(f"\n![Median time of a search against rows, for every way]({PLOT.name})")
        plot.draw({(case.kind, case.rows, case.dimensions): ways["ways"] for case, ways in found.items()}, PLOT)


def result(case: Case, folder: Path, notes: common.Table, options: argparse.Namespace) -> dict[str, Any]:
    """Return the results of a case, of now or of the folder, with what the machine was like."""
    kept = folder / f"{case.key}.json"
    if not kept.exists():
        ways = prepare(case, folder / case.key, notes)
        common.say(f"measuring {case}")
        run, measured = common.circumstances(), measure(case, folder / case.key, ways, options.quick)
        found = {"run": run, "notes": notes.notes, "ways": measured}
        kept.write_text(json.dumps(found, indent=1))
        if not options.folder:
            _empty(folder / case.key)
    return json.loads(kept.read_text())


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def prepare(case: Case, folder: Path, notes: common.Table) -> list[str]:
    """Make the files of a case; returns the ways that can be measured."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "queries.npy").exists():
        common.say(f"making {case}")
        rows, queries = KINDS[case.kind](case.rows, case.dimensions, QUESTIONS)
        np.save(folder / "vectors.npy", rows)
        np.save(folder / "queries.npy", queries)
        del rows
    chosen = []
    for name, way in WAYS.items():
        if not peers.usable(way, notes):
            continue
        if case.rows * case.dimensions > way.most:
            continue
        if way.make:
            peers.make_once(way.make, folder)
        chosen.append(name)
    return chosen


class Child:
    """A process that answers questions in one way."""

    def __init__(self, name: str, folder: Path) -> None:
        command = [sys.executable, "-m", "bench.peers", name, str(folder)]
        self._process = subprocess.Popen(
            command, cwd=common.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.name = name
        self.opened, _, self.memory = self._answer()

    def _answer(self) -> list[Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended")
        return json.loads(line)

    def ask(self, number: int) -> tuple[float, list[int]]:
        """Return the seconds that an answer took, and the ids."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{number}\n")
        seconds, ids, self.memory = self._answer()
        return seconds, ids

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@contextmanager
def child(name: str, folder: Path) -> Iterator[Child]:
    """Start a process and end it."""
    started = Child(name, folder)
    try:
        yield started
    finally:
        started.close()


def measure(case: Case, folder: Path, names: Sequence[str], quick: bool) -> Results:
    """Return what each way took, found and needed."""
    for path in folder.iterdir():
        path.read_bytes()
    first = {name: [] for name in names}
    starts = MANY_STARTS if case.rows > MIDDLE.rows else STARTS
    for number in range(1 if quick else starts):
        for name in [name for name in names if name in peers.OURS or number == 0]:
            with child(name, folder) as started:
                first[name].append(started.opened + started.ask(number)[0])
    seconds: dict[str, list[float]] = {name: [] for name in names}
    answers: dict[str, dict[int, list[int]]] = {name: {} for name in names}
    turns = 3 if quick else TURNS[case.rows]
    with ExitStack() as stack:
        children = [stack.enter_context(child(name, folder)) for name in names]
        for one in children:
            for number in range(3):
                one.ask(number)
        for turn in range(turns):
            for one in children[turn % len(children) :] + children[: turn % len(children)]:
                time.sleep(REST)
                taken: list[float] = []
                while len(taken) < TURN and sum(taken) < TURN_SECONDS:
                    number = (TURN * turn + len(taken)) % QUESTIONS
                    spent, answers[one.name][number] = one.ask(number)
                    taken.append(spent)
                seconds[one.name] += taken
        memory = {one.name: one.memory for one in children}
    recalls = recall(folder, answers)
    return {
        name: {
            "ms": 1e3 * statistics.median(seconds[name]),
            "worst": 1e3 * max(seconds[name]),
            "questions": len(seconds[name]),
            "recall": recalls[name],
            "memory": memory[name],
            "first": statistics.median(first[name]),
            "made": peers.made_in(WAYS[name], folder),
        }
        for name in names
    }


def recall(folder: Path, answers: dict[str, dict[int, list[int]]]) -> dict[str, float]:
    """Return how many of the ten of each way score as high as the true tenth, as a share."""
    rows, queries = peers.rows_in(folder), np.load(folder / "queries.npy")
    best = np.full((len(queries), peers.K), -1, np.float32)
    for start in range(0, len(rows), peers.AT_ONCE):
        scores = np.concatenate([best, queries @ np.array(rows[start : start + peers.AT_ONCE]).T], axis=1)
        best = np.partition(scores, scores.shape[1] - peers.K, axis=1)[:, -peers.K :]
    lowest = best.min(axis=1) - SAME_SCORE
    shares = {}
    for name, of_way in answers.items():
        hits = [np.sum(rows[sorted(set(ids))] @ queries[number] >= lowest[number]) for number, ids in of_way.items()]
        shares[name] = float(np.sum(hits)) / (peers.K * len(of_way))
    return shares


def tables(found: dict[Case, dict[str, Any]]) -> Iterator[common.Table]:
    """Yield a table of each kind of figure, the last with the goals and notes."""
    names = [name for name in WAYS if any(name in case["ways"] for case in found.values())]
    figures = (
        ("ms, the median", lambda way: common.number(way["ms"])),
        ("ms, the slowest", lambda way: common.number(way["worst"])),
        ("recall@10", lambda way: f"{way['recall']:.4f}"),
        ("resident, MB", lambda way: common.number(way["memory"])),
        ("first search, s", lambda way: common.number(way["first"])),
        ("making its files, s", lambda way: "" if way["made"] is None else common.number(way["made"])),
    )
    shown = []
    for title, figure in figures:
        table = common.Table((title, *map(str, found)))
        for name in names:
            row = [figure(case["ways"][name]) if name in case["ways"] else "" for case in found.values()]
            if any(row):
                table.rows.append((name, *row))
        shown.append(table)
    times = {case: result["ways"] for case, result in found.items()}
    if MIDDLE in times:
        at_200_000(times[MIDDLE], shown[-1])
    if LARGE in times:
        at_a_million(times[LARGE], shown[-1])
    shown[-1].notes += dict.fromkeys(note for result in found.values() for note in result.get("notes", ()))
    shown[-1].notes += [
        f"{name} was left out beyond {way.most:,} numbers, rows times dimensions: it would take minutes."
        for name, way in WAYS.items()
        if any(case.rows * case.dimensions > way.most for case in found)
    ]
    shown[-1].notes += [f"{case}: {result['run']}." for case, result in found.items()]
    yield from shown


def at_200_000(ways: Results, table: common.Table) -> None:
    """Add the goals of 200,000 real embeddings."""
    for name, least in TIMES_VEC0.items():
        if {name, peers.VEC0} <= ways.keys():
            ratio = ways[peers.VEC0]["ms"] / ways[name]["ms"]
            table.goal(f"{MIDDLE}, {name}, faster than vec0", ratio, least, "times", least=True)
            table.goal(f"{MIDDLE}, {name}, recall@10", ways[name]["recall"], RECALL[name], "of 1", least=True)
    if {peers.FAST, peers.QUANTISED} <= ways.keys():
        ratio = ways[peers.QUANTISED]["ms"] / ways[peers.FAST]["ms"]
        what = f"{MIDDLE}, {peers.FAST}, faster than sqliteai-vector in 8 bits"
        table.goal(what, ratio, TIMES_QUANTISED, "times", least=True)
    for name, most in FIRST_SECONDS.items():
        if name in ways:
            table.goal(f"{MIDDLE}, {name}, first search", ways[name]["first"], most, "s")


def at_a_million(ways: Results, table: common.Table) -> None:
    """Add the goals of a million."""
    for name in (peers.FAST, peers.BASE):
        if name in ways:
            table.goal(f"{LARGE}, {name}, median", ways[name]["ms"], LARGE_MS, "ms")
            table.goal(f"{LARGE}, {name}, resident", ways[name]["memory"], LARGE_MB, "MB")


if __name__ == "__main__":
    main()
