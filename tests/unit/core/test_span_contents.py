"""Messages in the form of the conventions for generative AI."""

import json

import pytest

from lagent_llms import Completion, ToolCall
from lagent_llms.core.span_contents import answer, question
from lagent_llms.testing import ScriptedLLM


def asked(messages):
    llm = ScriptedLLM("fine", meta_template="qwen3")
    request = llm.prepare(messages, {}).request
    return json.loads(question(request))


def test_messages_with_calls_and_results():
    call = {"id": "call00001", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call00001", "content": "1"},
    ]
    text = [{"type": "text", "content": "one"}, {"type": "text", "content": "two"}]
    called = {"type": "tool_call", "id": "call00001", "name": "add", "arguments": '{"a": 1}'}
    response = {"type": "tool_call_response", "id": "call00001", "response": "1"}
    assert asked(messages) == [
        {"role": "system", "parts": [{"type": "text", "content": "S"}]},
        {"role": "user", "parts": text},
        {"role": "assistant", "parts": [called]},
        {"role": "tool", "parts": [response]},
    ]


def test_a_prompt():
    request = ScriptedLLM().prepare("once", {}).request
    assert json.loads(question(request)) == [{"role": "user", "parts": [{"type": "text", "content": "once"}]}]


@pytest.mark.parametrize("role", ["user", "tool"])
def test_images_are_named_and_not_recorded(role):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    request = ScriptedLLM().prepare("once", {}).request
    request.messages = [{"role": role, "content": [{"type": "text", "text": "this:"}, image]}]
    recorded = question(request)
    assert "image_url" in recorded
    assert "this:" in recorded
    assert "AAAA" not in recorded


def test_an_answer():
    completion = Completion(
        "text",
        "tool_calls",
        reasoning="hm",
        tool_calls=(ToolCall("add", {"a": 1}, "7"),),
        content="text\ud83d",
    )
    (message,) = json.loads(answer(completion))
    assert (message["role"], message["finish_reason"]) == ("assistant", "tool_calls")
    assert message["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "text", "content": "text\ud83d"},
        {"type": "tool_call", "id": "7", "name": "add", "arguments": '{"a": 1}'},
    ]
