"""Server-sent events split at any byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms.http.sse import EventSplitter


def split_at(data, places):
    """Split `data` at `places`."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]


def split(parts):
    splitter = EventSplitter()
    return [event for part in parts for event in splitter.feed(part)]


STREAM = (
    '\ufeff: hello\n\ndata: {"a": 1}\n\ndata:{"b": "你好"}\n\nevent: x\nid: 7\ndata: one\ndata: two\n\n'
    ":\n\ndata\n\n\n\nretry: 3\n\ndata: [DONE]\n\ndata: lost"
).encode()


EVENTS = [b'{"a": 1}', '{"b": "你好"}'.encode(), b"one\ntwo", b"", b"[DONE]"]


def event(text, finish=None):
    return f'data: {{"choices": [{{"text": "{text}", "finish_reason": {json.dumps(finish)}}}]}}\n\n'.encode()


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_events_split_at_every_byte(newline):
    data = STREAM.replace(b"\n", newline)
    for place in range(len(data) + 1):
        assert split([data[:place], data[place:]]) == EVENTS
    assert split([data[i : i + 1] for i in range(len(data))]) == EVENTS


@given(
    st.lists(st.text().map(lambda text: json.dumps(text, ensure_ascii=False)), max_size=8),
    st.lists(st.integers(0)),
)
def test_events_match_the_sent_data(items, places):
    data = "".join(f"data: {item}\n\n" for item in items).encode()
    assert split(split_at(data, places)) == [item.encode() for item in items]
