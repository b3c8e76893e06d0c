"""What a text has to look like: a dict, a JSON schema, a pydantic model or a regular expression."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from .error_types import ValidationError
from .models import Model

__all__ = ["ResponseFormat", "ResponseFormatType", "response_format"]

#: Words by which a dict is known to be a JSON schema and not a format with one in it.
_SCHEMA_WORDS = frozenset(
    {
        "$defs", "$ref", "$schema", "allOf", "anyOf", "const", "enum", "items", "oneOf", "pattern",
        "properties", "required", "title",
    }
)  # fmt: skip
_SCHEMA_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})


class ResponseFormatType(str, Enum):
    """What the server knows."""

    json_object = "json_object"
    json_schema = "json_schema"
    text = "text"


class ResponseFormat(Model):
    """A constraint on the text.

    Attributes:
        type: 'json_object' or 'json_schema', which are the same; 'text' is no constraint.
        schema: A JSON schema; None is any JSON object.
    """

    type: str
    schema: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        plain = self.type.value if isinstance(self.type, Enum) else self.type
        allowed = [one.value for one in ResponseFormatType]
        if plain not in allowed:
            raise _refuse(f"`type` must be one of {allowed}, got {self.type!r}")
        self.type = str(plain)
        if self.schema is not None and not isinstance(self.schema, Mapping):
            raise _refuse(f"`schema` must be a JSON schema (dict), got {self.schema!r}")

    @property
    def schema_spec(self) -> dict[str, Any] | None:
        """lorax-client's name of `schema`."""
        return self.schema


def response_format(value: Any) -> ResponseFormat:
    """`value` as the server takes it.

    Args:
        value: A `ResponseFormat`; a dict as the server takes it (``{"type": "json_object", "schema": {…}}``)
            or as OpenAI does (``{"type": "json_schema", "json_schema": {"schema": {…}}}``); a JSON schema; a
            pydantic model class; a regular expression (a string or compiled). The text is JSON in every case:
            for a regular expression a JSON string whose content matches.

    Raises:
        ValidationError: It is none of these.
    """
    if isinstance(value, ResponseFormat):
        return value
    if isinstance(value, (str, re.Pattern)):
        return ResponseFormat("json_object", {"type": "string", "pattern": _pattern(value)})
    if isinstance(value, type):
        return ResponseFormat("json_object", _schema_of(value))
    if not isinstance(value, Mapping):
        raise _refuse(
            "`response_format` must be a ResponseFormat, a dict, a JSON schema, a pydantic model class or a "
            f"regular expression, got {value!r}"
        )
    kind = value.get("type")
    if isinstance(kind, Enum):
        kind = kind.value
    if (isinstance(kind, str) and kind in _SCHEMA_TYPES) or isinstance(kind, list):
        return ResponseFormat("json_object", dict(value))
    if kind is None and _SCHEMA_WORDS & set(value):
        return ResponseFormat("json_object", dict(value))
    if kind is None:
        raise _refuse(
            f"`response_format` has neither a 'type' nor the words of a JSON schema: {dict(value)!r}"
        )
    schema = value.get("schema")
    if schema is None and isinstance(value.get("json_schema"), Mapping):
        schema = value["json_schema"].get("schema")
    if isinstance(schema, type):
        schema = _schema_of(schema)
    return ResponseFormat(kind, schema)


def _pattern(value: str | re.Pattern[Any]) -> str:
    if isinstance(value, re.Pattern):
        if isinstance(value.pattern, bytes):
            raise _refuse("`response_format`: a regular expression for text is needed, not for bytes")
        return str(value.pattern)
    try:
        re.compile(value)
    except re.error as error:
        raise _refuse(f"`response_format`={value!r} is no regular expression: {error}") from error
    return value


def _schema_of(model: type) -> dict[str, Any]:
    """The JSON schema of a pydantic model class, of version 2 or 1; pydantic itself is not needed."""
    for name in ("model_json_schema", "schema"):
        make = getattr(model, name, None)
        if callable(make):
            schema: dict[str, Any] = make()
            return schema
    raise _refuse(f"`response_format`: {model.__name__} is no pydantic model: it has no model_json_schema()")


def _refuse(message: str) -> ValidationError:
    return ValidationError(message, argument="response_format")
