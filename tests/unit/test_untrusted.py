"""JSON of any structure: read, or refused by one of a few exceptions."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms.untrusted import DECODE_ERRORS, read_json


@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize(("depth", "allowed"), [(128, True), (129, False), (900, False), (200_000, False)])
def test_depth(begin, end, depth, allowed):
    text = begin * depth + "1" + end * depth
    if allowed:
        assert json.dumps(read_json(text)).replace(" ", "") == text
    else:
        with pytest.raises(DECODE_ERRORS):
            read_json(text)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"NaN", b'"\\ud800"', b"[1e999]", b"1" * 5000, b"{}{}", "\ud800"]
)
def test_what_is_no_json(data):
    with pytest.raises(DECODE_ERRORS):
        read_json(data)


@given(st.binary())
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(DECODE_ERRORS):
        read_json(data)
