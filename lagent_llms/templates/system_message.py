"""Before the turns are written: which messages are turns, in what order, and where the system text goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import TemplateError
from ..schema import Message
from .base import text_of
from .fast_path import filled
from .placeholders import Values
from .schema import Family, System
from .tools import ToolsForm

__all__ = ["check_alternation", "place_system", "system_text", "turns_of"]

#: Places that stand for "before all turns" and "the dialog has no such turn".
START = -1
NOWHERE = -2


def turns_of(family: Family, roles: Sequence[str]) -> Sequence[int]:
    """Places of the messages that are turns: not taken as the system text, not of a removed role.

    Args:
        family: The family.
        roles: The roles of all messages.
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
    return [place for place in range(first, len(roles)) if roles[place] not in removed]


def system_text(
    family: Family,
    messages: Sequence[Message],
    roles: Sequence[str],
    values: Values,
    tools: Sequence[Any] | None,
) -> str | None:
    """The system text with what stands around it, None when there is none.

    Raises:
        TemplateError: The family needs a system message and there is none.
    """
    system = family.system
    if system is None:
        return None
    text = _given(family, system, messages, roles)
    if text is None and system.required:
        raise TemplateError(f"{family.name}: the dialog must begin with a system message")
    if text == "" and system.empty != "keep":
        text = None if system.empty == "drop" else _default(system, values)
    elif text is None and not (system.default_unless == "any" and "system" in roles):
        text = _default(system, values)
    if tools and isinstance(family.tools, ToolsForm):
        text = family.tools.write(text, tools)
    if text is None:
        return None
    return filled(system.begin, values) + text + filled(system.end, values)


def _given(family: Family, system: System, messages: Sequence[Message], roles: Sequence[str]) -> str | None:
    """The text of the system messages that are taken, None when there is none."""
    if "system" not in (roles[:1] if system.take == "first" else roles):
        return None
    places = [0]
    if system.take != "first":
        places = [place for place, role in enumerate(roles) if role == "system"]
        places = places[-1:] if system.take == "last" else places
    texts = [text_of(messages[index], index, family.name) for index in places]
    return system.join.join(texts if system.content is None else map(system.content, texts))


def _default(system: System, values: Values) -> str | None:
    return None if system.default is None else filled(system.default, values)


def place_system(family: Family, roles: Sequence[str]) -> int:
    """The turn the system text is merged into, `START`, or `NOWHERE`."""
    put = family.system.put if family.system is not None else "start"
    if put == "start":
        return START
    if put == "first":
        return 0 if roles else NOWHERE
    if put == "last":
        return len(roles) - 1 if roles and roles[-1] == "user" else NOWHERE
    users = [position for position, role in enumerate(roles) if role == "user"]
    return NOWHERE if not users else users[0] if put == "first_user" else users[-1]


def check_alternation(family: Family, roles: Sequence[str], turns: Sequence[int]) -> None:
    """Refuse a dialog whose turns are not the user's and somebody else's in turn.

    Raises:
        TemplateError: Naming the first message out of order.
    """
    skip = family.alternation.skip if family.alternation is not None else frozenset()
    if not skip.intersection(roles) and "user" not in roles[1::2] and {"user"}.issuperset(roles[::2]):
        return
    counted = 0
    for position, role in enumerate(roles):
        if role in skip:
            continue
        if (role == "user") != (counted % 2 == 0):
            told = "a message of the user" if role != "user" else "an answer"
            raise TemplateError(
                f"{family.name}: messages[{turns[position]}] (role {role!r}): turns must alternate "
                f"user / assistant; expected {told} here"
            )
        counted += 1
