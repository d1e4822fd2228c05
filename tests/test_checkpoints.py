"""Similarities of many rows take minutes; a run that is ended loses seconds of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import hard
import numpy as np
import pytest

from datasette_embeddings.checkpoints import Checkpoint
from datasette_embeddings.store import Store, StoredItem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


ENDED = """
import sys, time
from datasette_embeddings import checkpoints, neighbors
from datasette_embeddings.cli import embeddings

checkpoints.CHECKPOINT_SECONDS = 0.0
neighbors.TILES_AT_ONCE = 2
left_by_bounds = neighbors._Engine.left_by_bounds

def slowly(*arguments):
    time.sleep(0.1)
    return left_by_bounds(*arguments)

neighbors._Engine.left_by_bounds = slowly
embeddings(sys.argv[1:])
"""


def test_a_run_that_was_ended_goes_on(tmp_path: Path, cli: Callable[..., Any]) -> None:
    """Of similarities that are computed for long, an ended run leaves its progress; the next has the same result, and leaves nothing."""
    random = np.random.default_rng(7)
    path, whole = tmp_path / "long.db", tmp_path / "whole.db"
    with Store(path, create=True) as store:
        collection = store.create("c", "static")
        rows = random.standard_normal((3_000, 16)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        store.save(
            collection,
            [StoredItem(f"{n}", row.tobytes(), None, None, b"", None) for n, row in enumerate(rows)],
            0,
            None,
        )
    shutil.copy(path, whole)
    command = [sys.executable, "-c", ENDED, "similarities", str(path), "c", "-n", "5"]
    saved = path.with_name(path.name + "-similarities")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not saved.exists() and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert saved.exists()
    with np.load(saved) as found:
        done = int(found["done"])
    assert 0 < done < 21
    output = cli("similarities", path, "c", "-n", "5").output
    assert f"{done / 21:.0%} were there already" in output
    assert "already" not in cli("similarities", whole, "c", "-n", "5").output
    both = [hard.query(each, "select id, other_id, score from similarities order by 1, 2") for each in (path, whole)]
    assert both[0] == both[1]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["long.db", "whole.db"]


@pytest.mark.parametrize("what", ["of other rows", "damaged", "empty"])
def test_progress_of_something_else_is_not_taken_up(tmp_path: Path, what: str) -> None:
    """Nor what is no progress at all."""
    checkpoint = Checkpoint(tmp_path / "a.db")
    checkpoint._saved = -1e9
    assert checkpoint.load(np.arange(3), 5) is None
    checkpoint.save(lambda: {"done": np.array(1)})
    same = Checkpoint(tmp_path / "a.db")
    assert int((same.load(np.arange(3), 5) or {})["done"]) == 1
    raw = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes({"of other rows": raw, "damaged": raw[: len(raw) // 2], "empty": b""}[what])
    assert same.load(np.arange(1, 4), 5) is None
    assert same.load(np.arange(3), 6) is None
