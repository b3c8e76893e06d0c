"""A backend behind the pages, without a browser: what it is asked, and that Stop reaches it."""

import pytest

from lagent_llms import AsyncJAXPipeline, AsyncLMDeployClient
from lagent_llms.serving.pages.answers import Answers
from lagent_llms.serving.pages.source import LLMSource

ENDLESS = {"temperature": 0, "max_new_tokens": 1900, "ignore_eos": True}


@pytest.fixture(params=["in process", "over http"])
def source(request, engine, server):
    if request.param == "in process":
        return LLMSource(AsyncJAXPipeline(engine=engine, **ENDLESS), "embedded")
    return LLMSource(AsyncLMDeployClient(url=server.url, model_name="embedded", **ENDLESS), "embedded")


async def read(answers, start):
    return [step async for step in answers.stream("me", start)]


async def test_stop_reaches_the_engine(source, engine, wait_until):
    answers, steps = Answers(), []
    async for step in answers.stream("me", lambda: source.stream_chat("Tell me a story.")):
        if step.text:
            answers.stop("me")
        steps.append(step)
    assert steps[-1].state == "stopped"
    assert steps[-1].text
    wait_until(lambda: engine.stats().slots_in_use == 0)


async def test_the_whole_dialog_is_asked(source):
    history = [("My name is Nora.", "Nice to meet you, Nora!")]
    steps = await read(
        Answers(), lambda: source.stream_chat("What is my name?", history, greedy=True, max_new_tokens=8)
    )
    assert "Nora" in steps[-1].text
    assert (steps[-1].state, steps[-1].n_tokens) == ("done", 8)


async def test_an_instruction_has_a_system_prompt(source):
    system = "You are Luna, a helpful assistant."
    steps = await read(Answers(), lambda: source.stream_instruct("Who are you?", system, True, 12))
    assert "Luna" in steps[-1].text


async def test_a_refusal_is_told(source):
    (only,) = await read(Answers(), lambda: source.stream_chat("word " * 20_000))
    assert only.state == "failed"
    assert "too long" in only.error


def test_the_options_at_first(source):
    at_first = source.page_defaults
    assert (at_first.system, at_first.temperature, at_first.max_new_tokens) == ("", 0, 1900)
    assert at_first.most_new_tokens >= 1900
