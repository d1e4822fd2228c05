"""`words/FILE`: word vectors, such as GloVe's, run by numpy alone; a text is the mean of the vectors of its words.

Formats, by the end of the file's name:

- `.npy`: an array (n, d) of floating point numbers, memory-mapped, with its n words one a line in the `.txt` beside it;
- `.npz`: two arrays, `vectors` as above and `words` of n strings;
- `.txt`, `.vec`, or one of them with `.gz`: a word and its numbers a line, as GloVe, word2vec and fastText write them.

Nothing in a file is executed: arrays of Python objects are refused.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import unicodedata
import zipfile
import zlib
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from datasette_embeddings.errors import ConfigError, ModelError
from datasette_embeddings.limits import MAX_DIMENSIONS, MAX_WORD_LINE_BYTES, MAX_WORD_VECTOR_BYTES
from datasette_embeddings.models.base import Embedded, EmbeddingModel
from datasette_embeddings.models.onnx import check_settings
from datasette_embeddings.models.prompts import before
from datasette_embeddings.models.static import BATCH_ITEMS, BATCH_TOKENS, MAX_CHARACTERS, MAX_TOKENS
from datasette_embeddings.models.weights import file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from io import BufferedIOBase

    from numpy.typing import NDArray

    from datasette_embeddings.models.base import Item, Purpose

SETTINGS = ("limit",)

READING = "v1"
"""How a text is parted into words; a part of the revision."""

SLICE_WORDS = 16_384
"""Rows of the table gathered at once: at 300 dimensions 40 MB in float64."""

EDGES = re.compile(r"^[\W_]+|[\W_]+\Z")
PIECE = re.compile(r"'?[^\W_]+")


class WordVectors(NamedTuple):
    """Words, the commonest first where the file is in that order, and their vectors (n, d)."""

    words: Sequence[str]
    vectors: NDArray[np.floating[Any]]


def load(rest: str, settings: Mapping[str, Any]) -> WordModel:
    """Return the model of the file *rest*; a relative path counts from the current directory.

    Settings: limit (the first so many words of the file). Raises ConfigError, ModelError.
    """
    name = f"words/{rest}"
    check_settings(name, settings, SETTINGS)
    limit = settings.get("limit")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise ConfigError(f"{name}: limit is {limit!r}; a number of words from 1 on was expected")
    path = Path(rest).expanduser()
    with _said_by(name, path):
        words, vectors = _reader(path)(path, limit)
        _check(words, vectors)
        revision = _revision(path, limit)
    return WordModel(name, WordVectors(words[:limit], vectors[:limit]), revision)


class WordModel(EmbeddingModel):
    """A table of word vectors. Of words that stand in it twice, the first counts."""

    max_tokens = MAX_TOKENS
    batch_items = BATCH_ITEMS
    batch_tokens = BATCH_TOKENS
    quick = True

    def __init__(self, name: str, table: WordVectors, revision: str) -> None:
        self.name = name
        self.revision = revision
        self.vectors = table.vectors
        self.dimensions = table.vectors.shape[1]
        self.rows = dict(zip(reversed(table.words), range(len(table.words) - 1, -1, -1), strict=True))
        self.rows.pop("", None)

    def embed_batch(self, items: Sequence[Item], purpose: Purpose, prompt: str = "") -> Embedded:
        """Return the means (n, d) of the vectors of each text's words; a text without a known word gets zeros."""
        vectors = np.zeros((len(items), self.vectors.shape[1]), np.float64)
        failures: dict[int, str] = {}
        truncated: dict[int, int] = {}
        words = unknown = 0
        for position, item in enumerate(before(prompt, items)):
            if isinstance(item, bytes):
                failures[position] = f"{self.name} reads texts, this is an image"
                continue
            found = list(self.rows_of(item[:MAX_CHARACTERS]))
            if len(found) > MAX_TOKENS or len(item) > MAX_CHARACTERS:
                whole = len(found) * max(1.0, len(item) / MAX_CHARACTERS)
                truncated[position] = max(round(whole), MAX_TOKENS + 1)
            read = found[:MAX_TOKENS]
            known = [row for row in read if row is not None]
            words += len(read)
            unknown += len(read) - len(known)
            if known:
                vectors[position] = mean(self.vectors, known)
        return Embedded(vectors.astype(np.float32), failures, words, truncated, unknown, words)

    def rows_of(self, text: str) -> Iterator[int | None]:
        """Yield the row of each word of a text, None for a word that is not in the table.

        A word is what stands between blanks, without marks around it; one that is not in the table as a whole counts as its parts:
        `Paris-based` is paris and based. Of marks alone only a text that is nothing else has a vector.
        """
        whole = self.row(text.strip())
        if whole is not None:
            yield whole
            return
        for chunk in unicodedata.normalize("NFC", text).replace("’", "'").split():
            word = EDGES.sub("", chunk)
            row = self.row(chunk, word) if word else None
            if row is not None:
                yield row
            else:
                yield from (self.row(piece, piece.removeprefix("'")) for piece in PIECE.findall(word))

    def row(self, *spellings: str) -> int | None:
        """Return the row of the first of some spellings of a word, each as it is and in lower case, that is in the table."""
        cases = (case for spelled in spellings for case in (spelled, spelled.lower()))
        return next((self.rows[case] for case in cases if case in self.rows), None)


def mean(vectors: NDArray[np.floating[Any]], rows: Sequence[int]) -> NDArray[np.float64]:
    """Return the mean (d,) of some rows, the same whatever their order is.

    >>> mean(np.array([[1, 2], [3, 4]], np.float16), [1, 0, 1, 1])
    array([2.5, 3.5])
    """
    distinct, counts = np.unique(np.asarray(rows), return_counts=True)
    total = np.zeros(vectors.shape[1])
    for begin in range(0, len(distinct), SLICE_WORDS):
        part = slice(begin, begin + SLICE_WORDS)
        total += counts[part] @ vectors[distinct[part]].astype(np.float64)
    return total / len(rows)


# Files


class Unusable(ValueError):
    """A file of word vectors that cannot be used; the message is the rest of a sentence that begins with its path."""


@contextmanager
def _said_by(name: str, path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a file into a ModelError that names the model and the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise ModelError(f"{name}: there is no file {Path(error.filename or path).absolute()}") from error
    except (OSError, EOFError, MemoryError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{name} cannot be read as word vectors: {reason}") from error


def _reader(path: Path) -> Any:  # noqa: ANN401
    """Return what reads a file, (path, limit) -> WordVectors, by the end of its name."""
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if path.suffix in {".npy", ".npz"}:
        return _read_npy if path.suffix == ".npy" else _read_npz
    if suffix in {".txt", ".vec"}:
        return _read_text
    raise Unusable(
        ".npy, .npz, .txt, .vec, .txt.gz or .vec.gz was expected; gensim writes word2vec's binary files as text with "
        "save_word2vec_format(NAME, binary=False)"
    )


def _read_npy(path: Path, limit: int | None) -> WordVectors:
    """Return the array of a .npy file, mapped into memory, and the words of the .txt beside it."""
    vectors = np.lib.format.open_memmap(path, mode="r")
    with path.with_suffix(".txt").open("rb") as file:
        lines = (line.rstrip(b"\r\n").decode("utf-8", "replace") for line in _lines(file))
        return WordVectors(list(islice(lines, len(vectors) + 1)), vectors)


def _read_npz(path: Path, limit: int | None) -> WordVectors:
    """Return the arrays `words` and `vectors` of a .npz file, which are looked at only if they may be unpacked."""
    with zipfile.ZipFile(path) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        if not {"words.npy", "vectors.npy"} <= set(sizes):
            raise Unusable(f"it holds {', '.join(sorted(sizes)) or 'nothing'}; words and vectors were expected")
        _check_size(sizes["words.npy"] + sizes["vectors.npy"])
        with archive.open("words.npy") as first, archive.open("vectors.npy") as second:
            words, vectors = np.lib.format.read_array(first), np.lib.format.read_array(second)
    if words.ndim != 1 or words.dtype.kind != "U":
        raise Unusable(f"its words are {words.dtype} of shape {words.shape}; a list of strings was expected")
    return WordVectors(words.tolist(), vectors)


def _read_text(path: Path, limit: int | None) -> WordVectors:
    """Return the words and vectors of a text file, the first *limit* of them where there is a limit.

    word2vec and fastText begin with a line of two numbers, words and dimensions; then that many words must follow.
    """
    words: list[str] = []
    with _open(path) as file:
        lines = _lines(file)
        first = next(lines, b"").split()
        if len(first) < 2:
            raise Unusable("its first line was expected to hold a word and the numbers of its vector")
        header = [int(number) for number in first] if len(first) == 2 and b"".join(first).isdigit() else None
        dimensions = header[1] if header else len(first) - 1
        if not header:
            file.seek(0)
            lines = _lines(file)
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise Unusable(f"its vectors have {dimensions:,} dimensions; 1 to {MAX_DIMENSIONS:,} were expected")
        numbers = _numbers(islice(lines, limit), dimensions, words)
        vectors = np.loadtxt(numbers, np.float32, comments=None, ndmin=2)
    if header and len(words) != min(header[0], limit or header[0]):
        raise Unusable(f"it says that it holds {header[0]:,} words and holds {len(words):,}; copy it anew")
    return WordVectors(words, vectors)


def _open(path: Path) -> BufferedIOBase:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _numbers(lines: Iterator[bytes], dimensions: int, words: list[str]) -> Iterator[str]:
    """Yield the numbers of each line, its word added to *words*; words may hold blanks."""
    size = 0
    for number, line in enumerate(lines, 1):
        word, *numbers = line.rsplit(None, dimensions)
        if len(numbers) != dimensions:
            raise Unusable(f"the vector of its word {number:,} has {len(numbers)} numbers; {dimensions} were expected")
        words.append(word.decode("utf-8", "replace"))
        size += len(word) + 4 * dimensions
        _check_size(size)
        yield b" ".join(numbers).decode("latin-1")


def _lines(file: BufferedIOBase) -> Iterator[bytes]:
    """Yield the lines of a file that are not empty."""
    while line := file.readline(MAX_WORD_LINE_BYTES):
        if len(line) == MAX_WORD_LINE_BYTES:
            raise Unusable(f"it has a line of {MAX_WORD_LINE_BYTES:,} bytes or more; a word a line was expected")
        if line.strip(b"\r\n"):
            yield line


def _check(words: Sequence[str], vectors: NDArray[Any]) -> None:
    """Raise Unusable unless there is a vector of floating point numbers for each word."""
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not 1 <= vectors.shape[-1] <= MAX_DIMENSIONS:
        raise Unusable(
            f"its vectors are {vectors.dtype} of shape {vectors.shape}; floating point numbers, (words, dimensions), were expected"
        )
    if len(words) != len(vectors) or not words:
        more = "more" if len(words) > len(vectors) else f"{len(words):,}"
        raise Unusable(f"it has {len(vectors):,} vectors and {more} words; one word for each vector was expected")


def _check_size(count: int) -> None:
    if count > MAX_WORD_VECTOR_BYTES:
        raise Unusable(
            f"it takes more than {MAX_WORD_VECTOR_BYTES / 1e9:g} GB of memory; keep its commonest words, or save it as .npy, "
            "which is read where it lies"
        )


def _revision(path: Path, limit: int | None) -> str:
    """Return digits that change whenever a text might get another vector: of the SHA-256 of the file, and of all else."""
    beside = file_sha256(path.with_suffix(".txt")) if path.suffix == ".npy" else ""
    rest = hashlib.sha256(repr((beside, limit, READING)).encode()).hexdigest()
    return f"{file_sha256(path)[:8]}-{rest[:8]}"
