"""Concurrency, incomplete bodies and disconnecting clients: no request stalls and no resource leaks."""

import http.client
import json
import socket
import threading
from urllib.parse import urlsplit

import pytest

from lagent_llms import AsyncJAXPipeline, JAXPipeline, JAXServer
from lagent_llms.serving.app import openai_app
from lagent_llms.serving.host import Host
from lagent_llms.serving.limits import Limits

from .test_openai_api import ANSWER, ENDLESS, QUESTION, ask, chat, events

pytestmark = pytest.mark.alone


def in_threads(work, items):
    """Call `work` for every item concurrently; return the results."""
    found = [None] * len(items)

    def run(index, item):
        found[index] = work(item)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(items)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def opened(server, path, body):
    """A connection that has sent a request and not read the response."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=120)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    return connection


def test_far_more_requests_than_slots(server, engine):
    countries = {"France": "Paris", "Japan": "Tokyo", "Italy": "Rome", "Germany": "Berlin"}
    asked = [*countries] * 16

    def answer(country):
        question = [{"role": "user", "content": f"What is the capital of {country}?"}]
        return chat(server, messages=question)[2]["choices"][0]["message"]["content"]

    before = engine.stats()
    assert in_threads(answer, asked) == [f"The capital of {one} is {countries[one]}." for one in asked]
    assert engine.stats().requests_served - before.requests_served == len(asked)


def test_requests_share_their_steps(server, engine, monkeypatch):
    """Eight answers take hardly more decoding steps than one."""
    runner = engine._worker._runner
    batch_sizes = []
    decode = runner.decode
    monkeypatch.setattr(runner, "decode", lambda batch: batch_sizes.append(len(batch)) or decode(batch))
    body = {**ENDLESS, "max_tokens": 200}
    answers = in_threads(lambda _: ask(server, "/v1/completions", body)[2], range(8))
    assert {answer["usage"]["completion_tokens"] for answer in answers} == {200}
    assert max(batch_sizes) == 8
    assert sum(batch_sizes) / len(batch_sizes) > 4


def test_a_short_answer_does_not_wait_for_long_ones(server, engine, wait_until):
    long = [opened(server, "/v1/completions", ENDLESS) for _ in range(7)]
    wait_until(lambda: engine.stats().slots_in_use == 7)
    assert chat(server)[2]["choices"][0]["message"]["content"] == ANSWER
    assert engine.stats().slots_in_use == 7  # the long ones never paused
    for connection in long:
        connection.close()
    wait_until(lambda: engine.stats().slots_in_use == 0)


def test_a_conversation_computes_only_its_new_tokens(server):
    messages = [{"role": "user", "content": "My name is Alice, and my favourite colour is green."}]
    first = chat(server, messages=messages)[2]
    messages += [first["choices"][0]["message"], {"role": "user", "content": "What is my name?"}]
    second = chat(server, messages=messages)[2]
    assert "Alice" in second["choices"][0]["message"]["content"]
    known = first["usage"]["total_tokens"]
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] >= known - 2


def test_a_megabyte_prompt_is_refused_and_stalls_no_stream(server):
    with_stream = opened(server, "/v1/completions", {**ENDLESS, "max_tokens": 1500, "stream": True})
    huge = {"model": "embedded", "prompt": "word " * 200_000}
    refusals = in_threads(lambda _: ask(server, "/v1/completions", huge), range(3))
    for status, _, answer in refusals:
        assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")
    assert ask(server, "/v1/completions", {**huge, "stream": True})[0] == 400
    text = with_stream.getresponse().read().decode()
    assert events(text)[-1]["choices"][0]["finish_reason"] == "length"
    with_stream.close()


@pytest.fixture
def strict(engine):
    """A server with low limits."""
    limits = Limits(max_body=1000, body_seconds=0.5, max_requests=2)
    with Host(openai_app(AsyncJAXPipeline(engine=engine, temperature=0), "embedded", limits)) as host:
        yield host, limits


def status_line(host, data, *more):
    """Send raw bytes; return the status line of the response."""
    address = (urlsplit(host.url).hostname, urlsplit(host.url).port)
    with socket.create_connection(address, timeout=60) as connection:
        for part in (data, *more):
            connection.sendall(part)
        return connection.recv(1000).split(b"\r\n")[0]


HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_an_incomplete_body_times_out(strict, wait_until):
    host, limits = strict
    assert b" 408 " in status_line(host, HEAD + b'Content-Length: 500\r\n\r\n{"model": ')
    wait_until(lambda: limits.in_flight == 0)
    assert chat(host)[0] == 200


def test_a_chunked_body_is_limited_as_well(strict):
    host, _ = strict
    chunk = b"190\r\n" + b"x" * 400 + b"\r\n"
    assert b" 413 " in status_line(host, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk, chunk, chunk)
    assert chat(host)[0] == 200


def test_bytes_that_are_not_http_are_400(strict):
    host, _ = strict
    assert b" 400 " in status_line(host, b"hello\r\n\r\n")
    assert chat(host)[0] == 200


@pytest.fixture(scope="module")
def native(engine):
    server = JAXServer(engine, {"host": "127.0.0.1", "port": 0, "max_new_tokens": 1500})
    # A format that the model does not know: its answers run to the token limit.
    server.config.instruct_format = "{system}{instruct}"
    server.fire()
    yield server
    server.end()


@pytest.mark.parametrize("path", ["/instruct", "/chat"])
def test_a_client_of_the_native_routes_frees_its_slot(native, engine, wait_until, path, monkeypatch):
    pipeline = JAXPipeline(engine=engine, ignore_eos=True, max_new_tokens=2000)
    monkeypatch.setattr(native, "_pipeline", pipeline)
    before = engine.stats()
    connection = opened(native, path, {"prompt": "Once upon a time"})
    wait_until(lambda: engine.stats().slots_in_use == 1)
    connection.close()
    wait_until(lambda: engine.stats().slots_in_use == 0)
    assert engine.stats().completion_tokens - before.completion_tokens < 2000
    wait_until(lambda: native.app.state.limits.in_flight == 0)


def test_forty_native_requests_at_once(native, engine):
    answers = in_threads(lambda _: ask(native, "/chat", {"prompt": "hello", "greedy": True}), range(40))
    assert {status for status, _, _ in answers} == {200}
    assert len({answer["response"] for _, _, answer in answers}) == 1


def test_disconnecting_clients_leak_nothing(server, engine, wait_until):
    """A hundred streams, each closed after its first bytes."""
    threads = threading.active_count()

    body = {"model": "embedded", "messages": QUESTION, "ignore_eos": True, "max_tokens": 2000, "stream": True}

    def disconnect(_):
        connection = opened(server, "/v1/chat/completions", body)
        connection.getresponse().read(10)
        connection.close()

    for _ in range(4):
        in_threads(disconnect, range(25))
    wait_until(lambda: engine.stats().slots_in_use + engine.stats().waiting == 0)
    wait_until(lambda: threading.active_count() <= threads)
    assert chat(server)[2]["choices"][0]["message"]["content"] == ANSWER


def test_end_finishes_running_requests_and_fire_restarts(engine, wait_until):
    server = JAXServer(engine, {"host": "127.0.0.1", "port": 0})
    server.fire()
    first = server.url
    body = {**ENDLESS, "model": "embedded", "max_tokens": 1000, "stream": True}
    connection = opened(server, "/v1/completions", body)
    wait_until(lambda: engine.stats().slots_in_use == 1)
    ending = threading.Thread(target=server.end)
    ending.start()
    text = connection.getresponse().read().decode()
    ending.join()
    assert events(text)[-1]["choices"][0]["finish_reason"] == "length"
    with pytest.raises(OSError):
        socket.create_connection((urlsplit(first).hostname, urlsplit(first).port), timeout=5)
    server.fire()
    assert ask(server, "/health")[0] == 200
    server.end()
    server.end()
