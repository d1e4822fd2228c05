"""Commands that read: search, similar, embed-text, collections, status, models."""

from __future__ import annotations

from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datasette_embeddings.cli.output import emit, format_options, says_errors

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.config import Config
    from datasette_embeddings.search import Hit
    from datasette_embeddings.tables import Tables

DATABASE = click.Path(path_type=Path)
config_option = click.option(
    "-c",
    "--config",
    "config_path",
    type=DATABASE,
    help="Configuration file; metadata.yml beside the database by default.",
)


def load_config(config_path: Path | None, database: Path) -> Config:
    """Return the configuration that belongs to a database file or a directory."""
    from datasette_embeddings.config import load

    return load(config_path, database if database.is_dir() else database.parent)


@contextmanager
def opened(database: Path, name: str) -> Iterator[tuple[sqlite3.Connection, Tables, Collection]]:
    """Open a database for reading and find one of its collections."""
    from datasette_embeddings.catalog import find_collection
    from datasette_embeddings.database import connect, translated
    from datasette_embeddings.tables import find_tables

    with closing(connect(database)) as conn, translated(database):
        tables = find_tables(conn)
        collection = find_collection(conn, name, tables)
        assert tables is not None
        yield conn, tables, collection


def results(
    conn: sqlite3.Connection, tables: Tables, collection: Collection, hits: Sequence[Hit]
) -> list[dict[str, Any]]:
    """Return hits with a line of each row's text, or of the chunk that was found."""
    from datasette_embeddings.chunks import parts_of
    from datasette_embeddings.rows import excerpts, shorten

    texts = excerpts(conn, tables, collection, [hit.id for hit in hits])
    parts = parts_of(conn, tables, collection, [hit.chunk for hit in hits if hit.chunk])
    shown = []
    for hit in hits:
        part = parts.get(hit.chunk or "")
        text = shorten(part.text) if part and part.text else texts[hit.id]
        shown.append(
            {
                "score": hit.score,
                "id": hit.id,
                **({"heading": part.heading} if part and part.text else {}),
                "text": text,
            }
        )
    return shown


@click.command()
@click.argument("database", type=DATABASE)
@click.argument("collection")
@click.argument("text")
@click.option("-n", "--number", type=click.IntRange(min=0), default=10, show_default=True, help="How many results.")
@click.option("--hybrid", is_flag=True, help="By the words of TEXT and its meaning together, as pages search.")
@config_option
@format_options
@says_errors
def search(
    database: Path, collection: str, text: str, number: int, hybrid: bool, config_path: Path | None, form: str
) -> None:
    """Find the items of COLLECTION whose meaning is nearest to TEXT."""
    from datasette_embeddings.embedder import Embedder
    from datasette_embeddings.search import hybrid_items, nearest_items

    config = load_config(config_path, database)
    with opened(database, collection) as (conn, tables, found):
        vector = Embedder(config.default_model, config.models).query(found, text)
        if hybrid:
            hits = hybrid_items(conn, tables, found, vector, text, number)
        else:
            hits = nearest_items(conn, tables, found, vector, number) if vector else []
        emit(results(conn, tables, found, hits), form)


@click.command()
@click.argument("database", type=DATABASE)
@click.argument("collection")
@click.argument("item", metavar="ID")
@click.option("-n", "--number", type=click.IntRange(min=0), default=10, show_default=True, help="How many results.")
@format_options
@says_errors
def similar(database: Path, collection: str, item: str, number: int, form: str) -> None:
    """Find the items of COLLECTION nearest in meaning to the one with this ID."""
    from datasette_embeddings.catalog import item_vector
    from datasette_embeddings.errors import SourceError
    from datasette_embeddings.search import nearest_items, related_items

    with opened(database, collection) as (conn, tables, found):
        vector = item_vector(conn, found, item, tables)
        if vector is None:
            raise SourceError(f"the collection {collection!r} has no item {item!r}; ids are as in the source's key")
        hits = related_items(conn, tables, found, item, number)
        if not hits:  # the error says what is wrong with its vector
            nearest_items(conn, tables, found, vector, number)
        emit(results(conn, tables, found, hits), form)


@click.command("embed-text")
@click.option("-m", "--model", default="static", show_default=True, help="Model name, see `models`.")
@click.option(
    "--purpose",
    type=click.Choice(["document", "query"]),
    default="document",
    show_default=True,
    help="What TEXT is to the model; some embed the two differently.",
)
@click.argument("text")
@config_option
@says_errors
def embed_text(model: str, purpose: Any, text: str, config_path: Path | None) -> None:  # noqa: ANN401
    """Print the vector of TEXT as a JSON array; nothing is stored."""
    from datasette_embeddings.errors import ModelError
    from datasette_embeddings.models import get_model
    from datasette_embeddings.vectors import encode, to_json

    if not text.strip():
        raise ModelError("an empty text has no embedding; give some words")
    config = load_config(config_path, Path.cwd())
    click.echo(to_json(encode(get_model(model, config.models).embed_one(text, purpose))))


@click.command()
@click.argument("database", type=DATABASE)
@format_options
@says_errors
def collections(database: Path, form: str) -> None:
    """List the collections of DATABASE."""
    from datasette_embeddings import catalog
    from datasette_embeddings.database import connect, translated
    from datasette_embeddings.tables import find_tables

    with closing(connect(database)) as conn, translated(database):
        tables = find_tables(conn)
        rows = [
            {
                "name": c.name,
                "model": c.model,
                "items": catalog.count_embedded(conn, c, tables),
                "built": c.built,
                "prefixes": c.prefixes.words or None,
            }
            for c in catalog.collections(conn, tables)
            if tables
        ]
    emit(rows, form)


@click.command()
@click.argument("database", type=DATABASE)
@format_options
@says_errors
def status(database: Path, form: str) -> None:
    """Show the state of each collection of DATABASE: counts that add up, and what is not as it should be."""
    from datasette_embeddings import state
    from datasette_embeddings.database import connect, translated

    with closing(connect(database)) as conn, translated(database):
        report = state.report(conn, database)
    if form:
        emit([entry.as_dict() for entry in report.collections], form)
        return
    for line in report.lines():
        click.echo(line)


@click.command()
@click.argument("database", type=DATABASE)
@says_errors
def verify(database: Path) -> None:
    """Look whether all that builds made in DATABASE is whole and true; exit 1, naming what is not.

    Changes nothing. Rows of the sources are not read: whether these have changed is what `status` and `build --dry-run` tell.
    """
    from datasette_embeddings.catalog import collections as collections_of
    from datasette_embeddings.database import connect, snapshot, translated
    from datasette_embeddings.verification import broken

    with closing(connect(database)) as conn, translated(database), snapshot(conn):
        found = list(broken(conn))
        count = len(collections_of(conn))
    for line in found:
        click.echo(line)
    if found:
        raise SystemExit(1)
    click.echo(f"{database.name}: {count:,} {'collection' if count == 1 else 'collections'}, all as it should be")


@click.group(invoke_without_command=True)
@format_options
@click.pass_context
def models(context: click.Context, form: str) -> None:
    """Show the models: what each is made for, and whether it can be used here."""
    if context.invoked_subcommand:
        return
    from datasette_embeddings.models import available

    emit([entry._asdict() for entry in available()], form)


@models.command()
@click.argument("name")
@says_errors
def install(name: str) -> None:
    """Download the weights of a model (minilm), check them and keep them in the user's cache folder."""
    from datasette_embeddings.errors import ModelError

    if name != "minilm":
        raise ModelError(f"only minilm has weights to install; {name!r} loads its own")
    from datasette_embeddings.models import minilm

    click.echo(f"minilm is installed in {minilm.install()}")
