"""The check of ``response_format=``: every form of a constraint that callers have, into four dicts. Pure.

The checked value is one of

- ``{"type": "json_object"}``: any JSON object,
- ``{"type": "json_schema", "json_schema": {"name": …, "schema": {…}}}``: JSON, as OpenAI names it,
- ``{"type": "regex_schema", "regex_schema": …}``: text that matches, as lmdeploy names it,
- ``{"type": "choice", "choice": […]}``: one of several texts,

or a dict with another ``type``, which is passed to the server as it is.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal, TypeAlias

from .. import validators
from ..errors import InvalidArgument

__all__ = ["Kind", "choice_as_regex", "is_schema", "kind_of", "regex_of", "response_format", "schema_of"]

#: 'json' is any JSON object, 'other' a form that only the server knows.
Kind: TypeAlias = Literal["json", "schema", "regex", "choice", "other"]

_KINDS: Mapping[str, Kind] = {
    "json_object": "json",
    "json_schema": "schema",
    "regex_schema": "regex",
    "choice": "choice",
}
#: Keywords that mark a dict as a JSON schema, not as a format that contains one.
_SCHEMA_KEYWORDS = frozenset(
    {
        "$defs", "$ref", "$schema", "allOf", "anyOf", "const", "enum", "items", "oneOf", "pattern",
        "properties", "required", "title",
    }
)  # fmt: skip
_SCHEMA_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
#: The name of a schema without one; OpenAI's form needs it.
_NAME = "answer"
_ALLOWED = (
    "None; a JSON schema; a pydantic model, msgspec Struct, dataclass, TypedDict, Enum or Literal; a "
    "compiled regular expression; a list of texts; or a dict such as {'type': 'json_schema', 'json_schema': "
    "{'schema': {…}}}"
)
#: What a regular expression must escape.
_SPECIAL = re.compile(r"[\\.^$*+?()\[\]{}|]")


def response_format(name: str, value: Any) -> dict[str, Any] | None:
    """Convert a constraint to one of the forms above; ``{"type": "text"}``, which allows any text, to None.

    Raises:
        InvalidArgument: It is no constraint, or a part of it cannot be sent.
    """
    if value is None:
        return None
    if isinstance(value, re.Pattern):
        return _regex(name, value)
    if isinstance(value, Mapping):
        return _of_dict(name, validators.plain(name, value))
    if isinstance(value, type) or typing.get_origin(value) is not None:
        return _of_type(name, value)
    if (texts := validators.listed(value)) is not None:
        return _choice(name, texts)
    if isinstance(known := validators.to_builtin(value), Mapping):
        return _of_dict(name, validators.plain(name, known))
    raise validators.refusal(name, value, _ALLOWED)


def is_schema(value: Mapping[str, Any]) -> bool:
    """Whether a dict is a JSON schema, not a format that may contain one."""
    kind = value.get("type")
    if kind is None:
        return not _SCHEMA_KEYWORDS.isdisjoint(value)
    return isinstance(kind, list) or (isinstance(kind, str) and kind in _SCHEMA_TYPES)


def kind_of(checked: Mapping[str, Any]) -> Kind:
    """What a checked value constrains the answer to."""
    return _KINDS.get(checked["type"], "other")


def schema_of(checked: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of a checked value of the kinds 'json' and 'schema'."""
    wrapped = checked.get("json_schema")
    schema: dict[str, Any] = {"type": "object"} if wrapped is None else wrapped["schema"]
    return schema


def regex_of(checked: Mapping[str, Any]) -> str:
    """The regular expression of a checked value of the kinds 'regex' and 'choice'."""
    if kind_of(checked) == "choice":
        return "|".join(_SPECIAL.sub(r"\\\g<0>", text) for text in checked["choice"])
    pattern: str = checked["regex_schema"]
    return pattern


def choice_as_regex(checked: Mapping[str, Any]) -> dict[str, Any]:
    """A checked value for servers that know regular expressions, but no choices."""
    if kind_of(checked) != "choice":
        return dict(checked)
    return {"type": "regex_schema", "regex_schema": regex_of(checked)}


def _of_dict(name: str, known: dict[str, Any]) -> dict[str, Any] | None:
    kind = known.get("type")
    if is_schema(known):
        return _schema(known)
    if not isinstance(kind, str):
        raise validators.refusal(name, known, _ALLOWED)
    if kind == "text":
        return None
    if kind == "json_object" and isinstance(known.get("schema"), dict):  # LoRAX's form
        return _schema(known["schema"])
    if kind == "json_schema":
        return _of_wrapped(name, known)
    if kind == "regex_schema" and not (isinstance(pattern := known.get(kind), str) and pattern):
        raise InvalidArgument(
            f"{name}['regex_schema']={pattern!r}: allowed is a regular expression (text)", argument=name
        )
    return _choice(name, known.get("choice")) if kind == "choice" else known


def _of_wrapped(name: str, known: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's form; the schema may also lie beside the type, as in OpenAI's responses."""
    wrapped = known.get("json_schema", {key: known[key] for key in known if key != "type"})
    if isinstance(wrapped, dict):
        if isinstance(schema := wrapped.get("schema"), dict):
            return {"type": "json_schema", "json_schema": {"name": _NAME, **wrapped, "schema": schema}}
        if is_schema(wrapped):
            return _schema(wrapped)
    raise InvalidArgument(
        f"{name}={validators.shown(known)}: it has no schema; allowed is {{'type': 'json_schema', "
        "'json_schema': {'schema': {…}}}",
        argument=name,
    )


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": _NAME, "schema": schema}}


def _of_type(name: str, value: Any) -> dict[str, Any]:
    texts: list[Any] = []
    if typing.get_origin(value) is Literal:
        texts = [item.value if isinstance(item, Enum) else item for item in typing.get_args(value)]
    elif isinstance(value, type) and issubclass(value, Enum):
        texts = [member.value for member in value]
    if texts and all(isinstance(text, str) for text in texts):
        return _choice(name, texts)
    from .output_types import OutputType  # here, because it needs msgspec

    try:
        return OutputType(value).format(wrapped=False)
    except TypeError as error:
        raise InvalidArgument(
            f"{name}={validators.shown(value)}: {error}; allowed is {_ALLOWED}", argument=name
        ) from error


def _regex(name: str, pattern: re.Pattern[Any]) -> dict[str, Any]:
    if not isinstance(pattern.pattern, str):
        raise validators.refusal(name, pattern, "a regular expression of text, not of bytes")
    if not pattern.pattern:
        raise validators.refusal(name, pattern, "a regular expression that is not empty")
    if pattern.flags & ~re.UNICODE:
        raise validators.refusal(name, pattern, "a regular expression without flags: servers know none")
    return {"type": "regex_schema", "regex_schema": validators.encodable_text(name, pattern.pattern)}


def _choice(name: str, value: Any) -> dict[str, Any]:
    texts = validators.listed(value)
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise validators.refusal(name, value, "a list of texts that are not empty", name)
    known = [validators.encodable_text(name, text, index) for index, text in enumerate(texts)]
    return {"type": "choice", "choice": list(dict.fromkeys(known))}
