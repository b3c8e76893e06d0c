"""Types as outputs: the JSON schema of a type, and answers read as its instances. Pure.

msgspec knows dataclasses, its Structs, TypedDicts and the types of Python; pydantic's own types are left to
pydantic, which the caller has imported.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import msgspec

__all__ = ["OutputType"]

#: The field of the object that holds a value which is no object: servers may take objects only.
_FIELD = "value"
_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


class OutputType:
    """A type whose instances are read from answers.

    Its schema has every field as required, and no others, as OpenAI's strict form wants it: a field that may
    be missing is one that a model leaves out.

    Args:
        kind: A pydantic model, msgspec Struct, dataclass, TypedDict, or any other type with a JSON schema,
            such as ``list[str]``.

    Attributes:
        schema: Its JSON schema.
        name: A name for the schema.

    Raises:
        TypeError: It has no JSON schema.
    """

    def __init__(self, kind: Any) -> None:
        self._read, schema = _reader_and_schema(kind)
        self.schema = _inlined(schema)
        self._strict = _close(self.schema)
        self.name = _NOT_IN_NAMES.sub("_", getattr(kind, "__name__", "answer"))[:64] or "answer"
        self._wrapped = self.schema.get("type") != "object"

    def format(self, *, wrapped: bool = True) -> dict[str, Any]:
        """The `response_format` of its instances.

        Args:
            wrapped: Whether a type that is no object becomes the field of an object; `read` expects it.
        """
        schema = self.wrapped_schema if wrapped else self.schema
        strict = {"strict": True} if self._strict and schema.get("type") == "object" else {}
        return {"type": "json_schema", "json_schema": {"name": self.name, "schema": schema, **strict}}

    @property
    def wrapped_schema(self) -> dict[str, Any]:
        """The schema of an object: its own, or that of an object with the value as its only field."""
        if not self._wrapped:
            return self.schema
        value = dict(self.schema)
        definitions = {"$defs": value.pop("$defs")} if "$defs" in value else {}
        return {
            "type": "object",
            "properties": {_FIELD: value},
            "required": [_FIELD],
            "additionalProperties": False,
            **definitions,
        }

    def read(self, text: str) -> Any:
        """Read an instance from an answer; text around the JSON is allowed.

        Raises:
            ValueError: The answer has no JSON, or its value is not of the type.
        """
        error: ValueError | None = None
        for found in _candidates(text):
            try:
                return self._read(self._unwrapped(found))
            except (ValueError, msgspec.DecodeError) as refusal:  # one is the other since msgspec 0.21
                error = error or ValueError(str(refusal))  # that about the first candidate says most
        raise error or ValueError("the answer is empty")

    def _unwrapped(self, text: str) -> bytes | str:
        if not self._wrapped:
            return text
        fields = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        if _FIELD not in fields:
            raise ValueError(f"Object missing required field `{_FIELD}`")
        return bytes(fields[_FIELD])


def _candidates(text: str) -> list[str]:
    """The parts of an answer that may be the JSON: all of it, a Markdown block, from brace to brace."""
    found = [text.strip()] if text.strip() else []
    found += [block.strip() for block in _FENCED.findall(text)]
    if 0 <= (start := text.find("{")) < (end := text.rfind("}")):
        found.append(text[start : end + 1])
    return list(dict.fromkeys(found))


def _reader_and_schema(kind: Any) -> tuple[Callable[[bytes | str], Any], dict[str, Any]]:
    if callable(getattr(kind, "model_json_schema", None)):  # a pydantic model
        return kind.model_validate_json, kind.model_json_schema()
    pydantic = sys.modules.get("pydantic")
    if not hasattr(kind, "__pydantic_validator__"):  # not one of its dataclasses
        try:
            return msgspec.json.Decoder(kind).decode, msgspec.json.schema(kind)
        except (TypeError, NameError) as error:
            if pydantic is None:
                raise _no_schema(error) from error
    assert pydantic is not None
    try:
        adapter = pydantic.TypeAdapter(kind)
        return adapter.validate_json, adapter.json_schema()
    except (TypeError, NameError, pydantic.PydanticUserError) as error:
        raise _no_schema(error) from error


def _no_schema(error: Exception) -> TypeError:
    return TypeError(f"it has no JSON schema ({str(error).partition(chr(10))[0][:80]})")


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with the definition that its root refers to at its root: servers want an object there."""
    definitions = dict(schema.get("$defs", {}))
    root = schema.get("allOf", ())  # pydantic before 2.9
    reference = schema.get("$ref", "") or (root[0].get("$ref", "") if len(root) == 1 else "")
    own = definitions.get(reference.removeprefix("#/$defs/"))
    if own is None:
        return dict(schema)
    used = f'"{reference}"'.encode()
    if used not in msgspec.json.encode(definitions):
        del definitions[reference.removeprefix("#/$defs/")]
    return {**own, **({"$defs": definitions} if definitions else {})}


def _close(schema: Any) -> bool:
    """Make every field required and allow no others, here and in all parts.

    Returns:
        Whether the result is OpenAI's strict form: no object is open.
    """
    if not isinstance(schema, dict):
        return True
    strict = True
    if isinstance(properties := schema.get("properties"), dict):
        schema["required"] = list(properties)
        schema.setdefault("additionalProperties", False)
        for part in properties.values():
            if isinstance(part, dict):
                part.pop("default", None)
    if schema.get("type") == "object":
        strict = schema.get("additionalProperties") is False
    parts = [schema.get(key) for key in ("items", "additionalProperties")]
    for key in ("properties", "$defs"):
        parts += (schema.get(key) or {}).values()
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        parts += schema.get(key) or ()
    return strict & all(list(map(_close, parts)))  # all parts are closed
