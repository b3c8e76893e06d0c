"""Fast path: render runs of turns whose text does not depend on their position with one join."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import countOf
from typing import Any, NamedTuple, TypeAlias

from ..schema import Message
from .cases import CompiledCase
from .placeholders import Operation, PlaceholderText, TriggeredOperation, Values
from .reasoning import without_reasoning
from .schema import OTHERS, Begin, Role

__all__ = [
    "FastPath",
    "Kind",
    "begin_for_name",
    "begin_without_name",
    "compile_fast_path",
    "fill",
    "kinds_of",
]

#: What sets the text of a turn: its role, and its name where the format of the role writes it.
Kind: TypeAlias = "str | tuple[str, str]"


class FastPath(NamedTuple):
    """Texts and operations for turns of a set of kinds to which no case applies.

    Attributes:
        begins: Text before the content, by kind.
        ends: Text after the content, by kind.
        separators: Text between two contents, by the kinds before and after: an end and a begin.
        operations: Operation on the contents, by kind; {} if all have the same one or none.
        operation: Operation on the contents, if all kinds have the same one.
        triggers: Contents that hold none of these are not changed by any operation; () if unknown.
        dropped: Kinds whose turns render to nothing.
        has_edge_cases: True if a case may apply at the first turn, or after the last question.
    """

    begins: Mapping[Kind, str]
    ends: Mapping[Kind, str]
    separators: Mapping[tuple[Kind, Kind], str]
    operations: Mapping[Kind, Operation]
    operation: Operation | None
    triggers: tuple[str, ...]
    dropped: frozenset[Kind]
    has_edge_cases: bool

    def write(self, roles: Sequence[Kind], contents: Sequence[str]) -> str:
        """Render a run of turns.

        Raises:
            TypeError: A content is not a string (AttributeError if an operation fails on it).
        """
        if self.dropped:
            kept = [pair for pair in zip(roles, contents, strict=True) if pair[0] not in self.dropped]
            roles, contents = [role for role, _ in kept], [content for _, content in kept]
        if not roles:
            return ""
        if not self.triggers or _any_in("".join(contents), self.triggers):
            contents = self._apply_operations(roles, contents)
        return self._join(roles, contents)

    def _apply_operations(self, roles: Sequence[Kind], contents: Sequence[str]) -> Sequence[str]:
        if self.operation is not None:
            return [*map(self.operation, contents)]
        if self.operations:
            operations = self.operations
            return [operations[role](content) for role, content in zip(roles, contents, strict=True)]
        return contents

    def _join(self, roles: Sequence[Kind], contents: Sequence[str]) -> str:
        texts = [""] * (2 * len(roles) + 1)
        texts[0] = self.begins[roles[0]]
        texts[1::2] = contents
        texts[2:-1:2] = self._separators(roles)
        texts[-1] = self.ends[roles[-1]]
        return "".join(texts)

    def _separators(self, roles: Sequence[Kind]) -> list[str]:
        """Texts between the contents; two alternating roles, the usual dialog, need no loop."""
        separators = self.separators
        count = len(roles) - 1
        if count > 2:
            one, other = roles[1], roles[2]
            if roles[1::2].count(one) == (count + 1) // 2 and roles[2::2].count(other) == count // 2:
                pair = [separators[one, other], separators[other, one]]
                return [separators[roles[0], one], *(pair * (count // 2))][:count]
        return [*map(separators.__getitem__, pairwise(roles))]


def _any_in(text: str, triggers: Sequence[str]) -> bool:
    """True if `text` holds one of `triggers`; searching the first character first is far faster."""
    return any(trigger[0] in text and trigger in text for trigger in triggers)


class _Separators(dict[tuple[Kind, Kind], str]):
    """Texts between two contents, joined when first used."""

    def __init__(self, begins: Mapping[Kind, str], ends: Mapping[Kind, str]) -> None:
        self._begins, self._ends = begins, ends

    def __missing__(self, pair: tuple[Kind, Kind]) -> str:
        self[pair] = text = self._ends[pair[0]] + self._begins[pair[1]]
        return text


def kinds_of(
    messages: Sequence[Message], roles: Sequence[str], formats: Mapping[str, Role], others: Role
) -> tuple[Sequence[Kind], Sequence[int]]:
    """The kind of each message, and the positions of those that hold more than a role, a name and a content.

    Args:
        messages: The turns.
        roles: Their roles.
        formats: Format of each role.
        others: Format of all other roles.
    """
    if countOf(map(len, messages), 2) == len(messages):
        return roles, ()
    writes_name = {role: _writes_name(formats.get(role, others)) for role in {*roles}}
    kinds: list[Kind] = [*roles]
    special = []
    for position, message in enumerate(messages):
        if len(message) == 2:
            continue
        role, name = roles[position], message.get("name")
        if len(message) != 3 or type(name) is not str or (named := writes_name[role]) is None:
            special.append(position)
        elif named:
            kinds[position] = (role, name)
    return kinds, special


def _writes_name(role: Role) -> bool | None:
    """Whether the format of a role writes names; None if the text with a name depends on more than that."""
    if not isinstance(role.begin, Begin):
        return False
    return True if _is_fixed(role.begin.with_name or role.begin.without_name, "name") else None


def compile_fast_path(
    kinds: frozenset[Kind],
    formats: Mapping[str, Role],
    others: Role,
    cases: Mapping[str, Sequence[CompiledCase]],
    values: Values,
) -> FastPath | None:
    """Compile the fast path for a dialog of turns of `kinds`.

    Args:
        kinds: Kinds of the turns.
        formats: Format of each role.
        others: Format of all other roles.
        cases: Cases of each role; those of all others have the name `OTHERS`.
        values: Options of the family.

    Returns:
        None if the text of some turn depends on its position anywhere in the dialog, or is refused.
    """
    begins: dict[Kind, str] = {}
    ends: dict[Kind, str] = {}
    operations: dict[Kind, Operation | None] = {}
    dropped = set()
    has_edge_cases = False
    present = {_role_of(kind) for kind in kinds}
    for kind in kinds:
        name = _role_of(kind)
        role = formats.get(name, others)
        live = [
            case
            for case in cases.get(name, cases[OTHERS])
            if not case.neighbours or not case.neighbours.isdisjoint(present)
        ]
        own: dict[str, Any] = {**values, "role": name}
        begin = begin_without_name(role)
        if not isinstance(kind, str) and isinstance(role.begin, Begin):
            begin = fill(begin_for_name(role.begin, kind[1], own), own)
        fixed = _is_fixed(begin) and _is_fixed(role.end)
        if role.word == "refuse" or role.generate or not fixed or not all(case.edge for case in live):
            return None
        has_edge_cases = has_edge_cases or bool(live)
        begins[kind], ends[kind] = fill(begin, own), fill(role.end, own)
        operations[kind] = _operation(role)
        if role.word == "drop":
            dropped.add(kind)
    distinct = set(operations.values())
    changing = [operation for operation in distinct if operation is not None]
    return FastPath(
        begins,
        ends,
        _Separators(begins, ends),
        {} if len(distinct) == 1 else {kind: found or str.__str__ for kind, found in operations.items()},
        distinct.pop() if len(distinct) == 1 else None,
        tuple(operation.trigger for operation in changing if isinstance(operation, TriggeredOperation))
        if all(isinstance(operation, TriggeredOperation) for operation in changing)
        else (),
        frozenset(dropped),
        has_edge_cases,
    )


def _role_of(kind: Kind) -> str:
    return kind if isinstance(kind, str) else kind[0]


def _is_fixed(text: str | PlaceholderText, *more: str) -> bool:
    """True if `text` has no placeholder but the role and `more`."""
    return isinstance(text, str) or not set(text.pieces[1::2]) - {"role", "Role", *more}


def _operation(role: Role) -> Operation | None:
    """Operation on the content of a role: remove the reasoning, then apply the role's own operation."""
    if role.think is None:
        return role.content
    marks, operation = role.think, role.content
    if operation is None:
        return TriggeredOperation(marks.close, lambda content: without_reasoning(content, marks))
    return lambda content: operation(without_reasoning(content, marks))


def begin_without_name(role: Role) -> str | PlaceholderText:
    """Text before the content of a message without a name."""
    return role.begin.without_name if isinstance(role.begin, Begin) else role.begin


def fill(text: str | PlaceholderText, values: Values) -> str:
    """Replace the placeholders of `text`, if it has any."""
    return text if isinstance(text, str) else text.fill(values)


def begin_for_name(begin: Begin, name: object, values: dict[str, Any]) -> str | PlaceholderText:
    """Text before the content of a message with or without a name; the name is added to `values`."""
    if name is None:
        return begin.without_name
    values["name"] = begin.names.get(str(name), str(name))
    return begin.with_name or begin.without_name
