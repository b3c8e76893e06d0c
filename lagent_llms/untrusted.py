"""Decode JSON that a server or a model wrote. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["DECODE_ERRORS", "read_json"]

#: What decoding such JSON raises: it is malformed or of another type, has a number of thousands of digits, or
#: is nested too deep for the stack.
DECODE_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError, MemoryError)
#: Deepest nesting of a value that is passed on. To copy, print or encode it takes as many levels of the stack
#: again, wherever the caller does that.
_MAX_DEPTH = 128


def read_json(data: bytes | str) -> Any:
    """Decode JSON of any structure.

    Raises:
        msgspec.DecodeError: It is malformed, or nested more than 128 levels deep.
    """
    try:
        value = msgspec.json.decode(data)
    except DECODE_ERRORS as error:
        raise msgspec.DecodeError(f"not JSON: {error}") from None
    level: list[Any] = [value]
    for _ in range(_MAX_DEPTH + 1):
        level = [child for item in level for child in _children(item)]
        if not level:
            return value
    raise msgspec.DecodeError(f"JSON nested more than {_MAX_DEPTH} levels deep")


def _children(value: object) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
