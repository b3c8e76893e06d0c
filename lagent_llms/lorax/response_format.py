"""`response_format`: constrain the text by a JSON schema, a pydantic model or a regular expression."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from ..structured.formats import is_schema
from .base_model import BaseModel
from .error_types import ValidationError

__all__ = ["ResponseFormat", "ResponseFormatType", "response_format"]


class ResponseFormatType(str, Enum):
    """Types of formats that the server supports."""

    json_object = "json_object"
    json_schema = "json_schema"
    text = "text"


class ResponseFormat(BaseModel):
    """A constraint on the text.

    Attributes:
        type: 'json_object' or 'json_schema' (synonyms), or 'text' for no constraint.
        schema: JSON schema; None allows any JSON object.
    """

    type: str
    schema: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        plain = self.type.value if isinstance(self.type, Enum) else self.type
        allowed = [one.value for one in ResponseFormatType]
        if plain not in allowed:
            raise _format_error(f"`type` must be one of {allowed}, got {self.type!r}")
        self.type = str(plain)
        if self.schema is not None and not isinstance(self.schema, Mapping):
            raise _format_error(f"`schema` must be a JSON schema (dict), got {self.schema!r}")

    @property
    def schema_spec(self) -> dict[str, Any] | None:
        """`schema` under lorax-client's name."""
        return self.schema


def response_format(value: Any) -> ResponseFormat:
    """Convert `value` to a `ResponseFormat`.

    Args:
        value: A `ResponseFormat`; a dict in LoRAX's form (``{"type": "json_object", "schema": {…}}``) or in
            OpenAI's (``{"type": "json_schema", "json_schema": {"schema": {…}}}``); a JSON schema; a pydantic
            model class; or a regular expression (string or compiled). The generated text is always JSON: for
            a regular expression, a JSON string whose content matches.

    Raises:
        ValidationError: `value` is none of these.
    """
    if isinstance(value, ResponseFormat):
        return value
    if isinstance(value, (str, re.Pattern)):
        return ResponseFormat("json_object", {"type": "string", "pattern": _pattern(value)})
    if isinstance(value, type):
        return ResponseFormat("json_object", _schema_of(value))
    if not isinstance(value, Mapping):
        raise _format_error(
            "`response_format` must be a ResponseFormat, a dict, a JSON schema, a pydantic model class or a "
            f"regular expression, got {value!r}"
        )
    kind = value.get("type")
    if isinstance(kind, Enum):
        kind = kind.value
    if is_schema({**value, "type": kind}):
        return ResponseFormat("json_object", dict(value))
    if kind is None:
        raise _format_error(
            f"`response_format` has neither a 'type' nor a keyword of a JSON schema: {dict(value)!r}"
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
            raise _format_error("`response_format`: the regular expression must be for str, not for bytes")
        return str(value.pattern)
    try:
        re.compile(value)
    except re.error as error:
        raise _format_error(f"`response_format`={value!r} is not a regular expression: {error}") from error
    return value


def _schema_of(model: type) -> dict[str, Any]:
    """JSON schema of a pydantic model class (version 1 or 2), without importing pydantic."""
    for name in ("model_json_schema", "schema"):
        make = getattr(model, name, None)
        if callable(make):
            schema: dict[str, Any] = make()
            return schema
    raise _format_error(f"`response_format`: {model.__name__} is not a pydantic model class")


def _format_error(message: str) -> ValidationError:
    return ValidationError(message, argument="response_format")
