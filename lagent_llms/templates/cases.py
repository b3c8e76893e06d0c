"""Compile the conditions of a family file to functions of a turn or a prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from ..schema import Message
from .placeholders import Operation, PlaceholderText, Values
from .schema import NONE, Case

__all__ = ["CompiledCase", "PromptContext", "TurnContext", "compile_case"]


@dataclass(slots=True)
class TurnContext:
    """One turn and its position in the dialog.

    Attributes:
        values: Values of the placeholders.
        roles: Roles of all turns.
        position: Position among the turns.
        index: Index among the messages, for errors.
        message: The message.
        content: Text of the message; rendering removes the reasoning from it.
        generation: True if the prompt ends with a generation prompt.
        last_query: Position of the last question; the number of turns if there is none.
        after_calls: True if the turn before has tool calls.
        reasoning: Reasoning of an answer.
    """

    values: Values
    roles: Sequence[str]
    position: int
    index: int
    message: Message
    content: str
    generation: bool
    last_query: int
    after_calls: bool = False
    reasoning: str = ""

    @property
    def role(self) -> str:
        """Role of the turn."""
        return self.roles[self.position]

    @property
    def last(self) -> bool:
        """True for the last turn."""
        return self.position == len(self.roles) - 1

    @property
    def previous(self) -> str:
        """Role of the turn before, `NONE` for the first turn."""
        return self.roles[self.position - 1] if self.position else NONE

    @property
    def next(self) -> str:
        """Role of the turn after, `NONE` for the last turn."""
        return NONE if self.last else self.roles[self.position + 1]


class PromptContext(NamedTuple):
    """A dialog as a whole, for the text before and after its turns.

    Attributes:
        values: Values of the placeholders.
        generation: True if the prompt ends with a generation prompt.
        opens_with: Role of the first message.
        ends_with: Role of the last message.
        first_turn: Role of the first turn (messages of the system text and removed ones are not turns).
        last_turn: Role of the last turn.
    """

    values: Values
    generation: bool
    opens_with: str
    ends_with: str
    first_turn: str
    last_turn: str


Predicate: TypeAlias = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class CompiledCase:
    """A `Case` with its conditions compiled to one function.

    Attributes:
        holds: True if all conditions are true for a context.
        texts: Overridden texts by key.
        content: Overridden operation on the content, if `has_content`.
        has_content: True if `content` is overridden.
        drop: Render the turn to nothing.
        refuse: Reason for rejecting the dialog, '' to allow it.
        neighbours: The case needs one of these roles in the dialog; empty if it may apply without.
        edge: True if the case can apply only to the first turn, the last one, or after the last question.
    """

    holds: Predicate
    texts: Mapping[str, str | PlaceholderText]
    content: Operation | None
    has_content: bool
    drop: bool
    refuse: str
    neighbours: frozenset[str]
    edge: bool


def _role_in(name: str) -> Callable[[Any], Predicate]:
    return lambda roles: lambda context: getattr(context, name) in roles


def _option(pair: tuple[str, Any]) -> Predicate:
    name, wanted = pair
    return lambda context: bool(context.values[name] == wanted)


_PREDICATES: dict[str, Callable[[Any], Predicate]] = {
    "first": lambda wanted: lambda turn: (turn.position == 0) is wanted,
    "last": lambda wanted: lambda turn: turn.last is wanted,
    "empty": lambda wanted: lambda turn: (not turn.content) is wanted,
    "generation": lambda wanted: lambda context: context.generation is wanted,
    "reasoning": lambda wanted: lambda turn: bool(turn.reasoning) is wanted,
    "calls": lambda wanted: lambda turn: bool(turn.message.get("tool_calls")) is wanted,
    "after_calls": lambda wanted: lambda turn: turn.after_calls is wanted,
    "after_query": lambda wanted: lambda turn: (turn.position > turn.last_query) is wanted,
    "seen": lambda roles: lambda turn: not roles.isdisjoint(turn.roles[: turn.position]),
    "contains": lambda mark: lambda turn: mark in turn.content,
    "parity": lambda odd: lambda turn: (turn.position % 2 == 1) is odd,
    "option": _option,
    **{
        name: _role_in(name)
        for name in ("previous", "next", "opens_with", "ends_with", "first_turn", "last_turn")
    },
}


def compile_case(case: Case) -> CompiledCase:
    """Compile the conditions of `case` to one function."""
    conditions = case.when.conditions
    predicates = [_PREDICATES[name](wanted) for name, wanted in conditions]
    neighbours: frozenset[str] = frozenset()
    for name, wanted in conditions:
        if name in ("previous", "next", "seen") and NONE not in wanted:
            neighbours = wanted
        elif name == "calls" and wanted is True:
            neighbours = _NO_ROLE  # a message with calls is never written on the fast path
    return CompiledCase(
        holds=predicates[0] if len(predicates) == 1 else lambda context: all(p(context) for p in predicates),
        texts=case.texts,
        content=case.content,
        has_content=case.has_content,
        drop=case.drop,
        refuse=case.refuse,
        neighbours=neighbours,
        edge=any((name, wanted is True) in _EDGES for name, wanted in conditions),
    )


_NO_ROLE = frozenset({""})
_EDGES = frozenset({("first", True), ("last", True), ("after_query", True)})
