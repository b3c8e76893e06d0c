"""Placeholders in the strings of a template, and the operations on a message's content.

`{bos}` and `{eos}` are filled in once, when a family is read; what only a message or a call knows (`{name}`,
`{date:%d %b %Y}`) is filled in while rendering. `{{` and `}}` are literal braces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from ..errors import TemplateError, nearest

__all__ = ["Marked", "Operation", "Text", "Values", "content_operation", "parse_text"]

#: What a placeholder may refer to while rendering.
Values: TypeAlias = Mapping[str, Any]
Operation: TypeAlias = Callable[[str], str]

#: Placeholders every text may use; the names of the family's options come on top.
PLACEHOLDERS = ("bos", "eos", "role", "Role", "name", "reasoning", "date:FORMAT")

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, slots=True)
class Text:
    """A text with at least one placeholder that only rendering can fill in.

    Attributes:
        pieces: Literal text at even places, placeholders at odd ones.
    """

    pieces: tuple[str, ...]

    def fill(self, values: Values) -> str:
        """The text, its placeholders replaced by `values` (a missing one by '')."""
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
    """Now, on the clock of this machine (what chat templates call strftime_now)."""
    return datetime.now()


def parse_text(where: str, text: str, *, fixed: Mapping[str, str], names: Iterable[str] = ()) -> str | Text:
    """`text` as a plain string when `fixed` fills all its placeholders, else as a `Text`.

    Args:
        where: File, role and key, for the error.
        text: The text as written.
        fixed: Placeholders known now ('bos', 'eos').
        names: Placeholders known while rendering, beyond those every text may use (options).

    Raises:
        TemplateError: An unknown placeholder, or a brace that stands alone.
    """
    known = {"role", "Role", "name", "reasoning", *names}
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
    return pieces[0] if len(pieces) == 1 else Text(tuple(pieces))


@dataclass(frozen=True, slots=True)
class Marked:
    """An operation that leaves a content without `mark` as it is.

    Attributes:
        mark: What a content must hold to be changed.
        change: What is then done to it.
    """

    mark: str
    change: Operation

    def __call__(self, content: str) -> str:
        """`content`, changed if it holds the mark."""
        return self.change(content) if self.mark in content else content


def _chain(first: Operation, second: Operation) -> Operation:
    return lambda content: second(first(content))


#: Operations that are a bare word, and those that take an argument.
_WORDS: dict[str, Operation] = {
    "strip": str.strip,
    "lstrip": str.lstrip,
    "rstrip": str.rstrip,
    "json": lambda content: json.dumps(str.__str__(content), ensure_ascii=False),
}
_WITH_TEXT: dict[str, Callable[[str], Operation]] = {
    "strip": lambda chars: lambda content: content.strip(chars),
    "lstrip": lambda chars: lambda content: content.lstrip(chars),
    "rstrip": lambda chars: lambda content: content.rstrip(chars),
    "after": lambda mark: Marked(mark, lambda content: content.rpartition(mark)[2]),
    "before": lambda mark: Marked(mark, lambda content: content.partition(mark)[0]),
}
_OPERATIONS = (*_WORDS, "after", "before", "replace")


def content_operation(where: str, raw: object) -> Operation | None:
    """The operation that the `content` key of a role describes, None when there is nothing to do.

    Args:
        where: File, role and key, for the error.
        raw: A word, a mapping of one operation to its argument, or a list of those, in order.

    Raises:
        TemplateError: An unknown operation or a wrong argument.
    """
    result: Operation | None = None
    for step in raw if isinstance(raw, (list, tuple)) else [raw]:
        if step is None:
            continue
        operation = _operation(where, step)
        result = operation if result is None else _chain(result, operation)
    return result


def _operation(where: str, step: object) -> Operation:
    if isinstance(step, str) and step in _WORDS:
        return _WORDS[step]
    if isinstance(step, Mapping) and len(step) == 1:
        ((name, argument),) = step.items()
        if name in _WITH_TEXT and isinstance(argument, str) and argument:
            return _WITH_TEXT[name](argument)
        if name == "replace" and _is_pair(argument):
            old, new = argument
            return Marked(old, lambda content: content.replace(old, new))
        step = name if name not in (*_WITH_TEXT, "replace") else f"{name} with argument {argument!r}"
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
