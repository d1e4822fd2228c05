"""The command that draws a map of a collection: project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from datasette_embeddings.cli.looking import DATABASE
from datasette_embeddings.cli.making import one_stage, say_configured
from datasette_embeddings.cli.output import Console, says_errors

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("database", type=DATABASE)
@click.argument("collection")
@click.option(
    "--method",
    type=click.Choice(["pca", "umap"]),
    help="How rows are placed. Default: as before, else pca; umap needs the extra `umap`.",
)
@click.option("--remove", is_flag=True, help="Remove the map.")
@says_errors
def project(database: Path, collection: str, method: str | None, remove: bool) -> None:
    """Draw the map of COLLECTION anew: two coordinates of every row, which builds then keep."""
    from datasette_embeddings.build import stage_alone

    if remove and method:
        raise click.UsageError("--remove and --method contradict each other.")
    with one_stage(database, collection) as (store, found):
        wanted = None if remove else method or found.projection or "pca"
        stage_alone(store, found, Console(), wanted=found.stages._replace(projection=wanted), anew="projection")
        say_configured(found, "projection", wanted)
        if wanted is None:
            click.echo(f"{collection}: no map")
            return
        sql = (
            f"select count(*), max(explained) from {store.tables.projections} p join {store.tables.embeddings_projections} e "
            "on e.collection_id = p.collection_id where p.collection_id = ?"
        )
        count, explained = store.conn.execute(sql, [found.id]).fetchone()
        click.echo(f"{collection}: {count:,} rows on a map by {wanted}{_explained(explained)}")


def _explained(shares: str | None) -> str:
    """Say how much of what sets rows apart a map by principal components shows."""
    import json

    return "" if shares is None else f", which shows {sum(json.loads(shares)):.0%} of what sets them apart"
