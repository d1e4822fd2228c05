"""A database with a collection of every kind: of tables with keys of every kind, a view, a query, a pipe, and of llm."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import hard

from datasette_embeddings import register

ODD_IDS = [
    "sl/ash",
    "d.o.t",
    "per%cent",
    "til~de",
    "com,ma",
    "emoji🚆",
    "new\nline",
    "quo\"te'",
    "a b+c&d=e?f#g",
    "//evil.example",
    "/\\evil.example",
    "cr\r\nLocation: https://evil.example",
    "<b>x</b>",
    "item.json",
    "x" * 500,
]
"""Ids that addresses must carry as they are."""

WORLD = """
create table articles (path text primary key, title text, body text, topic text, words integer);
create table odd (id text primary key, title text, body text);
create table compound (city text, number integer, title text, primary key (city, number));
create table numbers (id integer primary key, title text, kind text);
create table untyped (id primary key, title);
create table "my table/x" ("the id" text primary key, "the, title" text);
create table other_key (id integer primary key, slug text unique, title text);
create table plain_rows (title text);
create table notes (id integer primary key, text text);
insert into compound values ('a,b/c', 1, 'storm and rain'), ('a,b/c', 2, 'cup final'), ('til~de', 1, 'wind and rain');
insert into numbers values (7, 'storm and rain', 'x'), (-8, 'cup final', 'y'), (9, 'wind and rain', 'x');
insert into untyped values ('7', 'storm and rain'), ('a', 'cup final'), (12, 'wind and rain');
insert into "my table/x" values ('k 1', 'storm and rain'), ('k/2', 'cup final');
insert into other_key values (1, 's-1', 'storm and rain'), (2, 's-2', 'cup final');
insert into notes values (1, 'storm');
insert into plain_rows values ('storm and rain'), ('cup final');
create view seen as select path, title || ' ' || body as text, topic from articles;
"""
"""Sources of every kind."""


def make_world(path: Path, articles: list[tuple[str, str, str, str]]) -> None:
    """Write and build a database with a collection of every kind, made by us and by llm."""
    conn = sqlite3.connect(path)
    conn.executescript(WORLD)
    rows = [(*row, 100 * number) for number, row in enumerate(articles)]
    conn.executemany("insert into articles values (?, ?, ?, ?, ?)", rows)
    conn.executemany("insert into odd values (?, ?, ?)", [(i, f"Row {i}", "storm and rain") for i in ODD_IDS])
    conn.commit()
    collections = {
        "articles": {"table": "articles", "columns": ["title", "body"]},
        "titles": {"table": "articles", "columns": ["title"], "similarities": 0},
        "odd": {"table": "odd", "columns": ["title", "body"]},
        "compound": {"table": "compound", "columns": ["title"]},
        "numbers": {"table": "numbers", "columns": ["title"], "where": "id != 9"},
        "untyped": {"table": "untyped", "columns": ["title"]},
        "table_x": {"table": "my table/x", "columns": ["the, title"]},
        "other_key": {"table": "other_key", "columns": ["title"], "key": ["slug"]},
        "plain_rows": {"table": "plain_rows", "columns": ["title"]},
        "seen": {"table": "seen", "columns": ["text"], "key": ["path"]},
        "query": {"sql": "select path, title from articles"},
    }
    config = path.with_name("build.json")
    config.write_text(json.dumps({"collections": collections}))
    texts = path.with_name("texts.json")
    texts.write_text(json.dumps([{"id": "p/1", "text": "storm and rain"}, {"id": "p2", "text": "cup final"}]))
    for arguments in (["build", path, "-c", config], ["embed", path, "pipe", texts]):
        hard.run(*arguments)
    register(conn)
    conn.execute("insert into collections (name, model) values ('od/d na.me <b>', 'static')")
    conn.execute(
        "insert into embeddings (collection_id, id, embedding, content) "
        "select max(id), 'l1', embed_text('storm'), 'storm' from collections"
    )
    conn.commit()
    conn.close()
    config.unlink()
    texts.unlink()
