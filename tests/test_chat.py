"""Chat models through the real SDK, the real llm tool and real sockets: what is asked, what comes, every fault between."""

from __future__ import annotations

import contextlib
import gc
import gzip
import json
import logging
import subprocess
import sys
import threading
import time

import llm
import pytest
from chat_server import ChatServer, chunk, close, delta, drip_comments, drip_stream, end, event, hold, stream
from openai_server import drip, drip_headers, error, half, raw, reset, silence, status

from datasette_embeddings import config
from datasette_embeddings.chat import get_chat
from datasette_embeddings.errors import ChatError, ConfigError, CutShort, MissingExtra, MissingKey
from datasette_embeddings.limits import MOST_CHARACTERS_PER_TOKEN

CANARY = "sk-canary-5a7c0ffee5"
REPLY = "Bread is baked from flour [1]."
AT_ONCE = {"retry-after-ms": "1"}


@pytest.fixture
def server():
    with ChatServer(REPLY) as running:
        yield running


def chat_at(server, **settings):
    return get_chat("openai/test", {"openai/test": {"base_url": server.url, "timeout": 5, **settings}})


def ask(chat, tokens=100):
    return "".join(chat.answer("Be brief.", "How is bread made?", tokens))


def wait_until(true, seconds=5):
    """Wait for what another thread does."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def cut(chat, tokens=100):
    """Return (the text that came, the CutShort)."""
    came = []
    with pytest.raises(CutShort) as caught:
        came.extend(chat.answer("Be brief.", "How is bread made?", tokens))  # keeps what came before the error
    return "".join(came), caught.value


# What is asked and what comes


def test_an_answer_comes_in_pieces_as_they_are_sent(server):
    server.script(stream(delta("Bread "), delta("rises."), then=hold))
    pieces = chat_at(server).answer("Be brief.", "How is bread made?", 100)
    assert [next(pieces), next(pieces)] == ["Bread ", "rises."]  # while the server still holds the rest
    pieces.close()
    assert list(pieces) == []


def test_what_is_sent_offers_no_tools(server):
    chat = chat_at(server)
    assert ask(chat) == REPLY
    assert server.prompts == [("Be brief.", "How is bread made?")]
    assert server.requests[0].body == {
        "model": "test",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "How is bread made?"},
        ],
        "max_tokens": 100,
        "temperature": 0,
        "stream": True,
    }
    assert (chat.name, chat.remote) == ("openai/test", False)


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({"temperature": 0.7}, {"temperature": 0.7, "max_tokens": 100}),
        ({"temperature": None}, {"max_tokens": 100}),
        ({"token_limit": "max_completion_tokens"}, {"temperature": 0, "max_completion_tokens": 100}),
        ({"answer_tokens": 4000}, {"temperature": 0, "max_tokens": 4000}),
    ],
    ids=str,
)
def test_settings_shape_the_request(server, settings, sent):
    ask(chat_at(server, **settings))
    body = server.requests[0].body
    assert {key: value for key, value in body.items() if key not in {"model", "messages", "stream"}} == sent


def test_openai_itself_is_asked_by_the_name_that_its_newer_models_want(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setattr("datasette_embeddings.chat.openai.OPENAI_URL", server.url)
    monkeypatch.setattr("datasette_embeddings.models.openai.OPENAI_URL", server.url)
    ask(get_chat("openai/gpt-test"))
    assert server.requests[0].body["max_completion_tokens"] == 100
    assert "max_tokens" not in server.requests[0].body
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"


def test_a_server_that_does_not_stream_answers_all_the_same():
    with ChatServer(REPLY, streams=False) as server:
        assert ask(chat_at(server)) == REPLY
        pretty = json.dumps(server.completion(REPLY), indent=2).encode()
        server.script(raw(pretty, {"content-type": "text/event-stream"}))
        assert ask(chat_at(server)) == REPLY


TEXT = "Crème brûlée 🍮 costs 5 €."
DATA = b"".join(map(event, [delta("Crème "), delta("brûlée 🍮"), delta(" costs 5 €."), *end()]))
RAW = b"".join(
    f"data: {json.dumps(part, ensure_ascii=False)}\n\n".encode()
    for part in [delta("Crème "), delta("brûlée 🍮"), delta(" costs 5 €."), chunk({}, "stop")]
)
TWO_LINES = RAW.replace(b', "object"', b',\ndata: "object"')

ODD_STREAMS = {
    "a byte a segment": [RAW[at : at + 1] for at in range(len(RAW))],
    "all in one segment": [DATA],
    "CR LF": [RAW.replace(b"\n", b"\r\n")[at : at + 7] for at in range(0, 2 * len(RAW), 7)],
    "CR LF cut between": [part for line in RAW.split(b"\n") for part in (line + b"\r", b"\n")],
    "CR LF cut within an event": [part for line in TWO_LINES.split(b"\n") for part in (line + b"\r", b"\n")],
    "CR": [RAW.replace(b"\n", b"\r")],
    "no blank after the colon": [RAW.replace(b"data: ", b"data:")],
    "comments and other fields": [b": PROCESSING\n\n", b"id: 1\nretry: 5\nevent: x\n", RAW, b":\n\n"],
    "an event over two lines": [TWO_LINES],
    "no blank line at the end": [RAW.rstrip(b"\n")],
    "[DONE] without a reason": [RAW[: RAW.rindex(b"data:")], "[DONE]"],
    "a reason without [DONE]": [RAW],
    "no role, null content": [delta(None, role="assistant"), chunk({"role": "assistant"}), chunk({}), DATA],
    "reasoning": [delta(None, reasoning_content="Pudding?"), delta("", reasoning="Hm"), DATA],
    "calls of tools": [delta(None, tool_calls=[{"index": 0, "function": {"name": "rm", "arguments": "{}"}}]), DATA],
    "filter results": [{"choices": [], "prompt_filter_results": []}, {"choices": None}, {}, "[]", '"x"', "7", DATA],
    "content in parts": [
        delta([{"type": "thinking", "thinking": []}, {"type": "text", "text": "Crème "}]),
        RAW[RAW.index(b"\n\n") + 2 :],
    ],
    "reason with the text": [delta("Crème brûlée 🍮"), chunk({"content": " costs 5 €."}, "stop"), "[DONE]"],
    "empty reasons": [chunk({"content": TEXT}, ""), *end()],
    "blank before the text": [delta("\n"), delta(" \n"), delta("  Crème"), delta(" brûlée 🍮 costs 5 €."), *end()],
    "an end that never comes": [DATA[: DATA.index(b"[DONE]")]],
}


@pytest.mark.parametrize("parts", ODD_STREAMS.values(), ids=ODD_STREAMS)
def test_odd_but_whole_streams_are_read(server, parts):
    last = hold if parts is ODD_STREAMS["an end that never comes"] else None
    server.script(stream(*parts, then=last))
    assert ask(chat_at(server)) == TEXT
    assert server.calls == 1


def test_a_stream_of_another_content_type_is_read(server):
    server.script(stream(DATA, content_type="application/json"))
    assert ask(chat_at(server)) == TEXT


# Faults before the first piece


PASSING = {
    "408": status(408, AT_ONCE),
    "429 with Retry-After": status(429, {"retry-after": "7"}),
    "429 without": status(429),
    "500": status(500),
    "503": status(503, {"content-type": "text/html"}),
    "reset": reset,
    "half body": half,
    "web page": raw(b"\n<html><h1>Bad Gateway</h1>", {"content-type": "text/html"}),
    "half JSON": raw(b'{"choices": [{"mess'),
    "empty body": raw(b""),
    "compressed": raw(gzip.compress(b"0" * 10_000_000), {"content-encoding": "gzip"}),
    "reset of an empty stream": stream(then=reset),
    "closed after the role": stream(delta(None, role="assistant"), then=close),
    "ended after the role": stream(delta(None, role="assistant")),
    "an error first": stream({"error": {"message": "overloaded", "code": 502}}),
    "an error in place of JSON": raw(json.dumps(error("overloaded")).encode()),
    "wrong JSON first": stream('{"choices": [{"del'),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_fault_before_the_first_piece_is_tried_again(server, naps, fault):
    server.script(fault, fault)
    assert ask(chat_at(server)) == REPLY
    assert server.calls == 3
    assert len(naps) == 2
    assert all(0 < nap <= 8 for nap in naps)


def test_retry_after_is_honoured(server, naps):
    server.script(status(429, {"retry-after": "7"}), status(503, {"retry-after-ms": "250"}))
    assert ask(chat_at(server)) == REPLY
    assert naps == [7, 0.25]


STAYING = {
    "429": (status(429), "HTTP 429, after 3 tries: the rate limit or the quota is used up: try again later"),
    "500": (status(500), "HTTP 500, after 3 tries: the server is in trouble: try again later"),
    "reset": (reset, "the server broke off the connection"),
    "web page": (raw(b"<html>"), "the server's answer is a web page, after 3 tries"),
    "wrong JSON": (stream('{"choices"'), "the server's answer is not JSON, after 3 tries"),
    "compressed": (raw(gzip.compress(b"0" * 10**7), {"content-encoding": "gzip"}), "the server's answer is compressed"),
    "error": (stream({"error": {"message": CANARY}}), "the server reported an error, after 3 tries"),
    "too long": (raw(b"\n" * 1_300_000), "the server's answer is longer than 1,200,000 bytes"),
    "ended": (stream(delta("")), "the server's answer ended before it was complete"),
}


@pytest.mark.parametrize(("fault", "words"), STAYING.values(), ids=STAYING)
def test_a_lasting_fault_is_one_clear_error(server, naps, fault, words):
    server.always(fault)
    with pytest.raises(ChatError) as caught:
        ask(chat_at(server))
    assert server.calls == 3
    assert type(caught.value) is ChatError
    assert str(caught.value).startswith("openai/test gave no answer: ")
    assert words in str(caught.value)


def parameter(name, code=None):
    """A refusal of one parameter, in OpenAI's words."""
    body = {"error": {"message": f"Unsupported: {CANARY}", "param": name, "code": code}}
    return lambda handler, request, answer: handler.give(400, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (status(400), "HTTP 400, after 1 try: it refuses the request"),
        (status(401), "HTTP 401, after 1 try: the key is missing, wrong or withdrawn"),
        (status(402), "nothing left to spend"),
        (status(403), "may not use this model"),
        (status(404), "no such model, or no such address"),
        (status(418), "see the server's documentation"),
        (parameter("temperature"), "set `temperature: null`"),
        (parameter("max_tokens"), "set `token_limit: max_completion_tokens`"),
        (parameter("max_completion_tokens"), "set `token_limit: max_tokens`"),
        (parameter("messages", "context_length_exceeded"), "ask with fewer excerpts"),
        (parameter(["temperature"]), "it refuses the request"),
    ],
)
def test_what_cannot_pass_is_not_tried_again(server, fault, words):
    server.always(fault)
    with pytest.raises(ChatError) as caught:
        ask(chat_at(server))
    assert words in str(caught.value)
    assert CANARY not in str(caught.value)
    assert server.calls == 1


def test_no_redirect_is_followed_to_another_host(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", CANARY)
    with ChatServer() as other:
        for code in (301, 302, 303, 307, 308):
            server.always(status(code, {"location": f"{other.url}/chat/completions"}))
            with pytest.raises(ChatError, match=f"HTTP {code}, .*redirects"):
                ask(chat_at(server, api_key={"$env": "MY_KEY"}))
        assert (server.calls, other.calls) == (5, 0)


EMPTY = {
    "nothing": (stream(*end()), "the answer is empty"),
    "blanks": (stream(delta(" \n"), *end()), "the answer is empty"),
    "a tool": (stream(delta(None, tool_calls=[{"index": 0}]), *end("tool_calls")), "the answer is empty"),
    "thoughts": (
        stream(delta(None, reasoning_content="Hm"), *end("length")),
        "used up its 100 tokens before the answer",
    ),
    "a filter": (stream(*end("content_filter")), "a content filter"),
    "one body": (raw(b'{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}'), "the answer is empty"),
}


@pytest.mark.parametrize(("fault", "words"), EMPTY.values(), ids=EMPTY)
def test_an_empty_answer_is_an_error_and_not_paid_for_again(server, fault, words):
    server.always(fault)
    with pytest.raises(ChatError, match=words) as caught:
        ask(chat_at(server))
    assert type(caught.value) is ChatError
    assert server.calls == 1


# Answers that are cut


def garbage(handler, request, answer):
    handler.wfile.write(b"zz\r\n")


CUT = {
    "reset": (stream(delta("Bread "), delta("is"), then=reset), "the server broke off the connection (ReadError)"),
    "closed": (
        stream(delta("Bread "), delta("is"), then=close),
        "the server broke off the connection (RemoteProtocolError)",
    ),
    "no chunk": (
        stream(delta("Bread "), delta("is"), then=garbage),
        "the server broke off the connection (RemoteProtocolError)",
    ),
    "silence": (stream(delta("Bread "), delta("is"), then=hold), "the server was silent for 0.4 s"),
    "error": (stream(delta("Bread "), delta("is"), {"error": {"message": CANARY}}), "the server reported an error"),
    "error as reason": (stream(delta("Bread "), delta("is"), *end("error")), "the server reported an error"),
    "wrong JSON": (stream(delta("Bread "), delta("is"), '{"choices": ['), "the server's answer is not JSON"),
    "not UTF-8": (stream(delta("Bread "), delta("is"), b'data: {"a": "\xff"}\n\n'), "the server's answer is not JSON"),
    "ended": (stream(delta("Bread "), delta("is")), "the server's answer ended before it was complete"),
    "half an event": (stream(delta("Bread "), delta("is"), b'data: {"choices"'), "the server's answer is not JSON"),
    "limit": (stream(delta("Bread "), delta("is"), *end("length")), "the answer reached its limit of 100 tokens"),
    "filter": (
        stream(delta("Bread "), delta("is"), *end("content_filter")),
        "a content filter of the server stopped it",
    ),
    "size": (
        stream(delta("Bread "), delta("is"), b":" * 1_300_000),
        "the server's answer is longer than 1,200,000 bytes",
    ),
}


@pytest.mark.parametrize(("fault", "reason"), CUT.values(), ids=CUT)
def test_a_cut_answer_keeps_what_came_and_says_why(server, fault, reason):
    server.always(fault)
    text, said = cut(chat_at(server, timeout=0.4))
    assert text == "Bread is"
    assert (said.reason, str(said)) == (reason, f"openai/test was cut short: {reason}")
    assert server.calls == 1  # trying again would begin the answer anew


def test_an_answer_in_one_body_can_reach_its_limit(server):
    body = {"choices": [{"message": {"content": "Bread is"}, "finish_reason": "length"}]}
    server.script(raw(json.dumps(body).encode()))
    assert cut(chat_at(server))[1].reason == "the answer reached its limit of 100 tokens"


def test_a_model_that_keeps_no_limit_is_cut(server):
    server.script(stream(*[delta("x" * 100)] * 1000, then=hold))
    text, said = cut(chat_at(server), tokens=50)
    assert 50 * MOST_CHARACTERS_PER_TOKEN < len(text) <= 50 * MOST_CHARACTERS_PER_TOKEN + 100
    assert said.reason == "the answer reached its limit of 50 tokens"


@pytest.mark.parametrize("fault", [drip_stream, drip_comments], ids=["size of a chunk", "comments"])
def test_an_answer_that_drips_has_a_deadline(server, fault):
    server.script(stream(delta("Bread "), then=fault))
    begun = time.monotonic()
    text, said = cut(chat_at(server, timeout=0.3))
    assert text == "Bread "
    assert said.reason in {"the answer was not complete within 0.9 s", "the server's answer comes too slowly"}
    assert 0.8 < time.monotonic() - begun < 1.5


@pytest.mark.parametrize("fault", [silence, drip, drip_headers, stream(then=drip_comments)])
def test_an_answer_that_never_begins_has_a_deadline(server, fault):
    server.always(fault)
    begun = time.monotonic()
    with pytest.raises(ChatError) as caught:
        ask(chat_at(server, timeout=0.3))
    assert type(caught.value) is ChatError
    assert time.monotonic() - begun < 1.5


def test_waits_between_tries_count(server):
    server.always(status(429, {"retry-after": "60"}))
    begun = time.monotonic()
    with pytest.raises(ChatError, match=r"gave no answer: the answer was not complete within 0\.6 s"):
        ask(chat_at(server, timeout=0.2))
    assert time.monotonic() - begun < 1.2


def test_nobody_listening_is_named(naps):
    with ChatServer() as gone:
        chat = chat_at(gone)
    with pytest.raises(ChatError, match="cannot be reached"):
        ask(chat)


def test_a_fault_leaves_the_model_usable(server):
    chat = chat_at(server)
    server.script(stream(delta("Bread "), then=reset), status(401))
    assert cut(chat)[0] == "Bread "
    with pytest.raises(ChatError):
        ask(chat)
    assert ask(chat) == REPLY


# Answers that are given up


HELD = {
    "before the headers": ([hold], 0),
    "in a second try": ([status(503, AT_ONCE), hold], 0),
    "before the first piece": ([stream(then=hold)], 0),
    "after a piece": ([stream(delta("Bread "), then=hold)], 1),
}


@pytest.mark.parametrize(("faults", "pieces"), HELD.values(), ids=HELD)
@pytest.mark.parametrize("how", ["close", "drop", "leave the loop"])
def test_what_is_given_up_hangs_up_at_once(server, faults, pieces, how):
    server.script(*faults)
    answer = chat_at(server, timeout=30).answer("Be brief.", "How is bread made?", 100)
    for _ in range(pieces):
        next(answer)
    wait_until(lambda: server.calls == len(faults))
    time.sleep(0.05)
    assert not server.hung_up.is_set()
    if how == "close":
        answer.close()
        answer.close()
        assert list(answer) == []
    elif how == "drop":
        del answer
        gc.collect()
    else:
        with contextlib.closing(answer):
            pass
    assert server.hung_up.wait(1)
    time.sleep(0.2)
    assert server.calls == len(faults)


def test_giving_one_answer_up_leaves_the_others_alone(server):
    chat = chat_at(server, timeout=30)
    server.script(raw(json.dumps(server.completion(REPLY)).encode()), hold)
    one = chat.answer("Be brief.", "How is bread made?", 100)
    assert next(one) == REPLY
    time.sleep(0.1)  # its connection could serve the next answer now
    other = chat.answer("Be brief.", "How is bread made?", 100)
    wait_until(lambda: server.calls == 2)
    one.close()
    assert not server.hung_up.wait(0.2)
    other.close()
    assert server.hung_up.wait(1)


def test_another_thread_can_give_an_answer_up(server):
    server.script(stream(delta("Bread "), then=hold))
    answer = chat_at(server, timeout=30).answer("Be brief.", "How is bread made?", 100)
    assert next(answer) == "Bread "
    threading.Timer(0.1, answer.close).start()
    begun = time.monotonic()
    assert list(answer) == []
    assert time.monotonic() - begun < 1
    assert server.hung_up.wait(1)


def test_what_is_given_up_between_tries_is_not_tried_again(server):
    server.always(status(503, {"retry-after-ms": "300"}))
    answer = chat_at(server).answer("Be brief.", "How is bread made?", 100)
    wait_until(lambda: server.calls)
    answer.close()
    time.sleep(0.6)
    assert server.calls == 1


def test_many_answers_at_once_are_not_mixed():
    def repeat(body):
        return f"You said {body['messages'][1]['content']}."

    with ChatServer(repeat) as server:
        chat = chat_at(server)
        answers = {number: chat.answer("Be brief.", f"number {number}", 100) for number in range(20)}
        assert {number: "".join(answer) for number, answer in answers.items()} == {
            number: f"You said number {number}." for number in range(20)
        }


# Keys and settings


@pytest.mark.parametrize(
    "fault",
    [
        *(status(code, {"x-request-id": CANARY, "x-echo": CANARY}, CANARY) for code in (400, 401, 403, 404, 429, 500)),
        stream({"error": {"message": CANARY}}),
        stream(delta("Bread "), {"error": {"message": CANARY, "code": CANARY}}),
        stream(delta("Bread "), chunk({"reasoning_content": CANARY}, CANARY)),
        raw(CANARY.encode()),
    ],
)
def test_the_key_and_the_servers_words_are_never_shown(server, fault, monkeypatch, caplog, naps):
    monkeypatch.setenv("MY_KEY", CANARY)
    server.always(fault)
    shown = []
    with caplog.at_level(logging.DEBUG):
        try:
            shown.extend(chat_at(server, api_key={"$env": "MY_KEY"}).answer("Be brief.", "What is the key?", 100))
        except ChatError as caught:
            shown += [str(caught), repr(caught), repr(getattr(caught, "reason", ""))]
            assert caught.__suppress_context__
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    assert caplog.records  # the libraries did log
    assert CANARY not in "".join(shown) + caplog.text


def test_a_key_is_needed_where_the_server_is_not_this_machine(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(MissingKey, match="openai/m needs an API key: set the environment variable OPENAI_API_KEY"):
        get_chat("openai/m")
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    with pytest.raises(MissingKey, match=r"which key h\.example gets"):
        get_chat("openai/m", {"openai/m": {"base_url": "https://h.example/v1"}})
    chat = get_chat("openai/m")
    assert chat.remote
    assert get_chat("openai/m") is chat
    assert CANARY not in repr(vars(chat))


def test_a_key_reaches_a_server_that_wants_one(monkeypatch):
    monkeypatch.setenv("MY_KEY", CANARY)
    with ChatServer(REPLY, key=CANARY) as server:
        assert ask(chat_at(server, api_key={"$env": "MY_KEY"})) == REPLY
        with pytest.raises(ChatError, match="HTTP 401"):
            ask(chat_at(server))


WRONG_SETTINGS = [
    ({"temprature": 1}, r"there is no setting temprature; did you mean temperature\?"),
    ({"dimensions": 8}, "there is no setting dimensions"),
    ({"temperature": 3}, "0 to 2, or null"),
    ({"temperature": True}, "0 to 2, or null"),
    ({"answer_tokens": 0}, "whole number from 1"),
    ({"token_limit": "n_predict"}, "max_tokens or max_completion_tokens"),
    ({"max_retries": 21}, "0 to 20"),
    ({"timeout": 0}, "more than 0"),
    ({"base_url": "http://example.com/v1"}, "https"),
]


@pytest.mark.parametrize(("settings", "words"), WRONG_SETTINGS, ids=str)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        get_chat("openai/m", {"openai/m": settings})
    with pytest.raises(ConfigError, match=rf"metadata\.yml: chat_model: openai/m.*{words}"):
        config.parse({"chat_model": "openai/m", "models": {"openai/m": settings}}, "metadata.yml")


@pytest.mark.parametrize("name", ["gpt-4o-mini", "openai/", "openai/ ", "static", "", "ollama/x"])
def test_a_name_that_is_no_chat_models_is_refused(name):
    with pytest.raises(ConfigError, match="expected openai/NAME"):
        get_chat(name)
    with pytest.raises(ConfigError, match=r"metadata\.yml: chat_model: .*expected openai/NAME"):
        config.parse({"chat_model": name}, "metadata.yml")


def test_the_configuration_names_the_chat_model_without_needing_it(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    block = {
        "chat_model": "openai/gpt-4o-mini",
        "models": {"openai/gpt-4o-mini": {"api_key": {"$env": "NO_SUCH"}, "temperature": None}},
    }
    assert config.parse(block).chat_model == "openai/gpt-4o-mini"
    assert config.parse({"chat_model": "llm/no-such-model"}).chat_model == "llm/no-such-model"
    assert config.parse({}).chat_model is None
    with pytest.raises(ConfigError, match="chat_model: str was expected"):
        config.parse({"chat_model": 4})


@pytest.mark.parametrize(("name", "extra"), [("openai/m", "openai"), ("llm/m", "llm")])
def test_a_missing_package_is_named(name, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(MissingExtra, match=rf"datasette-embeddings-suite\[{extra}\]"):
        get_chat(name, {name: {"base_url": "http://127.0.0.1:1/v1"}} if extra == "openai" else {})


def test_nothing_heavy_is_imported_before_an_answer():
    code = (
        "import sys; from datasette_embeddings import chat, config;"
        "config.parse({'chat_model': 'openai/m'}); config.parse({'chat_model': 'llm/m'});"
        "print([name for name in ('openai', 'llm', 'httpx', 'httpx2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Models of the llm tool


class Baker(llm.Model):
    """A local model that says what it was given, in words."""

    model_id = "baker"
    can_stream = True
    gives = ("", " ", "Bread ", "is ", "baked.")
    closed = False

    class Options(llm.Options):
        """Two that ours knows."""

        max_tokens: int | None = None
        temperature: float = 0.7

    def execute(self, prompt, stream, response, conversation):
        self.given, self.streamed = prompt, stream
        try:
            for piece in self.gives:
                if isinstance(piece, Exception):
                    raise piece
                if callable(piece):
                    piece()
                    continue
                yield piece
        finally:
            self.closed = True


class Plain(Baker):
    """A model that does not stream, has no temperature, and names its limit otherwise."""

    model_id = "plain"
    can_stream = False

    class Options(llm.Options):
        """As of another plugin."""

        num_predict: int | None = None


class Paid(Baker, llm.KeyModel):
    model_id = "paid"
    needs_key = "paid-service"
    key_env_var = "PAID_KEY"

    def execute(self, prompt, stream, response, conversation, key=None):
        failed = RuntimeError(f"{key} may not ask {prompt.prompt}")
        failed.status_code = 403
        raise failed
        yield


class Later(llm.AsyncModel):
    model_id = "later"

    async def execute(self, prompt, stream, response, conversation):
        yield "later"


class Plugin:
    def __init__(self):
        self.baker, self.plain, self.paid = Baker(), Plain(), Paid()

    @llm.hookimpl
    def register_models(self, register):
        register(self.baker, aliases=("b",))
        register(self.plain)
        register(self.paid)
        register(Later())


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    from llm.plugins import load_plugins, pm

    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    monkeypatch.setattr("datasette_embeddings.chat._loaded", {})
    load_plugins()
    registered = Plugin()
    pm.register(registered)
    yield registered
    pm.unregister(registered)


def test_a_model_of_llm_answers(plugin):
    chat = get_chat("llm/baker")
    assert (chat.name, chat.remote) == ("llm/baker", False)
    assert list(chat.answer("Be brief.", "How?", 50)) == ["Bread ", "is ", "baked."]
    given = plugin.baker.given
    assert (given.prompt, given.system, plugin.baker.streamed) == ("How?", "Be brief.", True)
    assert (given.options.max_tokens, given.options.temperature) == (50, 0)
    assert not given.tools


def test_settings_reach_a_model_of_llm(plugin):
    ask(get_chat("llm/b", {"llm/b": {"temperature": None, "answer_tokens": 7}}))
    assert (plugin.baker.given.options.max_tokens, plugin.baker.given.options.temperature) == (7, 0.7)
    assert ask(get_chat("llm/plain")) == "Bread is baked."
    assert plugin.plain.given.options.num_predict == 100
    with pytest.raises(ConfigError, match="there is no setting base_url"):
        get_chat("llm/b", {"llm/b": {"base_url": "https://h.example/v1"}})


def test_faults_of_llm_are_those_of_any_model(plugin, monkeypatch):
    chat = get_chat("llm/baker")
    for gives, words in [
        ((), "the answer is empty"),
        ((" ", "\n"), "the answer is empty"),
        ((RuntimeError(f"/home/me {CANARY}"),), r"the provider failed \(RuntimeError\)"),
    ]:
        plugin.baker.gives = gives
        with pytest.raises(ChatError, match=f"llm/baker gave no answer: {words}") as caught:
            ask(chat)
        assert CANARY not in str(caught.value)
    plugin.baker.gives = ("Bread ", "is", ConnectionError(CANARY))
    text, said = cut(chat)
    assert (text, said.reason) == ("Bread is", "the provider failed (ConnectionError)")
    plugin.baker.gives = ["x" * 100] * 100
    text, said = cut(chat, tokens=50)
    assert (len(text), said.reason) == (900, "the answer reached its limit of 50 tokens")
    monkeypatch.setenv("PAID_KEY", CANARY)
    paid = get_chat("llm/paid")
    assert paid.remote
    with pytest.raises(ChatError, match=r"llm/paid gave no answer: the provider failed \(HTTP 403\)$"):
        ask(paid)


def test_a_model_of_llm_that_waits_is_given_up(plugin):
    waiting, went_on = threading.Event(), []
    plugin.baker.gives = ("Bread ", lambda: waiting.wait(10), "is", lambda: went_on.append("baked"))
    begun = time.monotonic()
    text, said = cut(get_chat("llm/baker", {"llm/baker": {"timeout": 0.1}}))
    assert time.monotonic() - begun < 1
    assert (text, said.reason) == ("Bread ", "the answer was not complete within 0.3 s")
    waiting.set()
    wait_until(lambda: plugin.baker.closed)
    assert went_on == []  # it ended at its next piece


def test_models_that_llm_cannot_give_are_named(plugin, monkeypatch):
    monkeypatch.delenv("PAID_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"no model 'bakr'; did you mean baker\?"):
        get_chat("llm/bakr")
    with pytest.raises(ConfigError, match="for asynchronous programs only"):
        get_chat("llm/later")
    with pytest.raises(MissingKey, match=r"llm/paid: .*llm keys set paid-service.*PAID_KEY"):
        get_chat("llm/paid")
