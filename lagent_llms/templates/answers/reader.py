"""Read an answer as it arrives: its reasoning, its text, and the calls of tools in it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ...schema import Message, ToolCall, ToolCallDelta
from .calls import CallReader
from .formats import AnswerMarks, ReasoningFormat, call_format
from .reasoning import ReasoningSplitter

__all__ = ["AnswerReader", "Read", "answer_reader"]


class Read(NamedTuple):
    """What is new of an answer.

    Attributes:
        reasoning: Reasoning.
        text: Text, calls included.
        content: Text without calls.
        deltas: Parts of calls.
    """

    reasoning: str
    text: str
    content: str
    deltas: tuple[ToolCallDelta, ...]


class AnswerReader:
    """Split an answer into reasoning, text and calls.

    Args:
        calls: Reads calls, None to look for none.
        reasoning: Splits off reasoning, None to split off none.
    """

    __slots__ = ("_calls", "_content", "_find_first", "_idle", "_raw", "_reasoning")

    def __init__(self, calls: CallReader | None, reasoning: ReasoningSplitter | None) -> None:
        self._calls = calls
        self._reasoning = reasoning
        self._content: list[str] = []
        self._raw: list[str] = []
        firsts = {mark[0] for reader in (calls, reasoning) if reader is not None for mark in reader.marks}
        self._find_first = re.compile("|".join(map(re.escape, sorted(firsts))) or r"(?!)").search
        self._idle = False

    def take_plain(self, text: str) -> bool:
        """Take the next piece if it is content and nothing else, as most pieces are; False if not taken."""
        if not self._idle or not text or text[-1].isspace() or self._find_first(text) is not None:
            return False
        self._raw.append(text)
        self._content.append(text)
        return True

    def feed(self, text: str, *, final: bool = False) -> Read:
        """Take the next piece; `final` if no text follows."""
        self._raw.append(text)
        reasoning = ""
        deltas: tuple[ToolCallDelta, ...] = ()
        if self._reasoning is not None:
            reasoning, text = self._reasoning.feed(text, final=final)
        content = text
        if self._calls is not None and (text or final):
            content, deltas = self._calls.feed(text, final=final)
        self._content.append(content)
        self._idle = all(part is None or part.idle for part in (self._calls, self._reasoning))
        return Read(reasoning, text, content, deltas)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The whole calls so far."""
        return () if self._calls is None else self._calls.calls

    @property
    def content(self) -> str:
        """The text so far without calls."""
        return "".join(self._content)

    @property
    def raw(self) -> str:
        """Everything so far."""
        return "".join(self._raw)


def answer_reader(
    marks_of: Callable[[], AnswerMarks] | None,
    prompt: str | None,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None,
    tool_parser: str | None,
    reasoning: str | tuple[str, str] | None,
) -> AnswerReader | None:
    """The reader of an answer to messages, None if nothing is to be read in it.

    Args:
        marks_of: What the models of the template write; None if the server applies its own template.
        prompt: The prompt, None if the server makes it.
        messages: The dialog.
        tools: Descriptions of the tools.
        tool_parser: As in `CallOptions`.
        reasoning: As in `CallOptions`.

    Raises:
        InvalidArgument: There is no such parser.
    """
    marks = AnswerMarks()
    if marks_of is not None and "auto" in (tool_parser, reasoning):
        marks = marks_of()
    calls = marks.calls if tool_parser == "auto" else call_format(tool_parser) if tool_parser else None
    tags = marks.reasoning if reasoning == "auto" else None
    if isinstance(reasoning, tuple):
        tags = ReasoningFormat(*reasoning)
    if calls is None and tags is None:
        return None
    return AnswerReader(
        None if calls is None else CallReader(calls, tools),
        None if tags is None else ReasoningSplitter(tags, inside=_begins_inside(tags, prompt, messages)),
    )


def _begins_inside(tags: ReasoningFormat, prompt: str | None, messages: Sequence[Message]) -> bool:
    """Whether the answer begins in the middle of reasoning: the prompt opens it, or a message to continue."""
    end = "" if prompt is None else prompt.rstrip()
    if end.endswith(tags.open.rstrip()):
        return True
    last = messages[-1].get("content") if messages and messages[-1].get("role") == "assistant" else None
    if not isinstance(last, str) or not last.rstrip() or not end.endswith(last.rstrip()):
        return False
    return last.rfind(tags.open.rstrip()) > last.rfind(tags.close)
