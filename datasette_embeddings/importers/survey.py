"""Every vector looked at, every row accounted for, before anything is written."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasette_embeddings import embed
from datasette_embeddings.database import item_id, quote
from datasette_embeddings.errors import BadVector, SourceError
from datasette_embeddings.importers.origin import to_blob
from datasette_embeddings.sources import TableSource

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from datasette_embeddings.importers.origin import Origin
    from datasette_embeddings.importers.target import Target

    Issues = list[tuple[str, str, str]]

NO_VECTOR = "it had no vector when it was imported"


@dataclass(frozen=True)
class Survey:
    """What can be taken over.

    *hashes*: ids with a usable vector, sorted, and the content hash of each (None where the text is not known).
    *issues*: (id, status, reason) of the other rows. *orphans*: how many vectors belong to no row of the source.
    """

    dimensions: int
    hashes: Mapping[str, bytes | None]
    issues: Sequence[tuple[str, str, str]]
    orphans: int


def survey(conn: sqlite3.Connection, origin: Origin, target: Target) -> Survey:
    """Look at every vector and every row; raises SourceError where nothing of it can be taken over."""
    sizes, problems = _sizes(conn, origin)
    if not sizes and not problems:
        raise SourceError(f"{origin.label} holds no vectors: there is nothing to take over")
    if not sizes:
        raise SourceError(
            f"{origin.label}: none of its {len(problems):,} vectors is usable; {next(iter(problems.values()))}"
        )
    dimensions = Counter(sizes.values()).most_common(1)[0][0]
    odd = {item: size for item, size in sizes.items() if size != dimensions}
    problems |= {item: f"a vector of {size:,} dimensions among those of {dimensions:,}" for item, size in odd.items()}
    good = sizes.keys() - odd.keys()
    if target.source is None:
        issues = [(item, "failed", reason) for item, reason in sorted(problems.items())]
        return Survey(dimensions, dict.fromkeys(sorted(good)), issues, 0)
    hashes, issues = _rows(conn, target)
    taken = {item: hashes[item] for item in sorted(good & hashes.keys())}
    if not taken:
        raise SourceError(
            f"no id of {origin.label} (such as {min(good)!r}) is a key of its rows (such as {min(hashes, default='')!r}); "
            "check --table and --id-column"
        )
    orphans = len(sizes.keys() - hashes.keys() - {item for item, _, _ in issues})
    for item in sorted(hashes.keys() - taken.keys()):
        issues.append((item, "failed", problems[item]) if item in problems else (item, "skipped", NO_VECTOR))
    return Survey(dimensions, taken, issues, orphans)


def _sizes(conn: sqlite3.Connection, origin: Origin) -> tuple[dict[str, int], dict[str, str]]:
    """Return the dimensions of every usable vector by id, and why the others are not usable."""
    sizes: dict[str, int] = {}
    problems: dict[str, str] = {}
    for number, (item, value) in enumerate(origin.rows(conn), start=1):
        if item is None:
            problems[f"(row {number})"] = "its id is NULL"
        elif item in sizes or item in problems:
            problems[f"{item} (row {number})"] = "its id is that of an earlier row"
        else:
            try:
                sizes[item] = len(to_blob(value)) // 4
            except BadVector as error:
                problems[item] = str(error)
    return sizes, problems


def _rows(conn: sqlite3.Connection, target: Target) -> tuple[dict[str, bytes | None], Issues]:
    """Return the content hash of every row by id (None where the text is not known), and rows that have no text."""
    source = target.source
    assert source is not None
    if target.texts:
        plan = embed.plan(source.rows(conn), embed.Stored(), store_content=False, delete_missing=True)
        with closing(plan.pending):
            return dict(plan.pending.execute("select id, hash from items").fetchall()), plan.issues
    assert isinstance(source, TableSource)
    key = ", ".join(quote(name) for name in source.key)
    ids = [item_id(row) for row in conn.execute(f"select {key} from {quote(source.table)}")]
    nulls = [(f"(row {n})", "failed", "its key is NULL") for n, item in enumerate(ids, start=1) if item is None]
    return {item: None for item in ids if item is not None}, nulls


def usable_vectors(conn: sqlite3.Connection, origin: Origin, found: Survey) -> Iterator[tuple[str, bytes]]:
    """Yield (id, BLOB) of what can be taken over, in the order of the place."""
    waiting = set(found.hashes)
    for item, value in origin.rows(conn):
        if item in waiting:
            waiting.discard(item)
            yield item, to_blob(value)
