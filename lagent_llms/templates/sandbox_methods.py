"""Methods of strings that a Jinja template may call, counted before they make something large."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from typing import Any

from .limits import SMALL, Budget, LimitExceeded

__all__ = ["SHORT_TEXT", "bounded", "count_replace", "format_text", "percent", "string_method"]

#: Largest width, count or precision.
_MAX_NUMBER = 1_000_000
#: Longest text for functions that take much longer for long ones; chat templates have no use for them.
SHORT_TEXT = 10_000
_PERCENT = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(\*|\d+)?(?:\.(\*|\d+))?")
_DIGITS = re.compile(r"\d+")


def bounded(value: object) -> int:
    """`value` if it is a number that may be a width or a count, else 0."""
    if not isinstance(value, int):
        return 0
    if abs(value) > _MAX_NUMBER:
        raise LimitExceeded("output", f"asks for a width or a count of {value:.0e}")
    return abs(value)


# Each function counts what a method is about to make.


def _count_text(budget: Budget, text: str, args: Any, kwargs: Any) -> None:
    budget.text(len(text))


def _count_longer(budget: Budget, text: str, args: Any, kwargs: Any) -> None:
    budget.text(len(text))
    budget.memory(3 * len(text))  # a character becomes up to three, or four bytes


def _count_width(budget: Budget, text: str, args: Any, kwargs: Any) -> None:
    budget.text(max(len(text), *map(bounded, (*args, 0))))


def _count_tabs(budget: Budget, text: str, args: Any, kwargs: Any) -> None:
    width = max(map(bounded, (*args, *kwargs.values(), 8)))
    budget.text(len(text) + text.count("\t") * width)


def count_replace(budget: Budget, text: str, args: Any, kwargs: Any) -> None:
    """Count what ``text.replace(old, new)`` makes; `args` are its arguments."""
    old, new = (*args, "", "")[:2]
    if not isinstance(old, str) or not isinstance(new, str) or (len(text) + 1) * len(new) < SMALL:
        return
    found = text.count(old) if old else len(text) + 1
    budget.text(len(text) + found * max(0, len(new) - len(old)))


def _count_split(budget: Budget, text: str, args: Any, kwargs: Any) -> None:
    if len(text) < SMALL:
        return
    separator = args[0] if args else kwargs.get("sep")
    if isinstance(separator, str) and separator:
        _count_search(budget, text, args, kwargs)
        pieces = text.count(separator)
    else:
        pieces = len(text) // 2
    budget.memory(len(text) + 64 * pieces)


def _count_search(budget: Budget, text: str, args: Any, kwargs: Any) -> None:
    """A search from the right compares up to all characters of one text at all places of the other."""
    if len(text) >= SMALL:
        budget.text(len(text))
        other = args[0] if args else ""
        if isinstance(other, str) and len(text) * len(other) > _MAX_NUMBER:
            budget.work(len(text) * len(other) // 64)
            if len(text) * len(other) > 10_000 * _MAX_NUMBER:
                raise LimitExceeded("seconds", "searches a long text in a long text")


def _count_translate(budget: Budget, text: str, args: Any, kwargs: Any) -> None:
    table = args[0] if args else None
    longest = max((len(new) for new in table.values() if isinstance(new, str)), default=1) if (
        isinstance(table, Mapping)
    ) else 1  # fmt: skip
    budget.text(len(text) * max(1, longest))


_STRING_METHODS: Mapping[str, Callable[[Budget, str, Any, Any], None]] = {
    **dict.fromkeys(
        (
            *("startswith", "endswith", "strip", "lstrip", "rstrip", "removeprefix", "removesuffix"),
            *(
                "isalnum",
                "isalpha",
                "isascii",
                "isdecimal",
                "isdigit",
                "isidentifier",
                "islower",
                "isnumeric",
            ),
            *("isprintable", "isspace", "istitle", "isupper", "find", "index", "count"),
        ),
        _count_text,
    ),
    **dict.fromkeys(
        ("lower", "upper", "title", "capitalize", "swapcase", "casefold", "encode"), _count_longer
    ),
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _count_width),
    **dict.fromkeys(("split", "rsplit", "splitlines"), _count_split),
    **dict.fromkeys(("rfind", "rindex", "partition", "rpartition"), _count_search),
    "expandtabs": _count_tabs,
    "replace": count_replace,
    "translate": _count_translate,
}


#: Methods whose results are not much longer than the string.
_NOT_LONGER = frozenset(
    name
    for name, count in _STRING_METHODS.items()
    if count in (_count_text, _count_longer, _count_split, _count_search)
)


def string_method(budget: Budget, method: Any, args: Any, kwargs: Any) -> Any:
    """Call a method of a string."""
    text, name = method.__self__, method.__name__
    if (count := _STRING_METHODS.get(name)) is not None:
        if len(text) < SMALL and name in _NOT_LONGER:
            return method(*args, **kwargs)
        count(budget, text, args, kwargs)
        return method(*args, **kwargs)
    if name == "join" and len(args) == 1 and not kwargs:
        items = budget.listed(args[0])
        budget.text(sum(len(item) for item in items if isinstance(item, str)) + len(text) * len(items))
        return method(items)
    if len(text) > SHORT_TEXT:
        raise LimitExceeded("output", f"calls {name} of a text of more than {SHORT_TEXT} characters")
    return method(*args, **kwargs)


def format_text(budget: Budget, text: str, args: Any, kwargs: Any) -> None:
    """Count what ``text.format(…)`` makes."""
    width, fields = 0, 0
    values = budget.weigh([*args, *kwargs.values()])
    for number in (value for value in (*args, *kwargs.values()) if isinstance(value, int)):
        if "{:{" in text or "}}" in text or ".{" in text:  # it may be a width
            width = max(width, bounded(number))
    for _, name, spec, _ in string.Formatter().parse(text):
        if name is not None:
            fields += 1
            width = max([width, *(bounded(int(digits[:9])) for digits in _DIGITS.findall(spec or ""))])
    budget.text(len(text) + fields * (width + values))


def percent(budget: Budget, text: Any, values: Any) -> None:
    """Count what ``text % values`` makes."""
    if isinstance(text, bytes):
        raise LimitExceeded("output", "formats bytes")
    if not isinstance(text, str):
        return
    fields, width = 0, 0
    numbers = values if isinstance(values, tuple) else (values,)
    for found in _PERCENT.finditer(text):
        fields += 1
        for digits in found.groups():
            if digits == "*":
                width = max([width, *map(bounded, numbers)])
            elif digits:
                width = max(width, bounded(int(digits[:9])))
    budget.text(len(text) + fields * (width + budget.weigh(values)))
