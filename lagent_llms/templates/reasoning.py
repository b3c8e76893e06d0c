"""Separate the reasoning of an answer from its text."""

from __future__ import annotations

from .cases import TurnContext
from .schema import Thinking

__all__ = ["take_reasoning", "without_reasoning"]


def take_reasoning(turn: TurnContext, marks: Thinking) -> None:
    """Move the reasoning from `turn.content` to `turn.reasoning`, as Qwen's templates do.

    If the message has a `reasoning_content`, that is the reasoning and the content stays unchanged.
    """
    given = turn.message.get("reasoning_content")
    if isinstance(given, str):
        turn.reasoning = given.strip("\n")
    elif marks.close in turn.content:
        head = turn.content.partition(marks.close)[0]
        turn.reasoning = head.rstrip("\n").rpartition(marks.open)[2].lstrip("\n")
        turn.content = without_reasoning(turn.content, marks)


def without_reasoning(content: str, marks: Thinking) -> str:
    """Remove the reasoning from an answer."""
    return content.rpartition(marks.close)[2].lstrip("\n") if marks.close in content else content
