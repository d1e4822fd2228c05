"""`openai/NAME` through the real SDK and real sockets: what is sent, what comes back, every fault between."""

from __future__ import annotations

import gzip
import logging
import math
import random
import threading
import time

import numpy as np
import pytest
from openai_server import (
    OpenAIServer,
    count_tokens,
    drip,
    drip_headers,
    edited,
    half,
    pack,
    raw,
    reset,
    silence,
    status,
    vector,
)

from datasette_embeddings.errors import ConfigError, MissingKey, ProviderError
from datasette_embeddings.models import openai as provider

CANARY = "sk-canary-5a7c0ffee5"
AT_ONCE = {"retry-after-ms": "1"}
TEXTS = [f"text number {number} about {subject}" for number, subject in enumerate(["cats", "trains", "bread"] * 4)]


@pytest.fixture
def server():
    with OpenAIServer() as running:
        yield running


def model_at(server, **settings):
    return provider.load("test-model", {"base_url": server.url, "timeout": 5, **settings})


def expected(texts, dimensions=64):
    return np.stack([vector(text, dimensions) for text in texts])


def embed(model, texts):
    return model.embed(texts, "document")


def embed_many(model, texts):
    """Return (n, d) in the order of *texts*, whatever the batches were."""
    rows = {}
    for positions, embedded in model.embed_many(texts, "document"):
        rows.update(zip(positions, embedded.vectors, strict=True))
    return np.stack([rows[at] for at in range(len(texts))])


# What is sent and what comes back


@pytest.mark.parametrize("ignores", [set(), {"encoding_format"}], ids=["base64", "float"])
def test_vectors_come_back_in_order_and_are_counted(ignores):
    with OpenAIServer(ignores=ignores) as server:
        model = model_at(server)
        embedded = embed(model, TEXTS)
        assert np.allclose(embedded.vectors, expected(TEXTS), atol=1e-6)
        assert embedded.tokens == sum(map(count_tokens, TEXTS))
        assert (embedded.failures, embedded.truncated, model.dimensions) == ({}, {}, 64)
        body = server.requests[0].body
        assert body == {"model": "test-model", "input": TEXTS, "encoding_format": "base64"}


def test_similar_texts_are_near_and_others_are_not(server):
    near, far = embed(model_at(server), ["red bread and butter", "bread and red butter", "nine trains"]).vectors[1:]
    query = embed(model_at(server), ["butter, bread, red, and"]).vectors[0]
    assert query @ near > 0.99 > 0.5 > query @ far


def test_many_texts_go_in_batches_by_count_and_by_tokens(server):
    model = model_at(server, batch_items=5)
    assert np.allclose(embed_many(model, TEXTS), expected(TEXTS), atol=1e-6)
    assert [len(request.texts) for request in server.requests] == [5, 5, 2]
    model = model_at(server)
    long = ["word " * 100_000] * 3  # each 166,667 tokens by estimate: two would be more than a request may hold
    server.requests.clear()
    assert sum(len(positions) for positions, _ in model.embed_many(long, "document")) == 3
    assert [len(request.texts) for request in server.requests] == [1, 1, 1]


def test_long_texts_are_cut_at_a_whole_character_and_reported(server):
    model = model_at(server, max_tokens=4)
    embedded = embed(model, ["short", "abcdefghijk" + "é" * 10])
    assert server.requests[0].texts == ["short", "abcdefghijk"]  # 12 bytes; the last would be half an é
    assert embedded.truncated == {1: 11}  # 31 bytes, a third of that in tokens
    assert model.revision == "max_tokens=4"


def test_empty_texts_are_never_sent_and_are_accounted_for(server):
    embedded = embed(model_at(server), ["", "bread", " \n\t"])
    assert embedded.failures == {0: "the text is empty", 2: "the text is empty"}
    assert np.allclose(embedded.vectors[1], vector("bread", 64))
    assert server.requests[0].texts == ["bread"]
    model = model_at(server)
    assert len(embed(model, ["", " "]).failures) == 2
    assert server.calls == 1
    assert embed(model, ["bread"]).vectors.shape == (
        1,
        64,
    )  # a batch of none left no number of dimensions behind


def test_odd_texts_arrive(server):
    texts = ["NUL \0 inside", "lone \ud800 surrogate", "emoji 🙂", "quotes \" ' \\"]
    assert not embed(model_at(server), texts).failures
    assert server.requests[0].texts == ["NUL \0 inside", "lone ? surrogate", "emoji 🙂", "quotes \" ' \\"]


def test_images_are_refused_before_anything_is_sent(server):
    with pytest.raises(ProviderError, match="texts, not images"):
        embed(model_at(server), [b"\x89PNG"])
    assert server.calls == 0


def test_tokens_are_estimated_where_the_server_does_not_count(server):
    server.always(edited(lambda answer: answer.pop("usage")))
    assert embed(model_at(server), ["123456"]).tokens == 2


# Settings


def test_openai_itself_is_known_without_asking(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    model = provider.load("text-embedding-3-large", {})
    assert (model.name, model.dimensions, model.max_tokens) == ("openai/text-embedding-3-large", 3072, 8191)
    assert (model.remote, model.usd_per_million_tokens, model.revision) == (True, 0.13, "")
    short = provider.load("text-embedding-3-small", {"dimensions": 512, "price": 0.01})
    assert (short.dimensions, short.revision, short.usd_per_million_tokens) == (512, "dimensions=512", 0.01)
    assert provider.load("other", {}).usd_per_million_tokens is None
    assert CANARY not in repr(vars(model))


def test_names_of_llm_with_dimensions_ask_for_them():
    with OpenAIServer(dimensions=1536) as server:
        model = provider.load("text-embedding-3-small-512", {"base_url": server.url})
        assert embed(model, ["bread"]).vectors.shape == (1, 512)
        sent = server.requests[0].body
        assert (sent["model"], sent["dimensions"]) == ("text-embedding-3-small", 512)


def test_a_local_server_needs_no_key_and_costs_nothing(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    model = model_at(server)
    assert (model.remote, model.usd_per_million_tokens) == (False, 0.0)
    embed(model, ["bread"])
    assert CANARY not in str(server.requests)  # OpenAI's key is for OpenAI


def test_a_local_server_is_reached_past_a_proxy_of_the_environment(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert len(embed(model_at(server), ["bread"]).vectors) == 1


def test_the_key_comes_from_the_named_variable(monkeypatch):
    monkeypatch.setenv("MY_KEY", f" {CANARY}\n")
    with OpenAIServer(key=CANARY) as server:
        assert len(embed(model_at(server, api_key={"$env": "MY_KEY"}), ["bread"]).vectors) == 1


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({}, "OPENAI_API_KEY"),
        ({"api_key": {"$env": "MY_KEY"}}, "MY_KEY"),
        ({"base_url": "https://h.example/v1"}, "api_key"),
    ],
)
def test_a_missing_key_is_named(settings, variable, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("MY_KEY", "")
    with pytest.raises(MissingKey, match=variable):
        provider.load("m", settings).prepare()


def test_another_host_never_gets_the_key_of_openai(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    with pytest.raises(MissingKey, match=r"which key h\.example gets"):
        provider.load("m", {"base_url": "https://h.example/v1"}).prepare()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dimension": 8}, "did you mean dimensions"),
        ({"dimensions": 0}, "whole number from 1"),
        ({"dimensions": True}, "whole number from 1"),
        ({"batch_items": 5000}, "1 to 2048"),
        ({"timeout": 0}, "more than 0"),
        ({"timeout": math.inf}, "more than 0"),
        ({"price": "cheap"}, "USD"),
        ({"base_url": "http://example.com/v1"}, "https"),
        ({"base_url": "ftp://example.com"}, "web address"),
        ({"base_url": "http://[::1"}, "web address"),
        ({"base_url": "http://127.0.0.1:99999/v1"}, "web address"),
        ({"base_url": f"https://me:{CANARY}@example.com/v1"}, "user name"),
        ({"base_url": f"https://example.com/v1?key={CANARY}"}, "query"),
        ({"api_key": CANARY}, r"\$env"),
        ({"api_key": {"$env": "A", "key": CANARY}}, r"\$env"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words) as caught:
        provider.load("m", settings)
    assert CANARY not in str(caught.value)


def test_more_dimensions_than_the_model_has_are_refused():
    with pytest.raises(ConfigError, match="at most 1536"):
        provider.load("text-embedding-3-small", {"dimensions": 2000})


def test_a_key_with_a_line_break_is_refused_without_showing_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{CANARY}\nx")
    with pytest.raises(MissingKey, match="OPENAI_API_KEY") as caught:
        provider.load("m", {}).prepare()
    assert CANARY not in str(caught.value)


# Faults that pass


PASSING = {
    "408": status(408, AT_ONCE),
    "409": status(409, AT_ONCE),
    "429 with Retry-After": status(429, {"retry-after": "7"}),
    "429 with Retry-After in ms": status(429, AT_ONCE),
    "429 without": status(429),
    "500": status(500),
    "502": status(502, {"content-type": "text/html"}),
    "503 until a date": status(503, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "504": status(504),
    "reset": reset,
    "half body": half,
    "web page": raw(b"<html><h1>Bad Gateway</h1>", {"content-type": "text/html"}),
    "half JSON": raw(b'{"data": [{"index": 0, "embedd'),
    "empty body": raw(b""),
    "compressed": raw(gzip.compress(b"0" * 10_000_000), {"content-encoding": "gzip"}),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_fault_of_the_nth_call_changes_nothing(server, naps, fault):
    model = model_at(server, batch_items=4)
    for nth in (1, 2, 3):
        server.requests.clear()
        naps.clear()
        server.script(*[None] * (nth - 1), fault)
        assert np.allclose(embed_many(model, TEXTS), expected(TEXTS), atol=1e-6)
        assert server.calls == 4
        assert len(naps) == 1
        assert 0 < naps[0] <= 8


def test_retry_after_is_honoured(server, naps):
    server.script(status(429, {"retry-after": "7"}), status(503, {"retry-after-ms": "250"}))
    embed(model_at(server), ["bread"])
    assert naps == [7, 0.25]


@pytest.mark.parametrize("fault", [silence, drip, drip_headers], ids=["silence", "drip", "drip of headers"])
def test_one_try_that_hangs_is_given_up_and_repeated(server, naps, fault):
    server.script(fault)
    begun = time.monotonic()
    model = model_at(server, timeout=0.3)
    if fault is drip_headers:  # only the whole request can be timed then
        with pytest.raises(ProviderError, match=r"no usable answer within 1\.5 s, after 1 try"):
            embed(model, ["bread"])
    else:
        assert np.allclose(embed(model, ["bread"]).vectors, expected(["bread"]), atol=1e-6)
    assert time.monotonic() - begun < 2.5


# Faults that stay


def test_retries_end_and_say_what_happened(server, naps):
    server.always(status(429))
    with pytest.raises(ProviderError) as caught:
        embed(model_at(server), ["bread"])
    assert server.calls == len(naps) + 1 == 6
    host = server.url.split("/")[2]
    assert str(caught.value) == (
        f"openai/test-model: {host}: HTTP 429, request id req_0123456789abcdef, "
        "after 6 tries: the rate limit or the quota is used up: try again later, or lower batch_items. "
        "Nothing of this batch was kept"
    )


STAYING = {
    "reset": (reset, "broke off the connection"),
    "half body": (half, "broke off the connection"),
    "web page": (raw(b"<html>"), "not JSON"),
    "NaN in JSON": (raw(b'{"data": [{"index": 0, "embedding": [NaN, 1.0]}]}'), "not JSON"),
    "too long": (raw(b" " * 1_300_000), "longer than 1,250,000 bytes"),
    "compressed": (raw(gzip.compress(b"0" * 10_000_000), {"content-encoding": "gzip"}), "compressed"),
    "500": (status(500), "HTTP 500.*in trouble"),
    "529": (status(529), "HTTP 529.*in trouble"),
}


@pytest.mark.parametrize(("fault", "words"), STAYING.values(), ids=STAYING)
def test_a_lasting_fault_is_one_clear_error(server, naps, fault, words):
    server.always(fault)
    with pytest.raises(ProviderError, match=words) as caught:
        embed(model_at(server, max_retries=2), ["bread"])
    assert server.calls == 3
    assert "after 3 tries" in str(caught.value)


def test_silence_and_slow_answers_are_named(server, naps):
    for fault, words in [(silence, r"silent for 0\.2 s"), (drip, "too slowly")]:
        server.always(fault)
        with pytest.raises(ProviderError, match=words):
            embed(model_at(server, timeout=0.2, max_retries=1), ["bread"])


def test_a_request_with_all_its_waits_has_a_deadline(server):
    server.always(status(429, {"retry-after": "60"}))
    begun = time.monotonic()
    with pytest.raises(ProviderError, match=r"within 1 s, after 1 try; the last: HTTP 429"):
        embed(model_at(server, timeout=0.2), ["bread"])
    assert 0.9 < time.monotonic() - begun < 2


def test_nobody_listening_is_named_at_once(naps):
    with OpenAIServer() as gone:
        url = gone.url
    with pytest.raises(ProviderError, match="cannot be reached"):
        embed(provider.load("m", {"base_url": url}), ["bread"])


@pytest.mark.parametrize(
    ("code", "words"),
    [(401, "the key is"), (402, "spend"), (403, "may not use"), (404, "no such model"), (418, "status")],
)
def test_what_cannot_pass_is_not_tried_again(server, code, words):
    server.always(status(code))
    with pytest.raises(ProviderError, match=f"HTTP {code}, .*after 1 try.*{words}"):
        embed(model_at(server), ["bread"])
    assert server.calls == 1


def test_no_redirect_is_followed_to_another_host(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", CANARY)
    with OpenAIServer() as other:
        for code in (301, 302, 303, 307, 308):
            server.always(status(code, {"location": f"{other.url}/embeddings"}))
            with pytest.raises(ProviderError, match=f"HTTP {code}.*redirects"):
                embed(model_at(server, api_key={"$env": "MY_KEY"}), ["bread"])
        assert (server.calls, other.calls) == (5, 0)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 429, 500])
def test_neither_key_nor_the_servers_words_are_ever_shown(server, code, monkeypatch, caplog, naps):
    monkeypatch.setenv("MY_KEY", CANARY)
    echo = {"x-request-id": CANARY, "x-echo": f"Bearer {CANARY}", "www-authenticate": CANARY}
    server.always(status(code, echo, message=f"{CANARY} is not good for SECRET-TEXT"))
    with caplog.at_level(logging.DEBUG), pytest.raises(ProviderError) as caught:
        embed(model_at(server, api_key={"$env": "MY_KEY"}), ["bread"])
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    assert caplog.records  # the libraries did log
    shown = str(caught.value) + repr(caught.value) + caplog.text
    assert CANARY not in shown
    assert "SECRET-TEXT" not in shown


def test_a_request_id_that_is_the_key_is_not_shown(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "0123456789abcdef")
    server.always(status(401, {"x-request-id": "req_0123456789abcdef"}))
    with pytest.raises(ProviderError, match="HTTP 401, after") as caught:
        embed(model_at(server, api_key={"$env": "MY_KEY"}), ["bread"])
    assert "0123456789abcdef" not in str(caught.value)


def test_a_fault_leaves_the_model_usable(server, naps):
    model = model_at(server, max_retries=0)
    server.script(reset, status(401))
    for _ in range(2):
        with pytest.raises(ProviderError):
            embed(model, ["bread"])
    assert np.allclose(embed(model, ["bread"]).vectors, expected(["bread"]), atol=1e-6)


def test_threads_share_a_model(server):
    model = model_at(server)
    answers: dict[str, np.ndarray] = {}

    def ask(text: str) -> None:
        answers[text] = model.embed_one(text, "query")

    threads = [threading.Thread(target=ask, args=(text,)) for text in TEXTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.allclose([answers[text] for text in TEXTS], expected(TEXTS), atol=1e-6)


# Answers that make no sense


def first(answer):
    return answer["data"][0]


WRONG = {
    "no data": (lambda answer: answer.pop("data"), "no list `data`"),
    "data is text": (lambda answer: answer.update(data="x"), "no list `data`"),
    "empty list": (lambda answer: answer["data"].clear(), "0 vectors for 12 texts"),
    "one too few": (lambda answer: answer["data"].pop(3), "11 vectors for 12 texts"),
    "one too many": (lambda answer: answer["data"].append(first(answer)), "13 vectors for 12 texts"),
    "missing index": (lambda answer: first(answer).pop("index"), "no index from 0 to 11"),
    "duplicate index": (lambda answer: first(answer).update(index=5), "two vectors have the index 5"),
    "index beyond": (lambda answer: first(answer).update(index=12), "no index from 0 to 11"),
    "negative index": (lambda answer: first(answer).update(index=-1), "no index from 0 to 11"),
    "index as text": (lambda answer: first(answer).update(index="0"), "no index from 0 to 11"),
    "index as truth": (lambda answer: first(answer).update(index=False), "no index from 0 to 11"),
    "entry is null": (lambda answer: answer["data"].__setitem__(0, None), "no index from 0 to 11"),
    "no vector": (lambda answer: first(answer).pop("embedding"), "no list of numbers"),
    "null inside": (lambda answer: first(answer).update(embedding=[None] * 64), "no list of numbers"),
    "texts inside": (lambda answer: first(answer).update(embedding=["1"] * 64), "no list of numbers"),
    "nested": (lambda answer: first(answer).update(embedding=[[1.0] * 64]), "no list of numbers"),
    "ragged": (lambda answer: first(answer).update(embedding=[[1.0], [1.0, 2.0]]), "no list of numbers"),
    "empty vector": (lambda answer: first(answer).update(embedding=[]), "is empty"),
    "empty base64": (lambda answer: first(answer).update(embedding=""), "is empty"),
    "garbage base64": (lambda answer: first(answer).update(embedding="!" * 340), "not base64"),
    "not ASCII": (lambda answer: first(answer).update(embedding="é" * 340), "not base64"),
    "cut base64": (lambda answer: first(answer).update(embedding="AAAAAAA="), "no multiple of 4"),
    "NaN": (lambda answer: first(answer).update(embedding=pack(np.full(64, np.nan))), "NaN"),
    "infinite": (lambda answer: first(answer).update(embedding=pack(np.full(64, np.inf))), "infinite"),
    "beyond float32": (lambda answer: first(answer).update(embedding=[1e300] * 64), "infinite"),
    "one is shorter": (lambda answer: first(answer).update(embedding=pack(np.ones(63))), "some 64"),
}


@pytest.mark.parametrize(("edit", "words"), WRONG.values(), ids=WRONG)
def test_a_doubtful_answer_fails_the_whole_batch(server, edit, words):
    server.script(edited(edit))
    model = model_at(server)
    with pytest.raises(ProviderError, match=words):
        embed(model, TEXTS)
    assert server.calls == 1
    assert np.allclose(embed(model, TEXTS).vectors, expected(TEXTS), atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_a_shuffled_answer_is_placed_by_index(server, seed):
    server.always(edited(lambda answer: random.Random(seed).shuffle(answer["data"])))
    assert np.allclose(embed(model_at(server), TEXTS).vectors, expected(TEXTS), atol=1e-6)


def test_a_server_that_ignores_dimensions_is_told_on():
    with OpenAIServer(ignores={"dimensions"}) as server, pytest.raises(ProviderError) as caught:
        embed(model_at(server, dimensions=8), ["bread"])
    assert "asked for 8 dimensions and gave 64, so it ignores `dimensions`" in str(caught.value)
    with OpenAIServer() as server:
        assert embed(model_at(server, dimensions=8), ["bread"]).vectors.shape == (1, 8)


def test_dimensions_that_change_later_are_an_error(server):
    model = model_at(server)
    embed(model, ["bread"])
    server.dimensions = 32
    with pytest.raises(ProviderError, match="gave 32 dimensions where 64 were expected"):
        embed(model, ["bread"])


# Texts that are refused


@pytest.mark.parametrize("bad", [[0], [99], [41], [0, 1], [3, 50, 97], list(range(10))], ids=str)
def test_refused_texts_are_found_and_the_rest_is_kept(bad):
    texts = [f"{'poison' if at in bad else 'bread'} {at}" for at in range(100)]
    with OpenAIServer(refuse=lambda text: "poison" in text) as server:
        embedded = embed(model_at(server), texts)
        assert sorted(embedded.failures) == bad
        assert all("refuses this text (HTTP 400, request id" in reason for reason in embedded.failures.values())
        good = [at for at in range(100) if at not in bad]
        assert np.allclose(embedded.vectors[good], expected([texts[at] for at in good]), atol=1e-6)
        assert server.calls <= len(bad) * 2 * math.log2(100) + 2
        assert embedded.tokens == 2 * len(good)
        assert sorted(server.texts) == sorted(
            [texts[at] for at in good] + [provider.PROBE] * (len(server.texts) - len(good))
        )


@pytest.mark.parametrize("count", [1, 2, 100])
def test_a_request_that_no_text_could_save_is_an_error_after_few_calls(server, count):
    server.always(status(400))
    with pytest.raises(ProviderError, match=r"every other, even 'hello'.*dimensions"):
        embed(model_at(server), [f"bread {at}" for at in range(count)])
    assert server.calls <= 2 * math.log2(100)


def test_one_refused_text_alone_is_a_failure_not_an_error():
    with OpenAIServer(refuse=lambda text: "poison" in text) as server:
        model = model_at(server)
        assert list(embed(model, ["poison"]).failures) == [0]
        assert model.dimensions == 64
        assert "refuses this text" in embed(model, ["poison"]).failures[0]
        assert server.calls == 3  # the second time it is known that other texts pass
