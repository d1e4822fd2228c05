"""`onnx/FOLDER`: a model exported to ONNX, for sentences (`onnx.py`) or for pictures (`clip.py`).

The folder holds `model.onnx`, or `vision_model.onnx` and `text_model.onnx`, in it or in `onnx/`, and the small files of
configuration that belong to them. Nothing in it is executed: no Python file is imported and no library of custom operators loaded.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasette_embeddings.errors import ConfigError, ModelError
from datasette_embeddings.models import clip, prompts
from datasette_embeddings.models.hub import fetch
from datasette_embeddings.models.onnx import (
    OnnxModel,
    check_settings,
    open_session,
    open_tokenizer,
    read_config,
    revision_of,
    session_options,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasette_embeddings.models.base import EmbeddingModel

SETTINGS = ("threads", "max_tokens", "pooling", "revision", *prompts.SETTINGS)

EXTRA = "minilm"

REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
"""OWNER/NAME on the hub."""

HALVES = ("vision_model.onnx", "text_model.onnx")
"""The networks of a model of pictures and texts, each in a file of its own."""

CONFIGURATION = ("*.json", "1_Pooling/*.json")
"""All else that is fetched from the hub; of its networks only those of full precision, and none twice."""


def load(rest: str, settings: Mapping[str, Any]) -> EmbeddingModel:
    """Return the model in the folder *rest* (a relative one counts from the current directory), or OWNER/NAME on the hub.

    Settings: threads, max_tokens, query_prompt, document_prompt; pooling (mean or cls) of a sentence model; revision, without
    which nothing is taken from the hub. Raises MissingExtra, ConfigError, ModelError.
    """
    name = f"onnx/{rest}"
    check_settings(name, settings, SETTINGS)
    folder = Path(rest).expanduser()
    if not folder.is_dir() and REPOSITORY.fullmatch(rest):
        folder = _from_hub(name, rest, settings.get("revision"))
    vision, text = (_find(folder, file) for file in HALVES)
    if vision or text:
        return clip.load(name, folder, settings, vision, text)
    model_file = _find(folder, "model.onnx")
    if model_file is None:
        raise ModelError(
            f"{name}: there is no model.onnx and no onnx/model.onnx in {folder.absolute()}, nor vision_model.onnx or text_model.onnx"
        )
    session = open_session(name, str(model_file), session_options(name, settings))
    if "pixel_values" in {entry.name for entry in session.get_inputs()}:
        del session  # made for one text at a time on all processors; pictures run side by side
        return clip.load(name, folder, settings, model_file, model_file)
    config = read_config(name, folder, settings)
    return OnnxModel(
        name,
        session=session,
        tokenizer=open_tokenizer(name, folder, config.lower),
        config=config,
        revision=revision_of(
            [model_file], [folder / "tokenizer.json"], config.max_tokens, config.pooling, config.lower
        ),
    )


def _find(folder: Path, file: str) -> Path | None:
    return next((path for path in (folder / file, folder / "onnx" / file) if path.is_file()), None)


def _from_hub(name: str, repository: str, revision: object) -> Path:
    """Return a folder with the two halves of a model of the hub, or with its one network where it has no halves."""
    if not revision or not isinstance(revision, str):
        raise ConfigError(
            f"{name}: there is no folder {repository}; to take that model from the hub, set `revision` to one of its commits"
        )
    halves = [f"{place}{file}*" for place in ("", "onnx/") for file in HALVES]
    folder = fetch(name, repository, revision, [*CONFIGURATION, *halves], EXTRA)
    if any(_find(folder, file) for file in HALVES):
        return folder
    return fetch(name, repository, revision, [*CONFIGURATION, "model.onnx*", "onnx/model.onnx*"], EXTRA)
