"""Bring the documentation up to date: `python scripts/docs.py`, or `--check` to say what is not and exit 1.

Two things are not written by hand in README.md and docs/*.md:

- what stands between `<!-- generated: NAME -->` and `<!-- end -->` comes from the code: see GENERATED;
- a block marked ```` ```text output ```` is what the block before it printed. Blocks marked `run` (```` ```bash run ````, `sql run`,
  `python run`) are run, page by page and in order, in a folder that holds til.db, made of docs/examples/til.csv as the README says.

Blocks marked ```` ```yaml config ```` are whole configurations; tests/test_docs.py parses them.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
from tabulate import tabulate

from datasette_embeddings import errors, limits, register, schema
from datasette_embeddings.cli import embeddings
from datasette_embeddings.functions import FUNCTIONS
from datasette_embeddings.models.prompts import CARDS
from datasette_embeddings.tables import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples"
FROM_SCRATCH = {"README.md", "your-own-file.md", "your-own-pages.md"}
"""Pages whose own first commands make their database."""

PREPARE = """
sqlite-utils insert til.db til docs/examples/til.csv --csv --pk path
datasette embeddings add til.db til
"""

FENCE = re.compile(r"^```(\w+) (run|output|config)\n(.*?)^```$", re.M | re.S)
SECTION = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.S)
CLOCK = re.compile(r"\d[\d.,]* (s|min|kB|MB)\b")
"""Times and sizes in an output, which differ from run to run and from machine to machine."""

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
RULE = re.compile(r"-{2,}")
"""What `sqlite-utils -t` draws below headers, as wide as the column."""

TOLERANCE = 0.011
"""Of scores: processors round differently, and some pages show two decimals."""


class Block(NamedTuple):
    """A marked block of a page: its language, its mark, its text, and where the text stands."""

    language: str
    mark: str
    text: str
    start: int
    end: int


def pages() -> list[Path]:
    """Return every page of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: str) -> list[Block]:
    """Return the marked blocks of a page in order."""
    return [Block(m[1], m[2], m[3], m.start(3), m.end(3)) for m in FENCE.finditer(page)]


def fill(page: str) -> str:
    """Return a page with its generated parts as the code has them now."""
    return SECTION.sub(lambda m: f"{m[1]}\n{GENERATED[m[2]]().strip()}\n\n{m[3]}", page)


# What is generated


def functions() -> str:
    """Return the reference of the SQL functions."""
    return "\n\n".join(_function(function) for function in FUNCTIONS)


def _function(function: object) -> str:
    forms = ", ".join(f"`{function.name}({arguments})`" for arguments in function.arguments)
    lines = [f"### {function.name}", "", f"{forms} → {function.gives}", "", function.about]
    if function.aliases:
        lines += ["", "Also as " + ", ".join(f"`{alias}`" for alias in function.aliases) + "."]
    if function.examples:
        lines += ["", "| expression | gives |", "| --- | --- |"]
        lines += [
            f"| `{expression}` | `{'NULL' if value is None else value}` |" for expression, value in function.examples
        ]
    return "\n".join(lines)


def commands() -> str:
    """Return the reference of the commands, those in groups included."""
    return "\n\n".join(_command(path, command) for path, command in walk(embeddings))


def walk(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield (words after `datasette embeddings`, command)."""
    for name, command in group.commands.items():
        yield f"{path}{name}", command
        if isinstance(command, click.Group):
            yield from walk(command, f"{path}{name} ")


def _command(path: str, command: click.Command) -> str:
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    options = [p for p in command.params if isinstance(p, click.Option)]
    usage = " ".join(["datasette embeddings", path, *map(_argument, arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"### {path}", "", f"`{usage}`", "", _help(command)]
    if options:
        lines += ["", "| option | what it does |", "| --- | --- |"]
        lines += [f"| {_names(option)} | {_about(option)} |" for option in options]
    return "\n".join(lines)


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _help(command: click.Command) -> str:
    """Return a help text; paragraphs that are not to be rewrapped are lines to type."""
    parts = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(
        "```bash\n" + part.removeprefix("\b\n") + "\n```" if part.startswith("\b") else " ".join(part.split())
        for part in parts
    )


def _names(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    if option.is_flag:
        return names
    if isinstance(option.type, click.Choice):
        return f"{names} `{' or '.join(option.type.choices)}`"
    kind = "NUMBER" if isinstance(option.type, (click.IntRange, click.FloatRange)) else option.type.name.upper()
    return f"{names} `{option.metavar or kind}`"


def _about(option: click.Option) -> str:
    default = f" Default: {option.default}." if option.show_default and option.default is not None else ""
    return (option.help or "").replace("|", "\\|") + default


def bounds() -> str:
    """Return the limits with their reasons, as limits.py has them."""
    source = inspect.getsource(limits)
    found = re.findall(r'^([A-Z_]+) = .+\n"""([^"]*)"""', source, re.M)
    rows = [f"| `{name}` | {getattr(limits, name):,} | {' '.join(reason.split())} |" for name, reason in found]
    return "\n".join(["| limit | value | why |", "| --- | --- | --- |", *rows])


def ddl() -> str:
    """Return the DDL of all tables, under their plain names."""
    made = (schema.LLM_DDL, *schema.STEPS.values())
    text = "".join(made).format_map({name: name for name in NAMES})
    return f"```sql\n{text.strip()}\n```"


def cards() -> str:
    """Return the models whose prompts are known by name."""
    rows = [
        f"| {', '.join(f'`{name}`' for name in card.names.split())} | {_code(card.document)} | {_code(card.query)} | "
        f"[card]({card.source}) |"
        for card in CARDS
    ]
    return "\n".join(["| models | before documents | before queries | source |", "| --- | --- | --- | --- |", *rows])


def _code(text: str) -> str:
    return f"`{text}`".replace("\n", "\\n").replace("|", "\\|") if text else ""


def tree() -> str:
    """Return the tree of errors."""
    return "\n".join(_branch(errors.EmbeddingsError, 0))


def _branch(error: type[Exception], depth: int) -> Iterator[str]:
    yield f"{'  ' * depth}- `{error.__name__}`: {(error.__doc__ or '').splitlines()[0]}"
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _branch(child, depth + 1)


GENERATED: dict[str, Callable[[], str]] = {
    "functions": functions,
    "commands": commands,
    "limits": bounds,
    "tables": ddl,
    "errors": tree,
    "prompts": cards,
}


# What is run


@dataclass(frozen=True)
class Stage:
    """A folder in which the blocks of a page run."""

    folder: Path

    def run(self, block: Block) -> str:
        """Run a block and return what it printed; raises AssertionError with the reason where it fails."""
        runners = {"bash": self.bash, "sql": self.sql, "python": self.python}
        return runners[block.language](block.text)

    def bash(self, text: str) -> str:
        """Run lines of a shell, which stops at the first that fails."""
        return self._program(["bash", "-euo", "pipefail", "-c", text], text)

    def python(self, text: str) -> str:
        """Run a Python program."""
        return self._program([sys.executable, "-c", text], text)

    def sql(self, text: str) -> str:
        """Run a query on til.db and return its rows as `sqlite-utils til.db QUERY -t` prints them."""
        with closing(sqlite3.connect(self.folder / "til.db")) as conn:
            register(conn)
            cursor = conn.execute(text)
            return tabulate(cursor.fetchall(), headers=[column[0] for column in cursor.description]) + "\n"

    def _program(self, command: list[str], text: str) -> str:
        here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": here, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"this block of the documentation fails:\n{text}\n{done.stdout}{done.stderr}")
        return done.stdout


def prepare(folder: Path) -> None:
    """Make til.db in a folder, beside the examples, as the README tells its readers to."""
    copy_examples(folder)
    Stage(folder).bash(PREPARE)


def copy_examples(folder: Path) -> None:
    """Put docs/examples where the pages expect it."""
    shutil.copytree(EXAMPLES, folder / "docs" / "examples")


def play(page: str, folder: Path, tolerance: float = TOLERANCE) -> str:
    """Run a page's blocks in a folder and return the page with their outputs; those that say the same stay as they are."""
    printed, changes = "", []
    for block in blocks(page):
        if block.mark == "run":
            printed = Stage(folder).run(block)
        elif block.mark == "output" and not same(block.text, printed, tolerance):
            changes.append((block, printed))
    for block, text in reversed(changes):
        page = page[: block.start] + text + page[block.end :]
    return page


def same(old: str, new: str, tolerance: float = TOLERANCE) -> bool:
    """Tell whether two outputs say the same, apart from times, sizes and blanks; numbers may differ by *tolerance*.

    >>> same("1 row  0.461\\n", "1 row   0.46"), same("1 row", "2 row"), same("done in 0.4 s", "done in 12 s")
    (True, False, True)
    """
    before, after = _plain(old), _plain(new)
    if NUMBER.sub("N", before) != NUMBER.sub("N", after):
        return False
    pairs = zip(NUMBER.findall(before), NUMBER.findall(after), strict=True)
    return all(abs(float(one) - float(other)) <= tolerance for one, other in pairs)


def _plain(output: str) -> str:
    return RULE.sub("--", CLOCK.sub(r"N \1", " ".join(output.split())))


def main(arguments: list[str]) -> int:
    """Write or check every page; return the exit code."""
    check = arguments == ["--check"]
    stale = 0
    with tempfile.TemporaryDirectory() as place:
        ready = Path(place) / "ready"
        ready.mkdir()
        prepare(ready)
        for page in pages():
            folder = Path(place) / page.stem
            if page.name in FROM_SCRATCH:
                folder.mkdir()
                copy_examples(folder)
            else:
                shutil.copytree(ready, folder)
            old = page.read_text(encoding="utf-8")
            new = play(fill(old), folder, TOLERANCE if check else 0.0)
            if new == old:
                continue
            stale += 1
            print(f"{page.relative_to(ROOT)}: {'not current: run python scripts/docs.py' if check else 'written'}")
            if not check:
                page.write_text(new, encoding="utf-8")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
