"""Who may see what was made from a table: on both lines, whoever may see the table, and nobody else."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_datasette import make_site

if TYPE_CHECKING:
    from collections.abc import Callable

DERIVED = [
    "/news/embeddings",
    "/news/similarities",
    "/news/collections",
    "/news/embeddings_issues",
    "/news/embeddings_collections",
    "/news/search_articles?q=storm",
    "/news/related_articles?id=news/storm",
    "/news/search_articles.json?q=storm&_shape=array",
    "/news/embeddings.json?_shape=array",
]
OTHER_SPELLINGS = ["/news/EMBEDDINGS", "/news/Similarities", "/news/embeddings~20", "/NEWS/embeddings"]
PRIVATE = {"databases": {"news": {"tables": {"articles": {"allow": {"id": "root"}}}}}}


def cookies(site, actor: str | None) -> dict[str, str]:
    """Return the cookies of a signed-in actor."""
    return {"ds_actor": site.sign({"a": {"id": actor}}, "actor")} if actor else {}


@pytest.mark.asyncio
@pytest.mark.parametrize("path", DERIVED)
async def test_derived_follow_their_source(built: Path, path: str) -> None:
    """Tables and queries made from a private table are closed to others, whatever the spelling, and open to its owner."""
    site = make_site(built.parent, **PRIVATE)
    for actor in (None, "somebody"):
        response = await site.client.get(path, cookies=cookies(site, actor), follow_redirects=True)
        assert response.status_code in {403, 404}, path
        assert "storm" not in response.text.lower().replace("q=storm", "").replace("id=news/storm", "")
    owner = await site.client.get(path, cookies=cookies(site, "root"), follow_redirects=True)
    assert owner.status_code == 200, owner.text


@pytest.mark.asyncio
@pytest.mark.parametrize("path", OTHER_SPELLINGS)
async def test_other_spellings_open_nothing(built: Path, path: str) -> None:
    """SQLite's names ignore case; a permission must not be got around by that."""
    response = await make_site(built.parent, **PRIVATE).client.get(path, follow_redirects=True)
    assert response.status_code in {403, 404}


@pytest.mark.asyncio
@pytest.mark.parametrize("path", DERIVED)
async def test_public_source_is_public(built: Path, path: str) -> None:
    """Nothing is closed where the source is open."""
    response = await make_site(built.parent).client.get(path, follow_redirects=True)
    assert response.status_code == 200


@pytest.mark.asyncio
async def test_one_private_source_closes_shared_tables_but_not_the_other_query(built: Path, cli: Callable) -> None:
    """`embeddings` holds rows of both collections, so it is closed; the public collection's own query stays open."""
    with sqlite3.connect(built) as conn:
        conn.execute("create table notices (id integer primary key, title text, text text)")
        conn.execute("insert into notices values (1, 'Road closed', 'The bridge is closed on Monday')")
        conn.execute("insert into notices values (2, 'Library open', 'Open on Sundays from May')")
    cli("add", built, "notices")
    site = make_site(built.parent, **PRIVATE)
    assert (await site.client.get("/news/embeddings")).status_code == 403
    found = await site.client.get("/news/search_notices.json?q=bridge&_shape=array")
    assert [row["id"] for row in found.json()] == ["1", "2"]


@pytest.mark.asyncio
async def test_sql_source_counts_the_tables_it_reads(news: Path, cli: Callable) -> None:
    """A collection made by a query is as private as the tables in it."""
    cli("embed", news, "mixed", "--sql", "select path, title from (select path, title from articles)")
    site = make_site(news.parent, **PRIVATE)
    assert (await site.client.get("/news/search_mixed.json?q=storm")).status_code == 403
    root = await site.client.get("/news/search_mixed.json?q=storm&_shape=array", cookies=cookies(site, "root"))
    assert root.json()[0]["id"] == "news/storm"


@pytest.mark.asyncio
async def test_permission_is_asked_anew(built: Path, cli: Callable) -> None:
    """A build beside the server that makes a first private collection closes the tables at the next request."""
    site = make_site(built.parent, databases={"news": {"tables": {"secret": {"allow": {"id": "root"}}}}})
    assert (await site.client.get("/news/embeddings")).status_code == 200
    with sqlite3.connect(built) as conn:
        conn.execute("create table secret (id integer primary key, text text)")
        conn.execute("insert into secret values (1, 'the plan of the vault')")
        conn.execute("insert into secret values (2, 'the key of the vault')")
    cli("add", built, "secret")
    assert (await site.client.get("/news/embeddings")).status_code == 403
