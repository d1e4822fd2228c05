"""`sentence-transformers/NAME` with the real library and torch, and `minilm` against it."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.models
pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

from checkpoints import write_bert, write_clip  # noqa: E402 - after the check that there is a torch

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


def png(color, size=(40, 60), form="PNG"):
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, form)
    return out.getvalue()


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
    embedded = model.embed([png("red"), "a red square", png("red", form="JPEG"), png("blue", form="WEBP")], "document")
    assert embedded.vectors.shape == (4, 32)
    assert not embedded.failures
    np.testing.assert_allclose(np.linalg.norm(embedded.vectors, axis=1), 1, atol=1e-6)
    red_png, _, red_jpeg, blue = embedded.vectors
    assert red_png @ red_jpeg > red_png @ blue


def test_broken_images_fail_alone(clip):
    model = load(clip)
    good = png("red")
    embedded = model.embed([good, b"", good[:60], b"<svg/>", b"GIF89a"], "document")
    assert set(embedded.failures) == {1, 2, 3, 4}
    np.testing.assert_allclose(embedded.vectors[0], model.embed_one(good, "query"), atol=1e-6)
    assert all("no readable image" in reason for reason in embedded.failures.values())
    assert set(model.embed([b"x", b"y"], "document").failures) == {0, 1}


def test_image_of_too_many_pixels(clip):
    embedded = load(clip).embed([png("red", (20_000, 2_501))], "document")
    assert "20000 x 2501 pixels" in embedded.failures[0]


def test_transparent_images_are_on_white(clip):
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGBA", (40, 60), (0, 0, 0, 0)).save(out, "PNG")
    model = load(clip)
    np.testing.assert_allclose(
        model.embed_one(out.getvalue(), "query"), model.embed_one(png("white"), "query"), atol=1e-6
    )


def test_texts_are_never_opened_or_fetched(clip, tmp_path):
    (tmp_path / "red.png").write_bytes(png("red"))
    image = load(clip).embed_one(png("red"), "document")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/red.png"
        embedded = load(clip).embed([str(tmp_path / "red.png"), address, "data:image/png;base64,AAAA"], "document")
        with pytest.raises(TimeoutError):
            server.accept()
    assert not embedded.failures
    assert (embedded.vectors @ image < 0.999).all()


def test_images_for_a_model_of_texts(bert):
    with pytest.raises(ModelError, match="embeds text, not image"):
        load(bert).embed([png("red")], "document")


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


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does about one repository, the folder *root*, and notes what was asked for."""

    commit = "c" * 40

    def __init__(self, root, asked, *arguments):
        self.root, self.asked = root, asked
        super().__init__(*arguments)

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def answer(self, body):
        path = self.path.partition("?")[0]
        file = self.root / path.partition(f"/acme/tiny/resolve/{self.commit}/")[2]
        if path.startswith("/api/models/acme/tiny"):
            data = json.dumps(self.tree() if "/tree/" in path else {"id": "acme/tiny", "sha": self.commit}).encode()
        elif file.is_file():
            self.asked.add(file.name)
            data = file.read_bytes()
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def tree(self):
        files = [path for path in self.root.rglob("*") if path.is_file()]
        return [
            {"type": "file", "path": str(path.relative_to(self.root)), "size": path.stat().st_size, "oid": "0" * 40}
            for path in files
        ]

    def log_message(self, *arguments):
        pass


def ask_hub(code, **environment):
    """Run *code* in a process of its own, as the hub's client reads its environment once."""
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def test_a_model_of_the_hub_is_fetched_without_its_code(bert, tmp_path):
    root = copy(bert, tmp_path / "repository", {"modeling_evil.py": "", "pytorch_model.bin": "", "onnx/model.onnx": ""})
    asked: set[str] = set()
    code = (
        "from datasette_embeddings.models.sentence_transformers import fetch, load\n"
        "print(fetch('tiny', 'acme/tiny', 'main'))\n"
        "model = load('acme/tiny', {'revision': 'main'})\n"
        "print(model.revision, model.embed_one('a dog', 'query').tolist())"
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, root, asked)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        folder, answer = ask_hub(code, HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "cache")).splitlines()
        server.shutdown()
    fetched = {path.name for path in Path(folder).rglob("*") if path.is_file()}
    assert "model.safetensors" in fetched
    assert not {"modeling_evil.py", "pytorch_model.bin", "model.onnx"} & (fetched | asked)
    revision, vector = answer.split(" ", 1)
    assert revision == Hub.commit
    np.testing.assert_allclose(json.loads(vector), load(bert).embed_one("a dog", "query"), atol=1e-6)


def test_no_hub_and_no_such_folder(tmp_path):
    code = (
        "from datasette_embeddings.models import get_model\n"
        "from datasette_embeddings.errors import ModelError\n"
        "try: get_model('sentence-transformers/no-such-model')\n"
        "except ModelError as error: print(error)"
    )
    said = ask_hub(code, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path))
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
