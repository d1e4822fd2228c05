"""What all of this is to reach, and whether it does: one row of figures for each promise of speed.

A bench prints its goals with its results (`common.Table.goal`). They are read back from there, of this run or, for what it did not
measure, of docs/performance.md, where the last full run is, so no figure is kept twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bench import common

RECORD = re.compile(r"^## (\w+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
"""One section of docs/performance.md."""

GOAL = re.compile(
    r"^- (?P<what>.+): (?P<found>-?[\d,.]+) (?P<unit>.*?); (?P<bound>at (?:most|least) \S+) is the goal, "
    r"(?:(?P<kept>kept)|\*\*missed\*\*)$",
    re.MULTILINE,
)
"""What `common.Table.goal` writes."""

RAN = re.compile(r"^(\d{4}-\d{2}-\d{2}); commit (\w+)", re.MULTILINE)
"""How `common.circumstances` begins."""

ROWS = re.compile(r"([\d,]+) (?:x|rows)\b")
"""How many rows a goal is about, where its name says so."""


class Promise(NamedTuple):
    """One promise: the work, the rows that it is to hold for, the bench that measures it, and what its goals there are called."""

    work: str
    rows: tuple[str, ...]
    bench: str
    goals: str


class Figure(NamedTuple):
    """A goal of a bench and what was found."""

    what: str
    found: str
    bound: str
    kept: bool
    ran: str

    @property
    def install(self) -> str:
        """`fast` where the kernel of that extra did it, else base: numpy alone."""
        return "`fast`" if re.search(r"\bfast\b", self.what) else "base"

    def verdict(self, promise: Promise) -> str:
        """Return pass or fail, and at how many rows where the promise is for others."""
        rows = ROWS.search(self.what)
        elsewhere = rows is not None and rows[1] not in promise.rows
        where = f" at {rows[1]} rows; the goal is at {' and '.join(promise.rows)}" if rows and elsewhere else ""
        return ("pass" if self.kept else "**fail**") + where


TWENTY, MANY, MILLION = "20,000", "200,000", "1,000,000"
PROMISES = (
    Promise("top-10 through SQL, warm", (MANY,), "search", r"^(?!.*1,000,000).*(vec0|sqliteai|recall)"),
    Promise("top-10 of a million, warm", (MILLION,), "search", r"1,000,000"),
    Promise("first search after start", (MANY,), "search", r"first search"),
    Promise("`ORDER BY embed_cosine(embedding, :q)`", (TWENTY, MANY), "scan", r"fast.* of sqlite-vec"),
    Promise("`similarities`", (TWENTY, MANY), "similarities", r"all pairs|MB"),
    Promise("`similarities` beside openai-to-sqlite", ("500",), "process", r"openai-to-sqlite"),
    Promise("writing the similarity rows", (MANY,), "writing", r"insert_all"),
    Promise("update with 1 percent changed", (MANY,), "similarities", r"1 percent"),
    Promise("`embed_decode`", (), "codec", r"llm_embed_decode"),
    Promise("the map page", (MANY,), "map", r""),
    Promise("16 searches at once on one Datasette", (MANY,), "together", r""),
)


def summary(fresh: Mapping[str, str], record: str) -> str:
    """Return a table of every promise in Markdown, by the results of this run and by *record*, docs/performance.md."""
    table = common.Table(("work", "measured", "install", "found", "goal", "verdict", "run"))
    recorded = dict(RECORD.findall(record))
    for promise in PROMISES:
        figures = figures_of(promise, fresh.get(promise.bench, ""), recorded.get(promise.bench, ""))
        for figure in figures:
            verdict = figure.verdict(promise)
            table.rows.append(
                (promise.work, figure.what, figure.install, figure.found, figure.bound, verdict, figure.ran)
            )
        if not figures:
            table.rows.append((promise.work, f"by `{promise.bench}`", "", "", "", "not shown", ""))
    return str(table)


def figures_of(promise: Promise, fresh: str, recorded: str) -> list[Figure]:
    """Return the goals of a promise that stand in the results of its bench; of the last full run only what is not in this one."""
    day = RAN.search(recorded)
    last = f"{day[1]}, commit {day[2]}" if day else "unknown"
    now = list(_goals(promise, fresh, "this run"))
    measured = {figure.what for figure in now}
    return now + [figure for figure in _goals(promise, recorded, last) if figure.what not in measured]


def _goals(promise: Promise, result: str, ran: str) -> Iterator[Figure]:
    for goal in GOAL.finditer(result):
        if re.search(promise.goals, f"{goal['what']} {goal['unit']}"):
            yield Figure(goal["what"], f"{goal['found']} {goal['unit']}", goal["bound"], goal["kept"] is not None, ran)
