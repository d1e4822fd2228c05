"""Image files as models take them: opened by us, from bytes alone, within bounds. The only door to Pillow's decoders."""

from __future__ import annotations

import io
import math
import threading
import warnings
from contextlib import nullcontext
from typing import TYPE_CHECKING

from datasette_embeddings.errors import MissingExtra, SourceError
from datasette_embeddings.limits import ENOUGH_PIXELS, MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
"""What browsers show and Pillow decodes by itself; its other decoders are rarely used and rarely tested."""

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")
"""Pillow's modes of grey pictures with more than 8 bits; it cuts what is above 255, which leaves all but black white."""

STRIP_ROWS = 512
"""Rows of a large picture that are made smaller at a time, so that no second copy of it is needed."""

ORIENTATION = 0x0112
"""The EXIF tag that says how a camera was held."""

_large = threading.Lock()
"""Held while a large picture is decoded: one needs up to 160 MB, and there are as many threads as cores."""


def open_image(data: bytes, least: int | None = None) -> Image:
    """Return an RGB image: upright, the first frame of an animation, on white where it is transparent, without metadata.

    One of more than ENOUGH_PIXELS is a half of its size, or a third, and so on. *least*: how many pixels its shorter side needs at
    least, where fewer will do still; a large JPEG is then decoded to a half, quarter or eighth.
    Raises SourceError for bytes that are no such image or too large, which their header tells before anything is decoded, and
    MissingExtra without Pillow.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra("reading images", "images") from error
    if len(data) > MAX_IMAGE_BYTES:
        raise SourceError(f"the image file has {len(data):,} bytes; {MAX_IMAGE_BYTES:,} are the most")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound is below, and lower
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > MAX_IMAGE_PIXELS:
                raise SourceError(f"the image has {width} x {height} pixels; {MAX_IMAGE_PIXELS:,} in all are the most")
            with _large if width * height > ENOUGH_PIXELS else nullcontext():
                if least:
                    image.draft("RGB", (least, least))
                return _drawn(image)
    except SourceError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise SourceError(
            f"these {len(data):,} bytes are no readable image of {', '.join(FORMATS)} ({_said(error)})"
        ) from error


def _drawn(image: Image) -> Image:
    from PIL import Image, ImageOps

    image.seek(0)
    factor = math.ceil(math.sqrt(image.width * image.height / ENOUGH_PIXELS))
    drawn = _flat(image) if factor == 1 else _smaller(image, factor)
    plain = Image.new("RGB", drawn.size)  # nothing of the file but what is to be seen
    plain.paste(drawn)
    plain.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    return ImageOps.exif_transpose(plain)


def _smaller(image: Image, factor: int) -> Image:
    from PIL import Image

    smaller = Image.new("RGB", (math.ceil(image.width / factor), math.ceil(image.height / factor)))
    for top in range(0, image.height, STRIP_ROWS * factor):
        strip = image.crop((0, top, image.width, min(image.height, top + STRIP_ROWS * factor)))
        smaller.paste(_flat(strip).reduce(factor), (0, top // factor))
    return smaller


def _flat(image: Image) -> Image:
    from PIL import Image

    if image.mode in SIXTEEN_BITS:
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")


def _said(error: Exception) -> str:
    """Return the error's first line without the address of the buffer that Pillow puts there."""
    return (str(error).splitlines() or [type(error).__name__])[0].partition(" <_io")[0]
