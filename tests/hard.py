"""What the tests of faults and bad input share: the commands, a project on disk, a deliberately hard database.

Vectors come from a real server on this machine through the real SDK, so that what a build pays for can be counted.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from openai_server import OpenAIServer

from datasette_embeddings.cli import embeddings

MODEL = "openai/one"
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where there is a disk in memory, tests use it: their hundreds of builds wait for hundreds of commits."""


def run(*arguments: object, expect: int | None = 0) -> Result:
    """Run `datasette embeddings ...` in this process; an exception that is no exit fails the test."""
    result = CliRunner().invoke(embeddings, [str(a) for a in arguments], catch_exceptions=False)
    assert expect is None or result.exit_code == expect, result.output
    return result


def settings(server: OpenAIServer, **more: object) -> dict[str, Any]:
    """Return the `models:` block for two models at a server, with a price, as what is paid for must be committed at once."""
    own = {"base_url": server.url, "price": 1.0, "timeout": 5, "max_retries": 0, **more}
    return {MODEL: own, "openai/two": own}


def write_config(path: Path, server: OpenAIServer, collections: dict[str, Any], **more: object) -> Path:
    """Write a configuration of its own; collections that name no model get MODEL."""
    block = {"default_model": MODEL, "collections": collections, "models": settings(server, **more)}
    path.write_text(json.dumps(block), encoding="utf-8")
    return path


def query(path: Path, sql: str, parameters: object = ()) -> list[tuple[Any, ...]]:
    """Return the rows of a query; text that is no UTF-8 is replaced."""
    with closing(sqlite3.connect(path)) as conn:
        conn.text_factory = lambda raw: raw.decode("utf-8", "replace")
        return conn.execute(sql, parameters).fetchall()


def change(path: Path, *statements: str | tuple[str, object]) -> None:
    """Run statements on a database and commit, leaving what is deleted in free pages, as most builds of SQLite do."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("pragma secure_delete = off")
        for statement in statements:
            conn.execute(*((statement,) if isinstance(statement, str) else statement))


def tables_of(path: Path, name: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that the file holds of one collection and that does not depend on when it was built."""
    (cid,) = query(path, "select id from collections where name = ?", [name])[0]
    wanted = {
        "embeddings": "id, embedding, content, content_blob, content_hash, metadata",
        "similarities": "id, other_id, score",
        "chunks": "id, parent_id, position, start, [end], heading, content_hash, row_hash",
        "embeddings_issues": "id, status, reason",
        "embeddings_collections": "fingerprint, chunk, foreign_share, dimensions, similarities, rows, embedded, skipped, failed",
        "embeddings_changes": "id",
    }
    return {
        table: query(path, f"select {columns} from {table} where collection_id = ? order by 1, 2", [cid])
        if table != "embeddings_changes"
        else query(path, "select id from embeddings_changes")
        for table, columns in wanted.items()
    }


def account(path: Path, name: str) -> tuple[int, int, int, int]:
    """Return (rows, embedded, skipped, failed), after checking them against the tables themselves."""
    (cid, chunk, *counts) = query(
        path,
        "select id, chunk, rows, embedded, skipped, failed from collections join embeddings_collections on id = collection_id "
        "where name = ?",
        [name],
    )[0]
    embedded = "count(distinct parent_id) from chunks" if chunk else "count(*) from embeddings"
    assert counts[1] == query(path, f"select {embedded} where collection_id = ?", [cid])[0][0]
    for status, count in zip(("skipped", "failed"), counts[2:], strict=True):
        sql = "select count(*) from embeddings_issues where collection_id = ? and status = ?"
        assert count == query(path, sql, [cid, status])[0][0], status
    assert counts[0] == sum(counts[1:])
    return tuple(counts)


LONG = "a long text about trains and bread " * 1200
TEXTS = [
    "red bread",
    "red bread",
    "nine slow trains",
    None,
    "",
    " \t\n",
    LONG,
    "NUL \0 inside",
    "quotes ' \" ] ` and -- ; drop table x",
    "emoji 🚆🥖 and \u200frtl\u200f",
    12,
    3.5,
    b"bytes that are text",
    b"\xff\xfe\xfd",
]
"""Values of a text column; two are the same, three are blank, the last is no text."""

BAD_UTF8 = "cast(x'62616420ff20757466' as text)"
"""An SQL expression: text that is no UTF-8."""

NAMES = [
    'qu"ote',
    "a]b",
    "sl/ash",
    "semi;--",
    "emoji🚆",
    "select",
    "per%cent~",
    "new\nline",
    "it's",
    "tab,comma",
]
"""Names of tables and columns that nobody should choose."""

TABLES = {
    "plain": 'create table plain (id integer primary key, "text")',
    "keyed": 'create table keyed (id text primary key, "text")',
    "compound": 'create table compound (a text, b integer, "text", primary key (a, b))',
    "norowid": 'create table norowid (a text, b text, "text", primary key (b, a)) without rowid',
    "nokey": 'create table nokey ("text")',
    "untyped": 'create table untyped (id primary key, "text")',
    "gen": (
        "create table gen (id integer primary key, raw, \"text\" generated always as (raw || ' and more') virtual)"
    ),
    "hostile": 'create table "qu""o]te/;-- 🚆" ("i""d" text primary key, "se]lect ""x" text)',
}


def hard_database(path: Path) -> Path:
    """Make a database of everything that rows, names and keys can be."""
    with closing(sqlite3.connect(path)) as conn, conn:
        for ddl in TABLES.values():
            conn.execute(ddl)
        conn.execute('create view shown as select id, "text" from keyed')
        for number, text in enumerate(TEXTS):
            conn.execute("insert into plain values (?, ?)", [number - 3, text])
            conn.execute("insert into keyed values (?, ?)", [f"k/{number},~%é'\"🚆\n", text])
            conn.execute("insert into compound values (?, ?, ?)", [f"a,{number % 3}~", number, text])
            conn.execute("insert into norowid values (?, ?, ?)", [f"a/{number}", "ü b", text])
            conn.execute("insert into nokey values (?)", [text])
            conn.execute("insert into gen (id, raw) values (?, ?)", [number, text])
            conn.execute('insert into "qu""o]te/;-- 🚆" values (?, ?)', [NAMES[number % 10] + str(number), text])
        for key in (1, "1", None, None, 2**63 - 1, -(2**63), 1e100, 0.5, b"blob", ""):
            conn.execute("insert into untyped values (?, ?)", [key, f"text of {key!r}"])
        conn.execute(f"insert into plain values (1000, {BAD_UTF8})")
        conn.execute(f"insert into keyed values ({BAD_UTF8}, 'bad key')")
        conn.execute("delete from nokey where rowid in (2, 5)")
    return path
