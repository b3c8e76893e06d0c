"""A tokenizer of transformers with the interface of an engine's tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from ...core.token_events import TokenText
from ...protocols.detokenizer import Detokenizer
from ...protocols.marked_text import MarkedTextEncoder

__all__ = ["EngineTokenizer"]

#: Most tokens of one character; a longer run that ends in U+FFFD contains that character.
_MAX_CHARACTER_TOKENS = 16


class EngineTokenizer:
    """Encodes prompts and decodes answers; see `token_events.Tokenizer`.

    Args:
        tokenizer: A tokenizer of transformers, fast or slow.

    Attributes:
        tokenizer: The tokenizer.
        bos_token: Text of its beginning-of-sequence token, None if there is none.
        marked: Encodes prompts with escaped special tokens.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.bos_token: str | None = tokenizer.bos_token
        self.marked = MarkedTextEncoder(tokenizer)
        self._fast = getattr(tokenizer, "backend_tokenizer", None)
        if not callable(getattr(self._fast, "to_str", None)):  # slow tokenizers of transformers 5 have others
            self._fast = None
        self._decoder: dict[str, Any] = {}
        self._special: frozenset[int] = frozenset()
        if self._fast is not None:
            self._decoder = json.loads(self._fast.to_str()).get("decoder") or {}
            added = self._fast.get_added_tokens_decoder().items()
            self._special = frozenset(index for index, token in added if token.special)

    def encode(self, text: str, add_bos: bool = False) -> list[int]:
        """Convert text to token ids; it may hold `templates.injection.MARK`.

        Args:
            text: Text; special tokens in it become their ids, unless they are escaped.
            add_bos: Let the tokenizer add the special tokens that it puts around a text.
        """
        return self.marked.encode(
            text, lambda text: self.tokenizer.encode(text, add_special_tokens=add_bos, verbose=False)
        )

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        """Convert token ids to text."""
        if self._fast is not None:
            return str(self._fast.decode(ids, skip_special_tokens=skip_special_tokens))
        return str(self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))

    def stream(self, skip_special_tokens: bool = False) -> TokenText:
        """Make an incremental decoder of one answer."""
        if self._fast is None:
            return _SlowDetokenizer(lambda ids: self.decode(ids, skip_special_tokens))
        return Detokenizer(self._fast, self._decoder, self._special if skip_special_tokens else frozenset())


class _SlowDetokenizer:
    """Incremental decoder over `decode` alone.

    The ids of an incomplete character are held. The id before the new ones is decoded with them and its text
    removed: without it a SentencePiece decoder strips a leading space.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._before: list[int] = []
        self._held: list[int] = []

    def feed(self, ids: Iterable[int]) -> str:
        """Decode further ids; returns the text they complete, '' inside a character."""
        return "".join(map(self._feed, ids))

    def _feed(self, index: int) -> str:
        self._held.append(index)
        text = self._decode_held()
        incomplete = not text or text.endswith("\ufffd")  # some tokenizers leave out half a character
        if incomplete and len(self._held) <= _MAX_CHARACTER_TOKENS:
            return ""
        return self._release(text)

    def flush(self) -> str:
        """Decode the held ids; an incomplete character becomes U+FFFD."""
        return self._release(self._decode_held())

    def _decode_held(self) -> str:
        if not self._held:
            return ""
        before = self._decode(self._before) if self._before else ""
        return self._decode(self._before + self._held)[len(before) :]

    def _release(self, text: str) -> str:
        if self._held:
            self._before, self._held = self._held[-1:], []
        return text
