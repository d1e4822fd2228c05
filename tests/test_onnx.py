"""`onnx/FOLDER`, on tiny networks whose right answer is known, and on folders that are broken or hostile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_files import FLOAT, INT64, model, node, table_lookup, tensor, unit, value, write_folder

from datasette_embeddings.errors import ConfigError, ModelError
from datasette_embeddings.models import get_model
from datasette_embeddings.models.onnx import PIECE_CHARACTERS, batches_of_one_length, pieces_of

CLS, SEP, A, B, C = 2, 3, 4, 5, 6


def load(folder, **settings_):
    return get_model(f"onnx/{folder}", {f"onnx/{folder}": settings_} if settings_ else None)


def test_mean_of_token_vectors(tmp_path):
    m = load(write_folder(tmp_path, table_lookup()))
    assert (m.dimensions, m.max_tokens, m.language, m.asymmetric) == (4, 512, "unknown", False)
    np.testing.assert_allclose(m.embed_one("a b c", "document"), unit([CLS, A, B, C, SEP]), atol=1e-6)


def test_texts_of_all_lengths_in_one_call(tmp_path):
    m = load(write_folder(tmp_path, table_lookup()))
    texts = ["a b c", "b", "c a", "a", "a b c"]
    expected = [unit([CLS, A, B, C, SEP]), unit([CLS, B, SEP]), unit([CLS, C, A, SEP]), unit([CLS, A, SEP])]
    expected.append(expected[0])
    np.testing.assert_allclose(m.embed(texts, "document").vectors, expected, atol=1e-6)
    many = {
        p: row for positions, e in m.embed_many(texts, "document") for p, row in zip(positions, e.vectors, strict=True)
    }
    np.testing.assert_array_equal([many[n] for n in range(5)], m.embed(texts, "document").vectors)


def test_pooling_of_the_folder_and_of_the_settings(tmp_path):
    cls = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    folder = write_folder(tmp_path, table_lookup(), **{"1_Pooling__config": cls})
    np.testing.assert_allclose(load(folder).embed_one("a b", "query"), unit([CLS], "cls"), atol=1e-6)
    np.testing.assert_allclose(load(folder, pooling="mean").embed_one("a", "query"), unit([CLS, A, SEP]), atol=1e-6)


@pytest.mark.parametrize("config", [{"pooling_mode": "lasttoken"}, {"pooling_mode_max_tokens": True}])
def test_pooling_that_is_not_supported(tmp_path, config):
    folder = write_folder(tmp_path, table_lookup(), **{"1_Pooling__config": config})
    with pytest.raises(ModelError, match="mean and cls are supported"):
        load(folder)


def test_token_limit_cuts_and_says_so(tmp_path):
    m = load(write_folder(tmp_path, table_lookup(), sentence_bert_config={"max_seq_length": 4}))
    embedded = m.embed(["a b c d d d", "a b"], "document")
    np.testing.assert_allclose(embedded.vectors[0], unit([CLS, A, B, SEP]), atol=1e-6)
    assert (dict(embedded.truncated), embedded.tokens) == ({0: 8}, 8)
    assert m.token_counts(["a b c d d d"]) == [8]


def test_token_limit_of_the_network(tmp_path):
    files = {"config": {"max_position_embeddings": 40}, "tokenizer_config": {"model_max_length": 10**30}}
    assert load(write_folder(tmp_path, table_lookup(), **files)).max_tokens == 40


def test_prompts_by_purpose(tmp_path):
    prompts = {"prompts": {"query": "b ", "document": "c "}}
    m = load(write_folder(tmp_path, table_lookup(), config_sentence_transformers=prompts))
    assert m.prompts == ("c ", "b ", "as its files say")
    np.testing.assert_allclose(m.embed_one("a", "query"), unit([CLS, B, A, SEP]), atol=1e-6)
    np.testing.assert_allclose(m.embed_one("a", "document"), unit([CLS, C, A, SEP]), atol=1e-6)


def test_unknown_words_are_counted(tmp_path):
    m = load(write_folder(tmp_path, table_lookup()))
    embedded = m.embed(["a zebra b", "quagga"], "document")
    assert (embedded.unknown, embedded.words) == (2, 4)


def test_text_of_nothing_fails_alone(tmp_path):
    embedded = load(write_folder(tmp_path, table_lookup())).embed(["a", "", " "], "document")
    assert set(embedded.failures) == {1, 2}
    assert not embedded.vectors[1:].any()


def test_other_inputs_and_places(tmp_path):
    network = table_lookup(inputs=("input_ids", "attention_mask", "token_type_ids"))
    m = load(write_folder(tmp_path, network, "onnx/model.onnx"))
    np.testing.assert_allclose(m.embed_one("a", "query"), unit([CLS, A, SEP]), atol=1e-6)


def test_relative_folder(tmp_path, monkeypatch):
    write_folder(tmp_path / "mine", table_lookup())
    monkeypatch.chdir(tmp_path)
    np.testing.assert_allclose(load("mine").embed_one("a", "query"), unit([CLS, A, SEP]), atol=1e-6)


def test_revision_follows_all_that_vectors_depend_on(tmp_path):
    revisions = {
        load(write_folder(tmp_path / "1", table_lookup())).revision,
        load(write_folder(tmp_path / "2", table_lookup(), sentence_bert_config={"max_seq_length": 9})).revision,
        load(write_folder(tmp_path / "3", table_lookup(inputs=("input_ids", "attention_mask")))).revision,
        load(tmp_path / "1", pooling="cls").revision,
    }
    assert len(revisions) == 4
    assert load(write_folder(tmp_path / "5", table_lookup())).revision in revisions


def test_external_weights_beside_the_model(tmp_path):
    from onnx_files import TABLE

    (tmp_path / "model.onnx_data").write_bytes(TABLE.tobytes())
    m = load(write_folder(tmp_path, table_lookup("model.onnx_data")))
    np.testing.assert_allclose(m.embed_one("a", "query"), unit([CLS, A, SEP]), atol=1e-6)


def test_weights_outside_the_folder_are_refused(tmp_path):
    from onnx_files import TABLE

    (tmp_path / "secret").write_bytes(TABLE.tobytes())
    for n, location in enumerate(["../secret", str(tmp_path / "secret")]):
        with pytest.raises(ModelError, match="cannot load"):
            load(write_folder(tmp_path / str(n), table_lookup(location)))


def test_no_code_of_a_folder_runs(tmp_path, monkeypatch):
    folder = write_folder(tmp_path, table_lookup(domain="custom"))
    for name in ("sitecustomize.py", "__init__.py", "modeling_x.py", "conftest.py"):
        (folder / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (folder / "custom_ops.so").write_bytes(b"\x7fELF")
    monkeypatch.chdir(folder)
    with pytest.raises(ModelError, match="cannot load"):
        load(folder)
    assert not (tmp_path / "ran").exists()


def test_modules_that_the_network_lacks(tmp_path):
    kinds = ["Transformer", "Pooling", "Dense"]
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    with pytest.raises(ModelError, match="Dense"):
        load(write_folder(tmp_path, table_lookup(), modules=modules))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"modules": "{"}, "modules.json cannot be read as JSON"),
        ({"modules": {}}, "modules.json holds a dict where a list was expected"),
        ({"sentence_bert_config": []}, "holds a list where a dict was expected"),
        ({"sentence_bert_config": {"max_seq_length": "many"}}, "max_tokens is 'many'"),
        ({"tokenizer": "{}"}, "cannot be read as a tokenizer"),
    ],
)
def test_broken_configuration(tmp_path, files, message):
    with pytest.raises((ModelError, ConfigError), match=message):
        load(write_folder(tmp_path, table_lookup(), **files))


@pytest.mark.parametrize("cut", [0, 1, 20, 100, 200])
def test_truncated_model_file(tmp_path, cut):
    with pytest.raises(ModelError, match=r"model\.onnx"):
        load(write_folder(tmp_path, table_lookup()[:cut]))


def test_missing_files(tmp_path):
    with pytest.raises(ModelError, match=r"there is no model\.onnx"):
        load(tmp_path / "nowhere")
    write_folder(tmp_path, table_lookup())
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load(tmp_path)


def test_networks_that_are_no_sentence_models(tmp_path):
    numbers = model(
        [node("Identity", ["numbers"], ["scores"])],
        [],
        [value("numbers", FLOAT, "batch", 3)],
        [value("scores", FLOAT, "batch", 3)],
    )
    with pytest.raises(ModelError, match=r"gives scores"):
        load(write_folder(tmp_path / "1", numbers))
    with pytest.raises(ModelError, match="takes input_ids, pixels"):
        load(write_folder(tmp_path / "2", table_lookup(inputs=("input_ids", "pixels"))))


def test_token_id_outside_the_table_is_an_error_not_a_vector(tmp_path):
    short = np.ones((4, 4), "<f4")
    network = model(
        [node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        [tensor("table", short)],
        [value("input_ids", INT64, "batch", "tokens")],
        [value("last_hidden_state", FLOAT, "batch", "tokens", 4)],
    )
    m = load(write_folder(tmp_path, network))
    with pytest.raises(ModelError, match="cannot run the model"):
        m.embed(["a"], "document")


@pytest.mark.parametrize("given_", [{"thread": 1}, {"threads": "two"}, {"threads": -1}, {"max_tokens": 1}])
def test_settings_that_make_no_sense(tmp_path, given_):
    with pytest.raises(ConfigError):
        load(write_folder(tmp_path, table_lookup()), **given_)


def test_images_are_refused(tmp_path):
    with pytest.raises(ModelError, match="not images"):
        load(write_folder(tmp_path, table_lookup())).embed([b"\x89PNG"], "document")


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 100))
@settings(max_examples=200, deadline=None)
def test_batches_hold_every_text_once_and_one_length_each(lengths, budget):
    batches = list(batches_of_one_length(lengths, budget))
    assert sorted(p for batch in batches for p in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len({lengths[p] for p in batch}) == 1
        assert len(batch) == 1 or sum(lengths[p] for p in batch) <= budget


@pytest.mark.parametrize("text", ["", "a", "word " * 50_000, "x" * 250_000, "x" * 120_000 + " " + "y" * 99_999])
def test_pieces_of_a_long_text(text):
    pieces = list(pieces_of(text))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= PIECE_CHARACTERS
