"""Streamed token ids become text without a broken character, however the server groups them."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms.backends.triton.dialects.detokenize import StreamDetokenizer


class ByteTokenizer:
    """A token is a byte."""

    def decode(self, ids, skip_special_tokens):
        return bytes(ids).decode(errors="replace")


def result(steps):
    with pytest.raises(StopIteration) as ended:
        next(steps)
    return ended.value.value


def texts(pieces):
    detokenizer = StreamDetokenizer(SimpleNamespace(tokenizer=ByteTokenizer()), skip_special_tokens=False)
    found = [result(detokenizer.feed(piece)) for piece in pieces]
    found.append(result(detokenizer.finish()))
    assert detokenizer.text == "".join(found)
    return found


@given(st.text(st.characters(exclude_characters="\ufffd", codec="utf-8"), max_size=60), st.data())
def test_any_grouping_gives_the_text(text, data):
    ids = [*text.encode()]
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=len(ids) + 1))
    pieces = []
    while ids:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(ids[:size])
        ids = ids[size:]
    found = texts(pieces)
    assert "".join(found) == text
    assert not any("\ufffd" in piece for piece in found)


def test_many_tokens_at_once_that_end_within_a_character():
    ids = [*"我可以帮你的忙".encode()]  # three bytes each
    assert texts([ids[:19], ids[19:20], ids[20:]]) == ["我可以帮你的", "", "忙", ""]


def test_bytes_that_are_no_character_are_not_kept_for_ever():
    found = texts([[0xFF]] * 40)
    assert "".join(found) == "\ufffd" * 40
    assert any(found[:-1])
