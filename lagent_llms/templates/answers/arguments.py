"""The arguments of a call, where a model does not write them as JSON. Pure."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...untrusted import DECODE_ERRORS, read_json

__all__ = ["argument_schema", "is_text", "python_calls", "quoted_json", "value_of"]

_WORDS = {"true": True, "false": False, "none": None, "null": None}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "integer": (int,), "number": (int, float), "boolean": (bool,), "object": (dict,), "array": (list,),
    "null": (type(None),),
}  # fmt: skip
#: What reading Python raises: it is malformed, no literal, or nested too deep.
_SYNTAX_ERRORS = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|([^\s{}\[\],:"]+)(\s*:)?|.', re.DOTALL)


def argument_schema(tools: Iterable[Any], tool: str, key: str) -> Mapping[str, Any]:
    """The JSON schema of an argument, empty if it is unknown.

    Args:
        tools: Descriptions of the tools, in OpenAI's form or their inner 'function'.
        tool: Name of the tool.
        key: Name of the argument.
    """
    for item in tools:
        found: Any = item.get("function", item) if isinstance(item, Mapping) else None
        if isinstance(found, Mapping) and found.get("name") == tool:
            for step in ("parameters", "properties", key):
                found = found.get(step) if isinstance(found, Mapping) else None
            return found if isinstance(found, Mapping) else {}
    return {}


def is_text(schema: Mapping[str, Any]) -> bool:
    """True if an argument can only be a string."""
    return _types(schema) == {"string"}


def value_of(text: str, schema: Mapping[str, Any]) -> Any:
    """The value of an argument that a model wrote as text: of a type the schema allows, else a string."""
    allowed = _types(schema)
    word = text.strip()
    try:
        value = _WORDS[word.lower()] if word.lower() in _WORDS else _read_literal(word)
    except (*DECODE_ERRORS, *_SYNTAX_ERRORS):
        return text
    if isinstance(value, str) or (allowed and not any(_is_a(value, name) for name in allowed)):
        return text
    return value


def _read_literal(word: str) -> Any:
    """Decode JSON; of objects and lists, as Python writes them as well."""
    try:
        return read_json(word)
    except DECODE_ERRORS:
        if word[:1] not in ("{", "["):
            raise
        return read_json(json.dumps(ast.literal_eval(word)))


def _is_a(value: object, name: str) -> bool:
    number = name in ("integer", "number")
    return isinstance(value, _TYPES.get(name, ())) and not (number and isinstance(value, bool))


def _types(schema: Mapping[str, Any]) -> set[str]:
    """Names of the types that a schema allows, empty for any."""
    given = schema.get("type")
    if given is None:
        choices = schema.get("anyOf") or schema.get("oneOf")
        inner = [_types(item) if isinstance(item, Mapping) else set() for item in choices or ()]
        return set().union(*inner) if inner and all(inner) else set()
    return {str(name) for name in (given if isinstance(given, (list, tuple)) else [given])}


def python_calls(source: str) -> list[tuple[str, str]]:
    """The calls in a list in Python, ``[f(x=1), g(y="a")]``: names, and arguments as JSON; [] if none."""
    try:
        tree = ast.parse(source.strip(), mode="eval").body
        if not isinstance(tree, ast.List) or not all(_is_call(item) for item in tree.elts):
            return []
        return [
            (
                ast.unparse(item.func),
                json.dumps(
                    {word.arg: ast.literal_eval(word.value) for word in item.keywords}, ensure_ascii=False
                ),
            )
            for item in tree.elts
            if isinstance(item, ast.Call)
        ]
    except _SYNTAX_ERRORS:
        return []


def _is_call(item: ast.expr) -> bool:
    return (
        isinstance(item, ast.Call)
        and isinstance(item.func, (ast.Name, ast.Attribute))
        and not item.args
        and all(word.arg for word in item.keywords)
    )


def quoted_json(parts: Iterable[str]) -> str:
    """JSON for an object whose keys are bare words and whose strings stood between marks.

    Args:
        parts: Text outside and inside of the marks, in turn.
    """
    return "".join(
        json.dumps(part, ensure_ascii=False) if place % 2 else _TOKEN.sub(_bare, part)
        for place, part in enumerate(parts)
    )


def _bare(found: re.Match[str]) -> str:
    word, colon = found[1], found[2]
    if word is None:
        return found[0]
    if colon is None:
        try:
            read_json(word)
        except DECODE_ERRORS:
            return json.dumps(word, ensure_ascii=False)
        return word
    return json.dumps(word, ensure_ascii=False) + colon
