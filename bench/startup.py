"""What the plugin adds to `datasette --version`, and how large a fresh installation is.

The wheel of this checkout is installed into new environments, which is where everything is measured. "Without" is the same
Datasette told to load no plugins. Sizes are of what pip put there, compiled Python included, pip itself left out.
"""

from __future__ import annotations

import os
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
HEAVY = ("numpy", "onnxruntime", "torch", "tokenizers", "llm", "openai", "PIL")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    quick = common.quick(__doc__, argv)
    with tempfile.TemporaryDirectory() as folder:
        base, fast = Path(folder) / "base", Path(folder) / "fast"
        install(base, "")
        install(fast, "[fast]")
        print(times(base / "bin" / "datasette", QUICK_ROUNDS if quick else ROUNDS, quick), "\n")
        print(sizes(base, fast))


def install(folder: Path, extras: str) -> None:
    """Make an environment with the package of this checkout."""
    common.say(f"installing {PLUGIN}{extras}")
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([*pip, f"{common.ROOT}{extras}"], check=True, stdout=sys.stderr)


def times(datasette: Path, rounds: int, quick: bool) -> common.Table:
    """Return how long `datasette --version` takes with and without the plugin."""
    table = common.Table(("process", "ms", "processor ms"))
    python = datasette.parent / "python"

    def runner(command: list[str | Path], plugins: str) -> Callable[[], object]:
        environment = {**os.environ, "DATASETTE_LOAD_PLUGINS": plugins}
        return lambda: subprocess.run(command, env=environment, check=True, capture_output=True)

    work = {
        "`datasette --version` without the plugin": runner([datasette, "--version"], ""),
        "`datasette --version` with it": runner([datasette, "--version"], PLUGIN),
        "`python -c pass`": runner([python, "-c", "pass"], ""),
        "`python -c 'import numpy'`": runner([python, "-c", "import numpy"], ""),
    }
    seconds = common.interleave(work, rounds)
    processor = common.interleave(work, rounds, children_time)
    for name in work:
        table.rows.append((name, common.number(seconds[name] * 1e3), common.number(processor[name] * 1e3)))
    loaded = imported(datasette)
    table.note(f"Heavy packages that `datasette --version` imports with the plugin: {', '.join(loaded) or 'none'}.")
    if not quick:
        without, plugin, nothing, numpy = seconds.values()
        added = (plugin - without - ("numpy" in loaded) * (numpy - nothing)) * 1e3
        table.goal("added to `datasette --version`, numpy's own import left out", added, MOST_MS, "ms")
        without, plugin, nothing, numpy = processor.values()
        added = (plugin - without - ("numpy" in loaded) * (numpy - nothing)) * 1e3
        table.goal("the same by processor time", added, MOST_MS, "ms")
    return table


def children_time() -> float:
    """Return the processor seconds of the processes run so far."""
    spent = os.times()
    return spent.children_user + spent.children_system


def imported(datasette: Path) -> list[str]:
    """Return which heavy packages `datasette --version` imports with the plugin."""
    command = [datasette.parent / "python", "-X", "importtime", datasette, "--version"]
    environment = {**os.environ, "DATASETTE_LOAD_PLUGINS": PLUGIN}
    report = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stderr
    names = {line.rsplit("|", 1)[-1].strip() for line in report.splitlines()}
    if not any(name.startswith("datasette_embeddings") for name in names):
        raise SystemExit("the plugin was not loaded, so nothing was measured")
    return [name for name in HEAVY if name in names]


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
