"""A full engine, a deadline, and the compilation before the start."""

import threading
import time
from functools import partial

import pytest

from lagent_llms import AsyncJAXPipeline, InvalidArgument, JAXServer
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.errors import RateLimited
from lagent_llms.jax_engine import Engine, FunctionEngine, SamplingParams
from lagent_llms.serving.app import openai_app
from lagent_llms.serving.host import Host
from lagent_llms.serving.limits import Limits

from .test_load import opened
from .test_openai_api import ENDLESS, ask

PROMPT = {"model": "embedded", "prompt": "hello"}


@pytest.fixture(scope="module")
def narrow():
    """An engine with one slot and one place in its queue, warmed up."""
    with Engine.load(EMBEDDED_MODEL, max_slots=1, max_len=2048, max_queue=1) as engine:
        engine.warm_up().result()
        yield engine


def taken(engine, count):
    """Whether `count` requests are in the engine, and one of them has its slot."""
    stats = engine.stats()
    return stats.slots_in_use == 1 and stats.slots_in_use + stats.waiting == count


def test_a_full_engine_answers_503(narrow, wait_until):
    with Host(openai_app(AsyncJAXPipeline(engine=narrow), "embedded")) as host:
        held = []
        for count in (1, 2):
            held.append(opened(host, "/v1/completions", ENDLESS))
            wait_until(partial(taken, narrow, count))
        for stream in (False, True):
            status, headers, answer = ask(host, "/v1/completions", {**PROMPT, "stream": stream})
            assert (status, answer["error"]["code"]) == (503, "queue_full")
            assert int(headers["retry-after"]) >= 1
        for connection in held:
            connection.close()
        wait_until(lambda: narrow.stats().slots_in_use + narrow.stats().waiting == 0)
        assert ask(host, "/v1/completions", {**PROMPT, "max_tokens": 2})[0] == 200


def test_usual_requests_compile_nothing_after_the_warm_up(narrow):
    compiled = []
    runner = narrow._worker._runner
    told, runner.on_compile = runner.on_compile, lambda begins: compiled.append(begins)
    try:
        with Host(openai_app(AsyncJAXPipeline(engine=narrow), "embedded")) as host:
            for text in ("one two three four " * 3, "five six seven eight " * 9):
                status, _, answer = ask(host, "/v1/completions", {**PROMPT, "prompt": text, "max_tokens": 9})
                assert status == 200
                assert answer["usage"]["prompt_tokens"] in (*range(25, 33), *range(65, 97))
    finally:
        runner.on_compile = told
    assert compiled == []


def test_answers_after_a_warm_up_are_the_same(narrow, server):
    with Host(openai_app(AsyncJAXPipeline(engine=narrow), "embedded")) as host:
        body = {**PROMPT, "temperature": 0, "max_tokens": 20}
        assert (
            ask(host, "/v1/completions", body)[2]["choices"]
            == ask(server, "/v1/completions", body)[2]["choices"]
        )


def test_a_queue_is_none_or_a_number():
    for wrong in (-1, 1.5, "many", True):
        with pytest.raises(InvalidArgument, match="max_queue"):
            Engine.load(EMBEDDED_MODEL, max_queue=wrong)


@pytest.fixture
def stuck(engine):
    """An engine that works on one request until the test ends."""
    go_on = threading.Event()

    def step(ids, params, seed):
        go_on.wait(60)
        return []

    slow = FunctionEngine("slow", engine.tokenizer, step, lambda params: None, max_len=100, max_queue=1)
    yield slow
    go_on.set()
    slow.close()


def test_the_queue_of_generation_functions(stuck, wait_until):
    def submit():
        return stuck.submit([1], SamplingParams(), lambda event: None)

    submit()
    wait_until(lambda: stuck.stats().slots_in_use == 1)
    submit()
    with pytest.raises(RateLimited) as caught:
        submit()
    assert caught.value.status_code == 503


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/completions streamed", "/instruct"])
def test_a_request_has_a_deadline(stuck, path):
    server = JAXServer(stuck, {"host": "127.0.0.1", "port": 0}, limits=Limits(request_seconds=0.2))
    server.fire(pages=False, warm_up=False)
    path, _, streamed = path.partition(" ")
    body = (
        {"prompt": "hello"}
        if path == "/instruct"
        else {"model": "slow", "prompt": "hi", "stream": bool(streamed)}
    )
    began = time.monotonic()
    status, _, answer = ask(server, path, body)
    server.end()
    assert (status, answer["error"]["code"]) == (504, "timeout")
    assert time.monotonic() - began < 60
    assert "/" not in answer["error"]["message"]
