"""Large requests: refused before they are encoded, handled beside the event loop, answered in few words."""

import json
import threading

import pytest

from benchmarks.large_requests import requests
from lagent_llms import JAXPipeline
from lagent_llms.serving import request_bodies

from .test_load import in_threads
from .test_openai_api import QUESTION, ask, chat

LARGE = requests()


@pytest.mark.parametrize("kind", LARGE)
def test_each_is_refused_in_few_words(server, engine, kind, monkeypatch):
    """None of them is encoded: the byte count shows that the context cannot hold it."""
    path, fields = LARGE[kind]
    encode = type(engine.tokenizer).encode

    def short(self, text, add_bos=False):
        assert len(text) < 100_000
        return encode(self, text, add_bos)

    monkeypatch.setattr(type(engine.tokenizer), "encode", short)
    body = json.dumps({"model": "embedded", **fields}, ensure_ascii=False, separators=(",", ":")).encode()
    status, _, answer = ask(server, path, body)
    assert status == 400
    assert len(json.dumps(answer)) < 1000
    assert ask(server, "/health")[0] == 200


@pytest.mark.parametrize("stream", [False, True])
def test_the_server_answers_while_a_large_body_is_read(server, monkeypatch, stream):
    reading, go_on = threading.Event(), threading.Event()
    parse = request_bodies._parsed

    def slow(model, data):
        if len(data) > 100_000:
            reading.set()
            assert go_on.wait(60)
        return parse(model, data)

    monkeypatch.setattr(request_bodies, "_parsed", slow)
    answers = []
    body = {"model": "embedded", "prompt": "word " * 30_000, "stream": stream}
    client = threading.Thread(target=lambda: answers.append(ask(server, "/v1/completions", body)[0]))
    client.start()
    assert reading.wait(60)
    assert chat(server)[0] == 200
    go_on.set()
    client.join()
    assert answers == [400]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/tokenize"])
def test_the_server_answers_while_a_long_prompt_is_encoded(server, engine, monkeypatch, path):
    encoding, go_on = threading.Event(), threading.Event()
    encode = type(engine.tokenizer).encode

    def slow(self, text, add_bos=False):
        if len(text) > 5_000:
            encoding.set()
            assert go_on.wait(60)
        return encode(self, text, add_bos)

    monkeypatch.setattr(type(engine.tokenizer), "encode", slow)
    text = "the " * 1_500
    given = {"messages": [{"role": "user", "content": text}]} if "chat" in path else {"prompt": text}
    body = {"model": "embedded", **given, **({} if path == "/tokenize" else {"max_tokens": 1})}
    answers = []
    client = threading.Thread(target=lambda: answers.append(ask(server, path, body)[0]))
    client.start()
    assert encoding.wait(60)
    assert chat(server)[0] == 200
    go_on.set()
    client.join()
    assert answers == [200]


def test_large_and_small_bodies_are_checked_alike(server):
    long = "word " * 8_000
    for extra, message in (
        ({"temperature": "hot"}, "temperature"),
        ({"messages": 5}, "messages"),
        ({"stop": [""]}, "stop"),
        ({"temprature": 1}, "temprature"),
    ):
        body = {"model": "embedded", "messages": QUESTION, **extra}
        small = ask(server, "/v1/chat/completions", body)
        large = ask(server, "/v1/chat/completions", {**body, "user": long})
        assert small[0] == large[0] == 400
        assert small[2] == large[2]
        assert message in small[2]["error"]["message"]
    assert ask(server, "/v1/chat/completions", b'{"x": ' + b"1" * 50_000)[0] == 400
    assert ask(server, "/v1/chat/completions", b"[" * 50_000)[0] == 400


def test_many_large_requests_at_once(server):
    """All are answered, and a request of usual size beside them as well."""
    path, fields = LARGE["10,000 messages of 400 bytes"]
    body = json.dumps({"model": "embedded", **fields}).encode()
    statuses = in_threads(
        lambda number: (chat(server) if number == 7 else ask(server, path, body))[0], range(8)
    )
    assert statuses == [400] * 7 + [200]


def test_a_prompt_that_fits_is_not_refused_by_its_bytes(server, engine):
    """Spaces and a long word, of which one token holds many bytes."""
    llm = JAXPipeline(engine=engine, temperature=0, max_new_tokens=1)
    longest = max((engine.tokenizer.decode([i]) for i in range(engine.tokenizer.vocab_size)), key=len)
    count = engine.max_len - 10
    prompt = longest * count
    body = {"model": "embedded", "prompt": prompt, "max_tokens": 1, "temperature": 0}
    status, _, answer = ask(server, "/v1/completions", body)
    assert status == 200, answer
    assert answer["usage"]["prompt_tokens"] == len(llm.tokenize(prompt))


VALUES = ("x" * 50_000, "word " * 10_000, "'" * 50_000)


@pytest.mark.parametrize("value", VALUES, ids=["a word", "words", "quotes"])
@pytest.mark.parametrize(
    "field",
    [
        "model",
        "temperature",
        "n",
        "logit_bias",
        "response_format",
        "stop",
        "role",
        "part",
        "tool_choice",
        "name",
    ],
)
def test_no_reply_repeats_a_long_value(server, field, value):
    fields = {"model": "embedded", "messages": QUESTION}
    if field == "role":
        fields["messages"] = [{"role": value, "content": "hello"}]
    elif field == "part":
        fields["messages"] = [{"role": "user", "content": [{"type": value}]}]
    elif field == "name":
        fields[value] = 1
    elif field == "response_format":
        fields[field] = {"type": value}
    else:
        fields[field] = value
    status, _, answer = ask(server, "/v1/chat/completions", fields)
    assert 400 <= status < 500
    assert value[:202] not in answer["error"]["message"]
    assert len(json.dumps(answer)) < 2000
