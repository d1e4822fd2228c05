"""Tiny model folders for the tests of onnx/FOLDER: ONNX files written byte by byte (protobuf), and a real tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d"]
TABLE = np.random.default_rng(7).normal(size=(len(VOCABULARY), 4)).astype("<f4")
INT64, FLOAT = 7, 1


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def entry(key: int, value: int | bytes | str) -> bytes:
    """Return one protobuf field."""
    if isinstance(value, int):
        return varint(key << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(key << 3 | 2) + varint(len(data)) + data


def message(*fields: tuple[int, int | bytes | str]) -> bytes:
    return b"".join(entry(*field) for field in fields)


def node(kind: str, inputs: list[str], outputs: list[str], domain: str = "") -> bytes:
    return message(*[(1, name) for name in inputs], *[(2, name) for name in outputs], (4, kind), (7, domain))


def tensor(name: str, array: np.ndarray, location: str | None = None) -> bytes:
    fields = [*[(1, size) for size in array.shape], (2, FLOAT), (8, name)]
    if location is None:
        return message(*fields, (9, array.tobytes()))
    return message(*fields, (13, message((1, "location"), (2, location))), (14, 1))


def value(name: str, kind: int, *shape: int | str) -> bytes:
    dimensions = b"".join(entry(1, message((1 if isinstance(size, int) else 2, size))) for size in shape)
    return message((1, name), (2, message((1, message((1, kind), (2, dimensions))))))


def model(nodes: list[bytes], tensors: list[bytes], inputs: list[bytes], outputs: list[bytes]) -> bytes:
    graph = message(
        *[(1, data) for data in nodes],
        (2, "tiny"),
        *[(5, data) for data in tensors],
        *[(11, data) for data in inputs],
        *[(12, data) for data in outputs],
    )
    opsets = [(8, message((1, ""), (2, 17))), (8, message((1, "custom"), (2, 1)))]
    return message((1, 8), (7, graph), *opsets)


def table_lookup(location: str | None = None, domain: str = "", inputs: tuple[str, ...] = ("input_ids",)) -> bytes:
    """Return a model whose token vectors are rows of TABLE."""
    return model(
        [node("Gather", ["table", "input_ids"], ["last_hidden_state"], domain)],
        [tensor("table", TABLE, location)],
        [value(name, INT64, "batch", "tokens") for name in inputs],
        [value("last_hidden_state", FLOAT, "batch", "tokens", 4)],
    )


def write_folder(folder: Path, network: bytes, place: str = "model.onnx", **files: object) -> Path:
    """Write *network*, a tokenizer of eight words and JSON *files* (`pooling__config` is pooling/config.json)."""
    words = models.WordLevel({word: n for n, word in enumerate(VOCABULARY)}, unk_token="[UNK]")
    tokenizer = Tokenizer(words)
    tokenizer.normalizer = normalizers.Strip()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_bytes(network)
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        path = folder / (name.replace("__", "/") + ".json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def unit(rows: list[int], pooling: str = "mean") -> np.ndarray:
    """Return what a folder with `table_lookup` gives for these token ids."""
    vector = TABLE[rows[0]] if pooling == "cls" else TABLE[rows].astype(np.float64).mean(axis=0)
    return vector / np.linalg.norm(vector)
