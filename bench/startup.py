"""What the plugin adds to `datasette --version`, and how large a fresh installation is.

The wheel of this checkout is installed into new environments, which is where everything is measured. "Without" is one that
it was removed from again, its requirements left in place. Sizes are of what pip put there, compiled Python included, pip itself left out.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import common

ROUNDS, QUICK_ROUNDS = 25, 3
PLUGIN = "datasette-embeddings-suite"
MOST_MS = 50.0
MOST_MB = 150.0
OURS = re.compile("datasette_embeddings[.]")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
"""Without what leads to this checkout instead of the installed wheel."""

HEAVY = ("numpy", "onnxruntime", "torch", "tokenizers", "llm", "openai", "PIL")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    quick = common.quick(__doc__, argv)
    with tempfile.TemporaryDirectory() as folder:
        base, fast, without = (Path(folder) / name for name in ("base", "fast", "without"))
        install(base, "")
        install(fast, "[fast]")
        install(without, "")
        remove(without)
        startup = times(base / "bin", without / "bin", QUICK_ROUNDS if quick else ROUNDS, quick)
        print(startup, sizes(base, fast), sep="\n\n")


def install(folder: Path, extras: str) -> None:
    """Make an environment with the package of this checkout."""
    common.say(f"installing {PLUGIN}{extras}")
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([*pip, f"{common.ROOT}{extras}"], check=True, stdout=sys.stderr)


def remove(folder: Path) -> None:
    """Remove the package, but not what came with it."""
    pip = [folder / "bin" / "python", "-m", "pip", "uninstall", "--quiet", "--disable-pip-version-check", "--yes"]
    subprocess.run([*pip, PLUGIN], check=True, stdout=sys.stderr)


def times(base: Path, without: Path, rounds: int, quick: bool) -> common.Table:
    """Return how long `datasette --version` takes with and without the plugin, from two folders of programs."""
    table = common.Table(("process", "ms", "processor ms"))

    def runner(*command: str | Path) -> Callable[[], object]:
        return lambda: subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)

    work = {
        "`datasette --version` without the plugin": runner(without / "datasette", "--version"),
        "`datasette --version` with it": runner(base / "datasette", "--version"),
        "`python -c pass`": runner(base / "python", "-c", "pass"),
        "`python -c 'import numpy'`": runner(base / "python", "-c", "import numpy"),
    }
    seconds = common.interleave(work, rounds)
    processor = common.interleave(work, rounds, children_time)
    for name in work:
        table.rows.append((name, common.number(seconds[name] * 1e3), common.number(processor[name] * 1e3)))
    before, after = imports(without), imports(base)
    if any(map(OURS.match, before)) or not any(map(OURS.match, after)):
        raise SystemExit("the plugin was loaded where it should not be, or the other way round")
    before, loaded = before.intersection(HEAVY), (after - before).intersection(HEAVY)
    table.note(f"Heavy packages that Datasette imports by itself: {', '.join(sorted(before)) or 'none'}.")
    table.note(f"Heavy packages that the plugin adds: {', '.join(sorted(loaded)) or 'none'}.")
    if not quick:
        table.goal("added by the plugin, numpy's import left out", added(seconds, loaded), MOST_MS, "ms")
        table.goal("the same by processor time", added(processor, loaded), MOST_MS, "ms")
    return table


def added(seconds: dict[str, float], loaded: set[str]) -> float:
    """Return the milliseconds that the plugin adds, without those of numpy where it is the one that imports it."""
    without, plugin, nothing, numpy = seconds.values()
    return (plugin - without - (numpy - nothing if "numpy" in loaded else 0.0)) * 1e3


def children_time() -> float:
    """Return the processor seconds of the processes run so far."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def imports(programs: Path) -> set[str]:
    """Return the modules that `datasette --version` imports."""
    command = [programs / "python", "-X", "importtime", programs / "datasette", "--version"]
    report = subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True).stderr
    return {line.rsplit("|", 1)[-1].strip() for line in report.splitlines()}


def sizes(base: Path, fast: Path) -> common.Table:
    """Return the sizes of the two environments."""
    table = common.Table(("installation", "MB", "largest packages, MB"))
    for name, folder in ((f"`pip install {PLUGIN}`", base), (f"`pip install {PLUGIN}[fast]`", fast)):
        found = packages(folder)
        largest = sorted(found.items(), key=lambda pair: -pair[1])[:6]
        table.rows.append((name, common.number(sum(found.values())), ", ".join(f"{n} {s:.1f}" for n, s in largest)))
    table.goal("base installation", sum(packages(base).values()), MOST_MB, "MB")
    return table


def packages(folder: Path) -> dict[str, float]:
    """Return the size in MB of each top-level entry of site-packages but pip's own."""
    site = next(folder.glob("lib/python*/site-packages"))
    skipped = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence")
    return {
        entry.name: sum(f.stat().st_size for f in [entry, *entry.rglob("*")] if f.is_file()) / 1e6
        for entry in site.iterdir()
        if not entry.name.startswith(skipped)
    }


if __name__ == "__main__":
    main()
