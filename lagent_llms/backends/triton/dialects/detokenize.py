"""Streamed token ids to text, by a local tokenizer or the model `postprocessing`. Pure."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from ..conversation import Command, Infer, InferRequest
from ..dialect import Model
from ..inputs import RequestInputs

__all__ = ["POSTPROCESSING", "StreamDetokenizer"]

POSTPROCESSING = "postprocessing"
#: Most tokens of one character; a longer run that ends in U+FFFD contains that character.
_MAX_CHARACTER_TOKENS = 16


class StreamDetokenizer:
    """Detokenizes one answer.

    Only new tokens are decoded, with those of an incomplete character before them. The token before these is
    decoded too and its text removed: without it, a SentencePiece decoder would strip a leading space.

    Args:
        model: The model that generated the tokens.
        skip_special_tokens: Whether special tokens are omitted from the text.

    Attributes:
        text: The text so far.
    """

    def __init__(self, model: Model, *, skip_special_tokens: bool) -> None:
        self._model, self._skip = model, skip_special_tokens
        self._before: list[int] = []
        self._held: list[int] = []
        self._parts: list[str] = []

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._parts)

    def feed(self, ids: Sequence[int]) -> Generator[Command, Any, str]:
        """Return the text that `ids` complete, '' if they end within a character."""
        if not ids:
            return ""
        self._held += ids
        text = yield from self._decode(self._held)
        if text.endswith("\ufffd") and len(self._held) <= _MAX_CHARACTER_TOKENS:
            return ""
        return self._release(text)

    def finish(self) -> Generator[Command, Any, str]:
        """Return the text of the ids that were held back."""
        if not self._held:
            return ""
        return self._release((yield from self._decode(self._held)))

    def _release(self, text: str) -> str:
        self._before, self._held = self._held[-1:], []
        self._parts.append(text)
        return text

    def _decode(self, ids: list[int]) -> Generator[Command, Any, str]:
        tokenizer = self._model.tokenizer
        if tokenizer is not None:
            before = tokenizer.decode(self._before, self._skip) if self._before else ""
            return tokenizer.decode(self._before + ids, self._skip)[len(before) :]
        inputs = RequestInputs(self._model.companions[POSTPROCESSING])
        inputs.put("TOKENS_BATCH", *self._before, *ids)
        inputs.put("sequence_length", len(self._before))
        inputs.put("skip_special_tokens", self._skip)
        response = yield Infer(InferRequest(POSTPROCESSING, inputs.tensors))
        return str(response.text("OUTPUT"))
