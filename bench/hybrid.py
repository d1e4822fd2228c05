"""Search by words and meaning together beside full-text search, vectors and other ways to join the two; the noise floor.

Every set is a table in a file that `datasette embeddings build` built with both models, and every search is that of the
package on this file: `embed_search` and `embed_hybrid` in SQL, FTS5 by the index that the build keeps. The other ways to join are
computed of the same scores. Sets are those of bench/corpora.py: of scripts/fit_corpus.py, `evaluation_sets` (`--til CLONE` adds til; downloads 30 MB
at the first run); of the demonstration title -> body, heading -> page, and questions; questions in other words than their answer (asked.json).
"""

from __future__ import annotations

import argparse
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench import common, corpora
from bench.corpora import Asked, Corpus
from datasette_embeddings import evaluation, fulltext, register, search
from datasette_embeddings.catalog import Collection, find_collection
from datasette_embeddings.search import Scored
from datasette_embeddings.tables import Tables, find_tables

MODELS = ("static", "minilm")
DEPTH = evaluation.DEPTH

ALL_OF = 60
"""Of sets with more queries every second one is asked: how to join was chosen among eight ways on the others."""

RRF = 60
WAYS = ("z-score sum", "reciprocal ranks", "hybrid")
COLLECTION = "{model}: {{database: {database}, table: documents, columns: [text], model: {model}, similarities: 0}}"


class Answers(NamedTuple):
    """Per query, each way to search: reciprocal rank at 10, and whether the right answer is among the first 10."""

    reciprocal: dict[str, np.ndarray]
    found: dict[str, np.ndarray]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small set and model: to see that it runs")
    parser.add_argument("--til", type=Path, help="a clone of https://github.com/simonw/til at 8d908b6d36")
    options = parser.parse_args(argv)
    models = MODELS[:1] if options.quick else MODELS
    table = common.Table(
        ("set (queries)", "model", "FTS5", "vectors", *WAYS, "hybrid - better of the two"),
        notes=["MRR at 10 / share of queries whose answer is among the first 10."],
    )
    floors = common.Table(
        ("collection", "model", "floor", "nonsense above it", "right answers first", "of those below it"),
        notes=["Scores by vectors; in brackets by words and meaning together, as pages show them."],
    )
    tallies = Tallies()
    sets = quick_sets() if options.quick else all_sets(options.til, table)
    with tempfile.TemporaryDirectory() as folder:
        for number, corpus in enumerate(sets):
            common.say(f"{corpus.name}: {len(corpus.documents):,} documents, {len(corpus.queries)} queries")
            path = Path(folder) / f"set{number}.db"
            build(path, corpus, models)
            with closing(sqlite3.connect(path)) as conn:
                register(conn)
                for model in models:
                    measure(conn, corpus, model, table, tallies)
                    if corpus.floor:
                        floor_row(conn, corpus, model, floors)
    tallies.into(table, options.quick)
    summary(floors)
    print(f"{table}\n\nHow near to each collection nonsense comes:\n\n{floors}")


# ---------------------------------------------------------------- sets


def quick_sets() -> Iterator[Corpus]:
    """Yield the one set that needs no download."""
    yield corpora.sentences(corpora.asked()["sentences"])


def all_sets(til: Path | None, table: common.Table) -> Iterator[Corpus]:
    """Yield every set that can be had here; the table says which cannot."""
    asked = corpora.asked()
    made: list[Callable[[], Iterable[Corpus]]] = [
        lambda: corpora.fitted(til, asked["til"]),
        lambda: corpora.articles(asked["articles"]),
        lambda: [corpora.functions()],
        lambda: [corpora.sentences(asked["sentences"])],
    ]
    for make in made:
        try:
            yield from make()
        except (ImportError, OSError, SystemExit) as error:
            table.note(f"left out, as it cannot be had here: {error}")
    if til is None:
        table.note("til was left out: `--til` names a clone of https://github.com/simonw/til.")


# ---------------------------------------------------------------- searches


def build(path: Path, corpus: Corpus, models: Sequence[str]) -> None:
    """Build a collection of the documents with each model, by the command that everybody uses."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("create table documents (id text primary key, text text)")
        conn.executemany("insert into documents values (?, ?)", corpus.documents.items())
    collections = "\n".join(f"      {COLLECTION.format(model=model, database=path.stem)}" for model in models)
    common.build(path, f"plugins:\n  datasette-embeddings:\n    collections:\n{collections}\n")


class Searches:
    """Every way to search one collection of an open file."""

    def __init__(self, conn: sqlite3.Connection, model: str) -> None:
        tables = find_tables(conn)
        assert tables is not None
        self.conn, self.model = conn, model
        self.tables: Tables = tables
        self.collection: Collection = find_collection(conn, model, tables)
        index = fulltext.text_index(conn, tables, self.collection)
        assert index is not None, "the build made no full-text index"
        self.index = index

    def found(self, text: str) -> dict[str, list[str]]:
        """Return the first items by each way, best first."""
        words, scored = self.words(text), self.scored(text)
        named = {
            "FTS5": list(words)[:DEPTH],
            "vectors": [item for item, _ in self.by_sql("embed_search", text)],
            "hybrid": [item for item, _ in self.by_sql("embed_hybrid", text)],
        }
        for name, join in (("z-score sum", z_sum), ("reciprocal ranks", reciprocal_ranks)):
            scores = join(scored.scores, np.array([words.get(item, 0.0) for item in scored.ids]))
            joined = [hit.id for hit in search.best(lambda _, s=scores: Scored(scored.ids, s), DEPTH, self.collection)]
            named[name] = joined or named["FTS5"]
        return named

    def by_sql(self, function: str, text: str) -> list[tuple[str, float]]:
        """Return what one of our SQL functions finds: items and scores."""
        sql = f"select value ->> 'id', value ->> 'score' from json_each({function}(?, ?, ?))"
        return self.conn.execute(sql, [self.model, text, DEPTH]).fetchall()

    def words(self, text: str) -> dict[str, float]:
        """Return the items that hold any word of a text, best first, with their BM25."""
        wanted = fulltext.terms(text)
        return dict(self.index.matches(self.conn, fulltext.any_of(wanted))) if wanted else {}

    def scored(self, text: str) -> Scored:
        """Return the cosines of all items."""
        (vector,) = self.conn.execute("select embed_query(?, ?)", [self.model, text]).fetchone()
        if vector is None:  # not one word that the model knows
            return Scored([], np.empty(0))
        return search.scores_of(self.conn, self.tables, self.collection, np.frombuffer(vector, np.float32))


def z_sum(cosines: np.ndarray, bm25: np.ndarray) -> np.ndarray:
    """Return the sum of both scores, each less its mean and by its standard deviation over all items."""
    return sum((part - part.mean()) / max(part.std(), 1e-9) for part in (cosines, bm25) if part.size)


def reciprocal_ranks(cosines: np.ndarray, bm25: np.ndarray) -> np.ndarray:
    """Return 1 / (60 + rank) summed over both searches; items without a word of the query have no rank in one."""
    ranks = [(-part).argsort(kind="stable").argsort(kind="stable") + 1 for part in (cosines, bm25)]
    return 1 / (RRF + ranks[0]) + np.where(bm25 > 0, 1 / (RRF + ranks[1]), 0.0)


def answers(searches: Searches, queries: Sequence[Asked]) -> Answers:
    """Return how every way answers the queries."""
    reciprocal: dict[str, list[float]] = {}
    for query in queries:
        for name, items in searches.found(query.text).items():
            reciprocal.setdefault(name, []).append(evaluation.reciprocal_rank(items, query.right, DEPTH))
    found = {name: np.array(values) for name, values in reciprocal.items()}
    return Answers(found, {name: values > 0 for name, values in found.items()})


# ---------------------------------------------------------------- results


class Tallies:
    """What all rows together say."""

    def __init__(self) -> None:
        self.sets: dict[str, list[tuple[float, float, float]]] = {name: [] for name in WAYS}
        self.other_words: dict[str, list[np.ndarray]] = {}

    def into(self, table: common.Table, quick: bool) -> None:
        """Add them to the table."""
        for name, rows in self.sets.items():
            better, worse = sum(low > 0 for _, low, _ in rows), sum(high < 0 for _, _, high in rows)
            table.note(
                f"{name}: of {len(rows)} significantly above the better of the two {better}, below it {worse}; "
                f"mean difference {np.mean([row[0] for row in rows]):+.3f}, worst {min(row[0] for row in rows):+.3f}."
            )
            if name == "hybrid" and not quick:
                table.goal("hybrid, significantly below the better of the two", worse, 0, f"of {len(rows)}")
        for model, parts in self.other_words.items():
            mean, low, high = evaluation.interval(np.concatenate(parts), seed=common.SEED)
            count = sum(map(len, parts))
            table.note(
                f"{model}, all {count} questions together, hybrid - vectors: {mean:+.3f} [{low:+.3f}, {high:+.3f}]."
            )
        table.note("In brackets: 95 percent of 10,000 bootstrap samples of the queries, the same for both sides.")


def measure(conn: sqlite3.Connection, corpus: Corpus, model: str, table: common.Table, tallies: Tallies) -> None:
    """Add one set and model to the table."""
    queries = corpus.queries[1::2] if len(corpus.queries) > ALL_OF else corpus.queries
    by_way = answers(Searches(conn, model), queries)
    reciprocal = by_way.reciprocal
    better = max(("FTS5", "vectors"), key=lambda name: reciprocal[name].mean())
    for name in WAYS:
        tallies.sets[name].append(evaluation.interval(reciprocal[name] - reciprocal[better], seed=common.SEED))
    if len(corpus.queries) <= ALL_OF:
        tallies.other_words.setdefault(model, []).append(reciprocal["hybrid"] - reciprocal["vectors"])
    mean, low, high = tallies.sets["hybrid"][-1]
    cells = [f"{reciprocal[name].mean():.3f} / {by_way.found[name].mean():.3f}" for name in ("FTS5", "vectors", *WAYS)]
    verdict = " **above**" if low > 0 else " **below**" if high < 0 else ""
    table.rows.append(
        (f"{corpus.name} ({len(queries)})", model, *cells, f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]{verdict}")
    )


def floor_row(conn: sqlite3.Connection, corpus: Corpus, model: str, table: common.Table) -> None:
    """Add the noise floor of one collection, which its build stored, beside other nonsense and right answers."""
    searches = Searches(conn, model)
    floor = searches.collection.noise_floor
    assert floor is not None, "the build stored no noise floor"
    above, first, below = [], [], []
    for function in ("embed_search", "embed_hybrid"):
        best = [searches.by_sql(function, text)[:1] for text in corpora.asked()["nonsense"]]
        above.append(np.mean([bool(hits) and hits[0][1] >= floor for hits in best]))
        right = []
        for query in corpus.queries:
            hits = searches.by_sql(function, query.text)[:1]
            if hits and hits[0][0] in query.right:
                right.append(hits[0][1])
        first.append(len(right))
        below.append(np.mean(np.array(right) < floor))
    table.rows.append(
        (
            corpus.name.partition(":")[0].partition(",")[0],
            model,
            f"{floor:.3f}",
            f"{above[0]:.0%} ({above[1]:.0%})",
            f"{first[0]} ({first[1]})",
            f"{below[0]:.0%} ({below[1]:.0%})",
        )
    )


def summary(table: common.Table) -> None:
    """Add the means of the table of floors."""
    for column, what in ((3, "of held-out nonsense is above the floor"), (5, "of right first answers are below it")):
        shares = np.array([[float(part) for part in re.findall(r"(\d+)%", str(row[column]))] for row in table.rows])
        vectors, joined = shares.mean(axis=0)
        table.note(f"On average {vectors:.0f} percent ({joined:.0f}) {what}; at most {shares[:, 0].max():.0f} percent.")


if __name__ == "__main__":
    main()
