"""JSON that is not quite as a protocol says."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms.protocols.lenient import SurrogateJoiner, convert, has_halves, load_json


class Inner(msgspec.Struct):
    name: str
    count: int = 0


class Outer(msgspec.Struct):
    items: list[Inner] = []
    inner: Inner | None = None
    score: float | None = None


def test_wrong_fields_that_are_not_needed_are_left_out():
    found = {"items": [{"name": "a", "count": None}, {"name": "b", "count": "7"}], "inner": 5, "score": []}
    assert convert(found, Outer) == Outer([Inner("a"), Inner("b", 7)])


@pytest.mark.parametrize("found", [5, {"items": [{"count": 1}]}, {"items": [{"name": None}]}], ids=str)
def test_wrong_fields_that_are_needed_are_an_error(found):
    with pytest.raises(msgspec.ValidationError):
        convert(found, Outer)


def test_too_many_wrong_fields_are_an_error():
    with pytest.raises(msgspec.ValidationError):
        convert({"items": [{"name": "a", "count": None} for _ in range(1000)]}, Outer)


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"\xff", b"<html>"])
def test_what_is_no_json_is_a_value_error(data):
    with pytest.raises(ValueError):
        load_json(data)


@given(st.text(), st.lists(st.integers(0, 50)))
def test_halves_are_joined_wherever_a_text_is_cut(text, places):
    """As escaped UTF-16 and as UTF-8, in JSON strings of their own."""
    utf16 = text.encode("utf-16-le", "surrogatepass")
    units = [utf16[i : i + 2].decode("utf-16-le", "surrogatepass") for i in range(0, len(utf16), 2)]
    raw = text.encode()
    edges = sorted({0, len(raw), *(place for place in places if place < len(raw))})
    parts = [
        raw[start:end].decode("utf-8", "surrogateescape")
        for start, end in zip(edges, edges[1:], strict=False)
    ]
    for pieces in (units, parts):
        halves = SurrogateJoiner()
        joined = "".join(map(halves.feed, pieces)) + halves.feed("", final=True)
        assert joined == text


@given(st.text(st.characters(codec=None)))
def test_no_halves_are_left(text):
    assert not has_halves(SurrogateJoiner().feed(load_json(json.dumps(text).encode()), final=True))
