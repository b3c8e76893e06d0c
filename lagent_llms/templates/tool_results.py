"""The roles in which a family writes the results of tools."""

from __future__ import annotations

from dataclasses import replace

from ..messages import RESULT_ROLES
from .fast_path import begin_for_name, fill
from .schema import Begin, Family
from .tools import ToolsMessage

__all__ = ["result_roles", "with_tool_role"]


def result_roles(family: Family) -> tuple[str, ...]:
    """The roles of results that have an entry of their own in the family, the usual one first."""
    own = family.tool_call.answer_role if family.tool_call is not None else ""
    names = (own, *RESULT_ROLES) if own else RESULT_ROLES
    return tuple(
        name for name in names if (role := family.roles.get(name)) is not None and role.word != "refuse"
    )


def with_tool_role(family: Family) -> Family:
    """The family with a role ``tool``, where results of tools are messages of another role and a name."""
    tools = family.tools
    if not isinstance(tools, ToolsMessage) or "tool" in family.roles:
        return family
    role = family.roles.get(tools.answer_role, family.others)
    begin, values = role.begin, {"role": tools.answer_role}
    if isinstance(begin, Begin):
        begin = begin_for_name(begin, tools.name or None, values)
    return replace(family, roles={**family.roles, "tool": replace(role, begin=fill(begin, values))})
