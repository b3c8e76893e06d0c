"""The reasoning inside an answer: where it is taken from, and the text without it."""

from __future__ import annotations

from .cases import TurnContext
from .schema import Thinking

__all__ = ["take_reasoning", "without_reasoning"]


def take_reasoning(turn: TurnContext, marks: Thinking) -> None:
    """Move the reasoning of an answer out of its content, as Qwen's templates do.

    A `reasoning_content` of the message comes first; its content is then left as it is.
    """
    given = turn.message.get("reasoning_content")
    if isinstance(given, str):
        turn.reasoning = given.strip("\n")
    elif marks.close in turn.content:
        head = turn.content.partition(marks.close)[0]
        turn.reasoning = head.rstrip("\n").rpartition(marks.open)[2].lstrip("\n")
        turn.content = without_reasoning(turn.content, marks)


def without_reasoning(content: str, marks: Thinking) -> str:
    """The text of an answer after its reasoning."""
    return content.rpartition(marks.close)[2].lstrip("\n") if marks.close in content else content
