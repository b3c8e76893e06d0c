"""A tokenizer in the form of transformers' as the engine wants one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ...errors import InvalidArgument
from ...templates.jinja import TOKENS, JinjaTemplate

__all__ = ["TextTokenizer"]

#: Most tokens that one character is made of; more that end in U+FFFD do mean it.
_LONGEST = 16


class TextTokenizer:
    """Text to token ids and back with `inner`.

    Args:
        inner: Has ``encode(text, add_special_tokens=…)``, ``decode(ids, skip_special_tokens=…)`` and
            ``eos_token_id``; ``bos_token``, ``bos_token_id`` and ``all_special_ids`` if there are any.

    Attributes:
        bos_token: Text of the beginning-of-sequence token, None when there is none.
        eos_ids: Tokens that end an answer.
        pad_id: What prompts are padded with.
        template: The model's own chat template, None when it has none.

    Raises:
        InvalidArgument: `inner` has no end token, or is no tokenizer.
    """

    def __init__(self, inner: Any) -> None:
        eos = getattr(inner, "eos_token_id", None)
        if not callable(getattr(inner, "encode", None)) or not callable(getattr(inner, "decode", None)):
            raise InvalidArgument(
                f"tokenizer={inner!r:.80}: allowed is a tokenizer with encode and decode",
                argument="tokenizer",
            )
        if eos is None:
            raise InvalidArgument("tokenizer: it has no end token (eos_token)", argument="tokenizer")
        self._inner = inner
        self.bos_token: str | None = getattr(inner, "bos_token", None)
        self._bos_id: int | None = getattr(inner, "bos_token_id", None)
        self.eos_ids = frozenset([eos] if isinstance(eos, int) else eos)
        pad = getattr(inner, "pad_token_id", None)
        self.pad_id: int = min(self.eos_ids) if pad is None else pad
        begins = list(inner.encode("a", add_special_tokens=True))[:1] == [self._bos_id]
        self.add_bos = self._bos_id is not None and begins
        source = getattr(inner, "chat_template", None)
        self.template = None if not source else self._template(source)

    def _template(self, source: Any) -> JinjaTemplate:
        tokens = {name: text for name in TOKENS if isinstance(text := getattr(self._inner, name, None), str)}
        return JinjaTemplate(source, where="the chat template", tokens=tokens, bos_added=self.add_bos)

    def encode(self, text: str, add_bos: bool = False) -> list[int]:
        """See `jax_engine.Tokenizer.encode`."""
        ids = [int(token) for token in self._inner.encode(text, add_special_tokens=False)]
        return [self._bos_id, *ids] if add_bos and self.add_bos and self._bos_id is not None else ids

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """The text of token ids."""
        return str(self._inner.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def stream(self, skip_special_tokens: bool = False) -> _Stream:
        """A new incremental decoder, whose pieces add up to what `decode` gives."""
        special = getattr(self._inner, "all_special_ids", ()) if skip_special_tokens else ()
        return _Stream(partial(self.decode, skip_special_tokens=skip_special_tokens), frozenset(special))


class _Stream:
    """Decodes each token together with those of the piece before, whose text is then cut off.

    What ends in half a character is held.
    """

    def __init__(self, decode: Callable[[list[int]], str], skipped: frozenset[int]) -> None:
        self._decode, self._skipped = decode, skipped
        self._before: list[int] = []
        self._new: list[int] = []

    def feed(self, ids: Iterable[int]) -> str:
        """The text that `ids` complete."""
        return "".join(self._feed(token) for token in ids if token not in self._skipped)

    def flush(self) -> str:
        """The rest, when no more ids come."""
        return self._release(self._text())

    def _feed(self, token: int) -> str:
        self._new.append(token)
        text = self._text()
        held = text.endswith("\N{REPLACEMENT CHARACTER}") and len(self._new) < _LONGEST
        return "" if held else self._release(text)

    def _text(self) -> str:
        return self._decode(self._before + self._new)[len(self._decode(self._before)) :]

    def _release(self, text: str) -> str:
        if self._new:
            self._before, self._new = self._new, []
        return text
