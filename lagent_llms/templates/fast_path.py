"""The fast way: runs of turns that are written the same wherever they stand, formatted in one go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from .cases import CompiledCase
from .placeholders import Marked, Operation, Text, Values
from .reasoning import without_reasoning
from .schema import Begin, Role

__all__ = ["Bulk", "compile_bulk", "filled", "nameless"]


class Bulk(NamedTuple):
    """How the turns of a set of roles are written, where no case holds.

    Attributes:
        begins: Text before the content, by role.
        ends: Text after the content, by role.
        joints: Text between two contents, by the roles before and after it: an end and a begin.
        operations: What is done to the contents, by role; {} when that is nothing for all of them.
        operation: What is done to the contents, when it is the same for all roles.
        marks: Where all operations leave alone what does not hold one of these, these.
        dropped: Roles that leave nothing.
        edges: Whether a case may hold at the first turn or after the last question.
    """

    begins: Mapping[str, str]
    ends: Mapping[str, str]
    joints: Mapping[tuple[str, str], str]
    operations: Mapping[str, Operation]
    operation: Operation | None
    marks: tuple[str, ...]
    dropped: frozenset[str]
    edges: bool

    def write(self, roles: Sequence[str], contents: Sequence[str]) -> str:
        """The text of a run of turns.

        Raises:
            TypeError: A content is no string (AttributeError, if an operation sees it first).
        """
        if self.dropped:
            kept = [pair for pair in zip(roles, contents, strict=True) if pair[0] not in self.dropped]
            roles, contents = [role for role, _ in kept], [content for _, content in kept]
        if not roles:
            return ""
        if not self.marks or _any_in("".join(contents), self.marks):
            contents = self._changed(roles, contents)
        return self._join(roles, contents)

    def _changed(self, roles: Sequence[str], contents: Sequence[str]) -> Sequence[str]:
        """The contents, their operations done."""
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
        texts[2:-1:2] = self._joints(roles)
        texts[-1] = self.ends[roles[-1]]
        return "".join(texts)

    def _joints(self, roles: Sequence[str]) -> list[str]:
        """The texts between the contents; two roles in turn, the usual dialog, cost next to nothing."""
        joints = self.joints
        count = len(roles) - 1
        if count > 2:
            one, other = roles[1], roles[2]
            if roles[1::2].count(one) == (count + 1) // 2 and roles[2::2].count(other) == count // 2:
                return [joints[roles[0], one], *([joints[one, other], joints[other, one]] * (count // 2))][
                    :count
                ]
        return [*map(joints.__getitem__, pairwise(roles))]


def _any_in(text: str, marks: Sequence[str]) -> bool:
    """Whether `text` holds one of `marks`; looking for a single character first is far faster."""
    return any(mark[0] in text and mark in text for mark in marks)


def compile_bulk(
    roles: Mapping[str, Role], cases: Mapping[str, Sequence[CompiledCase]], values: Values
) -> Bulk | None:
    """The fast way for a dialog of these roles, None when one of them always needs a look at where it stands.

    Args:
        roles: The roles of the dialog.
        cases: Their cases.
        values: The options.
    """
    begins: dict[str, str] = {}
    ends: dict[str, str] = {}
    operations: dict[str, Operation | None] = {}
    edges = False
    for name, role in roles.items():
        live = [case for case in cases[name] if not case.neighbours or not case.neighbours.isdisjoint(roles)]
        texts = (nameless(role), role.end)
        if not all(case.edge for case in live) or role.generate or not all(map(_is_fixed, texts)):
            return None
        edges = edges or bool(live)
        begins[name], ends[name] = (filled(text, {**values, "role": name}) for text in texts)
        operations[name] = _operation(role)
    distinct = set(operations.values())
    changing = [operation for operation in distinct if operation is not None]
    return Bulk(
        begins,
        ends,
        {(one, other): ends[one] + begins[other] for one in roles for other in roles},
        {} if len(distinct) == 1 else {name: found or str.__str__ for name, found in operations.items()},
        distinct.pop() if len(distinct) == 1 else None,
        tuple(operation.mark for operation in changing if isinstance(operation, Marked))
        if all(isinstance(operation, Marked) for operation in changing)
        else (),
        frozenset(name for name, role in roles.items() if role.word == "drop"),
        edges,
    )


def _is_fixed(text: str | Text) -> bool:
    """Whether nothing but the role is missing in `text`."""
    return isinstance(text, str) or not set(text.pieces[1::2]) - {"role", "Role"}


def _operation(role: Role) -> Operation | None:
    """What is done to a content, its reasoning taken out first."""
    if role.think is None:
        return role.content
    marks, operation = role.think, role.content
    if operation is None:
        return Marked(marks.close, lambda content: without_reasoning(content, marks))
    return lambda content: operation(without_reasoning(content, marks))


def nameless(role: Role) -> str | Text:
    """The begin of a message that has no name."""
    return role.begin.without_name if isinstance(role.begin, Begin) else role.begin


def filled(text: str | Text, values: Values) -> str:
    """`text` with its placeholders filled in."""
    return text if isinstance(text, str) else text.fill(values)
