"""`sentence-transformers/NAME`: any model of that library, from a folder or from the hub, for texts and for images.

No code of a model is run: weights come from safetensors files only, and folders that ask for more are refused before the
library sees them. A model of the hub is first copied to its cache as plain files, at one revision, and then is a folder.
"""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasette_embeddings.errors import ConfigError, MissingExtra, ModelError, SourceError
from datasette_embeddings.models import prompts
from datasette_embeddings.models.base import Embedded, EmbeddingModel
from datasette_embeddings.models.hub import fetch
from datasette_embeddings.models.images import open_image
from datasette_embeddings.models.onnx import check_settings
from datasette_embeddings.models.weights import file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

    from datasette_embeddings.models.base import Item, Purpose

SETTINGS = ("revision", "device", "truncate_dim", *prompts.SETTINGS, "batch_items")

EXTRA = "sentence-transformers"

SAFE_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")
"""All that is fetched from the hub: weights, configuration and vocabularies, nothing that can be executed."""

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"}
"""Files that Python unpickles, which can run any code."""

BATCH_ITEMS = 64
BATCH_IMAGES = 16
"""Pictures of one batch: as they come, open, they are of up to 4 million pixels (12 MB) each, and the library copies them as floats."""

BATCH_TOKENS = 8192
"""Tokens of one batch with padding; torch needs about 20 kB a token for a small BERT, so some 160 MB."""

MAX_JSON = 2_000_000
"""Bytes of the largest configuration file that is read."""

VOCABULARIES = {"tokenizer.json", "vocab.json"}
"""JSON files that may be larger, and are not searched for references to code."""


def load(rest: str, settings: Mapping[str, Any]) -> EmbeddingModel:
    """Return the model *rest*: a folder, or a name on the hub (`all-MiniLM-L6-v2` is of `sentence-transformers/`).

    Settings: revision (of the hub), device, truncate_dim, query_prompt, document_prompt, batch_items.
    Raises MissingExtra, ConfigError, ModelError.
    """
    name = f"sentence-transformers/{rest}"
    check_settings(name, settings, SETTINGS)
    folder = Path(rest).expanduser()
    local = folder.is_dir()
    if not local:
        folder = fetch(name, rest if "/" in rest else name, settings.get("revision"), SAFE_FILES, EXTRA)
    refuse_code(name, folder)
    revision = str(settings.get("revision") or "") if local else folder.name
    return SentenceTransformersModel(name, folder, revision or weights_revision(folder), settings)


class SentenceTransformersModel(EmbeddingModel):
    """A loaded model of the library; one call at a time, as its tokenizers cannot be shared between threads."""

    batch_tokens = BATCH_TOKENS

    def __init__(self, name: str, folder: Path, revision: str, settings: Mapping[str, Any]) -> None:
        self.name = name
        self.revision = revision
        self.batch_items = _positive(name, settings, "batch_items") or BATCH_ITEMS
        self._model = _open(name, folder, settings.get("device"), _positive(name, settings, "truncate_dim"))
        self._lock = threading.Lock()
        self.modalities = frozenset({"text", "image"} & set(getattr(self._model, "modalities", ["text"])))
        if not self.modalities:
            raise ModelError(
                f"{name} embeds neither texts nor images, but {', '.join(map(str, self._model.modalities))}"
            )
        self.prompts = prompts.prompts_of(name, settings, self._model.prompts, self._model.default_prompt_name)
        self.asymmetric = any(type(module).__name__ in {"Router", "Asym"} for module in self._model)
        self.max_tokens = _whole(self._model.max_seq_length)
        dimension = (
            getattr(self._model, "get_embedding_dimension", None) or self._model.get_sentence_embedding_dimension
        )
        self.dimensions = _whole(dimension())

    def token_counts(self, items: Sequence[Item]) -> list[int]:
        """Return the true number of tokens of each text where the model has a common tokenizer, else an estimate."""
        if all(isinstance(item, str) for item in items) and (
            lengths := self._lengths(self.prompts.document, [str(item) for item in items])
        ):
            return lengths
        return super().token_counts(items)

    def _lengths(self, prompt: str, texts: Sequence[str]) -> list[int]:
        """Return token counts before any cut, the prompt's among them; [] where the tokenizer does not tell."""
        from transformers import PreTrainedTokenizerBase

        tokenizer = getattr(self._model, "tokenizer", None)
        if not isinstance(tokenizer, PreTrainedTokenizerBase) or not texts:
            return []
        with self._lock:
            ids = tokenizer([prompt + readable(text) for text in texts], truncation=False, verbose=False)["input_ids"]
        return [len(row) for row in ids]

    def embed_batch(self, items: Sequence[Item], purpose: Purpose, prompt: str = "") -> Embedded:
        """Return vectors of texts, or of images given as the bytes of their files; the library takes one kind a call."""
        texts = {n: readable(item) for n, item in enumerate(items) if isinstance(item, str)}
        files = {n: item for n, item in enumerate(items) if isinstance(item, bytes)}
        self._require("text", texts)
        self._require("image", files)
        vectors: NDArray[np.float32] | None = None
        failures: dict[int, str] = {}
        for inputs, text in ((self._wrapped(texts), prompt), *((images, "") for images in _opened(files, failures))):
            if inputs:
                rows = self._encode(list(inputs.values()), purpose, text)
                vectors = np.zeros((len(items), rows.shape[1]), np.float32) if vectors is None else vectors
                vectors[list(inputs)] = rows
        if vectors is None:
            vectors = np.zeros((len(items), self.dimensions or 0), np.float32)
        lengths = self._lengths(prompt, list(texts.values()))
        limit = self.max_tokens or max(lengths, default=0)
        cut = {n: length for n, length in zip(texts, lengths, strict=False) if length > limit}
        return Embedded(vectors, failures, tokens=sum(min(length, limit) for length in lengths), truncated=cut)

    def _require(self, modality: str, inputs: Mapping[int, object]) -> None:
        if inputs and modality not in self.modalities:
            raise ModelError(f"{self.name} embeds {' and '.join(sorted(self.modalities))}, not {modality}")

    def _wrapped(self, texts: Mapping[int, str]) -> dict[int, Any]:
        # A multimodal model opens or fetches plain strings that look like the path or address of an image.
        if "image" in self.modalities:
            return {n: {"text": text} for n, text in texts.items()}
        return dict(texts)

    def _encode(self, inputs: list[Any], purpose: Purpose, prompt: str) -> NDArray[np.float32]:
        """Return vectors; "" is a prompt too: without it, the library would take one of the model's own."""
        encode = self._model.encode_query if purpose == "query" else self._model.encode_document
        try:
            with self._lock:
                vectors = encode(
                    inputs,
                    batch_size=len(inputs),
                    show_progress_bar=False,
                    convert_to_numpy=True,
                    normalize_embeddings=True,
                    prompt=prompt,
                )
        except (RuntimeError, ValueError, TypeError, IndexError) as error:  # what torch and transformers raise
            raise ModelError(f"{self.name} cannot embed a batch of {len(inputs)} items ({error})") from error
        return np.asarray(vectors, np.float32)


def readable(text: str) -> str:
    """Return the text with lone surrogates, which no tokenizer takes, read as "?"."""
    return text.encode("utf-8", "replace").decode()


def _open(name: str, folder: Path, device: str | None, truncate_dim: int | None) -> Any:  # noqa: ANN401 - untyped library
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtra(name, EXTRA) from error
    try:
        return SentenceTransformer(
            str(folder),
            device=device,
            truncate_dim=truncate_dim,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
    except Exception as error:  # a damaged folder makes the libraries below raise almost anything
        raise ModelError(
            f"{name}: sentence-transformers cannot load {folder} ({type(error).__name__}: {error})"
        ) from error


def _opened(files: Mapping[int, bytes], failures: dict[int, str]) -> Iterator[dict[int, Image]]:
    """Yield images by position, BATCH_IMAGES at most at a time; those that cannot be opened are put among *failures*."""
    images: dict[int, Image] = {}
    for position, data in files.items():
        try:
            images[position] = open_image(data)
        except SourceError as error:
            failures[position] = str(error)
        if len(images) == BATCH_IMAGES:
            yield images
            images = {}
    yield images


def _whole(value: object) -> int | None:
    """Return a positive whole number, None for all else that stands for "no limit"."""
    return int(value) if isinstance(value, int | float) and 0 < value < 1e9 else None


def _positive(name: str, settings: Mapping[str, Any], key: str) -> int | None:
    value = settings.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(f"{name}: {key} is {value!r}; a whole number above 0 was expected")
    return value


def refuse_code(name: str, folder: Path) -> None:
    """Raise ModelError for a folder whose loading would run or unpickle anything; name the file.

    Refused: Python files, folders with pickled weights and no safetensors, `auto_map`, adapters (their weights are
    elsewhere), and classes named in the configuration that are of neither sentence_transformers nor torch.nn.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if not any(path.suffix == ".safetensors" for path in files):
        raise ModelError(f"{name}: {folder} holds no .safetensors file, and weights are read from nothing else")
    for path in files:
        if path.suffix == ".py":
            raise ModelError(
                f"{name}: {path} is code, which is never run; only models without code of their own can be used"
            )
        if path.suffix in PICKLES and not any(path.parent.glob("*.safetensors")):
            raise ModelError(f"{name}: {path} is a pickle, which can run code; save the model as safetensors")
        if path.name == "adapter_config.json":
            raise ModelError(
                f"{name}: {path} is an adapter to a model elsewhere; merge them and save the whole as safetensors"
            )
        if path.suffix == ".json" and path.name not in VOCABULARIES:
            if path.stat().st_size > MAX_JSON:
                raise ModelError(
                    f"{name}: {path} has {path.stat().st_size} bytes; a configuration has {MAX_JSON:,} at most"
                )
            for key, value in code_references(_json(name, path)):
                raise ModelError(f"{name}: {path} asks for code by {key} ({value}), which is never run")


def code_references(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, value) of what in a configuration names code that belongs to neither library.

    >>> list(code_references([{"type": "sentence_transformers.models.Pooling"}, {"type": "evil.Module"}]))
    [('type', 'evil.Module')]
    """
    if isinstance(value, dict):
        if "auto_map" in value:
            yield "auto_map", str(value["auto_map"])
        for inner, part in value.items():
            # router_config.json: {"types": {"query_0_Pooling": "sentence_transformers....Pooling"}}
            yield from code_references(part, "type" if key == "types" else str(inner))
    elif isinstance(value, list):
        for part in value:
            yield from code_references(part, key)
    elif isinstance(value, str) and "." in value:
        allowed = {"type": "sentence_transformers.", "activation_function": "torch.nn.", "activation_fn": "torch.nn."}
        if key in allowed and not value.startswith(allowed[key]):
            yield key, value


def _json(name: str, path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{name}: {path} cannot be read as JSON ({error})") from error


def weights_revision(folder: Path) -> str:
    """Return 12 digits of the SHA-256 over the weights and configuration of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".safetensors", ".json", ".txt", ".model"} and path.is_file():
            digest.update(f"{path.relative_to(folder)} {file_sha256(path)}\n".encode())
    return digest.hexdigest()[:12]
