"""A small catalogue of plain colours for tests of the finder, and the tiny CLIP that sees a picture's mean colour."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from click.testing import CliRunner
from onnx_files import write_clip_folder
from pictures import plain

from datasette_embeddings.cli import embeddings

if TYPE_CHECKING:
    from pathlib import Path

ENDS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
STEPS = 6

ODD_IDS = ["sl/ash", "a#b?c=d&e", "100%", "ü ☃", "x.webp", ".json", "a+b", "~tilde", "quote\"'", "two,three"]
"""Ids that addresses must not take for something else."""


def colours() -> list[tuple[str, str, tuple[int, int, int]]]:
    """Return (id, name of the nearest end, colour) of each picture: from each end a few steps towards the next."""
    names = list(ENDS)
    found = []
    for number, name in enumerate(names):
        start, end = np.array(ENDS[name]), np.array(ENDS[names[(number + 1) % len(names)]])
        for step in range(STEPS):
            colour = np.round(start + (end - start) * step / (2 * STEPS)).astype(int)
            found.append((f"p-{len(found):02}", name, tuple(int(part) for part in colour)))
    for place, item in enumerate(ODD_IDS):
        found.append((item, "white", (255 - 3 * place, 255, 240)))
    return found


def vectors() -> dict[str, np.ndarray]:
    """Return the unit vector of each picture."""
    return {item: np.array(rgb) / np.linalg.norm(rgb) for item, _, rgb in colours()}


def write_table(path: Path, hostile: dict[str, str] | None = None) -> None:
    """Write the table `things`; *hostile*: values that rows are given, by id."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute(
            "create table things (id text primary key, name text, colour text, price_eur integer, weight real, note text, picture blob)"
        )
        for number, (item, name, rgb) in enumerate(colours()):
            called = (hostile or {}).get(item, f"{name} thing {number}")
            values = [
                item,
                called,
                name,
                10 * number + 9,
                number / 2,
                "blue is said of every thing",
                plain("#{:02x}{:02x}{:02x}".format(*rgb)),
            ]
            conn.execute("insert into things values (?, ?, ?, ?, ?, ?, ?)", values)
        conn.execute("insert into things values ('none', 'without a picture', 'red', 1, 1, '', null)")


def settings(model: str) -> dict[str, Any]:
    """Return the collection as the plugin's configuration has it."""
    return {"collections": {"things": {"database": "shop", "table": "things", "image": "picture", "model": model}}}


TABLES = {"databases": {"shop": {"tables": {"things": {"facets": ["colour"], "label_column": "name"}}}}}


def build(folder: Path, eye: Path, hostile: dict[str, str] | None = None) -> Path:
    """Write and build `shop.db` in a folder, and a copy of the model beside it; returns the model's folder."""
    model = folder / "eye"
    if not model.exists():
        shutil.copytree(eye, model)
    database = folder / "shop.db"
    write_table(database, hostile)
    config = folder / "build.yml"
    config.write_text(yaml.safe_dump(settings(f"onnx/{model}")))
    result = CliRunner().invoke(embeddings, ["build", str(database), "-c", str(config)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    config.unlink()
    return model


def write_eye(folder: Path) -> Path:
    """Write the tiny CLIP."""
    return write_clip_folder(folder)
