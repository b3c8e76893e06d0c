"""Checks of argument values: each returns the value to keep, or raises InvalidArgument.

What a check returns consists of Python's own types, so that every backend can send it: scalars of numpy,
enums and subclasses of str are converted, and what cannot be converted is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from enum import Enum
from numbers import Real
from typing import Any

from .errors import InvalidArgument

__all__ = [
    "Check",
    "api_key",
    "chat_template_kwargs",
    "concurrency",
    "encodable_text",
    "flag",
    "injection",
    "integer",
    "listed",
    "logprobs",
    "merged_adapters",
    "number",
    "on_error",
    "optional",
    "optional_name",
    "plain",
    "priority",
    "reasoning",
    "refusal",
    "request_id",
    "sampling",
    "session_id",
    "shown",
    "stop_words",
    "to_builtin",
    "tool_parser",
    "wire_parameters",
]

#: A check: takes an argument's name and its value, returns the value to keep.
Check = Callable[[str, Any], Any]


def refusal(where: str, value: object, allowed: str, name: str = "") -> InvalidArgument:
    """The error for a value that is not allowed; `name` is the argument if `where` is a part of it."""
    return InvalidArgument(f"{where}={shown(value)}: allowed is {allowed}", argument=name or where)


def shown(value: object) -> str:
    """The beginning of `value` as Python writes it, for messages."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def to_builtin(value: Any) -> Any:
    """`value`, or what it holds: the value of an enum, scalars and arrays of numpy, models of pydantic.

    A class of pydantic is its JSON schema.
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, type):
        return convert() if callable(convert := getattr(value, "model_json_schema", None)) else value
    if callable(convert := getattr(value, "tolist", None)):  # pandas, JAX and torch have it too
        return convert()
    return convert(exclude_none=True) if callable(convert := getattr(value, "model_dump", None)) else value


def listed(value: Any) -> list[Any] | None:
    """`value` as a list if it is several values (a sequence, a set, an iterator, an array), else None."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, (str, bytes, bytearray, Mapping)) or hasattr(value, "model_dump"):
        return None
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)  # the same order in every process
    value = to_builtin(value)
    return list(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else None


#: The deepest nesting of a value that is sent.
_DEEPEST = 100


def plain(name: str, value: Any, *path: str | int) -> Any:
    """A copy of `value` in the types of JSON.

    Args:
        name: The argument.
        value: The value, or a part of it.
        path: Keys and indices of the part.

    Raises:
        InvalidArgument: A part is none of text, a finite number of 64 bits, True, False, None, list and dict,
            and no equivalent of one.
    """
    if not isinstance(value, (str, int, float, dict, list)):
        value = to_builtin(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return encodable_text(name, value, *path)
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if len(path) > _DEEPEST:
        raise InvalidArgument(f"{name}: is nested more than {_DEEPEST} levels deep", argument=name)
    # Plain text is most of a tool or a schema: it costs no call.
    if isinstance(value, Mapping):
        if not [key for key in value if not isinstance(key, str)]:
            return {
                key if type(key) is str and key.isascii() else encodable_text(name, key, *path): item
                if type(item) is str and item.isascii()
                else plain(name, item, *path, key)
                for key, item in value.items()
            }
    elif (items := listed(value)) is not None:
        return [
            item if type(item) is str and item.isascii() else plain(name, item, *path, index)
            for index, item in enumerate(items)
        ]
    allowed = (
        "text, a finite number of 64 bits, True, False, None, or a list or dict (keys are text) of these"
    )
    raise refusal(_where(name, path), value, allowed, name)


def _where(name: str, path: tuple[str | int, ...]) -> str:
    return name + "".join(f"[{step!r}]" for step in path)


#: The largest integer of the protocols: 64 bits, signed.
_MOST = 2**63 - 1


def _number(value: Any) -> Any:
    """`value` as an int or a float, if it is a number of another type."""
    if type(value) in (int, float):
        return value
    value = to_builtin(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return int(value) if isinstance(value, int) else float(value)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def number(allowed: str, low: float, high: float = math.inf, *, above: bool = False) -> Check:
    """A check for finite numbers in [low, high]; in (low, high] with `above`."""

    def check(name: str, value: Any) -> float:
        known: float | None = value if type(value) in (int, float) else _number(value)
        if known is None or not _finite(known) or known < low or known > high or (above and known == low):
            raise refusal(name, value, allowed)
        return known

    return check


def integer(allowed: str, low: int, high: int | None = None) -> Check:
    """A check for integers in [low, high]; a float without fraction (3.0) is converted."""

    def check(name: str, value: Any) -> int:
        known: int | float | None = value if type(value) is int else _number(value)
        if known is None or known != known // 1 or known < low or (high is not None and known > high):
            raise refusal(name, value, allowed)
        return int(known)

    return check


def concurrency(name: str, value: Any) -> Any:
    """A number of calls at once, or 'auto'."""
    if isinstance(value, str) and value == "auto":
        return "auto"
    return integer("an integer of 1 or more, or 'auto'", 1)(name, value)


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if value is True or value is False:
        return value
    if not isinstance(known := to_builtin(value), bool):
        raise refusal(name, value, "True or False")
    return known


def optional(check: Check) -> Check:
    """A check for None or what `check` accepts."""
    return lambda name, value: None if value is None else check(name, value)


def encodable_text(name: str, value: str, *path: str | int) -> str:
    """Text that UTF-8 can encode: no half of a surrogate pair (an emoji that JavaScript has cut)."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise InvalidArgument(
                f"{_where(name, path)}: {half!r} at {error.start} is half a character, which is no text",
                argument=name,
            ) from None
    return value if type(value) is str else str.__str__(value)


def stop_words(name: str, value: Any) -> tuple[str, ...] | None:
    """None, a string or several strings; duplicates are removed."""
    if value is None:
        return None
    words = [value] if isinstance(value, str) else listed(value)
    if words is None:
        raise refusal(name, value, "None, a string, or a list of strings")
    for word in words:
        if not isinstance(word, str) or not word:
            raise refusal(name, value, "None, a string, or a list of strings that are not empty")
    return tuple(dict.fromkeys(encodable_text(name, word) for word in words))


def logprobs(name: str, value: Any) -> int | None:
    """None or False for none, else the number of alternatives (True is 0)."""
    known = value if type(value) in (int, bool) else to_builtin(value)
    if known is None or known is False:
        return None
    if known is True:
        return 0
    return int(integer("None, True, or a number of alternatives from 0 to 20", 0, 20)(name, value))


def optional_name(name: str, value: Any) -> Any:
    """None or a string that is not empty."""
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise refusal(name, value, "None or a string that is not empty")
    return encodable_text(name, value)


def api_key(name: str, value: Any) -> str | None:
    """None or a string, never shown; an empty one (an environment variable without a value) is None."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidArgument(f"{name}: expected a string, got {type(value).__name__}", argument=name)
    if value != value.strip():  # the value is not shown: it is secret
        raise InvalidArgument(f"{name}: it begins or ends with white space; strip it", argument=name)
    return str.__str__(value) or None


def merged_adapters(name: str, value: Any) -> Any:
    """None, a dict, or LoRAX's `MergedAdapters`."""
    if value is None or (hasattr(value, "ids") and hasattr(value, "weights")):
        return value
    if not isinstance(value, Mapping):
        raise refusal(name, value, "None or a dict such as {'ids': ['a', 'b'], 'weights': [0.5, 0.5]}")
    return plain(name, value)


#: Variables of chat templates that are parameters of calls.
_OF_CALLS = frozenset(("messages", "tools", "add_generation_prompt", "continue_final_message", "self"))


def chat_template_kwargs(name: str, value: Any) -> Any:
    """None or a dict of variables for a chat template; `now` (a date, or its ISO form) becomes text."""
    if value is None:
        return None
    known = to_builtin(value)
    if not isinstance(known, Mapping):
        raise refusal(name, value, "None or a dict such as {'enable_thinking': False}")
    if stray := sorted(_OF_CALLS.intersection(known)):
        raise InvalidArgument(
            f"{name}[{stray[0]!r}]: {stray[0]} is given by the call itself, not as a variable", argument=name
        )
    given = dict(known)
    if given.get("now") is not None:
        try:
            now = given["now"]
            given["now"] = (
                now.isoformat() if isinstance(now, date) else datetime.fromisoformat(now).isoformat()
            )
        except (TypeError, ValueError):
            raise refusal(f"{name}['now']", now, "a datetime, or a text such as '2025-01-31'", name) from None
    return plain(name, given)


def wire_parameters(name: str, value: Any) -> Any:
    """None or a dict of plain values, with integers of 64 bits; an empty dict becomes None."""
    if value is None:
        return None
    allowed = "None or a dict of strings, True, False and numbers (integers from -(2**63 - 1) to 2**63 - 1)"
    if not isinstance(value, Mapping):
        raise refusal(name, value, allowed)
    known = plain(name, value)
    for item in known.values():
        if not isinstance(item, (int, float, str)) or (isinstance(item, int) and abs(item) > _MOST):
            raise refusal(name, value, allowed)
    return known or None


def session_id(name: str, value: Any) -> int:
    """An integer from 0 to 2**63 - 1."""
    known = value if type(value) is int else _number(value)
    if not isinstance(known, int) or not 0 <= known <= _MOST:
        raise refusal(name, value, "an integer of 0 or more (at most 2**63 - 1)")
    return known


def priority(name: str, value: Any) -> int | None:
    """None or an integer from 0 to 2**63 - 1."""
    if value is None:
        return None
    return int(integer("None or an integer of 0 or more (at most 2**63 - 1)", 0, _MOST)(name, value))


def request_id(name: str, value: Any) -> str:
    """A string; an integer is converted."""
    known = value if type(value) is str else to_builtin(value)
    if not isinstance(known, (str, int)) or isinstance(known, bool):
        raise refusal(name, value, "a string")
    return encodable_text(name, known) if isinstance(known, str) else str(known)


def _one_of(*words: str) -> Check:
    """Make a check for one of `words`."""
    allowed = " or ".join((", ".join(map(repr, words[:-1])), repr(words[-1])))

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise refusal(name, value, allowed)
        return encodable_text(name, value)

    return check


injection = _one_of("allow", "escape", "refuse")
on_error = _one_of("raise", "status")
sampling = _one_of("client", "server")


def tool_parser(name: str, value: Any) -> str | None:
    """Check the name of a parser of tool calls; which there are is checked with the template."""
    value = to_builtin(value)
    if value is not None and (not isinstance(value, str) or not value):
        raise refusal(name, value, "'auto', the name of a parser, or None")
    return None if value == "none" else value


def reasoning(name: str, value: Any) -> str | tuple[str, str] | None:
    """Check how reasoning is split off: 'auto', None or 'none', or two tags."""
    value = to_builtin(value)
    if value in (None, "none", "auto"):
        return None if value == "none" else value
    tags = listed(value)
    if tags is None or len(tags) != 2 or not all(isinstance(tag, str) and tag.strip() for tag in tags):
        raise refusal(name, value, "'auto', 'none', None, or a pair of tags such as ('<think>', '</think>')")
    return encodable_text(name, tags[0]), encodable_text(name, tags[1])
