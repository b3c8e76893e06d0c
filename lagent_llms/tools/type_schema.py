"""JSON schemas of type hints as transformers writes them, and of dataclasses, TypedDicts, pydantic models."""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Iterable
from enum import Enum
from typing import Annotated, Any, Literal, Union

__all__ = ["ALLOWED_HINTS", "NoSchema", "TypeSchemas", "description_of"]

ALLOWED_HINTS = (
    "int, float, str, bool, None, Any, list, tuple, set, dict, Literal, Optional and Union of these, Enum "
    "classes, dataclasses, TypedDicts and pydantic models"
)

#: The types of JSON scalars.
_SCALARS = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
#: Names of the arrays and objects of JSON, by the classes of hints without further types.
_CONTAINERS: dict[Any, str] = {
    **dict.fromkeys(
        (
            *(list, tuple, set, frozenset),
            *(collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Set),
            *(collections.abc.Collection, collections.abc.Iterable),
        ),
        "array",
    ),
    **dict.fromkeys((dict, collections.abc.Mapping, collections.abc.MutableMapping), "object"),
}
#: ``Required`` and ``NotRequired`` of both typing and typing_extensions, by name.
_QUALIFIERS = ("Required", "NotRequired", "ReadOnly")


class NoSchema(Exception):
    """A type hint without a JSON schema; its text is the hint."""

    def __init__(self, hint: object) -> None:
        super().__init__(hint.__qualname__ if isinstance(hint, type) else str(hint).replace("typing.", ""))


def description_of(hint: Any) -> str | None:
    """The description in ``Annotated[type, 'description']`` or ``Annotated[type, Field(description=…)]``."""
    for item in getattr(hint, "__metadata__", ()):
        text = item if isinstance(item, str) else getattr(item, "description", None)
        if isinstance(text, str):
            return text
    return None


class TypeSchemas:
    """Makes the schemas of the hints of one function.

    Attributes:
        definitions: The ``$defs`` to which the schemas made so far refer.
    """

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}
        self._within: list[type] = []  # classes whose fields are being converted

    def of(self, hint: Any) -> dict[str, Any]:
        """The schema of a hint.

        Raises:
            NoSchema: The hint, or a part of it, has none.
        """
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is Annotated:
            return self.of(args[0])
        if getattr(origin, "_name", "") in _QUALIFIERS:
            return self.of(args[0])
        if origin is Union or origin is types.UnionType:
            return self._union(args)
        if origin is Literal:
            return _enum(args, hint)
        if origin is None:
            return self._of_class(hint)
        if origin not in _CONTAINERS:
            raise NoSchema(hint)
        return self._container(origin, args)

    def _of_class(self, hint: Any) -> dict[str, Any]:
        if hint is Any:
            return {}
        if (supertype := getattr(hint, "__supertype__", None)) is not None:  # NewType
            return self.of(supertype)
        if not isinstance(hint, type):
            value = getattr(hint, "__value__", None)  # an alias by the statement `type`
            if value is None:
                raise NoSchema(hint)
            return self.of(value)
        if hint in _SCALARS:
            return {"type": _SCALARS[hint]}
        if hint in _CONTAINERS:
            return {"type": _CONTAINERS[hint]}
        if issubclass(hint, Enum):
            return _enum([member.value for member in hint], hint)
        if callable(convert := getattr(hint, "model_json_schema", None)):
            return self._of_model(convert())
        return self._of_fields(hint)

    def _union(self, args: tuple[Any, ...]) -> dict[str, Any]:
        schemas = [self.of(arg) for arg in args if arg is not type(None)]
        if len(schemas) == 1:
            schema = schemas[0]
        elif all(one.keys() == {"type"} and isinstance(one["type"], str) for one in schemas):
            kinds = sorted({one["type"] for one in schemas})
            schema = {"type": kinds[0] if len(kinds) == 1 else kinds}
        else:
            schema = {"anyOf": schemas}
        return {**schema, "nullable": True} if type(None) in args else schema

    def _container(self, origin: type, args: tuple[Any, ...]) -> dict[str, Any]:
        if _CONTAINERS[origin] == "object":
            return {"type": "object", "additionalProperties": self.of(args[1])}
        if origin is tuple and args[-1:] != (...,):
            return {"type": "array", "prefixItems": [self.of(arg) for arg in args]}
        return {"type": "array", "items": self.of(args[0])}

    def _of_model(self, schema: dict[str, Any]) -> dict[str, Any]:
        """A pydantic model's own schema; what it refers to belongs at the root of the parameters."""
        self.definitions |= schema.pop("$defs", {})
        return schema

    def _of_fields(self, hint: type) -> dict[str, Any]:
        """The schema of a dataclass or a TypedDict."""
        if dataclasses.is_dataclass(hint):
            required = [
                field.name
                for field in dataclasses.fields(hint)
                if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            ]
            names: Iterable[str] = [field.name for field in dataclasses.fields(hint) if field.init]
        elif (needed := getattr(hint, "__required_keys__", None)) is not None:
            names = hint.__annotations__
            required = [name for name in names if name in needed]
        else:
            raise NoSchema(hint)
        try:
            hints = typing.get_type_hints(hint, include_extras=True)
        except NameError:
            raise NoSchema(hint) from None
        if hint in self._within:  # it would have to refer to itself
            raise NoSchema(hint)
        self._within.append(hint)
        properties = {name: self._described(hints[name]) for name in names}
        self._within.pop()
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        return {**schema, "required": required} if required else schema

    def _described(self, hint: Any) -> dict[str, Any]:
        schema, text = self.of(hint), description_of(hint)
        return schema if text is None else {**schema, "description": text}


def _enum(values: Iterable[Any], hint: Any) -> dict[str, Any]:
    known = [value.value if isinstance(value, Enum) else value for value in values]
    if not known or any(type(value) not in _SCALARS for value in known):
        raise NoSchema(hint)
    kinds = list(dict.fromkeys(_SCALARS[type(value)] for value in known))
    return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": known}
