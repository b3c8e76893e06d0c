"""Lists of prompts to /v1/completions: limits, failures, disconnects."""

import pytest

from lagent_llms import LLMError
from lagent_llms.serving.app import openai_app
from lagent_llms.serving.host import Host
from lagent_llms.serving.limits import Limits
from lagent_llms.testing import AsyncScriptedLLM

from .test_load import opened
from .test_openai_api import ask


def completions(host, prompts):
    return ask(host, "/v1/completions", {"model": "model", "prompt": prompts})


def test_a_failing_prompt_cancels_the_others():
    def script(request):
        return [0.2, LLMError("broken")] if request.prompt == "bad" else ["x", 600.0, "y"]

    llm = AsyncScriptedLLM(script, timeout=3600)
    with Host(openai_app(llm, "model")) as host:
        status, _, answer = completions(host, ["long", "bad", "longer"])
        assert (status, answer["error"]["code"]) == (500, "server_error")
        assert len(llm.requests) == 3
        assert llm.open == 0


def test_an_empty_prompt_is_refused_before_generation():
    llm = AsyncScriptedLLM()
    with Host(openai_app(llm, "model")) as host:
        status, _, answer = completions(host, ["hello", ""])
    assert (status, answer["error"]["param"]) == (400, "prompt")
    assert "prompt[1]" in answer["error"]["message"]
    assert llm.requests == []


def test_concurrency_is_limited_by_the_backend():
    maximum = 0

    def script(request):
        nonlocal maximum
        maximum = max(maximum, llm.open + 1)
        return [0.01, f"<{request.prompt}>"]

    llm = AsyncScriptedLLM(script, max_concurrency=4)
    prompts = [f"{number}" for number in range(40)]
    with Host(openai_app(llm, "model")) as host:
        _, _, answer = completions(host, prompts)
    assert [choice["text"] for choice in answer["choices"]] == [f"<{prompt}>" for prompt in prompts]
    assert maximum == 4


@pytest.fixture
def limited():
    """A server for at most five requests; the prompt "wait" blocks for minutes."""
    limits = Limits(max_requests=5, retry_after=3)
    llm = AsyncScriptedLLM(lambda request: [600.0] if request.prompt == "wait" else "ok", timeout=3600)
    with Host(openai_app(llm, "model", limits)) as host:
        yield host, llm, limits


def test_a_list_over_the_limit_is_refused(limited, wait_until):
    host, llm, limits = limited
    assert completions(host, ["hi"] * 5)[0] == 200
    status, _, answer = completions(host, ["hi"] * 6)
    assert (status, answer["error"]["param"]) == (400, "prompt")
    assert "5 at once" in answer["error"]["message"]
    assert len(llm.requests) == 5
    wait_until(lambda: limits.in_flight == 0)


def test_each_prompt_of_a_list_counts_as_a_request(limited, wait_until):
    host, llm, limits = limited
    running = opened(host, "/v1/completions", {"model": "model", "prompt": ["wait"] * 3})
    wait_until(lambda: limits.in_flight == llm.open == 3)
    status, headers, answer = completions(host, ["hi"] * 3)
    assert (status, headers["retry-after"], answer["error"]["code"]) == (429, "3", "queue_full")
    assert completions(host, ["hi"] * 2)[0] == 200
    running.close()
    wait_until(lambda: limits.in_flight == llm.open == 0)
