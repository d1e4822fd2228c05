"""`bridge/FOLDER`: the demonstration's image model with its golden vectors, and what a damaged folder says.

That it finds what looks alike is judged in bench/images.py on pictures that it was not fitted to; floors here are loose.
"""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from datasette.app import Datasette
from PIL import Image

from datasette_embeddings.errors import EmbeddingsError, ModelError
from datasette_embeddings.models import get_model
from demo import catalogue

EYE = Path(__file__).parent.parent / "demo" / "eye"
GOLDEN = Path(__file__).parent / "golden" / "eye.json"
FILES = ("vision_model.onnx", "preprocessor_config.json", "bridge.npz", "bridge.json")

SEED, DRAWN = 77, 26
"""Of the taps here: neither the catalogue's nor those that the model was fitted to."""


@pytest.fixture(scope="module")
def eye():
    return get_model(f"bridge/{EYE}")


@pytest.fixture(scope="module")
def taps():
    return [catalogue.drawn(SEED, number) for number in range(DRAWN)]


@pytest.fixture(scope="module")
def vectors(eye, taps):
    return eye.embed([data for _, data in taps], "document").vectors


@pytest.fixture
def folder(tmp_path):
    """Return a copy of the model's folder, to damage."""
    for file in FILES:
        shutil.copy(EYE / file, tmp_path)
    return tmp_path


def disc(colour: tuple[int, int, int], form: str = "PNG", side: int = 96) -> bytes:
    """Return a picture that every machine draws alike: a disc on white."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    pixels = np.full((side, side, 3), 255, np.uint8)
    pixels[x * x + y * y < (side / 3) ** 2] = colour
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()


ITEMS = [
    disc((200, 30, 40)),
    disc((20, 20, 20)),
    disc((90, 20, 160)),
    "gold purple",
    "tall matt black swan neck",
    "a chair",
]


def test_pictures_and_texts_have_the_vectors_that_they_had(eye):
    """The golden vectors are of the model's first run; `python tests/test_bridge.py` writes them anew with a new model."""
    golden = np.array(json.loads(GOLDEN.read_text()), np.float32)
    found = eye.embed(ITEMS, "document").vectors
    assert np.sum(found * golden, axis=1) == pytest.approx(1, abs=1e-3)


def test_one_space(eye):
    assert (eye.modalities, eye.dimensions, eye.language) == ({"text", "image"}, 256, "English")
    found = eye.embed(["a red tap", disc((200, 30, 40))], "query").vectors
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)
    assert not found[0, :128].any()
    assert found[1, :128].any()


def test_a_picture_has_one_vector_whatever_is_beside_it(eye):
    pictures = [disc((30 * n, 90, 200 - 20 * n)) for n in range(7)]
    together = eye.embed(pictures, "document").vectors
    alone = np.array([eye.embed_one(picture, "query") for picture in reversed(pictures)])[::-1]
    np.testing.assert_array_equal(together, alone)


def test_a_text_is_a_text(eye, tmp_path):
    path = tmp_path / "red.png"
    path.write_bytes(disc((200, 30, 40)))
    for text in (str(path), path.as_uri(), "data:image/png;base64,iVBORw0KGgo="):
        assert not eye.embed_one(text, "query")[:128].any()


def test_what_looks_alike_is_near(taps, vectors):
    """No two of these taps have both shape and finish in common; one of them has the nearest, far oftener than by chance (.2)."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -1)
    kinds = [(attributes.shape, attributes.finish) for attributes, _ in taps]
    alike = [
        a == b for n, other in enumerate(scores.argmax(axis=1)) for a, b in zip(kinds[n], kinds[other], strict=True)
    ]
    assert sum(alike) > 0.7 * len(taps)


@pytest.mark.parametrize("search", ["matt black", "purple tap", "a copper faucet", "gold", "bright red"])
def test_words_find_their_finish(eye, taps, vectors, search):
    attributes, _ = taps[np.argmax(vectors @ eye.embed_one(search, "query"))]
    assert attributes.finish in search


def test_a_file_that_is_no_picture_is_set_aside(eye):
    embedded = eye.embed([disc((0, 0, 0)), b"<svg onload=alert(1)>", "red"], "document")
    assert list(embedded.failures) == [1]
    assert "no readable image" in embedded.failures[1]
    assert not embedded.vectors[1].any()


@pytest.mark.asyncio
async def test_in_sql_pictures_are_ordered_by_a_word(tmp_path):
    with closing(sqlite3.connect(tmp_path / "shop.db")) as conn, conn:
        conn.execute("create table discs (id text primary key, picture blob)")
        colours = {"black": (20, 20, 20), "purple": (90, 20, 160), "red": (200, 30, 40)}
        conn.executemany("insert into discs values (?, ?)", [(name, disc(rgb)) for name, rgb in colours.items()])
    model = f"bridge/{EYE}"
    collection = {"database": "shop", "table": "discs", "image": "picture", "model": model}
    config = {"plugins": {"datasette-embeddings": {"collections": {"discs": collection}}}}
    (tmp_path / "metadata.json").write_text(json.dumps(config))
    sql = "select id from discs order by embed_cosine(embed_image(:m, picture), embed_text(:m, :q)) desc"
    site = Datasette(config_dir=tmp_path)
    path = "/shop.json" if not hasattr(Datasette, "allowed") else "/shop/-/query.json"
    for word in ("purple", "red"):
        response = await site.client.get(path, params={"sql": sql, "m": model, "q": word, "_shape": "arrayfirst"})
        assert response.json()[0] == word


def test_the_revision_covers_every_file(folder):
    before = get_model(f"bridge/{folder}").revision
    for file, change in (
        ("bridge.json", lambda text: text.replace("}", ', "note": 1}')),
        ("preprocessor_config.json", lambda text: text.replace('"resample": 3', '"resample": 2')),
    ):
        path = folder / file
        path.write_text(change(path.read_text()))
        after = get_model(f"bridge/{folder}/{'.' * (file == 'bridge.json')}").revision
        assert after != before, file
        before = after


@pytest.mark.parametrize("file", FILES)
def test_a_file_cut_short_is_an_error_that_names_it(folder, file):
    """Cut at many places; what is left is never a model, and memory is never asked for by what a header claims."""
    whole = (folder / file).read_bytes()
    for part in range(0, 49, 7):
        (folder / file).write_bytes(whole[: len(whole) * part // 50])
        with pytest.raises(ModelError, match=file if file != "vision_model.onnx" else "onnx"):
            load_anew(folder)


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(ModelError, match=file):
        load_anew(folder)


def load_anew(folder):
    from datasette_embeddings.models import bridge

    return bridge.load(str(folder), {})


class Sentinel:
    """What a pickle does when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def arrays(**changed):
    """Return the arrays of the map, some of them changed."""
    with np.load(EYE / "bridge.npz") as file:
        return {key: file[key] for key in file.files} | changed


BROKEN = {
    "of another text model": (arrays(mean=np.zeros(300, np.float32)), "384"),
    "wider than the network": (arrays(map=np.zeros((384, 257), np.float32)), "256"),
    "of no column": (arrays(map=np.zeros((384, 0), np.float32)), "256"),
    "in another type": (arrays(map=np.zeros((384, 128), np.int16)), "float32"),
    "of another rank": (arrays(map=np.zeros(384, np.float32)), "float32"),
    "not a number": (arrays(mean=np.full(384, np.nan, np.float32)), "finite"),
    "without a map": ({"mean": np.zeros(384, np.float32)}, "map"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_wrong_map_says_what_was_expected(folder, what):
    given, said = BROKEN[what]
    np.savez(folder / "bridge.npz", **given)
    with pytest.raises(ModelError, match=f"bridge.npz.*{said}"):
        load_anew(folder)


def test_a_map_that_unpacks_to_any_size_is_not_unpacked(folder):
    np.savez_compressed(folder / "bridge.npz", **arrays(map=np.zeros((384, 50_000), np.float32)))
    assert (folder / "bridge.npz").stat().st_size < 1_000_000
    with pytest.raises(ModelError, match="unpacks to"):
        load_anew(folder)


def test_objects_in_a_map_are_never_opened(folder, tmp_path):
    sentinel = tmp_path / "opened"
    np.savez(folder / "bridge.npz", **arrays(map=np.array([Sentinel(sentinel)], object)))
    with pytest.raises(ModelError, match=r"bridge\.npz"):
        load_anew(folder)
    assert not sentinel.exists()


@pytest.mark.parametrize("wanted", ["openai/text-embedding-3-small", "onnx/elsewhere", "", None, ["minilm"], {"a": 1}])
def test_only_a_built_in_text_model_is_loaded(folder, wanted):
    (folder / "bridge.json").write_text(json.dumps({"text_model": wanted}))
    with pytest.raises(ModelError, match=r"bridge\.json.*minilm"):
        load_anew(folder)


def test_a_network_that_reads_other_pictures_is_refused(folder):
    path = folder / "preprocessor_config.json"
    path.write_text(path.read_text().replace("224", "192"))
    with pytest.raises(EmbeddingsError, match="192"):
        load_anew(folder)


if __name__ == "__main__":
    made = get_model(f"bridge/{EYE}").embed(ITEMS, "document").vectors
    GOLDEN.write_text(json.dumps(np.round(made, 4).tolist()) + "\n")
