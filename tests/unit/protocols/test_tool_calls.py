"""Tool calls in the parts in which servers send them."""

import json

import msgspec
import pytest

from lagent_llms.protocols.openai_response import ToolCallFields
from lagent_llms.protocols.tool_calls import ToolCallCollector


def part(name=None, arguments=None, **fields):
    return {**fields, "function": {"name": name, "arguments": arguments}}


def collect(*events):
    collector = ToolCallCollector()
    for event in events:
        collector.add(msgspec.convert(event if isinstance(event, list) else [event], list[ToolCallFields]))
    return [(name, arguments) for name, arguments, _ in collector.result()]


A, B = ("f", '{"a": 1}'), ("g", '{"b": 2}')


@pytest.mark.parametrize(
    ("events", "calls"),
    [
        ([part("f", "", index=0, id="1"), part(None, '{"a"', index=0), part(None, ": 1}", index=0)], [A]),
        ([part("f", '{"a"', index=0, id="1"), part("f", ": 1}", index=0, id="1")], [A]),
        ([part("f", '{"a"', index=0), part("f", ": 1}", index=0)], [A]),
        ([part("f", '{"a"', id="1"), part(None, ": 1}", id="1")], [A]),
        ([part("f", '{"a"', id="1"), part(None, ": 1}")], [A]),
        ([part("f", '{"a"', index=0, id="1"), part(None, ": 1}", index=0, id="new")], [A]),
        ([part("f", {"a": 1})], [("f", '{"a":1}')]),
        ([part("f", '{"a": 1}', id="1"), {"index": 0, "function": None}, {"index": 0}], [A]),
        ([part(*A, index=0, id="1"), part(*B, index=1, id="2")], [A, B]),
        ([part(*A, index=0, id="1"), part(*B, index=0, id="2")], [A, B]),
        ([part(*A, id="1"), part(*B, id="2")], [A, B]),
        ([part(*A), part(*B)], [A, B]),
        ([part(*A), part(*A)], [A, A]),
        ([part(*A, index=0, id="1"), part(*A, index=0, id="2")], [A, A]),
        ([part(*A, index=0, id=""), part(*B, index=0, id="")], [A, B]),
        ([[part(*A), part(*B)]], [A, B]),
        ([[part(*A), part(*A)]], [A, A]),
        ([[part(*A, index=0), part(*A, index=0)]], [A, A]),
        ([[part("f", '{"a"'), part("g", '{"b"')], [part(None, ": 1}"), part(None, ": 2}")]], [A, B]),
        (
            [
                part("f", '{"a"', index=0, id="1"),
                part("g", '{"b"', index=1, id="2"),
                part(None, ": 1}", index=0),
                part(None, ": 2}", index=1),
            ],
            [A, B],
        ),
        (
            [part("f", '{"a"', id="1"), part(*B, id="2"), part(None, ": 1}", id="1"), part(None, "")],
            [A, B],
        ),
    ],
)  # fmt: skip
def test_calls(events, calls):
    assert collect(*events) == calls


def test_a_long_call_is_collected_in_linear_time(monkeypatch):
    """Each part is copied once: 1 MB in parts of 16 bytes, by a server that repeats the name as well."""
    text = json.dumps({"a": "{}" * 500_000})
    parts = [text[i : i + 16] for i in range(0, len(text), 16)]
    decoded = []
    decode = msgspec.json.decode
    monkeypatch.setattr(msgspec.json, "decode", lambda data: decoded.append(len(data)) or decode(data))
    for name in (None, "f"):
        events = [part("f", "", index=0, id=""), *(part(name, one, index=0) for one in parts)]
        assert collect(*events) == [("f", text)]
    assert sum(decoded) <= len(text)
