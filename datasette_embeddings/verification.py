"""What must hold of a built file, looked at one by one: `verify` names what does not.

Each check yields sentences about what is broken. What depends on vectors that changed since the last build is not looked at; that they did is said.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import numpy as np

from datasette_embeddings import catalog, fulltext
from datasette_embeddings.baked import read as read_sketches
from datasette_embeddings.catalog import NEXT
from datasette_embeddings.database import column_names, quote, table_names
from datasette_embeddings.matrices import load_matrix
from datasette_embeddings.schema import is_current
from datasette_embeddings.tables import NAMES, find_tables, has_own_tables, own_tables
from datasette_embeddings.thumbnails import TYPE
from datasette_embeddings.vectors import score_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.matrices import Matrix
    from datasette_embeddings.tables import Tables

    Broken = Iterator[str]

SEARCHED_ROWS = 50
"""Rows, from all over a collection, whose stored neighbours are compared with those that a search of all finds: a second at 200,000."""

SCORED_AT_ONCE = 100_000
"""Stored pairs whose scores are computed at once: 300 MB at 384 dimensions."""

MISTAKEN = "NULL value in "
"""What SQLite 3.40 and others say of each row of a table WITHOUT ROWID whose key has another order than its columns."""

NAMED = 3
"""Ids given as examples."""


def broken(conn: sqlite3.Connection) -> Broken:
    """Yield a sentence for each thing in a database that is not as every build leaves it."""
    for (line,) in conn.execute("pragma quick_check(5)"):
        if line != "ok" and not line.startswith(MISTAKEN):
            yield f"SQLite finds the file damaged: {line}"
    tables = find_tables(conn)
    if tables is None:
        return
    yield from _orphans(conn, tables)
    if has_own_tables(conn, tables):
        yield from _missing(conn, tables)
        if conn.execute(f"select 1 from {tables.embeddings_builds}").fetchone():
            yield "a build is running, or ended before its end: run it again"
        for (name,) in conn.execute(f"select name from {tables.collections} where name glob ?", [f"*{NEXT}"]):
            yield f"{name}: a build beside {name.removesuffix(NEXT)!r} was not finished: run it again"
    for collection in catalog.collections(conn, tables):
        try:
            for sentence in of_collection(conn, tables, collection):
                yield f"{collection.name}: {sentence}"
        except (sqlite3.Error, TypeError, ValueError) as error:
            yield f"{collection.name}: what was made from its vectors cannot be read: {error}"


def _missing(conn: sqlite3.Connection, tables: Tables) -> Broken:
    """Look for tables and indexes of ours that are gone; an earlier release did not make all of them."""
    if not is_current(conn, tables):
        return
    existing = {row[0] for row in conn.execute("select name from sqlite_master where type in ('table', 'index')")}
    gone = [tables.plain(name) for name in NAMES if tables.plain(name) not in existing]
    if gone:
        yield f"{', '.join(gone)} of our tables and indexes are gone: delete --all, and build again"


def _orphans(conn: sqlite3.Connection, tables: Tables) -> Broken:
    """Look for rows of our tables that belong to no collection."""
    for name in own_tables(conn, tables):
        if "collection_id" not in column_names(conn, name):
            continue
        sql = f"select count(*) from {quote(name)} where collection_id not in (select id from {tables.collections})"
        count = conn.execute(sql).fetchone()[0]
        if count:
            yield f"{count:,} rows of {name} belong to no collection"


def of_collection(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Broken:
    """Yield what is broken of one collection."""
    matrix = load_matrix(conn, tables, collection)
    yield from _vectors(conn, tables, collection, matrix)
    if not has_own_tables(conn, tables) or (collection.owner == "llm" and not collection.built):
        return
    if collection.built is None:
        yield "its first build was not finished: run the same command again"
        return
    if collection.owner != "llm":
        yield from _account(conn, tables, collection)
    if catalog.stale_items(conn, tables, collection) or catalog.counts_differ(conn, collection, tables):
        yield "vectors changed since the last build, so what was made from them is out of date: build again"
        return
    rows = matrix.of_rows() if collection.chunk else matrix
    for check in CHECKS:
        yield from check(conn, tables, collection, rows)


def _vectors(conn: sqlite3.Connection, tables: Tables, collection: Collection, matrix: Matrix) -> Broken:
    """Look for what is no embedding of the collection's dimensions."""
    odd = catalog.count_items(conn, collection, tables) - len(matrix.ids)
    if odd:
        yield f"{odd:,} stored vectors are malformed or of other dimensions than {matrix.rows.shape[1]}"


def _account(conn: sqlite3.Connection, tables: Tables, collection: Collection) -> Broken:
    """Look whether every row ended as embedded, skipped or failed, and as one of these."""
    parts = [collection.embedded or 0, collection.skipped or 0, collection.failed or 0]
    if sum(parts) != collection.rows:
        yield f"{parts[0]:,} embedded + {parts[1]:,} skipped + {parts[2]:,} failed are not {collection.rows:,} rows"
    listed = [status for _, status, _ in catalog.issues(conn, collection, tables)]
    counted = [listed.count("skipped"), len(listed) - listed.count("skipped")]
    if counted != parts[1:]:
        yield f"embeddings_issues has {counted[0]:,} skipped and {counted[1]:,} failed rows; the account {parts[1]:,} and {parts[2]:,}"
    both = [
        item
        for item, *_ in catalog.issues(conn, collection, tables)
        if catalog.has_item(conn, collection, item, tables)
    ]
    if both:
        yield f"{_some(both)} both have a vector and are said to have none"


def _chunks(conn: sqlite3.Connection, tables: Tables, collection: Collection, _: Matrix) -> Broken:
    """Look whether the chunks of rows and the items of `embeddings` are the same."""
    if not collection.chunk:
        return
    pair = f"select id from {tables.chunks} where collection_id = ?1 %s select id from {tables.embeddings} where collection_id = ?1"
    placeless = [row[0] for row in conn.execute(f"select id from {tables.embeddings} where collection_id = ?1 except "
                 f"select id from {tables.chunks} where collection_id = ?1", [collection.id])]  # fmt: skip
    if placeless:
        yield f"{_some(placeless)} have a vector, and stand nowhere in chunks"
    lost = [row[0] for row in conn.execute(pair % "except", [collection.id])]
    if lost:
        yield f"{_some(lost)} stand in chunks, and have no vector"


def _similarities(conn: sqlite3.Connection, tables: Tables, collection: Collection, rows: Matrix) -> Broken:
    """Look whether every row has its neighbours, with their scores; of some rows, whether they are the nearest."""
    if not collection.similarities:
        return
    place = {item: position for position, item in enumerate(rows.ids)}
    sql = f"select id, other_id, score from {tables.similarities} where collection_id = ? order by id, score desc, other_id"
    stored = conn.execute(sql, [collection.id]).fetchall()
    strange = sorted({item for pair in stored for item in pair[:2] if item not in place})
    if strange:
        yield f"similarities name {_some(strange)}, which have no vector"
        return
    left, right = (np.array([place[pair[side]] for pair in stored], np.int64) for side in (0, 1))
    if (left == right).any():
        yield f"similarities hold {_some([rows.ids[n] for n in left[left == right]])} as neighbours of themselves"
    expected = min(collection.similarities, max(len(rows.ids) - 1, 0))
    counts = np.bincount(left, minlength=len(rows.ids))
    if (counts != expected).any():
        yield f"{_some([rows.ids[n] for n in np.flatnonzero(counts != expected)])} have not {expected} neighbours in similarities"
        return
    scores = np.array([pair[2] for pair in stored], np.float64)
    for start in range(0, len(stored), SCORED_AT_ONCE):
        part = slice(start, start + SCORED_AT_ONCE)
        wrong = np.flatnonzero(score_rows(rows.rows[left[part]], rows.rows[right[part]]) != scores[part])
        if len(wrong):
            yield f"similarities have another score than the vectors, of {_some([rows.ids[n] for n in left[part][wrong]])}"
            return
    yield from _nearest(collection, rows, [pair[1] for pair in stored], expected)


def _nearest(collection: Collection, rows: Matrix, others: list[str], k: int) -> Broken:
    """Look whether the stored neighbours *others*, k of each row, are the nearest of some rows."""
    chosen = range(0, len(rows.ids), -(-len(rows.ids) // SEARCHED_ROWS) or 1)
    wrong = []
    for position in chosen:
        scores = score_rows(rows.rows, rows.rows[position])
        order = np.lexsort((np.arange(len(scores)), -scores))
        nearest = [rows.ids[n] for n in order[: k + 1] if n != position][:k]
        if nearest != others[position * k : (position + 1) * k]:
            wrong.append(rows.ids[position])
    if wrong:
        yield f"the stored neighbours of {_some(wrong)} are not the nearest"


def _thumbnails(conn: sqlite3.Connection, tables: Tables, collection: Collection, rows: Matrix) -> Broken:
    """Look whether every picture has a thumbnail, and every thumbnail is a WebP of a picture that there is."""
    if not collection.images or tables.plain("thumbnails") not in table_names(conn):  # of an earlier release
        return
    sql = f"select id, type = ? and {IS_WEBP} from {tables.thumbnails} where collection_id = ? order by id"
    found = dict(conn.execute(sql, [TYPE, collection.id]).fetchall())
    without = sorted(set(rows.ids) - found.keys())
    if without:
        yield f"{_some(without)} have no thumbnail: build again, from where their pictures are"
    lost = sorted(found.keys() - set(rows.ids))
    if lost:
        yield f"thumbnails has {_some(lost)}, which have no vector"
    damaged = [item for item, whole in found.items() if not whole]
    if damaged:
        yield f"the thumbnails of {_some(damaged)} are no WebP of their size: build with --rebuild"


IS_WEBP = (
    "coalesce(typeof(data) = 'blob' and substr(data, 1, 4) = x'52494646' and substr(data, 9, 4) = x'57454250' "
    "and width > 0 and height > 0, 0)"
)
"""SQL: whether `data` begins as a WebP does, RIFF....WEBP, and has a size."""


def _clusters(conn: sqlite3.Connection, tables: Tables, collection: Collection, rows: Matrix) -> Broken:
    """Look whether every row is in one cluster, and every cluster has the members that it says."""
    if collection.clusters is None:
        return
    yield from _covered(conn, tables, collection, rows, "cluster_members")
    sql = (
        f"select c.cluster from {tables.clusters} c where c.collection_id = ?1 and c.size != (select count(*) "
        f"from {tables.cluster_members} m where m.collection_id = ?1 and m.cluster = c.cluster) union "
        f"select m.cluster from {tables.cluster_members} m where m.collection_id = ?1 and m.cluster not in "
        f"(select cluster from {tables.clusters} where collection_id = ?1)"
    )
    wrong = [f"{row[0]}" for row in conn.execute(sql, [collection.id])]
    if wrong:
        yield f"clusters {_some(wrong)} have not the size that clusters says"


def _projection(conn: sqlite3.Connection, tables: Tables, collection: Collection, rows: Matrix) -> Broken:
    """Look whether every row has a place on the map."""
    if collection.projection is None:
        return
    yield from _covered(conn, tables, collection, rows, "projections")
    sql = f"select id from {tables.projections} where collection_id = ? and not (abs(x) < 1e300 and abs(y) < 1e300)"
    wrong = [row[0] for row in conn.execute(sql, [collection.id])]
    if wrong:
        yield f"{_some(wrong)} have no place on the map that is a number"


def _predictions(conn: sqlite3.Connection, tables: Tables, collection: Collection, rows: Matrix) -> Broken:
    """Look whether every row has a predicted label, one that there is."""
    if collection.labels is None:
        return
    labels = {
        row[0] for row in conn.execute(f"select label from {tables.labels} where collection_id = ?", [collection.id])
    }
    if labels:
        yield from _covered(conn, tables, collection, rows, "predictions")
    sql = f"select id, label from {tables.predictions} where collection_id = ?"
    wrong = [item for item, label in conn.execute(sql, [collection.id]) if label not in labels]
    if wrong:
        yield f"{_some(wrong)} have a predicted label that is not in labels"


def _covered(conn: sqlite3.Connection, tables: Tables, collection: Collection, rows: Matrix, name: str) -> Broken:
    """Look whether the rows of a table are those of the collection."""
    sql = f"select id from {getattr(tables, name)} where collection_id = ?"
    there, wanted = {row[0] for row in conn.execute(sql, [collection.id])}, set(rows.ids)
    if there != wanted:
        yield f"{_some(sorted(there ^ wanted))} are in only one of {name} and embeddings"


def _full_text(conn: sqlite3.Connection, tables: Tables, collection: Collection, _: Matrix) -> Broken:
    """Look whether the words of every item are found."""
    if collection.owner != "llm" and fulltext.is_behind(conn, tables, collection):
        yield "its full-text index is not that of its rows: build again"


def _sketches(conn: sqlite3.Connection, tables: Tables, collection: Collection, _: Matrix) -> Broken:
    """Look whether the sketches that are there can be used."""
    if tables.plain("embeddings_sketches") not in table_names(conn):  # of an earlier release
        return
    sql = f"select dimensions from {tables.embeddings_sketches} where collection_id = ?"
    found = conn.execute(sql, [collection.id]).fetchone()
    if found and read_sketches(conn, tables, collection, found[0]) is None:
        yield "its sketches are not of its vectors, so that searches load all of these: build again"


CHECKS: tuple[Callable[[sqlite3.Connection, Tables, Collection, Matrix], Broken], ...] = (
    _chunks,
    _thumbnails,
    _similarities,
    _clusters,
    _projection,
    _predictions,
    _full_text,
    _sketches,
)
"""What is made from vectors, each with what must hold of it."""


def _some(ids: list[str]) -> str:
    """Name the first of some ids.

    >>> _some(["a", "b", "c", "d"]), _some(["a"])
    ("4 ('a', 'b', 'c' ...)", "1 ('a')")
    """
    named = ", ".join(repr(item) for item in ids[:NAMED])
    return f"{len(ids):,} ({named}{' ...' if len(ids) > NAMED else ''})"
