"""`Request`: what a backend gets of one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..params import CallOptions, GenerationParams
from ..schema import Message
from ..templates.history import Held

__all__ = ["Input", "Request"]

#: One input of a call: a prompt, or the messages of a dialog.
Input = str | Sequence[Message]


@dataclass(slots=True)
class Request:
    """One generation, ready to be sent: what a backend needs to know.

    Attributes:
        prompt: The whole prompt, history and template included; None when the server applies its template.
        messages: The whole dialog, None where part of it was a bare prompt.
        params: How to decode.
        options: The call around it.
        stop_words: Where to cut the answer: the caller's, or the template's own.
        add_bos: Whether the tokenizer may put its BOS before the prompt (if it does so by default and the
            prompt does not begin with one).
        held: What a server that stores sessions has of this one. Its backend replaces it while the answer
            arrives; the session keeps the last value if the call succeeds.
        server: The index of the server that a batch has chosen, None for any.
        needs_limit: Whether max_new_tokens is sent even if it was not given.
    """

    prompt: str | None
    messages: list[Message] | None
    params: GenerationParams
    options: CallOptions
    stop_words: tuple[str, ...]
    add_bos: bool
    held: Held | None = None
    server: int | None = None
    needs_limit: bool = False

    def sends(self, name: str) -> bool:
        """Whether a server gets the value of a parameter of `GenerationParams`, or its own default applies.

        With a prompt it always gets skip_special_tokens: tool calls are found by special tokens.
        """
        return (
            self.options.sampling == "client"
            or name in self.params.given
            or (name == "skip_special_tokens" and self.prompt is not None)
            or (name == "max_new_tokens" and self.needs_limit)
        )
