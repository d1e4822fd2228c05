"""`static`, the embedded default: a token table fitted to all-MiniLM-L6-v2, run by numpy alone.

A text's vector is the sum of the rows of its WordPiece tokens, each times the square root of how often it occurs, made unit
length by the base class. Rows are int8 with one scale for the whole table, their weights fitted into them, so the sum is one
of integers: exact, and therefore the same in whatever batch or order the text comes. `scripts/fit_static.py` makes the table; docs/models-static.md says how good it is.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from datasette_embeddings.errors import ConfigError, ModelError
from datasette_embeddings.models.base import Embedded, EmbeddingModel, Item, Purpose
from datasette_embeddings.models.prompts import before
from datasette_embeddings.models.wordpiece import WordPiece

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from importlib.resources.abc import Traversable

    from numpy.typing import NDArray

MAX_TOKENS = 100_000
"""Read of one text: a 300-page book. A mean over more says nothing more, and hostile input must end."""

MAX_CHARACTERS = 1_000_000
"""Cut into words at most: ten for every token of the bound above, about half a second."""

MANY_PIECES = 3
"""Words cut into as many pieces count as unknown: 1 percent of English prose, 7 of code, 21 to 32 of French, Spanish and German."""

SLICE_TOKENS = 16_384
"""Table rows gathered at once: 4 MB, which stays in a processor's cache."""

ONE = 64
"""The weight of a token that occurs once; sqrt(2) is then 91/64, a third of a percent off."""

BATCH_ITEMS = 4_096
BATCH_TOKENS = 1_000_000
"""Of one call. Batches cost little here; these keep progress visible and a batch's token lists under 50 MB."""


class StaticModel(EmbeddingModel):
    """The table and its tokenizer. *table*: (vocabulary, 256) int8, zero rows for what the model does not know."""

    name = "static"
    language = "English"
    max_tokens = MAX_TOKENS
    batch_items = BATCH_ITEMS
    batch_tokens = BATCH_TOKENS
    quick = True

    def __init__(self, table: NDArray[np.int8], vocabulary: Sequence[str], revision: str) -> None:
        self.table = table
        self.known: NDArray[np.bool_] = np.any(table, axis=1)
        self.begins = np.array([not piece.startswith("##") or piece == "##" for piece in vocabulary])
        self.tokenizer = WordPiece(vocabulary)
        self.dimensions = table.shape[1]
        self.revision = revision

    def embed_batch(self, items: Sequence[Item], purpose: Purpose, prompt: str = "") -> Embedded:
        """Return the sums (n, 256) of the items' rows; a text without a known token gets zeros.

        *unknown* words, of *words* with punctuation marks, are those whose first piece has no row (not in the vocabulary,
        or of another script than Latin) or that are cut into MANY_PIECES: see docs/models-static.md for the shares of languages.
        """
        failures: dict[int, str] = {}
        truncated: dict[int, int] = {}
        rows: list[list[int]] = []
        for position, item in enumerate(before(prompt, items)):
            if isinstance(item, bytes):
                failures[position] = f"{self.name} reads texts, this is an image"
                rows.append([])
                continue
            ids = self.tokenizer.encode(item[:MAX_CHARACTERS])
            if len(ids) > MAX_TOKENS or len(item) > MAX_CHARACTERS:
                whole = len(ids) * max(1.0, len(item) / MAX_CHARACTERS)
                truncated[position] = max(round(whole), MAX_TOKENS + 1)
                ids = ids[:MAX_TOKENS]
            rows.append(ids)
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        tokens = np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum()))
        vectors = sums(self.table, tokens, lengths)
        words, unknown = self._words(tokens)
        return Embedded(vectors, failures, len(tokens), truncated, unknown, words)

    def _words(self, tokens: NDArray[np.int32]) -> tuple[int, int]:
        """Return how many words a row of tokens has, and how many of them the table does not know."""
        first = self.begins[tokens]
        after = np.append(first, [True] * (MANY_PIECES - 1))
        whole = np.any([after[piece : piece + len(first)] for piece in range(1, MANY_PIECES)], axis=0)
        return int(first.sum()), int((first & ~(whole & self.known[tokens])).sum())


def sums(table: NDArray[np.int8], tokens: NDArray[np.int32], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return (n, d) float32: for each text the weighted sum of the rows of its tokens, which lie one text after the other.

    A token that occurs c times weighs sqrt(c), as ONE-ths rounded, so that sums are exact: at most ONE x 127 x 55,000 for
    MAX_TOKENS tokens of 30,522 kinds, which int32 holds.

    >>> sums(np.array([[1, 2], [3, 4]], np.int8), np.array([0, 1, 1, 1, 1], np.int32), np.array([1, 0, 4])) / ONE
    array([[1., 2.],
           [0., 0.],
           [6., 8.]], dtype=float32)
    """
    result = np.zeros((len(lengths), table.shape[1]), np.float32)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    filled = np.flatnonzero(lengths)
    for texts in _slices(filled, ends, starts):
        owner = np.repeat(np.arange(len(texts)), lengths[texts])
        keys = owner * len(table) + tokens[starts[texts[0]] : ends[texts[-1]]]
        result[texts] = _weighted(table, *np.unique(keys, return_counts=True))
    return result


def _weighted(table: NDArray[np.int8], keys: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return (n, d) int32 sums for sorted distinct keys, text x vocabulary + token, of n texts that all have tokens."""
    owner, token = np.divmod(keys, len(table))
    total = np.add.reduceat(table[token], _starts(owner), axis=0, dtype=np.int32) * np.int32(ONE)
    often = np.flatnonzero(counts > 1)
    if len(often):
        more = np.rint(ONE * np.sqrt(counts[often])).astype(np.int32) - ONE
        begins = _starts(owner[often])
        total[owner[often][begins]] += np.add.reduceat(
            table[token[often]] * more[:, None], begins, axis=0, dtype=np.int32
        )
    return total


def _starts(owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each run of equal values begins."""
    return np.flatnonzero(np.diff(owner, prepend=-1))


def _slices(
    filled: NDArray[np.int64], ends: NDArray[np.int64], starts: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """Yield runs of texts that have together at most SLICE_TOKENS tokens; a longer text goes alone."""
    begin = 0
    while begin < len(filled):
        limit = starts[filled[begin]] + SLICE_TOKENS
        end = max(begin + 1, int(np.searchsorted(ends[filled], limit, side="right")))
        yield filled[begin:end]
        begin = end


def table_id(data: Traversable) -> str:
    """Return the id of the table and vocabulary in a folder: it changes whenever either does."""
    digest = hashlib.sha256((data / "static.npy").read_bytes() + (data / "vocab.txt").read_bytes()).hexdigest()
    return f"static-256-v1-{digest[:8]}"


def load(rest: str, settings: Mapping[str, Any]) -> StaticModel:
    """Return the shipped model; there is one, and it has no settings."""
    if rest or settings:
        found = rest or ", ".join(settings)
        raise ConfigError(
            f"the model is called static and has no variants or settings, but was given {found!r}: remove it"
        )
    data = files("datasette_embeddings.models") / "data"
    try:
        with (data / "static.npy").open("rb") as file:
            table = np.load(file, allow_pickle=False)
        vocabulary = (data / "vocab.txt").read_text("utf-8").removesuffix("\n").split("\n")
        revision = (data / "static.id").read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the token table that ships with this package cannot be read ({error}): reinstall it"
        ) from error
    if table.dtype != np.int8 or len(table) != len(vocabulary):
        raise ModelError("the token table that ships with this package does not fit its vocabulary: reinstall it")
    return StaticModel(table, vocabulary, revision)
