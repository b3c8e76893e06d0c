"""Answers as they are stored."""

import zlib

import pytest

from lagent_llms import Completion, TokenLogprob, ToolCall, Usage
from lagent_llms.schema import ParsedChunk, StreamChunk, TextBuffer, ToolCallDelta
from lagent_llms.store.answers import DAMAGED, Step, completion_fields, pack, unpack

LOGPROBS = (TokenLogprob("hi", 3, -1.5, (("hi", 3, -1.5), ("ho", None, -2.5))),)
WHOLE = Completion(
    "hi <call>",
    "tool_calls",
    stop_word="END",
    usage=Usage(3, 4, 1),
    token_ids=(1, 2),
    logprobs=LOGPROBS,
    tool_calls=(ToolCall("f", {"a": [1, {"b": None}], "ü": "\n"}, "id1"),),
    reasoning="hm",
    native_finish_reason="eos",
    content="hi ",
    raw_text="<think>hm</think>hi <call>",
)


@pytest.mark.parametrize("completion", [WHOLE, Completion("", "stop"), Completion("é\0", "length")])
def test_a_completion_comes_back_equal(completion):
    found = unpack(pack([Step("a")], completion_fields(completion))).completion
    assert found == completion
    assert type(found.usage) is type(completion.usage)


def test_steps_are_those_of_the_chunks():
    buffer = TextBuffer()
    plain = StreamChunk(1, "hi", 2, buffer, 2, logprobs=LOGPROBS)
    parsed = ParsedChunk(1, "<call>", 3, buffer, 8)
    parsed.content, parsed.reasoning, parsed.tool_calls = "", "hm", (ToolCallDelta(0, "id1", "f", "{}"),)
    steps = unpack(pack([Step.of(plain), Step.of(parsed)], None)).steps
    assert steps == (
        Step("hi", 2, 1),
        Step("<call>", 3, 0, "", "hm", (ToolCallDelta(0, "id1", "f", "{}"),)),
    )


@pytest.mark.parametrize(
    "data",
    [b"", b"no zlib", zlib.compress(b"[1]"), zlib.compress(b'{"steps": 3}'), pack([Step("a")], None)[:-3]],
)
def test_damaged_data_is_noticed(data):
    with pytest.raises(DAMAGED):
        unpack(data)


def test_half_a_character_cannot_be_stored():
    with pytest.raises(ValueError):
        pack([Step("\ud83d")], None)
