"""System messages and order: which messages are turns, the system text and its position, alternation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import TemplateError
from ..schema import Message
from .base import text_of
from .fast_path import fill
from .placeholders import Values
from .schema import Family, System
from .tools import ToolsInSystemText

__all__ = ["check_alternation", "system_position", "system_text", "turns_of"]

#: Positions of the system text: before all turns, and none because the dialog has no such turn.
START = -1
NOWHERE = -2


def turns_of(family: Family, roles: Sequence[str]) -> Sequence[int]:
    """Indices of the messages that are turns: not part of the system text, not of a removed role.

    Args:
        family: The family.
        roles: Roles of all messages.
    """
    first = 0
    kinds = set(roles)
    removed = {name for name in kinds if family.roles.get(name, family.others).word == "remove"}
    if family.system is not None:
        if family.system.take != "first":
            removed.add("system")
        elif roles and roles[0] == "system":
            first = 1
    if removed.isdisjoint(kinds):
        return range(first, len(roles))
    return [index for index in range(first, len(roles)) if roles[index] not in removed]


def system_text(
    family: Family,
    messages: Sequence[Message],
    roles: Sequence[str],
    values: Values,
    tools: Sequence[Any] | None,
) -> str | None:
    """The system text with its begin and end, None if there is none.

    Raises:
        TemplateError: The family requires a system message and the dialog has none.
    """
    system = family.system
    if system is None:
        return None
    text = _text_of_messages(family, system, messages, roles)
    if text is None and system.required:
        raise TemplateError(f"{family.name}: the dialog must begin with a system message")
    if text == "" and system.empty != "keep":
        text = None if system.empty == "drop" else _default(system, values)
    elif text is None and not (system.default_unless == "any" and "system" in roles):
        text = _default(system, values)
    if tools and isinstance(family.tools, ToolsInSystemText):
        text = family.tools.write(text, tools)
    if text is None:
        return None
    return fill(system.begin, values) + text + fill(system.end, values)


def _text_of_messages(
    family: Family, system: System, messages: Sequence[Message], roles: Sequence[str]
) -> str | None:
    """Joined text of the system messages that `system.take` selects, None if there are none."""
    if "system" not in (roles[:1] if system.take == "first" else roles):
        return None
    indices = [0]
    if system.take != "first":
        indices = [index for index, role in enumerate(roles) if role == "system"]
        indices = indices[-1:] if system.take == "last" else indices
    texts = [text_of(messages[index], index, family.name) for index in indices]
    return system.join.join(texts if system.content is None else map(system.content, texts))


def _default(system: System, values: Values) -> str | None:
    return None if system.default is None else fill(system.default, values)


def system_position(family: Family, roles: Sequence[str]) -> int:
    """Position of the turn that the system text is merged into, `START` or `NOWHERE`."""
    put = family.system.put if family.system is not None else "start"
    if put == "start":
        return START
    if put == "first":
        return 0 if roles else NOWHERE
    if put == "last":
        return len(roles) - 1 if roles and roles[-1] == "user" else NOWHERE
    users = [position for position, role in enumerate(roles) if role == "user"]
    return NOWHERE if not users else users[0] if put == "first_user" else users[-1]


def check_alternation(
    family: Family, messages: Sequence[Message], roles: Sequence[str], turns: Sequence[int]
) -> None:
    """Check that turns of the user and of other roles alternate, beginning with the user's.

    Where results of tools do not count, messages with calls do not count either.

    Raises:
        TemplateError: Names the first message out of order.
    """
    skip = family.alternation.skip if family.alternation is not None else frozenset()
    if not skip.intersection(roles) and "user" not in roles[1::2] and {"user"}.issuperset(roles[::2]):
        return
    counted = 0
    for position, role in enumerate(roles):
        if role in skip or ("tool" in skip and messages[position].get("tool_calls")):
            continue
        if (role == "user") != (counted % 2 == 0):
            expected = "a message of the user" if role != "user" else "an answer"
            raise TemplateError(
                f"{family.name}: messages[{turns[position]}] (role {role!r}): turns must alternate "
                f"user / assistant; expected {expected} here"
            )
        counted += 1
