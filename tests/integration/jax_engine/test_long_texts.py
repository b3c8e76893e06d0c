"""Long texts: encoded as short ones are, and refused by their bytes only if no encoding could fit."""

import random

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from lagent_llms.backends.jax.pipeline import EMBEDDED_MODEL
from lagent_llms.protocols.marked_text import longest_token, plain_ids

EMBEDDED = Tokenizer.from_file(str(EMBEDDED_MODEL / "tokenizer.json"))
TEXTS = ["the ", "<|im_end|>", "é", "日本", "  ", "\n", "x", "a" * 50, "😀", "1"]


@pytest.mark.parametrize("length", [10, 1_999, 2_000, 20_000])
def test_long_texts_are_encoded_as_short_ones(length):
    choose = random.Random(length)
    text = "".join(choose.choices(TEXTS, k=length))
    assert plain_ids(EMBEDDED, text) == EMBEDDED.encode(text, add_special_tokens=False).ids


def test_no_token_holds_more_bytes():
    longest = longest_token(EMBEDDED)
    choose = random.Random(1)
    texts = [*EMBEDDED.get_vocab(), *("".join(choose.choices(TEXTS, k=500)) for _ in range(50))]
    for text in texts:
        assert len(text.encode()) <= longest * max(1, len(plain_ids(EMBEDDED, text)))


def tokenizer(model, **parts):
    made = Tokenizer(model)
    for name, part in parts.items():
        setattr(made, name, part)
    return made


BYTES = {f"<0x{byte:02X}>": byte for byte in range(256)}
FALLBACK = models.BPE({**BYTES, "▁ab": 256}, [], byte_fallback=True)
PREPEND = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (tokenizer(FALLBACK), 6),
        (tokenizer(FALLBACK, normalizer=PREPEND), 6),
        (tokenizer(FALLBACK, normalizer=normalizers.NFC()), 18),
        (tokenizer(FALLBACK, normalizer=normalizers.NFKC()), None),
        (tokenizer(FALLBACK, normalizer=normalizers.Strip()), None),
        (tokenizer(FALLBACK, normalizer=normalizers.Replace("ab", "")), None),
        (tokenizer(models.BPE({"a": 0, "ab": 1, "?": 2}, [], unk_token="?", fuse_unk=True)), None),
        (tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]")), None),
        (
            tokenizer(
                models.BPE({"a": 0, "Ġabc": 1}, []),
                pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(add_prefix_space=False)]),
                decoder=decoders.ByteLevel(),
            ),
            4,
        ),
    ],
)
def test_the_bound_is_known_where_no_text_is_lost(made, expected):
    assert longest_token(made) == expected
