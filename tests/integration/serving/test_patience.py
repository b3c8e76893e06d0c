"""How long a server waits for its own engine: as long as the client does, unless it was given a limit."""

import time

import pytest

from lagent_llms import AsyncJAXPipeline, JAXServer, engine_source
from lagent_llms.core.deadline import Deadline
from lagent_llms.jax_engine import FunctionEngine
from lagent_llms.serving.app import openai_app
from lagent_llms.serving.host import Host
from lagent_llms.serving.pages.source import LLMSource

from .test_openai_api import ask

PROMPT = {"model": "slow", "prompt": "hello"}


class Hurried(Deadline):
    """Limits run out a hundred times sooner: 30 s are 0.3 s."""

    def remaining(self):
        left = super().remaining()
        return None if left is None else left / 100


@pytest.fixture
def slow(engine, monkeypatch):
    """An engine whose only step takes longer than the limit that calls have by default."""
    monkeypatch.setattr(engine_source, "Deadline", Hurried)

    def step(ids, params, seed):
        time.sleep(1)
        return []

    slow = FunctionEngine("slow", engine.tokenizer, step, lambda params: None, max_len=100)
    yield slow
    slow.close()


def test_a_jax_server_waits_for_its_first_step(slow):
    server = JAXServer(slow, {"host": "127.0.0.1", "port": 0})
    server.fire(pages=False)
    for path, body in (("/instruct", {"prompt": "hello"}), ("/v1/completions", PROMPT)):
        status, _, answer = ask(server, path, body)
        assert status == 200, answer
    server.end()


def test_so_do_the_routes_before_a_pipeline(slow):
    llm = AsyncJAXPipeline(engine=slow, meta_template="chatml")
    with Host(openai_app(llm, "slow")) as host:
        for stream in (False, True):
            assert ask(host, "/v1/completions", {**PROMPT, "stream": stream})[0] == 200


async def test_so_do_the_pages(slow):
    llm = AsyncJAXPipeline(engine=slow, meta_template="chatml")
    assert [text async for text, _ in LLMSource(llm, "slow").stream_chat("hello")] == [""]


def test_a_limit_that_was_given_is_kept(slow):
    llm = AsyncJAXPipeline(engine=slow, meta_template="chatml", timeout=20)
    with Host(openai_app(llm, "slow")) as host:
        assert ask(host, "/v1/completions", PROMPT)[0] == 504
