"""Pictures by onnxruntime: what is done to an image before a network reads it, and the run of the network.

Each picture is decoded, prepared and run by itself, and as many at the same time as there are processors. So the vector of a
picture depends on that picture alone, and nothing waits: not the network for the decoder, and not one processor for another
at the end of each layer. Where processors are shared with other work this is quicker than batches on all of them.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from datasette_embeddings.errors import ModelError, SourceError
from datasette_embeddings.models.images import open_image
from datasette_embeddings.models.onnx import cpu_count, first_line, open_session, session_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from onnxruntime import InferenceSession
    from PIL.Image import Image

CONFIG_FILES = ("preprocessor_config.json", "processor_config.json")
"""Where transformers writes what is done to an image; the second, newer one holds it under `image_processor`."""

MAX_CONFIG_BYTES = 100_000
"""Largest such file that is read; a real one has less than 1 kB, or some more with a chat template."""

MAX_SIDE = 4096
"""Longest side of what a network reads, in pixels: known ones have 224 to 1,024. As float32 it takes 200 MB."""

MAX_ASPECT = 16
"""A longer strip is cut to this before it is scaled, as only its middle is read; scaled whole, one of a million pixels by one would take
all memory."""

MAX_WORKERS = 16
"""Most pictures at the same time: each takes 30 to 200 MB, for its pixels and within the network."""

SHARP = 2
"""A large JPEG is decoded to no less than this many times what the network reads, so that scaling it down does the same to it."""

BYTE = 255.0
"""The largest value of a channel."""

NEUTRAL = frozenset(
    "image_processor_type feature_extractor_type processor_class do_convert_rgb data_format input_data_format "
    "return_tensors device disable_grouping _valid_processor_keys default_to_square".split()
)
"""Settings that change no pixel here: images are RGB already, and a single size is read as `do_center_crop` needs it."""

KNOWN = frozenset(
    "do_resize size resample do_center_crop crop_size do_rescale rescale_factor do_normalize image_mean image_std".split()
)


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image: resize, cut out the middle, scale the channels' values. Made by `read_preprocessing`.

    *resize*: (height, width), or the length of the shorter side, or None; *resample*: Pillow's number of a filter;
    *crop*: (height, width) or None. A value v of channel c becomes v * scale[c] + offset[c].
    """

    resize: tuple[int, int] | int | None
    resample: int
    crop: tuple[int, int] | None
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what the network reads."""
        shape = self.crop or self.resize
        assert isinstance(shape, tuple)  # read_preprocessing sees to it
        return shape

    def pixels(self, image: Image) -> NDArray[np.float32]:
        """Return (3, height, width) float32 for an RGB image of any size."""
        if self.resize is not None:
            image = self._resized(image)
        if self.crop is not None:
            image = _middle(image, *self.crop)
        values = np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")
        values *= self.scale[:, None, None]
        values += self.offset[:, None, None]
        return values

    def _resized(self, image: Image) -> Image:
        from PIL.Image import Resampling

        if isinstance(self.resize, tuple):
            height, width = self.resize
        else:
            image = _middle(
                image, min(image.height, MAX_ASPECT * image.width), min(image.width, MAX_ASPECT * image.height)
            )
            height, width = _sides(image.height, image.width, int(self.resize or 0))
        return image.resize((width, height), Resampling(self.resample))


def _sides(height: int, width: int, shorter: int) -> tuple[int, int]:
    """Return height and width with the shorter side of that length, the longer one rounded down as transformers does."""
    if height <= width:
        return shorter, int(shorter * width / height)
    return int(shorter * height / width), shorter


def _middle(image: Image, height: int, width: int) -> Image:
    """Return the middle of an image, with black around it where it is smaller."""
    if (image.height, image.width) == (height, width):
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def preprocessing_file(folder: Path) -> Path:
    """Return the file of *folder* that says what is done to an image; it may be missing."""
    return next((folder / file for file in CONFIG_FILES if (folder / file).is_file()), folder / CONFIG_FILES[0])


def read_preprocessing(name: str, folder: Path) -> Preprocessing:
    """Return what `preprocessing_file` says; raises ModelError for a step that is not known here."""
    path = preprocessing_file(folder)
    where = f"{name}: {path}"
    config = _config(where, path)
    for key, value in config.items():
        if key not in KNOWN | NEUTRAL and value not in (None, False):
            raise ModelError(f"{where} has {key}: {str(value)[:60]}, and what that does to a picture is not known here")
    crop = _size(where, config, "crop_size") if config.get("do_center_crop", False) else None
    resize = _size(where, config, "size") if config.get("do_resize", True) else None
    if isinstance(crop, int):
        crop = (crop, crop)
    if isinstance(resize, int) and crop is None and isinstance(config.get("size"), int):
        resize = (resize, resize)
    if not isinstance(crop or resize, tuple):
        raise ModelError(
            f"{where} leaves pictures of different shapes, and the network reads one; crop_size was expected"
        )
    scale = _number(where, config, "rescale_factor", 1 / BYTE) if config.get("do_rescale", True) else 1.0
    mean, std = np.zeros(3), np.ones(3)
    if config.get("do_normalize", True):
        mean, std = (_channels(where, config, key) for key in ("image_mean", "image_std"))
    if not std.all():
        raise ModelError(f"{where} has image_std {config.get('image_std')!r}, and nothing can be divided by 0")
    return Preprocessing(
        resize, _filter(where, config), crop, (scale / std).astype(np.float32), (-mean / std).astype(np.float32)
    )


def _config(where: str, path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        config = json.loads(data) if len(data) <= MAX_CONFIG_BYTES else None
    except FileNotFoundError:
        raise ModelError(f"{where} is missing; it says what is done to a picture before the network reads it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{where} cannot be read as JSON ({error})") from error
    if isinstance(config, dict) and path.name == CONFIG_FILES[1]:
        config = config.get("image_processor")
    if not isinstance(config, dict):
        raise ModelError(f"{where} does not hold the settings of an image processor of transformers")
    return config


def _size(where: str, config: Mapping[str, Any], key: str) -> tuple[int, int] | int:
    """Return a size as (height, width), or as one number: of the shorter side, or of both."""
    value = config.get(key)
    sides = _sides_of(value)
    for side in sides:
        if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= MAX_SIDE:
            raise ModelError(
                f"{where} has {key}: {str(value)[:80]}; a number of pixels, shortest_edge, or height and width were "
                f"expected, of {MAX_SIDE} at most"
            )
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _sides_of(value: object) -> list[Any]:
    """Return one or two lengths of a size as transformers writes it, which may be anything."""
    if not isinstance(value, dict):
        return [value]
    given = {side: length for side, length in value.items() if length is not None}
    if set(given) == {"height", "width"}:
        return [given["height"], given["width"]]
    return [given["shortest_edge"] if set(given) == {"shortest_edge"} else None]


def _filter(where: str, config: Mapping[str, Any]) -> int:
    """Return Pillow's number of the filter for resizing: 0 to 5, bicubic (3) where none is named, as CLIP has it."""
    value = config.get("resample")
    value = 3 if value is None else value
    if isinstance(value, bool) or value not in range(6):
        raise ModelError(
            f"{where} has resample: {str(value)[:40]}; a number from 0 to 5 was expected, as Pillow has them"
        )
    return int(value)


def _number(where: str, config: Mapping[str, Any], key: str, default: float | None = None) -> float:
    given = config.get(key)
    value = default if given is None else given
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ModelError(f"{where} has {key}: {str(given)[:40]}; a number was expected")
    return float(value)


def _channels(where: str, config: Mapping[str, Any], key: str) -> NDArray[np.float64]:
    value = config.get(key)
    values = value if isinstance(value, list) else [value] * 3
    if len(values) != 3:
        raise ModelError(f"{where} has {key}: {str(value)[:80]}; three numbers were expected, for red, green and blue")
    return np.array([_number(where, {key: channel}, key) for channel in values])


class VisionSession:
    """A network that makes one vector of a picture. Safe to share between threads.

    Attributes:
        session: of onnxruntime.
        output: the network's output that is the vector.
        dimensions: of the vectors.
        takes_texts: the network reads texts too, and is given an empty one with each picture.

    """

    def __init__(self, name: str, session: InferenceSession, preprocessing: Preprocessing, workers: int = 1) -> None:
        """*workers*: pictures at the same time. Raises ModelError where the network is not one of pictures prepared like this."""
        self.session = session
        self.output = choose_output(name, session)
        self._name = name
        self._preprocessing = preprocessing
        self._workers = workers
        inputs = {entry.name: entry.shape for entry in session.get_inputs()}
        self._text = {key: _blank(shape) for key, shape in inputs.items() if key in {"input_ids", "attention_mask"}}
        self.takes_texts = bool(self._text)
        self._check(inputs)
        self.dimensions = len(self._run(self.blank()))

    def blank(self) -> NDArray[np.float32]:
        """Return the values of a picture of nothing, (3, height, width)."""
        return np.zeros((3, *self._preprocessing.shape), np.float32)

    def __call__(self, pictures: Sequence[bytes]) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Return (n, dimensions) float32, not normalised, and position -> why that file is no usable image (its row is zero).

        Raises ModelError where the network fails, MissingExtra without Pillow.
        """
        vectors = np.zeros((len(pictures), self.dimensions), np.float32)
        failures: dict[int, str] = {}
        for position, found in enumerate(self._each(pictures)):
            if isinstance(found, str):
                failures[position] = found
            else:
                vectors[position] = found
        return vectors, failures

    def _each(self, pictures: Sequence[bytes]) -> list[NDArray[np.float32] | str]:
        workers = min(self._workers, len(pictures))
        if workers <= 1:
            return [self._one(picture) for picture in pictures]
        with ThreadPoolExecutor(workers, "pictures") as pool:
            return list(pool.map(self._one, pictures))

    def _one(self, picture: bytes) -> NDArray[np.float32] | str:
        """Return a picture's vector, or why there is none."""
        try:
            image = open_image(picture, SHARP * max(self._preprocessing.shape))
        except SourceError as error:
            return str(error)
        return self._run(self._preprocessing.pixels(image))

    def _run(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            (output,) = self.session.run([self.output], {"pixel_values": pixels[None], **self._text})
        except Exception as error:  # onnxruntime's errors share no base class but this one
            raise ModelError(
                f"{self._name}: onnxruntime cannot run the network of pictures ({first_line(error)})"
            ) from error
        if output.ndim != 2 or len(output) != 1:
            raise ModelError(f"{self._name}: the network gives {self.output} of shape {output.shape} for one picture")
        return np.asarray(output[0], np.float32)

    def _check(self, inputs: Mapping[str, Sequence[Any]]) -> None:
        if set(inputs) != {"pixel_values", *self._text}:
            raise ModelError(
                f"{self._name}: the network takes {', '.join(inputs)}; pixel_values were expected, for pictures"
            )
        wanted = (3, *self._preprocessing.shape)
        declared = inputs["pixel_values"]
        same = len(declared) == 4 and all(
            not isinstance(size, int) or size == want for size, want in zip(declared[1:], wanted, strict=True)
        )
        if not same:
            raise ModelError(
                f"{self._name}: the network reads pictures of the shape {declared[1:]}, and they are prepared as {list(wanted)}: "
                f"{CONFIG_FILES[0]} belongs to another network"
            )


def _blank(shape: Sequence[Any]) -> NDArray[np.int64]:
    """Return tokens, or a mask of them, for one text that nobody asks for."""
    return np.ones((1, shape[-1] if isinstance(shape[-1], int) else 1), np.int64)


def choose_output(name: str, session: InferenceSession) -> str:
    """Return the output that is the vector of a picture: `image_embeds`, else `pooler_output`, else the only one of rank 2."""
    flat: list[str] = [output.name for output in session.get_outputs() if len(output.shape) == 2]
    for wanted in ("image_embeds", "pooler_output"):
        if wanted in flat:
            return wanted
    if len(flat) != 1:
        given = ", ".join(output.name for output in session.get_outputs())
        raise ModelError(f"{name}: the network gives {given}; image_embeds was expected, one vector a picture")
    return flat[0]


def open_vision(name: str, model_file: Path, folder: Path, settings: Mapping[str, Any]) -> VisionSession:
    """Return the network in *model_file*, with the preprocessing that *folder* has; `threads` of *settings* is how many pictures at a time.

    Raises MissingExtra, ConfigError, ModelError.
    """
    options = session_options(name, settings)
    workers = min(settings.get("threads") or cpu_count(), MAX_WORKERS)
    options.intra_op_num_threads = 1
    preprocessing = read_preprocessing(name, folder)
    return VisionSession(name, open_session(name, str(model_file), options), preprocessing, workers)
