"""Adapt a tokenizer with transformers' interface to the engine's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ...errors import InvalidArgument
from ...protocols.marked_text import MarkedTextEncoder
from ...templates.jinja import TOKENS, JinjaTemplate

__all__ = ["TextTokenizer"]

#: Most tokens that one character takes; a longer run that still decodes to U+FFFD is taken as that character.
_MAX_TOKENS_PER_CHARACTER = 16


class TextTokenizer:
    """Converts text to token ids and back with `inner`.

    Args:
        inner: Has ``encode(text, add_special_tokens=…)``, ``decode(ids, skip_special_tokens=…)`` and
            ``eos_token_id``; ``bos_token``, ``bos_token_id`` and ``all_special_ids`` are optional.

    Attributes:
        bos_token: Text of the beginning-of-sequence token; None if there is none.
        add_bos: True if ``encode(add_bos=True)`` puts that token first.
        eos_ids: Ids of the tokens that end an answer.
        pad_id: Id of the padding token.
        marked: See `jax_engine.Tokenizer`.
        template: The model's chat template; None if it has none.

    Raises:
        InvalidArgument: `inner` is not a tokenizer, or has no end token.
    """

    def __init__(self, inner: Any) -> None:
        eos = getattr(inner, "eos_token_id", None)
        if not callable(getattr(inner, "encode", None)) or not callable(getattr(inner, "decode", None)):
            raise InvalidArgument(
                f"tokenizer={inner!r:.80}: allowed is a tokenizer with encode and decode",
                argument="tokenizer",
            )
        if eos is None:
            raise InvalidArgument("tokenizer: it has no end token (eos_token_id)", argument="tokenizer")
        self._inner = inner
        self.marked = MarkedTextEncoder(inner)
        self.bos_token: str | None = getattr(inner, "bos_token", None)
        self._bos_id: int | None = getattr(inner, "bos_token_id", None)
        self.eos_ids = frozenset([eos] if isinstance(eos, int) else eos)
        pad = getattr(inner, "pad_token_id", None)
        self.pad_id: int = min(self.eos_ids) if pad is None else pad
        starts_with_bos = list(inner.encode("a", add_special_tokens=True))[:1] == [self._bos_id]
        self.add_bos = self._bos_id is not None and starts_with_bos
        source = getattr(inner, "chat_template", None)
        self.template = None if not source else self._template(source)

    def _template(self, source: Any) -> JinjaTemplate:
        tokens = {name: text for name in TOKENS if isinstance(text := getattr(self._inner, name, None), str)}
        return JinjaTemplate(source, where="the chat template", tokens=tokens, bos_added=self.add_bos)

    def encode(self, text: str, add_bos: bool = False) -> list[int]:
        """See `jax_engine.Tokenizer.encode`."""
        ids = self.marked.encode(text, self._encode)
        return [self._bos_id, *ids] if add_bos and self.add_bos and self._bos_id is not None else ids

    def _encode(self, text: str) -> list[int]:
        return [int(token) for token in self._inner.encode(text, add_special_tokens=False)]

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """Convert token ids to text."""
        return str(self._inner.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def stream(self, skip_special_tokens: bool = False) -> _IncrementalDecoder:
        """Make an incremental decoder; its pieces add up to the result of `decode`."""
        special = getattr(self._inner, "all_special_ids", ()) if skip_special_tokens else ()
        return _IncrementalDecoder(
            partial(self.decode, skip_special_tokens=skip_special_tokens), frozenset(special)
        )


class _IncrementalDecoder:
    """Decodes each token together with those of the previous piece, then cuts off that piece's text.

    Text that ends in an incomplete character is held back.
    """

    def __init__(self, decode: Callable[[list[int]], str], skipped_ids: frozenset[int]) -> None:
        self._decode, self._skipped_ids = decode, skipped_ids
        self._previous: list[int] = []
        self._new: list[int] = []

    def feed(self, ids: Iterable[int]) -> str:
        """Add tokens; return the text they complete."""
        return "".join(self._feed(token) for token in ids if token not in self._skipped_ids)

    def flush(self) -> str:
        """Return the text held back; call it after the last token."""
        return self._release(self._new_text())

    def _feed(self, token: int) -> str:
        self._new.append(token)
        text = self._new_text()
        held = text.endswith("\N{REPLACEMENT CHARACTER}") and len(self._new) < _MAX_TOKENS_PER_CHARACTER
        return "" if held else self._release(text)

    def _new_text(self) -> str:
        return self._decode(self._previous + self._new)[len(self._decode(self._previous)) :]

    def _release(self, text: str) -> str:
        if self._new:
            self._previous, self._new = self._new, []
        return text
