"""The one codec (BLOB <-> vector) and the one arithmetic (scores) of the package; numpy only.

An embedding is a BLOB of little-endian float32, 4 bytes a dimension, as the `llm` tool stores it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import orjson

from datasette_embeddings.errors import BadVector, DimensionMismatch
from datasette_embeddings.limits import MAX_DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Vector = NDArray[np.float32]

FLOAT32 = np.dtype("<f4")
SCORE_DECIMALS = 6


def decode(blob: object) -> Vector:
    """Return the vector of *blob*: (d,) float32, finite.

    Raises BadVector when it is no BLOB, its length is 0, no multiple of 4 or beyond MAX_DIMENSIONS, or a component is
    NaN or infinite.
    """
    if not isinstance(blob, (bytes, memoryview, bytearray)):
        raise BadVector(f"an embedding is a BLOB of 4 bytes a dimension; found {kind(blob)}")
    if len(blob) == 0 or len(blob) % 4:
        raise BadVector(f"an embedding is a BLOB of 4 bytes a dimension; found {len(blob)} bytes")
    if len(blob) > MAX_DIMENSIONS * 4:
        raise BadVector(f"an embedding has at most {MAX_DIMENSIONS} dimensions; found {len(blob) // 4}")
    vector = np.frombuffer(blob, FLOAT32)
    if not np.isfinite(vector).all():
        position = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise BadVector(f"component {position} of the embedding is NaN or infinite; a number was expected")
    return vector


def encode(vector: ArrayLike) -> bytes:
    """Return the BLOB of a vector (d,); raises BadVector unless it has 1 to MAX_DIMENSIONS finite float32 components."""
    with np.errstate(over="ignore"):
        array = np.asarray(vector, dtype=FLOAT32)
    if array.ndim != 1:
        raise BadVector(f"an embedding is a flat list of numbers; found {array.ndim} levels of nesting")
    return decode(array.tobytes()).tobytes()


def from_json(text: object) -> bytes:
    """Return the BLOB of a JSON array of numbers."""
    try:
        values = orjson.loads(text)  # type: ignore[arg-type]
    except (orjson.JSONDecodeError, TypeError):
        raise BadVector(f"a JSON array of numbers was expected; found {kind(text)}") from None
    numbers = isinstance(values, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if not numbers or not values:
        raise BadVector("a JSON array of one or more numbers was expected; found other JSON")
    return encode(values)


def to_json(blob: object) -> str:
    """Return *blob* as a JSON array in the shortest digits that give the same float32: 0.1, not 0.10000000149."""
    if not _has_right_length(blob):
        decode(blob)
    text = orjson.dumps(np.frombuffer(blob, FLOAT32), option=orjson.OPT_SERIALIZE_NUMPY)  # type: ignore[call-overload]
    if b"n" in text:  # null, for NaN or infinity
        decode(blob)
    return text.decode()


def _has_right_length(blob: object) -> bool:
    return isinstance(blob, bytes) and 0 < len(blob) <= 4 * MAX_DIMENSIONS and len(blob) % 4 == 0


def valid(value: object) -> bool:
    """Tell whether *value* is an embedding."""
    try:
        decode(value)
    except BadVector:
        return False
    return True


def pair(a: object, b: object) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two vectors as float64, in which no sum of float32 products over- or underflows."""
    x, y = decode(a), decode(b)
    if x.size != y.size:
        raise DimensionMismatch(
            f"two embeddings of different dimensions cannot be compared: {x.size} and {y.size}; are they of one model?"
        )
    return x.astype(np.float64), y.astype(np.float64)


def direction(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the unit vector of *vector*; raises BadVector for the zero vector, which has no direction."""
    norm = float(np.linalg.norm(vector))
    if norm == 0.0:
        raise BadVector("an embedding of zeros has no direction; embed a text that the model knows")
    return vector / norm


def cosine(a: object, b: object) -> float:
    """Return the cosine similarity of two BLOBs, in [-1, 1], computed in float64."""
    x, y = pair(a, b)
    return float(np.clip(np.dot(direction(x), direction(y)), -1.0, 1.0))


def normalize(blob: object) -> bytes:
    """Return the BLOB scaled to unit length."""
    return encode(direction(decode(blob).astype(np.float64)))


def mean_direction(blobs: Sequence[object]) -> bytes | None:
    """Return the normalised mean of some embeddings, each as a unit vector; None where they have none.

    What is no embedding, or of other dimensions than the first, is passed over.
    """
    rows = [decode(blob).astype(np.float64) for blob in blobs if valid(blob)]
    units = [direction(row) for row in rows if row.any() and row.size == rows[0].size]
    total = np.sum(units, axis=0)
    return encode(direction(total)) if units and total.any() else None


def unit_rows(matrix: NDArray[np.float32]) -> tuple[Vector, NDArray[np.bool_]]:
    """Return (n, d) as unit rows, and which rows are usable: those with a direction and no NaN; the others are zero.

    Rows that are of unit length already, to float32 precision, are kept bit for bit.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        wrong = ~(np.abs(np.vecdot(matrix, matrix) - 1.0) <= UNIT_TOLERANCE)
    usable = ~wrong
    if not wrong.any():
        return matrix, usable
    rows = np.array(matrix, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        odd = rows[wrong].astype(np.float64)
        norms = np.linalg.norm(odd, axis=1, keepdims=True)
    finite = np.isfinite(norms) & (norms > 0)
    usable[wrong] = finite[:, 0]
    rows[wrong] = np.where(finite, odd / np.where(finite, norms, 1.0), 0.0)
    return rows, usable


UNIT_TOLERANCE = 1e-5
"""The squared norm, summed in float32, of a unit vector rounded to float32 is this near to 1 up to 65,536 dimensions."""


def score_rows(rows: Vector, other: Vector) -> NDArray[np.float64]:
    """Return the scores of unit rows (n, d) with *other*, (d,) or (n, d): float64 in [-1, 1], 6 decimals.

    The one definition of a score. `np.vecdot` takes each pair by itself (one BLAS dot a row), so a score depends on its
    pair alone and not on what else is scored beside it, as the result of a matrix product would.
    """
    return round_scores(np.vecdot(rows, other))


def round_scores(dots: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return float32 dot products as scores: clipped to [-1, 1], 6 decimals, no negative zero."""
    rounded = np.round(dots.astype(np.float64), SCORE_DECIMALS)
    return np.asarray(np.clip(rounded, -1.0, 1.0) + 0.0, dtype=np.float64)


def kind(value: object) -> str:
    """Say what an SQL value is, without showing it."""
    names = {bytes: "a BLOB", str: "text", int: "an integer", float: "a number", type(None): "NULL"}
    return names.get(type(value), type(value).__name__)
