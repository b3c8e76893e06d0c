"""Fast path: render runs of turns whose text does not depend on their position with one join."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from .cases import CompiledCase
from .placeholders import Operation, PlaceholderText, TriggeredOperation, Values
from .reasoning import without_reasoning
from .schema import Begin, Role

__all__ = ["FastPath", "begin_without_name", "compile_fast_path", "fill"]


class FastPath(NamedTuple):
    """Texts and operations for turns of a set of roles to which no case applies.

    Attributes:
        begins: Text before the content, by role.
        ends: Text after the content, by role.
        separators: Text between two contents, by the roles before and after: an end and a begin.
        operations: Operation on the contents, by role; {} if all roles have the same one or none.
        operation: Operation on the contents, if all roles have the same one.
        triggers: Contents that hold none of these are not changed by any operation; () if unknown.
        dropped: Roles whose turns render to nothing.
        has_edge_cases: True if a case may apply at the first turn, or after the last question.
    """

    begins: Mapping[str, str]
    ends: Mapping[str, str]
    separators: Mapping[tuple[str, str], str]
    operations: Mapping[str, Operation]
    operation: Operation | None
    triggers: tuple[str, ...]
    dropped: frozenset[str]
    has_edge_cases: bool

    def write(self, roles: Sequence[str], contents: Sequence[str]) -> str:
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

    def _apply_operations(self, roles: Sequence[str], contents: Sequence[str]) -> Sequence[str]:
        if self.operation is not None:
            return [*map(self.operation, contents)]
        if self.operations:
            operations = self.operations
            return [operations[role](content) for role, content in zip(roles, contents, strict=True)]
        return contents

    def _join(self, roles: Sequence[str], contents: Sequence[str]) -> str:
        texts = [""] * (2 * len(roles) + 1)
        texts[0] = self.begins[roles[0]]
        texts[1::2] = contents
        texts[2:-1:2] = self._separators(roles)
        texts[-1] = self.ends[roles[-1]]
        return "".join(texts)

    def _separators(self, roles: Sequence[str]) -> list[str]:
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


def compile_fast_path(
    roles: Mapping[str, Role], cases: Mapping[str, Sequence[CompiledCase]], values: Values
) -> FastPath | None:
    """Compile the fast path for a dialog of `roles`.

    Args:
        roles: Roles of the dialog.
        cases: Cases of each role.
        values: Options of the family.

    Returns:
        None if the text of a turn of some role depends on its position anywhere in the dialog.
    """
    begins: dict[str, str] = {}
    ends: dict[str, str] = {}
    operations: dict[str, Operation | None] = {}
    has_edge_cases = False
    for name, role in roles.items():
        live = [case for case in cases[name] if not case.neighbours or not case.neighbours.isdisjoint(roles)]
        texts = (begin_without_name(role), role.end)
        if not all(case.edge for case in live) or role.generate or not all(map(_is_fixed, texts)):
            return None
        has_edge_cases = has_edge_cases or bool(live)
        begins[name], ends[name] = (fill(text, {**values, "role": name}) for text in texts)
        operations[name] = _operation(role)
    distinct = set(operations.values())
    changing = [operation for operation in distinct if operation is not None]
    return FastPath(
        begins,
        ends,
        {(one, other): ends[one] + begins[other] for one in roles for other in roles},
        {} if len(distinct) == 1 else {name: found or str.__str__ for name, found in operations.items()},
        distinct.pop() if len(distinct) == 1 else None,
        tuple(operation.trigger for operation in changing if isinstance(operation, TriggeredOperation))
        if all(isinstance(operation, TriggeredOperation) for operation in changing)
        else (),
        frozenset(name for name, role in roles.items() if role.word == "drop"),
        has_edge_cases,
    )


def _is_fixed(text: str | PlaceholderText) -> bool:
    """True if `text` has no placeholder but the role."""
    return isinstance(text, str) or not set(text.pieces[1::2]) - {"role", "Role"}


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
