"""CLIP exported to ONNX, and models like it: texts and pictures in one space, run by onnxruntime; no torch.

A half reads texts and gives `text_embeds`, the other reads pictures and gives `image_embeds`: two files, as transformers.js has
them, or one, as optimum writes it, which then runs both halves for each. A folder may have one half only. SigLIP's halves give
`pooler_output`, and read texts filled up to one length.

Nothing is put before a text, and texts of one run have the same number of tokens, as in `onnx.py`: CLIP's attention looks
back only, so what would follow the end of a text changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from datasette_embeddings.errors import ConfigError, ModelError
from datasette_embeddings.models import prompts
from datasette_embeddings.models.base import Embedded, EmbeddingModel
from datasette_embeddings.models.onnx import (
    OnnxModel,
    SentenceConfig,
    check_settings,
    open_session,
    open_tokenizer,
    read_json,
    revision_of,
    session_options,
)
from datasette_embeddings.models.vision import VisionSession, open_vision, preprocessing_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

    from datasette_embeddings.models.base import Item, Purpose

SETTINGS = ("threads", "max_tokens", "revision", *prompts.SETTINGS)

TOKENS = {"clip": 77, "siglip": 64}
"""What the models read of a text, where no file says otherwise."""

MIN_TOKENS = 3
"""One, between those that say where a text begins and ends."""

BATCH_ITEMS = 64
"""Pictures between two reports of progress: a few seconds, and long enough that processors seldom wait for the last one."""

TEXTS = "text_embeds"
POOLED = "pooler_output"
"""What CLIP's halves have before the projection into one space, and SigLIP's in place of it."""

Half = TypeVar("Half")


def load(
    name: str, folder: Path, settings: Mapping[str, Any], vision: Path | None, text: Path | None
) -> EmbeddingModel:
    """Return the model whose halves are the files *vision* and *text*: None for one that it has not, one file for both.

    Settings: threads, max_tokens, query_prompt, document_prompt. Raises MissingExtra, ConfigError, ModelError.
    """
    check_settings(name, settings, SETTINGS)
    pictures = open_vision(name, vision, folder, settings) if vision else None
    texts = None
    if pictures and vision == text:
        text = None
        if pictures.takes_texts:
            also = {"pixel_values": pictures.blank()[None]}
            texts = _texts(name, folder, settings, pictures.session, also)
    elif text:
        texts = _texts(name, folder, settings, open_session(name, str(text), session_options(name, settings)))
    _check_space(name, pictures, texts)
    networks = [path for path in (vision, text) if path]
    others = [preprocessing_file(folder)] if pictures else []
    if texts:
        others.append(folder / "tokenizer.json")
    return ClipModel(name, revision_of(networks, others, texts and texts.max_tokens), pictures, texts)


def _texts(
    name: str,
    folder: Path,
    settings: Mapping[str, Any],
    session: InferenceSession,
    also: Mapping[str, NDArray[Any]] | None = None,
) -> OnnxModel:
    config = read_json(name, folder / "config.json")
    kind = "siglip" if str(config.get("model_type", "")).startswith("siglip") else "clip"
    limit = _token_limit(name, folder, config, kind)
    fixed = _fixed_length(session)
    wanted = settings.get("max_tokens") or limit
    if not isinstance(wanted, int) or wanted < MIN_TOKENS:
        raise ConfigError(f"{name}: max_tokens is {wanted!r}; a number of {MIN_TOKENS} or more was expected")
    return OnnxModel(
        name,
        session=session,
        tokenizer=open_tokenizer(name, folder),
        config=SentenceConfig(max_tokens=min(wanted, fixed or limit), prompts=prompts.prompts_of(name, settings)),
        revision="",
        output=_text_output(name, session, kind),
        length=fixed or (limit if kind == "siglip" else None),
        also=also,
    )


def _token_limit(name: str, folder: Path, config: Mapping[str, Any], kind: str) -> int:
    """Return how many tokens the network and its tokenizer take, as far as their files say."""
    text = config.get("text_config")
    limits = (
        text.get("max_position_embeddings") if isinstance(text, dict) else config.get("max_position_embeddings"),
        read_json(name, folder / "tokenizer_config.json").get("model_max_length"),
    )
    network, tokenizer = (limit if isinstance(limit, int | float) and limit > 0 else None for limit in limits)
    network = network or TOKENS[kind]
    return int(min(network, tokenizer or network))


def _fixed_length(session: InferenceSession) -> int | None:
    """Return the one number of tokens that the network takes; None where it takes any."""
    for entry in session.get_inputs():
        if entry.name == "input_ids" and entry.shape and isinstance(entry.shape[-1], int):
            return entry.shape[-1]
    return None


def _text_output(name: str, session: InferenceSession, kind: str) -> str:
    given: list[str] = [output.name for output in session.get_outputs()]
    vectors = [output.name for output in session.get_outputs() if len(output.shape) == 2]
    for wanted in (TEXTS, POOLED) if kind == "siglip" else (TEXTS,):
        if wanted in vectors:
            return wanted
    raise ModelError(
        f"{name}: the network of texts gives {', '.join(given)}; text_embeds was expected: export the model with its projection"
    )


def _check_space(name: str, pictures: VisionSession | None, texts: OnnxModel | None) -> None:
    """Raise ModelError where texts and pictures come out in two different spaces."""
    if pictures is None or texts is None:
        return
    projected = POOLED not in {pictures.output, texts.output} or pictures.output == texts.output
    if not projected or pictures.dimensions != texts.dimensions:
        raise ModelError(
            f"{name}: {pictures.output} of pictures has {pictures.dimensions} dimensions and {texts.output} of texts "
            f"{texts.dimensions}, which is not one space: export both halves of one model, with their projections"
        )


class ClipModel(EmbeddingModel):
    """A half for pictures, a half for texts, or both. Safe to share between threads."""

    batch_items = BATCH_ITEMS

    def __init__(self, name: str, revision: str, pictures: VisionSession | None, texts: OnnxModel | None) -> None:
        self.name = name
        self.revision = revision
        self._pictures = pictures
        self._texts = texts
        halves = {"image": pictures, "text": texts}
        self.modalities = frozenset(kind for kind, half in halves.items() if half)
        self.dimensions = next(half.dimensions for half in halves.values() if half)
        if texts:
            self.max_tokens = texts.max_tokens
            self.prompts = texts.prompts

    def token_counts(self, items: Sequence[Item]) -> list[int]:
        """Return the true number of tokens of each text as a document, before any cut; 1 for a picture."""
        texts = [item for item in items if isinstance(item, str)]
        counts = iter(self._texts.token_counts(texts) if self._texts else super().token_counts(texts))
        return [next(counts) if isinstance(item, str) else 1 for item in items]

    def embed_batch(self, items: Sequence[Item], purpose: Purpose, prompt: str = "") -> Embedded:
        """Return vectors of texts, and of pictures given as the bytes of their files, not yet normalised."""
        vectors = np.zeros((len(items), self.dimensions or 0), np.float32)
        failures: dict[int, str] = {}
        if at := [n for n, item in enumerate(items) if isinstance(item, bytes)]:
            rows, failed = self._half(self._pictures, "images")([item for item in items if isinstance(item, bytes)])
            vectors[at] = rows
            failures.update({at[n]: reason for n, reason in failed.items()})
        read = Embedded(vectors, failures)
        if at := [n for n, item in enumerate(items) if isinstance(item, str)]:
            texts = self._half(self._texts, "texts")
            read = texts.embed_batch([item for item in items if isinstance(item, str)], purpose, prompt)
            vectors[at] = read.vectors
            failures.update({at[n]: reason for n, reason in read.failures.items()})
            read = replace(read, truncated={at[n]: count for n, count in read.truncated.items()})
        return replace(read, vectors=vectors, failures=failures)

    def _half(self, half: Half | None, kind: str) -> Half:
        if half is None:
            raise ModelError(f"{self.name} embeds {' and '.join(sorted(self.modalities))} only, not {kind}")
        return half
