"""Tiny model folders for the tests of onnx/FOLDER: ONNX files written byte by byte (protobuf), and real tokenizers."""

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


def node(kind: str, inputs: list[str], outputs: list[str], domain: str = "", **numbers: int) -> bytes:
    """Return a node of a graph; *numbers* are its attributes."""
    attributes = [(5, message((1, name), (3, number), (20, 2))) for name, number in numbers.items()]
    return message(
        *[(1, name) for name in inputs], *[(2, name) for name in outputs], (4, kind), *attributes, (7, domain)
    )


def tensor(name: str, array: np.ndarray, location: str | None = None) -> bytes:
    fields = [*[(1, size) for size in array.shape], (2, INT64 if array.dtype == "<i8" else FLOAT), (8, name)]
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


COLORS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "white": (1, 1, 1)}
"""The words of a tiny CLIP. A text is the sum of its words, and a picture its mean colour: red pictures are where `red` is."""

SIDE = 8
"""Pixels of a picture's side, as the tiny CLIP reads it."""

CLIP_WORDS = [*COLORS, "<|startoftext|>", "<|endoftext|>"]
COLOR_TABLE = np.array([*COLORS.values(), (0, 0, 0), (0, 0, 0)], "<f4")
PIXEL_VALUES = value("pixel_values", FLOAT, "batch", 3, SIDE, SIDE)


def vision_parts(output: str, weights: np.ndarray, beside: str | None = None) -> tuple[list[bytes], list[bytes], bytes]:
    """Return nodes, tensors and output of a network that multiplies a picture's mean colour by *weights*, which may be in a file *beside* it."""
    nodes = [
        node("GlobalAveragePool", ["pixel_values"], ["means"]),
        node("Flatten", ["means"], ["flat"]),
        node("MatMul", ["flat", "weights"], [output]),
    ]
    return nodes, [tensor("weights", weights, beside)], value(output, FLOAT, "batch", weights.shape[1])


def text_parts(output: str, table: np.ndarray, last: bool = False) -> tuple[list[bytes], list[bytes], bytes]:
    """Return nodes, tensors and output of a network that reads texts as CLIP does.

    A token sees those before it only, and the vector is that of the first of the tokens with the largest id, the end; or of the
    *last* token, whatever it is, as with SigLIP.
    """
    tensors = [tensor("table", table), tensor("axis", np.array([1], "<i8"))]
    nodes = [node("Gather", ["table", "input_ids"], ["tokens"]), node("CumSum", ["tokens", "axis"], ["sums"])]
    if last:
        tensors.append(tensor("last", np.array(-1, "<i8")))
        nodes.append(node("Gather", ["sums", "last"], [output], axis=1))
    else:
        nodes.append(node("ArgMax", ["input_ids"], ["end"], axis=1, keepdims=1))
        nodes.append(node("GatherND", ["sums", "end"], [output], batch_dims=1))
    return nodes, tensors, value(output, FLOAT, "batch", table.shape[1])


def vision_network(
    output: str = "image_embeds",
    weights: np.ndarray | None = None,
    pixels: bytes = PIXEL_VALUES,
    beside: str | None = None,
) -> bytes:
    nodes, tensors, given = vision_parts(output, np.eye(3, dtype="<f4") if weights is None else weights, beside)
    return model(nodes, tensors, [pixels], [given])


def text_network(
    output: str = "text_embeds", length: int | str = "tokens", table: np.ndarray = COLOR_TABLE, last: bool = False
) -> bytes:
    nodes, tensors, given = text_parts(output, table, last)
    return model(nodes, tensors, [value("input_ids", INT64, "batch", length)], [given])


def network_of_both() -> bytes:
    """Return both halves in one file, with the products of each picture and each text first, as optimum writes CLIP."""
    vision_nodes, vision_tensors, image = vision_parts("image_embeds", np.eye(3, dtype="<f4"))
    text_nodes, text_tensors, text = text_parts("text_embeds", COLOR_TABLE)
    turned = node("Einsum", ["image_embeds", "text_embeds"], ["logits_per_image"])
    equation = message((1, "equation"), (4, "id,td->it"), (20, 3))
    products = turned + entry(5, equation)
    return model(
        [*vision_nodes, *text_nodes, products],
        [*vision_tensors, *text_tensors],
        [value(name, INT64, "texts", "tokens") for name in ("input_ids", "attention_mask")] + [PIXEL_VALUES],
        [value("logits_per_image", FLOAT, "pictures", "texts"), text, image],
    )


PREPROCESSING = {
    "do_resize": True,
    "size": {"shortest_edge": SIDE},
    "do_center_crop": True,
    "crop_size": {"height": SIDE, "width": SIDE},
    "do_normalize": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "resample": 3,
    "image_processor_type": "CLIPImageProcessor",
}


def write_clip_folder(folder: Path, networks: dict[str, bytes] | None = None, **files: object) -> Path:
    """Write a tiny CLIP: *networks* by file name (by default both halves), its tokenizer and its configuration, *files* above it."""
    words = models.WordLevel({word: n for n, word in enumerate(CLIP_WORDS)}, unk_token="<|endoftext|>")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=[("<|startoftext|>", 4), ("<|endoftext|>", 5)]
    )
    if networks is None:
        networks = {"vision_model.onnx": vision_network(), "text_model.onnx": text_network()}
    for name, network in networks.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(network)
    tokenizer.save(str(folder / "tokenizer.json"))
    files = {"preprocessor_config": PREPROCESSING, "config": {"model_type": "clip"}, **files}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder
