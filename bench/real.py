"""Embeddings of real texts: what packages of Debian say that they are, and what WordNet says that words mean.

Both are short texts in English, 200,000 of them different, embedded by `minilm` (384 dimensions) and kept in the folder
`fit_corpus.CACHE`, as that takes some minutes. Where more are wanted, or of other dimensions, `like` draws vectors with the spectrum,
the mean and the neighbours of these.
"""

from __future__ import annotations

import hashlib
import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.common import SEED, say
from scripts import fit_corpus

if TYPE_CHECKING:
    from bench.common import Matrix

MOST = 200_000
HELD_OUT = 1_000
GLOSS = re.compile(r"\| (.*)")
DESCRIPTION = re.compile(r"^Description-en: (.*)\n((?: [^.].*\n)*)", re.MULTILINE)


def texts() -> list[str]:
    """Return the different texts in an order that says nothing, the same each time."""
    found = sorted({*_descriptions(), *_glosses()} - {""})
    order = np.random.default_rng(SEED).permutation(len(found))
    chosen = [found[place] for place in order]
    wanted = MOST + HELD_OUT
    return chosen[:wanted] if len(chosen) >= wanted else chosen


def _descriptions() -> Iterator[str]:
    """Yield what each package of Debian is, in a line, and the first sentence of its description."""
    described = lzma.decompress(fit_corpus.fetch("Translation-en").read_bytes()).decode()
    for line, paragraph in DESCRIPTION.findall(described):
        yield line.strip()
        yield " ".join(paragraph.split()).split(". ")[0][:300]


def _glosses() -> Iterator[str]:
    """Yield what WordNet says of each meaning, without its examples."""
    for path, body in fit_corpus.deb_files("wordnet-base"):
        if Path(path).name.startswith("data."):
            for gloss in GLOSS.findall(body.decode("utf-8", "replace")):
                yield gloss.split('; "')[0].strip()


def vectors(count: int, held_out: int = 0) -> tuple[Matrix, Matrix]:
    """Return unit vectors (count, 384) of real texts, and *held_out* more to search with."""
    rows = _embedded()
    if count > len(rows) - HELD_OUT or held_out > HELD_OUT:
        raise SystemExit(f"there are {len(rows) - HELD_OUT:,} real embeddings and {HELD_OUT:,} to search with")
    return rows[HELD_OUT : HELD_OUT + count], rows[:held_out]


def _embedded() -> Matrix:
    wanted = texts()
    digest = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:16]
    path = fit_corpus.CACHE / f"minilm-{digest}.npy"
    if not path.exists():
        from datasette_embeddings.models import get_model

        say(f"embedding {len(wanted):,} texts; this is kept in {path}")
        rows = np.empty((len(wanted), 384), np.float32)
        for positions, embedded in get_model("minilm").embed_many(wanted, "document"):
            rows[list(positions)] = embedded.vectors
        np.save(path, rows)
    return np.load(path)
