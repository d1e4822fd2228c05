"""`sentence-transformers/NAME` with the real library and torch, and `minilm` against it."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.models
pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

from checkpoints import export_clip, write_bert, write_clip  # noqa: E402 - after the check that there is a torch
from hub_server import COMMIT, Hub, run_at  # noqa: E402
from pictures import claiming, plain, saved  # noqa: E402

from datasette_embeddings.errors import ConfigError, MissingExtra, ModelError  # noqa: E402
from datasette_embeddings.models import get_model, minilm  # noqa: E402

TEXTS = [
    "Hello world",
    "one",
    "café naïve Ünïcödé 東京 ☃",
    "def plugins(database): return list(pm.list_name_plugin())",
    "A man is eating food. " * 5,
    "The storm closed roads and railways along the coast. " * 60,
    "unbelievablylongwordwithoutanyspaces" * 4,
    "select count(*) from articles where topic = 'python';",
]


def load(folder, **settings):
    name = f"sentence-transformers/{folder}"
    return get_model(name, {name: settings} if settings else None)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    pytest.importorskip("PIL")
    return write_clip(tmp_path_factory.mktemp("clip") / "tiny")


def test_minilm_agrees_with_sentence_transformers():
    theirs = load(minilm.MINILM.find(None, minilm.VARIABLE))
    assert (theirs.dimensions, theirs.max_tokens) == (384, 256)
    a, b = theirs.embed(TEXTS, "document"), get_model("minilm").embed(TEXTS, "document")
    assert np.sum(a.vectors * b.vectors, axis=1).min() > 0.99999
    assert np.abs(a.vectors - b.vectors).max() < 1e-5
    assert (a.tokens, dict(a.truncated)) == (b.tokens, dict(b.truncated))


def test_attributes_of_a_folder(bert):
    model = load(bert)
    assert (model.dimensions, model.max_tokens, model.modalities) == (32, 16, {"text"})
    assert (model.language, model.remote, model.asymmetric) == ("unknown", False, False)
    assert len(model.revision) == 12


def test_vectors_are_the_library_s_own(bert):
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(str(bert), device="cpu").encode(["a dog", "cat"], normalize_embeddings=True)
    np.testing.assert_allclose(load(bert).embed(["a dog", "cat"], "document").vectors, expected, atol=1e-6)


def test_long_texts_are_cut_and_counted(bert):
    embedded = load(bert).embed(["a b c " * 20, "cat"], "document")
    assert (dict(embedded.truncated), embedded.tokens) == ({0: 62}, 16 + 3)


def test_truncate_dim(bert):
    whole, short = load(bert), load(bert, truncate_dim=8)
    assert short.dimensions == 8
    expected = whole.embed_one("a dog", "document")[:8]
    np.testing.assert_allclose(short.embed_one("a dog", "document"), expected / np.linalg.norm(expected), atol=1e-6)


def test_prompts_of_the_model_and_of_the_settings(bert, tmp_path):
    plain = load(bert)
    expected = plain.embed_one("query: cat", "document")
    own = load(write_bert(tmp_path / "prompted", query="query: ", document="passage: "))
    assert own.prompts == ("passage: ", "query: ", "as its files say")
    np.testing.assert_allclose(own.embed_one("cat", "query"), expected, atol=1e-6)
    given = load(bert, query_prompt="query: ")
    np.testing.assert_allclose(given.embed_one("cat", "query"), expected, atol=1e-6)
    np.testing.assert_allclose(own.embed_one("cat", "query", ""), plain.embed_one("cat", "query"), atol=1e-6)
    np.testing.assert_allclose(plain.embed_one("cat", "document", "query: "), expected, atol=1e-6)
    assert own.token_counts(["cat"]) == plain.token_counts(["passage: cat"])
    np.testing.assert_allclose(given.embed_one("cat", "document"), plain.embed_one("cat", "document"), atol=1e-6)


def test_revision_follows_the_weights(bert, tmp_path):
    other = write_bert(tmp_path / "other", query="query: ")
    assert load(bert).revision != load(other).revision
    assert load(bert, revision="mine").revision == "mine"


def test_calls_from_many_threads(bert):
    model = load(bert)
    expected = model.embed(["a dog", "cat"], "document").vectors
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(model.embed(["a dog", "cat"], "query"))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    for answer in answers:
        np.testing.assert_allclose(answer.vectors, expected, atol=1e-6)


def test_odd_texts(bert):
    embedded = load(bert).embed(["\ud800 cat", "a\x00b", "☃"], "document")
    assert not embedded.failures
    assert np.isfinite(embedded.vectors).all()


def test_texts_and_images_in_one_space(clip):
    model = load(clip)
    assert (model.modalities, model.dimensions) == ({"text", "image"}, 32)
    embedded = model.embed(
        [plain("red"), "a red square", plain("red", form="JPEG"), plain("blue", form="WEBP")], "document"
    )
    assert embedded.vectors.shape == (4, 32)
    assert not embedded.failures
    np.testing.assert_allclose(np.linalg.norm(embedded.vectors, axis=1), 1, atol=1e-6)
    red_png, _, red_jpeg, blue = embedded.vectors
    assert red_png @ red_jpeg > red_png @ blue


def test_broken_images_fail_alone(clip):
    model = load(clip)
    good = plain("red")
    embedded = model.embed([good, b"", good[:60], b"<svg/>", b"GIF89a"], "document")
    assert set(embedded.failures) == {1, 2, 3, 4}
    np.testing.assert_allclose(embedded.vectors[0], model.embed_one(good, "query"), atol=1e-6)
    assert all("no readable image" in reason for reason in embedded.failures.values())
    assert set(model.embed([b"x", b"y"], "document").failures) == {0, 1}


def test_image_of_too_many_pixels(clip):
    embedded = load(clip).embed([claiming(60_000, 60_000)], "document")
    assert "40,000,000 in all are the most" in embedded.failures[0]


def test_transparent_images_are_on_white(clip):
    from PIL import Image

    model = load(clip)
    clear = saved(Image.new("RGBA", (40, 60), (0, 0, 0, 0)))
    np.testing.assert_allclose(model.embed_one(clear, "query"), model.embed_one(plain("white"), "query"), atol=1e-6)


def test_texts_are_never_opened_or_fetched(clip, tmp_path):
    (tmp_path / "red.png").write_bytes(plain("red"))
    image = load(clip).embed_one(plain("red"), "document")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/red.png"
        embedded = load(clip).embed([str(tmp_path / "red.png"), address, "data:image/png;base64,AAAA"], "document")
        with pytest.raises(TimeoutError):
            server.accept()
    assert not embedded.failures
    assert (embedded.vectors @ image < 0.999).all()


PHRASES = ["a red square", "b", "cat dog c " * 20, "A  Red,\tSQUARE", "☃ é", "x" * 200]


@pytest.fixture(scope="module", params=["two files", "one file"])
def exported(clip, request, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    return export_clip(clip, tmp_path_factory.mktemp("onnx") / "clip", both=request.param == "one file")


def test_clip_by_onnxruntime_agrees(clip, exported):
    """The same weights, random ones, by both libraries: that proves loading, shapes and one space, and nothing about relevance."""
    from PIL import Image

    theirs, ours = load(clip), get_model(f"onnx/{exported}")
    assert (ours.modalities, ours.dimensions, ours.max_tokens) == (theirs.modalities, theirs.dimensions, 24)
    noise = np.random.default_rng(4).integers(0, 256, (90, 70, 3), np.uint8)
    pictures = [saved(Image.fromarray(noise)), plain("red", (33, 200)), saved(Image.fromarray(noise[:20]), "JPEG")]
    for items in (PHRASES, pictures):
        a, b = theirs.embed(items, "document"), ours.embed(items, "document")
        assert np.sum(a.vectors * b.vectors, axis=1).min() > 0.9999
        assert (dict(a.failures), dict(b.failures)) == ({}, {})
        assert (a.tokens, dict(a.truncated)) == (b.tokens, dict(b.truncated))
    vectors = ours.embed([*PHRASES, *pictures], "query").vectors
    assert np.linalg.matrix_rank(vectors) == len(vectors)  # no two of them are the same


def test_a_vector_by_onnxruntime_does_not_depend_on_its_batch(exported):
    model = get_model(f"onnx/{exported}")
    items = [*PHRASES, *(plain(color) for color in ("red", "blue", "white"))]
    alone = np.array([model.embed_one(item, "query") for item in items])
    np.testing.assert_array_equal(model.embed(items[::-1], "query").vectors[::-1], alone)


def test_many_pictures_at_once_are_as_one(clip):
    model = load(clip)
    colors = [f"rgb({n},{255 - n},{n // 2})" for n in range(0, 250, 7)]
    items = [plain(color) if n % 9 else b"no picture" for n, color in enumerate(colors)]
    embedded = model.embed(items, "document")
    assert set(embedded.failures) == set(range(0, len(items), 9))
    np.testing.assert_allclose(embedded.vectors[20], model.embed_one(items[20], "document"), atol=1e-6)


def test_images_for_a_model_of_texts(bert):
    with pytest.raises(ModelError, match="embeds text, not image"):
        load(bert).embed([plain("red")], "document")


def copy(bert: Path, folder: Path, files: dict[str, str]) -> Path:
    shutil.copytree(bert, folder)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("modeling_evil.py", "open('SENTINEL', 'w')", "modeling_evil.py is code"),
        ("2_Dense/pytorch_model.bin", "pickle", "pytorch_model.bin is a pickle"),
        ("adapter_config.json", "{}", "is an adapter"),
        (
            "config.json",
            '{"model_type": "bert", "auto_map": {"AutoModel": "x.Y"}}',
            "config.json asks for code by auto_map",
        ),
        (
            "modules.json",
            '[{"idx": 0, "name": "0", "path": "", "type": "subprocess.Popen"}]',
            r"by type \(subprocess\.Popen\)",
        ),
        ("router_config.json", '{"types": {"query_0": "os.system"}}', r"by type \(os\.system\)"),
        ("2_Dense/config.json", '{"activation_function": "os.system"}', r"activation_function \(os\.system\)"),
        ("config.json", "{", "cannot be read as JSON"),
        ("modules.json", " " * 2_000_001, "has 2000001 bytes"),
    ],
)
def test_folders_with_code_are_refused(bert, tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    folder = copy(bert, tmp_path / "hostile", {name: content})
    with pytest.raises(ModelError, match=message):
        load(folder)
    assert not (tmp_path / "SENTINEL").exists()


def test_folders_without_safetensors(bert, tmp_path):
    folder = copy(bert, tmp_path / "pickled", {})
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"holds no \.safetensors file"):
        load(folder)


@pytest.mark.parametrize("cut", [0, 4, 100, 3000])
def test_truncated_weights(bert, tmp_path, cut):
    folder = copy(bert, tmp_path / "cut", {})
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:cut])
    with pytest.raises(ModelError, match="cannot load"):
        load(folder)


def test_header_of_weights_that_lies(bert, tmp_path):
    folder = copy(bert, tmp_path / "lies", {})
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + data[8:])
    with pytest.raises(ModelError, match="cannot load"):
        load(folder)


@pytest.mark.parametrize("settings", [{"device": "cpu", "dim": 3}, {"truncate_dim": 0}, {"truncate_dim": "8"}])
def test_settings_that_make_no_sense(bert, settings):
    with pytest.raises(ConfigError):
        load(bert, **settings)


def test_device_that_does_not_exist(bert):
    with pytest.raises(ModelError, match="cannot load"):
        load(bert, device="quantum")


def test_a_model_of_the_hub_is_fetched_without_its_code(bert, tmp_path):
    root = copy(bert, tmp_path / "repository", {"modeling_evil.py": "", "pytorch_model.bin": "", "onnx/model.onnx": ""})
    code = (
        "from datasette_embeddings.models.hub import fetch\n"
        "from datasette_embeddings.models.sentence_transformers import SAFE_FILES, load\n"
        "print(fetch('tiny', 'acme/tiny', 'main', SAFE_FILES, ''))\n"
        "model = load('acme/tiny', {'revision': 'main'})\n"
        "print(model.revision, model.embed_one('a dog', 'query').tolist())"
    )
    with Hub(root) as hub:
        folder, answer = hub.run(code, tmp_path / "cache").splitlines()
    fetched = {path.name for path in Path(folder).rglob("*") if path.is_file()}
    assert "model.safetensors" in fetched
    assert not {"modeling_evil.py", "pytorch_model.bin", "model.onnx"} & (fetched | hub.asked)
    revision, vector = answer.split(" ", 1)
    assert revision == COMMIT
    np.testing.assert_allclose(json.loads(vector), load(bert).embed_one("a dog", "query"), atol=1e-6)


def test_no_hub_and_no_such_folder(tmp_path):
    code = (
        "from datasette_embeddings.models import get_model\n"
        "from datasette_embeddings.errors import ModelError\n"
        "try: get_model('sentence-transformers/no-such-model')\n"
        "except ModelError as error: print(error)"
    )
    said = run_at("http://127.0.0.1:9", code, tmp_path)
    assert "there is no folder of that name, and the hub does not give sentence-transformers/no-such-model" in said


def test_missing_package(bert, monkeypatch):
    from datasette_embeddings.models import sentence_transformers as provider

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"datasette-embeddings-suite\[sentence-transformers\]"):
        provider.load(str(bert), {})


def test_codes_of_real_configurations_are_allowed(bert):
    from datasette_embeddings.models.sentence_transformers import code_references

    for path in bert.rglob("*.json"):
        assert list(code_references(json.loads(path.read_text()))) == []
