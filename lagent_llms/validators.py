"""What a parameter may be: checks, each of which gives a value back as it is kept, or refuses it."""

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

#: Takes the name of a parameter and a value of it.
Check = Callable[[str, Any], Any]


def refusal(name: str, value: object, allowed: str) -> InvalidArgument:
    """The error of a value that is not allowed."""
    return InvalidArgument(f"{name}={value!r}: allowed is {allowed}", argument=name)


#: The largest integer that a protocol's 64 bits hold whatever its sign.
_MOST = 2**63 - 1


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that is no float
        return False


def number(allowed: str, low: float, high: float = math.inf, *, above: bool = False) -> Check:
    """A check for finite numbers in [low, high], or (low, high] with `above`."""

    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
            raise refusal(name, value, allowed)
        if value < low or value > high or (above and value == low):
            raise refusal(name, value, allowed)
        return value

    return check


def integer(allowed: str, low: int, high: int | None = None) -> Check:
    """A check for whole numbers in [low, high]; 3.0 is one."""

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
    """`check`, or None."""
    return lambda name, value: None if value is None else check(name, value)


def encodable_text(name: str, value: str) -> str:
    """Text that can be sent: half of a surrogate pair (a cut emoji, from JavaScript) cannot."""
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
    """None, a string or several; each once."""
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
    """None for none, else how many alternatives."""
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
    """None or a name."""
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
    """None or descriptions of tools."""
    if value is None:
        return None
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise refusal(name, value, "None or a list of tool descriptions (dicts)")
    tools = list(value)
    if stray := [item for item in tools if not isinstance(item, Mapping)]:
        raise refusal(name, stray[0], "None or a list of tool descriptions (dicts)")
    return tools or None


def wire_parameters(name: str, value: Any) -> Any:
    """None or a dict of plain values; integers have 64 bits."""
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
    """An integer of 0 or more, of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise refusal(name, value, "an integer of 0 or more (at most 2**63 - 1)")
    return value


def priority(name: str, value: Any) -> int | None:
    """None or an integer of 0 or more, of 64 bits."""
    if value is None:
        return None
    return int(integer("None or an integer of 0 or more (at most 2**63 - 1)", 0, _MOST)(name, value))


def request_id(name: str, value: Any) -> str:
    """A string; a number becomes one."""
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise refusal(name, value, "a string")
    return str(value)


def on_error(name: str, value: Any) -> str:
    """'raise' or 'status'."""
    if value not in ("raise", "status"):
        raise refusal(name, value, "'raise' or 'status'")
    return str(value)
