"""The embedded default model: its table, its tokenizer, and what it finds."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordPiece as Reference
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from datasette_embeddings.errors import ConfigError, ModelError
from datasette_embeddings.models import get_model, static, wordpiece

DATA = files("datasette_embeddings.models") / "data"


@pytest.fixture(scope="module")
def model():
    return static.load("", {})


@pytest.fixture(scope="module")
def reference():
    """The tokenizers package's BERT tokenizer over the same vocabulary."""
    pieces = (DATA / "vocab.txt").read_text("utf-8").removesuffix("\n").split("\n")
    ids = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(Reference(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True
    )
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


def vectors(model, texts):
    return model.embed(texts, "document").vectors


# ---------------------------------------------------------------- the tokenizer


def settled(character: str) -> bool:
    """Say whether Python's and the reference's Unicode versions must agree on a character: old, and never recategorised."""
    then, now = unicodedata.ucd_3_2_0.category(character), unicodedata.category(character)
    return then == now and then not in {"Cn", "Cs"}


HOSTILE = st.text(st.characters(exclude_categories=["Cs", "Cn"]).filter(settled), max_size=60)
WORDS = st.text("aeistrn-_'. \t\n\u00e9\u00dfİΣ京™─", max_size=150)


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(HOSTILE, WORDS))
@example(text="Ünïcödé CAFÉ naïve façade ｆｕｌｌ")
@example(text="a\u0000b\ufffdc\u200bd\u00ade\u2028f\u0085g\u3000h\x1ci")
@example(text="ΟΔΟΣ İstanbul ﬁne ſtraße ǅ")
@example(text="東京tower 한국어 ไทย हिन्दी العربية")
@example(text="C++ & C#: $9.99 <b>x</b> ®™─ `code` ~^|")
@example(text="x" * 100 + " " + "x" * 101 + " " + "é" * 101)
@example(text="👨‍👩‍👧 🇫🇷 ☃️ ½ ² ª")
def test_tokens_are_those_of_the_reference(reference, model, text):
    assert model.tokenizer.encode(text) == reference.encode(text, add_special_tokens=False).ids


def test_every_settled_character_is_treated_as_the_reference_treats_it(reference, model):
    characters = [chr(code) for code in range(0x3000) if not 0xD800 <= code < 0xE000]
    texts = [f"a{character}b" for character in characters if settled(character)]
    expected = [encoding.ids for encoding in reference.encode_batch(texts, add_special_tokens=False)]
    assert [model.tokenizer.encode(text) for text in texts] == expected


def test_special_tokens_are_not_read_from_text(model):
    special = {model.tokenizer.ids[piece] for piece in ("[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]")}
    assert special.isdisjoint(model.tokenizer.encode("[CLS] [SEP] [MASK] [PAD] [UNK]"))


def test_lone_surrogates_are_dropped(model):
    assert model.tokenizer.encode("data\ud800base") == model.tokenizer.encode("database")


def test_the_word_cache_is_bounded_and_changes_nothing(monkeypatch):
    pieces = ["[UNK]", *"abc", *(f"##{letter}" for letter in "abc")]
    texts = [f"{a}{b}{c}" for a in "abc" for b in "abc" for c in "abc"]
    expected = [wordpiece.WordPiece(pieces).encode(text) for text in texts]
    monkeypatch.setattr(wordpiece, "CACHE_WORDS", 5)
    small = wordpiece.WordPiece(pieces)
    for _ in range(2):
        assert [small.encode(text) for text in texts] == expected
        assert len(small._words) <= 5


# ---------------------------------------------------------------- the table and its id


def test_the_id_is_that_of_the_files(model):
    assert model.revision == static.table_id(DATA)
    assert model.revision.startswith("static-256-v1-")


def test_the_id_changes_with_one_number_of_the_table(tmp_path):
    table = np.load(str(DATA / "static.npy"))
    table[2000, 0] += 1
    np.save(tmp_path / "static.npy", table)
    (tmp_path / "vocab.txt").write_bytes((DATA / "vocab.txt").read_bytes())
    assert static.table_id(tmp_path) != static.table_id(DATA)


def test_what_it_says_of_itself(model):
    assert get_model("static").name == model.name == "static"
    assert model.dimensions == 256
    assert model.language == "English"
    assert model.modalities == {"text"}
    assert not model.remote and not model.asymmetric


@pytest.mark.parametrize(("rest", "options"), [("large", {}), ("", {"dimensions": 64})])
def test_there_are_no_variants(rest, options):
    with pytest.raises(ConfigError, match="no variants or settings"):
        static.load(rest, options)


def test_a_damaged_table_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "static.npy").write_bytes(b"not a table")
    monkeypatch.setattr(static, "files", lambda _package: tmp_path)
    with pytest.raises(ModelError, match="reinstall"):
        static.load("", {})


def test_loading_imports_numpy_and_nothing_heavy():
    code = (
        "import sys; from datasette_embeddings.models import get_model; get_model('static').embed_one('hello', 'query');"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "numpy" in loaded
    heavy = {
        "torch",
        "onnxruntime",
        "tokenizers",
        "transformers",
        "scipy",
        "sklearn",
        "openai",
        "llm",
        "PIL",
        "httpx",
        "pydantic",
    }
    assert not loaded & heavy


# ---------------------------------------------------------------- vectors


def test_golden_vectors(model):
    """The numbers of this very table; a new table means a new id and new numbers here."""
    golden = {
        "hello": [-0.018003, 0.05401, -0.048008, -0.060011, -0.042007],
        "Finds things that use other words": [0.051541, -0.031717, 0.019823, 0.047576, 0.067399],
        "déjà vu: 42%": [0.033069, 0.035825, 0.022046, -0.024802, 0.033069],
    }
    assert model.revision == "static-256-v1-b7123a46"
    for text, expected in golden.items():
        assert vectors(model, [text])[0, :5] == pytest.approx(expected, abs=1e-6)


def test_vectors_have_unit_length(model):
    norms = np.linalg.norm(vectors(model, ["a", "two words", "x y z " * 500]), axis=1)
    assert norms == pytest.approx(1, abs=1e-6)


TEXTS = [
    "select name from sqlite_master",
    "The quick brown fox jumps over the lazy dog. " * 40,
    "",
    "dog",
    "dog dog dog cat",
    "Ünïcödé",
    "北京",
    "word " * 20_000,
]


def test_a_vector_does_not_depend_on_its_batch(model):
    alone = np.concatenate([vectors(model, [text]) for text in TEXTS])
    order = [5, 0, 7, 3, 1, 6, 4, 2] * 3
    together = vectors(model, [TEXTS[position] for position in order])
    assert together.tobytes() == alone[order].tobytes()


def test_embed_many_gives_the_same_bits_as_one_at_a_time(model):
    texts = [f"{TEXTS[number % 5]} number {number}" for number in range(5_000)]
    found = np.zeros((len(texts), 256), np.float32)
    for positions, embedded in model.embed_many(texts, "document"):
        found[positions] = embedded.vectors
    some = range(0, len(texts), 97)
    assert found[list(some)].tobytes() == np.concatenate([vectors(model, [texts[n]]) for n in some]).tobytes()


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text("abc dé.東", max_size=30), min_size=1, max_size=8), data=st.data())
def test_order_of_words_and_of_texts_changes_no_bit(model, texts, data):
    order = data.draw(st.permutations(range(len(texts))))
    shuffled = [" ".join(reversed(texts[position].split())) for position in order]
    plain = vectors(model, [" ".join(text.split()) for text in texts])
    assert vectors(model, shuffled).tobytes() == plain[list(order)].tobytes()


def test_a_word_said_often_weighs_the_root_of_how_often(model):
    table, ids = model.table.astype(np.float64), model.tokenizer.ids
    expected = 2 * table[ids["dog"]] + table[ids["cat"]]
    found = vectors(model, ["dog cat dog dog dog"])[0]
    assert found == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("text", ["", " \n\t", "北京市", "Привет, мир"[:6], "\ud800", "مرحبا"])
def test_a_text_without_a_known_word_fails_with_a_reason(model, text):
    embedded = model.embed(["fine", text], "document")
    assert list(embedded.failures) == [1]
    assert not embedded.vectors[1].any()
    assert np.linalg.norm(embedded.vectors[0]) == pytest.approx(1)


def test_an_image_fails_and_its_neighbours_do_not(model):
    embedded = model.embed([b"\x89PNG", "a text"], "document")
    assert embedded.failures == {0: "static reads texts, this is an image"}
    assert embedded.vectors[1].any()


@pytest.mark.parametrize(
    ("text", "unknown", "words"),
    [
        ("A plain English sentence about dogs.", 0, 7),
        ("def café(x): return x ** 2", 0, 11),
        ("Привет мир", 2, 2),
        ("天気 weather", 2, 3),
        ("Geschwindigkeitsbegrenzungen kontrollieren", 2, 2),
        ("x" * 200, 1, 1),
        ("", 0, 0),
    ],
)
def test_words_that_it_does_not_know_are_counted(model, text, unknown, words):
    alone = model.embed([text], "document")
    assert (alone.unknown, alone.words) == (unknown, words)
    between = model.embed(["first one", text, "last"], "document")
    assert (between.unknown, between.words) == (unknown, words + 3)


def test_a_huge_text_is_cut_and_the_cut_is_counted(model):
    read = "word " * static.MAX_TOKENS
    for text, whole in ((read + "more " * 7, static.MAX_TOKENS + 7), ("word " * 2_000_000, 2_000_000)):
        embedded = model.embed(["short", text], "document")
        assert embedded.truncated == {1: whole}
        assert embedded.tokens == static.MAX_TOKENS + 1
    assert model.embed([read], "document").truncated == {}
    assert model.embed(["x" * 3_000_000], "document").failures


# ---------------------------------------------------------------- meaning


@pytest.mark.parametrize(
    ("query", "right", "wrong"),
    [
        ("delete a file", "remove documents from disk", "bake a chocolate cake"),
        ("big cat", "lion", "spreadsheet"),
        ("automobile repair", "fixing cars", "learning the violin"),
        ("how do I undo my last commit", "git reset and revert", "painting with watercolours"),
        ("physician", "doctor in a hospital", "steam locomotive"),
    ],
)
def test_other_words_for_the_same_thing_are_closer(model, query, right, wrong):
    vector, good, bad = vectors(model, [query, right, wrong])
    assert vector @ good > vector @ bad + 0.1


def test_golden_ranking(model):
    documents = [
        "Run a query against a SQLite database and print the rows as JSON",
        "Train a neural network to recognise handwritten digits",
        "Draw a bar chart with labelled axes",
        "Send an electronic mail message through a server",
        "Compress a folder into a zip archive",
        "Translate sentences from French into German",
    ]
    queries = [
        "select from table",
        "deep learning images",
        "plot a histogram",
        "SMTP",
        "make files smaller",
        "language translation",
    ]
    similarities = vectors(model, queries) @ vectors(model, documents).T
    assert similarities.argmax(axis=1).tolist() == [0, 1, 2, 3, 4, 5]
