"""Tokens by their looks: the text of an entry, and what can only be a special token. Pure."""

from __future__ import annotations

import re
from functools import cache

__all__ = ["byte_alphabet", "looks_special", "vocabulary_text"]

#: What special tokens look like: <|im_end|>, </s>, [INST], <｜User｜>.
_SPECIAL = re.compile(r"<[|｜/][^<>]*>|\[/?[A-Z][A-Z0-9_]*\]")


def looks_special(word: str) -> bool:
    """Whether `word` can only be a special token, so that a server may take it for a token's id."""
    return _SPECIAL.fullmatch(word) is not None


def vocabulary_text(entry: str) -> str:
    """The text `entry` stands for.

    Entries of byte-level vocabularies ("Ġcapital") and of SentencePiece ("▁capital") are told by their
    characters; an entry that is neither, or no whole characters, is returned as it is.
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
    """The byte that each character of a byte-level vocabulary stands for (GPT-2's table).

    Printable bytes are themselves, the others follow at 256.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
