"""The real all-MiniLM-L6-v2: right vectors, the same in any batch, and weights that are found, checked and downloaded."""

from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from datasette_embeddings.errors import ConfigError, MissingExtra, ModelError
from datasette_embeddings.models import get_model, minilm
from datasette_embeddings.models.weights import PinnedFile, PinnedModel

SEED_ARTICLE = [-0.0345, 0.0310, 0.0067, 0.0261, -0.0394]

TEXTS = [
    "Hello world",
    "The quick brown fox jumps over the lazy dog.",
    "A man is eating food.",
    "café naïve Ünïcödé 東京 ☃",
    "select count(*) from articles where topic = 'python'",
    "one",
    "word " * 100,
    "Someone is having a meal and it takes a long time. " * 40,
]


@pytest.fixture(scope="module")
def model():
    return get_model("minilm")


@pytest.fixture(scope="module")
def folder():
    return minilm.MINILM.find(None, minilm.VARIABLE)


def test_vector_of_the_seed_article(model):
    np.testing.assert_allclose(model.embed_one("Hello world", "query")[:5], SEED_ARTICLE, atol=5e-5)


def test_meaning(model):
    food, meal, dog = model.embed(
        ["A man is eating food.", "Someone is having a meal", "A dog barks"], "document"
    ).vectors
    assert food @ meal > food @ dog + 0.2


def test_attributes(model):
    assert (model.name, model.dimensions, model.max_tokens) == ("minilm", 384, 256)
    assert (model.language, model.revision, model.remote, model.asymmetric) == ("English", "53aa5117", False, False)
    assert model.modalities == {"text"}


def test_a_text_has_one_vector_in_any_batch(model):
    alone = np.array([model.embed_one(text, "document") for text in TEXTS])
    np.testing.assert_array_equal(model.embed(TEXTS, "document").vectors, alone)
    texts = [text for text in TEXTS for _ in range(3)][::-1] + ["filler"] * 30
    for positions, embedded in model.embed_many(texts, "query"):
        for position, vector in zip(positions, embedded.vectors, strict=True):
            if texts[position] in TEXTS:
                np.testing.assert_array_equal(vector, alone[TEXTS.index(texts[position])])


def test_a_text_has_one_vector_with_any_number_of_threads(model):
    single = minilm.load("", {"threads": 1})
    np.testing.assert_array_equal(single.embed(TEXTS, "document").vectors, model.embed(TEXTS, "document").vectors)


def test_calls_from_many_threads(model):
    expected = model.embed(TEXTS, "document").vectors
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: model.embed(TEXTS, "document").vectors, range(8)))
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)


def test_long_texts_are_cut_and_counted(model):
    embedded = model.embed(["word " * 1000, "word " * 254, "word"], "document")
    assert dict(embedded.truncated) == {0: 1002}
    assert embedded.tokens == 256 + 256 + 3
    np.testing.assert_array_equal(embedded.vectors[0], embedded.vectors[1])
    assert model.token_counts(["word " * 100_000]) == [100_002]


def test_odd_texts(model):
    texts = ["", "   ", "\u200b", "a\x00b", "\ud800 broken", "☃ 🦄", "x" * 300]
    embedded = model.embed(texts, "document")
    assert set(embedded.failures) == {0, 1, 2}
    np.testing.assert_array_equal(embedded.vectors[3], model.embed_one("ab", "document"))
    assert embedded.unknown == 3  # the two signs and the word of 300 letters
    assert embedded.words == 1 + 2 + 2 + 1


def test_missing_packages(monkeypatch):
    for package in ("onnxruntime", "tokenizers"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(MissingExtra, match=r"datasette-embeddings-suite\[minilm\]"):
                minilm.load("", {})


def test_settings_and_names_that_do_not_exist():
    with pytest.raises(ConfigError, match="did you mean threads"):
        minilm.load("", {"thread": 2})
    with pytest.raises(ModelError, match="takes no name after it"):
        minilm.load("large", {})


def test_weights_by_path_and_by_environment(folder, monkeypatch, tmp_path):
    for file in minilm.MINILM.files:
        os.symlink(folder / file.name, tmp_path / file.name)
    assert minilm.MINILM.find(str(tmp_path), "UNSET_VARIABLE") == tmp_path
    linked = minilm.load("", {"path": str(tmp_path)})
    np.testing.assert_allclose(linked.embed_one("Hello world", "query")[:5], SEED_ARTICLE, atol=5e-5)
    monkeypatch.setenv(minilm.VARIABLE, str(tmp_path))
    assert minilm.MINILM.find(None, minilm.VARIABLE) == tmp_path


def test_weights_of_another_content_are_refused(folder, tmp_path):
    for file in minilm.MINILM.files:
        shutil.copy(folder / file.name, tmp_path / file.name)
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.seek(50_000_000)
        byte = file.read(1)
        file.seek(50_000_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ModelError, match=r"has SHA-256 .* where 53aa5117"):
        minilm.load("", {"path": str(tmp_path)})
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ModelError, match="has 5 bytes where 90868376 were expected"):
        minilm.load("", {"path": str(tmp_path)})
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(
        ModelError, match=r"model\.safetensors is missing; run `datasette embeddings models install minilm`"
    ):
        minilm.load("", {"path": str(tmp_path)})


def test_no_weights_anywhere(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(minilm.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ModelError, match=r"no weights of minilm were found .* models install minilm"):
        minilm.MINILM.find(None, minilm.VARIABLE)


def test_an_installed_package_is_found_by_its_files(monkeypatch, tmp_path):
    content = b"weights"
    carried = PinnedModel("tiny", "some/tiny", "0" * 40, (PinnedFile("w.bin", hashlib.sha256(content).hexdigest(), 7),))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "carrier_tiny" / "data").mkdir(parents=True)
    (tmp_path / "carrier_tiny" / "data" / "w.bin").write_bytes(content)
    info = tmp_path / "carrier_tiny-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier-tiny\nVersion: 1.0\n")
    (info / "RECORD").write_text("carrier_tiny/data/w.bin,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert carried.find(None, "UNSET_VARIABLE") == tmp_path / "carrier_tiny" / "data"
    (tmp_path / "carrier_tiny" / "data" / "w.bin").write_bytes(b"weighty")
    with pytest.raises(ModelError, match="has SHA-256"):
        carried.find(None, "UNSET_VARIABLE")


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does, from *files* (path -> bytes), or badly."""

    def __init__(self, files, cut, *arguments):
        self.files, self.cut = files, cut
        super().__init__(*arguments)

    def do_GET(self):
        data = self.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: self.cut])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Return a function that serves files on the loopback interface and makes it the hub."""
    servers = []

    def serve(files, cut=None):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, files, cut))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


TINY = b"tiny weights"
TINY_MODEL = PinnedModel(
    "tiny", "some/tiny", "a" * 40, (PinnedFile("w.bin", hashlib.sha256(TINY).hexdigest(), len(TINY)),)
)
TINY_PATH = f"/some/tiny/resolve/{'a' * 40}/w.bin"


def test_install_minilm_from_a_hub(hub, folder, monkeypatch):
    base = f"/{minilm.MINILM.repository}/resolve/{minilm.MINILM.revision}/"
    hub({base + file.name: (folder / file.name).read_bytes() for file in minilm.MINILM.files})
    installed = minilm.install()
    assert sorted(path.name for path in installed.iterdir()) == ["model.safetensors", "tokenizer.json"]
    monkeypatch.delenv(minilm.VARIABLE, raising=False)
    assert minilm.MINILM.find(None, minilm.VARIABLE) == installed
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert minilm.install() == installed  # all there: nothing to download


@pytest.mark.parametrize(
    ("files", "cut", "message"),
    [
        ({}, None, "answered 404"),
        ({TINY_PATH: TINY}, 5, r"ended after 5 of 12 bytes|broke off"),
        ({TINY_PATH: TINY[::-1]}, None, "has SHA-256 .* nothing was kept"),
        ({TINY_PATH: TINY * 200_000}, None, "ended after|has SHA-256"),
    ],
)
def test_bad_downloads_leave_nothing(hub, files, cut, message):
    hub(files, cut)
    with pytest.raises(ModelError, match=message):
        TINY_MODEL.install()
    assert list(TINY_MODEL.cache_folder().iterdir()) == []
    hub({TINY_PATH: TINY})
    assert (TINY_MODEL.install() / "w.bin").read_bytes() == TINY


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("http://127.0.0.1:9", "cannot be reached"),
        ("file:///etc", "no http"),
        ("https://no-such-host.invalid", "cannot be"),
    ],
)
def test_no_hub(monkeypatch, tmp_path, endpoint, message):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(ModelError, match=message):
        TINY_MODEL.install()


def test_cache_folder_that_cannot_be_written(hub, tmp_path, monkeypatch):
    hub({TINY_PATH: TINY})
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="cannot be written"):
        TINY_MODEL.install()


@pytest.mark.models
def test_the_graph_is_what_the_script_makes(folder, tmp_path):
    script = Path(__file__).parent.parent / "scripts" / "make_minilm_graph.py"
    out = tmp_path / "minilm.onnx"
    subprocess.run([sys.executable, script, folder / "model.safetensors", out], check=True, capture_output=True)
    assert out.read_bytes() == minilm.GRAPH.read_bytes()


def test_loading_imports_no_torch():
    code = (
        "import sys; from datasette_embeddings.models import get_model; get_model('minilm').embed_one('a', 'query'); "
        "print([name for name in ('torch', 'transformers', 'onnx', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
