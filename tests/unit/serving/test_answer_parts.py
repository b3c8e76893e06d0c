"""Answers as lists of parts: the same parts whole and streamed, one open at a time, nothing lost."""

import json

from lagent_llms import Completion, ModelStatusCode
from lagent_llms.schema import ParsedChunk, TextBuffer, ToolCall, ToolCallDelta
from lagent_llms.serving.answer_parts import PartStream, parts_of


def step(reasoning="", content="", *calls):
    chunk = ParsedChunk(ModelStatusCode.STREAM_ING, "", 1, TextBuffer(), 0)
    chunk.reasoning, chunk.content, chunk.tool_calls = reasoning, content, calls
    return chunk


def changes(*steps):
    """The changes of a stream as (action, index, text), after checking their order; and its parts."""
    stream, found, now = PartStream("msg_0123456789abcdef"), [], None
    for item in (*steps, None):
        for action, part, text in stream.end() if item is None else stream.feed(item):
            assert (now is None) == (action == "open")
            assert action == "open" or part is now
            now = {"open": part, "add": part, "close": None}[action]
            found.append((action, part.index, text))
    assert now is None
    assert [index for action, index, _ in found if action == "open"] == [*range(len(stream.parts))]
    for part in stream.parts:
        assert "".join(text for _, index, text in found if index == part.index) == part.text
    return found, [(part.kind, part.name, part.text) for part in stream.parts]


def test_parts_follow_each_other_as_they_come():
    found, parts = changes(
        step("I ", ""),
        step("see.", ""),
        step("", "The "),
        step("", "sky"),
        step("", "", ToolCallDelta(0, "", "f", "{}")),
    )
    assert parts == [("reasoning", "", "I see."), ("text", "", "The sky"), ("call", "f", "{}")]
    assert found[:4] == [("open", 0, ""), ("add", 0, "I "), ("add", 0, "see."), ("close", 0, "")]


def test_arguments_of_one_call_come_as_they_grow():
    found, _ = changes(
        step("", "", ToolCallDelta(0, "c1", "f", '{"a"')), step("", "", ToolCallDelta(0, "", "", ": 1}"))
    )
    assert found == [("open", 0, ""), ("add", 0, '{"a"'), ("add", 0, ": 1}"), ("close", 0, "")]


def test_interleaved_calls_and_text_between_them_lose_nothing():
    _, parts = changes(
        step("", "", ToolCallDelta(0, "", "f", '{"a"'), ToolCallDelta(1, "", "g", "{")),
        step("", "so"),
        step("", "", ToolCallDelta(1, "", "", "}"), ToolCallDelta(0, "", "", ": 1}")),
    )
    assert parts == [("call", "f", '{"a": 1}'), ("call", "g", "{}"), ("text", "", "so")]


def test_a_call_waits_for_its_name_and_id():
    stream = PartStream("msg_0123456789abcdef")
    assert [*stream.feed(step("", "", ToolCallDelta(0, "", "", "{")))] == []
    opened, added = stream.feed(step("", "", ToolCallDelta(0, "c1", "f", "}")))
    assert (opened.action, opened.part.name, opened.part.id, added.text) == ("open", "f", "c1", "{}")


def test_an_id_that_was_sent_stays():
    stream = PartStream("msg_0123456789abcdef")
    (opened,) = stream.feed(step("", "", ToolCallDelta(0, "", "f", "")))
    made = opened.part.id
    assert made == "call_456789abcdef_0"
    assert [change.part.id for change in stream.feed(step("", "", ToolCallDelta(0, "late", "", "{}")))] == [
        made
    ]


def test_a_whole_answer_has_the_same_parts():
    calls = (ToolCall("f", {"a": "ö"}), ToolCall("f", {}, "given"))
    parts = parts_of(
        Completion("x", "tool_calls", reasoning="r", content="t", tool_calls=calls), "msg_0123456789abcdef"
    )
    assert [(part.kind, part.text) for part in parts[:2]] == [("reasoning", "r"), ("text", "t")]
    assert [part.id for part in parts[2:]] == ["call_456789abcdef_0", "given"]
    assert [json.loads(part.text) for part in parts[2:]] == [{"a": "ö"}, {}]
    assert parts_of(Completion("", "stop"), "id") == []
