"""`LLMSource` without a browser: its requests to the backend, and Stop."""

import pytest

from lagent_llms import AsyncJAXPipeline, AsyncLMDeployClient
from lagent_llms.serving.pages.generations import Generations
from lagent_llms.serving.pages.source import LLMSource

ENDLESS = {"temperature": 0, "max_new_tokens": 1900, "ignore_eos": True}


@pytest.fixture(params=["in process", "over http"])
def source(request, engine, server):
    if request.param == "in process":
        return LLMSource(AsyncJAXPipeline(engine=engine, **ENDLESS), "embedded")
    return LLMSource(AsyncLMDeployClient(url=server.url, model_name="embedded", **ENDLESS), "embedded")


async def read(start):
    return [progress async for progress in Generations().stream("me", start)]


async def test_stop_reaches_the_engine(source, engine, wait_until):
    generations, updates = Generations(), []
    async for progress in generations.stream("me", lambda: source.stream_chat("Tell me a story.")):
        if progress.text:
            generations.stop("me")
        updates.append(progress)
    assert updates[-1].state == "stopped"
    assert updates[-1].text
    wait_until(lambda: engine.stats().slots_in_use == 0)


async def test_the_whole_history_is_sent(source):
    history = [("My name is Nora.", "Nice to meet you, Nora!")]
    updates = await read(
        lambda: source.stream_chat("What is my name?", history, greedy=True, max_new_tokens=8)
    )
    assert "Nora" in updates[-1].text
    assert (updates[-1].state, updates[-1].n_tokens) == ("done", 8)


async def test_an_instruction_with_a_system_prompt(source):
    system = "You are Luna, a helpful assistant."
    updates = await read(lambda: source.stream_instruct("Who are you?", system, True, 12))
    assert "Luna" in updates[-1].text


async def test_a_refusal_is_reported(source):
    (only,) = await read(lambda: source.stream_chat("word " * 20_000))
    assert only.state == "failed"
    assert "too long" in only.error


def test_the_initial_options(source):
    defaults = source.page_defaults
    assert (defaults.system, defaults.temperature, defaults.max_new_tokens) == ("", 0, 1900)
    assert defaults.max_new_tokens_limit >= 1900
