"""`onnx/FOLDER` with pictures: CLIP's halves by onnxruntime, on tiny networks whose right answer is known.

A picture's vector is its mean colour here, and a text's the sum of its words, which are names of colours. That proves what is done to
pictures and texts on their way to a network and back; of relevance it proves nothing.
"""

from __future__ import annotations

import json
import random
import socket
import sqlite3
from urllib.parse import urlencode

import numpy as np
import pytest
import yaml
from datasette.app import Datasette
from hub_server import Hub
from onnx_files import (
    COLOR_TABLE,
    FLOAT,
    PREPROCESSING,
    SIDE,
    network_of_both,
    text_network,
    value,
    vision_network,
    write_clip_folder,
)
from pictures import claiming, plain, saved
from PIL import Image

from datasette_embeddings.errors import ConfigError, ModelError
from datasette_embeddings.models import get_model
from datasette_embeddings.models.base import NO_KNOWN_WORD

LAYOUTS = {
    "two files": {"vision_model.onnx": vision_network(), "text_model.onnx": text_network()},
    "in onnx/": {"onnx/vision_model.onnx": vision_network(), "onnx/text_model.onnx": text_network()},
    "one file": {"model.onnx": network_of_both()},
    "one length": {"vision_model.onnx": vision_network(), "text_model.onnx": text_network(length=12)},
}


SIGLIP_TABLE = np.array([*COLOR_TABLE[:-1], (0, 0, 1)], "<f4")
"""Of a network for which the end of a text says something."""


def load(folder, **settings):
    return get_model(f"onnx/{folder}", {f"onnx/{folder}": settings} if settings else None)


def unit(*components):
    return np.array(components) / np.linalg.norm(components)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_texts_and_pictures_are_in_one_space(tmp_path, layout):
    model = load(write_clip_folder(tmp_path, LAYOUTS[layout]))
    assert (model.modalities, model.dimensions, model.asymmetric) == ({"text", "image"}, 3, False)
    assert model.prompts[:2] == ("", "")
    items = [plain("red"), "red", "blue green", plain("white"), plain("blue", form="JPEG"), "red red"]
    expected = [unit(1, 0, 0), unit(1, 0, 0), unit(0, 1, 1), unit(1, 1, 1), unit(0, 0, 1), unit(1, 0, 0)]
    np.testing.assert_allclose(model.embed(items, "query").vectors, expected, atol=0.02)
    many = [
        (position, vector)
        for positions, embedded in model.embed_many(items, "document")
        for position, vector in zip(positions, embedded.vectors, strict=True)
    ]
    np.testing.assert_allclose([vector for _, vector in sorted(many, key=lambda pair: pair[0])], expected, atol=0.02)


def test_a_text_is_cut_at_the_context_and_filling_it_up_changes_nothing(tmp_path):
    free = load(write_clip_folder(tmp_path / "free"))
    assert free.max_tokens == 77
    filled = load(write_clip_folder(tmp_path / "filled", LAYOUTS["one length"]))
    assert filled.max_tokens == 12
    texts = ["red", "red blue", "green red blue white", "blue"]
    np.testing.assert_array_equal(filled.embed(texts, "query").vectors, free.embed(texts, "query").vectors)
    embedded = free.embed([plain("red"), "red " * 75 + "blue", "red"], "document")
    assert (dict(embedded.truncated), embedded.tokens, embedded.unknown) == ({1: 78}, 77 + 3, 0)
    np.testing.assert_allclose(embedded.vectors[1], unit(1, 0, 0))
    assert free.token_counts(["red " * 80, plain("red")]) == [82, 1]
    own = {"config": {"text_config": {"max_position_embeddings": 20}}, "tokenizer_config": {"model_max_length": 10**30}}
    assert load(write_clip_folder(tmp_path / "own", **own)).max_tokens == 20
    assert load(tmp_path / "own", max_tokens=5).max_tokens == 5


def test_words_before_a_text_are_only_those_of_the_settings(tmp_path):
    model = load(write_clip_folder(tmp_path), query_prompt="green ")
    np.testing.assert_allclose(model.embed_one("red", "query"), unit(1, 1, 0), atol=1e-6)
    np.testing.assert_allclose(model.embed_one("red", "document"), unit(1, 0, 0), atol=1e-6)
    np.testing.assert_allclose(model.embed_one(plain("red"), "query"), unit(1, 0, 0), atol=1e-6)


def test_siglip_reads_texts_filled_up_and_pooled(tmp_path):
    both = {
        "vision_model.onnx": vision_network("pooler_output"),
        "text_model.onnx": text_network("pooler_output", last=True, table=SIGLIP_TABLE),
    }
    config = {"model_type": "siglip", "text_config": {"max_position_embeddings": 16}}
    model = load(write_clip_folder(tmp_path / "siglip", both, config=config))
    assert model.max_tokens == 16
    # a word, where the text begins, and thirteen more of its end than CLIP would read
    np.testing.assert_allclose(model.embed_one("red", "query"), unit(1, 0, 14), atol=1e-6)
    np.testing.assert_allclose(model.embed_one(plain("red"), "query"), unit(1, 0, 0), atol=1e-6)
    with pytest.raises(
        ModelError, match="gives pooler_output; text_embeds was expected: export the model with its proj"
    ):
        load(write_clip_folder(tmp_path / "clip", both))


def test_a_folder_may_have_one_half(tmp_path):
    for name, pictures in (("vision_model.onnx", True), ("model.onnx", True), ("text_model.onnx", False)):
        network = vision_network("pooler_output") if pictures else text_network()
        model = load(write_clip_folder(tmp_path / name, {name: network}))
        assert model.modalities == ({"image"} if pictures else {"text"})
        good, bad = (plain("red"), "red") if pictures else ("red", plain("red"))
        np.testing.assert_allclose(model.embed_one(good, "document"), unit(1, 0, 0), atol=1e-6)
        with pytest.raises(ModelError, match=f"only, not {'texts' if pictures else 'images'}"):
            model.embed_one(bad, "document")


# What is done to a picture


def stripes(widths, height=40):
    """Return a picture of stripes of red, blue and green beside each other."""
    image = Image.new("RGB", (sum(widths), height))
    left = 0
    for width, color in zip(widths, ("red", "blue", "lime"), strict=True):
        image.paste(color, (left, 0, left + width, height))
        left += width
    return saved(image)


CROP = {"height": SIDE, "width": SIDE}
BLUE, ALL = (0, 0, 1), (1, 1, 1)


@pytest.mark.parametrize(
    ("config", "vector"),
    [
        ({}, BLUE),  # the shorter side to 8, then the middle: one stripe
        ({"size": SIDE, "crop_size": SIDE}, BLUE),  # as files of 2021 have it
        ({"do_center_crop": False, "size": CROP}, ALL),  # squeezed: three stripes
        ({"do_center_crop": False, "size": SIDE}, ALL),
        ({"size": {"height": 20, "width": 60}}, BLUE),
        ({"size": {"shortest_edge": 4}}, (1, 1, 2)),  # smaller than what is cut out: black above and below
        ({"do_resize": False}, BLUE),
        ({"do_normalize": True, "image_mean": [0.5, 0, 0], "image_std": [0.5, 1, 0.5]}, (-1, 0, 2)),
        ({"do_normalize": True, "image_mean": 0.5, "image_std": 0.5}, (-1, -1, 1)),
        ({"do_pad": False, "crop_pct": None}, BLUE),
    ],
    ids=str,
)
def test_what_a_preprocessor_config_says_is_done(tmp_path, config, vector):
    model = load(write_clip_folder(tmp_path, preprocessor_config={**PREPROCESSING, "resample": 4, **config}))
    np.testing.assert_allclose(model.embed_one(stripes((40, 40, 40)), "query"), unit(*vector), atol=1e-3)


def test_the_configuration_of_a_whole_processor(tmp_path):
    folder = write_clip_folder(tmp_path, processor_config={"image_processor": PREPROCESSING, "processor_class": "x"})
    (folder / "preprocessor_config.json").unlink()
    np.testing.assert_allclose(load(folder).embed_one(plain("red"), "query"), unit(1, 0, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "preprocessor_config.json cannot be read as JSON"),
        ("[]", "does not hold the settings of an image processor"),
        (" " * 100_001, "does not hold the settings"),
        ({"crop_pct": 0.9}, "has crop_pct: 0.9, and what that does to a picture is not known here"),
        ({"do_pad": True}, "has do_pad: True"),
        ({"do_center_crop": False}, "leaves pictures of different shapes"),
        ({"size": {"longest_edge": 8}}, "has size: {'longest_edge': 8}; a number of pixels, shortest_edge"),
        ({"size": {"shortest_edge": "8"}}, "has size"),
        ({"size": None}, "has size: None"),
        ({"crop_size": 0}, "has crop_size: 0"),
        ({"crop_size": 1_000_000}, "of 4096 at most"),
        (
            {"crop_size": {"height": 4, "width": 4}},
            r"reads pictures of the shape \[3, 8, 8\], and they are prepared as \[3, 4, 4\]",
        ),
        ({"resample": 9}, "has resample: 9; a number from 0 to 5"),
        ({"rescale_factor": "x"}, "has rescale_factor: x; a number was expected"),
        ({"do_normalize": True}, "has image_mean: None"),
        ({"do_normalize": True, "image_mean": [0, 0], "image_std": 1}, "three numbers were expected"),
        ({"do_normalize": True, "image_mean": 0, "image_std": [1, 1, 0]}, "nothing can be divided by 0"),
        ({"do_normalize": True, "image_mean": 0, "image_std": [1, 1, float("nan")]}, "a number was expected"),
    ],
    ids=str,
)
def test_what_is_not_known_to_be_done_is_refused(tmp_path, config, message):
    content = config if isinstance(config, str) else {**PREPROCESSING, **config}
    with pytest.raises(ModelError, match=message):
        load(write_clip_folder(tmp_path, preprocessor_config=content))


def test_a_folder_without_it_is_refused(tmp_path):
    folder = write_clip_folder(tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"preprocessor_config\.json is missing"):
        load(folder)


def test_a_strip_of_a_million_pixels_by_one_takes_no_memory(tmp_path):
    side = 224
    network = vision_network(pixels=value("pixel_values", FLOAT, "batch", 3, side, side))
    scaled = {**PREPROCESSING, "size": {"shortest_edge": side}, "crop_size": side}
    model = load(write_clip_folder(tmp_path, {"vision_model.onnx": network}, preprocessor_config=scaled))
    for size in ((1_000_000, 1), (1, 1_000_000)):  # scaled whole, 150 GB
        np.testing.assert_allclose(model.embed_one(plain("red", size), "query"), unit(1, 0, 0), atol=1e-6)


def test_a_large_photograph_is_as_its_small_copy(tmp_path):
    model = load(write_clip_folder(tmp_path, preprocessor_config={**PREPROCESSING, "size": SIDE}))
    noise = np.random.default_rng(5).integers(0, 256, (12, 16, 3), np.uint8)
    small = Image.fromarray(noise)
    large = saved(small.resize((1600, 1200), Image.Resampling.BICUBIC), "JPEG", quality=90)
    assert model.embed_one(large, "query") @ model.embed_one(saved(small), "query") > 0.999


# Which vector a picture has


def test_a_picture_has_one_vector_whatever_it_comes_with(tmp_path):
    rng = np.random.default_rng(3)
    pictures = [saved(Image.fromarray(rng.integers(0, 256, (30 + n, 50, 3), np.uint8))) for n in range(40)]
    folder = write_clip_folder(
        tmp_path, {"vision_model.onnx": vision_network(weights=rng.normal(size=(3, 64)).astype("<f4"))}
    )
    alone = np.array([load(folder).embed_one(picture, "document") for picture in pictures])
    for threads in (1, 2, 5):
        model = load(folder, threads=threads)
        np.testing.assert_array_equal(model.embed(pictures, "query").vectors, alone)
        order = random.Random(threads).sample(range(40), 40)
        mixed = model.embed([pictures[n] for n in order], "document").vectors
        np.testing.assert_array_equal(mixed, alone[order])


def test_a_broken_picture_fails_alone_and_says_why(tmp_path):
    good = plain("red")
    items = ["red", b"", good[:60], b"<svg/>", claiming(60_000, 60_000), b"\0" * 20_000_001, good]
    embedded = load(write_clip_folder(tmp_path)).embed(items, "document")
    assert set(embedded.failures) == {1, 2, 3, 4, 5}
    assert all("no readable image" in embedded.failures[n] for n in (1, 2, 3))
    assert "pixels; 40,000,000 in all are the most" in embedded.failures[4]
    assert "20,000,001 bytes" in embedded.failures[5]
    np.testing.assert_allclose(embedded.vectors[[0, 6]], [unit(1, 0, 0)] * 2, atol=1e-6)


def test_a_text_is_never_opened_or_fetched(tmp_path):
    model = load(write_clip_folder(tmp_path))
    (tmp_path / "red.png").write_bytes(plain("red"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x.png"
        embedded = model.embed([str(tmp_path / "red.png"), address, "data:image/png;base64,AAAA"], "document")
        with pytest.raises(TimeoutError):
            server.accept()
    # as texts they hold no name of a colour
    assert embedded.failures == dict.fromkeys(range(3), NO_KNOWN_WORD)


def test_the_revision_follows_all_that_vectors_depend_on(tmp_path):
    table, weights = COLOR_TABLE * 2, np.eye(3, dtype="<f4") * 2
    folders = {
        "as it is": {},
        "other pictures": {"networks": {**LAYOUTS["two files"], "vision_model.onnx": vision_network(weights=weights)}},
        "other texts": {"networks": {**LAYOUTS["two files"], "text_model.onnx": text_network(table=table)}},
        "other preparation": {"preprocessor_config": {**PREPROCESSING, "resample": 2}},
        "other limit": {"tokenizer_config": {"model_max_length": 9}},
    }
    revisions = [load(write_clip_folder(tmp_path / name, **given)).revision for name, given in folders.items()]
    assert len(set(revisions)) == len(folders)
    assert load(write_clip_folder(tmp_path / "again")).revision == revisions[0]


# Folders that are broken or hostile


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        (
            {"vision_model.onnx": vision_network(weights=np.ones((3, 5), "<f4"))},
            "has 5 dimensions and text_embeds of texts 3",
        ),
        ({"vision_model.onnx": vision_network("pooler_output")}, "pooler_output of pictures has 3 .* not one space"),
        (
            {"vision_model.onnx": vision_network(pixels=value("pixel_values", FLOAT, "batch", 3, 16, 16))},
            r"the shape \[3, 16, 16\], and they are prepared as \[3, 8, 8\]",
        ),
        ({"vision_model.onnx": vision_network(pixels=value("image", FLOAT, "n", 3, SIDE, SIDE))}, "cannot load"),
        ({"vision_model.onnx": text_network()}, "gives text_embeds|takes input_ids; pixel_values were expected"),
        ({"text_model.onnx": text_network("last")}, "gives last; text_embeds was expected"),
        ({"text_model.onnx": vision_network("text_embeds")}, "takes pixel_values"),
    ],
)
def test_networks_that_do_not_belong_together(tmp_path, networks, message):
    with pytest.raises(ModelError, match=message):
        load(write_clip_folder(tmp_path, {**LAYOUTS["two files"], **networks}))


OPSETS = 20
"""Bytes at the end of a network that say which version of the format it needs; it may be read without."""


@pytest.mark.parametrize("file", ["vision_model.onnx", "text_model.onnx"])
def test_truncated_networks(tmp_path, file):
    network = LAYOUTS["two files"][file]
    for cut in range(0, len(network) - OPSETS, 3):
        with pytest.raises(ModelError, match=file.replace(".", r"\.")):
            load(write_clip_folder(tmp_path / str(cut), {**LAYOUTS["two files"], file: network[:cut]}))


def test_networks_with_other_bytes_are_an_error_or_a_model(tmp_path):
    network = bytearray(vision_network())
    rng = random.Random(8)
    for attempt in range(150):
        damaged = bytearray(network)
        for _ in range(3):
            damaged[rng.randrange(len(network))] = rng.choice([0, 1, 0x7F, 0xFF, rng.randrange(256)])
        folder = write_clip_folder(tmp_path / str(attempt), {"vision_model.onnx": bytes(damaged)})
        try:
            model = load(folder)
        except ModelError as error:
            assert str(folder) in str(error)
        else:
            assert len(model.embed([plain("red")], "query").vectors) == 1


def test_weights_that_claim_to_be_large_take_no_memory(tmp_path):
    # 2^40 x 3 numbers, of which the file has nine
    claim = vision_network().replace(b"\x08\x03\x08\x03\x10\x01", b"\x08\x80\x80\x80\x80\x80\x20\x08\x03\x10\x01")
    assert claim != vision_network()
    with pytest.raises(ModelError, match="vision_model"):
        load(write_clip_folder(tmp_path, {"vision_model.onnx": claim}))


def test_no_code_of_a_folder_runs(tmp_path, monkeypatch):
    folder = write_clip_folder(tmp_path, config={"model_type": "clip", "auto_map": {"AutoModel": "evil.Model"}})
    for name in ("sitecustomize.py", "evil.py", "image_processing_evil.py", "__init__.py"):
        (folder / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    monkeypatch.chdir(folder)
    np.testing.assert_allclose(load(folder).embed_one(plain("red"), "query"), unit(1, 0, 0), atol=1e-6)
    assert not (tmp_path / "ran").exists()


def test_settings_that_make_no_sense(tmp_path):
    folder = write_clip_folder(tmp_path)
    for settings in ({"pooling": "mean"}, {"max_tokens": 1}, {"max_tokens": "9"}, {"threads": -1}, {"thread": 1}):
        with pytest.raises(ConfigError):
            load(folder, **settings)


# In SQL, in builds and from the hub


@pytest.fixture
def shop(tmp_path):
    """A folder with a database of four pictures, one of them broken, and the configuration of a collection of them."""
    folder = tmp_path / "site"
    folder.mkdir()
    name = f"onnx/{write_clip_folder(tmp_path / 'clip')}"
    with sqlite3.connect(folder / "shop.db") as conn:
        conn.execute("create table taps (id text primary key, picture blob)")
        conn.executemany(
            "insert into taps values (?, ?)", [(color, plain(color)) for color in ("red", "lime", "white")]
        )
        conn.execute("insert into taps values ('broken', ?)", [plain("red")[:50]])
    conn.close()
    collections = {"taps": {"database": "shop", "table": "taps", "image": "picture", "model": name}}
    block = {"plugins": {"datasette-embeddings": {"collections": collections, "models": {name: {}}}}}
    (folder / "metadata.yml").write_text(yaml.safe_dump(block))
    return folder, name


async def answer(site, sql, **parameters):
    path = "/shop.json" if not hasattr(Datasette, "allowed") else "/shop/-/query.json"
    response = await site.client.get(f"{path}?{urlencode({'sql': sql, '_shape': 'arrayfirst', **parameters})}")
    return response.json() if response.status_code == 200 else response.json()["error"]


@pytest.mark.asyncio
async def test_pictures_in_sql(shop):
    folder, name = shop
    site = Datasette(config_dir=folder)
    cosine = "select embed_cosine(embed_text(:m, :text), embed_image(:m, picture)) from taps where id = :id"
    assert await answer(site, cosine, m=name, text="red", id="red") == [1.0]
    assert await answer(site, cosine, m=name, text="red", id="lime") == [0.0]
    assert (await answer(site, cosine, m=name, text="red green", id="white"))[0] == pytest.approx(0.8165, abs=1e-4)
    assert await answer(site, "select embed_image(:m, null)", m=name) == [None]
    refused = {
        "picture from taps where id = 'broken'": "no readable image",
        "'/etc/passwd'": "takes the image file as a BLOB; found text",
        f"x'{claiming(60_000, 60_000).hex()}'": "40,000,000 in all are the most",
        "zeroblob(20000001)": "20,000,001 bytes; 20,000,000 are the most",
    }
    for picture, said in refused.items():
        expression, _, source = picture.partition(" from ")
        sql = f"select embed_image(:m, {expression})" + (f" from {source}" if source else "")
        assert said in await answer(site, sql, m=name), picture
    assert "not named in this site's configuration" in await answer(site, "select embed_image('onnx//tmp', x'00')")


def test_a_build_embeds_each_picture_once(shop, cli):
    folder = shop[0]
    said = cli("build", folder).output
    with sqlite3.connect(folder / "shop.db") as conn:
        ids = [row for (row,) in conn.execute("select id from embeddings order by id")]
        reasons = conn.execute("select id, reason from embeddings_issues").fetchall()
    conn.close()
    assert ids == ["lime", "red", "white"], said
    assert [item for item, _ in reasons] == ["broken"]
    assert "no readable image" in reasons[0][1]
    assert "nothing changed" in cli("build", folder).output
    found = json.loads(cli("search", folder / "shop.db", "taps", "green", "--json", "-n", "1").output)
    assert (found[0]["id"], found[0]["score"]) == ("lime", 1.0)


def test_the_list_of_models_says_which_take_pictures(cli):
    entries = json.loads(cli("models", "--json").output)
    takes = {entry["model"].partition("/")[0] for entry in entries if "pictures" in entry["about"]}
    assert takes >= {"onnx", "sentence-transformers", "llm"}
    assert not takes & {"static", "minilm", "words", "openai"}


def test_a_model_of_the_hub_is_taken_at_a_commit_and_without_what_is_not_needed(tmp_path):
    root = write_clip_folder(tmp_path / "repository", LAYOUTS["in onnx/"])
    for name in ("onnx/model.onnx", "onnx/vision_model_fp16.onnx", "model.safetensors", "evil.py", "pytorch_model.bin"):
        (root / name).write_bytes(b"x")
    code = (
        "from datasette_embeddings.models import get_model\n"
        "model = get_model('onnx/acme/tiny', {'onnx/acme/tiny': {'revision': 'c' * 40}})\n"
        "print(model.embed_one('red', 'query').tolist(), model.revision)\n"
    )
    with Hub(root) as hub:
        said = hub.run(code, tmp_path / "cache")
        asked = set(hub.asked)
        again = hub.run(code, tmp_path / "cache", HF_HUB_OFFLINE="1")
    assert said == again
    assert said.startswith("[1.0, 0.0, 0.0] ")
    assert said.split()[-1] == load(write_clip_folder(tmp_path / "folder")).revision
    assert asked == {
        "vision_model.onnx",
        "text_model.onnx",
        "tokenizer.json",
        "config.json",
        "preprocessor_config.json",
    }


def test_a_model_of_one_file_from_the_hub_with_weights_beside_it(tmp_path):
    root = write_clip_folder(
        tmp_path / "repository", {"model.onnx": vision_network("pooler_output", beside="model.onnx_data")}
    )
    (root / "model.onnx_data").write_bytes(np.eye(3, dtype="<f4").tobytes())
    code = (
        "from datasette_embeddings.models import get_model\n"
        "model = get_model('onnx/acme/tiny', {'onnx/acme/tiny': {'revision': 'main'}})\n"
        "print(sorted(model.modalities), model.dimensions)\n"
    )
    with Hub(root) as hub:
        assert hub.run(code, tmp_path / "cache") == "['image'] 3\n"


def test_nothing_is_taken_from_the_hub_without_a_revision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match="there is no folder acme/tiny; to take that model from the hub, set `revision`"
    ):
        load("acme/tiny")
