"""Conditions of a family file, compiled to functions of where a turn or a prompt stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from ..schema import Message
from .placeholders import Operation, Text, Values
from .schema import NONE, Case

__all__ = ["CompiledCase", "PromptContext", "TurnContext", "compile_case"]


@dataclass(slots=True)
class TurnContext:
    """One turn and where it stands.

    Attributes:
        values: Options and the clock.
        roles: The roles of all turns.
        position: Its place among them.
        index: Its place among the messages, for errors.
        message: The message itself.
        content: Its text; reasoning is taken out of it before it is written.
        generation: Whether a generation prompt is asked for.
        last_query: Position of the last question, the number of turns when there is none.
        reasoning: The reasoning of an answer.
    """

    values: Values
    roles: Sequence[str]
    position: int
    index: int
    message: Message
    content: str
    generation: bool
    last_query: int
    reasoning: str = ""

    @property
    def role(self) -> str:
        """Its role."""
        return self.roles[self.position]

    @property
    def last(self) -> bool:
        """Whether no turn follows."""
        return self.position == len(self.roles) - 1

    @property
    def previous(self) -> str:
        """Role of the turn before it."""
        return self.roles[self.position - 1] if self.position else NONE

    @property
    def next(self) -> str:
        """Role of the turn after it."""
        return NONE if self.last else self.roles[self.position + 1]


class PromptContext(NamedTuple):
    """A whole dialog, for the text around its turns.

    Attributes:
        values: Options and the clock.
        generation: Whether a generation prompt is asked for.
        opens_with: Role of the first message.
        ends_with: Role of the last message.
        first_turn: Role of the first turn (taken and removed messages are no turns).
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
    """A `Case` whose conditions are one function.

    Attributes:
        holds: The conditions.
        texts: Replaced texts by key.
        content: Replaced operation on the content, if `has_content`.
        has_content: Whether `content` is replaced.
        drop: The turn leaves nothing.
        refuse: The reason a dialog is refused with.
        neighbours: Roles of which one must be in the dialog, empty when the case may hold without.
        edge: Whether the case can only hold at the first turn, the last one, or after the last question.
    """

    holds: Predicate
    texts: Mapping[str, str | Text]
    content: Operation | None
    has_content: bool
    drop: bool
    refuse: str
    neighbours: frozenset[str]
    edge: bool


def _among(name: str) -> Callable[[Any], Predicate]:
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
    "after_query": lambda wanted: lambda turn: (turn.position > turn.last_query) is wanted,
    "seen": lambda roles: lambda turn: not roles.isdisjoint(turn.roles[: turn.position]),
    "contains": lambda mark: lambda turn: mark in turn.content,
    "parity": lambda odd: lambda turn: (turn.position % 2 == 1) is odd,
    "option": _option,
    **{
        name: _among(name)
        for name in ("previous", "next", "opens_with", "ends_with", "first_turn", "last_turn")
    },
}


def compile_case(case: Case) -> CompiledCase:
    """`case` with its conditions as one function."""
    conditions = case.when.conditions
    predicates = [_PREDICATES[name](wanted) for name, wanted in conditions]
    neighbours: frozenset[str] = frozenset()
    for name, wanted in conditions:
        if name in ("previous", "next", "seen") and NONE not in wanted:
            neighbours = wanted
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


_EDGES = frozenset({("first", True), ("last", True), ("after_query", True)})
