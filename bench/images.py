"""Pictures: what looks alike, and words for pictures, beside chance and a histogram of colours; and how quickly a build reads them.

The model is the demonstration's, `bridge/demo/eye`. It was fitted to names of furniture and emoji and to drawn taps, but not
to the pictures here: of furniture and emoji only those whose names were kept for this, of stamps all, of taps the catalogue,
which has none like those that were fitted (scripts/make_eye.py). What the catalogue shows was drawn by this project, and its
figures say how well the model tells apart what it was made for; those of stamps are what to expect of pictures and captions of other people.

Precision@5: how many of the five nearest pictures have the same name, category, shape or finish, of those that could have.
Recall@10: how many of the right pictures are among the first ten for a text, of those that could be. Chance is the mean
over all orders. Searches for taps use words that were fitted, of taps that were not. The histogram has 8 levels of each colour and is compared by the cosine of its square roots.
"""

from __future__ import annotations

import io
import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench import common, pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.common import Matrix

MODEL = "bridge/demo/eye"

NEAREST, FIRST = 5, 10

LEVELS, SIDE = 8, 56
"""Of the histogram, and pixels of a side of the picture that it is made of."""

PICTURES, QUICK_PICTURES = 20_000, 1_300
"""How many a build reads."""

CLIP_PICTURES = 2_400
"""How many it reads with a network of CLIP's size, which takes six times as long for each."""

PARTS = 2
"""In how many parts, each beside the bare model; a build of each starts and loads its model once more."""

CLIP_SIZED = "CLIP's ViT-B/32, weights at random"
"""A network of the size that a deployment has, made by transformers and torch where these are at hand: its weights are of no consequence for its speed."""

BARE, DRAWN, BUILD = "decoded, scaled and run", "the same, and a thumbnail", "`build`, start to end"


class Texts(NamedTuple):
    """Searches of one kind with the positions of the pictures that answer them."""

    kind: str
    searches: Sequence[str]
    right: Sequence[set[int]]


class Shown(NamedTuple):
    """A set of pictures. *labels*: what two can have in common -> one label a picture."""

    name: str
    data: Sequence[bytes]
    labels: Mapping[str, Sequence[str]]
    texts: Sequence[Texts]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the results."""
    is_quick = common.quick(__doc__, argv)
    alike = common.Table(("precision@5", "of", "pictures", "chance", "histogram of colours", MODEL))
    said = common.Table(("recall@10 of searches by words", "searches", "pictures", "chance", MODEL))
    for make in (stamps, furniture, emoji, taps):
        try:
            shown = make()
        except SystemExit as error:  # a package that cannot be had
            alike.note(f"{make.__name__} were not judged: {error}.")
            continue
        judge(shown, alike, said)
    print(f"{alike}\n\n{said}")
    if (common.ROOT / "demo.db").exists():
        print(f"\n{speed(QUICK_PICTURES if is_quick else PICTURES)}")


# ---------------------------------------------------------------- the sets


def stamps() -> Shown:
    """Return the stamps of Tux Paint, none of which was fitted."""
    return named("stamps", pictures.stamps())


def furniture() -> Shown:
    """Return the furniture whose names were not fitted."""
    return named("furniture", [picture for picture in pictures.furniture() if pictures.held_out(picture.name)])


def emoji() -> Shown:
    """Return the emoji whose names were not fitted; hardly any two have one name."""
    shown = named("emoji", [picture for picture in pictures.emoji() if pictures.held_out(picture.name)])
    return shown._replace(labels={"same category": shown.labels["same category"]})


def named(name: str, found: Sequence[pictures.Picture]) -> Shown:
    """Return pictures with names: a search is a name, and right is each picture that has it."""
    names = [picture.name.lower() for picture in found]
    searches = sorted(set(names))
    right = [{n for n, other in enumerate(names) if other == search} for search in searches]
    labels = {"same name": names, "same category": [picture.category for picture in found]}
    return Shown(name, [picture.data for picture in found], labels, [Texts("by name", searches, right)])


def taps() -> Shown:
    """Return the drawn taps of the demonstration. Raises SystemExit where there is no demo.db with them."""
    path = common.ROOT / "demo.db"
    columns = ("shape", "finish", "second_finish", "handles", "picture")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as conn:
            rows = conn.execute(f"select {', '.join(columns)} from catalogue order by id").fetchall()
    except sqlite3.OperationalError as error:
        raise SystemExit(f"{path.name} has no drawn taps ({error}); `make demo-build` makes it") from error
    shapes, finishes, seconds, handles, data = (list(column) for column in zip(*rows, strict=True))
    labels = {
        "same shape": shapes,
        "same finish": finishes,
        "same shape and finish": [f"{a} {b}" for a, b in zip(shapes, finishes, strict=True)],
    }
    both = [frozenset(pair) for pair in zip(finishes, seconds, strict=True)]
    two = sorted({(a, b) for a, b in zip(finishes, seconds, strict=True) if b})
    texts = [
        Texts(
            "two finishes: gold purple",
            [f"{a} {b}" for a, b in two],
            [{n for n, pair in enumerate(both) if pair == {a, b}} for a, b in two],
        ),
        crossed("finish and shape: a gold swan neck", "a {} {}", finishes, shapes),
        crossed("finish and handles: brass, two crosses", "{}, {}", finishes, handles),
    ]
    return Shown("drawn taps", data, labels, texts)


def crossed(kind: str, wording: str, first: Sequence[str], second: Sequence[str]) -> Texts:
    """Return a search for each pair of values that there is."""
    pairs = list(zip(first, second, strict=True))
    wanted = [pair for pair in product(sorted(set(first)), sorted(set(second))) if pair in set(pairs)]
    right = [{n for n, pair in enumerate(pairs) if pair == want} for want in wanted]
    return Texts(kind, [wording.format(*pair) for pair in wanted], right)


# ---------------------------------------------------------------- the figures


def judge(shown: Shown, alike: common.Table, said: common.Table) -> None:
    """Add one set to both tables."""
    from datasette_embeddings.models import get_model

    common.say(f"{shown.name}: {len(shown.data):,} pictures")
    model = get_model(MODEL)
    vectors = np.empty((len(shown.data), model.dimensions or 0), np.float32)
    for positions, embedded in model.embed_many(shown.data, "document"):
        vectors[positions] = embedded.vectors
    colours = np.array([histogram(data) for data in shown.data])
    for what, labels in shown.labels.items():
        by_chance, *found = chance(labels), precision(colours, labels), precision(vectors, labels)
        alike.rows.append((what, shown.name, f"{len(labels):,}", *(f"{value:.3f}" for value in (by_chance, *found))))
    for kind, searches, right in shown.texts:
        asked = model.embed(searches, "query").vectors
        count = len(shown.data)
        by_chance = float(np.mean([FIRST / count * len(each) / min(len(each), FIRST) for each in right]))
        found = recall(asked @ vectors.T, right)
        said.rows.append((f"{shown.name}, {kind}", len(searches), f"{count:,}", f"{by_chance:.3f}", f"{found:.3f}"))


def histogram(data: bytes) -> Matrix:
    """Return the square roots of the shares of LEVELS^3 colours."""
    from datasette_embeddings.models.images import open_image

    values = np.asarray(open_image(data).resize((SIDE, SIDE)), np.int64).reshape(-1, 3) * LEVELS // 256
    counts = np.bincount(values @ (LEVELS**2, LEVELS, 1), minlength=LEVELS**3)
    return np.sqrt(counts / counts.sum()).astype(np.float32)


def precision(rows: Matrix, labels: Sequence[str]) -> float:
    """Return precision@5 of pictures whose label another picture has too."""
    ids = np.unique(labels, return_inverse=True)[1]
    others = np.bincount(ids)[ids] - 1
    scores = rows @ rows.T
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, :NEAREST]
    hits = (ids[nearest] == ids[:, None]).sum(axis=1)
    some = others > 0
    return float((hits[some] / np.minimum(others, NEAREST)[some]).mean())


def chance(labels: Sequence[str]) -> float:
    """Return the precision@5 of an arbitrary order."""
    ids = np.unique(labels, return_inverse=True)[1]
    others = np.bincount(ids)[ids] - 1
    others = others[others > 0]
    return float((NEAREST * others / (len(ids) - 1) / np.minimum(others, NEAREST)).mean())


def recall(scores: Matrix, right: Sequence[set[int]]) -> float:
    """Return recall@10 of searches (n, pictures)."""
    first = np.argsort(-scores, axis=1, kind="stable")[:, :FIRST]
    found = [len(each & set(row.tolist())) / min(len(each), FIRST) for row, each in zip(first, right, strict=True)]
    return float(np.mean(found))


# ---------------------------------------------------------------- the speed


def speed(count: int) -> common.Table:
    """Return the pictures a second of a build beside the same work by Pillow and onnxruntime alone, with and without thumbnails."""
    table = common.Table(
        ("pictures of the catalogue, 480 x 480", "model", "pictures", "pictures/s", "of the bare model")
    )
    read(table, MODEL, common.ROOT / "demo/eye/vision_model.onnx", count)
    with tempfile.TemporaryDirectory() as folder:
        if clip_sized(Path(folder), table):
            read(table, f"onnx/{folder}", Path(folder) / "vision_model.onnx", min(count, CLIP_PICTURES))
    return table


def clip_sized(folder: Path, table: common.Table) -> bool:
    """Write the pictures' half of a model of CLIP's size into a folder; tell whether that could be done."""
    torch, transformers = common.peer("torch", table), common.peer("transformers", table)
    if not (torch and transformers and common.peer("onnx", table)):
        return False
    model = transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(projection_dim=512, patch_size=32, attn_implementation="eager")
    ).eval()
    forward = model.forward
    model.forward = lambda values: forward(pixel_values=values)["image_embeds"]
    torch.onnx.export(
        model,
        (torch.zeros(2, 3, 224, 224),),
        folder / "vision_model.onnx",
        input_names=["pixel_values"],
        output_names=["image_embeds"],
        dynamic_axes={"pixel_values": {0: "batch"}},
        dynamo=False,
    )
    transformers.CLIPImageProcessor().save_pretrained(folder)
    return True


def read(table: common.Table, model: str, network: Path, count: int) -> None:
    """Add how quickly pictures are read by one model, whose network is that file."""
    with closing(sqlite3.connect(common.ROOT / "demo.db")) as conn:
        drawn = [data for (data,) in conn.execute("select picture from catalogue order by id")]
    # Bytes after the end of a file make another picture of it for everybody but the decoder.
    data = [drawn[n % len(drawn)] + str(n).encode() for n in range(count)]
    taken = dict.fromkeys((BARE, DRAWN, BUILD), 0.0)
    ways = (bare_model(network, thumbnails=False), bare_model(network, thumbnails=True))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(PARTS):
            path, part = Path(folder) / f"part{number}.db", data[number::PARTS]
            write(path, part)
            common.say(f"part {number + 1} of {PARTS}: {len(part):,} pictures")
            measures = [partial(seconds, way, part) for way in ways] + [partial(build_seconds, path, model)]
            timed = list(zip(taken, measures, strict=True))
            for name, measure in timed if number % 2 else timed[::-1]:
                taken[name] += measure()
    called = MODEL if model == MODEL else CLIP_SIZED
    table.rows += [
        (name, called, f"{count:,}", common.number(count / spent), common.times(taken[BARE] / spent))
        for name, spent in taken.items()
    ]
    what = f"{count:,} pictures, {called}, build"
    table.goal(what, taken[BARE] / taken[BUILD], 0.9, "of the bare model's pictures a second", least=True)
    table.goal(what, taken[DRAWN] / taken[BUILD], 0.9, "of the same work alone, thumbnails included", least=True)


def seconds(way: Callable[[Sequence[bytes]], object], part: Sequence[bytes]) -> float:
    """Return what one way takes for some pictures."""
    return common.timed(lambda: way(part))


def bare_model(network: Path, *, thumbnails: bool) -> Callable[[Sequence[bytes]], object]:
    """Return what reads pictures with Pillow, numpy and onnxruntime alone, as quickly as they can: one on each processor."""
    import onnxruntime
    from PIL import Image

    from datasette_embeddings.limits import THUMBNAIL_PIXELS, THUMBNAIL_QUALITY
    from datasette_embeddings.models.onnx import cpu_count

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(network), options)

    def one(data: bytes) -> object:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        values = (np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC), np.float32) - 127) / 128
        if thumbnails:
            image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), Image.Resampling.HAMMING)
            image.save(io.BytesIO(), "WEBP", quality=THUMBNAIL_QUALITY, method=2)
        return session.run(None, {"pixel_values": np.ascontiguousarray(values.transpose(2, 0, 1))[None]})

    def run(pictures: Sequence[bytes]) -> object:
        with ThreadPoolExecutor(cpu_count()) as pool:
            return list(pool.map(one, pictures))

    return run


def write(path: Path, part: Sequence[bytes]) -> None:
    """Write pictures into a table of a new file."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("create table pictures (id integer primary key, picture blob)")
        conn.executemany("insert into pictures (picture) values (?)", ((data,) for data in part))


def build_seconds(path: Path, model: str) -> float:
    """Return what `datasette embeddings build` takes for that file, starting and reading the model included."""
    collection = f"{{database: {path.stem}, table: pictures, image: picture, model: {model}, similarities: 0}}"
    return common.build(path, f"collections:\n  pictures: {collection}\n").seconds


if __name__ == "__main__":
    main()
