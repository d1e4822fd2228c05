"""The fast all-pairs search gives what comparing every row with every other gives, bit for bit."""

import numpy as np
import pytest

from datasette_embeddings import bounds, neighbors
from datasette_embeddings.components import leading
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
    assert listed(neighbors_of(matrix, some, k)[0]) == naive(matrix, k, some)


def spread(random, count, size):
    """Most of each row lies in a few directions, and a fifth of the rows are one's neighbours to 6 decimals or so."""
    matrix = random.standard_normal((count, size)) / np.arange(1, size + 1)
    near = random.integers(0, count, count // 5)
    matrix[near] = matrix[random.integers(0, count, len(near))] + 1e-6 * random.standard_normal((len(near), size))
    return unit(matrix @ np.linalg.qr(random.standard_normal((size, size)))[0])


@pytest.fixture
def tried(monkeypatch):
    """Have bounds used for any number of rows, whatever they leave; returns whether each tile's were."""
    found = []
    learn = bounds.Bounds.learn

    def learned(self, pairs, of):
        found.append(learn(self, pairs, of))
        return found[-1]

    monkeypatch.setattr(bounds, "LEFT", 1)
    monkeypatch.setattr(bounds, "MOST_SIZE", 1)
    monkeypatch.setattr(neighbors, "BOUNDED_PAIRS", 0)
    monkeypatch.setattr(neighbors, "ORDERED_ROWS", 1_000)
    monkeypatch.setattr(bounds.Bounds, "learn", learned)
    return found


@pytest.mark.parametrize(("kind", "size"), [(spread, 64), (tied, 96), (plain, 96)])
def test_bounds_and_order_change_nothing(tried, kind, size):
    matrix = kind(np.random.default_rng(5), 3_000, size)
    some = np.arange(0, len(matrix), 5)
    expected = naive(matrix, 10, some)
    assert [pair for pair in listed(all_neighbors(matrix, 10)) if pair[0] % 5 == 0] == expected
    assert any(tried)


@pytest.mark.parametrize(("kind", "size"), [(plain, 6), (repeated, 6), (tied, 6), (spread, 64), (tied, 96)])
def test_who_enters_the_lists_of_others(tried, kind, size):
    """Some rows, compared with all, enter lists of the others where they rank before the last entry, the best k of them."""
    matrix = kind(np.random.default_rng(3), 1_200, size)
    some = np.arange(0, len(matrix), 5)
    last = np.random.default_rng(4).integers(0, len(matrix), len(matrix))
    floors = score_rows(matrix, matrix[last])
    floors[::7] = np.inf
    found, entrants = neighbors_of(matrix, some, 10, None, (floors, last))
    assert listed(found) == naive(matrix, 10, some)
    expected = []
    for row in range(len(matrix)):
        scores = score_rows(matrix[some], matrix[row])
        ranked = sorted((-score, other) for score, other in zip(scores, some, strict=True) if other != row)
        expected += [(row, other, -score) for score, other in ranked if (score, other) < (-floors[row], last[row])][:10]
    assert listed(entrants) == expected
    assert any(tried)


def test_bounds_of_no_use_are_soon_left_alone():
    """And tried again all the time once they are of use."""
    state = bounds.Bounds(*[plain(np.random.default_rng(1), 600, 32)] * 2, np.eye(8, 32, dtype=np.float32))
    tries = 0
    for _ in range(340):
        if state.useful():
            tries += 1
            state.learn(1_000, 1_000)
    assert tries < 30
    state.learn(0, 1_000)
    assert sum(state.useful() for _ in range(40)) > 20


@pytest.mark.parametrize("size", [8, 48, 96])
def test_bounds_hold(size):
    """No product lies above its bound, for rows that a few components hold, or half, or hardly."""
    rows = spread(np.random.default_rng(size), 1_500, size)
    basis = leading(rows, 0.8, 4)
    made = bounds.Bounds(rows, None, basis)
    everything = slice(0, len(rows))
    products = rows.astype(np.float64) @ rows.astype(np.float64).T
    assert (made.of(everything, everything).astype(np.float64) + float(made.slack) >= products).all()


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows_have_no_neighbours(count):
    assert listed(all_neighbors(np.ones((count, 1), np.float32), 5)) == []


def test_no_neighbours_wanted():
    assert listed(all_neighbors(np.eye(3, dtype=np.float32), 0)) == []
