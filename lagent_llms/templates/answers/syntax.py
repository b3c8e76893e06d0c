"""The syntaxes in which models write calls of tools, as generators over a `Cursor`. Pure."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from ...untrusted import DECODE_ERRORS, read_json
from .arguments import argument_schema, is_text, python_calls, quoted_json, value_of
from .cursor import Cursor, Reading, read_balanced, read_match, read_space, read_until, skip
from .formats import CallFormat
from .sink import CallSink

__all__ = ["read_section"]

#: Characters of a string that needs no decoding.
_PLAIN = r'[^"\\{}\[\]\x00-\x1f]*'
_SECOND_BRACKET = re.compile(r"\{[^{}\[\]]*[{}\[\]]")
_compile = lru_cache(maxsize=256)(re.compile)


def read_section(cursor: Cursor, marks: CallFormat, calls: CallSink, mark: str) -> Reading:
    """Read calls after `mark`, and the marks after them; True if there was a call."""
    found = False
    at_item = bool(mark) and mark == marks.item
    while at_item or (yield from _next_item(cursor, marks, first=not found)):
        at_item = False
        yield from read_space(cursor)
        if marks.python:
            whole = yield from _python_calls(cursor, calls)
        elif marks.head and (marks.item or marks.quote or marks.parameter or cursor.next not in ("[", "{")):
            whole = yield from _named_call(cursor, marks, calls)
        else:
            whole = yield from _json_calls(cursor, marks, calls, bare=not mark)
        if not whole:
            break
        found = True
        for end in marks.item_end:
            yield from skip(cursor, end)
        cursor.keep()
    if found:
        yield from skip(cursor, marks.end)
        cursor.keep()
    return found


def _next_item(cursor: Cursor, marks: CallFormat, *, first: bool) -> Reading:
    """Read what stands before a call; True if one may follow."""
    if marks.item:
        return (yield from skip(cursor, marks.item))
    if first:
        return True
    if marks.head or marks.python:
        return False
    for separator in ",;":
        yield from skip(cursor, separator)
    yield from read_space(cursor)
    return cursor.next == "{"


def _json_calls(cursor: Cursor, marks: CallFormat, calls: CallSink, *, bare: bool) -> Reading:
    """Read a call, or a list of calls."""
    if cursor.next == "{":
        return (yield from _json_call(cursor, marks, calls, bare=bare))
    if cursor.next != "[":
        return False
    cursor.take(1)
    found = False
    while True:
        yield from skip(cursor, ",")
        if (yield from skip(cursor, "]")):
            return found
        if cursor.next != "{" or not (yield from _json_call(cursor, marks, calls, bare=bare)):
            return found
        found = True
        cursor.keep()


@lru_cache(maxsize=64)
def _json_head(marks: CallFormat) -> re.Pattern[str]:
    """A call up to its arguments, if its name precedes them."""
    name, identifier = re.escape(marks.name), re.escape(marks.id)
    keys = "|".join(map(re.escape, marks.arguments))
    return re.compile(
        rf'\{{\s*(?:"{identifier}"\s*:\s*"(?P<id>{_PLAIN})"\s*,\s*)?"{name}"\s*:\s*"(?P<name>{_PLAIN})"'
        rf'\s*,\s*"(?:{keys})"\s*:\s*(?=\{{)'
    )


def _json_call(cursor: Cursor, marks: CallFormat, calls: CallSink, *, bare: bool) -> Reading:
    """Read an object with name and arguments; one without a mark (`bare`) must have both."""
    parts: list[str] = []
    head = yield from read_match(cursor, _json_head(marks), _SECOND_BRACKET)
    if head is None:
        whole = yield from read_balanced(cursor, parts.append)
        return whole and _add_object(_decoded("".join(parts)), marks, calls, bare=bare)
    parts.append(head[0])
    calls.begin(head["name"], head["id"] or "")

    def write(text: str) -> None:
        parts.append(text)
        calls.write(text)

    if not (
        (yield from read_balanced(cursor, write))
        and (yield from read_balanced(cursor, parts.append, depth=1))
    ):
        return False
    value = _decoded("".join(parts))
    identifier = value.get(marks.id) if isinstance(value, dict) else None
    return isinstance(value, dict) and calls.end(identifier if isinstance(identifier, str) else "")


def _add_object(value: Any, marks: CallFormat, calls: CallSink, *, bare: bool) -> bool:
    """Add a decoded call; False if it is none."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = {marks.id: value.get(marks.id), **value["function"]}
    if not isinstance(value, dict) or not isinstance(value.get(marks.name), str):
        return False
    key = next((key for key in marks.arguments if key in value), "")
    if bare and not key:
        return False
    arguments = value.get(key)
    if isinstance(arguments, str):  # encoded once more
        arguments = _decoded(arguments)
    elif arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        return False
    identifier = value.get(marks.id)
    text = json.dumps(arguments, ensure_ascii=False)
    return calls.add(value[marks.name], text, identifier if isinstance(identifier, str) else "")


def _named_call(cursor: Cursor, marks: CallFormat, calls: CallSink) -> Reading:
    """Read a name, and arguments in one of the forms that follow a name."""
    head = yield from read_match(cursor, _compile(marks.head))
    if head is None:
        return False
    found = head.groupdict()
    name, identifier = found["name"], found.get("id") or ""
    if marks.quote:
        return (yield from _quoted_arguments(cursor, marks, calls, name))
    calls.begin(name, identifier)
    if marks.parameter:
        return (yield from _parameters(cursor, marks, calls, name))
    return (yield from read_balanced(cursor, calls.write)) and calls.end()


def _parameters(cursor: Cursor, marks: CallFormat, calls: CallSink, name: str) -> Reading:
    """Read arguments one by one, up to the mark after the call or the end of the answer."""
    ends = (*marks.item_end, marks.end)
    calls.write("{")
    first = True
    while (yield from _may_be_parameter(cursor, ends)):
        found = yield from read_match(cursor, _compile(marks.parameter))
        if found is None:
            return False
        key, raw = found["key"].strip(), found.groupdict().get("raw")
        schema = argument_schema(calls.tools, name, key)
        calls.write(("" if first else ", ") + json.dumps(key, ensure_ascii=False) + ": ")
        first = False
        if raw == "true" or (raw is None and is_text(schema)):
            write = _TextWriter(calls)
            calls.write('"')
            whole = yield from read_until(cursor, (marks.parameter_end,), write)
            calls.write('"')
        else:
            parts: list[str] = []
            whole = yield from read_until(cursor, (marks.parameter_end,), parts.append)
            text = "".join(parts).removeprefix("\n").removesuffix("\n")
            calls.write(json.dumps(value_of(text, schema), ensure_ascii=False))
        if not whole:
            return False
    calls.write("}")
    return (not cursor.final or bool(cursor.next) or not first) and calls.end()


def _may_be_parameter(cursor: Cursor, ends: tuple[str, ...]) -> Reading:
    """False if the call ends here."""
    while (yield from read_space(cursor)):
        rest = cursor.text[cursor.at : cursor.at + max(map(len, ends))]
        if any(rest.startswith(end) for end in ends):
            return False
        if cursor.final or not any(end.startswith(rest) for end in ends):
            return True
        yield
    return False


class _TextWriter:
    """Write an argument that is text, without the newline at its beginning and the one at its end."""

    def __init__(self, calls: CallSink) -> None:
        self._calls = calls
        self._started = False
        self._held = ""

    def __call__(self, text: str) -> None:
        if text and not self._started:
            self._started, text = True, text.removeprefix("\n")
        if text:
            text = self._held + text
            self._held = "\n" if text.endswith("\n") else ""
            self._calls.write(json.dumps(text.removesuffix("\n"), ensure_ascii=False)[1:-1])


def _quoted_arguments(cursor: Cursor, marks: CallFormat, calls: CallSink, name: str) -> Reading:
    """Read an object whose strings stand in quotes of their own, and the mark after it."""
    parts = [""]

    def write(text: str) -> None:
        parts[-1] += text

    while (mark := (yield from read_until(cursor, (marks.quote, marks.end), write))) == marks.quote:
        parts.append("")
        if not (yield from read_until(cursor, (marks.quote,), write)):
            return False
        parts.append("")
    value = _decoded(quoted_json(parts))
    if not isinstance(value, dict) or (not mark and not cursor.final):
        return False
    typed = {
        key: value_of(item, schema)
        if isinstance(item, str)
        and (schema := argument_schema(calls.tools, name, key))
        and not is_text(schema)
        else item
        for key, item in value.items()
    }
    return calls.add(name, json.dumps(typed, ensure_ascii=False))


def _python_calls(cursor: Cursor, calls: CallSink) -> Reading:
    """Read a list of calls in Python."""
    parts: list[str] = []
    if cursor.next != "[" or not (yield from read_balanced(cursor, parts.append, python=True)):
        return False
    found = python_calls("".join(parts))
    return bool(found) and all(calls.add(name, arguments) for name, arguments in found)


def _decoded(text: str) -> Any:
    try:
        return read_json(text)
    except DECODE_ERRORS:
        return None
