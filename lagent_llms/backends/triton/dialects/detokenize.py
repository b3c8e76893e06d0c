"""Token ids to text as they come, by asking the model `postprocessing`: never half a character. Pure."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from ..conversation import Ask, Command, InferRequest
from ..dialect import Model
from ..inputs import Inputs

__all__ = ["POSTPROCESSING", "Detokenizing"]

POSTPROCESSING = "postprocessing"
#: Most tokens one character is made of; more that end in U+FFFD do mean it.
_LONGEST = 16


class Detokenizing:
    """The text of one answer.

    Only the new tokens are decoded, and those of a character that is not whole yet. The token before them is
    sent along and left out of the text: after it a SentencePiece decoder keeps the space no text begins with.

    Args:
        model: Whose tokens they are.
        skip_special_tokens: Whether special tokens leave no text.

    Attributes:
        text: All text so far.
    """

    def __init__(self, model: Model, *, skip_special_tokens: bool) -> None:
        self._model, self._skip = model, skip_special_tokens
        self._before: list[int] = []
        self._held: list[int] = []
        self._parts: list[str] = []

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._parts)

    def feed(self, ids: Sequence[int]) -> Generator[Command, Any, str]:
        """The text that `ids` complete, '' when it is only the beginning of a character."""
        if not ids:
            return ""
        self._held += ids
        text = yield from self._decode(self._held)
        if text.endswith("\ufffd") and len(self._held) <= _LONGEST:
            return ""
        return self._release(text)

    def finish(self) -> Generator[Command, Any, str]:
        """The rest, when no more ids come: what was held back as it is."""
        if not self._held:
            return ""
        return self._release((yield from self._decode(self._held)))

    def _release(self, text: str) -> str:
        self._before, self._held = self._held[-1:], []
        self._parts.append(text)
        return text

    def _decode(self, ids: list[int]) -> Generator[Command, Any, str]:
        tokens = self._model.tokens
        if tokens is not None:
            before = tokens.decode(self._before, self._skip) if self._before else ""
            return tokens.decode(self._before + ids, self._skip)[len(before) :]
        inputs = Inputs(self._model.companions[POSTPROCESSING])
        inputs.put("TOKENS_BATCH", *self._before, *ids)
        inputs.put("sequence_length", len(self._before))
        inputs.put("skip_special_tokens", self._skip)
        response = yield Ask(InferRequest(POSTPROCESSING, inputs.tensors))
        return str(response.text("OUTPUT"))
