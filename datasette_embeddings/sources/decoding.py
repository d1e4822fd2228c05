"""Bytes to text, in whatever encoding they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasette_embeddings.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

USUAL = ("utf-8", "cp1252", "latin-1")
"""Tried in this order: hardly anything else is UTF-8 by chance, and Latin-1 takes any bytes."""


def by_mark(raw: bytes) -> tuple[str, ...]:
    """Return the encoding that a byte order mark tells of, () where there is none."""
    return ("utf-16",) if raw[:2] in {b"\xff\xfe", b"\xfe\xff"} else ()


def decoded(raw: bytes, encodings: Sequence[str]) -> str:
    """Return text by the first of *encodings* that fits, without its mark.

    Raises SourceError where none fits, ConfigError for an unknown one.
    """
    for encoding in encodings:
        try:
            return raw.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
        except LookupError:
            raise ConfigError(f"unknown encoding {encoding!r}; try utf-8, latin-1 or cp1252") from None
    raise SourceError(f"it is not in the encoding {' or '.join(encodings)}")
