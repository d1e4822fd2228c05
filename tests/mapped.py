"""A map of the articles, put into a file by hand, so that a test knows what stands where."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PLACES = {
    "news/rates": (-2.0, -1.0),
    "news/inflation": (-1.6, -0.8),
    "news/football": (2.0, 1.0),
    "news/tennis": (1.6, 1.2),
    "news/storm": (-1.0, 1.0),
    "news/heat": (-0.6, 1.4),
    "news/vaccine": (1.0, -1.0),
    "news/hospital": (1.4, -2.6),
}
CLUSTERS = ("prices, rates", "final, cup", "storm, heat", "doctors, nurses")
"""Names of clusters; the first two articles are the first, and so on."""


def put_map(
    path: Path,
    places: Mapping[str, Sequence[float | None]] = PLACES,
    labels: Sequence[str] = CLUSTERS,
    name: str = "articles",
) -> None:
    """Put the items of a collection at these places, two and two in a cluster; those that are left over are in the last."""
    with closing(sqlite3.connect(path)) as conn, conn:
        (collection,) = conn.execute("select id from collections where name = ?", [name]).fetchone()
        for table in ("projections", "cluster_members", "clusters"):
            conn.execute(f"delete from {table} where collection_id = ?", [collection])
        members: dict[int, list[str]] = {}
        for number, (item, place) in enumerate(places.items()):
            conn.execute("insert into projections values (?, ?, ?, ?)", [collection, item, *place])
            members.setdefault(min(number // 2, len(labels) - 1) + 1, []).append(item)
        for cluster, items in members.items() if labels else ():
            rows = [(collection, item, cluster, 0.5) for item in items]
            conn.executemany("insert into cluster_members values (?, ?, ?, ?)", rows)
            conn.execute(
                "insert into clusters (collection_id, cluster, label, size, item) values (?, ?, ?, ?, ?)",
                [collection, cluster, labels[cluster - 1], len(items), items[0]],
            )
