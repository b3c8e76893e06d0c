"""Chunked bodies, however their bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms.http.chunked import ChunkedDecoder


def cuts(data, places):
    """`data` cut at `places`."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0)))
def test_chunks_are_undone_however_they_are_cut(chunks, places):
    body = (
        b"".join(b"%X;x=y\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: 1\r\n\r\n"
    )
    decoder = ChunkedDecoder()
    assert b"".join(decoder.feed(part) for part in cuts(body, places)) == b"".join(chunks)
    assert decoder.complete


@pytest.mark.parametrize("body", [b"zz\r\n", b"-1\r\n", b"\r\n", b"1\r\nab\r\n", b"1" * 20000])
def test_what_is_no_chunk_is_an_error(body):
    with pytest.raises(ValueError):
        ChunkedDecoder().feed(body)
