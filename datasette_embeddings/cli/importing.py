"""The command that takes over embeddings made by other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from datasette_embeddings.cli.looking import DATABASE, config_option, load_config
from datasette_embeddings.cli.making import prefix_option
from datasette_embeddings.cli.output import Console, says_errors

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("import")
@click.argument("database", type=DATABASE)
@click.option("--from", "place", metavar="TABLE", help="Only the vectors in this table.")
@click.option("--vectors", type=FILE, help="Vectors in a .npy or .parquet file.")
@click.option(
    "--ids", type=FILE, help="Ids of the rows of a .npy file, one a line. Default: the keys of --table, ascending."
)
@click.option("--id-column", help="Column of the ids. Default: the table's key; `id` in a Parquet file.")
@click.option("--vector-column", help="Column of the vectors. Default: the only one that can be it.")
@click.option("--collection", help="Name of the collection. Default: that of --table, or of where the vectors are.")
@click.option("-m", "--model", help="The model that made the vectors. Default: the other tool's, where it has one.")
@click.option("--table", help="Table whose rows the vectors belong to.")
@click.option("--key", multiple=True, help="Key column of --table; may be repeated. Default: its primary key.")
@click.option(
    "--column", "columns", multiple=True, help="Column of --table that was embedded; may be repeated, in order."
)
@click.option("--template", help="Jinja template of what was embedded.")
@click.option(
    "--sql", help="Query whose rows the vectors belong to: first column the id, the others what was embedded."
)
@click.option("--prepend", default="", help="What was put before every text, e.g. 'passage: '.")
@click.option(
    "-n", "--similarities", type=click.IntRange(0, 1000), help="Related items kept for each item. Default: 10."
)
@click.option("--dry-run", is_flag=True, help="Say what would be taken over; change nothing.")
@prefix_option
@config_option
@says_errors
def import_(database: Path, config_path: Path | None, **given: Any) -> None:  # noqa: ANN401
    """Take over embeddings that another tool made, without computing or sending anything.

    Finds what openai-to-sqlite, datasette-embeddings and sqlite-vec left in DATABASE; other tables and files are named by
    options. Naming the rows and columns that were embedded lets `build` go on from here without embedding them again.

    \b
    datasette embeddings import til.db --table til --column title --column body
    datasette embeddings import docs.db --from vec_docs --model minilm --table docs --column text
    datasette embeddings import docs.db --vectors docs.npy --ids ids.txt --model minilm
    """
    from datasette_embeddings.importers import Request, take_over

    if given["table"] and given["sql"]:
        raise click.UsageError("Give either --table or --sql as the rows that the vectors belong to.")
    if given["columns"] and given["template"]:
        raise click.UsageError("Say what was embedded either by --column or by --template.")
    if given["vectors"] and given["place"]:
        raise click.UsageError("Give either --from or --vectors.")
    config = load_config(config_path, database)
    if not take_over(database, Request(**given), config, Console()):
        click.echo("Nothing to take over.")
