"""A text model exported to ONNX, run by onnxruntime and tokenizers; no torch.

Texts of one batch all have the same number of tokens. So nothing is padded, short texts cost what they need, and the
vector of a text depends on that text alone: measured bit for bit equal in any batch and with any number of threads of one
machine, which is what makes a build from scratch equal an incremental one. With padding they differ by about 1e-7.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasette_embeddings.errors import ConfigError, MissingExtra, ModelError, nearest
from datasette_embeddings.models import prompts
from datasette_embeddings.models.base import Embedded, EmbeddingModel, checked
from datasette_embeddings.models.prompts import NO_PROMPTS, Prompts, before
from datasette_embeddings.models.weights import file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from onnxruntime import InferenceSession, SessionOptions
    from tokenizers import Tokenizer

    from datasette_embeddings.models.base import Item, Purpose

BATCH_TOKENS = 1024
"""Tokens of one run: from 512 to 4096 the speed is the same within 4 % for short texts and falls by 6 % for long ones
(bench/embedding.py), and less is less memory."""

DEFAULT_MAX_TOKENS = 512
"""What a BERT reads, for folders that do not say."""

PIECE_CHARACTERS = 100_000
"""Longer texts are tokenised piece by piece: a tokenizer needs about 200 bytes of memory for every token it returns."""

SLICE_CHARACTERS = 250_000
"""Characters given to the tokenizer at a time, for the same reason."""


@dataclass(frozen=True)
class Tokens:
    """A text as the model reads it: *ids* (n,) int64, cut to its limit; *count*: tokens before the cut; *unknown* among ids."""

    ids: NDArray[np.int64]
    count: int
    unknown: int


@dataclass(frozen=True)
class SentenceConfig:
    """How vectors come from the network's output: what the configuration files of a model folder say."""

    max_tokens: int = DEFAULT_MAX_TOKENS
    pooling: str = "mean"
    lower: bool = False
    prompts: Prompts = NO_PROMPTS


class OnnxModel(EmbeddingModel):
    """A tokenizer, a session and how to make sentence vectors of its output. Safe to share between threads."""

    batch_tokens = BATCH_TOKENS

    def __init__(
        self,
        name: str,
        *,
        session: InferenceSession,
        tokenizer: TextTokenizer,
        config: SentenceConfig,
        revision: str,
        language: str = "unknown",
        weights: object = None,
        output: str | None = None,
        length: int | None = None,
        also: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """*weights*: memory that the session reads and does not own. *output*: the one that is a vector of each text already.

        *length*: what every text is filled up to, by its own last token, for a network that reads no other. *also*: what the
        network has to be given besides.
        """
        self.name = name
        self.revision = revision
        self.language = language
        self._weights = weights
        self.max_tokens = config.max_tokens
        self.prompts = config.prompts
        self._session = session
        self._tokenizer = tokenizer
        self._config = config
        self._inputs = [entry.name for entry in session.get_inputs()]
        self.output, self._pooled = (output, True) if output else _choose_output(name, session)
        self._length = length
        self._also = dict(also or {})
        unknown = set(self._inputs) - {"input_ids", "attention_mask", "token_type_ids", *self._also}
        if unknown or "input_ids" not in self._inputs:
            raise ModelError(
                f"{name}: the network takes {', '.join(self._inputs)}; "
                "a sentence model takes input_ids and may take attention_mask and token_type_ids"
            )
        self.dimensions = self._dimensions()

    def _dimensions(self) -> int:
        declared = next(entry for entry in self._session.get_outputs() if entry.name == self.output).shape[-1]
        return declared if isinstance(declared, int) else int(self._run([self._tokens(["a"])[0].ids]).shape[1])

    def embed_batch(self, items: Sequence[Item], purpose: Purpose, prompt: str = "") -> Embedded:
        """Return the mean (or first) token vectors of texts of any lengths, not yet normalised."""
        return self._embed_tokens(self._tokens(items, prompt))

    def embed_many(
        self, items: Sequence[Item], purpose: Purpose, prompt: str | None = None
    ) -> Iterator[tuple[list[int], Embedded]]:
        """Yield (positions, vectors) batch by batch, shortest texts first; every text is tokenised once."""
        tokens = self._tokens(items, self.prompt_of(purpose, prompt))
        for positions in batches_of_one_length([len(text.ids) for text in tokens], self.batch_tokens):
            batch = [tokens[position] for position in positions]
            yield positions, checked(self, self._embed_tokens(batch), len(batch))

    def token_counts(self, items: Sequence[Item]) -> list[int]:
        """Return the true number of tokens of each text as a document, before any cut."""
        return [text.count for text in self._tokens(items, self.prompts.document)]

    def _tokens(self, items: Sequence[Item], prompt: str = "") -> list[Tokens]:
        if any(isinstance(item, bytes) for item in items):
            raise ModelError(f"{self.name} embeds texts, not images: choose a model that has images")
        return self._tokenizer([str(item) for item in before(prompt, items)], self._config.max_tokens)

    def _embed_tokens(self, tokens: Sequence[Tokens]) -> Embedded:
        vectors = np.zeros((len(tokens), self.dimensions or 0), np.float32)
        for positions in batches_of_one_length([len(text.ids) for text in tokens], self.batch_tokens):
            vectors[positions] = self._run([tokens[position].ids for position in positions])
        special = self._tokenizer.special
        empty = [position for position, text in enumerate(tokens) if text.count <= special]
        return Embedded(
            vectors,
            failures=dict.fromkeys(empty, "nothing that the model could read is in it"),
            tokens=sum(len(text.ids) for text in tokens),
            truncated={n: text.count for n, text in enumerate(tokens) if text.count > len(text.ids)},
            unknown=sum(text.unknown for text in tokens),
            words=sum(len(text.ids) - special for text in tokens),
        )

    def _run(self, rows: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return (n, d) float32 for n texts of one length."""
        ids = np.stack(rows)
        if self._length:
            ids = np.pad(ids, ((0, 0), (0, self._length - ids.shape[1])), "edge")
        feed = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
            **self._also,
        }
        try:
            (output,) = self._session.run([self.output], {name: feed[name] for name in self._inputs})
        except Exception as error:  # onnxruntime's errors share no base class but this one
            raise ModelError(f"{self.name}: onnxruntime cannot run the model ({first_line(error)})") from error
        if self._pooled:
            return np.asarray(output, np.float32)
        pooled = output[:, 0] if self._config.pooling == "cls" else output.mean(axis=1, dtype=np.float32)
        return np.asarray(pooled, np.float32)


class TextTokenizer:
    """A `tokenizer.json`: texts to ids, cut by us, with the true counts. *special*: tokens that it adds to every text."""

    def __init__(self, tokenizer: Tokenizer, unknown: int | None, lower: bool = False) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._unknown = unknown
        self._lower = lower
        encoding = tokenizer.encode("a")
        mask = encoding.special_tokens_mask
        self.special = sum(mask)
        if unknown in {number for number, special in zip(encoding.ids, mask, strict=True) if special}:
            self._unknown = None  # CLIP's names its end token, as no text is unknown to it
        self._suffix = next((n for n, special in enumerate(reversed(mask)) if not special), 0)

    def __call__(self, texts: Sequence[str], max_tokens: int) -> list[Tokens]:
        """Return the tokens of each text; the special ones at its end survive the cut."""
        result: list[Tokens] = []
        for part in slices(texts):
            pieces = [list(pieces_of(text.lower() if self._lower else text)) for text in part]
            encodings = iter(self._encode([piece for text in pieces for piece in text]))
            for text in pieces:
                first, *others = (next(encodings) for _ in text)
                count = len(first.ids) + sum(len(other.ids) - self.special for other in others)
                ids = np.array(self._cut(first.ids, max_tokens), np.int64)
                unknown = 0 if self._unknown is None else int(np.count_nonzero(ids == self._unknown))
                result.append(Tokens(ids, count, unknown))
        return result

    def _encode(self, pieces: list[str]) -> list[Any]:
        try:
            return list(self._tokenizer.encode_batch_fast(pieces))
        except (UnicodeEncodeError, TypeError):  # lone surrogates, which are no text: read as "?"
            clean = [piece.encode("utf-8", "replace").decode() for piece in pieces]
            return list(self._tokenizer.encode_batch_fast(clean))

    def _cut(self, ids: list[int], max_tokens: int) -> list[int]:
        if len(ids) <= max_tokens:
            return ids
        return ids[: max_tokens - self._suffix] + ids[len(ids) - self._suffix :]


def slices(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield runs of *texts* of SLICE_CHARACTERS at most (a longer text goes alone)."""
    part: list[str] = []
    size = 0
    for text in texts:
        if part and size + len(text) > SLICE_CHARACTERS:
            yield part
            part, size = [], 0
        part.append(text)
        size += len(text)
    if part:
        yield part


def pieces_of(text: str) -> Iterator[str]:
    """Yield *text* in pieces of PIECE_CHARACTERS at most, parted at white space where there is some.

    >>> [len(piece) for piece in pieces_of("word " * 30_000)]
    [99999, 50001]
    """
    start = 0
    while len(text) - start > PIECE_CHARACTERS:
        end = text.rfind(" ", start + PIECE_CHARACTERS // 2, start + PIECE_CHARACTERS)
        end = end if end > 0 else start + PIECE_CHARACTERS
        yield text[start:end]
        start = end
    yield text[start:]


def batches_of_one_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield positions of texts of equal length, shortest first, at most *batch_tokens* together (one text at least).

    >>> list(batches_of_one_length([3, 2, 3, 3], batch_tokens=6))
    [[1], [0, 2], [3]]
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for length, same in groupby(order, key=lengths.__getitem__):
        positions = list(same)
        step = max(1, batch_tokens // max(1, length))
        yield from (positions[start : start + step] for start in range(0, len(positions), step))


def session_options(name: str, settings: Mapping[str, Any]) -> SessionOptions:
    """Return options for a session on all CPUs that this process may use, or on `threads` of them."""
    from_settings = settings.get("threads", 0)
    if not isinstance(from_settings, int) or isinstance(from_settings, bool) or from_settings < 0:
        raise ConfigError(f"{name}: threads is {from_settings!r}; a number of CPU threads was expected")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(name, "minilm") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = from_settings or cpu_count()
    options.enable_mem_pattern = False  # plans memory for each shape it meets, and every length is a shape
    options.log_severity_level = 4  # fatal ones only: errors come as exceptions
    return options


def cpu_count() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_session(name: str, model: str | bytes, options: SessionOptions) -> InferenceSession:
    """Return a session on the CPU for a file or for a serialised graph. Raises ModelError."""
    import onnxruntime

    try:
        # Falling back would be trying the same again, and saying so on the standard output.
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        for entry in (*session.get_inputs(), *session.get_outputs()):
            _ = entry.name, entry.shape  # in a damaged file these are no text
        return session
    except Exception as error:  # onnxruntime's errors share no base class but this one
        where = model if isinstance(model, str) else "its graph"
        raise ModelError(f"{name}: onnxruntime cannot load {where} ({first_line(error)})") from error


def open_tokenizer(name: str, folder: Path, lower: bool = False) -> TextTokenizer:
    """Return the tokenizer in *folder*. Raises MissingExtra, ModelError."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtra(name, "minilm") from error
    path = folder / "tokenizer.json"
    try:
        text = path.read_text("utf-8")
        tokenizer = Tokenizer.from_str(text)
        unknown = json.loads(text)["model"].get("unk_token")
    except Exception as error:  # tokenizers raises bare Exceptions
        raise ModelError(f"{name}: {path} cannot be read as a tokenizer ({first_line(error)})") from error
    return TextTokenizer(tokenizer, tokenizer.token_to_id(unknown) if unknown else None, lower)


def read_config(name: str, folder: Path, settings: Mapping[str, Any]) -> SentenceConfig:
    """Return what the sentence-transformers files in *folder* say, *settings* above them. Raises ModelError, ConfigError."""
    sentence = read_json(name, folder / "sentence_bert_config.json")
    library = read_json(name, folder / "config_sentence_transformers.json")
    own = prompts.prompts_of(str(folder), settings, library.get("prompts"), library.get("default_prompt_name"))
    pooling = settings.get("pooling") or _pooling(read_json(name, folder / "1_Pooling" / "config.json"))
    if pooling not in {"mean", "cls"}:
        raise ModelError(f"{name}: the pooling is {pooling!r}; mean and cls are supported, set `pooling` to choose one")
    _check_modules(name, folder)
    max_tokens = settings.get("max_tokens") or sentence.get("max_seq_length") or _position_limit(name, folder)
    if not isinstance(max_tokens, int) or max_tokens < 3:
        raise ConfigError(f"{name}: max_tokens is {max_tokens!r}; a number of 3 or more was expected")
    return SentenceConfig(max_tokens, pooling, bool(sentence.get("do_lower_case")), own)


def _pooling(config: Mapping[str, Any]) -> str:
    """Return the pooling by name; sentence-transformers writes it as one name or as a flag for each."""
    flags = [key.removeprefix("pooling_mode_").removesuffix("_token").removesuffix("_tokens")
             for key, on in config.items() if key.startswith("pooling_mode_") and on]  # fmt: skip
    return str(config.get("pooling_mode") or "+".join(flags) or "mean")


def _check_modules(name: str, folder: Path) -> None:
    """Refuse a model whose vectors need a step that its ONNX file does not have; normalising is always done."""
    path = folder / "modules.json"
    modules = read_json(name, path, [])
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules if isinstance(module, dict)]
    for kind in kinds:
        if kind not in {"Transformer", "Pooling", "Normalize"}:
            raise ModelError(
                f"{name}: {path} has a module {kind}, which model.onnx would leave out: use sentence-transformers"
            )


def _position_limit(name: str, folder: Path) -> int:
    """Return how many tokens the tokenizer and the network take, as far as their configuration files say."""
    limits = (
        read_json(name, folder / "tokenizer_config.json").get("model_max_length"),
        read_json(name, folder / "config.json").get("max_position_embeddings"),
        DEFAULT_MAX_TOKENS,
    )
    return int(min(limit for limit in limits if isinstance(limit, int | float) and limit > 0))


def read_json(name: str, path: Path, empty: Any = None) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON file's value, which must be of the type of *empty*; *empty* ({} by default) where there is no file."""
    empty = {} if empty is None else empty
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return empty
    except (OSError, ValueError) as error:
        raise ModelError(f"{name}: {path} cannot be read as JSON ({error})") from error
    if not isinstance(value, type(empty)):
        raise ModelError(f"{name}: {path} holds a {type(value).__name__} where a {type(empty).__name__} was expected")
    return value


def _choose_output(name: str, session: InferenceSession) -> tuple[str, bool]:
    """Return the output to use and whether it is one vector a text already, rather than one a token."""
    ranks = {output.name: len(output.shape) for output in session.get_outputs()}
    for wanted in ("sentence_embedding", "last_hidden_state", "token_embeddings"):
        if ranks.get(wanted) in {2, 3}:
            return wanted, ranks[wanted] == 2
    for output, rank in ranks.items():
        if rank == 3:
            return output, False
    raise ModelError(
        f"{name}: the network gives {', '.join(ranks)}; sentence_embedding or last_hidden_state was expected"
    )


def revision_of(networks: Sequence[Path], others: Sequence[Path], *rest: object) -> str:
    """Return the first 8 digits of the SHA-256 of the first network, and 8 of all else that the vectors depend on.

    That is the weights beside each of the *networks*, the *others*, and what *rest* says.
    """
    beside = (path for network in networks for path in sorted(network.parent.glob(f"{network.name}_*")))
    files = [*(path for path in beside if path.is_file()), *networks[1:], *others]
    digest = hashlib.sha256(repr(([file_sha256(path) for path in files], *rest)).encode()).hexdigest()
    return f"{file_sha256(networks[0])[:8]}-{digest[:8]}"


def check_settings(name: str, settings: Iterable[str], known: Sequence[str]) -> None:
    """Raise ConfigError for a setting that this model does not have."""
    for key in settings:
        if key not in known:
            raise ConfigError(f"{name}: there is no setting {key}; {nearest(key, known)}")


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
