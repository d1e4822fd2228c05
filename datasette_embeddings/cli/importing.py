"""The command that takes over embeddings made by other tools."""

from __future__ import annotations

from pathlib import Path

import click

from datasette_embeddings.cli.looking import DATABASE
from datasette_embeddings.cli.output import says_errors


@click.command("import")
@click.argument("database", type=DATABASE)
@says_errors
def import_(database: Path) -> None:
    """Take over embeddings that another tool made in DATABASE."""
    from datasette_embeddings import importers

    for line in importers.take_over(database):
        click.echo(line)
