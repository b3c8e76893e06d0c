"""A server lifts the default timeout for its own engine, and keeps an explicit one."""

import time

import pytest

from lagent_llms import AsyncJAXPipeline, JAXServer
from lagent_llms.core import callbacks
from lagent_llms.core.deadline import Deadline
from lagent_llms.jax_engine import FunctionEngine
from lagent_llms.serving.app import openai_app
from lagent_llms.serving.host import Host
from lagent_llms.serving.pages.source import LLMSource

from .test_openai_api import ask

PROMPT = {"model": "slow", "prompt": "hello"}


class Accelerated(Deadline):
    """Limits pass a hundred times faster: 30 s become 0.3 s."""

    def remaining(self):
        left = super().remaining()
        return None if left is None else left / 100


@pytest.fixture
def slow(engine, monkeypatch):
    """An engine whose only step takes longer than the default timeout."""
    monkeypatch.setattr(callbacks, "Deadline", Accelerated)

    def step(ids, params, seed):
        time.sleep(1)
        return []

    slow = FunctionEngine("slow", engine.tokenizer, step, lambda params: None, max_len=100)
    yield slow
    slow.close()


def test_a_jax_server_has_no_default_timeout(slow):
    server = JAXServer(slow, {"host": "127.0.0.1", "port": 0})
    server.fire(pages=False)
    for path, body in (("/instruct", {"prompt": "hello"}), ("/v1/completions", PROMPT)):
        status, _, answer = ask(server, path, body)
        assert status == 200, answer
    server.end()


def test_the_routes_over_a_pipeline_have_no_default_timeout(slow):
    llm = AsyncJAXPipeline(engine=slow, meta_template="chatml")
    with Host(openai_app(llm, "slow")) as host:
        for stream in (False, True):
            assert ask(host, "/v1/completions", {**PROMPT, "stream": stream})[0] == 200


async def test_the_pages_have_no_default_timeout(slow):
    llm = AsyncJAXPipeline(engine=slow, meta_template="chatml")
    assert [text async for text, _ in LLMSource(llm, "slow").stream_chat("hello")] == [""]


def test_an_explicit_timeout_is_kept(slow):
    llm = AsyncJAXPipeline(engine=slow, meta_template="chatml", timeout=20)
    with Host(openai_app(llm, "slow")) as host:
        assert ask(host, "/v1/completions", PROMPT)[0] == 504
