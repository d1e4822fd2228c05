"""The command group `datasette embeddings`, thin over the modules that do the work.

Only click is imported here; each command imports what it needs when it runs.
"""

from __future__ import annotations

import click

from datasette_embeddings.cli.answering import ask
from datasette_embeddings.cli.clustering import clusters
from datasette_embeddings.cli.evaluating import evaluate
from datasette_embeddings.cli.importing import import_
from datasette_embeddings.cli.looking import collections, embed_text, models, search, similar, status, verify
from datasette_embeddings.cli.making import add, build, delete, embed, similarities
from datasette_embeddings.cli.mapping import project


@click.group()
def embeddings() -> None:
    """Embed rows, files and pipes; keep them up to date; search them by meaning.

    \b
    Start with a table of your own:    datasette embeddings add news.db articles
    A whole site, from its metadata:   datasette embeddings build .
    Then:                              datasette embeddings search news.db articles "word or question"
    """


for command in (
    add,
    build,
    embed,
    embed_text,
    similarities,
    clusters,
    project,
    search,
    similar,
    ask,
    evaluate,
    collections,
    status,
    verify,
    models,
    delete,
    import_,
):
    embeddings.add_command(command)
