"""What clusters are called: the terms that set each apart from the others, or a title that a chat model gives.

Terms are ranked by class-based TF-IDF (Grootendorst, BERTopic, 2022, https://arxiv.org/abs/2203.05794, equation 1), with members that hold a term in
place of its occurrences, so that one long text has no more to say than others.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasette_embeddings.excerpts import GRAMMAR
from datasette_embeddings.texts import row_texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasette_embeddings.clusters import Clusters
    from datasette_embeddings.derived import Vectors

WORD = re.compile(r"[^\W\d_]{3,30}")
"""Words of three letters or more; what is joined by _ is several."""

READ_CHARACTERS = 4_000
"""What is read of each text for terms."""

TERMS = 10
"""Terms that are kept of each cluster."""

HELD_SHARE = 0.1
"""Members of a cluster that hold a term which is of all of it, at least."""

NAMING_TERMS = 3
"""Terms that make up a name."""

MOST_COUNTS = 2_000_000
"""Counts held at once, 200 MB: beyond that, terms that were met once in a cluster are forgotten."""

SUMMED_ITEMS = 20
"""Most central items that a title is made from."""


class Name(NamedTuple):
    """A cluster's name, and the terms that set it apart, the best first. *model*: the chat model that gave it, *digest*: of what it was asked."""

    label: str
    terms: list[str]
    model: str | None = None
    digest: str | None = None


def named(vectors: Vectors, found: Clusters, before: Mapping[int, Name]) -> list[Name]:
    """Return the name of each cluster: the one that it has, while its terms are still among its best, or while a chat model gave it."""
    best = best_terms(vectors, found)
    names = [
        _name(number, terms, None if vectors.anew else before.get(number))
        for number, terms in zip(found.numbers, best, strict=True)
    ]
    if vectors.title is None:
        return names
    known = {name.digest: name for name in before.values() if name.digest}
    return _titled(vectors, found, names, known)


def _name(number: int, terms: list[str], before: Name | None) -> Name:
    if before and (before.model or set(before.label.split(", ")) <= set(terms)):
        return before._replace(terms=terms)
    return Name(", ".join(terms[:NAMING_TERMS]) or f"Cluster {number}", terms)


def best_terms(vectors: Vectors, found: Clusters) -> list[list[str]]:
    """Return the terms of each cluster, the best first: share of its members that hold one, times log(1 + members of a cluster / rows that hold it)."""
    held, rows = _held(vectors, found)
    usual = len(vectors.matrix.ids) / max(1, len(found.numbers))
    chosen = []
    for size, counts in zip(found.sizes.tolist(), held, strict=True):
        least = max(2, HELD_SHARE * size) if size > 2 else 1
        weights = {
            term: count / size * math.log(1 + usual / rows[term]) for term, count in counts.items() if count >= least
        }
        chosen.append(_different(sorted(weights, key=lambda term: (-weights[term], term))))
    return chosen


def _held(vectors: Vectors, found: Clusters) -> tuple[list[Counter[str]], Counter[str]]:
    """Return by how many members of each cluster each term is held, and by how many rows in all."""
    place = dict(zip(vectors.matrix.ids, found.places.tolist(), strict=True))
    held: list[Counter[str]] = [Counter() for _ in found.numbers]
    for number, (row, text) in enumerate(row_texts(vectors.conn, vectors.tables, vectors.collection)):
        if row in place:
            held[place[row]].update(words(text))
        if number % 10_000 == 0 and sum(map(len, held)) > MOST_COUNTS:
            held = [Counter({term: count for term, count in counts.items() if count > 1}) for counts in held]
    rows: Counter[str] = Counter()
    for counts in held:
        rows.update(counts)
    return held, rows


def words(text: str) -> set[str]:
    """Return the words of a text that may name something, in lower case.

    >>> sorted(words("The plugin_manager loads 12 plugins for YOU"))
    ['loads', 'manager', 'plugin', 'plugins']
    """
    return {word for word in WORD.findall(text[:READ_CHARACTERS].lower()) if word not in GRAMMAR}


def _different(terms: Sequence[str]) -> list[str]:
    """Return the first TERMS of some, without those that differ from an earlier one by an ending alone.

    >>> _different(["plugins", "plugin", "hook", "hooks", "pluggy"])
    ['plugins', 'hook', 'pluggy']
    """
    chosen: list[str] = []
    for term in terms:
        if not any(_alike(term, other) for other in chosen):
            chosen.append(term)
        if len(chosen) == TERMS:
            break
    return chosen


def _alike(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return long.startswith(short) and len(long) - len(short) <= 2


def _titled(vectors: Vectors, found: Clusters, names: list[Name], known: Mapping[str, Name]) -> list[Name]:
    """Return names with titles by a chat model, those it was asked for before without asking again, and the terms where it gives none."""
    assert vectors.title is not None
    chosen = _most_central(found)
    wanted = {vectors.matrix.ids[position] for some in chosen for position in some}
    texts: dict[str, str] = {}
    for row, text in row_texts(vectors.conn, vectors.tables, vectors.collection):
        if row in wanted:
            texts.setdefault(row, text)
    titled = []
    for name, some in zip(names, chosen, strict=True):
        shown = [texts[item] for item in (vectors.matrix.ids[n] for n in some) if item in texts]
        digest = hashlib.sha256(json.dumps([vectors.title.model, shown]).encode()).hexdigest()[:16]
        plain = Name(", ".join(name.terms[:NAMING_TERMS]) or name.label, name.terms) if name.model else name
        label = known[digest].label if digest in known else vectors.title.of(shown) if shown else None
        titled.append(Name(label, name.terms, vectors.title.model, digest) if label else plain)
    return titled


def _most_central(found: Clusters) -> list[list[int]]:
    """Return the positions of the most central rows of each cluster, the best first."""
    order = np.lexsort((-found.scores, found.places))
    starts = np.searchsorted(found.places[order], np.arange(len(found.numbers)))
    return [
        order[start : start + min(SUMMED_ITEMS, size)].tolist()
        for start, size in zip(starts.tolist(), found.sizes.tolist(), strict=True)
    ]
