"""The fast all-pairs search gives what comparing every row with every other gives, bit for bit."""

import numpy as np
import pytest

from datasette_embeddings.neighbors import all_neighbors, neighbors_of
from datasette_embeddings.vectors import score_rows


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def naive(matrix, k, rows):
    """Return (row, other, score) of the k best of each row, by score descending, then position."""
    found = []
    for row in rows:
        scores = score_rows(matrix, matrix[row])
        order = np.lexsort((np.arange(len(matrix)), -scores))
        found += [(row, other, scores[other]) for other in order[order != row][:k]]
    return found


def listed(found):
    return list(zip(found.rows, found.others, found.scores, strict=True))


def plain(random, count, size):
    return unit(random.standard_normal((count, size)))


def repeated(random, count, size):
    """Half of the rows are copies of a few."""
    matrix = plain(random, count, size)
    matrix[random.integers(0, count, count // 2)] = matrix[random.integers(0, count // 10, count // 2)]
    return matrix


def tied(random, count, size):
    """Few different scores, so that most places are decided by position."""
    return unit(np.round(random.standard_normal((count, size)) * 2) + 0.25)


@pytest.mark.parametrize("kind", [plain, repeated, tied])
@pytest.mark.parametrize(("count", "size", "k"), [(30, 4, 50), (700, 8, 10), (2_400, 3, 10), (1_100, 2, 1_000)])
def test_equals_comparing_all_with_all(kind, count, size, k):
    matrix = kind(np.random.default_rng(count), count, size)
    assert listed(all_neighbors(matrix, k)) == naive(matrix, k, range(count))
    some = np.arange(0, count, 7)
    assert listed(neighbors_of(matrix, some, k)) == naive(matrix, k, some)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows_have_no_neighbours(count):
    assert listed(all_neighbors(np.ones((count, 1), np.float32), 5)) == []


def test_no_neighbours_wanted():
    assert listed(all_neighbors(np.eye(3, dtype=np.float32), 0)) == []
