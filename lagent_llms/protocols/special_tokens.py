"""Recognize special tokens by their spelling, and convert vocabulary entries to text. No I/O."""

from __future__ import annotations

import re
from functools import cache

__all__ = ["byte_alphabet", "looks_special", "vocabulary_text"]

#: Spellings of special tokens: <|im_end|>, </s>, [INST], <｜User｜>.
_SPECIAL = re.compile(r"<[|｜/][^<>]*>|\[/?[A-Z][A-Z0-9_]*\]")


def looks_special(word: str) -> bool:
    """True if `word` has the spelling of a special token, so that it is a single token if a token at all."""
    return _SPECIAL.fullmatch(word) is not None


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
