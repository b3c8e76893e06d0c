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


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_an_event_is_complete_with_the_byte_that_ends_it(newline):
    """A CR ends its line at once; an LF that follows belongs to it, whenever it arrives."""
    splitter, found = EventSplitter(), []
    for number in range(3):
        data = b"data: %d" % number + newline + newline[:1]
        found += splitter.feed(data)
        assert found == [b"%d" % i for i in range(number + 1)]
        assert splitter.feed(newline[1:]) == splitter.feed(b"") == []


@given(st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=8), st.lists(st.integers(0)))
def test_mixed_newlines_split_anywhere(newlines, places):
    data = b"".join(b"data: %d" % i + newline + newline for i, newline in enumerate(newlines))
    assert split(split_at(data, places)) == [b"%d" % i for i in range(len(newlines))]


@pytest.mark.parametrize(
    "body", [b'{"a":\n\n1}', b"[1]", b'"x"', b"<html>\n\n</html>", b"\x1f\x8b\n\n", b"", b"data"]
)
@pytest.mark.parametrize("labelled", [True, False])
def test_a_document_is_returned_as_a_whole(body, labelled):
    for size in (1, len(body) + 1):
        splitter = EventSplitter(labelled)
        for start in range(0, len(body), size):
            assert splitter.feed(body[start : start + size]) == []
        if body in (b"", b"data") and labelled:
            assert splitter.finish() in ([], [b""])
        else:
            assert splitter.finish() == [body]
            assert splitter.whole


@pytest.mark.parametrize(
    "start", [b"data:x", b":\n\n", b"event: y\ndata: x", b"\r\n\r\ndata: x", b"\xef\xbb\xbfdata:x"]
)
def test_a_stream_without_a_label(start):
    data = start + b"\n\ndata: last"
    for size in (1, len(data)):
        splitter = EventSplitter(labelled=False)
        found = [e for i in range(0, len(data), size) for e in splitter.feed(data[i : i + size])]
        assert [*found, *splitter.finish()] == [b"x"] * (b"x" in start) + [b"last"]


def test_what_is_no_event_in_a_stream_is_not_lost():
    assert split([b"data: 1\n\n<html>\n\n", b'{"error": 1}\n\nBad Gateway\n\nevent: x\n\nfoo: y\n\n']) == [
        b"1", b"<html>", b'{"error": 1}', b"Bad Gateway",
    ]  # fmt: skip
    splitter = EventSplitter()
    splitter.feed(b"data: 1\n\nupstream connect error")
    assert splitter.finish() == [b"upstream connect error"]
