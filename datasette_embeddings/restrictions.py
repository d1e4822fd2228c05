"""Which tables a site keeps from some people, as the metadata.* and datasette.* files beside a database say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasette_embeddings.config import DATASETTE_FILES, METADATA_FILES, read_file

if TYPE_CHECKING:
    from pathlib import Path


def restricted_tables(database: Path) -> dict[str, str]:
    """Return the tables of a database file that fewer people may view than the database itself, with the file that says so.

    Raises ConfigError for a file that cannot be read.
    """
    found: dict[str, str] = {}
    for name in (*METADATA_FILES, *DATASETTE_FILES):
        if (database.parent / name).is_file():
            site = read_file(database.parent / name)
            inside = _block(_block(site, "databases"), database.stem)
            wider = [_rule(site, "view-instance"), _rule(inside, "view-database"), None, True]
            tables = _block(inside, "tables")
            found |= {table: name for table in tables if _rule(_block(tables, table), "view-table") not in wider}
    return found


def _block(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _rule(block: dict[str, Any], action: str) -> Any:  # noqa: ANN401
    """Return who may view something: its `allow`, or on Datasette 1.0 its `permissions`; None where nothing is said."""
    return block.get("allow", _block(block, "permissions").get(action))
