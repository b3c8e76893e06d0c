"""Contents of requests to an api_server, and errors raised before a request is sent."""

import json

import pytest

from lagent_llms import LMDeployClient, UnsupportedParameter


def sent(llm, prompt="hi", **kwargs):
    request = llm.prepare(prompt, kwargs).request
    return json.loads(llm.answer_call(request, "m").request.body)


def test_the_server_gets_only_the_stop_words_that_are_special_tokens():
    llm = LMDeployClient("host", "m")
    words = [
        "<|im_end|>",
        "</s>",
        "[UNUSED_TOKEN_145]",
        "<｜end｜>",
        "Observation:",
        ".",
        "<b",
        "a </s> b",
        "[1]",
    ]
    assert sent(llm, stop_words=words)["stop"] == words[:4]
    assert "stop" not in sent(llm, stop_words=words, ignore_eos=True)
    assert "stop" not in sent(llm, stop_words="Observation:")


def test_parameters_of_the_chat_route_are_refused_for_prompts():
    llm = LMDeployClient("host", "m")
    for name, value in [("logprobs", 2), ("response_format", {"type": "x"}), ("tool_choice", "auto")]:
        with pytest.raises(UnsupportedParameter, match=name):
            sent(llm, **{name: value})
        assert sent(llm, [{"role": "user", "content": "hi"}], **{name: value})["messages"]
