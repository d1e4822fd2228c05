"""The command that measures: evaluate."""

from __future__ import annotations

from pathlib import Path

import click

from datasette_embeddings.cli.looking import DATABASE, config_option, load_config, opened
from datasette_embeddings.cli.making import stream_of
from datasette_embeddings.cli.output import Console, says_errors


@click.command()
@click.argument("database", type=DATABASE)
@click.argument("collection")
@click.option(
    "--pairs",
    required=True,
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="CSV, TSV, JSON or NDJSON: a question and the id of the row that answers it; - for a pipe.",
)
@click.option(
    "-n",
    "--number",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="How many results count as found.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as a JSON object.")
@config_option
@says_errors
def evaluate(database: Path, collection: str, pairs: str, number: int, as_json: bool, config_path: Path | None) -> None:
    """Measure how well searches of COLLECTION answer your own questions: by words, by meaning, and by both together.

    FILE has the columns question and id, or these two first; several lines with the same question are several right
    answers. Printed are, with 95 percent intervals, MRR (the mean of 1 / the place of the first right answer) and recall (how
    many of the right answers were found), and the questions that were answered worst.
    """
    import json

    from datasette_embeddings.embedder import Embedder
    from datasette_embeddings.questions import evaluate as run
    from datasette_embeddings.questions import read_pairs

    config = load_config(config_path, database)
    stream, label = stream_of(pairs)
    with stream:
        asked = read_pairs(stream.read(), label, Path(pairs).suffix)
    with opened(database, collection) as (conn, tables, found):
        embedder = Embedder(config.default_model, config.models)
        with Console().progress("asking", len(asked.questions)) as advance:
            report = run(conn, tables, found, embedder, asked, number, advance)
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2, ensure_ascii=False))
        return
    for line in report.lines():
        click.echo(line)
