"""Calls of tools are read in answers of every format, however they are cut; what is no call stays text."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lagent_llms.errors import InvalidArgument
from lagent_llms.schema import ToolCall, ToolCallDelta
from lagent_llms.templates.answers.calls import CallReader
from lagent_llms.templates.answers.formats import CALL_FORMATS, call_format

from .examples import CALL, EXAMPLES, JSON, OBJECT, TOOLS


def read(parser: str, pieces: Any) -> tuple[str, tuple[ToolCall, ...], list[ToolCallDelta]]:
    reader = CallReader(CALL_FORMATS[parser], TOOLS)
    content, deltas = "", []
    for piece in pieces:
        new, parts = reader.feed(piece)
        content += new
        deltas += parts
    new, parts = reader.feed("", final=True)
    return content + new, reader.calls, [*deltas, *parts]


def joined(deltas: list[ToolCallDelta]) -> list[ToolCall]:
    calls: dict[int, list[str]] = {}
    for delta in deltas:
        parts = calls.setdefault(delta.index, ["", "", ""])
        for place, part in enumerate((delta.name, delta.arguments, delta.id)):
            parts[place] += part
    return [
        ToolCall(name, json.loads(arguments), identifier) for name, arguments, identifier in calls.values()
    ]


@pytest.mark.parametrize(("parser", "text", "content", "calls"), EXAMPLES)
def test_documented_answers(parser: str, text: str, content: str, calls: list[ToolCall]) -> None:
    for size in (len(text), 1, 2, 7):
        found = read(parser, [text[at : at + size] for at in range(0, len(text), size)])
        assert found[:2] == (content, tuple(calls))
        assert joined(found[2]) == calls


def test_at_least_ten_formats_have_examples() -> None:
    assert {parser for parser, *_ in EXAMPLES} == set(CALL_FORMATS)


def test_arguments_come_in_pieces_as_the_model_writes_them() -> None:
    reader = CallReader(CALL_FORMATS["hermes"])
    assert reader.feed('<tool_call>{"name": "wea') == ("", ())
    assert reader.feed('ther", "arguments": {"ci')[1] == (
        ToolCallDelta(0, "", "weather"), ToolCallDelta(0, arguments='{"ci'),
    )  # fmt: skip
    assert reader.feed('ty": "Paris"')[1] == (ToolCallDelta(0, arguments='ty": "Paris"'),)
    assert reader.calls == ()
    assert reader.feed("}}")[1] == (ToolCallDelta(0, arguments="}"),)
    assert reader.calls == (ToolCall("weather", {"city": "Paris"}),)
    xml = CallReader(CALL_FORMATS["qwen3-coder"], TOOLS)
    xml.feed("<function=weather>\n<parameter=city>\n")
    assert xml.feed("long text")[1] == (ToolCallDelta(0, arguments="long text"),)


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        ("hermes", "<tool_call>no JSON</tool_call> "),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"x": 1}'),
        ("hermes", '<tool_call>{"name": "f", "arguments": [1]}</tool_call>'),
        ("hermes", '<tool_call>{"name": "f", "arguments": {x}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"x": "\ud800"}}</tool_call>'),
        ("hermes", "an unfinished <tool_ca"),
        ("llama-3", ' {"name": "Ann", "age": 3} '),
        ("xlam", "[1, 2]"),
        ("pythonic", "[1, 2] is a list"),
        ("pythonic", "[f(1)]"),
        ("pythonic", "[f(x=open('y'))]"),
        ("mistral", "[TOOL_CALLS]weather"),
        ("qwen3-coder", "<tool_call>\n<function=f>\n<parameter=x>\n1"),
        ("gemma-4", "<|tool_call>call:f{a:b c}<tool_call|>"),
    ],
)
def test_what_is_no_call_stays_text(parser: str, text: str) -> None:
    assert read(parser, [text])[:2] == (text, ())
    assert read(parser, text)[:2] == (text, ())


def test_a_call_after_a_broken_one_is_read() -> None:
    broken = '<tool_call>{"name": "f", "arguments": {"x": "</tool_call>'
    assert read("hermes", f"{broken}<tool_call>{JSON}</tool_call>")[:2] == (broken, (CALL,))
    assert read("hermes", f"<tool_call>[{JSON}, broken]</tool_call>")[1] == (CALL,)
    encoded = json.dumps({"type": "function", "function": {"name": "weather", "arguments": OBJECT}})
    assert read("hermes", f"<tool_call>{encoded}</tool_call>")[1] == (CALL,)


MARKS = sorted({m for marks in CALL_FORMATS.values() for m in (*marks.marks, marks.end, *marks.item_end)})
OTHERS = [JSON, OBJECT, "{", "}", "[", '"', "\\", " ", "\n", "f", ":", "é", "x=1", "call:f"]
PARTS = st.lists(st.sampled_from(MARKS + OTHERS) | st.text(max_size=3), max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(CALL_FORMATS)), PARTS, st.data())
def test_no_answer_is_an_error_and_cuts_change_nothing(
    parser: str, parts: list[str], data: st.DataObject
) -> None:
    text = "".join(parts)
    whole = read(parser, [text])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert read(parser, pieces)[:2] == whole[:2] == read(parser, text)[:2]
    if not whole[1]:
        assert whole[0] == text


HOSTILE = ["hermes", "mistral", "qwen3-coder", "deepseek-v3", "lfm2", "gemma-4", "xlam"]


@pytest.mark.parametrize("parser", HOSTILE)
def test_hostile_answers_take_linear_time(parser: str) -> None:
    marks = CALL_FORMATS[parser]
    mark = marks.marks[0] if marks.marks else ""

    def seconds(size: int) -> float:
        texts = [
            mark + "{" * size,
            (mark + '{"\\"') * (size // 16),
            (mark + "{") * (size // 12),
            mark + " " * size,
            mark + '{"name": "' + "a" * size,
            mark + "[f(x=" + "-" * size + "1)]",
            mark + '{"x": "' + "\\" * size,
        ]
        start = time.process_time()
        for text in texts:
            read(parser, [text[at : at + 8] for at in range(0, len(text), 8)])
        return time.process_time() - start

    small = min(seconds(5_000) for _ in range(3))
    # Linear is 8 times, quadratic 64; another program may have made one of them slow.
    assert any(seconds(40_000) < 8 * small * 4 for _ in range(3))


def test_an_unknown_parser_is_named() -> None:
    with pytest.raises(
        InvalidArgument, match=r"tool_parser='hermess': no such parser, did you mean 'hermes'"
    ):
        call_format("hermess")
    assert call_format("Qwen2.5") is call_format("hermes")
    assert call_format("glm_4.5") is CALL_FORMATS["glm-4.5"]
