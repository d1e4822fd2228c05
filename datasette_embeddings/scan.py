"""`embed_cosine` for a scan of a whole table: the arithmetic of `vectors.cosine` at the price of one C call a row.

Both versions answer the ordinary case fast and hand everything else (NULL, text, other dimensions, NaN, zero vectors) to
`vectors.cosine`, which explains what is wrong.
"""

from __future__ import annotations

from functools import cache, partial
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from datasette_embeddings import vectors
from datasette_embeddings.sqlthreads import recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    Cosine = Callable[[Any, Any], float | None]

SAFE_SQUARES = (1e-20, 1e20)
"""Squared norms between these neither over- nor underflow in a float32 sum; others take the float64 path."""

PROBES = 32
"""Random pairs on which a C kernel must agree with numpy before it is trusted."""


def make_cosine() -> Cosine:
    """Return a cosine function for one connection: the C kernel where installed and right, else numpy."""
    return kernel_cosine() or numpy_cosine()


@recorded
def careful_cosine(a: object, b: object) -> float | None:
    """Return the cosine of any two SQL values: NULL for NULL, BadVector for what is no embedding."""
    if a is None or b is None:
        return None
    return vectors.cosine(a, b)


@cache
def kernel_cosine() -> Cosine | None:
    """Return a cosine function by numkong (extra `fast`), or None where it is absent or disagrees with numpy.

    It keeps nothing, so all connections share it, and it is tried once.

    numkong reads float32 straight from the bytes and sums in float64. Its distances of exactly 0 and 1 stand also for zero
    vectors, and its NaN for NaN, and it overlooks a cut last component, so those are looked at again.
    """
    try:
        from numkong import angular
    except ImportError:
        return None

    def cosine(a: Any, b: Any) -> float | None:  # noqa: ANN401
        try:
            score: float = 1.0 - angular(a, b, "float32")
        except (TypeError, ValueError):
            return careful_cosine(a, b)
        if score * score < 1.0 and score and not len(a) & 3:  # NaN is not below 1
            return score
        return careful_cosine(a, b)

    return cosine if _agrees(cosine) else None


def numpy_cosine() -> Cosine:
    """Return a cosine function by numpy that keeps the argument that stays the same from row to row.

    The row is copied below the kept vector; the product of that (2, d) matrix with the row is both numbers that the row
    adds to a cosine, its dot product with the kept vector and with itself, in one BLAS call. SQLite runs the functions of one
    connection one after the other, so they may share the room for a row.
    """
    kept: Any = object()
    keep_second = True
    pair = _Pair(b"\0\0\0\0")
    room, multiply, values, kept_square = pair.room, pair.multiply, pair.values, pair.square
    low, high = SAFE_SQUARES

    def cosine(a: Any, b: Any) -> float | None:  # noqa: ANN401
        nonlocal kept, keep_second, room, multiply, values, kept_square
        if b == kept:
            row = a
        elif a == kept:
            row = b
        else:
            candidate, row = (b, a) if keep_second else (a, b)
            keep_second = not keep_second
            if type(candidate) is not bytes or len(candidate) == 0 or len(candidate) & 3:
                return careful_cosine(a, b)
            kept, pair = candidate, _Pair(candidate)
            room, multiply, values, kept_square = pair.room, pair.multiply, pair.values, pair.square
        try:
            room[:] = row
            multiply()
        except (TypeError, ValueError, RuntimeWarning):
            return careful_cosine(a, b)
        dot, square = values()
        if low < square < high and low < kept_square < high:
            return max(-1.0, min(1.0, dot / sqrt(square * kept_square)))
        return careful_cosine(a, b)

    return cosine


class _Pair:
    """A vector that is kept, and room for a row to compare it with."""

    def __init__(self, kept: bytes) -> None:
        both = bytearray(kept + kept)
        matrix = np.frombuffer(both, vectors.FLOAT32).reshape(2, -1)
        result = np.empty(2, np.float32)
        self.room = memoryview(both)[len(kept) :]
        self.multiply = partial(matrix.dot, matrix[1], result)
        self.values = result.tolist
        with np.errstate(over="ignore", invalid="ignore"):
            self.square = float(matrix[0].dot(matrix[0]))


def _agrees(cosine: Cosine) -> bool:
    """Tell whether a kernel gives numpy's answers on this processor, for lengths around its register sizes."""
    random = np.random.default_rng(0)
    for size in range(1, PROBES + 1):
        a, b = (random.standard_normal(size * 13, np.float32).tobytes() for _ in range(2))
        if abs((cosine(a, b) or 9.0) - vectors.cosine(a, b)) > 1e-6:
            return False
    return True
