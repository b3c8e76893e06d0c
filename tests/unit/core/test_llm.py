"""chat_template_kwargs, continue_final_message and images: from the caller to prompt, server and history."""

from __future__ import annotations

import asyncio
import json
import pickle
from datetime import date

import pytest

from lagent_llms import (
    BatchError,
    InvalidArgument,
    JAXClient,
    LMDeployClient,
    LoRAX,
    TemplateError,
    UnsupportedParameter,
)
from lagent_llms.content_parts import AcceptedParts
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM
from lagent_llms.testing.conformance import Caller

USER = [{"role": "user", "content": "6 x 7?"}]
BEGUN = [*USER, {"role": "assistant", "content": "The answer"}]
CALL = {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {}}]}
OPEN = {"session_id": 1, "sequence_start": True, "sequence_end": False}
GO_ON = {"session_id": 1, "sequence_start": False, "sequence_end": False}


def body(llm, messages=USER, **kwargs):
    return json.loads(llm.answer_call(llm.prepare(messages, kwargs).request, "m").request.body)


def test_a_call_adds_to_the_variables_of_the_constructor():
    llm = ScriptedLLM(script="x", meta_template="qwen3", chat_template_kwargs={"enable_thinking": False})
    llm.chat(USER)
    llm.chat(USER, chat_template_kwargs={"enable_thinking": True})
    llm.chat(USER, chat_template_kwargs={})
    closed = "<think>\n\n</think>\n\n"
    assert [request.prompt.endswith(closed) for request in llm.requests] == [True, False, True]
    client = LMDeployClient("host", "m", chat_template_kwargs={"a": 1, "b": 2})
    assert body(client, chat_template_kwargs={"b": 3})["chat_template_kwargs"] == {"a": 1, "b": 3}
    assert client.options.chat_template_kwargs == {"a": 1, "b": 2}


def test_an_unknown_variable_of_a_family_names_the_allowed_ones():
    llm = ScriptedLLM(script="x", meta_template="qwen3")
    with pytest.raises(TemplateError, match="unknown option 'thinking'.*allowed: now, enable_thinking"):
        llm.chat(USER, chat_template_kwargs={"thinking": True})
    assert not llm.requests


def test_now_is_a_date_or_its_text():
    llm = ScriptedLLM(script="x", meta_template="llama-3.2")
    for now in (date(2025, 1, 31), "2025-01-31", "2025-01-31T08:00:00"):
        llm.chat(USER, chat_template_kwargs={"now": now})
        assert "Today Date: 31 Jan 2025" in llm.requests[-1].prompt
    with pytest.raises(InvalidArgument, match=r"chat_template_kwargs\['now'\]='today'"):
        llm.chat(USER, chat_template_kwargs={"now": "today"})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["a"], "None or a dict"),
        ({"messages": []}, "messages is given by the call itself"),
        ({"self": 1}, "self is given by the call itself"),
        ({"a": object()}, r"chat_template_kwargs\['a'\]"),
    ],
)
def test_values_that_are_refused(value, message):
    with pytest.raises(InvalidArgument, match=message):
        LMDeployClient("host", "m").prepare(USER, {"chat_template_kwargs": value})


def test_every_name_can_be_a_variable():
    llm = ScriptedLLM(script="x", meta_template="qwen3")
    for name in ("history", "options", "name"):
        with pytest.raises(TemplateError, match=f"unknown option '{name}'"):
            llm.chat(USER, chat_template_kwargs={name: 1})


@pytest.mark.parametrize("make", [LMDeployClient, JAXClient])
def test_servers_get_both_with_messages(make):
    sent = body(make("http://host", "m"), BEGUN, chat_template_kwargs={"a": 1}, continue_final_message=True)
    assert sent["chat_template_kwargs"] == {"a": 1}
    assert (sent["continue_final_message"], sent["add_generation_prompt"]) == (True, False)
    assert sent["messages"] == BEGUN
    plain = body(make("http://host", "m"))
    assert not {"chat_template_kwargs", "continue_final_message", "add_generation_prompt"} & plain.keys()
    rendered = body(make("http://host", "m", meta_template="chatml"), BEGUN, continue_final_message=True)
    assert rendered["prompt"].endswith("<|im_start|>assistant\nThe answer")
    assert "continue_final_message" not in rendered


def test_the_tokens_of_a_prompt_are_counted_with_both():
    llm = JAXClient("http://host", "m")
    request = llm.prepare(BEGUN, {"chat_template_kwargs": {"a": 1}, "continue_final_message": True}).request
    sent = json.loads(llm.count_call(request, "m").request.body)
    assert (sent["chat_template_kwargs"], sent["continue_final_message"]) == ({"a": 1}, True)


def test_lorax_refuses_what_its_server_would_ignore():
    llm = LoRAX("http://host")
    llm.prepare(BEGUN, {"continue_final_message": False, "chat_template_kwargs": {}})
    for name, value in (("continue_final_message", True), ("chat_template_kwargs", {"a": 1})):
        with pytest.raises(UnsupportedParameter, match=name) as caught:
            llm.prepare(BEGUN, {name: value})
        assert caught.value.parameter == name
    here = LoRAX("http://host", meta_template="chatml")
    request = here.prepare(BEGUN, {"continue_final_message": True}).request
    assert request.prompt.endswith("assistant\nThe answer")


@pytest.mark.parametrize(
    ("messages", "given"),
    [
        (USER, "its role is 'user'"),
        ([*USER, {"role": "assistant", "content": ""}], "it has no text"),
        (
            [*USER, {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {}}]}],
            "no text",
        ),
        ("a prompt", "a prompt has no messages"),
    ],
)
def test_what_cannot_be_continued_is_refused_before_anything_is_sent(messages, given):
    for llm in (ScriptedLLM(script="x", meta_template="chatml"), LMDeployClient("host", "m")):
        with pytest.raises(InvalidArgument, match=given) as caught:
            llm.prepare(messages, {"continue_final_message": True})
        assert caught.value.argument == "continue_final_message"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_in_a_session_both_parts_are_one_message(asynchronous):
    def run(llm, messages, **kwargs):
        answer = llm.chat(messages, **kwargs)
        return asyncio.run(answer) if asynchronous else answer

    make = AsyncScriptedLLM if asynchronous else ScriptedLLM
    llm = make(script=" is 42.", meta_template="chatml")
    parts = [*USER, {"role": "assistant", "content": [{"type": "text", "text": "The answer"}]}]
    assert run(llm, parts, continue_final_message=True, **OPEN) == " is 42."
    assert llm.requests[0].prompt.endswith("assistant\nThe answer")
    run(llm, [{"role": "user", "content": "Sure?"}], **GO_ON)
    whole = "<|im_start|>assistant\nThe answer is 42.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n"
    assert whole in llm.requests[1].prompt
    assert [message["content"] for message in llm.requests[1].messages[:2]] == ["6 x 7?", "The answer is 42."]
    run(llm, [{"role": "user", "content": "Why?"}], **GO_ON)
    assert whole in llm.requests[2].prompt


# images in messages

IMAGE = {"type": "image_url", "image_url": {"url": "https://host/cat.png"}}
LOOK = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}]


class Seeing(ScriptedLLM):
    """A model that takes messages with images."""

    takes_messages = True
    accepted_parts = AcceptedParts(frozenset({"image_url"}))


@pytest.mark.parametrize(
    "template", ["chatml", "llama-3.2", "{% for m in messages %}{{ m.content }}{% endfor %}"]
)
def test_a_template_refuses_images_by_name_before_anything_is_sent(template):
    llm = Seeing(meta_template=template, session_len=5)
    for call in (llm.chat, llm.complete, llm.stream_chat):
        with pytest.raises(
            UnsupportedParameter,
            match=r"inputs\[1\] \(role 'user'\): Seeing with a meta_template cannot send content\[1\], a "
            r"part of type 'image_url': it takes text only",
        ):
            call([*USER, *LOOK])
    assert not llm.requests
    text = [{"role": "user", "content": [{"type": "text", "text": "6 x 7?"}]}]
    assert llm.prepare(text, {}).request.prompt == llm.prepare(USER, {}).request.prompt


def test_backends_that_send_text_only_refuse_images_by_name():
    for llm in (JAXClient("http://host", "m"), LoRAX("http://host")):
        with pytest.raises(
            UnsupportedParameter, match=f"{type(llm).__name__} cannot send content.*text only"
        ):
            llm.chat(LOOK)


def test_an_image_of_a_batch_fails_alone():
    llm = ScriptedLLM("ok", meta_template="chatml")
    with pytest.raises(BatchError) as caught:
        llm.chat([USER, LOOK])
    assert caught.value.results[0] == "ok"
    assert isinstance(caught.value.results[1], UnsupportedParameter)


@pytest.mark.parametrize("make", [Seeing, type("AsyncSeeing", (AsyncScriptedLLM,), dict(vars(Seeing)))])
def test_a_session_keeps_images(make):
    llm = Caller(make("A cat."))
    assert llm.chat(LOOK, **OPEN) == llm.chat(USER, **GO_ON) == "A cat."
    with pytest.raises(UnsupportedParameter):
        llm.chat([{"role": "user", "content": [{"type": "audio", "audio": "https://host/a.wav"}]}], **GO_ON)
    llm.chat(USER, **GO_ON)
    answer = {"role": "assistant", "content": "A cat."}
    assert llm.llm.requests[-1].messages == [*LOOK, answer, *USER, answer, *USER]
    assert pickle.loads(pickle.dumps(llm.llm.requests[-1])).messages == llm.llm.requests[-1].messages
    llm.close()
