"""The OpenAI-compatible routes over real HTTP."""

import http.client
import json
import socket
import threading
from urllib.parse import urlsplit

import pytest

from lagent_llms import AsyncJAXPipeline, JAXPipeline
from lagent_llms.serving.app import openai_app
from lagent_llms.serving.host import Host
from lagent_llms.serving.limits import Limits

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = "The capital of France is Paris."


def ask(server, path, body=None, headers=None, method=None):
    """Send a request; return status, headers, and JSON or text. `body` is sent as JSON unless it is bytes."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=120)
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **(headers or {})}
    connection.request(method or ("GET" if body is None else "POST"), path, data, sent)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    kind = response.getheader("content-type", "")
    return response.status, response.headers, json.loads(text) if "json" in kind else text


def chat(server, **fields):
    return ask(server, "/v1/chat/completions", {"model": "embedded", "messages": QUESTION, **fields})


def events(text):
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_models(server):
    assert ask(server, "/v1/models")[2]["data"][0]["id"] == "embedded"
    assert ask(server, "/v1/models/embedded")[2]["id"] == "embedded"
    assert ask(server, "/v1/models/other")[0] == 404


def test_chat(server):
    status, _, answer = chat(server)
    assert status == 200
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": ANSWER}
    assert answer["choices"][0]["finish_reason"] == "stop"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


def test_chat_stream(server):
    status, headers, text = chat(server, stream=True, stream_options={"include_usage": True})
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    *chunks, usage = events(text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content", "") for delta in deltas) == ANSWER
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] > 0


def test_stop_and_length(server):
    choice = chat(server, stop=" Paris")[2]["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("The capital of France is", "stop")
    choice = chat(server, max_completion_tokens=1)[2]["choices"][0]
    assert choice["finish_reason"] == "length"
    assert ANSWER.startswith(choice["message"]["content"])


def test_logprobs(server):
    content = chat(server, logprobs=True, top_logprobs=2)[2]["choices"][0]["logprobs"]["content"]
    assert "".join(item["token"] for item in content).strip() == ANSWER
    assert all(len(item["top_logprobs"]) == 2 and item["logprob"] <= 0 for item in content)


def test_each_chunk_of_a_stream_has_its_logprobs(server):
    chunks = events(chat(server, logprobs=True, top_logprobs=2, stream=True)[2])
    found = [chunk["choices"][0].get("logprobs") for chunk in chunks]
    assert sum(map(bool, found[:-1])) >= 2  # not all with the last one
    content = [item for part in found if part for item in part["content"]]
    whole = chat(server, logprobs=True, top_logprobs=2)[2]["choices"][0]["logprobs"]["content"]
    assert [item["token"] for item in content] == [item["token"] for item in whole]


def test_stop_reason_is_the_stop_word(server):
    for stream in (False, True):
        answer = chat(server, stop=["Rome", " Paris"], stream=stream)[2]
        choice = (events(answer)[-1] if stream else answer)["choices"][0]
        assert choice["stop_reason"] == " Paris"
    assert chat(server)[2]["choices"][0]["stop_reason"] in (None, "<|im_end|>")


def test_completions_equal_those_of_the_pipeline(server, engine):
    prompts = ["Once upon a time", "The sun is"]
    expected = JAXPipeline(engine=engine, temperature=0, max_new_tokens=12).generate(prompts)
    body = {"model": "embedded", "prompt": prompts, "max_tokens": 12, "temperature": 0}
    answer = ask(server, "/v1/completions", body)[2]
    assert [choice["text"] for choice in answer["choices"]] == expected
    body |= {"prompt": prompts[0], "stream": True}
    text = ask(server, "/v1/completions", body)[2]
    assert "".join(chunk["choices"][0]["text"] for chunk in events(text)) == expected[0]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{no json", 400, "JSON"),
        (b"\xff\xfe", 400, ""),
        ({"model": "embedded"}, 400, "messages"),
        ({"model": "embedded", "messages": "hello"}, 400, "messages"),
        ({"model": "embedded", "messages": []}, 400, "messages"),
        ({"model": "embedded", "messages": [{"content": "hello"}]}, 400, "role"),
        ({"model": "other", "messages": QUESTION}, 404, "other"),
        ({"model": "embedded", "messages": QUESTION, "max_tokens": -1}, 400, "max_tokens=-1"),
        ({"model": "embedded", "messages": QUESTION, "max_tokens": "many"}, 400, "max_tokens"),
        (
            {"model": "embedded", "messages": QUESTION, "max_tokens": 10**9},
            400,
            "max_tokens=1000000000: allowed are 1 to 2048",
        ),
        (
            {"model": "embedded", "messages": QUESTION, "max_completion_tokens": 4000},
            400,
            "max_completion_tokens=4000",
        ),
        ({"model": "embedded", "messages": [*QUESTION, 5]}, 400, "messages"),
        ([], 400, ""),
        ({"model": "embedded", "messages": QUESTION, "temperature": -1}, 400, "temperature"),
        ({"model": "embedded", "messages": QUESTION, "n": 3}, 400, "n=3"),
        ({"model": "embedded", "messages": QUESTION, "min_tokens": -1}, 400, "min_tokens"),
        ({"model": "embedded", "messages": QUESTION, "frequency_penalty": 3}, 400, "frequency_penalty=3"),
        (
            {"model": "embedded", "messages": QUESTION, "logit_bias": {"x": 1}},
            400,
            "logit_bias: 'x' is no token",
        ),
        ({"model": "embedded", "messages": QUESTION, "logit_bias": {"9999": 1}}, 400, "no token 9999"),
        ({"model": "embedded", "messages": QUESTION, "temprature": 1}, 400, "temprature"),
        (
            {"model": "embedded", "messages": QUESTION, "response_format": {"type": "string", "not": {}}},
            400,
            "response_format",
        ),
        ({"model": "embedded", "messages": [{"role": "user", "content": "word " * 200_000}]}, 400, "tokens"),
        ({"model": "embedded", "messages": [{"role": "user", "content": "x" * (5 << 20)}]}, 413, "large"),
        ({"model": "embedded", "messages": [{"role": "user", "content": "hi \ud83d"}]}, 400, "half a char"),
        ({"model": "embedded", "messages": [{"role": "\ud83d", "content": "hi"}]}, 400, "half a char"),
        ({"model": "embedded", "messages": QUESTION, "tools": [{"type": "\ud83d"}]}, 400, "half a char"),
        ({"model": "embedded", "messages": QUESTION, "tool_choice": "\ud83d"}, 400, "half a char"),
        ({"model": "embedded", "messages": QUESTION, "stop": ["\ud83d"]}, 400, "half a char"),
        ({"model": "embedded", "messages": QUESTION, "stop": [""]}, 400, "stop=['']"),
        ({"model": "embedded", "messages": QUESTION, "stop": "x" * 20_000}, 400, "stop: 20000 characters"),
        (
            {"model": "embedded", "messages": QUESTION, "logprobs": True, "top_logprobs": 21},
            400,
            "top_logprobs=21",
        ),
        ({"model": "embedded", "messages": QUESTION, "user": "\ud83d", "n": "\ud83d"}, 400, "n="),
        ({"model": "embedded\ud83d", "messages": QUESTION}, 400, "model"),
        ({"model": "embedded", "messages": QUESTION, "\ud83d": 1}, 400, "unicode"),
    ],
)
def test_invalid_input_is_refused_and_the_server_stays_up(server, body, status, message):
    got, _, answer = ask(server, "/v1/chat/completions", body)
    assert got == status
    assert message in answer["error"]["message"]
    assert ask(server, "/health")[0] == 200
    assert chat(server)[2]["choices"][0]["message"]["content"] == ANSWER


def test_a_refused_stream_has_the_right_status(server):
    assert chat(server, stream=True, messages=[{"role": "user", "content": "word " * 20_000}])[0] == 400


def test_a_half_sent_body_blocks_nothing(server, engine):
    host, port = urlsplit(server.url).hostname, urlsplit(server.url).port
    with socket.create_connection((host, port)) as half:
        half.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{")
    assert chat(server)[0] == 200


ENDLESS = {"model": "embedded", "prompt": "Once upon a time", "ignore_eos": True, "max_tokens": 2000}


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_disconnects_frees_its_slot(server, engine, wait_until, stream):
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=120)
    body = json.dumps({**ENDLESS, "stream": stream})
    served = engine.stats().completion_tokens
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    wait_until(lambda: engine.stats().slots_in_use == 1)
    connection.close() if not stream else connection.sock.close()
    wait_until(lambda: engine.stats().slots_in_use == 0)
    assert engine.stats().completion_tokens - served < 2000


def test_api_key_full_queue_and_shutdown(engine, wait_until):
    limits = Limits(api_key="secret", max_requests=1)
    key = {"Authorization": "Bearer secret"}
    host = Host(openai_app(AsyncJAXPipeline(engine=engine, temperature=0), "embedded", limits))
    host.start()
    assert ask(host, "/v1/models")[0] == 401
    assert ask(host, "/v1/models", headers={"Authorization": "Bearer wrong"})[0] == 401
    assert ask(host, "/health")[0] == 200
    got = []
    body = {**ENDLESS, "max_tokens": 400}
    first = threading.Thread(target=lambda: got.append(ask(host, "/v1/completions", body, key)))
    first.start()
    wait_until(lambda: limits.in_flight == 1)
    status, headers, _ = ask(host, "/v1/completions", body, key)
    assert status == 429
    assert int(headers["retry-after"]) >= 1
    host.stop()  # finishes the running request
    first.join()
    status, _, answer = got[0]
    assert status == 200
    assert answer["usage"]["completion_tokens"] == 400
    assert not host.running


def test_cors_allows_localhost_only_by_default(server):
    asked = {"Access-Control-Request-Method": "POST"}
    _, headers, _ = ask(
        server, "/v1/models", headers={**asked, "Origin": "http://localhost:3000"}, method="OPTIONS"
    )
    assert headers["access-control-allow-origin"] == "http://localhost:3000"
    _, headers, _ = ask(
        server, "/v1/models", headers={**asked, "Origin": "http://evil.example"}, method="OPTIONS"
    )
    assert "access-control-allow-origin" not in headers


def test_cors_allows_the_origins_of_the_limits(engine):
    limits = Limits(origins=["https://example.org"])
    with Host(openai_app(AsyncJAXPipeline(engine=engine), "embedded", limits)) as host:
        for origin, allowed in (
            ("https://example.org", True),
            ("http://localhost:1", True),
            ("https://no.org", False),
        ):
            _, headers, _ = ask(host, "/v1/models", headers={"Origin": origin})
            assert (headers["access-control-allow-origin"] == origin) is allowed
