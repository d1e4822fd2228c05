"""What an OpenAI-compatible server answered: every vector placed at its own index, or none at all."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def place(answer: object, count: int) -> NDArray[np.float32]:
    """Return (count, d) float32, each vector of the JSON at its own index; ValueError if any is doubtful."""
    entries = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it has no list `data`")
    if len(entries) != count:
        raise ValueError(f"it holds {len(entries)} vectors for {count} texts")
    rows: dict[int, NDArray[np.float32]] = {}
    for entry in entries:
        index = entry.get("index") if isinstance(entry, dict) else None
        if type(index) is not int or not 0 <= index < count:
            raise ValueError(f"a vector has no index from 0 to {count - 1}")
        if index in rows:
            raise ValueError(f"two vectors have the index {index}")
        rows[index] = decode(entry.get("embedding"), index)
    lengths = sorted({len(row) for row in rows.values()})
    if len(lengths) > 1:
        raise ValueError(f"some of its vectors have {lengths[0]} dimensions and some {lengths[-1]}")
    return np.stack([rows[index] for index in range(count)])


def decode(value: object, index: int) -> NDArray[np.float32]:
    """Return (d,) float32 of base64 (little-endian float32) or a list of numbers; ValueError for the rest."""
    row = from_base64(value, index) if isinstance(value, str) else from_list(value, index)
    if not row.size:
        raise ValueError(f"vector {index} is empty")
    if not np.isfinite(row).all():
        raise ValueError(f"vector {index} has NaN or infinite components")
    return row


def from_base64(value: str, index: int) -> NDArray[np.float32]:
    """Return (d,) float32 of base64; the answers asked for, at a third of the bytes of printed numbers."""
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"vector {index} is not base64") from None
    if len(raw) % 4:
        raise ValueError(f"vector {index} has {len(raw)} bytes, which is no multiple of 4")
    return np.frombuffer(raw, "<f4").astype(np.float32)


def from_list(value: object, index: int) -> NDArray[np.float32]:
    """Return (d,) float32 of a list of JSON numbers, as servers send that ignore `encoding_format`."""
    try:
        array = np.asarray(value if isinstance(value, list) else None)
    except ValueError:  # lists of different lengths within
        array = np.asarray(None)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "fiu"):
        raise ValueError(f"vector {index} is no list of numbers")
    with np.errstate(over="ignore"):  # beyond float32 it becomes infinite, and is refused as that
        return array.astype(np.float32)


def usage(answer: object) -> int | None:
    """Return the tokens billed, None where the server does not say."""
    counted = answer.get("usage") if isinstance(answer, dict) else None
    tokens = counted.get("total_tokens") if isinstance(counted, dict) else None
    return tokens if type(tokens) is int and tokens >= 0 else None
