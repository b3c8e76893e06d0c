"""Response objects in OpenAI's format are valid JSON for every log-probability."""

import json

import pytest

from lagent_llms import Completion, ModelStatusCode, StreamChunk
from lagent_llms.schema import ParsedChunk, TextBuffer, TokenLogprob, ToolCall, ToolCallDelta
from lagent_llms.serving.openai.responses import (
    chat_chunks,
    chat_response,
    completion_chunks,
    completion_response,
)

MINUS_INFINITY, NAN = float("-inf"), float("nan")
LOGPROBS = (TokenLogprob("a", 1, MINUS_INFINITY, (("a", 1, MINUS_INFINITY), ("b", 2, NAN), ("c", 3, -0.5))),)
COMPLETION = Completion("a", "stop", logprobs=LOGPROBS)
CHUNK = StreamChunk(ModelStatusCode.STREAM_ING, "a", 1, TextBuffer(), 0, logprobs=LOGPROBS)


@pytest.mark.parametrize(
    "item",
    [
        chat_response({}, COMPLETION),
        completion_response({}, [COMPLETION]),
        *chat_chunks({}, CHUNK, first=False),
        *completion_chunks({}, CHUNK, first=True),
    ],
    ids=lambda item: item["object"],
)
def test_a_token_of_probability_zero(item):
    text = json.dumps(item, allow_nan=False)  # -Infinity is not valid JSON
    assert text.count("-9999.0") == 3
    assert text.count("-0.5") == 1


def parsed(reasoning="", content="", tool_calls=()):
    chunk = ParsedChunk(ModelStatusCode.STREAM_ING, "", 1, TextBuffer(), 0)
    chunk.reasoning, chunk.content, chunk.tool_calls = reasoning, content, tool_calls
    return chunk


def test_reasoning_and_calls_are_deltas_as_in_openais_api():
    envelope = {"id": "chatcmpl-0123456789abcdef"}
    chunks = [
        parsed("hm"),
        parsed(content="Let me see."),
        parsed(tool_calls=(ToolCallDelta(0, "", "f"), ToolCallDelta(0, arguments='{"x": '))),
        parsed(tool_calls=(ToolCallDelta(0, arguments="1}"), ToolCallDelta(1, "given", "g", "{}"))),
    ]
    items = [item for at, chunk in enumerate(chunks) for item in chat_chunks(envelope, chunk, first=not at)]
    made = "call_456789abcdef_0"
    assert [item["choices"][0]["delta"] for item in items] == [
        {"role": "assistant", "content": "", "reasoning_content": "hm"},
        {"content": "Let me see."},
        {
            "tool_calls": [
                {"index": 0, "id": made, "type": "function", "function": {"name": "f", "arguments": ""}},
                {"index": 0, "function": {"arguments": '{"x": '}},
            ]
        },
        {
            "tool_calls": [
                {"index": 0, "function": {"arguments": "1}"}},
                {"index": 1, "id": "given", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ]
        },
    ]
    calls = (ToolCall("f", {"x": 1}), ToolCall("g", {}, "given"))
    completion = Completion("marks", "tool_calls", tool_calls=calls, reasoning="hm", content="")
    message = chat_response(envelope, completion)["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == (None, "hm")
    assert [call["id"] for call in message["tool_calls"]] == [made, "given"]
