"""HTTP/1.1 of the synchronous client: serialized requests, split responses, invalid responses."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms import InvalidArgument, ServerError, StreamInterrupted
from lagent_llms.http.content_encoding import content_decoder
from lagent_llms.http.messages import HTTPRequest, check_headers
from lagent_llms.http.parser import ResponseReader
from lagent_llms.http.sse import EventSplitter

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
def test_response_split_at_every_byte(data):
    for place in range(len(data) + 1):
        reader, body = read(data[:place], data[place:])
        assert (reader.head.status, body) == (200, b"hello world")
        assert reader.ended
        assert reader.reusable
    assert read(*(data[i : i + 1] for i in range(len(data))))[1] == b"hello world"


def test_repeated_headers_are_joined():
    reader, _ = read(LENGTH)
    assert reader.head.headers == {"content-length": "11", "x-a": "1, 2"}


def test_body_of_unknown_length_ends_with_the_connection():
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
def test_early_close_raises(data):
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
def test_reusable(data, reusable):
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
def test_invalid_response_raises(data):
    with pytest.raises(ValueError):
        ResponseReader().feed(data)


def test_head_split_at_every_byte():
    reader, _ = read(*(LENGTH[i : i + 1] for i in range(LENGTH.index(b"\r\n\r\n") + 4)))
    assert reader.head.headers == {"content-length": "11", "x-a": "1, 2"}


# limits and invalid bytes

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "data",
    [
        OK + b"A: 1\r\n" * 300 + b"\r\n",
        OK + (b"A: " + b"a" * 30_000 + b"\r\n") * 3 + b"\r\n",
        OK + b"a" * 70_000,
        b"HTTP/1.1 200 " + b"K" * 70_000,
        b"\r\n" * 40_000,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17 + OK,
        b"HTTP/1.1 103 Early Hints\r\nA: "
        + b"a" * 30_000
        + b"\r\n\r\n"
        + OK
        + b"A: "
        + b"a" * 40_000
        + b"\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + b"T: 1\r\n" * 300 + b"\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: " + b"t" * 150_000,
        OK + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 70_000,
    ],
    ids=[
        "many",
        "long",
        "no-colon",
        "reason",
        "empty-lines",
        "1xx",
        "1xx-long",
        "trailers",
        "trailer",
        "extension",
    ],
)
@pytest.mark.parametrize("size", [70_000, 1000])
def test_endless_head_raises(data, size):
    reader = ResponseReader()
    with pytest.raises(ValueError):
        for start in range(0, len(data), size):
            reader.feed(data[start : start + size])


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nab" + LENGTH,
        b"HTTP/1.1 104 X\r\nContent-Length: 2\r\n\r\nab" + LENGTH,
        b"HTTP/1.1 104 X\r\nContent-Length: 2\r\n\r\na",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        OK + b": nameless\r\n\r\n",
        OK + b"A: \x00\r\n\r\n",
    ],
)
def test_ambiguous_or_invalid_framing_raises(data):
    for parts in ([data], [data[i : i + 1] for i in range(len(data))]):
        with pytest.raises(ValueError):
            read(*parts)


def test_second_response_is_not_read():
    reader, body = read(LENGTH + LENGTH)
    assert (body, reader.ended, reader.reusable) == (b"hello world", True, False)


PIECES = st.sampled_from(
    [
        *(
            b"HTTP/1.1 ",
            b"HTTP/1.0 ",
            b"200 OK",
            b"100 Continue",
            b"204 X",
            b"\r\n",
            b"\n",
            b"\r\n\r\n",
            b"\0",
        ),
        *(
            b"Content-Length: ",
            b"3",
            b"Transfer-Encoding: chunked",
            b"Connection: close",
            b"A: b",
            b"0\r\n\r\n",
        ),
        *(b"3\r\nabc\r\n", b"Upgrade: x\r\nConnection: upgrade", b"Content-Encoding: gzip", LENGTH, CHUNKED),
    ]
)
BYTES = st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=12).map(b"".join)


@given(BYTES, st.lists(st.integers(0), max_size=6))
def test_random_bytes_raise_only_value_or_connection_errors(data, places):
    outcomes = []
    for parts in ([data], split_at(data, places)):
        reader = ResponseReader()
        body = b""
        try:
            for part in parts:
                body += reader.feed(part)
            reader.finish()
            outcome = (reader.head, body)
        except (ValueError, ConnectionError) as error:
            outcome = type(error)
        outcomes.append(outcome)
        assert len(body) <= len(data)
    assert outcomes[0] == outcomes[1]


# chunked bodies

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def split_at(data, places):
    """Split `data` at `places`."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0)))
def test_chunked_body_split_anywhere(chunks, places):
    body = (
        b"".join(b"%X;x=y\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: 1\r\n\r\n"
    )
    reader, found = read(*split_at(HEAD + body, places))
    assert found == b"".join(chunks)
    assert reader.ended


@pytest.mark.parametrize("body", [b"zz\r\n", b"-1\r\n", b"\r\n", b"1\r\nab\r\n", b"1" * 20000])
def test_invalid_chunk_raises(body):
    with pytest.raises(ValueError):
        read(HEAD + body)


# compressed bodies


def compressed(data, wbits):
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush()


def decoded(decoder, *parts):
    """Yield all pieces that `parts` decode to."""
    for part in parts:
        yield decoder.feed(part)
        while decoder.more:
            yield decoder.feed(b"")


@given(st.binary(), st.sampled_from([31, 15, -15]), st.lists(st.integers(0)))
def test_compressed_body_split_anywhere(data, wbits, places):
    decoder = content_decoder("gzip" if wbits == 31 else "Deflate ")
    assert b"".join(decoded(decoder, *split_at(compressed(data, wbits), places))) == data
    decoder.finish()


@pytest.mark.parametrize("wbits", [31, 15, -15])
@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20])
def test_a_body_that_expands_is_decoded_in_small_pieces(wbits, size):
    decoder = content_decoder("gzip" if wbits == 31 else "deflate")
    data = compressed(bytes(size), wbits)
    pieces = [*decoded(decoder, data[:-1], data[-1:])]
    decoder.finish()
    assert sum(map(len, pieces)) == size
    assert max(map(len, pieces)) <= 1 << 20


def test_bytes_after_a_deflated_body_are_ignored():
    decoder = content_decoder("deflate")
    assert b"".join(decoded(decoder, compressed(b"hello", 15) + b"more")) == b"hello"
    assert decoder.feed(b"more") == b""
    decoder.finish()


def test_gzip_body_with_several_members():
    decoder = content_decoder("x-gzip")
    data = compressed(b"hello ", 31) + compressed(b"", 31) + compressed(b"world", 31)
    assert b"".join(decoded(decoder, data)) == b"hello world"
    decoder.finish()


@given(st.binary(), st.sampled_from(["gzip", "deflate"]))
def test_invalid_compressed_body_raises(data, encoding):
    decoder = content_decoder(encoding)
    try:
        for _ in decoded(decoder, data):
            pass
        decoder.finish()
    except ValueError:
        pass


def test_truncated_compressed_body_raises():
    decoder = content_decoder("gzip")
    decoder.feed(compressed(b"hello", 31)[:-3])
    with pytest.raises(ValueError, match="cut off"):
        decoder.finish()
    content_decoder("gzip").finish()  # an empty body is valid


def test_content_decoder():
    assert content_decoder("") is None
    assert content_decoder("identity") is None
    with pytest.raises(ServerError, match="br"):
        content_decoder("br")


# other limits


def test_event_over_the_limit_raises():
    splitter = EventSplitter()
    part = b"x" * (1 << 22)
    with pytest.raises(StreamInterrupted, match="exceeds"):
        for _ in range(20):
            assert splitter.feed(part) == []


# requests


def test_request_encode():
    request = HTTPRequest.json("/v1/x", {"a": "你"}, {"x-request-id": "7"})
    assert (
        request.encode("/base", {"Host": "h:1", "X-Request-Id": "old"})
        == (
            "POST /base/v1/x HTTP/1.1\r\nHost: h:1\r\nX-Request-Id: 7\r\nContent-Type: application/json\r\n"
            'Content-Length: 11\r\n\r\n{"a":"你"}'
        ).encode()
    )
    for path in ("/", ""):
        assert HTTPRequest("GET", path).encode("", {"Host": "h"}) == b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [{"A": "1\r\nB: 2"}, {"A": "1\x00"}, {"A": "你"}, {"A": 1}, {"A\r\nB": "1"}, {"": "1"}, {"A:": "1"}],
)
def test_header_injection_is_rejected(headers):
    with pytest.raises(InvalidArgument, match="header") as caught:
        check_headers(headers)
    assert "B: 2" not in str(caught.value)  # a value may be secret
