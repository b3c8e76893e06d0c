"""Incremental decoding with a foreign tokenizer: whole characters, in linear time."""

import pytest

from lagent_llms.serving.jax_server.text_tokenizer import TextTokenizer

END = 256


class Bytes:
    """A byte-level tokenizer: one token per byte."""

    eos_token_id = END
    all_special_ids = (END,)

    def __init__(self):
        self.decoded = 0

    def encode(self, text, add_special_tokens=False):
        return list(text.encode())

    def decode(self, ids, skip_special_tokens=False):
        self.decoded += len(ids)
        text = b"".join(b"</s>" * (not skip_special_tokens) if one == END else bytes([one]) for one in ids)
        return text.decode("utf-8", "replace")


def pieces(ids, size, skip=False):
    inner = Bytes()
    stream = TextTokenizer(inner).stream(skip)
    found = [stream.feed(ids[at : at + size]) for at in range(0, len(ids), size)]
    return [*found, stream.flush()], inner.decoded


@pytest.mark.parametrize("size", [1, 2, 7, 32, 1000])
def test_no_piece_has_half_a_character(size):
    text = "Ω 中文字, emoji 👩🏽‍🚀 and é" * 20
    found, _ = pieces(list(text.encode()), size)
    assert "".join(found) == text


@pytest.mark.parametrize("size", [1, 32])
def test_special_tokens_are_skipped(size):
    ids = [*"中".encode(), END, *" 文".encode(), END]
    assert "".join(pieces(ids, size, skip=True)[0]) == "中 文"
    assert "".join(pieces(ids, size)[0]) == "中</s> 文</s>"


@pytest.mark.parametrize("size", [1, 32])
def test_invalid_bytes_are_released_in_linear_time(size):
    count = 4000
    found, decoded = pieces([0xFF] * count, size)
    assert "".join(found) == "\N{REPLACEMENT CHARACTER}" * count
    assert sum(map(bool, found)) > len(found) / 20
    assert decoded < 100 * count
