"""The command that groups a collection: clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from datasette_embeddings.cli.looking import DATABASE, config_option, load_config
from datasette_embeddings.cli.making import one_stage, say_configured, yes_option
from datasette_embeddings.cli.output import Console, says_errors
from datasette_embeddings.limits import MAX_CLUSTERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from datasette_embeddings.chat import ChatModel
    from datasette_embeddings.config import Config
    from datasette_embeddings.derived import Title


def as_number(_: click.Context, __: click.Parameter, value: str) -> str:
    """Return how many clusters are wanted; raises click.BadParameter for what is neither a number nor auto."""
    if value == "auto" or (value.isdecimal() and int(value) <= MAX_CLUSTERS):
        return value
    raise click.BadParameter(f"auto, or a number from 0 to {MAX_CLUSTERS:,}, was expected; found {value!r}")


@click.command()
@click.argument("database", type=DATABASE)
@click.argument("collection")
@click.argument("number", callback=as_number, metavar="N")
@click.option(
    "--summarize", metavar="MODEL", help="Give each cluster a title by this chat model: openai/NAME or llm/NAME."
)
@yes_option
@config_option
@says_errors
def clusters(
    database: Path, collection: str, number: str, summarize: str | None, yes: bool, config_path: Path | None
) -> None:
    """Group the rows of COLLECTION anew into N clusters, which builds then keep; N is a number or auto, and 0 removes them."""
    from datasette_embeddings.build import stage_alone

    console = Console(yes=yes)
    with one_stage(database, collection) as (store, found):
        wanted = None if number == "0" else number
        title = _title(summarize, load_config(config_path, database), collection, console) if summarize else None
        stages = found.stages._replace(clusters=wanted)
        stage_alone(store, found, console, wanted=stages, anew="clusters", title=title)
        say_configured(found, "clusters", wanted)
        sql = f"select count(*) from {store.tables.clusters} where collection_id = ?"
        click.echo(f"{collection}: {store.conn.execute(sql, [found.id]).fetchone()[0]:,} clusters")


def _title(name: str, config: Config, collection: str, console: Console) -> Title:
    """Return what gives clusters their titles; asks before texts go to another machine."""
    from datasette_embeddings.chat import get_chat
    from datasette_embeddings.derived import Title
    from datasette_embeddings.titles import title_of

    chat: ChatModel = get_chat(name, config.models)
    if chat.remote:
        console.confirm(
            f"{collection}: send the beginnings of some texts of each cluster to {name}, for titles?",
            "texts would leave this machine: add --yes to agree, or choose a local model",
        )

    def titled(texts: Sequence[str]) -> str | None:
        return title_of(chat, texts, console.line)

    return Title(name, titled)
