"""What to try on the finished demonstration: each command is run as it is printed, and its answer shown."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SHOWN_ROWS = 3
"""Of each JSON answer; the commands themselves give more."""

SHOWN_COLUMNS = ("id", "title", "score")
"""Of each JSON answer, so that a row is a line; the answers hold every column of the row."""


class Example(NamedTuple):
    """A command to try, and what it is for."""

    about: str
    command: tuple[str, ...]


EXAMPLES = [
    Example(
        "Functions by what they do, not by the words in them",
        ("datasette", "embeddings", "search", "demo.db", "functions", "list plugins", "-n", "3"),
    ),
    Example(
        "The same as JSON, from the query that Datasette serves",
        ("datasette", ".", "--get", "/demo/search_functions.json?q=list+plugins&_shape=array"),
    ),
    Example(
        "Pages related to a page, across projects",
        ("datasette", "embeddings", "similar", "demo.db", "articles", "flask/deploying/nginx", "-n", "3"),
    ),
    Example(
        "The same as SQL that joins the similarities stored in the file: no model runs",
        ("datasette", ".", "--get", "/demo/related_articles.json?id=jinja/templates&_shape=array"),
    ),
    Example(
        "Word arithmetic: what is to germany as paris is to france",
        ("datasette", ".", "--get", "/demo/arithmetic_words.json?q=germany+%2B+paris+-+france&_shape=array"),
    ),
    Example(
        "The llm tool reads the same file",
        ("llm", "similar", "functions", "-d", "demo.db", "-c", "list plugins", "-n", "1"),
    ),
]


def show() -> int:
    """Run the examples in order and print what they say; return 1 if one of them fails, else 0."""
    programs = Path(sys.executable).parent
    failures = 0
    for example in EXAMPLES:
        command = [os.path.relpath(programs / example.command[0]), *example.command[1:]]
        print(f"\n# {example.about}\n$ {shlex.join(command)}", flush=True)
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        print(summary(answer.stdout) if answer.returncode == 0 else answer.stdout + answer.stderr, flush=True)
        failures += answer.returncode != 0
    return 1 if failures else 0


def summary(output: str) -> str:
    """Return what a command printed; of a JSON array of rows, the first rows as lines."""
    if not output.startswith("[{"):
        return output.rstrip()
    rows = json.loads(output)[:SHOWN_ROWS]
    return "\n".join("  ".join(str(row[name]) for name in SHOWN_COLUMNS if name in row) for row in rows)
