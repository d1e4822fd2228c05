"""Retrieval quality of the `static` model beside full-text search and its teacher (`--til CLONE --minilm` for all of it).

Every query has exactly one right document. The sets are those of scripts/fit_corpus.py, `evaluation_sets`: nothing of
them was used to fit the table or to choose a setting. Downloads about 60 MB at the first run.
"""

from __future__ import annotations

import argparse
import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scripts import fit_corpus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from scripts.fit_corpus import Pair

DEPTH = 10
"""Right answers below the tenth place count as not found."""


class Quality(NamedTuple):
    """Mean reciprocal rank at 10, and the share of queries whose document is among the first 10."""

    mrr: float
    recall: float

    def __str__(self) -> str:
        return f"{self.mrr:.3f} / {self.recall:.3f}".replace("0.", ".")


def quality(scores: NDArray[np.float32]) -> Quality:
    """Return the quality of an (n, n) matrix of scores, queries by documents, the right ones on its diagonal."""
    ranks = 1 + (scores > scores.diagonal()[:, None]).sum(axis=1)
    found = ranks <= DEPTH
    return Quality(float((found / ranks).mean()), float(found.mean()))


def vectors_quality(queries: NDArray[np.float32], documents: NDArray[np.float32]) -> Quality:
    """Return the quality of unit vectors."""
    return quality(queries @ documents.T)


def full_text_scores(pairs: Sequence[Pair]) -> NDArray[np.float32]:
    """Return SQLite FTS5's BM25 (porter, any word of the query) as an (n, n) matrix; higher is better, 0 is no match."""
    db = sqlite3.connect(":memory:")
    db.execute("create virtual table documents using fts5(text, tokenize='porter unicode61')")
    db.executemany(
        "insert into documents(rowid, text) values (?, ?)",
        ((n, pair.document) for n, pair in enumerate(pairs)),
    )
    scores = np.zeros((len(pairs), len(pairs)), np.float32)
    for row, pair in enumerate(pairs):
        words = re.findall(r"\w+", pair.query)
        match = " OR ".join(f'"{word}"' for word in words)
        if match:
            for document, rank in db.execute("select rowid, rank from documents where documents match ?", [match]):
                scores[row, document] = -rank
    db.close()
    scores[np.diag_indices_from(scores)] -= np.where(
        scores.diagonal() == 0, 1.0, 0.0
    )  # no match is not a tie for the first place
    return scores


def model_scores(name: str, pairs: Sequence[Pair]) -> NDArray[np.float32]:
    """Return the cosine similarities by one of the package's own models."""
    from datasette_embeddings.models import get_model

    model = get_model(name)
    sides = []
    for texts in ([pair.query for pair in pairs], [pair.document for pair in pairs]):
        vectors = np.zeros((len(texts), model.dimensions or 0), np.float32)
        for positions, embedded in model.embed_many(texts, "document"):
            vectors[positions] = embedded.vectors
        sides.append(vectors)
    queries, documents = sides
    return queries @ documents.T


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--til", type=Path, help="a clone of https://github.com/simonw/til at 8d908b6d36")
    parser.add_argument("--minilm", action="store_true", help="also run the teacher (needs its weights; some minutes)")
    parser.add_argument("--quick", action="store_true", help="50 pairs of one set: only sees that it runs")
    options = parser.parse_args()
    if options.quick:
        sets = {"deb": fit_corpus.split_descriptions()[2][:50]}
    else:
        sets = fit_corpus.evaluation_sets(options.til)
    models = ["static", *(["minilm"] if options.minilm else [])]
    print("| model | " + " | ".join(f"{name} ({len(pairs)})" for name, pairs in sets.items()) + " |")
    print("| --- |" + " --- |" * len(sets))
    print("| SQLite FTS5 BM25, porter | " + " | ".join(str(quality(full_text_scores(p))) for p in sets.values()) + " |")
    for name in models:
        print(f"| {name} | " + " | ".join(str(quality(model_scores(name, p))) for p in sets.values()) + " |")


if __name__ == "__main__":
    main()
