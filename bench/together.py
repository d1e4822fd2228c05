"""Sixteen searches at once on one Datasette, and a plain page beside them: throughput, waiting, the page's time.

`datasette FILE` serves real embeddings on this machine with its own settings; a process of its own asks it over HTTP. A search is
`embed_search` in SQL with the embedding of one row, another row each time, so that no model and no remembered answer is in it. "Two cores'
worth" is 2 / the processor time of the server for one search when searches come one by one. `select 1` is what Datasette takes
for a query that does nothing. The plain page is a table of texts, one request after the other, first alone, then with the searches running.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from bench import common

ROWS, QUICK_ROWS = 200_000, 20_000
SECONDS, QUICK_SECONDS = 8.0, 4.0
AT_ONCE = 16
TEXTS = 1_000
STARTED_WITHIN = 60.0

WORTH = 0.9
TIMES_MEDIAN = 4.0
TIMES_PAGE = 1.5

VECTOR = "(select embedding from embeddings where collection_id = 1 and id = :id)"
SEARCH = f"select value ->> 'id' as id, value ->> 'score' as score from json_each(embed_search('items', {VECTOR}, 10))"
NOTHING = "select 1 where :id is not null"
PAGE = "/site/texts"

SERVE = "import sys; {hide}; from datasette.cli import cli; cli()"
HIDE = {"base": "sys.modules['numkong'] = None", "fast": "import numkong"}
"""The kernel of the extra `fast` is taken away, or must be there."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    given = list(argv if argv is not None else sys.argv[1:])
    if given[:1] == ["--ask"]:
        print(json.dumps(ask(*given[1:])))
        return
    quick = common.quick(__doc__, argv)
    rows, seconds = (QUICK_ROWS, QUICK_SECONDS) if quick else (ROWS, SECONDS)
    table = common.Table(
        ("install", "requests", "at once", "a second", "median ms", "p95 ms", "p99 ms", "server's processor ms each")
    )
    installs = ["base", "fast"] if common.peer("numkong", table) else ["base"]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "site.db"
        common.output("-m", "bench.together", "--make", str(path), str(rows))
        for install in installs:
            with serving(path, install) as (port, server):
                measure(install, Asking(port, server, rows, seconds), table)
    print(table)


def make_file(path: Path, rows: int) -> None:
    """Write a collection of real embeddings, and a table of texts."""
    from bench import real

    matrix, _ = real.vectors(rows)
    common.write_collection(path, matrix)
    common.output("-m", "datasette_embeddings", "similarities", str(path), "items", "-n", "0")
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("create table texts (id integer primary key, title text, body text)")
        chosen = real.texts()[:TEXTS]
        conn.executemany("insert into texts (title, body) values (?, ?)", ((text[:60], text) for text in chosen))


# ---------------------------------------------------------------- the server


@contextmanager
def serving(path: Path, install: str) -> Iterator[tuple[int, int]]:
    """Run Datasette on a file; gives its port and process id once it answers a search."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = SERVE.format(hide=HIDE[install])
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", str(path), "--port", str(port)],
        cwd=path.parent,
        env={**os.environ, "PYTHONPATH": str(common.ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port, process)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when the port answers; ends the bench when it does not."""
    until = time.monotonic() + STARTED_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("datasette did not start")


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process so far, by /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---------------------------------------------------------------- the questions


class Run(NamedTuple):
    """What some requests took: seconds in all, seconds of each, sorted, and the server's processor seconds."""

    seconds: float
    each: list[float]
    processor: float

    def share(self, part: float) -> float:
        """Return the milliseconds within which that part of the requests was answered."""
        return self.each[min(len(self.each) - 1, int(part * len(self.each)))] * 1e3

    @property
    def a_second(self) -> float:
        """Requests a second."""
        return len(self.each) / self.seconds

    @property
    def processor_each(self) -> float:
        """The server's processor seconds for one request."""
        return self.processor / len(self.each)


class Asking(NamedTuple):
    """A server to ask: its port, process, number of rows, and for how many seconds to ask."""

    port: int
    server: int
    rows: int
    seconds: float

    def run(self, *plan: str) -> list[Run]:
        """Ask by several clients for a while, in another process; each is `KIND:CLIENTS`; the runs are of the kinds."""
        return [
            Run(*run)
            for run in json.loads(
                common.output(
                    "-m", "bench.together", "--ask", *map(str, (self.port, self.server, self.rows, self.seconds)), *plan
                )
            )
        ]


def ask(port: str, server: str, rows: str, seconds: str, *plan: str) -> list[Run]:
    """Ask until the time is over, and return a run for each kind of request in *plan*."""
    return asyncio.run(_ask(int(port), int(server), int(rows), float(seconds), plan))


async def _ask(port: int, server: int, rows: int, seconds: float, plan: Sequence[str]) -> list[Run]:
    parsed = [(kind, int(clients)) for kind, clients in (part.split(":") for part in plan)]
    for kind, _ in parsed:  # so that nothing is read for the first time while the clock runs
        await client(port, paths(kind, rows), time.monotonic() + 0.5)
    spent = processor_seconds(server)
    started = time.monotonic()
    asked = [[client(port, paths(kind, rows), started + seconds) for _ in range(clients)] for kind, clients in parsed]
    answered = [await asyncio.gather(*group) for group in await _all(asked)]
    taken, spent = time.monotonic() - started, processor_seconds(server) - spent
    return [Run(taken, sorted(time for client in group for time in client), spent) for group in answered]


async def _all(groups: list[list[Any]]) -> list[list[Any]]:
    """Start every client of every group."""
    return [[asyncio.ensure_future(client) for client in group] for group in groups]


def paths(kind: str, rows: int) -> Callable[[], str]:
    """Return what gives the path of the next request."""
    if kind == "page":
        return lambda: PAGE
    sql = SEARCH if kind == "search" else NOTHING
    chosen = random.Random()
    return lambda: f"/site.json?{urlencode({'sql': sql, 'id': f'item-{chosen.randrange(rows):06}', '_shape': 'array'})}"


async def client(port: int, path: Callable[[], str], until: float) -> list[float]:
    """Ask one request after the other over one connection; returns the seconds of each."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken = []
    while (began := time.monotonic()) < until:
        writer.write(f"GET {path()} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        status, body = await answer(reader)
        if status != 200:
            raise SystemExit(f"status {status}: {body[:500]!r}")
        taken.append(time.monotonic() - began)
    writer.close()
    return taken


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return status and body of one answer of HTTP/1.1; of httpx the reading alone would take as long as a search."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    return int(head.split()[1]), body


# ---------------------------------------------------------------- the table


def measure(install: str, asking: Asking, table: common.Table) -> None:
    """Add one server to *table*."""
    alone = asking.run("search:1")[0]
    nothing = asking.run("nothing:1")[0]
    nothings = asking.run(f"nothing:{AT_ONCE}")[0]
    page = asking.run("page:1")[0]
    together = asking.run(f"search:{AT_ONCE}")[0]
    loaded, beside = asking.run(f"search:{AT_ONCE}", "page:1")
    for what, clients, run in (
        ("`select 1`", 1, nothing),
        ("`select 1`", AT_ONCE, nothings),
        ("search", 1, alone),
        ("search", AT_ONCE, together),
        ("page", 1, page),
    ):
        times = (run.a_second, statistics.median(run.each) * 1e3, run.share(0.95), run.share(0.99))
        table.rows.append((install, what, clients, *map(common.number, (*times, run.processor_each * 1e3))))
    for what, clients, run in (("search, a page beside", AT_ONCE, loaded), ("page, searches beside", 1, beside)):
        times = (run.a_second, statistics.median(run.each) * 1e3, run.share(0.95), run.share(0.99))
        table.rows.append((install, what, clients, *map(common.number, times), ""))
    where = f"{AT_ONCE} searches at once, {asking.rows:,} rows, {install}"
    worth = together.a_second / (2 / alone.processor_each)
    table.goal(f"{where}: throughput", worth, WORTH, "of two cores' worth of the single search", least=True)
    median = statistics.median(together.each) * 1e3
    table.goal(f"{where}: p99", together.share(0.99) / median, TIMES_MEDIAN, "times the median")
    table.goal(f"{where}: p95 of a plain page", beside.share(0.95) / page.share(0.95), TIMES_PAGE, "times unloaded")
    latency = common.number(together.a_second * statistics.median(alone.each))
    table.note(f"{where}: {latency} times the throughput of one search after the other.")


if __name__ == "__main__":
    make_file(Path(sys.argv[2]), int(sys.argv[3])) if sys.argv[1:2] == ["--make"] else main()
