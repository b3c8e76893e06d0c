"""Checks of argument values: each returns the value to keep, or raises InvalidArgument."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .errors import InvalidArgument

__all__ = [
    "Check",
    "encodable_text",
    "flag",
    "integer",
    "logprobs",
    "merged_adapters",
    "number",
    "on_error",
    "optional",
    "optional_name",
    "priority",
    "refusal",
    "request_id",
    "response_format",
    "session_id",
    "stop_words",
    "tools",
    "wire_parameters",
]

#: A check: takes an argument's name and its value, returns the value to keep.
Check = Callable[[str, Any], Any]


def refusal(name: str, value: object, allowed: str) -> InvalidArgument:
    """The error for a value that is not allowed."""
    return InvalidArgument(f"{name}={value!r}: allowed is {allowed}", argument=name)


#: The largest integer of the protocols: 64 bits, signed.
_MOST = 2**63 - 1


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def number(allowed: str, low: float, high: float = math.inf, *, above: bool = False) -> Check:
    """A check for finite numbers in [low, high]; in (low, high] with `above`."""

    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
            raise refusal(name, value, allowed)
        if value < low or value > high or (above and value == low):
            raise refusal(name, value, allowed)
        return value

    return check


def integer(allowed: str, low: int, high: int | None = None) -> Check:
    """A check for integers in [low, high]; a float without fraction (3.0) is converted."""

    def check(name: str, value: Any) -> int:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or value < low or (high is not None and value > high):
            raise refusal(name, value, allowed)
        return int(value)

    return check


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise refusal(name, value, "True or False")
    return value


def optional(check: Check) -> Check:
    """A check for None or what `check` accepts."""
    return lambda name, value: None if value is None else check(name, value)


def encodable_text(name: str, value: str) -> str:
    """Text that UTF-8 can encode: no half of a surrogate pair (an emoji that JavaScript has cut)."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = value[error.start]
            raise InvalidArgument(
                f"{name}: {half!r} at {error.start} is half a character, which is no text", argument=name
            ) from None
    return value


def stop_words(name: str, value: Any) -> tuple[str, ...] | None:
    """None, a string or several strings; duplicates are removed."""
    if value is None:
        return None
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, Iterable) or isinstance(words, (bytes, Mapping)):
        raise refusal(name, value, "None, a string, or a list of strings")
    words = list(words)
    for word in words:
        if not isinstance(word, str) or not word:
            raise refusal(name, value, "None, a string, or a list of strings that are not empty")
        encodable_text(name, word)
    return tuple(dict.fromkeys(words))


def logprobs(name: str, value: Any) -> int | None:
    """None or False for none, else the number of alternatives (True is 0)."""
    if value is None or value is False:
        return None
    if value is True:
        return 0
    return int(integer("None, True, or a number of alternatives from 0 to 20", 0, 20)(name, value))


def response_format(name: str, value: Any) -> Any:
    """None or a dict."""
    if value is not None and not isinstance(value, Mapping):
        raise refusal(name, value, "None or a dict such as {'type': 'json_schema', 'json_schema': {…}}")
    return value


def optional_name(name: str, value: Any) -> Any:
    """None or a string that is not empty."""
    if value is not None and (not isinstance(value, str) or not value):
        raise refusal(name, value, "None or a string that is not empty")
    return value


def merged_adapters(name: str, value: Any) -> Any:
    """None, a dict, or LoRAX's `MergedAdapters`."""
    known = isinstance(value, Mapping) or (hasattr(value, "ids") and hasattr(value, "weights"))
    if value is not None and not known:
        raise refusal(name, value, "None or a dict such as {'ids': ['a', 'b'], 'weights': [0.5, 0.5]}")
    return value


def tools(name: str, value: Any) -> Any:
    """None or a list of tool descriptions; an empty list becomes None."""
    if value is None:
        return None
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise refusal(name, value, "None or a list of tool descriptions (dicts)")
    tools = list(value)
    if stray := [item for item in tools if not isinstance(item, Mapping)]:
        raise refusal(name, stray[0], "None or a list of tool descriptions (dicts)")
    return tools or None


def wire_parameters(name: str, value: Any) -> Any:
    """None or a dict of plain values, with integers of 64 bits; an empty dict becomes None."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise refusal(name, value, "None or a dict of numbers, strings, True and False")
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, (bool, int, float, str)):
            raise refusal(name, value, "None or a dict of numbers, strings, True and False")
        if isinstance(item, int) and not -_MOST <= item <= _MOST:
            raise refusal(name, value, "None or a dict whose integers are from -(2**63 - 1) to 2**63 - 1")
    return dict(value) or None


def session_id(name: str, value: Any) -> int:
    """An integer from 0 to 2**63 - 1."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise refusal(name, value, "an integer of 0 or more (at most 2**63 - 1)")
    return value


def priority(name: str, value: Any) -> int | None:
    """None or an integer from 0 to 2**63 - 1."""
    if value is None:
        return None
    return int(integer("None or an integer of 0 or more (at most 2**63 - 1)", 0, _MOST)(name, value))


def request_id(name: str, value: Any) -> str:
    """A string; an integer is converted."""
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise refusal(name, value, "a string")
    return str(value)


def on_error(name: str, value: Any) -> str:
    """'raise' or 'status'."""
    if value not in ("raise", "status"):
        raise refusal(name, value, "'raise' or 'status'")
    return str(value)
