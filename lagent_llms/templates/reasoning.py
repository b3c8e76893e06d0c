"""Separate the reasoning of an answer from its text."""

from __future__ import annotations

from typing import Any

from ..schema import Message
from .cases import TurnContext
from .schema import Thinking

__all__ = ["reasoning_of", "take_reasoning", "without_reasoning"]

#: Keys of a message's reasoning, as transformers has them; most templates read the first, gpt-oss the second.
KEYS = ("reasoning_content", "thinking", "reasoning")


def reasoning_of(message: Message) -> Any:
    """The reasoning that a message has beside its content, None if it has none."""
    return next((message[key] for key in KEYS if message.get(key) is not None), None)


def take_reasoning(turn: TurnContext, marks: Thinking) -> None:
    """Move the reasoning from `turn.content` to `turn.reasoning`, as Qwen's templates do.

    If the message has a reasoning beside its content, that is the reasoning and the content stays unchanged.
    """
    given = reasoning_of(turn.message)
    if isinstance(given, str):
        turn.reasoning = given.strip("\n")
    elif marks.close in turn.content:
        head = turn.content.partition(marks.close)[0]
        turn.reasoning = head.rstrip("\n").rpartition(marks.open)[2].lstrip("\n")
        turn.content = without_reasoning(turn.content, marks)


def without_reasoning(content: str, marks: Thinking) -> str:
    """Remove the reasoning from an answer."""
    return content.rpartition(marks.close)[2].lstrip("\n") if marks.close in content else content
