"""Read JSON that is not quite as a protocol says, as far as its meaning is clear. No I/O."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, TypeVar

import msgspec

__all__ = [
    "SurrogateJoiner",
    "WrongField",
    "convert",
    "has_halves",
    "is_truncated",
    "load_json",
    "whole_text",
]

T = TypeVar("T")

#: Maximum number of wrong fields that `convert` leaves out.
_MAX_WRONG = 64
_PATH = re.compile(r"(?<!required field) - at `\$(.*)`$", re.S)

has_halves = re.compile("[\ud800-\udfff]").search


class WrongField(ValueError):
    """A field that is needed has a value that cannot be used."""

    def __init__(self, field: str, expected: str, found: object) -> None:
        shown = json.dumps(found, default=repr)[:200]
        super().__init__(f"{field} must be {expected}, got {shown}")


class SurrogateJoiner:
    """Joins the halves of characters (surrogates, UTF-8 sequences) that a server cut over two events."""

    def __init__(self) -> None:
        self._pairs = codecs.getincrementaldecoder("utf-16-le")("surrogatepass")
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, text: str, *, final: bool = False) -> str:
        """Take the next text; return it in whole characters, U+FFFD in place of halves without the other."""
        text = self._pairs.decode(text.encode("utf-16-le", "surrogatepass"), final)
        text = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)  # all but the bytes of `load_json`
        return self._bytes.decode(text.encode("utf-8", "surrogateescape"), final)


def whole_text(text: str) -> str:
    """Return `text` with U+FFFD in place of halves of characters."""
    return text if text.isascii() else SurrogateJoiner().feed(text, final=True)


def load_json(data: bytes) -> Any:
    """Decode JSON that is not strict: with NaN, a byte order mark, half characters (as surrogates).

    Raises:
        ValueError: It is no JSON.
    """
    text = data.decode("utf-8", "surrogateescape").lstrip("\ufeff \t\r\n")
    try:
        return json.loads(text, strict=False)
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error


def is_truncated(data: bytes) -> bool:
    """Whether data at the end of a body is the beginning of an object, or of the final marker."""
    if data[:1] != b"{":
        return b"[DONE]".startswith(data) and data != b"[DONE]"
    try:
        load_json(data)
    except ValueError:
        return True
    return False


def convert(found: Any, kind: type[T]) -> T:
    """Convert decoded JSON to `kind`; wrong fields that are not needed are left out.

    Raises:
        msgspec.ValidationError: A field that is needed is missing or wrong.
    """
    for _ in range(_MAX_WRONG):
        try:
            return msgspec.convert(found, kind, strict=False)
        except msgspec.ValidationError as error:
            message = str(error)
            path = _PATH.search(message)
            if path is None or message.startswith("Object missing") or not _leave_out(found, path[1]):
                raise
    return msgspec.convert(found, kind, strict=False)


def _leave_out(found: Any, path: str) -> bool:
    """Remove the field of an object at `path` ('.details.tokens[3].logprob'); False if there is none."""
    *parents, last = re.findall(r"\.([^.\[]+)|\[(\d+)\]", path) or [("", "")]
    try:
        for name, index in parents:
            found = found[name] if name else found[int(index)]
        del found[last[0]]
    except (KeyError, IndexError, TypeError):
        return False
    return True
