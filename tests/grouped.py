"""Clusters and maps put into a file by hand, where a test wants to know what they are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from datasette_embeddings import register

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def put_clusters(
    path: Path, name: str, groups: Sequence[Sequence[str]], labels: Sequence[str] = (), terms: str = "[]"
) -> None:
    """Make these groups of ids the clusters of a collection, numbered from 1, the first of each its most central item.

    Scores fall from 0.9 by a tenth; *terms*: JSON, of all of them. An item's place on the map is its group's number and its own.
    """
    with closing(sqlite3.connect(path)) as conn, conn:
        register(conn)
        (collection,) = conn.execute("select id from collections where name = ?", [name]).fetchone()
        for table in ("clusters", "cluster_members", "projections"):
            conn.execute(f"delete from {table} where collection_id = ?", [collection])
        for number, group in enumerate(groups, 1):
            members = [(collection, item, number, round(0.9 - 0.1 * place, 6)) for place, item in enumerate(group)]
            conn.executemany("insert into cluster_members values (?, ?, ?, ?)", members)
            conn.execute(
                "insert into clusters (collection_id, cluster, label, size, terms, item, score) values (?, ?, ?, ?, ?, ?, ?)",
                [collection, number, dict(enumerate(labels, 1)).get(number), len(group), terms, group[0], 0.9],
            )
            points = [(collection, item, number, place) for place, item in enumerate(group)]
            conn.executemany("insert into projections values (?, ?, ?, ?)", points)
        conn.execute(
            "update embeddings_collections set clusters = ?, projection = 'pca' where collection_id = ?",
            [str(len(groups)), collection],
        )
