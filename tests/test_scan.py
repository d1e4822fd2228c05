"""Both fast versions of embed_cosine answer every pair of values as the careful one does, in whatever order they come."""

import itertools
import random

import numpy as np
import pytest

from datasette_embeddings import scan
from datasette_embeddings.errors import BadVector, DimensionMismatch


def blob(values):
    return np.asarray(values, np.float32).tobytes()


VECTOR = np.random.default_rng(0).standard_normal(20).astype(np.float32)
WITH_NAN = np.where(np.arange(20) == 5, np.nan, VECTOR)
VALUES = [
    None,
    "text",
    5,
    1.5,
    b"",
    b"abc",
    blob([0.0]),
    blob([1.0]),
    blob(VECTOR),
    blob(-VECTOR),
    blob(VECTOR[::-1]),
    blob(VECTOR) + b"x",
    blob(VECTOR[:-1]),
    blob(VECTOR * 0),
    blob(WITH_NAN),
    blob(VECTOR * np.float32(1e30)),
    blob(VECTOR * np.float32(1e-30)),
    blob(VECTOR * np.float32(1e-42)),
    blob([3e38] * 20),
]


def answer(cosine, a, b):
    try:
        return cosine(a, b)
    except (BadVector, DimensionMismatch) as error:
        return str(error)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's own, before the sentence that explains
@pytest.mark.parametrize("make", [scan.numpy_cosine, scan.kernel_cosine])
@pytest.mark.parametrize("seed", range(3))
def test_answers_as_the_careful_one(make, seed):
    cosine = make()
    assert cosine is not None, "the extra `fast` is part of the test environment"
    pairs = list(itertools.product(VALUES, repeat=2))
    random.Random(seed).shuffle(pairs)
    for a, b in pairs:
        found, expected = answer(cosine, a, b), answer(scan.careful_cosine, a, b)
        assert found == (pytest.approx(expected, abs=1e-6) if isinstance(expected, float) else expected)


@pytest.mark.parametrize("make", [scan.numpy_cosine, scan.kernel_cosine])
def test_a_scan_may_keep_either_argument(make):
    rows = [blob(row) for row in np.random.default_rng(1).standard_normal((50, 384))]
    expected = [scan.careful_cosine(row, rows[0]) for row in rows]
    assert [make()(row, rows[0]) for row in rows] == pytest.approx(expected, abs=1e-6)
    cosine = make()
    assert [cosine(rows[0], row) for row in rows] == pytest.approx(expected, abs=1e-6)
    assert [cosine(row, rows[0]) for row in rows] == pytest.approx(expected, abs=1e-6)
