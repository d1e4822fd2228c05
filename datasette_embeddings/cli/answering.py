"""The command that answers: ask."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datasette_embeddings.cli.looking import DATABASE, config_option, load_config, opened
from datasette_embeddings.cli.output import says_errors
from datasette_embeddings.limits import CONTEXT_TOKENS, MAX_CONTEXT_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from datasette_embeddings.answers.citing import Sentence
    from datasette_embeddings.answers.passages import Passage
    from datasette_embeddings.answers.question import Question
    from datasette_embeddings.config import Config


@click.command()
@click.argument("database", type=DATABASE)
@click.argument("collection")
@click.argument("question")
@click.option("-m", "--model", help="Chat model that writes the answer; `chat_model` of the configuration by default.")
@click.option("-n", "--number", type=click.IntRange(min=1), help="At most so many excerpts; as many as fit by default.")
@click.option(
    "--tokens",
    type=click.IntRange(1, MAX_CONTEXT_TOKENS),
    default=CONTEXT_TOKENS,
    show_default=True,
    help="Tokens of all excerpts together.",
)
@click.option("--quote", is_flag=True, help="Answer with the rows' own sentences, whatever chat model is configured.")
@click.option("--context", is_flag=True, help="Print the excerpts alone, to be piped into another program.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@config_option
@says_errors
def ask(
    database: Path,
    collection: str,
    question: str,
    model: str | None,
    number: int | None,
    tokens: int,
    quote: bool,
    context: bool,
    as_json: bool,
    config_path: Path | None,
) -> None:
    """Answer QUESTION from the rows of COLLECTION, each sentence with the rows that it rests on.

    Without a chat model the answer is made of the rows' own sentences, and nothing leaves this machine.
    """
    from datasette_embeddings.answers import prompting
    from datasette_embeddings.answers.gathering import Wish, gather
    from datasette_embeddings.answers.question import question_of
    from datasette_embeddings.catalog import count_items
    from datasette_embeddings.embedder import Embedder
    from datasette_embeddings.errors import StoreError

    if not re.search(r"\w", question):
        raise click.UsageError("Ask something: QUESTION has no word.")
    if (context and as_json) or (quote and model):
        raise click.UsageError("--context and --json, and --quote and --model, contradict each other.")
    config = load_config(config_path, database)
    with opened(database, collection) as (conn, tables, found):
        if not count_items(conn, found, tables):
            raise StoreError(f"nothing of {collection!r} is embedded, so it has no answers; `status` says why")
        asked = question_of(Embedder(config.default_model, config.models), found, question)
        passages = gather(conn, tables, found, asked, Wish(tokens, number))
    name = None if quote or context else model or config.chat_model
    if context:
        click.echo(prompting.context(passages))
    elif as_json:
        _print_json(asked, passages, name, config)
    else:
        _print_text(asked, passages, name, config)


def _answered(asked: Question, passages: Sequence[Passage], name: str | None, config: Config) -> Iterator[Sentence]:
    """Yield the sentences of the answer; no chat model is asked where nothing could hold one."""
    from datasette_embeddings.answers.prompting import prompt
    from datasette_embeddings.answers.quoting import quote_from

    if name is None or not passages:
        yield from quote_from(asked, passages)
        return
    from datasette_embeddings.answers.citing import cite
    from datasette_embeddings.chat import get_chat
    from datasette_embeddings.limits import ANSWER_TOKENS

    chat = get_chat(name, config.models)
    yield from cite(chat.answer(*prompt(asked.text, passages), ANSWER_TOKENS), len(passages))


def _until_cut(sentences: Iterable[Sentence], notices: list[str]) -> Iterator[Sentence]:
    """Yield the sentences of an answer; where it is cut short, say why in *notices*."""
    from datasette_embeddings.errors import CutShort

    try:
        yield from sentences
    except CutShort as cut:
        notices.append(str(cut))


def _print_text(asked: Question, passages: Sequence[Passage], name: str | None, config: Config) -> None:
    notices: list[str] = []
    given = []
    for sentence in _until_cut(_answered(asked, passages, name, config), notices):
        click.echo(sentence.gap + _shown(sentence), nl=False)
        given.append(sentence)
    click.echo()
    cited = {number for sentence in given for number in sentence.citations}
    if cited:
        click.echo("\nSources:")
    for passage in passages:
        if passage.number in cited:
            click.echo(f"[{passage.number}] {passage.item}  {passage.place}  {passage.score:.3f}")
    for notice in notices:
        click.echo(f"The answer is not whole: {notice}", err=True)
    removed = sum(sentence.removed for sentence in given)
    if removed:
        click.echo(f"Numbers removed, as they name no excerpt: {removed}.", err=True)


def _shown(sentence: Sentence) -> str:
    if not sentence.supported:
        return f"{sentence.text} (no source)"
    text = f"“{sentence.text}”" if sentence.quoted else sentence.text
    return " ".join([text, "".join(f"[{number}]" for number in sentence.citations)]).rstrip()


def _print_json(asked: Question, passages: Sequence[Passage], name: str | None, config: Config) -> None:
    import json

    from datasette_embeddings.answers.citing import answer_dict

    notices: list[str] = []
    given = list(_until_cut(_answered(asked, passages, name, config), notices))
    body: dict[str, Any] = answer_dict(given, passages, name if passages else None, " ".join(notices))
    click.echo(json.dumps({"q": asked.text, **body}, indent=2, ensure_ascii=False))
