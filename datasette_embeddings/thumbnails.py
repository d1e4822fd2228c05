"""Small pictures of the items of an image collection: made when it is built, so that a page needs neither originals nor a model."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from datasette_embeddings.errors import SourceError
from datasette_embeddings.limits import THUMBNAIL_PIXELS, THUMBNAIL_QUALITY
from datasette_embeddings.models.images import open_image

if TYPE_CHECKING:
    from collections.abc import Sequence

TYPE = "image/webp"
"""What every thumbnail is, whatever it was made from."""

MAX_WORKERS = 8
"""Most pictures at the same time: one of ENOUGH_PIXELS may take 100 MB while it is decoded."""


class Thumbnail(NamedTuple):
    """A small picture: its media type, width and height in pixels, and its bytes."""

    type: str
    width: int
    height: int
    data: bytes


def thumbnail(data: bytes) -> Thumbnail:
    """Return the thumbnail of an image file, drawn anew: nothing of the file itself is in it. Raises SourceError, MissingExtra."""
    from PIL.Image import Resampling

    image = open_image(data, THUMBNAIL_PIXELS)
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), Resampling.HAMMING)  # in less than half the time of LANCZOS
    out = io.BytesIO()
    image.save(out, "WEBP", quality=THUMBNAIL_QUALITY, method=2)
    return Thumbnail(TYPE, image.width, image.height, out.getvalue())


def prepare() -> None:
    """Raise MissingExtra where no thumbnail can be made, as what reads images is missing."""
    with suppress(SourceError):  # nothing is no image
        open_image(b"")


def thumbnails(files: Sequence[bytes]) -> list[Thumbnail | SourceError]:
    """Return the thumbnail of each image file, or why it has none; several cores work at them."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_WORKERS)) as pool:
        return list(pool.map(_or_error, files))


def _or_error(data: bytes) -> Thumbnail | SourceError:
    try:
        return thumbnail(data)
    except SourceError as error:
        return error
