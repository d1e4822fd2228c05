"""`python -m bench` measures everything; `python -m bench NAME` one thing; `--quick` small data in under ten minutes.

A bench is a module of this folder that `python -m bench.NAME` runs: it prints Markdown on stdout, what it is doing on stderr,
and takes `--quick`. Each runs in a process of its own, so that none sees another's memory and imports. At the end stands what was
to be reached and whether it was (bench/goals.py).
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path

from bench import goals
from bench.common import ROOT, circumstances, say

FOLDER = Path(__file__).parent
RESULTS = ROOT / "docs" / "performance.md"
REACH = "reach"
"""The section of what was to be reached."""

SHARED = {"common", "corpora", "goals", "peers", "pictures", "plot", "real", "spectrum"}
"""Modules that measure nothing."""


def benches() -> dict[str, str]:
    """Return name -> what it measures, the first line of the module's docstring."""
    names = sorted(path.stem for path in FOLDER.glob("[a-z]*.py") if path.stem not in SHARED)
    return {name: about(FOLDER / f"{name}.py") for name in names}


def about(path: Path) -> str:
    """Return the first line of a module's docstring, without importing it."""
    lines = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").splitlines()
    return lines[0] if lines else ""


def measure(name: str, arguments: list[str]) -> str | None:
    """Run one bench, showing its result, and return that; None when it failed."""
    say(f"{name}: {benches()[name]}")
    head = circumstances()
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    print(f"\n## {name}\n\n{head}\n\n{done.stdout}", flush=True)
    return f"{head}\n\n{done.stdout.strip()}" if done.returncode == 0 and done.stdout.strip() else None


def write(name: str, about: str, result: str) -> None:
    """Put a result into its section of docs/performance.md; a new one goes to the end, `reach` before all others."""
    text = RESULTS.read_text("utf-8")
    section = f"## {name}\n\n{about}\n\n{result}\n\n"
    existing = re.compile(rf"^## {re.escape(name)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    replaced, found = existing.subn(lambda _: section, text)
    if not found:
        head, mark, tail = text.partition("\n## ") if name == REACH else (text.rstrip(), "", "")
        replaced = f"{head}\n{section}{mark[1:]}{tail}" if mark else f"{head}\n\n{section}"
    RESULTS.write_text(replaced.rstrip() + "\n", "utf-8")


def main() -> int:
    """Return the exit code: 1 when a bench failed."""
    known = benches()
    listing = "\n".join(f"  {name:18} {what}" for name, what in known.items())
    listing += "\nOther options go to the one bench that is named: hybrid --til CLONE"
    parser = argparse.ArgumentParser(
        prog="python -m bench", epilog=listing, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure; all where none is named")
    parser.add_argument(
        "--quick", action="store_true", help="at most 20,000 rows and few rounds: under ten minutes in all"
    )
    parser.add_argument("--write", action="store_true", help="put the results into docs/performance.md")
    options, more = parser.parse_known_args()
    if more and len(options.names) != 1:
        parser.error(f"{' '.join(more)}: options of one bench go with its name alone")
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"there is no bench {unknown[0]!r}; there are {', '.join(known)}")
    if options.quick and options.write:
        parser.error("figures of --quick are not for the record: use one of --quick and --write")
    failed = []
    results = {}
    for name in options.names or known:
        result = measure(name, [*(["--quick"] if options.quick else []), *more])
        if result is None:
            failed.append(name)
            continue
        results[name] = result
        if options.write:
            write(name, known[name], result)
    reached = goals.summary({} if options.write else results, RESULTS.read_text("utf-8"))
    print(f"\n## {REACH}\n\n{goals.__doc__}\n{reached}", flush=True)
    if options.write:
        write(REACH, str(goals.__doc__).splitlines()[0], reached)
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
