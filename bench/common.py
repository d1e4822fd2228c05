"""What the benches share: synthetic vectors, interleaved timing, medians, memory, peers, and how results are printed."""

from __future__ import annotations

import argparse
import gc
import os
import platform
import resource
import sqlite3
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Clock = Callable[[], float]
    Matrix = NDArray[np.float32]

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Of commands that are measured: modules are compiled once, as on a user's machine, and not at every start."""
SEED = 20261123


def quick(about: str | None, argv: Sequence[str] | None) -> bool:
    """Return whether `--quick` was given: the one option that every bench takes."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="smaller data, fewer rounds: to see that it runs")
    return bool(parser.parse_args(argv).quick)


def say(text: str) -> None:
    """Say on stderr what is going on; stdout is for the result."""
    print(text, file=sys.stderr, flush=True)


def interleave(
    candidates: Mapping[str, Callable[[], object]], rounds: int, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Return the median seconds of each candidate.

    Every round runs all of them, each time beginning with another, after one round that does not count: what slows the
    machine down for a while slows all of them down, so that their ratios hold where their seconds do not.
    *clock* is `time.process_time` where work of one thread that waits for nothing is compared: what other programs take
    of the processor is not counted then.
    """
    names = list(candidates)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            taken = timed(candidates[name], clock)
            if number >= 0:
                seconds[name].append(taken)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def timed(work: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Return the seconds that one call takes, without the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        started = clock()
        work()
        return clock() - started
    finally:
        gc.enable()


def peak_memory() -> float:
    """Return the peak resident memory of this process so far, in MB.

    On Linux from /proc, as `getrusage` begins with what the parent had when it started this process.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1.024e-3


def memory() -> float:
    """Return the resident memory of this process now, in MB; Linux only, else the peak so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_memory()
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def vectors(count: int, dimensions: int = 384, held_out: int = 0) -> tuple[Matrix, Matrix]:
    """Return unit vectors (count, d) like those of real texts, and *held_out* more of the same kind to search with.

    x = normalize(mu + c[cluster] + 0.6 z): c and z of a power-law spectrum diag(1/j), |mu| = 0.45, count / 50 clusters of
    Zipf-like sizes, rotated at random. Mean cosine 0.13 to 0.2, best neighbour 0.81 to 0.86, as MiniLM has on text.
    """
    random = np.random.default_rng(SEED)
    clusters = max(1, count // 50)
    spread = 1 / np.sqrt(np.arange(1, dimensions + 1, dtype=np.float32))
    spread /= np.linalg.norm(spread)
    centres = random.standard_normal((clusters, dimensions), np.float32) * spread
    mean = random.standard_normal(dimensions, np.float32)
    mean *= 0.45 / np.linalg.norm(mean)
    shares = 1 / np.arange(1, clusters + 1) ** 0.5
    cluster = random.choice(clusters, count + held_out, p=shares / shares.sum())
    rotation = np.linalg.qr(random.standard_normal((dimensions, dimensions)))[0].astype(np.float32)
    rows = np.empty((count + held_out, dimensions), np.float32)
    for start in range(0, len(rows), 8_192):
        part = cluster[start : start + 8_192]
        noise = random.standard_normal((len(part), dimensions), np.float32) * spread
        block = (mean + centres[part] + 0.6 * noise) @ rotation
        rows[start : start + len(part)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return rows[:count], rows[count:]


def write_collection(path: Path, rows: Matrix, model: str = "minilm") -> None:
    """Write unit vectors (n, d) as the collection `items` of a new file, as the llm tool would, with nothing computed from them."""
    from datasette_embeddings.store import Store, StoredItem

    with Store(path, create=True) as store:
        collection = store.create("items", model)
        for start in range(0, len(rows), 10_000):
            part = enumerate(rows[start : start + 10_000], start)
            items = [StoredItem(f"item-{n:06}", row.tobytes(), None, None, b"", None) for n, row in part]
            store.save(collection, items, 0, None)


@dataclass
class Table:
    """One table of results, and what was promised beside what was found."""

    columns: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)
    goals: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Add a remark, such as what could not be measured and why; said aloud at once, and once."""
        if text not in self.notes:
            self.notes.append(text)
            say(text)

    def goal(self, what: str, found: float, limit: float, unit: str, *, least: bool = False) -> None:
        """Add a promise: *found* is to be at most *limit*, or at least."""
        kept = found >= limit if least else found <= limit
        bound = "at least" if least else "at most"
        self.goals.append(
            f"{what}: {number(found)} {unit}; {bound} {number(limit)} is the goal, {'kept' if kept else '**missed**'}"
        )

    def __str__(self) -> str:
        lines = ["| " + " | ".join(self.columns) + " |", "|" + " --- |" * len(self.columns)]
        lines += ["| " + " | ".join(map(str, row)) + " |" for row in self.rows]
        return "\n".join([*lines, "", *(f"- {line}" for line in self.goals + self.notes)]).rstrip()


def peer(name: str, table: Table) -> Any:
    """Return a module to compare with; where it cannot be had, None, and the table says so."""
    try:
        return import_module(name)
    except ImportError as error:
        table.note(f"{name} was not measured: {error}; `pip install -r bench/requirements.txt`.")
        return None


def extension(name: str, conn: sqlite3.Connection, table: Table) -> Any:
    """Return the module of an extension of SQLite, which *conn* may load then; else None, and the table says so."""
    module = peer(name, table)
    if module and not hasattr(conn, "enable_load_extension"):
        table.note(f"{name} was not measured: this Python was built without loadable extensions.")
        return None
    if module:
        conn.enable_load_extension(True)
    return module


def number(value: float) -> str:
    """Return a number with three digits that count.

    >>> number(1234.5), number(12.34), number(0.01234), number(100.0)
    ('1,234', '12.3', '0.0123', '100')
    """
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    places = 2 - int(np.floor(np.log10(abs(value))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def times(ratio: float) -> str:
    """Return a ratio: 1.25 as 1.25x."""
    return number(ratio) + "x"


def circumstances() -> str:
    """Return the line above every result: day, commit, machine, versions, load."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return "; ".join(
        [
            time.strftime("%Y-%m-%d"),
            f"commit {commit or 'unknown'}",
            f"{_processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
            f"{platform.system()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, numpy {np.__version__}",
        ]
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


@dataclass(frozen=True)
class Used:
    """What a process took: seconds, seconds of the processor, peak memory in MB, not less than this process's own."""

    seconds: float
    processor: float
    peak: float


def run(*arguments: str) -> Used:
    """Run a command of this Python and return what it took; its errors are shown and end the bench."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"`python {' '.join(arguments)}` failed")
    peak = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return Used(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, peak)


def build(database: Path, config: str) -> Used:
    """Run `datasette embeddings build` on a file with a configuration, in YAML."""
    path = database.with_suffix(".yml")
    path.write_text(config, "utf-8")
    return run("-m", "datasette_embeddings", "build", str(database), "-c", str(path))


def output(*arguments: str) -> str:
    """Run a command of this Python and return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    if done.returncode:
        raise SystemExit(f"`python {' '.join(arguments)}` failed: {done.stderr}")
    return done.stdout.strip()
