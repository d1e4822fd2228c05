"""How commands speak: progress, questions, results in several formats, and errors as one sentence."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PLAIN_SECONDS = 15.0
"""Where output is no terminal, progress is a line this often."""


def says_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn EmbeddingsError into one sentence on stderr and exit code 1; Ctrl-C says how to go on."""

    @wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        from datasette_embeddings.errors import EmbeddingsError

        try:
            return command(*arguments, **options)
        except EmbeddingsError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("\nStopped. What was committed is kept: run the same command to go on.", err=True)
            sys.exit(1)

    return wrapped


class Console:
    """Reports a build: what was done on stdout, progress and questions on stderr, as a bar only on a terminal."""

    def __init__(self, *, yes: bool = False) -> None:
        self.yes = yes

    def line(self, text: str) -> None:
        """Print one line."""
        click.echo(text)

    def confirm(self, question: str, otherwise: str) -> None:
        """Ask; without a terminal, or where the answer is no, raise ConfigError."""
        from datasette_embeddings.errors import ConfigError

        if self.yes:
            return
        if sys.stdin.isatty() and sys.stderr.isatty() and click.confirm(question, err=True):
            return
        raise ConfigError(f"{question} {otherwise}")

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar with rate and time left on a terminal, else a line now and then. Total 0: unknown."""
        if sys.stderr.isatty() and total:
            yield from self._bar(label, total)
        else:
            yield from self._lines(label, total)

    def _bar(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        started = time.monotonic()

        def rate(_: object) -> str:
            return f"{bar.pos / max(time.monotonic() - started, 1e-9):,.0f}/s"

        with click.progressbar(length=total, label=label, file=sys.stderr, show_pos=True, item_show_func=rate) as bar:
            yield lambda done: bar.update(done, current_item=done)

    def _lines(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        started = last = time.monotonic()
        finished = 0

        def advance(done: int) -> None:
            nonlocal last, finished
            finished += done
            now = time.monotonic()
            if now - last >= PLAIN_SECONDS:
                last = now
                rate = finished / (now - started)
                left = f", {(total - finished) / rate:,.0f} s left" if total and rate else ""
                amount = f" {finished:,} of {total:,} ({rate:,.0f}/s{left})" if total else f" {now - started:.0f} s"
                click.echo(f"{label}:{amount}", err=True)

        yield advance


def emit(rows: Sequence[Mapping[str, Any]], form: str) -> None:
    """Print results as text (score, id, excerpt), `json`, `nl` or `csv`."""
    import csv
    import json

    if form == "json":
        click.echo(json.dumps(list(rows), indent=2, ensure_ascii=False))
    elif form == "nl":
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(list(rows[0]) if rows else [])
        writer.writerows(list(row.values()) for row in rows)
    else:
        for row in rows:
            click.echo("  ".join(_cell(value) for value in row.values() if value is not None and value != ""))


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def format_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json, --nl and --csv."""
    for name, about in (("csv", "as CSV"), ("nl", "as newline-delimited JSON"), ("json", "as a JSON array")):
        command = click.option(f"--{name}", "form", flag_value=name, help=f"Print {about}.")(command)
    return command
