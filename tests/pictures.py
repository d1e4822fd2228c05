"""Image files for tests, as bytes."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def plain(color: str, size: tuple[int, int] = (40, 60), form: str = "PNG") -> bytes:
    """Return a picture of one colour."""
    return saved(Image.new("RGB", size, color), form)


def claiming(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header claims that size."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
