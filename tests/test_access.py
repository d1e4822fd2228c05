"""Who may see what was made from a table: on both lines, whoever may see the table, and nobody else."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import hard
import pytest
from grouped import put_clusters
from test_datasette import IS_V1, make_site

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasette.app import Datasette

DERIVED = [
    "/news/embeddings",
    "/news/similarities",
    "/news/collections",
    "/news/embeddings_issues",
    "/news/embeddings_collections",
    "/news/clusters",
    "/news/cluster_members",
    "/news/projections",
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


@pytest.fixture(scope="module")
def news_sites(built_once: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Datasette]:
    """The newsroom served to all, and with a table that is its owner's."""
    sites = {}
    for name, rules in (("public", {}), ("private", PRIVATE)):
        folder = tmp_path_factory.mktemp(name)
        shutil.copy(built_once, folder / "news.db")
        sites[name] = make_site(folder, **rules)
    return sites


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", DERIVED)
async def test_derived_follow_their_source(news_sites: dict[str, Datasette], path: str) -> None:
    """Tables and queries made from a private table are closed to others, whatever the spelling, and open to its owner."""
    site = news_sites["private"]
    for actor in (None, "somebody"):
        response = await site.client.get(path, cookies=cookies(site, actor), follow_redirects=True)
        assert response.status_code in {403, 404}, path
        assert "storm" not in response.text.lower().replace("q=storm", "").replace("id=news/storm", "")
    owner = await site.client.get(path, cookies=cookies(site, "root"), follow_redirects=True)
    assert owner.status_code == 200, owner.text


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", OTHER_SPELLINGS)
async def test_other_spellings_open_nothing(news_sites: dict[str, Datasette], path: str) -> None:
    """SQLite's names ignore case; a permission must not be got around by that."""
    response = await news_sites["private"].client.get(path, follow_redirects=True)
    assert response.status_code in {403, 404}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", DERIVED)
async def test_public_source_is_public(news_sites: dict[str, Datasette], path: str) -> None:
    """Nothing is closed where the source is open."""
    response = await news_sites["public"].client.get(path, follow_redirects=True)
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


CANARY = "zanzibarcanary"
VAULT = [(f"{CANARY}-{number}", f"storm and rain {CANARY} {number}") for number in range(23)]
"""Rows that not everybody may see; there are 23, which no page says of anything else."""


@pytest.fixture(scope="session")
def vaults_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Databases with one collection each, of the same rows: of a table, of a query over it."""
    folder = tmp_path_factory.mktemp("vaults")
    for name in ("public", "table", "query", "closed"):
        path = folder / f"{name}.db"
        hard.change(path, "create table vault (id text primary key, title text)")
        rows = VAULT[:11] if name == "public" else VAULT
        hard.change(path, *(("insert into vault values (?, ?)", row) for row in rows))
        source = (
            ["--sql", "select id, title from vault"] if name == "query" else ["--table", "vault", "--column", "title"]
        )
        hard.run("embed", path, f"of_{name}", *source)
        ids = [item for item, _ in rows]
        put_clusters(path, f"of_{name}", [ids[:3], ids[3:]], [f"{CANARY} one", f"{CANARY} two"])
    return folder


@pytest.fixture
def vaults(vaults_once: Path, tmp_path: Path) -> Path:
    """A folder of these databases."""
    return Path(shutil.copytree(vaults_once, tmp_path / "vaults"))


@pytest.fixture(scope="module")
def guarded(vaults_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Datasette:
    """A site of these databases, all but one of which are for their owner, and with a page of its own."""
    folder = Path(shutil.copytree(vaults_once, tmp_path_factory.mktemp("guarded") / "vaults"))
    (folder / "templates" / "pages").mkdir(parents=True)
    (folder / "templates" / "pages" / "show.html").write_text(SHOWN)
    return make_site(folder, **RULES)


SHOWN = """
{% set database = request.args.get("in") %}{% set collection = "of_" ~ database %}
{{ related(database, collection, "zanzibarcanary-3") }} {{ semantic_search(database, collection, "storm") }}
{% set related_items = related(database, collection, "zanzibarcanary-3") %}
{% include "embeddings/_related.html" %}
"""

OWNED = {"allow": {"id": "root"}}
RULES = {
    "databases": {
        "table": {"tables": {"vault": OWNED}},
        "query": {"tables": {"vault": OWNED}},
        "closed": OWNED,
    }
}

PAGES = [
    "/-/embeddings/{0}/of_{0}",
    "/-/embeddings/{0}/of_{0}.json",
    "/-/embeddings/{0}/of_{0}/clusters",
    "/-/embeddings/{0}/of_{0}/clusters.json",
    "/-/embeddings/{0}/of_{0}/clusters?k=99",
    "/-/embeddings/{0}/of_{0}/search?q=storm",
    "/-/embeddings/{0}/of_{0}/search.json?q=storm",
    "/-/embeddings/{0}/of_{0}/search?q=" + "a" * 8001,
    "/-/embeddings/{0}/of_{0}/item/zanzibarcanary-3",
    "/-/embeddings/{0}/of_{0}/item/zanzibarcanary-3.json",
    "/-/embeddings/{0}/of_{0}/item/none",
    "/{0}/search_of_{0}?q=storm",
    "/{0}/hybrid_of_{0}.json?q=storm",
    "/{0}/hybrid_of_{0}.csv?q=storm",
    "/{0}/related_of_{0}?id=zanzibarcanary-3",
    "/{0}/duplicates_of_{0}.json",
    "/{0}/clusters_of_{0}",
    "/{0}/cluster_of_{0}.json?cluster=1",
    "/{0}/projection_of_{0}.csv",
    "/{0}/clusters",
    "/{0}/cluster_members.json",
    "/{0}/cluster_members?_facet=cluster",
    "/{0}/projections",
    "/{0}/embeddings_projections",
    "/{0}/collections",
    "/{0}/embeddings",
    "/{0}/embeddings.json",
    "/{0}/embeddings.csv",
    "/{0}/embeddings/1,zanzibarcanary-3",
    "/{0}/similarities",
    "/{0}/similarities?_facet=id",
    "/{0}/embeddings_collections",
    "/{0}/embeddings_issues",
    "/{0}/embeddings_changes",
    "/{0}/embeddings_documents",
    "/{0}/embeddings_fts_of_{0}",
    "/{0}/embeddings_fts_of_{0}.json",
    "/{0}/embeddings_fts_of_{0}_data",
    "/{0}/embeddings_fts_of_{0}_idx",
    "/{0}/embeddings_fts_of_{0}_docsize",
    "/{0}/embeddings_fts_of_{0}_config",
    "/{0}/vault",
    "/{0}/vault.json",
    "/{0}/vault?_cluster=of_{0}:1",
    "/{0}/vault.json?_cluster=of_{0}:2",
    "/{0}/vault?_cluster=of_{0}:9",
    "/{0}/vault?_meaning=storm",
    "/{0}/vault.json?_meaning=storm",
    "/{0}/vault/zanzibarcanary-3",
    *(["/{0}/embeddings/-/autocomplete?q=zan", "/{0}/vault/-/autocomplete?q=zan"] if IS_V1 else []),
]
"""What tells of rows: open to whoever may see the source, and to nobody else."""

LISTS = [
    "/-/embeddings",
    "/-/embeddings.json",
    "/",
    "/.json" if not IS_V1 else "/-/databases.json",
    "/{0}",
    "/{0}.json",
    "/show?in={0}",
    *(["/-/jump.json?q=of_{0}"] if IS_V1 else []),
]
"""What tells of many things: open, without those that are not."""

WHO = {"public": {None, "somebody", "root"}, "table": {"root"}, "query": {"root"}, "closed": {"root"}}


def told(text: str, database: str, path: str) -> list[str]:
    """Return what of a vault a body gives away, what was asked left out."""
    for asked in (path, path.replace("&", "&amp;"), path.replace(".json", ""), path.replace("?q=", ".json?q=")):
        text = text.replace(asked, "")
    names = (
        [f"of_{database}"]
        if "/-/embeddings" in path or path == "/" or path.startswith("/show") or "jump" in path
        else []
    )
    return [word for word in (CANARY, "23 rows", "of 23", '"rows":23', '"count":23', *names) if word in text]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("database", "actor"),
    [("public", None), *((name, actor) for name in list(WHO)[1:] for actor in (None, "somebody", "root"))],
)
async def test_who_may_see_what(guarded: Datasette, actor: str | None, database: str) -> None:
    """For every page, query and table of ours: the status of the source table, and of what is denied no word, id or count."""
    site = guarded
    may = actor in WHO[database]
    signed = cookies(site, actor)
    source = await site.client.get(f"/{database}/vault", cookies=signed)
    assert source.status_code == (200 if may else 403)
    seen = 0
    for path in (page.format(database) for page in PAGES):
        answer = await site.client.get(path, cookies=signed, follow_redirects=True)
        if may:
            assert answer.status_code < 500, path
            seen += answer.status_code == 200
            continue
        assert answer.status_code in {403, 404}, (path, answer.status_code)
        assert answer.status_code == 403 or "/-/" not in path or "none" in path or "autocomplete" in path, path
        assert not told(answer.text, database, path), (path, told(answer.text, database, path))
    assert not may or seen >= len(PAGES) - 8, seen
    for path in (page.format(database) for page in LISTS):
        answer = await site.client.get(path, cookies=signed, follow_redirects=True)
        assert answer.status_code == (
            403 if not may and database == "closed" and path[1:] in {"closed", "closed.json"} else 200
        )
        assert may or not told(answer.text, database, path), (path, told(answer.text, database, path))
    if may:
        assert CANARY in (await site.client.get(f"/show?in={database}", cookies=signed)).text


SPELLINGS = [
    "/-/embeddings/{0}/OF_{0}",
    "/-/embeddings/{0}/of_{0}~20",
    "/-/embeddings/{0}/OF_{0}/clusters",
    "/{0}/VAULT?_cluster=of_{0}:1",
    "/{0}/CLUSTERS",
    "/{0}/Cluster_Members.json",
    "/{0}/Clusters_of_{0}",
    "/{0}/CLUSTER_of_{0}?cluster=1",
    "/-/embeddings/{0}/~6Ff_{0}/search?q=storm",
    "/-/embeddings/{0}/%6Ff_{0}/search?q=storm",
    "/-/embeddings/{0}/of_{0}/",
    "/-/embeddings/{0}//of_{0}",
    "/-/embeddings/~54able/of_{0}",
    "/{0}/VAULT?_meaning=storm",
    "/{0}/Vault.json?_meaning=storm",
    "/{0}/v~61ult?_meaning=storm",
    "/{0}/Embeddings_FTS_of_{0}",
    "/{0}/embeddings_fts_OF_{0}_data.json",
    "/{0}/~65mbeddings_fts_of_{0}_content",
    "/{0}/HYBRID_of_{0}?q=storm",
    "/{0}/hybrid_of_{0}~20?q=storm",
    "/{0}/embeddings_documents~20",
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("database", ["table", "query", "closed"])
async def test_other_spellings_of_pages_open_nothing(guarded: Datasette, database: str) -> None:
    """Letters of another case, encoded letters, spaces and slashes."""
    for path in (spelling.format(database) for spelling in SPELLINGS):
        answer = await guarded.client.get(path, follow_redirects=True)
        assert answer.status_code in {400, 403, 404}, (path, answer.status_code)
        assert CANARY not in answer.text


@pytest.mark.asyncio
async def test_leftovers_of_a_build_are_as_private(vaults: Path) -> None:
    """An index that a killed build left aside holds words, too."""
    hard.change(
        vaults / "table.db",
        "create virtual table \"embeddings_fts_of_table~next\" using fts5(text, content='', tokenize='porter')",
    )
    site = make_site(vaults, **RULES)
    for ending in ("", "_data", "_idx", "_docsize", "_config"):
        path = f"/table/embeddings_fts_of_table~7Enext{ending}"
        assert (await site.client.get(path)).status_code == 403
        assert (await site.client.get(path, cookies=cookies(site, "root"))).status_code == 200


@pytest.mark.asyncio
async def test_revoked_permission_counts_at_the_next_request(vaults: Path) -> None:
    """Nothing of who might see a thing is kept, whatever of the thing is."""
    from datasette import hookimpl
    from datasette.plugins import pm

    allowed = {"vault": True}

    class Revoking:
        __name__ = "revoking"

        if IS_V1:

            @hookimpl
            def permission_resources_sql(self, action: str):
                from datasette.permissions import PermissionSQL

                if action != "view-table" or allowed["vault"]:
                    return None
                return PermissionSQL(
                    sql="select 'public' as parent, 'vault' as child, 0 as allow, 'no' as reason", params={}
                )

        else:

            @hookimpl
            def permission_allowed(self, action: str, resource: object):
                return (
                    False
                    if action == "view-table" and resource == ("public", "vault") and not allowed["vault"]
                    else None
                )

    plugin = Revoking()
    pm.register(plugin, name="revoking")
    try:
        site = make_site(vaults)
        pages = [
            "/-/embeddings/public/of_public/search?q=storm",
            "/public/hybrid_of_public?q=storm",
            "/public/embeddings",
        ]
        for state in (True, False, True):
            allowed["vault"] = state
            for path in pages:
                assert (await site.client.get(path)).status_code == (200 if state else 403), (path, state)
            listed = (await site.client.get("/-/embeddings.json")).json()["collections"]
            assert ("of_public" in {entry["name"] for entry in listed}) is state
    finally:
        pm.unregister(plugin)


@pytest.mark.asyncio
async def test_one_vector_is_not_for_who_may_see_nothing(vaults: Path) -> None:
    """Where the whole site is private, so are the list of collections and embed.json."""
    site = make_site(vaults, allow={"id": "root"})
    for path in ("/-/embeddings", "/-/embeddings.json", "/-/embeddings/embed.json?text=storm"):
        answer = await site.client.get(path)
        assert answer.status_code == 403, path
        assert (await site.client.get(path, cookies=cookies(site, "root"))).status_code == 200


@pytest.mark.asyncio(loop_scope="module")
async def test_search_from_another_database(guarded: Datasette) -> None:
    """SQL on an open database finds no collection of a closed one, and is told the same as of none at all."""
    path = "/public/-/query.json?sql=" if IS_V1 else "/public.json?sql="
    said = []
    for name in ("of_closed", "of_nobody"):
        answer = await guarded.client.get(f"{path}select+embed_hybrid('{name}','storm')")
        assert answer.status_code == 400
        assert CANARY not in answer.text
        said.append(answer.json()["error"].replace(name, ""))
    assert said[0] == said[1]
