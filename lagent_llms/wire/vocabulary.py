"""The text of a token from its entry in the vocabulary, for servers that tell the entry. Pure."""

from __future__ import annotations

from functools import cache

__all__ = ["vocabulary_text"]


def vocabulary_text(entry: str) -> str:
    """The text `entry` stands for.

    Entries of byte-level vocabularies ("Ġcapital") and of SentencePiece ("▁capital") are told by their
    characters; an entry that is neither, or no whole characters, is returned as it is.
    """
    if "▁" in entry:
        return entry.replace("▁", " ")
    byte_of = _byte_of()
    try:
        return bytes(byte_of[character] for character in entry).decode()
    except (KeyError, UnicodeDecodeError):
        return entry


@cache
def _byte_of() -> dict[str, int]:
    """The alphabet of byte-level vocabularies: printable bytes are themselves, the others follow at 256."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
