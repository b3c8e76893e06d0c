"""Constrained answers of the embedded model are valid every time, and leave other requests as they are."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from lagent_llms import AsyncJAXPipeline, JAXClient, JAXPipeline, OpenAIClient
from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.errors import InvalidArgument, ServerError
from lagent_llms.jax_engine import Engine
from lagent_llms.serving.app import openai_app
from lagent_llms.serving.host import Host
from lagent_llms.structured.grammar import Grammar

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["big", "small"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
CODE = re.compile(r"[A-Z]{2}-[0-9]{3,5}")
CHOICE = ["I do not know.", "I am a poem", "I am"]
QUESTION = "What is the capital of France?"
COUNT = "Count from 1 to 60."


@pytest.fixture(scope="module")
def engine():
    with Engine.load(EMBEDDED_MODEL, max_slots=8) as engine:
        yield engine


@pytest.fixture(scope="module")
def llm(engine):
    with JAXPipeline(engine=engine, temperature=0, max_new_tokens=150, do_preprocess=True) as llm:
        yield llm


@pytest.fixture(scope="module")
def server(engine):
    with Host(openai_app(AsyncJAXPipeline(engine=engine, temperature=0), "embedded")) as host:
        yield host


def check_person(text):
    person = json.loads(text)
    assert list(person) == ["name", "age", "tags"]
    assert len(person["name"]) <= 12
    assert 0 <= person["age"] <= 150
    assert len(person["tags"]) <= 3
    assert set(person["tags"]) <= {"big", "small"}


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"temperature": 1.0, "seed": 3},
        {"temperature": 1.3, "top_k": 5, "seed": 4},
        {"temperature": 0.8, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 1.3, "seed": 5},
        {"frequency_penalty": 1.0, "logit_bias": {2: 50, 4: 50}},
        {"min_new_tokens": 30},
        {"ignore_eos": True},
        {"logprobs": 2},
    ],
    ids=lambda kwargs: "-".join(kwargs) or "greedy",
)
def test_every_answer_is_valid(llm, kwargs):
    for constraint in (PERSON, CODE, CHOICE):
        asked = [QUESTION, "hello", "Tom is 17 years old. Answer in JSON."]
        for answer in [llm.complete(text, response_format=constraint, **kwargs) for text in asked]:
            assert answer.finish_reason == "stop"
            if constraint is PERSON:
                check_person(answer.text)
            elif constraint is CODE:
                assert CODE.fullmatch(answer.text)
            else:
                assert answer.text in CHOICE


def test_a_batch_of_both_kinds_changes_no_answer(llm):
    constraints = [None, PERSON, CODE, None, CHOICE, PERSON, None, {"type": "json_object"}]
    prompts = [COUNT, QUESTION, "hello", QUESTION, "spell cat", COUNT, "hello", QUESTION]
    kwargs = [{"response_format": item, "max_new_tokens": 60} for item in constraints]
    alone = [llm.complete(text, **given).token_ids for text, given in zip(prompts, kwargs, strict=True)]

    async def together():
        async with AsyncJAXPipeline(engine=llm.engine, temperature=0, do_preprocess=True) as twin:
            calls = [twin.complete(text, **given) for text, given in zip(prompts, kwargs, strict=True)]
            return [answer.token_ids for answer in await asyncio.gather(*calls)]

    assert asyncio.run(together()) == alone


def test_log_probabilities_keep_the_raw_scores(llm):
    free = llm.complete(QUESTION, logprobs=3, max_new_tokens=1)
    bound = llm.complete(QUESTION, logprobs=3, response_format=CHOICE)
    assert len(bound.logprobs) == bound.usage.completion_tokens
    assert [item[1] for item in bound.logprobs[0].top] == [item[1] for item in free.logprobs[0].top]
    for one, other in zip(bound.logprobs[0].top, free.logprobs[0].top, strict=True):
        assert one[2] == pytest.approx(other[2], abs=1e-4)
    assert bound.logprobs[0].logprob < 0
    assert bound.text == llm.chat(QUESTION, response_format=CHOICE)  # there with forced text


def test_an_answer_that_its_limit_cuts_ends_with_length(llm):
    for limit in (1, 2, 3, 9):
        answer = llm.complete(QUESTION, response_format=PERSON, max_new_tokens=limit)
        assert (answer.finish_reason, answer.usage.completion_tokens) == ("length", limit)
    whole = llm.complete(QUESTION, response_format=PERSON)
    exact = llm.complete(QUESTION, response_format=PERSON, max_new_tokens=whole.usage.completion_tokens)
    assert (exact.text, exact.finish_reason) == (whole.text, "stop")


def test_streams_stop_words_cancel_and_sessions(llm):
    parts = list(llm.stream_chat(QUESTION, response_format=PERSON))
    assert "".join(part.delta for part in parts) == llm.chat(QUESTION, response_format=PERSON)
    assert len(parts) > 2

    cut = llm.complete(QUESTION, response_format=PERSON, stop_words=['"age"'])
    assert (cut.finish_reason, cut.stop_word) == ("stop", '"age"')
    assert cut.text.startswith('{"name": "')
    assert cut.text.endswith('", ')

    stream = llm.stream_chat(QUESTION, response_format=re.compile("(ab|cd){200}"), max_new_tokens=600)
    next(stream)
    stream.close()
    llm.chat("hello")  # the engine has dropped the closed one before it admits the next
    assert llm.engine.stats().slots_in_use == 0

    llm.chat("My name is Ada.", session_id=5, sequence_end=False, response_format=CHOICE)
    name = llm.complete("What is my name?", session_id=5, sequence_start=False)
    assert name.usage.cached_tokens > 16


def test_what_cannot_be_compiled_is_refused_before_anything_runs(llm):
    before = llm.engine.stats()
    for bad in (re.compile("(?=a)b"), {"not": {}, "type": "string"}, {"type": "structural_tag"}):
        with pytest.raises(InvalidArgument, match="response_format"):
            llm.chat(QUESTION, response_format=bad)
    assert llm.engine.stats() == before


def test_a_grammar_that_fails_ends_its_own_request_only(llm, monkeypatch):
    monkeypatch.setattr(Grammar, "accept", lambda self, tokens: 0)
    with pytest.raises(Exception, match="allows no token"):
        llm.chat(QUESTION, response_format=CODE)
    monkeypatch.undo()
    assert CODE.fullmatch(llm.chat(QUESTION, response_format=CODE))


@pytest.mark.parametrize("template", [None, "internlm2-lagent"])
@pytest.mark.parametrize("make", [JAXClient, OpenAIClient])
def test_clients_of_the_server(llm, server, make, template):
    kwargs = {"do_preprocess": template is not None}
    if make is OpenAIClient:
        kwargs["flavour"] = "lagent_llms"
    with make(server.url, meta_template=template, temperature=0, max_new_tokens=150, **kwargs) as client:
        for constraint in (PERSON, CODE, CHOICE):
            assert client.chat(QUESTION, response_format=constraint) == llm.chat(
                QUESTION, response_format=constraint
            )
        with pytest.raises(ServerError, match="response_format.*look-around") as caught:
            client.chat(QUESTION, response_format=re.compile("(?=a)b"))
        assert caught.value.status_code == 400
