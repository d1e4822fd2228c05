"""`llm/NAME` over models that the real llm tool has, and our models inside the real `llm` command."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys

import llm
import numpy as np
import pytest
from pictures import claiming, plain

from datasette_embeddings.errors import ConfigError, MissingKey, ModelError, ProviderError
from datasette_embeddings.integrations import llm as integration
from datasette_embeddings.models import get_model
from datasette_embeddings.models import llm as provider

CANARY = "sk-canary-5a7c0ffee5"


class Lengths(llm.EmbeddingModel):
    """A local model of texts and images whose vector says what was given to it."""

    model_id = "lengths"
    supports_binary = True
    batch_size = 4

    def __init__(self):
        self.calls = []

    def embed_batch(self, items, *, key=None):
        items = list(items)
        self.calls.append(items)
        for item in items:
            yield [float(len(item)), 1.0 if isinstance(item, str) else -1.0, 0.0]


class Paid(llm.EmbeddingModel):
    """A model behind a key, of which the provider repeats what it was sent."""

    model_id = "paid"
    needs_key = "paid-service"
    key_env_var = "PAID_KEY"

    def embed_batch(self, items, *, key=None):
        error = RuntimeError(f"{key} may not embed {list(items)}")
        error.status_code = 403
        raise error


class Broken(llm.EmbeddingModel):
    """A local model that gives whatever the test says."""

    model_id = "broken"
    gives = ()

    def embed_batch(self, items, *, key=None):
        if isinstance(self.gives, Exception):
            raise self.gives
        return iter(self.gives)


class Plugin:
    """An llm plugin with the models above, under an alias too."""

    def __init__(self):
        self.lengths, self.paid, self.broken = Lengths(), Paid(), Broken()

    @llm.hookimpl
    def register_embedding_models(self, register):
        register(self.lengths, aliases=("len",))
        register(self.paid)
        register(self.broken)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    from llm.plugins import load_plugins, pm

    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    load_plugins()
    registered = Plugin()
    pm.register(registered)
    yield registered
    pm.unregister(registered)


def test_texts_and_images_go_through_in_order_and_in_llms_batches(plugin):
    model = get_model("llm/lengths", {})
    assert (model.name, model.remote, model.usd_per_million_tokens, model.revision) == (
        "llm/lengths",
        False,
        0.0,
        "",
    )
    assert model.modalities == {"text", "image"}
    texts = [f"{'x' * length}" for length in (5, 1, 4, 2, 3)]
    embedded = provider.load("lengths", {}).embed(texts, "document")
    raw = np.array([[len(text), 1, 0] for text in texts], float)
    assert np.allclose(embedded.vectors, raw / np.linalg.norm(raw, axis=1, keepdims=True))
    assert [len(call) for call in plugin.lengths.calls] == [4, 1]
    picture = plain("red")
    image = provider.load("lengths", {}).embed([picture], "document").vectors[0]
    assert np.allclose(image, np.array([len(picture), -1, 0]) / np.hypot(len(picture), 1))
    assert plugin.lengths.calls[-1] == [picture]  # the file as it is, as llm itself would give it


def test_empty_texts_are_never_sent(plugin):
    model = provider.load("lengths", {})
    assert model.embed(["", " "], "query").failures == {0: "the text is empty", 1: "the text is empty"}
    embedded = model.embed(["", "abc"], "query")
    assert list(embedded.failures) == [0]
    assert embedded.vectors[1] @ [3, 1, 0] == pytest.approx(np.sqrt(10))
    assert plugin.lengths.calls == [["abc"]]


def test_only_pictures_within_bounds_are_sent(plugin):
    model = provider.load("lengths", {})
    good = plain("blue")
    items = [b"", b"  ", good[:40], b"<svg/>", claiming(60_000, 60_000), b"\0" * 20_000_001, good, "a text"]
    embedded = model.embed(items, "document")
    assert set(embedded.failures) == set(range(6))
    assert all("no readable image" in embedded.failures[n] for n in range(4))
    assert "40,000,000 in all are the most" in embedded.failures[4]
    assert "20,000,001 bytes" in embedded.failures[5]
    assert plugin.lengths.calls == [[good, "a text"]]


def test_a_text_that_names_a_picture_is_sent_as_it_is(plugin, tmp_path):
    (tmp_path / "red.png").write_bytes(plain("red"))
    texts = [str(tmp_path / "red.png"), "http://127.0.0.1:9/x.png", "data:image/png;base64,AAAA"]
    provider.load("lengths", {}).embed(texts, "document")
    assert plugin.lengths.calls == [texts]


def test_pictures_and_texts_for_a_model_that_takes_the_other_only(plugin, monkeypatch):
    with pytest.raises(ModelError, match="embeds text, not image"):
        provider.load("broken", {}).embed([plain("red")], "document")
    monkeypatch.setattr(Lengths, "supports_text", False)
    with pytest.raises(ModelError, match="embeds image, not text"):
        provider.load("lengths", {}).embed(["a"], "document")


def test_pictures_through_llm_in_sql(plugin, query, tmp_path):
    path = tmp_path / "x.db"
    sql = "select embed_dimensions(embed_image('llm/lengths', ?)), embed_cosine(embed_image('lengths', ?), embed_image('lengths', ?))"
    assert query(path, sql, *[plain("red")] * 3) == [(3, 1.0)]


def test_an_alias_works_and_its_vectors_are_tied_to_the_model_behind_it(plugin):
    model = provider.load("len", {"price": 2.5, "batch_items": 2})
    assert (model.name, model.revision, model.usd_per_million_tokens) == ("llm/len", "lengths", 2.5)
    model.embed(["a", "b", "c"], "document")
    assert [len(call) for call in plugin.lengths.calls] == [2, 1]


def test_unknown_names_and_settings_name_the_nearest(plugin):
    with pytest.raises(ModelError, match=r"no embedding model 'lenghts'; did you mean lengths\?"):
        provider.load("lenghts", {})
    with pytest.raises(ModelError, match=r"did you mean lengths\?"):
        get_model("lenghts")
    with pytest.raises(ConfigError, match="did you mean price"):
        provider.load("lengths", {"prise": 1})


def test_a_missing_key_is_named_when_there_is_something_to_embed(plugin, monkeypatch):
    monkeypatch.delenv("PAID_KEY", raising=False)
    model = provider.load("paid", {})
    assert model.embed([" "], "document").failures == {0: "the text is empty"}
    for embed in (model.prepare, lambda: model.embed(["a"], "document")):
        with pytest.raises(MissingKey, match=r"llm keys set paid-service.*PAID_KEY"):
            embed()


def test_a_build_with_nothing_to_embed_needs_no_key(plugin, monkeypatch, news, cli, tmp_path):
    monkeypatch.setattr(Paid, "embed_batch", lambda self, items, key=None: [[float(len(i)), 1.0] for i in items])
    block = {"collections": {"c": {"table": "articles", "columns": ["title"], "model": "llm/paid"}}}
    config = tmp_path / "embeddings.json"
    config.write_text(json.dumps(block))
    monkeypatch.setenv("PAID_KEY", CANARY)
    cli("build", news, "-c", config, "--yes")
    monkeypatch.delenv("PAID_KEY")
    monkeypatch.setattr("datasette_embeddings.models._loaded", {})
    assert "nothing changed" in cli("build", news, "-c", config).output
    with sqlite3.connect(news) as conn:
        conn.execute("insert into articles (path, title) values ('new', 'Something new')")
    assert "llm keys set paid-service" in cli("build", news, "-c", config, code=1).output


def test_a_remote_model_fails_without_its_words_or_the_key(plugin, monkeypatch):
    monkeypatch.setenv("PAID_KEY", CANARY)
    model = provider.load("paid", {})
    assert (model.remote, model.usd_per_million_tokens) == (True, None)
    with pytest.raises(ProviderError, match=r"llm/paid: the provider failed \(HTTP 403\)") as caught:
        model.embed(["SECRET-TEXT"], "document")
    assert caught.value.__suppress_context__
    assert CANARY not in str(caught.value)
    assert "SECRET-TEXT" not in str(caught.value)


@pytest.mark.parametrize(
    ("gives", "words"),
    [
        ([[1.0]], "1 vectors for 2 items"),
        ([[1.0]] * 3, "3 vectors for 2 items"),
        ([[1.0], [1.0, 2.0]], "all of one length"),
        ([["a"], ["b"]], "vectors of numbers"),
        ([None, None], "vectors of numbers"),
        (RuntimeError("out of memory"), "RuntimeError: out of memory"),
    ],
    ids=str,
)
def test_a_model_that_misbehaves_is_one_clear_error(plugin, gives, words):
    plugin.broken.gives = gives
    with pytest.raises(ModelError, match=words):
        provider.load("broken", {}).embed(["a", "b"], "document")


def test_nan_is_a_failure_of_its_item_alone(plugin):
    plugin.broken.gives = [[float("nan"), 1.0], [0.0, 2.0]]
    embedded = provider.load("broken", {}).embed(["a", "b"], "document")
    assert list(embedded.failures) == [0]
    assert embedded.vectors[1].tolist() == [0.0, 1.0]


# Our models inside llm


def test_our_models_are_llms_and_are_themselves_when_asked_for_through_it(plugin):
    known = llm.get_embedding_model_aliases()
    for name in integration.MODELS:
        assert isinstance(known[name], integration.EmbeddingModel)
    assert type(get_model("llm/static")) is type(get_model("static"))
    vectors = list(known["static"].embed_multi(f"word number {number}" for number in range(600)))
    ours = get_model("static").embed_one("word number 599", "document")
    assert len(vectors) == 600
    assert np.allclose(vectors[599], ours, atol=1e-6)


@pytest.fixture
def run_llm(tmp_path):
    """Run the llm command as a user would, with a home of its own."""

    def run(*arguments, text=None):
        environment = {**os.environ, "LLM_USER_PATH": str(tmp_path / "llm"), "OMP_NUM_THREADS": "1"}
        environment.pop("LLM_LOAD_PLUGINS", None)
        command = [sys.executable, "-m", "llm", *arguments]
        return subprocess.run(
            command, env=environment, input=text, capture_output=True, text=True, timeout=120, check=False
        )

    return run


def test_llm_embeds_and_searches_with_static(run_llm, tmp_path):
    rows = {"1": "how to bake bread", "2": "trains to Berlin", "3": "the price of a house"}
    file = tmp_path / "rows.csv"
    file.write_text("id,text\n" + "".join(f"{key},{text}\n" for key, text in rows.items()))
    database = str(tmp_path / "rows.db")
    done = run_llm("embed-multi", "rows", str(file), "-d", database, "-m", "static")
    assert done.returncode == 0, done.stderr
    stored = dict(sqlite3.connect(database).execute("select id, embedding from embeddings"))
    for key, text in rows.items():
        assert np.allclose(
            np.frombuffer(stored[key], "<f4"), get_model("static").embed_one(text, "document"), atol=1e-6
        )
    found = run_llm("similar", "rows", "-d", database, "-c", "railway journey", "-n", "1")
    assert json.loads(found.stdout)["id"] == "2", found.stderr


def test_llm_embeds_with_minilm_as_the_model_was_published(run_llm):
    done = run_llm("embed", "-m", "minilm", "-c", "Hello world")
    assert done.returncode == 0, done.stderr
    # sentence-transformers/all-MiniLM-L6-v2 gives these; float32 on another processor moves the sixth decimal
    assert np.allclose(json.loads(done.stdout)[:5], [-0.0345, 0.0310, 0.0067, 0.0261, -0.0394], atol=6e-5)


def test_llm_gets_one_sentence_where_there_is_no_vector(run_llm):
    done = run_llm("embed", "-m", "static", "-c", "   ")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: static gives no vector for '   '")
    assert "Traceback" not in done.stderr
