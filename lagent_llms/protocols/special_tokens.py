"""Recognize special tokens by their spelling, and convert vocabulary entries to text. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache

__all__ = ["byte_alphabet", "special_words", "vocabulary_text"]

#: Spellings of special tokens: <|im_end|>, </s>, [INST], <｜User｜>.
_SPECIAL = re.compile(r"<[|｜/][^<>]*>|\[/?[A-Z][A-Z0-9_]*\]")


@lru_cache(maxsize=64)
def special_words(words: Sequence[str]) -> Sequence[str]:
    """Those of a tuple of words with the spelling of a special token: if a token at all, a single one."""
    return tuple(filter(_SPECIAL.fullmatch, words))


def vocabulary_text(entry: str) -> str:
    """Convert a vocabulary entry to its text.

    Handles entries of byte-level vocabularies ("Ġcapital") and of SentencePiece ("▁capital"). Any other
    entry, and one that ends inside a character, is returned unchanged.
    """
    if "▁" in entry:
        return entry.replace("▁", " ")
    byte_of = byte_alphabet()
    try:
        return bytes(byte_of[character] for character in entry).decode()
    except (KeyError, UnicodeDecodeError):
        return entry


@cache
def byte_alphabet() -> dict[str, int]:
    """Character to byte in byte-level vocabularies (GPT-2's ``bytes_to_unicode``, inverted).

    A printable byte maps to its own code point; the others have code points from 256 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
