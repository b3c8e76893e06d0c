"""An answer as a list of parts (reasoning, text, tool calls), whole or as it comes. Pure.

APIs that describe an answer as a list of typed items or blocks are written from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ..schema import Completion, StreamChunk, ToolCallDelta

__all__ = ["Change", "Part", "PartStream", "parts_of"]


@dataclass(slots=True)
class Part:
    """A part of an answer.

    Attributes:
        kind: What it is.
        index: Its place among the parts of the answer.
        pieces: Its text, in pieces; for a tool call its arguments, a JSON object.
        name: The tool of a tool call.
        id: The id of a tool call.
    """

    kind: Literal["reasoning", "text", "call"]
    index: int
    pieces: list[str] = field(default_factory=list)
    name: str = ""
    id: str = ""

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.pieces)


class Change(NamedTuple):
    """What a step of a stream does to a part: it opens it, adds `text` to it, or closes it."""

    action: Literal["open", "add", "close"]
    part: Part
    text: str = ""


def parts_of(completion: Completion, answer_id: str) -> list[Part]:
    """The parts of a whole answer; a call without an id gets one that is made of `answer_id`."""
    parts: list[Part] = []
    if completion.reasoning:
        parts.append(Part("reasoning", len(parts), [completion.reasoning]))
    if completion.content:
        parts.append(Part("text", len(parts), [completion.content]))
    for number, call in enumerate(completion.tool_calls):
        arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
        identifier = call.id or _made_id(answer_id, number)
        parts.append(Part("call", len(parts), [arguments], call.name, identifier))
    return parts


class PartStream:
    """The parts of an answer as it comes. At most one part is open; what belongs to a later one waits.

    Args:
        answer_id: See `parts_of`.

    Attributes:
        parts: The parts so far.
    """

    def __init__(self, answer_id: str) -> None:
        self.parts: list[Part] = []
        self._answer_id = answer_id
        self._calls: dict[int, Part] = {}
        self._open: Part | None = None
        self._opened = 0  # so many parts are or were open

    def feed(self, chunk: StreamChunk) -> Iterator[Change]:
        """Take the next step of the stream."""
        for part, text in self._received(chunk):
            part.pieces.append(text)
            if part is not self._open:
                yield from self._advance()
            elif text:
                yield Change("add", part, text)

    def end(self) -> Iterator[Change]:
        """Close what is open, and open and close what has waited."""
        yield from self._advance(at_end=True)

    def _received(self, chunk: StreamChunk) -> Iterator[tuple[Part, str]]:
        if chunk.reasoning:
            yield self._text_part("reasoning"), chunk.reasoning
        if chunk.content:
            yield self._text_part("text"), chunk.content
        for delta in chunk.tool_calls:
            yield self._call(delta), delta.arguments

    def _text_part(self, kind: Literal["reasoning", "text"]) -> Part:
        if not self.parts or self.parts[-1].kind != kind:
            self.parts.append(Part(kind, len(self.parts)))
        return self.parts[-1]

    def _call(self, delta: ToolCallDelta) -> Part:
        part = self._calls.get(delta.index)
        if part is None:
            part = Part("call", len(self.parts), id=_made_id(self._answer_id, delta.index))
            self._calls[delta.index] = part
            self.parts.append(part)
        part.name = part.name or delta.name
        if delta.id and (part.index >= self._opened):  # an id that was sent stays
            part.id = delta.id
        return part

    def _advance(self, *, at_end: bool = False) -> Iterator[Change]:
        """Open the next part, unless more of an open call may come or the name of the next one is unknown."""
        while self._opened < len(self.parts):
            part = self.parts[self._opened]
            if not at_end and (_is_call(self._open) or (_is_call(part) and not part.name)):
                return
            if self._open is not None:
                yield Change("close", self._open)
            self._open = part
            self._opened += 1
            yield Change("open", part)
            if text := part.text:
                yield Change("add", part, text)
        if at_end and self._open is not None:
            yield Change("close", self._open)
            self._open = None


def _is_call(part: Part | None) -> bool:
    return part is not None and part.kind == "call"


def _made_id(answer_id: str, number: int) -> str:
    """The id of a call that has none: clients find a call's result by it, so it differs between answers."""
    return f"call_{answer_id[-12:]}_{number}"
