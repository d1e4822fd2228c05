"""Pages on a table of 20,000 texts, on both lines of Datasette: search, items and row pages, beside what they would take without us.

The table holds what functions in the Python packages at hand say of themselves; `datasette embeddings build` embedded it with
the static model. Pages are asked for in turns of one process, which calls the application as a server does, and measured from the
request to the last byte. No query is asked twice, so that only the model and the vectors are in memory. "Without the plugin" is a second Datasette
in the same process, for which the plugin is taken off the list of plugins while it is made and while it answers.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import json
import math
import random
import re
import sqlite3
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from bench import common

ROWS, QUICK_ROWS = 20_000, 500
ROUNDS, QUICK_ROUNDS = 40, 3
STARTS, QUICK_STARTS = 7, 1
AT_ONCE, EACH = 16, 12
QUERIES = 1_200
QUERY_WORDS = 6
BODY_CHARACTERS = 1_500

MOST_SEARCH = 1.3
MOST_ROW = 1.2

CONFIG = """
plugins:
  datasette-embeddings:
    collections:
      texts: {database: site, table: texts, columns: [title, body], model: static, similarities: 10}
"""
ENVIRONMENTS = (".venv", ".venv-1.0")
TABLE, TABLE_10 = "table page, 100 rows", "table page, 10 rows"
SEARCH, ROW = "search page", "row page with the panel"
SEEN = ROW + ", of a row seen before"
"""What is related to a row is remembered until the file changes."""
WITHOUT = ", without the plugin"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results of every line of Datasette that is installed here."""
    given = list(argv if argv is not None else sys.argv[1:])
    if given[:1] in (["--serve"], ["--first"]):
        folder, what = Path(given[1]), given[2]
        print(serve(folder, what == "quick") if given[0] == "--serve" else first(folder, what))
        return
    quick = common.quick(__doc__, argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, QUICK_ROWS if quick else ROWS)
        common.build(folder / "site.db", CONFIG)
        parts = []
        for python in interpreters():
            common.say(f"{python}: {version(python)}")
            options = (str(folder), "quick" if quick else "all")
            parts.append(f"### Datasette {version(python)}\n\n{output(python, '--serve', *options)}")
            common.say(parts[-1])
    print("\n\n".join(parts))


# ---------------------------------------------------------------- the data


class Unanswered(Exception):
    """A request was answered with an error."""


class Text(NamedTuple):
    """A row of the table, but for its number."""

    title: str
    body: str
    kind: str
    package: str


def fill(folder: Path, rows: int) -> None:
    """Write the table, and queries in the words of texts that are not in it."""
    found = texts(rows + QUERIES)
    with closing(sqlite3.connect(folder / "site.db")) as conn, conn:
        conn.execute("create table texts (id integer primary key, title text, body text, kind text, package text)")
        conn.executemany("insert into texts (title, body, kind, package) values (?, ?, ?, ?)", found[:rows])
        conn.execute("create index texts_kind on texts (kind)")
    words = (" ".join(text.body.split()[:QUERY_WORDS]) for text in found[rows:])
    (folder / "queries.json").write_text(json.dumps(list(dict.fromkeys(words))), "utf-8")


def texts(count: int) -> list[Text]:
    """Return that many texts with different titles, in an order that does not change on one machine."""
    found: dict[str, Text] = {}
    for folder in dict.fromkeys((sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))):
        for path in sorted(Path(folder).rglob("*.py")):
            for text in texts_of(path, path.relative_to(folder).parts[0].removesuffix(".py")):
                found.setdefault(text.title, text)
            if len(found) >= 2 * count:
                break
    listed = list(found.values())
    random.Random(common.SEED).shuffle(listed)
    if len(listed) < count:
        raise SystemExit(f"the packages at hand have {len(listed)} documented functions; {count} are needed")
    return listed[:count]


def texts_of(path: Path, package: str) -> Iterator[Text]:
    """Yield what the functions and classes of one source file say of themselves."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # files that test what no Python can read
        return
    for item in ast.walk(tree):
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            docstring = ast.get_docstring(item) or ""
            lines = docstring.splitlines()
            if lines and lines[0]:
                kind = "class" if isinstance(item, ast.ClassDef) else "function"
                yield Text(f"{item.name}: {lines[0]}", docstring[:BODY_CHARACTERS], kind, package)


# ---------------------------------------------------------------- the lines of Datasette


def interpreters() -> list[str]:
    """Return this Python, and those of the other environments that `make` makes, where they exist."""
    others = [common.ROOT / name / "bin" / "python" for name in ENVIRONMENTS]
    return [sys.executable, *(str(path) for path in others if path.exists() and path != Path(sys.executable))]


def version(python: str) -> str:
    """Return the version of Datasette that a Python has."""
    return subprocess.run(
        [python, "-c", "import datasette; print(datasette.__version__)"], capture_output=True, text=True, check=True
    ).stdout.strip()


def output(python: str, *arguments: str) -> str:
    """Run a part of this bench by a Python and return what it prints."""
    done = subprocess.run(
        [python, "-m", "bench.pages", *arguments], cwd=common.ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"`{python} -m bench.pages {' '.join(arguments)}` failed")
    return done.stdout.strip()


@contextmanager
def plugin_off() -> Iterator[None]:
    """Take the plugin off Datasette's list of plugins for a while."""
    from datasette.plugins import pm

    import datasette_embeddings

    name = pm.get_name(datasette_embeddings)
    assert name is not None, "the plugin is not installed"
    pm.unregister(datasette_embeddings)
    try:
        yield
    finally:
        pm.register(datasette_embeddings, name=name)


@dataclass
class Site:
    """A Datasette with the built file, and the event loop that it answers in."""

    loop: asyncio.AbstractEventLoop
    app: Any

    @classmethod
    def of(cls, folder: Path, loop: asyncio.AbstractEventLoop) -> Site:
        """Return a site that has started."""
        from datasette.app import Datasette

        datasette = Datasette([str(folder / "site.db")])
        loop.run_until_complete(datasette.invoke_startup())
        return cls(loop, datasette.app())

    def get(self, path: str) -> bytes:
        """Return what the site answers."""
        return self.loop.run_until_complete(answer(self.app, path))


async def answer(app: Any, address: str) -> bytes:
    """Return the body of the answer to a request, as a server would send it on; raises Unanswered for anything but 200."""
    path, _, query = address.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }
    status, body = [], []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])
        body.append(message.get("body", b""))

    await app(scope, receive, send)
    if status != [200]:
        raise Unanswered(f"{address}: {status} {said(b''.join(body).decode())}")
    return b"".join(body)


def said(html: str) -> str:
    """Return the words of an error page."""
    content = html.partition('<section class="content">')[2].partition("</section>")[0] or html
    words = re.sub(r"<[^>]*>", " ", content)
    return " ".join(words.split())[:160]


# ---------------------------------------------------------------- pages


@dataclass
class Page:
    """A kind of page: where it is the next time, what is in it, and how long it took."""

    site: Site
    address: Callable[[], str]
    holds: bytes = b""
    lacks: bytes = b"\0"
    plugin: bool = True
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    size: int = 0
    errors: list[str] = field(default_factory=list)

    def ask(self, counts: bool) -> None:
        """Ask once."""
        address = self.address()
        if self.plugin:
            self._ask(address, counts)
        else:
            with plugin_off():
                self._ask(address, counts)

    def _ask(self, address: str, counts: bool) -> None:
        gc.collect()
        gc.disable()
        started = time.perf_counter(), time.process_time()
        try:
            body = self.site.get(address)
        except Unanswered as error:
            self.errors.append(str(error))
            return
        finally:
            ended = time.perf_counter(), time.process_time()
            gc.enable()
        if self.holds not in body or self.lacks in body:
            raise SystemExit(f"{address} is not the page that it should be")
        if counts:
            self.seconds.append(ended[0] - started[0])
            self.processor.append(ended[1] - started[1])
            self.size = len(body)

    @property
    def ms(self) -> float:
        """The median, in ms."""
        return 1e3 * statistics.median(self.seconds or [math.nan])

    @property
    def processor_ms(self) -> float:
        """The median of the processor's time, in ms."""
        return 1e3 * statistics.median(self.processor or [math.nan])


def serve(folder: Path, quick: bool) -> common.Table:
    """Return the table of one line of Datasette."""
    loop = asyncio.new_event_loop()
    site = Site.of(folder, loop)
    with plugin_off():
        plain = Site.of(folder, loop)
    queries = iter(json.loads((folder / "queries.json").read_text("utf-8")))
    pages = pages_of(folder, site, plain, queries, QUICK_ROWS if quick else ROWS)
    names, order = list(pages), random.Random(common.SEED)
    for number in range(-2, QUICK_ROUNDS if quick else ROUNDS):
        for name in order.sample(names, len(names)):
            pages[name].ask(number >= 0)
    table = common.Table(("page", "ms", "processor ms", "/ table page", "/ without the plugin", "KB"))
    for name, page in pages.items():
        table.rows.append(
            (
                name,
                common.number(page.ms),
                common.number(page.processor_ms),
                common.times(page.ms / pages[TABLE].ms),
                common.times(page.ms / pages[name + WITHOUT].ms) if name + WITHOUT in pages else "",
                common.number(page.size / 1e3),
            )
        )
        if page.errors:
            asked = len(page.errors) + len(page.seconds)
            table.note(f"{name}: {len(page.errors)} of {asked} were answered with an error, such as {page.errors[0]}")
    if not quick:
        goals(pages, table)
    at_once(site, queries, table, quick)
    starts(folder, table, QUICK_STARTS if quick else STARTS)
    return table


def pages_of(folder: Path, site: Site, plain: Site, queries: Iterator[str], rows: int) -> dict[str, Page]:
    """Return the pages to measure, by name."""
    here = "/-/embeddings/site/texts"

    def searching(path: str, **arguments: str) -> Callable[[], str]:
        return lambda: f"{path}?{urlencode({'q': next(queries), **arguments})}"

    def numbered(path: str) -> Callable[[], str]:
        numbers = random.Random(common.SEED)
        return lambda: f"{path}/{numbers.randrange(1, rows + 1)}"

    def fixed(path: str) -> Callable[[], str]:
        return lambda: path

    found, panel = b"embeddings-result", b"embeddings-panel"
    package = usual_package(folder)
    return {
        TABLE: Page(site, fixed("/site/texts")),
        TABLE + WITHOUT: Page(plain, fixed("/site/texts"), plugin=False),
        TABLE_10: Page(site, fixed("/site/texts?_size=10")),
        TABLE_10 + WITHOUT: Page(plain, fixed("/site/texts?_size=10"), plugin=False),
        SEARCH: Page(site, searching(f"{here}/search"), found),
        "search page, classes only": Page(site, searching(f"{here}/search", kind="class"), found),
        f"search page, package {package} only": Page(site, searching(f"{here}/search", package=package), found),
        "search as JSON": Page(site, searching(f"{here}/search.json"), b'"score"'),
        "search as JSON, classes only": Page(site, searching(f"{here}/search.json", kind="class"), b'"score"'),
        "query hybrid_texts": Page(site, searching("/site/hybrid_texts"), b"rows-and-columns"),
        "table page of the best matches": Page(site, lambda: f"/site/texts?_meaning={quote(next(queries))}"),
        "item page": Page(site, numbered(f"{here}/item"), found),
        ROW: Page(site, numbered("/site/texts"), panel),
        ROW + WITHOUT: Page(plain, numbered("/site/texts"), lacks=panel, plugin=False),
        SEEN: Page(site, fixed("/site/texts/1"), panel),
        SEEN + WITHOUT: Page(plain, fixed("/site/texts/1"), lacks=panel, plugin=False),
    }


def usual_package(folder: Path) -> str:
    """Return the name of a package with about a hundred texts."""
    sql = "select package from texts group by package order by abs(count(*) - 100), package limit 1"
    with closing(sqlite3.connect(folder / "site.db")) as conn:
        return str(conn.execute(sql).fetchone()[0])


def goals(pages: dict[str, Page], table: common.Table) -> None:
    """Add what was promised."""
    promised = [(name, TABLE, MOST_SEARCH, "the table page's time") for name in pages if name.startswith("search page")]
    promised += [(name, name + WITHOUT, MOST_ROW, "the same page's without the plugin") for name in (ROW, SEEN)]
    for name, other, limit, what in promised:
        table.goal(name, pages[name].ms / pages[other].ms, limit, f"times {what}")
        ratio = pages[name].processor_ms / pages[other].processor_ms
        table.goal(f"{name}, by processor time", ratio, limit, f"times {what}")


def at_once(site: Site, queries: Iterator[str], table: common.Table, quick: bool) -> None:
    """Add what sixteen visitors get who ask again as soon as they are answered."""
    each = 1 if quick else EACH

    async def visitor(addresses: Sequence[str], waited: list[float]) -> None:
        for address in addresses:
            started = time.perf_counter()
            await answer(site.app, address)
            waited.append(time.perf_counter() - started)

    async def visitors(addresses: Callable[[], str]) -> list[float]:
        waited: list[float] = []
        await asyncio.gather(*(visitor([addresses() for _ in range(each)], waited) for _ in range(AT_ONCE)))
        return waited

    search = "/-/embeddings/site/texts/search?"
    kinds = {"searches": lambda: search + urlencode({"q": next(queries)}), "table pages": lambda: "/site/texts"}
    for name, addresses in kinds.items():
        started = time.perf_counter()
        waited = site.loop.run_until_complete(visitors(addresses))
        rate = len(waited) / (time.perf_counter() - started)
        table.note(
            f"{AT_ONCE} visitors at once, {name}: {common.number(rate)} a second, "
            f"median {common.number(1e3 * statistics.median(waited))} ms, longest {common.number(1e3 * max(waited))} ms."
        )


def starts(folder: Path, table: common.Table, count: int) -> None:
    """Add what the first request after start takes, each in a process of its own."""
    seconds: dict[str, list[tuple[float, float]]] = {"search": [], "table": []}
    for _ in range(count):
        for what, found in seconds.items():
            found.append(tuple(json.loads(output(sys.executable, "--first", str(folder), what))))
    for what, found in seconds.items():
        first_one, second = (statistics.median(column) for column in zip(*found, strict=True))
        name = "search: model and vectors are loaded" if what == "search" else "table page"
        table.note(f"First {name}: {common.number(1e3 * first_one)} ms; the next {common.number(1e3 * second)} ms.")


def first(folder: Path, what: str) -> str:
    """Return the seconds of the first and the second request after start, as JSON."""
    site = Site.of(folder, asyncio.new_event_loop())
    queries = json.loads((folder / "queries.json").read_text("utf-8"))
    found = []
    for query in queries[:2]:
        search = "/-/embeddings/site/texts/search?" + urlencode({"q": query})
        started = time.perf_counter()
        site.get(search if what == "search" else "/site/texts")
        found.append(time.perf_counter() - started)
    return json.dumps(found)


if __name__ == "__main__":
    main()
