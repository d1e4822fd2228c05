"""`bridge/FOLDER`: a network for pictures, and a linear map that brings the vectors of a text model into its space.

The folder holds `vision_model.onnx` and `preprocessor_config.json`, as CLIP's picture half has them; `bridge.json`, which
names the text model, a built-in one; and `bridge.npz` with its map: `mean` (t,) and `map` (t, b). The last b dimensions of a
picture's vector are those that texts have too. The others, in which pictures alone differ, are 0 for every text:

    text = [ 0 ... 0 ; unit((t - mean) @ map) ]

A bridge knows what it was fitted on and little else: it is no CLIP. scripts/make_eye.py makes that of the demonstration.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasette_embeddings.errors import ModelError
from datasette_embeddings.models.base import Embedded, EmbeddingModel
from datasette_embeddings.models.onnx import check_settings, first_line, read_json, revision_of
from datasette_embeddings.models.vision import VisionSession, open_vision, preprocessing_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.models.base import Item, Purpose

    Array = NDArray[np.float32]

SETTINGS = ("threads",)

ABOUT = (
    "A small model made for a demonstration: a linear bridge from a network that sorts photographs to a text model, fitted "
    "on names of clip art and on drawn taps. It is not CLIP, which a site of its own would use."
)
"""What pages say of it beside its name."""

NETWORK, MAP, CONFIG = "vision_model.onnx", "bridge.npz", "bridge.json"

RANKS = {"mean": 1, "map": 2}
"""The arrays of bridge.npz and how many axes each has."""

MAX_MAP_BYTES = 64_000_000
"""Of all arrays together, unpacked: a map between 4,000 dimensions and 4,000. A small file may claim any size."""

BATCH_ITEMS = 64
"""Pictures between two reports of progress: a second or so."""


@dataclass(frozen=True)
class TextMap:
    """From a text model's vectors (t,) into the last `map.shape[1]` of *dimensions*; *mean* (t,) and *map* are float32."""

    mean: Array
    map: Array
    dimensions: int

    def __call__(self, vectors: Array) -> Array:
        """Return (n, dimensions), not normalised; each row is computed by itself, so that it depends on nothing else."""
        placed = np.zeros((len(vectors), self.dimensions), np.float32)
        for row, vector in zip(placed, vectors, strict=True):
            row[-self.map.shape[1] :] = (vector - self.mean) @ self.map
        return placed


def load(rest: str, settings: Mapping[str, Any]) -> EmbeddingModel:
    """Return the model in the folder *rest*; a relative folder counts from the current directory.

    Settings: threads. Raises MissingExtra, ConfigError, ModelError.
    """
    name = f"bridge/{rest}"
    check_settings(name, settings, SETTINGS)
    folder = Path(rest).expanduser()
    for file in (NETWORK, MAP, CONFIG):
        if not (folder / file).is_file():
            raise ModelError(f"{name}: there is no {file} in {folder.absolute()}")
    texts = _text_model(name, folder / CONFIG)
    pictures = open_vision(name, folder / NETWORK, folder, settings)
    text_map = read_map(name, folder / MAP, texts.dimensions or 0, pictures.dimensions)
    files = [folder / MAP, folder / CONFIG, preprocessing_file(folder)]
    return BridgeModel(name, revision_of([folder / NETWORK], files, texts.revision), pictures, texts, text_map)


def _text_model(name: str, path: Path) -> EmbeddingModel:
    """Return the text model that a bridge names; nothing but a built-in one is loaded by what stands in a file."""
    from datasette_embeddings.models import BUILT_IN, get_model

    wanted = read_json(name, path).get("text_model")
    if wanted not in BUILT_IN:
        raise ModelError(
            f"{name}: {path} has text_model: {str(wanted)[:80]}; one of {', '.join(BUILT_IN)} was expected"
        )
    return get_model(str(wanted))


def read_map(name: str, path: Path, text_dimensions: int, dimensions: int) -> TextMap:
    """Return the map from a text model to a picture network of so many dimensions. Raises ModelError, which names the file."""
    where = f"{name}: {path}"
    arrays = _arrays(where, path)
    for key, rank in RANKS.items():
        array = arrays[key]
        if array.dtype != np.float32 or array.ndim != rank or not np.isfinite(array).all():
            raise ModelError(
                f"{where} has {key} of {array.dtype} and shape {array.shape}; finite float32 numbers of {rank} axes were expected"
            )
    mean, across = arrays["mean"], arrays["map"]
    if mean.shape != (text_dimensions,) or len(across) != text_dimensions or not 1 <= across.shape[1] <= dimensions:
        raise ModelError(
            f"{where} maps {across.shape[0]} dimensions to {across.shape[1]}; {text_dimensions} of the text model to at most "
            f"{dimensions} of the network were expected"
        )
    return TextMap(mean, across, dimensions)


def _arrays(where: str, path: Path) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_MAP_BYTES:
            raise ModelError(f"{where} unpacks to {size:,} bytes; {MAX_MAP_BYTES:,} are the most")
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in RANKS}
    except ModelError:
        raise
    except Exception as error:  # damaged archives and headers raise almost anything
        raise ModelError(f"{where} cannot be read as arrays mean and map ({first_line(error)})") from error


class BridgeModel(EmbeddingModel):
    """A network for pictures, a model for texts, and the map between. Safe to share between threads."""

    modalities = frozenset({"text", "image"})
    batch_items = BATCH_ITEMS

    def __init__(
        self, name: str, revision: str, pictures: VisionSession, texts: EmbeddingModel, text_map: TextMap
    ) -> None:
        self.name = name
        self.revision = revision
        self.language = texts.language
        self.max_tokens = texts.max_tokens
        self.prompts = texts.prompts
        self.dimensions = pictures.dimensions
        self._pictures = pictures
        self._texts = texts
        self._map = text_map

    def token_counts(self, items: Sequence[Item]) -> list[int]:
        """Return the true number of tokens of each text, before any cut; 1 for a picture."""
        counts = iter(self._texts.token_counts([item for item in items if isinstance(item, str)]))
        return [next(counts) if isinstance(item, str) else 1 for item in items]

    def embed_batch(self, items: Sequence[Item], purpose: Purpose, prompt: str = "") -> Embedded:
        """Return vectors of texts, and of pictures given as the bytes of their files, not yet normalised."""
        vectors = np.zeros((len(items), self._map.dimensions), np.float32)
        failures: dict[int, str] = {}
        if at := [n for n, item in enumerate(items) if isinstance(item, bytes)]:
            vectors[at], failed = self._pictures([item for item in items if isinstance(item, bytes)])
            failures.update({at[n]: reason for n, reason in failed.items()})
        read = Embedded(vectors)
        if at := [n for n, item in enumerate(items) if isinstance(item, str)]:
            read = self._texts.embed([item for item in items if isinstance(item, str)], purpose, prompt)
            vectors[at] = self._map(read.vectors)
            failures.update({at[n]: reason for n, reason in read.failures.items()})
            read = replace(read, truncated={at[n]: count for n, count in read.truncated.items()})
        return replace(read, vectors=vectors, failures=failures)
