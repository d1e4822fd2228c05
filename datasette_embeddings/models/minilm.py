"""`minilm`: all-MiniLM-L6-v2, English, 384 dimensions, by onnxruntime and tokenizers; no torch.

The computation is a small ONNX graph in this package (scripts/make_minilm_graph.py); the weights are the published
`model.safetensors`, checked by SHA-256 at every start, mapped into memory as it is and given to the graph by tensor name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasette_embeddings.errors import ModelError
from datasette_embeddings.models.onnx import (
    OnnxModel,
    SentenceConfig,
    check_settings,
    open_session,
    open_tokenizer,
    session_options,
)
from datasette_embeddings.models.weights import PinnedFile, PinnedModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from onnxruntime import SessionOptions

    from datasette_embeddings.models.base import EmbeddingModel

SETTINGS = ("path", "threads")

VARIABLE = "DATASETTE_EMBEDDINGS_MINILM"
"""Environment variable that names a folder with the weights."""

GRAPH = Path(__file__).parent / "data" / "minilm.onnx"

WEIGHTS = PinnedFile(
    "model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 90_868_376
)
TOKENIZER = PinnedFile("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037", 466_247)
MINILM = PinnedModel(
    label="minilm",
    repository="sentence-transformers/all-MiniLM-L6-v2",
    revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
    files=(WEIGHTS, TOKENIZER),
)

MAX_TOKENS = 256
"""What the model was made to read (its sentence_bert_config.json)."""

UNUSED = "pooler."
"""Tensors of the checkpoint that sentence vectors do not need, and the graph does not name."""


def load(rest: str, settings: Mapping[str, Any]) -> EmbeddingModel:
    """Return the model, its weights from `path`, VARIABLE, the cache folder or an installed package, in this order.

    Settings: path (a folder), threads. Raises MissingExtra, ConfigError, ModelError.
    """
    if rest:
        raise ModelError(f"minilm is one model and takes no name after it, not {rest!r}")
    check_settings("minilm", settings, SETTINGS)
    options = session_options("minilm", settings)
    folder = MINILM.find(settings.get("path"), VARIABLE)
    weights = tensors(folder / WEIGHTS.name)
    hand_over(options, weights)
    return OnnxModel(
        "minilm",
        session=open_session("minilm", GRAPH.read_bytes(), options),
        tokenizer=open_tokenizer("minilm", folder),
        config=SentenceConfig(max_tokens=MAX_TOKENS),
        revision=WEIGHTS.sha256[:8],
        language="English",
        weights=weights,
    )


def install() -> Path:
    """Download the weights into the user's cache folder, check them, and return the folder. Raises ModelError."""
    return MINILM.install()


def tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the float32 tensors of a safetensors file by name, as views of the mapped file: nothing is copied.

    The format: the header's size as eight bytes, the header as JSON (name -> dtype, shape, offsets), then raw data.
    """
    data = np.memmap(path, np.uint8, "r")
    start = 8 + int(data[:8].view("<u8")[0])
    header = json.loads(data[8:start].tobytes())
    return {
        name: data[slice(*(start + offset for offset in entry["data_offsets"]))].view("<f4").reshape(entry["shape"])
        for name, entry in header.items()
        if entry.get("dtype") == "F32"
    }


def hand_over(options: SessionOptions, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Let a session find *weights* by name; it reads their memory, so they have to live as long as it does."""
    from onnxruntime import OrtValue

    used = {name: OrtValue.ortvalue_from_numpy(array) for name, array in weights.items() if not name.startswith(UNUSED)}
    options.add_external_initializers(list(used), list(used.values()))
