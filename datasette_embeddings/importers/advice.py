"""What an import says: what it took over, and what to do next."""

from __future__ import annotations

import shlex
import sqlite3
from collections import Counter
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

from datasette_embeddings.database import connect, quote, table_key, table_names, translated
from datasette_embeddings.importers.peers import SHADOW
from datasette_embeddings.models.prompts import card
from datasette_embeddings.propose import text_columns
from datasette_embeddings.sources import TableSource
from datasette_embeddings.tables import NAMES, Tables, find_tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from datasette_embeddings.importers.takeover import Task
    from datasette_embeddings.importers.target import Target

SAMPLE_IDS = 50
"""Ids looked up in a table to tell whether it is the one they are keys of."""

REASONS_SAID = 5


def dry_run(tasks: Sequence[Task], aside: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield what would be done."""
    for task in tasks:
        megabytes = len(task.survey.hashes) * task.survey.dimensions * 4 / 1e6
        yield f"{task.target.name}: would take over {_account(task)}; about {megabytes:.1f} MB more"
    for old, new in aside:
        yield f"the table {old} would be kept as {new}"


def done(path: Path, tasks: Sequence[Task], aside: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield what was done and what to do now: keep the configuration or name the rows, drop what is not needed."""
    for task in tasks:
        count = 0 if task.neighbors is None else len(task.neighbors.rows)
        yield f"{task.target.name}: took over {_account(task)}; {count:,} similarities"
    for task in tasks:
        yield _keep(path, task.target) if task.target.texts else _name_rows(path, task)
    for old, new in aside:
        yield f"The table {old} is kept as {new}; when you miss nothing: sqlite-utils drop-table {_word(path)} {new}"
    if tasks:
        item = next(iter(tasks[0].survey.hashes))
        yield f"Now: datasette embeddings similar {_word(path)} {tasks[0].target.name} {_word(item)}"


def _account(task: Task) -> str:
    found, origin = task.survey, task.origin
    place = f"{origin.tool} ({origin.label})" if origin.tool else origin.label
    said = f"{len(found.hashes):,} vectors of {task.target.model}, {found.dimensions:,} dimensions, from {place}"
    reasons = Counter(f"{status}, {reason}" for _, status, reason in found.issues)
    left = [f"{count:,} {reason}" for reason, count in reasons.most_common(REASONS_SAID)]
    if found.orphans:
        left.append(f"{found.orphans:,} left out, as no row has their id")
    return "; ".join([said, *left])


def _keep(path: Path, target: Target) -> str:
    return (
        f"\nTo keep {target.name} up to date with its rows, put this into metadata.yml and run `datasette embeddings build`, "
        f"which will not embed again what is here:\n\n{_yaml(path, target)}"
    )


def _yaml(path: Path, target: Target) -> str:
    import yaml

    source = target.source
    block: dict[str, Any] = {"database": path.stem}
    if isinstance(source, TableSource):
        key = () if source.key == _own_key(path, source.table) else source.key
        rest = {"key": list(key), "columns": list(source.columns), "where": source.where}
        block |= {"table": source.table, **{name: value for name, value in rest.items() if value}}
    elif source:
        block |= {"sql": source.sql}
    if source and source.template:
        block["template"] = source.template
    said = {"document": target.prefix.document or "", "query": target.prefix.query or ""}
    if any(said.values()) or card(target.model):  # what is here was not made with the prompts that its model asks for
        block["prefix"] = said
    block |= {"model": target.model, "similarities": target.similarities}
    plugins = {"datasette-embeddings": {"collections": {target.name: block}}}
    return str(yaml.safe_dump({"plugins": plugins}, sort_keys=False, allow_unicode=True))


def _own_key(path: Path, table: str) -> tuple[str, ...]:
    with closing(connect(path)) as conn, translated(path):
        return table_key(conn, table).columns if table_names(conn)[table] == "table" else ()


def _name_rows(path: Path, task: Task) -> str:
    """Say how to name the rows of vectors whose texts are not known, with the table that has their ids."""
    name, origin = task.target.name, task.origin
    table, columns = _likely_rows(path, task)
    place = f"--vectors {_word(origin.place)}" if origin.is_file else f"--from {_word(origin.label)}"
    named = " ".join(f"--column {_word(column)}" for column in columns) or "--column COLUMN"
    return (
        f"\n{name}: nothing says which text each vector is of, so a configured build would embed every row again. If you know:\n"
        f"     datasette embeddings import {_word(path)} {place} --collection {name} "
        f"--table {_word(table) if table else 'TABLE'} {named}"
    )


def _likely_rows(path: Path, task: Task) -> tuple[str | None, Sequence[str]]:
    """Return the one table whose keys the ids are, where there is one, and its columns that hold language."""
    source = task.target.source
    with closing(connect(path)) as conn, translated(path):
        if isinstance(source, TableSource):
            found = [source.table]
        else:
            sample = list(islice(task.survey.hashes, SAMPLE_IDS))
            found = [name for name in _candidates(conn, task) if _has_keys(conn, name, sample)]
        if len(found) != 1:
            return None, ()
        return found[0], text_columns(conn, found[0], table_key(conn, found[0]).columns)


def _candidates(conn: sqlite3.Connection, task: Task) -> list[str]:
    """Return the tables that are not ours and not the other tool's own."""
    tables = find_tables(conn) or Tables()
    own = {tables.plain(name) for name in NAMES} | {task.origin.place}
    starts = (f"{task.origin.place}_", SHADOW, "sqlite_", "_sqlite_")
    return [
        name
        for name, kind in table_names(conn).items()
        if kind == "table" and name not in own and not name.startswith(starts)
    ]


def _has_keys(conn: sqlite3.Connection, table: str, ids: Sequence[str]) -> bool:
    try:
        key = table_key(conn, table)
        if key.is_rowid or len(key.columns) != 1:
            return False
        sql = f"select 1 from {quote(table)} where {quote(key.columns[0])} = ?"
        return all(conn.execute(sql, [item]).fetchone() for item in ids)
    except sqlite3.OperationalError:  # a virtual table whose extension is not loaded
        return False


def _word(text: object) -> str:
    return shlex.quote(str(text))
