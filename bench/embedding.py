"""`minilm` beside bare onnxruntime + tokenizers, and beside sentence-transformers on torch where it is installed.

All embed the same texts, on the same threads. The bare peer uses the same graph and weights and does what is usually done:
tokenise all, sort by length, cut into batches of the same token budget, pad each batch, run, normalise. Short texts are first
lines of docstrings in the standard library, long ones its reference pages (pydoc_data), most of them over 256 tokens.
"""

from __future__ import annotations

import ast
import pydoc_data.topics
import random
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bench import common
from datasette_embeddings.models import EmbeddingModel, get_model, minilm, onnx
from datasette_embeddings.models.base import plan_batches

OURS, BARE, TORCH = "minilm", "onnxruntime + tokenizers", "sentence-transformers, torch"
LEAST_SHARE = 0.95
MOST_MEMORY = 700
ROUNDS = {"200 titles": 9, "2,000 titles": 3, "60 long texts": 5}

PEAK = """
import pydoc_data.topics
from datasette_embeddings.models import get_model
from bench.common import memory, peak_memory
model = get_model("minilm")
loaded = memory()
texts = list(pydoc_data.topics.topics.values()) * {times}
for _ in model.embed_many(texts, "document"):
    pass
print(loaded, peak_memory(), len(texts))
"""

COLD = """
import time
started = time.perf_counter()
from datasette_embeddings.models import get_model
get_model("minilm").embed_one("Hello world", "query")
print(time.perf_counter() - started)
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    quick = common.quick(__doc__, argv)
    short, long = titles(), list(pydoc_data.topics.topics.values())
    sets = {"200 titles": short[:200], "2,000 titles": short[:2_000], "60 long texts": long[:60]}
    if quick:
        sets = {"200 titles": short[:40], "60 long texts": long[:4]}
    table = common.Table(("texts", "tokens read", "program", "texts/s", "/ bare"))
    memory(table, 1 if quick else 4)  # before this process grows: a child's peak starts at its parent's
    cold(table, 1 if quick else 5)
    model = get_model("minilm")
    bare = Bare(model.batch_tokens)
    torch = torch_model(table)
    for name, texts in sets.items():
        measure(name, texts, model, bare, torch, 2 if quick else ROUNDS[name], table)
    table.note(f"onnxruntime {version('onnxruntime')}, tokenizers {version('tokenizers')}, {onnx.cpu_count()} threads.")
    print(table)


class Bare:
    """What a script of twenty lines does with onnxruntime and tokenizers."""

    def __init__(self, budget: int) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        folder = minilm.MINILM.find(None, minilm.VARIABLE)
        self.weights = minilm.tensors(folder / minilm.WEIGHTS.name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = onnx.cpu_count()
        minilm.hand_over(options, self.weights)
        self.session = onnxruntime.InferenceSession(
            minilm.GRAPH.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self.tokenizer = Tokenizer.from_file(str(folder / minilm.TOKENIZER.name))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(minilm.MAX_TOKENS)
        self.budget = budget

    def embed(self, texts: list[str]) -> np.ndarray:
        """Return (n, 384) float32 unit vectors."""
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]
        vectors = np.empty((len(rows), 384), np.float32)
        for batch in plan_batches([len(row) for row in rows], 256, self.budget):
            longest = max(len(rows[n]) for n in batch)
            ids = np.zeros((len(batch), longest), np.int64)
            mask = np.zeros_like(ids)
            for place, n in enumerate(batch):
                ids[place, : len(rows[n])] = rows[n]
                mask[place, : len(rows[n])] = 1
            vectors[batch] = self.session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def embed(model: EmbeddingModel, texts: list[str]) -> np.ndarray:
    """Return what `build` gets: (n, 384) float32, batch by batch."""
    vectors = np.empty((len(texts), 384), np.float32)
    for positions, embedded in model.embed_many(texts, "document"):
        vectors[positions] = embedded.vectors
    return vectors


def torch_model(table: common.Table) -> Any:
    """Return the same weights in sentence-transformers, None where it is not installed."""
    if not common.peer("torch", table) or not common.peer("sentence_transformers", table):
        return None
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(onnx.cpu_count())
    return SentenceTransformer(str(minilm.MINILM.find(None, minilm.VARIABLE)), device="cpu")


def measure(
    name: str, texts: list[str], model: EmbeddingModel, bare: Bare, torch: Any, rounds: int, table: common.Table
) -> None:
    """Add the rows of one set of texts."""
    common.say(f"{name}, {rounds} rounds")
    candidates = {OURS: lambda: embed(model, texts), BARE: lambda: bare.embed(texts)}
    if torch:
        candidates[TORCH] = lambda: torch.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    ours = embed(model, texts)
    for peer in list(candidates)[1:]:
        difference = np.abs(ours - candidates[peer]()).max()
        table.note(f"{name}: largest difference of a component to {peer}: {difference:.1e}.")
    tokens = sum(min(count, minilm.MAX_TOKENS) for count in model.token_counts(texts))
    seconds = common.interleave(candidates, rounds)
    for program, taken in seconds.items():
        share = common.times(seconds[BARE] / taken)
        table.rows.append((name, f"{tokens:,}", program, common.number(len(texts) / taken), share))
    share = seconds[BARE] / seconds[OURS]
    table.goal(f"{name}: throughput of minilm / bare", share, LEAST_SHARE, "", least=True)


def memory(table: common.Table, times: int) -> None:
    """Add the peak memory of a process that embeds long texts."""
    loaded, peak, count = map(float, run(PEAK.format(times=times)).split())
    table.goal(f"peak memory of {count:.0f} long texts ({loaded:.0f} MB once loaded)", peak, MOST_MEMORY, "MB")


def cold(table: common.Table, rounds: int) -> None:
    """Add the time from the first import to the first vector, weights checked."""
    seconds = sorted(float(run(COLD)) for _ in range(rounds))
    table.note(f"Import, weights checked by SHA-256, loaded, first vector: median {seconds[len(seconds) // 2]:.2f} s.")


def run(code: str) -> str:
    """Return what a program prints in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=common.ROOT
    ).stdout


def titles() -> list[str]:
    """Return first lines of docstrings of the standard library's functions and classes, in an order that does not change."""
    found: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for item in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(item):
                found[(ast.get_docstring(item) or "").splitlines()[0]] = None
    texts = [text for text in found if text]
    random.Random(common.SEED).shuffle(texts)
    return texts


if __name__ == "__main__":
    main()
