"""Incremental detokenization: only complete characters, and the pieces concatenate to the full decoding.

Two methods, each in constant time per token:

* Byte-level BPE: a token is a sequence of bytes; an incremental UTF-8 decoder joins them.
* All others (SentencePiece): the text of a token may depend on the token before (the prefix space at the
  beginning), so both are decoded together and the text of the token before is removed. A run of byte tokens
  (``<0xE4>``) decodes only as a whole, so it is kept until it ends.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .special_tokens import byte_alphabet

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

__all__ = ["Detokenizer"]

_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def _kinds(decoder: Mapping[str, Any]) -> list[str]:
    """Types of a decoder of tokenizer.json; of a sequence, the types of its members."""
    inner = [kind for part in decoder.get("decoders", []) for kind in _kinds(part)]
    return inner or [str(decoder.get("type", ""))]


class Detokenizer:
    """Incremental decoder of one answer.

    Args:
        fast: The tokenizer.
        decoder: The ``decoder`` entry of its tokenizer.json.
        skipped: Token ids to leave out.
    """

    def __init__(
        self, fast: FastTokenizer, decoder: Mapping[str, Any], skipped: frozenset[int] = frozenset()
    ) -> None:
        self._fast = fast
        self._skipped = skipped
        kinds = _kinds(decoder)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace") if kinds == ["ByteLevel"] else None
        self._byte_runs = "ByteFallback" in kinds
        self._context: list[int] = []
        self._pending: list[int] = []

    def feed(self, ids: Iterable[int]) -> str:
        """Decode further ids; returns the text they complete, '' inside a character."""
        tokens = [(index, self._fast.id_to_token(index)) for index in ids if index not in self._skipped]
        known = [(index, token) for index, token in tokens if token is not None]
        if self._utf8 is not None:
            return self._utf8.decode(b"".join(_token_bytes(token) for _, token in known))
        return "".join(self._feed_text(index, token) for index, token in known)

    def flush(self) -> str:
        """Decode pending ids at the end of the answer; an incomplete character becomes U+FFFD."""
        if self._utf8 is not None:
            return self._utf8.decode(b"", final=True)
        return self._release(self._pending[-1:])

    def _feed_text(self, index: int, token: str) -> str:
        if self._byte_runs and _BYTE_TOKEN.fullmatch(token):
            self._pending.append(index)
            return ""
        text = self._release(self._pending[-1:]) if self._pending else ""
        self._pending.append(index)
        return text + self._release([index])

    def _release(self, context: list[int]) -> str:
        """Decode the pending ids; `context` are the ids to decode the next ones with."""
        if not self._pending:
            return ""
        before = self._fast.decode(self._context, skip_special_tokens=False)
        text = self._fast.decode(self._context + self._pending, skip_special_tokens=False)
        self._context, self._pending = context, []
        return text[len(before) :]


def _token_bytes(token: str) -> bytes:
    """Bytes of a byte-level token; an added token with other characters is encoded as UTF-8."""
    alphabet = byte_alphabet()
    try:
        return bytes([alphabet[character] for character in token])
    except KeyError:
        return token.encode()
