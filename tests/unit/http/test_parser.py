"""HTTP/1.1 as our synchronous driver speaks it: requests as bytes, responses cut anywhere, hostile ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms import InvalidArgument
from lagent_llms.http.messages import HTTPRequest, check_headers
from lagent_llms.http.parser import ResponseReader

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nT: 1\r\n\r\n"
)
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-A: 1\r\nx-a: 2\r\n\r\nhello world"
ANNOUNCED = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + LENGTH
BARE = LENGTH.replace(b"\r\n", b"\n")


def read(*parts):
    reader = ResponseReader()
    return reader, b"".join(reader.feed(part) for part in parts)


@pytest.mark.parametrize("data", [CHUNKED, LENGTH, ANNOUNCED, BARE], ids=["chunks", "length", "1xx", "bare"])
def test_a_response_survives_every_cut(data):
    for place in range(len(data) + 1):
        reader, body = read(data[:place], data[place:])
        assert (reader.head.status, body) == (200, b"hello world")
        assert reader.ended
        assert reader.reusable
    assert read(*(data[i : i + 1] for i in range(len(data))))[1] == b"hello world"


def test_headers_said_twice_are_joined():
    reader, _ = read(LENGTH)
    assert reader.head.headers == {"content-length": "11", "x-a": "1, 2"}


def test_a_body_of_unknown_length_ends_with_the_connection():
    reader, body = read(b"HTTP/1.1 200 OK\r\n\r\nhello ", b"world")
    assert (body, reader.ended) == (b"hello world", False)
    reader.finish()
    assert reader.ended
    assert not reader.reusable


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_some_responses_have_no_body(status):
    reader, _ = read(b"HTTP/1.1 %s\r\n\r\n" % status)
    assert reader.ended
    assert reader.reusable


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 2", LENGTH[:-1], CHUNKED[:-3]])
def test_a_connection_closed_too_early_is_told(data):
    reader, _ = read(data)
    with pytest.raises(ConnectionError):
        reader.finish()


@pytest.mark.parametrize(
    ("data", "reusable"),
    [
        (LENGTH, True),
        (LENGTH.replace(b"X-A: 1", b"Connection: Close"), False),
        (LENGTH.replace(b"HTTP/1.1", b"HTTP/1.0"), False),
        (LENGTH.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"X-A: 1", b"Connection: keep-alive"), True),
        (LENGTH + b"more", False),
        (CHUNKED + b"more", False),
    ],
)
def test_a_connection_is_used_again_only_where_that_is_safe(data, reusable):
    for parts in ([data], [data[:-4], data[-4:]]):
        reader, body = read(*parts)
        assert (reader.ended, reader.reusable, body) == (True, reusable, b"hello world")


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000,
    ],
)
def test_what_is_no_response_is_an_error(data):
    with pytest.raises(ValueError):
        ResponseReader().feed(data)


# chunked bodies

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def cuts(data, places):
    """`data` cut at `places`."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0)))
def test_chunks_are_undone_however_they_are_cut(chunks, places):
    body = (
        b"".join(b"%X;x=y\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: 1\r\n\r\n"
    )
    reader, found = read(*cuts(HEAD + body, places))
    assert found == b"".join(chunks)
    assert reader.ended


@pytest.mark.parametrize("body", [b"zz\r\n", b"-1\r\n", b"\r\n", b"1\r\nab\r\n", b"1" * 20000])
def test_what_is_no_chunk_is_an_error(body):
    with pytest.raises(ValueError):
        read(HEAD + body)


# requests


def test_a_request_as_bytes():
    request = HTTPRequest.json("/v1/x", {"a": "你"}, {"x-request-id": "7"})
    assert (
        request.encode("/base/v1/x", {"Host": "h:1", "X-Request-Id": "old"})
        == (
            "POST /base/v1/x HTTP/1.1\r\nHost: h:1\r\nX-Request-Id: 7\r\nContent-Type: application/json\r\n"
            'Content-Length: 11\r\n\r\n{"a":"你"}'
        ).encode()
    )
    assert HTTPRequest("GET", "/").encode("/", {"Host": "h"}) == b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [{"A": "1\r\nB: 2"}, {"A": "1\x00"}, {"A": "你"}, {"A": 1}, {"A\r\nB": "1"}, {"": "1"}, {"A:": "1"}],
)
def test_a_header_cannot_become_two(headers):
    with pytest.raises(InvalidArgument, match="header") as caught:
        check_headers(headers)
    assert "B: 2" not in str(caught.value)  # a value may be secret
