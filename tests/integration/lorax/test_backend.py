"""`LoRAX` and `AsyncLoRAX` beyond the conformance tests: the server's template, limits and quirks."""

import json
import re
from typing import Literal

import pytest

from lagent_llms import AsyncLoRAX, InvalidArgument, LoRAX, UnsupportedParameter, create_llm
from lagent_llms.lorax import errors
from lagent_llms.testing.conformance import Caller

from .conftest import TOKEN

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
HELLO = [{"role": "user", "content": "Hello!"}]
CHINESE = [{"role": "user", "content": "你好"}]
COUNT = [{"role": "user", "content": "Count from 1 to 60."}]
CALCULATE = [
    {"role": "system", "name": "plugin", "content": json.dumps([{"name": "calculator"}])},
    {"role": "user", "content": "What is 231 * 17?"},
]
PARIS = "The capital of France is Paris."


@pytest.fixture(params=[LoRAX, AsyncLoRAX], ids=["sync", "async"])
def make(request, peer):
    made = []

    def make(url=None, **kwargs):
        made.append(
            Caller(request.param(url or peer.url, **{"temperature": 0, "max_new_tokens": 64, **kwargs}))
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


TEMPLATE = {"meta_template": "internlm2-lagent"}


# answers


@pytest.mark.parametrize(
    "messages", [FRANCE, HELLO, CHINESE, COUNT, CALCULATE], ids=lambda item: item[-1]["content"]
)
@pytest.mark.parametrize(
    "how", [TEMPLATE, {}, {**TEMPLATE, "stream": False}], ids=["template", "chat", "whole"]
)
def test_greedy_answers_equal_those_of_jax_pipeline(make, jax, messages, how):
    expected = jax.complete(messages, max_new_tokens=300)
    found = make(**how).complete(messages, max_new_tokens=300)
    assert found.text == expected.text
    assert found.finish_reason in (expected.finish_reason, "stop")
    assert found.usage.completion_tokens == expected.usage.completion_tokens
    if how:
        assert found.token_ids == expected.token_ids
        assert found.usage.prompt_tokens == expected.usage.prompt_tokens
        assert found.stop_word == expected.stop_word
        assert [call.name for call in found.tool_calls] == [call.name for call in expected.tool_calls]


@pytest.mark.parametrize(
    "messages", [FRANCE, CHINESE, COUNT, CALCULATE], ids=lambda item: item[-1]["content"]
)
@pytest.mark.parametrize("how", [TEMPLATE, {}], ids=["template", "chat"])
def test_streams_and_whole_answers_agree(make, messages, how):
    llm = make(max_new_tokens=300, **how)
    with llm.stream("stream_chat", messages) as stream:
        chunks = list(stream)
    assert "".join(chunk.delta for chunk in chunks) == chunks[-1].text == llm.chat(messages)
    assert llm.chat(messages, stream=False) == chunks[-1].text


def test_sampling_with_a_seed(make):
    llm = make(**TEMPLATE, temperature=1.5, top_p=1, top_k=None)
    answers = [llm.generate("<|im_start|>assistant\n", seed=seed, max_new_tokens=16) for seed in (1, 1, 2, 3)]
    assert answers[0] == answers[1]
    assert len(set(answers)) > 1


def test_response_format_works_on_both_routes(make):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}},
        "required": ["name"],
        "additionalProperties": False,
    }
    for how in (TEMPLATE, {}):
        for given in ({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, schema):
            assert list(json.loads(make(**how).chat(HELLO, response_format=given))) == ["name"]
        assert make(**how).parse(HELLO, Literal["red", "blue"]) in ("red", "blue")
        for other in (re.compile("a+"), ["a", "b"]):
            with pytest.raises(UnsupportedParameter, match="constrains to JSON only"):
                make(**how).chat(HELLO, response_format=other)


# the server's template: /v1/chat/completions


def test_messages_without_a_template(make):
    llm = make()
    assert llm.chat(FRANCE) == PARIS
    assert llm.complete(FRANCE).finish_reason == "stop"
    assert llm.complete(COUNT, max_new_tokens=9).finish_reason == "length"
    assert llm.complete(COUNT, max_new_tokens=9).usage.completion_tokens == 9
    cut = llm.complete(COUNT, stop_words=["5"])  # the name of the server for this is content_filter
    assert (cut.text, cut.finish_reason, cut.stop_word) == ("1, 2, 3, 4, ", "stop", "5")
    assert llm.chat(HELLO, adapter_id="french") == "Bonjour ! Comment puis-je vous aider ?"
    assert llm.chat(HELLO, adapter_id="french/1", adapter_source="pbase").startswith("Bonjour")
    assert len(llm.complete(FRANCE, ignore_eos=True, max_new_tokens=40).text) > len(PARIS)


def test_special_tokens_without_a_template(make):
    llm = make()
    assert llm.chat(CALCULATE).startswith("<|action_start|><|plugin|>")
    assert "<|" not in llm.chat(CALCULATE, skip_special_tokens=True)


def test_a_session_without_a_template(make):
    llm = make()
    llm.chat([{"role": "user", "content": "My name is Alice."}], session_id=3, sequence_end=False)
    question = [{"role": "user", "content": "What is my name?"}]
    assert "Alice" in llm.chat(question, session_id=3, sequence_start=False)


def test_parameters_that_the_chat_route_ignores_are_refused(make, peer):
    llm = make()
    before = peer.metric("lorax_request_count")
    merged = {"ids": ["french"], "weights": [1.0]}
    for name, value in (("logprobs", 2), ("merged_adapters", merged)):
        with pytest.raises(UnsupportedParameter, match="with one they go to a route that supports it"):
            llm.chat(HELLO, **{name: value})
    assert peer.metric("lorax_request_count") == before
    llm.chat(HELLO, session_id=4, sequence_end=False)
    with pytest.raises(UnsupportedParameter):  # the session is unchanged
        llm.chat(HELLO, session_id=4, sequence_start=False, sequence_end=False, logprobs=1)
    llm.chat(HELLO, session_id=4, sequence_start=False)


def test_a_template_the_server_cannot_apply(make):
    with pytest.raises(errors.UnprocessableEntityError, match="Template error") as caught:
        make().chat([{"role": "user", "content": [{"type": "text", "text": "x"}]}])
    assert caught.value.code == "template_error"


# stop words


@pytest.mark.parametrize("how", [TEMPLATE, {}], ids=["template", "chat"])
def test_more_stop_words_than_the_server_accepts(make, small_peer, how):
    """The server accepts two; all six work."""
    llm = make(small_peer.url, **how)
    words = ["never", "nowhere", "nobody", "none", "5", "nothing"]
    completion = llm.complete(COUNT, stop_words=words)
    assert (completion.text, completion.stop_word) == ("1, 2, 3, 4, ", "5")
    assert llm.complete(COUNT, stop_words=["x", "y", "3, 4"]).text == "1, 2, "


def test_the_limit_of_stop_words_is_requested_once(make):
    from tests.scripted_server import ScriptedServer

    def script(connection):
        if connection.path == "/info":
            connection.json({"model_id": "m", "max_stop_sequences": 1})
        else:
            token = {"id": 1, "text": "Hi", "logprob": -1.0, "special": False}
            details = {
                "finish_reason": "eos_token",
                "prompt_tokens": 1,
                "generated_tokens": 1,
                "tokens": [token],
            }
            connection.json([{"generated_text": "Hi", "details": {**details, "finish_reason": "length"}}])

    with ScriptedServer(script) as server:
        llm = make(server.url, stream=False)
        assert llm.generate(["x"] * 8, stop_words=["a", "b"]) == ["Hi"] * 8
        assert llm.generate("x") == "Hi"
        paths = [request.path for request in server.requests]
        assert paths.count("/info") == 1
        asked = [request.body["parameters"]["stop"] for request in server.requests if request.body]
        assert asked == [["a"]] * 8 + [[]]


# tokens, names, configuration


def test_tokens_of_private_adapters(make, small_peer):
    for given in (
        {"api_key": TOKEN},
        {"api_token": TOKEN},
        {"headers": {"Authorization": f"Bearer {TOKEN}"}},
    ):
        llm = make(small_peer.url, adapter_id="pirate", **TEMPLATE, **given)
        assert llm.chat(HELLO).startswith("Ahoy")
        assert TOKEN not in repr(llm.llm)
        assert make(small_peer.url, adapter_id="pirate", **given).chat(HELLO).startswith("Ahoy")
    for given in ({}, {"api_key": "wrong_token"}, {"api_token": "wrong_token"}):
        with pytest.raises(errors.GenerationError, match="is private") as caught:
            make(small_peer.url, adapter_id="pirate", **TEMPLATE, **given).chat(HELLO)
        assert "wrong_token" not in str(caught.value)


def test_models_and_tokenize(make):
    llm = make(**TEMPLATE)
    assert llm.models() == ["embedded"]
    assert llm.tokenize("<s>Hello") == llm.tokenize("Hello")


def test_from_a_configuration(peer):
    config = {
        "type": "LoRAX",
        "url": peer.url,
        "adapter_id": "french",
        "temperature": 0,
        "max_new_tokens": 40,
    }
    with create_llm(config) as llm:
        assert llm.chat(HELLO).startswith("Bonjour")


@pytest.mark.parametrize("given", [TEMPLATE, {}], ids=["template", "chat"])
def test_fields_without_a_parameter_and_the_servers_defaults(make, given):
    llm = make(temperature=None, max_new_tokens=None, **given)
    assert llm.chat(FRANCE, temperature=0) == PARIS
    extra = {"top_p": 5}  # the server refuses it
    with pytest.raises(errors.ValidationError, match="top_p"):
        llm.chat(FRANCE, extra_body={"parameters": extra} if given else extra)
    with pytest.raises(
        InvalidArgument, match=r"extra_body.*\['frequency_penalty'\]: the request has this field"
    ):
        extra = {"frequency_penalty": 1}
        llm.chat(FRANCE, frequency_penalty=1, extra_body={"parameters": extra} if given else extra)
