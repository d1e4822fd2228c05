"""`python -m demo` makes the tables of the demonstration in `demo.db` or brings them up to date.

`python -m demo try` runs what a newcomer may want to try on the finished file, and shows what comes back.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from demo import articles, catalogue, functions, sentences, words

if TYPE_CHECKING:
    from collections.abc import Sequence

DATABASE = Path("demo.db")


def main(arguments: Sequence[str]) -> int:
    """Return the exit code of the command."""
    if arguments == ["try"]:
        from demo.examples import show

        return show()
    if arguments:
        print("usage: python -m demo [try]", file=sys.stderr)
        return 2
    try:
        make_tables(DATABASE)
    except (OSError, ImportError, sqlite3.Error) as error:
        print(f"the tables of the demonstration were not made: {error}", file=sys.stderr)
        return 1
    return 0


def make_tables(database: Path) -> None:
    """Bring the source tables up to date, each in one transaction; embeddings and all else are left alone."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for module in (functions, articles, sentences, words, catalogue):
            name, rows = module.__name__.removeprefix("demo."), list(module.rows())
            changed = replace_table(connection, name, module.TABLE, rows)
            print(f"{name}: {len(rows):,} rows, {'written' if changed else 'unchanged'}")


def replace_table(connection: sqlite3.Connection, name: str, create: str, rows: Sequence[tuple[object, ...]]) -> bool:
    """Make the table hold exactly these rows; return False, having written nothing, where it did already."""
    if current(connection, name, create) == sorted(rows):
        return False
    marks = ", ".join("?" * len(rows[0]))
    connection.execute("begin immediate")
    with connection:
        connection.execute(f"drop table if exists {name}")
        connection.execute(create)
        connection.executemany(f"insert into {name} values ({marks})", rows)
    return True


def current(connection: sqlite3.Connection, name: str, create: str) -> list[tuple[object, ...]] | None:
    """Return the sorted rows of a table, or None where it is missing or was made another way."""
    found = connection.execute("select sql from sqlite_master where type = 'table' and name = ?", [name]).fetchone()
    if found is None or found[0].split()[2:] != create.split()[2:]:  # SQLite writes "CREATE TABLE" in capitals
        return None
    return sorted(connection.execute(f"select * from {name}").fetchall())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
