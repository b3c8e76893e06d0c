"""Text pieces add up to the whole decoding for any split of the ids; no piece has half a character."""

from __future__ import annotations

import itertools
import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models

from lagent_llms.protocols.detokenizer import Detokenizer

from .checkpoints import TEXTS, VOCAB, byte_level_tokenizer


def sentencepiece_style() -> tokenizers.Tokenizer:
    """Return a Llama-2-like tokenizer: pieces with a prefix space, byte tokens for other text."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "▁▁", "▁the", "▁a", "cat", "s", "你", "好", "▁世界", ".", "\n", "🙂"]
    fast = tokenizers.Tokenizer(
        models.BPE(
            {piece: index for index, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True
        )
    )
    fast.add_special_tokens(["<s>", "</s>"])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    fast.decoder = decoders.Sequence(parts)
    return fast


def metaspace() -> tokenizers.Tokenizer:
    fast = sentencepiece_style()
    fast.decoder = decoders.Metaspace()
    return fast


def marked_byte_level() -> tokenizers.Tokenizer:
    """Return a byte-level tokenizer with added tokens, one of them outside the byte alphabet."""
    fast = byte_level_tokenizer()
    fast.add_tokens(["工具", "tool call"])
    return fast


FAST = {"byte_level": marked_byte_level(), "sentencepiece": sentencepiece_style(), "metaspace": metaspace()}


def new(kind: str, skipped: frozenset[int] = frozenset()) -> Detokenizer:
    return Detokenizer(FAST[kind], json.loads(FAST[kind].to_str())["decoder"], skipped)


def split_randomly(ids: list[int], cuts: list[int]) -> list[list[int]]:
    borders = [0, *sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]
    return [ids[low:high] for low, high in itertools.pairwise(borders)]


@pytest.mark.parametrize("kind", FAST)
@settings(deadline=None, max_examples=300)
@given(ids=st.lists(st.integers(0, VOCAB + 5), max_size=40), cuts=st.lists(st.integers(0, 60), max_size=30))
def test_any_ids_split_anywhere(kind, ids, cuts):
    stream = new(kind)
    text = "".join(stream.feed(part) for part in split_randomly(ids, cuts)) + stream.flush()
    assert text == FAST[kind].decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("kind", FAST)
@settings(deadline=None, max_examples=100)
@given(ids=st.lists(st.integers(0, 8), max_size=20))
def test_special_tokens_skipped(kind, ids):
    special = frozenset(i for i, token in FAST[kind].get_added_tokens_decoder().items() if token.special)
    assert special
    stream = new(kind, special)
    text = "".join(stream.feed([index]) for index in ids) + stream.flush()
    assert text == FAST[kind].decode(ids, skip_special_tokens=True)


@settings(deadline=None)
@given(text=st.one_of(st.sampled_from(TEXTS), st.text()))
def test_no_piece_has_half_a_character(text):
    """Valid text is decoded from byte-level tokens one at a time."""
    stream = new("byte_level")
    ids = FAST["byte_level"].encode(text, add_special_tokens=False).ids
    pieces = [stream.feed([index]) for index in ids]
    assert stream.flush() == ""
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_a_character_comes_with_its_last_byte():
    stream = new("sentencepiece")
    fast = FAST["sentencepiece"]
    first = [fast.token_to_id(f"<0x{byte:02X}>") for byte in "猫".encode()]
    assert [stream.feed([index]) for index in first] == ["", "", ""]
    assert stream.feed([fast.token_to_id("s")]) == "猫s"
    stream = new("byte_level")
    ids = FAST["byte_level"].encode("猫").ids
    assert [stream.feed([index]) for index in ids] == [""] * (len(ids) - 1) + ["猫"]


def test_flush_returns_the_held_text():
    for kind, token in (("byte_level", "ä"), ("sentencepiece", "<0xE4>")):
        stream = new(kind)
        assert stream.feed([FAST[kind].token_to_id(token)]) == ""
        assert stream.flush() == "\ufffd"
        assert stream.flush() == ""
