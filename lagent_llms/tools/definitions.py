"""The check of ``tools=``: OpenAI's tool dicts, and Python functions, which become such dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import validators

__all__ = ["tool_definitions"]

_ALLOWED = (
    "a function with type hints, or a dict such as "
    "{'type': 'function', 'function': {'name': …, 'description': …, 'parameters': {…}}}"
)


def tool_definitions(name: str, value: Any) -> list[dict[str, Any]] | None:
    """Convert tools to OpenAI's form; an empty list becomes None.

    A tool is a function (see `function_schema`), a pydantic model, OpenAI's dict or its inner 'function', or
    a tool of another type that a server may know, which is kept as it is.

    Raises:
        InvalidArgument: The value is no list, an entry is no tool, or a function has no schema.
    """
    if value is None:
        return None
    if (given := validators.listed(value)) is None:
        raise validators.refusal(name, value, "None or a list of tool descriptions (dicts) and functions")
    return [_definition(name, index, item) for index, item in enumerate(given)] or None


def _definition(name: str, index: int, tool: Any) -> dict[str, Any]:
    where = f"{name}[{index}]"
    if callable(tool) and not isinstance(tool, Mapping):
        from .function_schema import function_tool  # here: most calls give dicts

        described: dict[str, Any] = validators.plain(name, function_tool(tool, where, name), index)
        return described
    if not isinstance(fields := validators.to_builtin(tool), Mapping):
        raise validators.refusal(where, tool, _ALLOWED, name)
    known: dict[str, Any] = validators.plain(name, fields, index)
    kind = known.get("type")
    if "function" not in known and isinstance(kind, str) and kind not in ("function", "object"):
        return known
    function = known.get("function", known)
    if (
        (kind or "function") != "function"
        or not isinstance(function, dict)
        or not isinstance(function.get("name"), str)
        or not function["name"]
        or not isinstance(function.get("parameters") or {}, (dict, list))
    ):
        raise validators.refusal(where, tool, _ALLOWED, name)
    if function is known:
        return {"type": "function", "function": {key: known[key] for key in known if key != "type"}}
    return {"type": "function", **known}
