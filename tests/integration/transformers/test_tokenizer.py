"""Tokenizers of transformers, fast and slow: pieces add up to the whole text and have no half a character."""

import pytest
from transformers import AutoTokenizer, ByT5Tokenizer

from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.backends.transformers.tokenizer import EngineTokenizer

TEXT = "Grüße, 你好 🙂!"
TOKENIZERS = {
    "fast": lambda: AutoTokenizer.from_pretrained(EMBEDDED_MODEL),
    "slow": ByT5Tokenizer,  # of bytes, and in Python
}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request):
    return EngineTokenizer(TOKENIZERS[request.param]())


def test_pieces_of_an_answer(tokenizer):
    text = tokenizer.stream()
    pieces = [text.feed([index]) for index in tokenizer.encode(TEXT)]
    assert "".join([*pieces, text.flush()]) == TEXT
    assert len([piece for piece in pieces if piece]) > 5
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_many_ids_at_once_that_end_within_a_character(tokenizer):
    ids = tokenizer.encode(TEXT)
    for cut in range(1, len(ids)):
        text = tokenizer.stream()
        assert text.feed(ids[:cut]) + text.feed(ids[cut:]) + text.flush() == TEXT


def test_special_tokens():
    tokenizer = EngineTokenizer(TOKENIZERS["fast"]())
    ids = tokenizer.encode("<|im_start|>Hi", add_bos=True)
    assert ids == [tokenizer.tokenizer.bos_token_id, *tokenizer.encode("<|im_start|>Hi")]
    assert tokenizer.decode(ids) == "<s><|im_start|>Hi"
    stream = tokenizer.stream(skip_special_tokens=True)
    assert stream.feed(ids) + stream.flush() == "Hi"
