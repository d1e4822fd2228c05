"""Commands that write: add, build, embed, similarities, delete."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from datasette_embeddings.cli.looking import DATABASE, config_option, load_config, opened
from datasette_embeddings.cli.output import Console, says_errors
from datasette_embeddings.limits import MIN_CHUNK_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.config import CollectionConfig, Config
    from datasette_embeddings.sources import Source
    from datasette_embeddings.spec import Spec
    from datasette_embeddings.store import Store

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be done and what it would cost; change nothing."
)
yes_option = click.option("--yes", is_flag=True, help="Agree to sending texts to a remote model.")
max_cost_option = click.option(
    "--max-cost", type=click.FloatRange(min=0), help="Stop before spending more US dollars than this."
)
prefix_option = click.option(
    "--table-prefix", default="", help="Put this before the names of all tables that are made."
)

folder_option = click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False),
    help="Folder that paths of pictures are below; a path that leads out of it is refused.",
)

CHUNK_OPTIONS = (
    click.option(
        "--chunk/--no-chunk",
        default=None,
        help="Embed long texts in chunks, cut where their headings and paragraphs are; searches find rows by their best chunk.",
    ),
    click.option(
        "--chunk-tokens",
        type=click.IntRange(min=MIN_CHUNK_TOKENS),
        metavar="N",
        help="The most tokens of one chunk. Default: what suits the model.",
    ),
)


def chunk_options(command: Any) -> Any:  # noqa: ANN401
    """Add the options that say whether rows are embedded in chunks."""
    for option in reversed(CHUNK_OPTIONS):
        command = option(command)
    return command


def _chunk(wanted: bool | None, tokens: int | None, before: int | None = None) -> int | None:
    """Return what the chunk options mean: tokens of one chunk, 0 for what suits the model, None for whole rows."""
    if wanted is False and tokens:
        raise click.UsageError("--no-chunk and --chunk-tokens contradict each other.")
    if wanted is None and not tokens:
        return before
    return (tokens or 0) if wanted is not False else None


@click.command()
@click.argument("database", type=DATABASE)
@click.argument("table")
@click.option(
    "--column", "columns", multiple=True, help="Column to embed; several are joined. Default: the table's text columns."
)
@click.option(
    "--image", metavar="COLUMN", help="Embed the pictures in this column, BLOBs or paths of files below --folder."
)
@folder_option
@click.option("--key", multiple=True, help="Key column of TABLE; may be repeated. Default: its primary key.")
@click.option("-m", "--model", help="Model name, see `models`. Default: the configuration's, else static.")
@click.option(
    "-n",
    "--similarities",
    type=click.IntRange(0, 1000),
    help="Related rows kept for each row. Default: 10, or as before.",
)
@click.option("--name", help="Name of the collection. Default: the table's.")
@chunk_options
@dry_run_option
@yes_option
@max_cost_option
@prefix_option
@says_errors
def add(
    database: Path,
    table: str,
    columns: tuple[str, ...],
    image: str | None,
    folder: str | None,
    key: tuple[str, ...],
    model: str | None,
    similarities: int | None,
    name: str | None,
    chunk: bool | None,
    chunk_tokens: int | None,
    dry_run: bool,
    yes: bool,
    max_cost: float | None,
    table_prefix: str,
) -> None:
    """Embed TABLE of DATABASE with everything chosen for you, and print the configuration to keep."""
    from dataclasses import replace

    from datasette_embeddings.build import build as run_build
    from datasette_embeddings.catalog import Stages
    from datasette_embeddings.database import connect
    from datasette_embeddings.models import built_in
    from datasette_embeddings.planning import Options
    from datasette_embeddings.propose import propose
    from datasette_embeddings.spec import spec_of

    if image and columns:
        raise click.UsageError("A collection is of texts (--column) or of pictures (--image), not of both.")
    if folder and not image:
        raise click.UsageError("--folder is for pictures: name the column of their paths by --image.")
    if image and (chunk or chunk_tokens):
        raise click.UsageError("--chunk is for texts; it means nothing with --image.")
    config = load_config(None, database)
    if table_prefix:
        config = replace(config, table_prefix=table_prefix)
    with closing(connect(database)) as conn:
        proposed = propose(conn, table, columns, key, image)
    name = name or proposed.name
    before = _existing(database, name)
    _refuse_other_sort(before, image is not None, "--name NAME")
    stages = before.stages if before else Stages("auto", "pca")
    cut = _chunk(chunk, chunk_tokens, before.chunk if before else None)
    k = similarities if similarities is not None else ((before.similarities or 0) if before else proposed.similarities)
    model = model or (before.model if before else None)
    proposed = replace(proposed, name=name, model=model, similarities=k, chunk=cut, **stages._asdict())
    proposed = replace(proposed, images=_folder(database, folder, before, image))
    what = proposed.image or ", ".join(proposed.columns)
    click.echo(f"Embedding {what} of {proposed.table} with {config.model_of(proposed)}.")
    spec = replace(spec_of(proposed, config), owner="add")
    options = Options(dry_run=dry_run, max_cost=max_cost)
    run_build(database, [spec], config, Options(dry_run=True), Console(yes=yes))
    if dry_run or not run_build(database, [spec], config, options, Console(yes=yes)):
        return
    click.echo(
        f"\nTo keep it in a configuration (metadata.yml), where `datasette embeddings build` finds it:\n\n{_yaml(proposed, config, database)}"
    )
    serve = (
        "" if built_in(config.model_of(proposed)) else " -m metadata.yml  # a site loads no model that it does not name"
    )
    click.echo(f'Now: datasette {database}{serve}\n     datasette embeddings search {database} {proposed.name} "..."')
    if proposed.image:
        click.echo(f"The finder is at /-/embeddings/{database.stem}/{proposed.name}/images")


def _folder(database: Path, folder: str | None, before: Collection | None, image: str | None) -> str | None:
    """Return the folder of pictures by the way to it from where the database is, from where a configuration names it too.

    Where none is named, it is that of *before*, if that had the same column: without it, all pictures would be lost.
    """
    if folder is not None:
        return os.path.relpath(os.path.realpath(folder), database.resolve().parent)
    source = (before.source if before else None) or {}
    return source.get("folder") if image and source.get("image") == image else None


def _yaml(proposed: Any, config: Config, database: Path) -> str:  # noqa: ANN401
    import yaml

    block = {
        "database": database.stem,
        "table": proposed.table,
        **({"image": proposed.image} if proposed.image else {"columns": list(proposed.columns)}),
        **({"images": proposed.images} if proposed.images else {}),
        **({"key": list(proposed.key)} if proposed.key else {}),
        "model": config.model_of(proposed),
        "similarities": proposed.similarities,
        **({"chunk": proposed.chunk or True} if proposed.chunk is not None else {}),
        **_stages(proposed),
    }
    return str(
        yaml.safe_dump({"plugins": {"datasette-embeddings": {"collections": {proposed.name: block}}}}, sort_keys=False)
    )


def _stages(proposed: CollectionConfig) -> dict[str, Any]:
    """Return what is derived beside similarities as a configuration says it."""
    import json

    clusters, projection, labels = proposed.clusters, proposed.projection, proposed.labels
    said = {
        "clusters": int(clusters) if clusters and clusters.isdecimal() else clusters,
        "projection": projection,
        "labels": json.loads(labels) if labels else None,
    }
    return {name: value for name, value in said.items() if value is not None}


@click.command()
@click.argument("paths", nargs=-1, type=DATABASE, metavar="[PATH]...")
@config_option
@click.option("--only", multiple=True, metavar="NAME", help="Build this collection only; may be repeated.")
@click.option("--rebuild", is_flag=True, help="Embed every row anew, beside what is there, then swap.")
@click.option(
    "--reuse", type=DATABASE, metavar="OLD.db", help="Copy vectors of the same model and text from an earlier file."
)
@dry_run_option
@yes_option
@max_cost_option
@click.option("--keep-wal", is_flag=True, help="Leave a write-ahead log in use; by default the file ends as one file.")
@says_errors
def build(
    paths: tuple[Path, ...],
    config_path: Path | None,
    only: tuple[str, ...],
    rebuild: bool,
    reuse: Path | None,
    dry_run: bool,
    yes: bool,
    max_cost: float | None,
    keep_wal: bool,
) -> None:
    """Bring every collection up to date with its rows: embed what is new, remove what is gone, then similarities.

    PATH is a database or a directory, which means its databases and its metadata.yml; the current one by default.
    """
    from datasette_embeddings.build import build as run_build
    from datasette_embeddings.planning import Options

    options = Options(dry_run, rebuild, reuse, max_cost, keep_wal)
    work = False
    for database, specs, config in _builds(paths or (Path(),), config_path, only):
        work = run_build(database, specs, config, options, Console(yes=yes)) or work
    if not work:
        click.echo("Nothing changed.")


def _builds(
    paths: tuple[Path, ...], config_path: Path | None, only: tuple[str, ...]
) -> list[tuple[Path, list[Spec], Config]]:
    """Return (database, what to build in it, configuration), checking first that every name is known."""
    from datasette_embeddings.config import databases_in
    from datasette_embeddings.errors import ConfigError, nearest

    found: list[tuple[Path, list[Spec], Config]] = []
    known: set[str] = set()
    for path in paths:
        config = load_config(config_path, path)
        databases = databases_in(path) if path.is_dir() else [path]
        _check_databases(config, databases, path)
        for database in databases:
            specs = _specs(database, config)
            for line in () if only else _orphans(database, config):
                click.echo(line)
            known |= {spec.name for spec in specs}
            chosen = [spec for spec in specs if not only or spec.name in only]
            if chosen:
                found.append((database, chosen, config))
    for name in only:
        if name not in known:
            raise ConfigError(f"there is no collection {name!r} to build; {nearest(name, known)}")
    if not found:
        raise ConfigError(
            f"nothing to build in {', '.join(str(path) for path in paths)}: no collection is configured in metadata.yml "
            "and none was made by `datasette embeddings add DB TABLE`, which is the way to start"
        )
    return found


def _check_databases(config: Config, databases: list[Path], path: Path) -> None:
    """Raise ConfigError for a collection whose database is not in the directory being built."""
    from datasette_embeddings.errors import ConfigError, nearest

    stems = {database.stem for database in databases}
    for collection in config.collections.values():
        if path.is_dir() and collection.database and collection.database not in stems:
            raise ConfigError(
                f"{config.place}: collections.{collection.name}: there is no database {collection.database!r} in {path}; "
                f"{nearest(collection.database, stems)}"
            )
        if not collection.database and len(databases) > 1:
            raise ConfigError(
                f"{config.place}: collections.{collection.name}: say which `database` it is in; there are {', '.join(sorted(stems))}"
            )


def _specs(database: Path, config: Config) -> list[Spec]:
    from datasette_embeddings import catalog
    from datasette_embeddings.database import connect, translated
    from datasette_embeddings.spec import recorded_spec, spec_of

    configured = [spec_of(c, config) for c in config.for_database(database.stem)]
    with closing(connect(database)) as conn, translated(database):
        recorded = [recorded_spec(c) for c in catalog.collections(conn)]
    names = {spec.name for spec in configured}
    return configured + [spec for spec in recorded if spec and spec.name not in names]


def _orphans(database: Path, config: Config) -> list[str]:
    """Say which collections a build leaves as they are, though what they were made from is no more."""
    from datasette_embeddings import catalog
    from datasette_embeddings.database import connect, table_names, translated

    named = {collection.name for collection in config.for_database(database.stem)}
    found = []
    with closing(connect(database)) as conn, translated(database):
        tables = table_names(conn)
        for held in catalog.collections(conn):
            if held.owner == "config" and held.name not in named:
                reason = f"it was built from a configuration, but the {config.place} in use does not name it"
            elif held.table and held.table not in tables:
                reason = f"its table {held.table!r} is gone"
            else:
                continue
            removal = f"datasette embeddings delete {shlex.quote(str(database))} {shlex.quote(held.name)}"
            found.append(f"{held.name}: {reason}; what it holds stays until `{removal}`")
    return found


@click.command()
@click.argument("database", type=DATABASE)
@click.argument("collection")
@click.argument("file", required=False, type=click.Path(allow_dash=True))
@click.option("--sql", help="Rows by a query: first column the id, the others are embedded.")
@click.option("--attach", nargs=2, multiple=True, metavar="ALIAS FILE", help="Attach a database for --sql.")
@click.option("--table", help="Rows of this table.")
@click.option("--column", "columns", multiple=True, help="Column of --table to embed; may be repeated.")
@click.option("--key", multiple=True, help="Key column of --table; may be repeated. Default: its primary key.")
@click.option("--files", nargs=2, multiple=True, metavar="DIR GLOB", help="Files below a folder; the id is the path.")
@click.option("--images", is_flag=True, help="The files, or the values of --column, are pictures.")
@folder_option
@click.option(
    "--encoding", "encodings", multiple=True, help="Encoding to try first, of FILE or --files; UTF-8 by default."
)
@click.option(
    "--format", "form", type=click.Choice(["json", "csv", "tsv", "nl"]), help="Format of FILE; found out by default."
)
@click.option("--template", help="Jinja template over the columns: what is embedded. Not for --files.")
@click.option("-m", "--model", help="Model name, see `models`. Default: the collection's, else static.")
@click.option("--prefix", "id_prefix", default="", help="Put this before every id. Not for --table.")
@click.option(
    "--prepend",
    help="Put this before every text, e.g. 'passage: '; '' for nothing. Default: what the model asks for, if anything.",
)
@click.option("--prepend-query", help="Put this before every query, e.g. 'query: '. Default: what the model asks for.")
@click.option(
    "--store/--no-store", default=None, help="Keep the text in the database. Default: yes, but not for --table."
)
@chunk_options
@click.option("--metadata", is_flag=True, help="Keep the other columns as JSON, for FILE and --sql.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Texts sent to the model at once, at most.")
@click.option("--delete-missing", is_flag=True, help="Remove items that this source does not have.")
@click.option(
    "--rebuild",
    is_flag=True,
    help="Embed every row of this source anew, beside what is there, then swap.",
)
@click.option(
    "-n",
    "--similarities",
    type=click.IntRange(0, 1000),
    help="Related items kept for each item. Default: 10, or as before.",
)
@dry_run_option
@yes_option
@max_cost_option
@prefix_option
@config_option
@says_errors
def embed(database: Path, collection: str, **given: Any) -> None:  # noqa: ANN401
    """Embed rows of a query, a table, files or a pipe into COLLECTION of DATABASE, which is made if need be.

    \b
    symbex '*' '*:*' --nl | datasette embeddings embed code.db functions -
    datasette embeddings embed docs.db docs --files docs '**/*.md'
    datasette embeddings embed til.db til --sql 'select path, title, body from til'
    """
    from dataclasses import replace

    from datasette_embeddings.build import build as run_build
    from datasette_embeddings.planning import Options

    config = load_config(given["config_path"], database)
    if given["table_prefix"]:
        config = replace(config, table_prefix=given["table_prefix"])
    if collection in config.collections and config.collections[collection].database in {None, database.stem}:
        from datasette_embeddings.errors import ConfigError

        raise ConfigError(
            f"the collection {collection!r} is configured in {config.place}; change it there and run `datasette embeddings build`"
        )
    kind = _source_kind(given)
    with _file_for(database, given) as path:
        spec = _embed_spec(path, collection, config, given, kind)
        options = Options(given["dry_run"], given["rebuild"], None, given["max_cost"], batch_size=given["batch_size"])
        if not run_build(path, [spec], config, options, Console(yes=given["yes"])) and not given["dry_run"]:
            click.echo("Nothing changed.")


@contextmanager
def _file_for(database: Path, given: dict[str, Any]) -> Iterator[Path]:
    """Give the database file; one that is not there is made, for a dry run elsewhere, and goes if nothing came into it."""
    from datasette_embeddings.errors import StoreError

    if database.exists():
        yield database
    elif given["table"] or (given["sql"] and not given["attach"]):
        raise StoreError(f"there is no file {database}; check the path")
    elif given["dry_run"]:
        with TemporaryDirectory() as folder:
            yield _made(Path(folder) / database.name)
    else:
        try:
            yield _made(database)
        finally:
            if database.exists() and not database.stat().st_size:
                database.unlink()


def _made(database: Path) -> Path:
    from datasette_embeddings.database import connect

    connect(database, readonly=False, create=True).close()
    return database


def _embed_spec(database: Path, name: str, config: Config, given: dict[str, Any], kind: str) -> Spec:
    from datasette_embeddings.catalog import QUERYABLE, Stages
    from datasette_embeddings.config import Prefix
    from datasette_embeddings.errors import ConfigError
    from datasette_embeddings.sources import PARAGRAPH
    from datasette_embeddings.spec import Spec

    if not QUERYABLE.match(name):
        raise ConfigError(f"a collection's name is made of letters, digits and _; found {name!r}")
    before = _existing(database, name)
    _refuse_other_sort(before, given["images"], "another name")
    store = given["store"] if given["store"] is not None else not (given["table"] or given["images"])
    k = given["similarities"] if given["similarities"] is not None else (before.similarities or 10 if before else 10)
    chunk = _chunk(given["chunk"], given["chunk_tokens"], before.chunk if before else None)
    image = given["columns"][0] if _pictured(given) else None
    return Spec(
        name,
        _source(
            {**given, "folder": _folder(database, given["folder"], before, image)},
            kind,
            " " if chunk is None else PARAGRAPH,
        ),
        given["model"] or (before.model if before else config.default_model),
        "embed",
        Prefix.of(given["prepend"], given["prepend_query"]),
        f"image {image}" if image else given["template"] or " ".join(given["columns"]),
        k,
        store,
        bool(given["table"] or given["delete_missing"]),
        chunk,
        before.stages if before else Stages(),
        given["images"],
    )


def _refuse_other_sort(before: Collection | None, images: bool, way: str) -> None:
    """Raise ConfigError where a collection of texts would become one of pictures, or the reverse, by one option more or less."""
    from datasette_embeddings.errors import ConfigError

    if before is None or before.owner == "llm" or before.images == images:
        return
    held, wanted = ("pictures", "texts") if before.images else ("texts", "pictures")
    again = "say --image (--images of `embed`) again, or " if before.images else ""
    raise ConfigError(
        f"the collection {before.name!r} holds {held}, and {wanted} would take their place; {again}give {way} to those, or delete it first"
    )


def _pictured(given: dict[str, Any]) -> bool:
    """Tell whether the pictures of a column of a table are wanted."""
    return bool(given["images"] and given["table"])


def _existing(database: Path, name: str) -> Any:  # noqa: ANN401
    from datasette_embeddings import catalog
    from datasette_embeddings.database import connect

    with closing(connect(database)) as conn:
        return next((c for c in catalog.collections(conn) if c.name == name), None)


SOURCES = {"file": "FILE", "sql": "--sql", "table": "--table", "files": "--files"}

ONLY_FOR = {
    "attach": ("--attach", {"sql"}),
    "columns": ("--column", {"table"}),
    "key": ("--key", {"table"}),
    "encodings": ("--encoding", {"file", "files"}),
    "form": ("--format", {"file"}),
    "template": ("--template", {"file", "sql", "table"}),
    "id_prefix": ("--prefix", {"file", "sql", "files"}),
    "metadata": ("--metadata", {"file", "sql"}),
    "images": ("--images", {"table", "files"}),
    "folder": ("--folder", {"table"}),
}
"""Options of `embed` that mean nothing to some sources, and the sources that they are for."""


def _source_kind(given: dict[str, Any]) -> str:
    """Return which one source the options name; raises click.UsageError for an option that would be of no effect."""
    named = [kind for kind in SOURCES if given[kind]]
    if len(named) != 1:
        raise click.UsageError("Give one source of rows: FILE (or - for a pipe), --sql, --table or --files.")
    for name, (option, kinds) in ONLY_FOR.items():
        if given[name] and named[0] not in kinds:
            fitting = " or ".join(label for kind, label in SOURCES.items() if kind in kinds)
            raise click.UsageError(f"{option} is for {fitting}; it means nothing for {SOURCES[named[0]]}.")
    if given["table"] and not given["columns"] and not given["template"]:
        raise click.UsageError("Say what of the table is embedded: --column, may be repeated, or --template.")
    _check_images(given)
    return named[0]


def _check_images(given: dict[str, Any]) -> None:
    """Raise click.UsageError for options that mean nothing for pictures, or nothing without them."""
    if given["folder"] and not given["images"]:
        raise click.UsageError("--folder is for pictures: add --images.")
    if not given["images"]:
        return
    for name in ("prepend", "template", "encodings", "chunk", "chunk_tokens"):
        if given[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} is for texts; it means nothing with --images.")
    if given["table"] and len(given["columns"]) != 1:
        raise click.UsageError("Name the one column that holds the pictures, or their paths, by --column.")


def _source(given: dict[str, Any], kind: str, separator: str) -> Source:
    """Return the source that the options name. *separator*: what stands between the fields of a row."""
    from datasette_embeddings.sources import FileSource, QuerySource, RecordSource, TableSource, read_records

    prepend, template = given["prepend"] or "", given["template"]
    if _pictured(given):
        return TableSource(given["table"], key=given["key"], image=given["columns"][0], folder=given["folder"])
    if kind == "table":
        return TableSource(
            given["table"], given["columns"], template, given["key"], prepend=prepend, separator=separator
        )
    if kind == "files":
        folders = tuple((Path(folder), glob) for folder, glob in given["files"])
        return FileSource(folders, given["encodings"], prepend, given["id_prefix"], given["images"])
    if kind == "sql":
        return QuerySource(
            given["sql"], template, given["attach"], prepend, given["id_prefix"], given["metadata"], separator
        )
    stream, label = stream_of(given["file"])
    records = read_records(stream, label, given["form"], next(iter(given["encodings"]), None))
    return RecordSource(records, label, template, prepend, given["id_prefix"], given["metadata"], separator)


def stream_of(name: str) -> tuple[Any, str]:
    """Return a file opened for reading bytes, or standard input for `-`, and what to call it."""
    from datasette_embeddings.errors import SourceError

    if name == "-":
        return sys.stdin.buffer, "standard input"
    try:
        return Path(name).open("rb"), Path(name).name
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {error.strerror}") from error


@click.command()
@click.argument("database", type=DATABASE)
@click.argument("collection")
@click.option(
    "-n",
    "--number",
    type=click.IntRange(0, 1000),
    default=10,
    show_default=True,
    help="Related items kept for each item; 0 removes them.",
)
@says_errors
def similarities(database: Path, collection: str, number: int) -> None:
    """Compute the stored similarities of COLLECTION, also of one that `llm` made."""
    with one_stage(database, collection) as (store, found):
        from datasette_embeddings.build import stage_alone

        stage_alone(store, found, Console(), k=number)
        sql = f"select count(*) from {store.tables.similarities} where collection_id = ?"
        click.echo(f"{collection}: {store.conn.execute(sql, [found.id]).fetchone()[0]:,} similarities")


@contextmanager
def one_stage(database: Path, name: str) -> Iterator[tuple[Store, Collection]]:
    """Open a database to derive one thing anew of one of its collections; an unknown name is said before anything is written."""
    from datasette_embeddings.catalog import find_collection
    from datasette_embeddings.store import Store

    with opened(database, name):
        pass
    with Store(database) as store, store.claim():
        yield store, find_collection(store.conn, name, store.tables)


def say_configured(before: Collection, key: str, wanted: str | None) -> None:
    """Say that the next build does what the configuration says, where that is something else."""
    if before.owner == "config" and getattr(before, key) != wanted:
        line = f"put `{key}: {wanted}` there" if wanted else f"take `{key}` out there"
        click.echo(f"{before.name} is configured in metadata.yml: {line}, or the next build undoes this")


@click.command()
@click.argument("database", type=DATABASE)
@click.argument("collection", required=False)
@click.option("--all", "everything", is_flag=True, help="Every collection and every table of ours.")
@says_errors
def delete(database: Path, collection: str | None, everything: bool) -> None:
    """Remove COLLECTION and all that was derived from it, or, with --all, everything that this tool made."""
    from datasette_embeddings.catalog import NEXT
    from datasette_embeddings.store import Store

    if bool(collection) == everything:
        raise click.UsageError("Give a COLLECTION, or --all.")
    names = _names(database) if collection is None else [collection]
    if collection:
        with opened(database, collection):
            pass
    elif names is None:
        click.echo("Nothing to delete.")
        return
    with Store(database) as store:
        with store.claim():
            for name in names or ():
                for found in (store.find(name), store.find(name + NEXT)):
                    if found:
                        store.delete(found)
                click.echo(f"{name}: removed")
        if everything:
            store.drop_tables()
        store.scrub()
        store.settle()


def _names(database: Path) -> list[str] | None:
    """Return the names of all collections that llm did not make, None where the file has none of our tables."""
    from datasette_embeddings import catalog
    from datasette_embeddings.database import connect, translated
    from datasette_embeddings.tables import find_tables

    with closing(connect(database)) as conn, translated(database):
        tables = find_tables(conn)
        found = catalog.collections(conn, tables) if tables else []
        return None if tables is None else [one.name for one in found if one.owner != "llm"]
