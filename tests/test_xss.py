"""What is stored and what is asked for is text on every page: no payload makes an element, an attribute or an address."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import hard
import pytest
import yaml
from datasette.app import Datasette
from datasette.utils import tilde_encode
from grouped import put_clusters
from test_datasette import make_site

from datasette_embeddings import register
from datasette_embeddings.database import quote as sql_name

PAYLOADS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "'><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    "` onmouseover=alert(1) `",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "</title><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "<!--<script>alert(1)</script>-->",
    "--><script>alert(1)</script>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<iframe src=javascript:alert(1)>",
    "<math><mtext></mtext><mglyph><style></math><img src onerror=alert(1)>",
    "javascript:alert(1)//",
    "<a href=javascript:alert(1) onclick=alert(1)>x</a>",
    "{{ 7*7 }}<script>alert(1)</script>{% raw %}",
    "&lt;script&gt;alert(1)&lt;/script&gt;<b onclick=x>",
    "\x02<script>alert(1)</script>\x03",
    "<mark onclick=alert(1)>storm</mark>",
    "<p>storm<p onclick=alert(1)>rain<div style=x:expression(alert(1))>",
]
"""Ways in, of which each browser knows some; the fourth from below is text that is already escaped."""

HARMLESS = [f"harmless {number}" for number in range(25)]


class Elements(HTMLParser):
    """How often each element stands on a page with which attributes, and where its attributes lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: Counter[tuple[str, ...]] = Counter()
        self.addresses: list[str] = []
        self.comments: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[(tag, *sorted(name for name, _ in attrs))] += 1
        self.addresses += [value or "" for name, value in attrs if name in {"href", "src", "action", "srcdoc", "style"}]

    def handle_comment(self, comment: str) -> None:
        self.comments.append(comment)


def make(path: Path, texts: list[str]) -> None:
    """Write and build a database with these texts as titles, bodies, ids, and as names of tables, columns and collections."""
    groups = ["".join(texts[:13]), "".join(texts[13:])]
    collections = {"c": {"table": "t", "columns": ["title", "body"]}}
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("create table t (id text primary key, title text, body text)")
        conn.executemany(
            "insert into t values (?, ?, ?)",
            [(f"{n}{text}", f"{text} storm {n}", f"rain {text} and storm {text}") for n, text in enumerate(texts)],
        )
        for number, name in enumerate(groups):
            table, column = sql_name(f"t{number}{name}"), sql_name(f"a{name}")
            conn.execute(f"create table {table} (id text primary key, {column} text)")
            conn.executemany(f"insert into {table} values (?, ?)", [(name, "storm " + name), ("b", "rain")])
            collections[f"c{number}"] = {"table": f"t{number}{name}", "columns": [f"a{name}"]}
    config = path.with_suffix(".yml")
    config.write_text(yaml.safe_dump({"collections": collections}))
    hard.run("build", path, "-c", config)
    config.unlink()
    with closing(sqlite3.connect(path)) as conn, conn:
        register(conn)
        for number, name in enumerate(groups):
            conn.execute("insert into collections (name, model) values (?, ?)", [f"l{number}{name}", "static"])
            conn.execute(
                "insert into embeddings (collection_id, id, embedding, content) "
                "select max(id), ?, embed_text('static', 'storm'), ? from collections",
                [name, f"storm {name}"],
            )
            conn.execute("insert into collections (name, model) values (?, ?)", [f"m{number}", f"none{name}"])
        conn.execute("update embeddings set embedding = x'00' where id like '3%'")
        conn.executemany(
            "insert into embeddings_issues select id, ?, 'failed', ?, null from collections where name = 'c'",
            [(f"issue {text}", f"because {text}") for text in texts],
        )
        conn.execute(f"alter table t add column {sql_name('year ' + texts[0])} integer")
        conn.execute(f"update t set {sql_name('year ' + texts[0])} = 2000 + cast(id as integer)")
    ids = [f"{n}{text}" for n, text in enumerate(texts)]
    put_clusters(path, "c", [[item] for item in ids], texts, json.dumps(texts))
    for number, name in enumerate(groups):
        put_clusters(path, f"c{number}", [[name, "b"]], texts)


def addresses(texts: list[str]) -> list[str]:
    """Return the address of every page, in one order whatever the texts are."""
    groups = ["".join(texts[:13]), "".join(texts[13:])]
    here = "/-/embeddings/x"
    found = [
        "/-/embeddings",
        f"{here}/c",
        f"{here}/c/search?q=storm&k=100",
        f"{here}/c/ask?q=storm&k=100",
        "/x/hybrid_c?q=storm",
        f"{here}/c/clusters?k=20",
        "/x/clusters_c",
        "/x/projection_c",
        "/",
        "/x",
        "/x/embeddings",
    ]
    for number, text in enumerate(texts):
        item = tilde_encode(f"{number}{text}")
        asked = quote(text)
        if number % 3 == 0:
            found += [f"{here}/c/item/{item}", f"/x/t/{item}"]
        found.append(f"{here}/c/search?q=storm+{asked}&title__not={asked}&id__contains=1")
        if number % 5 == 0:
            found += [f"/x/t?_meaning=storm+{asked}", f"/x/hybrid_c?q=storm+{asked}", f"{here}/c/search?{asked}=1&q=x"]
            found += [f"{here}/c/search?q=x&k={asked}", f"{here}/c/search?q=x&title__{asked}=1"]
            found += [f"/x/t?_cluster=c:{number + 1}", f"/x/t?_cluster={asked}", f"/x/cluster_c?cluster={number + 1}"]
            found += [f"{here}/c/clusters?k={asked}", f"{here}/c/clusters?{asked}=1"]
            found += [f"{here}/c/ask?q=storm+{asked}&title__not={asked}", f"{here}/c/ask?q=x&k={asked}"]
    for number, name in enumerate(groups):
        table, item = tilde_encode(f"t{number}{name}"), tilde_encode(name)
        llm = tilde_encode(f"l{number}{name}")
        found += [
            f"{here}/c{number}",
            f"{here}/c{number}/search?q=storm&{quote(f'a{name}')}__contains=s",
            f"{here}/c{number}/item/{item}",
            f"/x/{table}/{item}",
            f"/x/{table}?_meaning=storm",
            f"/x/search_c{number}?q=storm",
            f"{here}/c{number}/clusters",
            f"/x/{table}?_cluster=c{number}:1",
            f"{here}/{llm}",
            f"{here}/{llm}/search?q=storm",
            f"{here}/{llm}/ask?q=storm",
            f"{here}/{llm}/item/{item}",
            f"{here}/m{number}",
            f"{here}/m{number}/search?q=storm",
        ]
    return found


async def elements(folder: Path, texts: list[str]) -> list[tuple[str, int, Elements]]:
    """Return (address, status, elements) of every page."""
    folder.mkdir()
    make(folder / "x.db", texts)
    tables = {"t": {"facets": ["title"], "label_column": "title"}}
    site: Datasette = make_site(folder, databases={"x": {"tables": tables}})
    answers = [(path, await site.client.get(path)) for path in addresses(texts)]
    return [(path, answer.status_code, Elements(answer.text)) for path, answer in answers]


@pytest.mark.asyncio
async def test_payloads_are_text(tmp_path: Path) -> None:
    """25 payloads as title, body, id, name of a table, column and collection, model, reason, query and filter, on every page."""
    plain = await elements(tmp_path / "plain", HARMLESS)
    hostile = await elements(tmp_path / "hostile", PAYLOADS)
    assert len(plain) == len(hostile)
    usual = set().union(*(page.found for _, _, page in plain))
    pages = 0
    for (harmless, wanted, before), (path, status, after) in zip(plain, hostile, strict=True):
        assert status == wanted or {status, wanted} <= {200, 400}, (harmless, wanted, path, status)
        pages += status == 200
        new = {element for element in after.found if element not in usual}
        assert not new, (path, new)
        for tag in ("script", "img", "iframe", "svg", "style", "title", "textarea", "base", "form", "link", "meta"):
            count, expected = (sum(n for e, n in found.items() if e[0] == tag) for found in (after.found, before.found))
            assert count == expected or (tag == "svg" and count <= 150) or status != wanted, (
                path,
                tag,
                count,
                expected,
            )
        assert not [a for a in after.addresses if re.match(r"\s*(javascript|data|vbscript):", a, re.I)], path
        assert not [a for a in after.addresses if re.match(r"(https?:)?//(?!localhost/|datasette\.io)", a)], path
        assert not any("<script" in comment for comment in after.comments), path
    assert pages > 70
