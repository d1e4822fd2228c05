"""Image files as models take them: opened by us, from bytes alone, within bounds."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from datasette_embeddings.errors import MissingExtra, SourceError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
"""What browsers show and Pillow decodes by itself; its other decoders are rarely used and rarely tested."""

MAX_PIXELS = 50_000_000
"""Larger than any camera phone's picture; decoded as RGB it takes 150 MB of memory."""


def open_image(data: bytes) -> Image:
    """Return an RGB image: upright, the first frame of an animation, on white where it is transparent.

    Raises SourceError for bytes that are no such image or too large, MissingExtra without Pillow.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise MissingExtra("reading images", "images") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound is below, and lower
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise SourceError(f"the image has {width} x {height} pixels; {MAX_PIXELS:,} in all are the most")
        return _flat(ImageOps.exif_transpose(image))
    except SourceError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise SourceError(
            f"these {len(data)} bytes are no readable image of {', '.join(FORMATS)} ({_said(error)})"
        ) from error


def _flat(image: Image) -> Image:
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")


def _said(error: Exception) -> str:
    """Return the error's first line without the address of the buffer that Pillow puts there."""
    return (str(error).splitlines() or [type(error).__name__])[0].partition(" <_io")[0]
