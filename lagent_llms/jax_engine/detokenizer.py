"""Token ids in, text out as they come: never half a character, and the pieces add up to the whole decoding.

Two kinds of tokenizers are decoded in two ways, each in constant time a token:

* Byte-level BPE: a token is bytes, and an incremental UTF-8 decoder joins them.
* All others (sentencepiece style): a token is text that may depend on what stands before it (the prefix space
  at the very beginning), so it is decoded together with the token before, whose own text is then cut off. A
  run of byte tokens (``<0xE4>``) is one unit that becomes text only as a whole, as its decoder has it, and is
  held until it ends.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import Tokenizer as FastTokenizer

from ..protocols.special_tokens import byte_alphabet

__all__ = ["Detokenizer"]

_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def _kinds(decoder: Mapping[str, Any]) -> list[str]:
    """Types of a decoder of tokenizer.json and of those it is a sequence of."""
    inner = [kind for part in decoder.get("decoders", []) for kind in _kinds(part)]
    return inner or [str(decoder.get("type", ""))]


class Detokenizer:
    """Decoder of one answer.

    Args:
        fast: The tokenizer.
        decoder: The ``decoder`` entry of its tokenizer.json.
        skipped: Ids that leave no text.
    """

    def __init__(
        self, fast: FastTokenizer, decoder: Mapping[str, Any], skipped: frozenset[int] = frozenset()
    ) -> None:
        self._fast = fast
        self._skipped = skipped
        kinds = _kinds(decoder)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace") if kinds == ["ByteLevel"] else None
        self._byte_runs = "ByteFallback" in kinds
        self._before: list[int] = []
        self._held: list[int] = []

    def feed(self, ids: Iterable[int]) -> str:
        """The text that `ids` complete, '' when it is only the beginning of a character."""
        tokens = [(index, self._fast.id_to_token(index)) for index in ids if index not in self._skipped]
        known = [(index, token) for index, token in tokens if token is not None]
        if self._utf8 is not None:
            return self._utf8.decode(b"".join(_token_bytes(token) for _, token in known))
        return "".join(self._feed_text(index, token) for index, token in known)

    def flush(self) -> str:
        """The rest, when no more ids come: what was held back as it is."""
        return (
            self._utf8.decode(b"", final=True) if self._utf8 is not None else self._release(self._held[-1:])
        )

    def _feed_text(self, index: int, token: str) -> str:
        if self._byte_runs and _BYTE_TOKEN.fullmatch(token):
            self._held.append(index)
            return ""
        text = self._release(self._held[-1:]) if self._held else ""
        self._held.append(index)
        return text + self._release([index])

    def _release(self, context: list[int]) -> str:
        """The text of the held ids; `context` is what the ids after them are decoded with."""
        if not self._held:
            return ""
        before = self._fast.decode(self._before, skip_special_tokens=False)
        text = self._fast.decode(self._before + self._held, skip_special_tokens=False)
        self._before, self._held = context, []
        return text[len(before) :]


def _token_bytes(token: str) -> bytes:
    """Bytes of a byte-level token; a token with other characters (an added one) is its own UTF-8."""
    alphabet = byte_alphabet()
    try:
        return bytes([alphabet[character] for character in token])
    except KeyError:
        return token.encode()
