"""Placeholders in the texts of a template, and operations on a message's content.

`{bos}` and `{eos}` are replaced when a family is read; placeholders that depend on a message or a call
(`{name}`, `{date:%d %b %Y}`) are replaced while rendering. `{{` and `}}` are literal braces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from ..errors import TemplateError, nearest

__all__ = [
    "Operation",
    "PlaceholderText",
    "TriggeredOperation",
    "Values",
    "content_operation",
    "parse_placeholders",
]

#: Values of placeholders while rendering, by name.
Values: TypeAlias = Mapping[str, Any]
Operation: TypeAlias = Callable[[str], str]

#: Placeholders that every text may use, besides the family's options.
PLACEHOLDERS = ("bos", "eos", "role", "Role", "name", "reasoning", "call_id", "date:FORMAT")

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, slots=True)
class PlaceholderText:
    """A text with at least one placeholder that is replaced while rendering.

    Attributes:
        pieces: Literal text at even indices, names of placeholders at odd ones.
    """

    pieces: tuple[str, ...]

    def fill(self, values: Values) -> str:
        """Replace the placeholders by `values`; a missing value is ''."""
        parts = list(self.pieces)
        for index in range(1, len(parts), 2):
            parts[index] = _value(parts[index], values)
        return "".join(parts)


def _value(name: str, values: Values) -> str:
    if name.startswith("date:"):
        return _strftime(values["now"], name[5:])
    if name == "Role":
        return str(values["role"]).title()
    value = values.get(name)
    return value if isinstance(value, str) else "" if value is None else str(value)


def _strftime(now: Any, layout: str) -> str:
    moment = now() if callable(now) else now
    return str(moment.strftime(layout))


def local_time() -> datetime:
    """The current local time, for `{date:…}` and for Jinja's `strftime_now`."""
    return datetime.now()


def parse_placeholders(
    where: str, text: str, *, fixed: Mapping[str, str], names: Iterable[str] = ()
) -> str | PlaceholderText:
    """Parse a text of a family file.

    Args:
        where: File, role and key, for errors.
        text: Text as written in the file.
        fixed: Values of the placeholders to replace now ('bos', 'eos').
        names: Placeholders to replace while rendering, besides those every text may use (options).

    Returns:
        A string if `fixed` replaces all placeholders, else a `PlaceholderText`.

    Raises:
        TemplateError: An unknown placeholder, or a single brace.
    """
    known = {"role", "Role", "name", "reasoning", "call_id", *names}
    pieces = [""]
    end = 0
    for match in _PIECE.finditer(text):
        pieces[-1] += text[end : match.start()]
        end = match.end()
        token, name = match[0], match[1]
        if token in ("{{", "}}"):
            pieces[-1] += token[0]
        elif name is None:
            raise TemplateError(f"{where}: a single {token!r}; write {token * 2!r} for the character itself")
        elif name in fixed:
            pieces[-1] += fixed[name]
        elif name in known or name.startswith("date:"):
            pieces += [name, ""]
        else:
            allowed = [*PLACEHOLDERS, *names]
            raise TemplateError(
                f"{where}: unknown placeholder {{{name}}}{nearest(name, allowed)} "
                f"(allowed: {', '.join(allowed)}; write '{{{{' for a brace)"
            )
    pieces[-1] += text[end:]
    return pieces[0] if len(pieces) == 1 else PlaceholderText(tuple(pieces))


@dataclass(frozen=True, slots=True)
class TriggeredOperation:
    """An operation that changes only contents that hold `trigger`.

    Attributes:
        trigger: Text that a content must hold to be changed.
        operation: Operation to apply then.
    """

    trigger: str
    operation: Operation

    def __call__(self, content: str) -> str:
        """Apply the operation if `content` holds the trigger."""
        return self.operation(content) if self.trigger in content else content


def _chain(first: Operation, second: Operation) -> Operation:
    return lambda content: second(first(content))


#: Operations without and with an argument.
_WITHOUT_ARGUMENT: dict[str, Operation] = {
    "strip": str.strip,
    "lstrip": str.lstrip,
    "rstrip": str.rstrip,
    "json": lambda content: json.dumps(str.__str__(content), ensure_ascii=False),
}
_WITH_ARGUMENT: dict[str, Callable[[str], Operation]] = {
    "strip": lambda chars: lambda content: content.strip(chars),
    "lstrip": lambda chars: lambda content: content.lstrip(chars),
    "rstrip": lambda chars: lambda content: content.rstrip(chars),
    "after": lambda mark: TriggeredOperation(mark, lambda content: content.rpartition(mark)[2]),
    "before": lambda mark: TriggeredOperation(mark, lambda content: content.partition(mark)[0]),
}
_OPERATIONS = (*_WITHOUT_ARGUMENT, "after", "before", "replace")


def content_operation(where: str, raw: object) -> Operation | None:
    """Compile the `content` key of a role.

    Args:
        where: File, role and key, for errors.
        raw: Name of an operation, a mapping of one operation to its argument, or a list of those, in order.

    Returns:
        One operation, None if `raw` is empty.

    Raises:
        TemplateError: An unknown operation, or a wrong argument.
    """
    result: Operation | None = None
    for step in raw if isinstance(raw, (list, tuple)) else [raw]:
        if step is None:
            continue
        operation = _operation(where, step)
        result = operation if result is None else _chain(result, operation)
    return result


def _operation(where: str, step: object) -> Operation:
    if isinstance(step, str) and step in _WITHOUT_ARGUMENT:
        return _WITHOUT_ARGUMENT[step]
    if isinstance(step, Mapping) and len(step) == 1:
        ((name, argument),) = step.items()
        if name in _WITH_ARGUMENT and isinstance(argument, str) and argument:
            return _WITH_ARGUMENT[name](argument)
        if name == "replace" and _is_pair(argument):
            old, new = argument
            return TriggeredOperation(old, lambda content: content.replace(old, new))
        step = name if name not in (*_WITH_ARGUMENT, "replace") else f"{name} with argument {argument!r}"
    raise TemplateError(
        f"{where}: unknown content operation {step!r}{nearest(str(step), _OPERATIONS)} "
        "(allowed: strip, lstrip, rstrip, json, {strip|lstrip|rstrip: CHARS}, {after: TEXT}, {before: TEXT}, "
        "{replace: [OLD, NEW]}, or a list of those)"
    )


def _is_pair(argument: object) -> bool:
    return (
        isinstance(argument, (list, tuple))
        and len(argument) == 2
        and all(isinstance(part, str) for part in argument)
        and bool(argument[0])
    )
