"""Image files as models take them: opened by us, from bytes alone, within bounds. The only door to Pillow's decoders."""

from __future__ import annotations

import io
import math
import threading
import warnings
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from datasette_embeddings.errors import MissingExtra, SourceError
from datasette_embeddings.limits import ENOUGH_PIXELS, MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
"""What browsers show and Pillow decodes by itself; its other decoders are rarely used and rarely tested."""

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")
"""Pillow's modes of grey pictures with more than 8 bits; it cuts what is above 255, which leaves all but black white."""

STRIP_ROWS = 32
"""Rows of a smaller picture that are made at a time of a large one, so that no second copy of that is needed."""

MAX_DECODING_BYTES = 200_000_000
"""What decoding one picture may take: 160 MB are MAX_IMAGE_PIXELS of four channels, and 195 MB a telephone's 12 megapixels as WebP."""

ENOUGH_SIDE = math.isqrt(ENOUGH_PIXELS)
"""Sides of a square of as many pixels."""

PIXEL_BYTES = 4
"""Pillow's picture has four bytes a pixel, whatever its mode is, but for grey ones and palettes."""

WEBP_BYTES = 16
"""Of each pixel of a WebP: two canvases of the decoder, what it gives, and the picture; measured 15.9."""

COEFFICIENT_BYTES = 2
"""Of each sample of a progressive JPEG, all of which are kept until its last scan is read."""

ORIENTATION = 0x0112
"""The EXIF tag that says how a camera was held."""

UPRIGHT = 1

_large = threading.Lock()
"""Held while a large picture is decoded: there are as many threads as cores."""

_warnings = threading.Lock()
"""Held while Pillow's warnings are off: what is warned of is set for the whole process."""


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
        with _quiet():
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        pixels = image.width * image.height
        if pixels > MAX_IMAGE_PIXELS:
            raise SourceError(
                f"the image has {image.width} x {image.height} pixels; {MAX_IMAGE_PIXELS:,} in all are the most"
            )
        large = pixels > ENOUGH_PIXELS
        _check_memory(image)
        if least or large:
            side = least or ENOUGH_SIDE
            image.draft("RGB", (side, side))
        with _large if large else nullcontext():
            return _drawn(image)
    except SourceError:
        raise
    except Image.DecompressionBombError as error:
        raise SourceError(f"the image has too many pixels; {MAX_IMAGE_PIXELS:,} in all are the most") from error
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise SourceError(f"no readable image, which is a whole {' or '.join(FORMATS)} ({_said(error)})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow from warning of what is odd about a file, which is not the business of whoever only runs a build."""
    with _warnings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_memory(image: Image) -> None:
    """Raise SourceError for a file that takes too much memory, as its kind is decoded as a whole."""
    needed = _decoding_bytes(image)
    if needed > MAX_DECODING_BYTES:
        kind = "a WebP" if image.format == "WEBP" else "a progressive JPEG"
        raise SourceError(
            f"{kind} of this size takes {needed / 1e6:,.0f} MB of memory, and {MAX_DECODING_BYTES / 1e6:,.0f} are the most; "
            "save it with fewer pixels, or as PNG or a JPEG that is not progressive"
        )


def _decoding_bytes(image: Image) -> int:
    """Return about how much memory it takes to decode a picture: a large JPEG to a half of its size or less."""
    pixels: int = image.width * image.height
    if image.format == "WEBP":
        return WEBP_BYTES * pixels
    if not image.info.get("progressive"):
        return PIXEL_BYTES * pixels
    decoded = pixels // 4 if min(image.size) >= 2 * ENOUGH_SIDE else pixels
    sampling = [(across, down) for _, across, down, _ in image.layer]
    most = max(across for across, _ in sampling) * max(down for _, down in sampling)
    samples: int = pixels * sum(across * down for across, down in sampling) // most
    return PIXEL_BYTES * decoded + COEFFICIENT_BYTES * samples


def _drawn(image: Image) -> Image:
    from PIL import Image, ImageOps

    image.seek(0)
    factor = math.ceil(math.sqrt(image.width * image.height / ENOUGH_PIXELS))
    drawn = _flat(image) if factor == 1 else _smaller(image, factor)
    plain = Image.new("RGB", drawn.size)  # nothing of the file but what is to be seen
    plain.paste(drawn)
    plain.getexif()[ORIENTATION] = _orientation(image)
    return ImageOps.exif_transpose(plain)


def _orientation(image: Image) -> int:
    """Return how the camera was held, 1 to 8; upright where the file does not say it, or not so that it can be read."""
    try:
        with _quiet():
            return int(image.getexif().get(ORIENTATION, UPRIGHT))
    except Exception:  # as damaged files do; the picture itself is whole
        return UPRIGHT


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
