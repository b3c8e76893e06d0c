"""Make a tool description from a Python function: its name, docstring and type hints.

The result equals that of transformers' `get_json_schema`, where that supports the function.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

from ..errors import InvalidArgument
from .docstrings import read_docstring, split_choices
from .type_schema import ALLOWED_HINTS, NoSchema, TypeSchemas, description_of

__all__ = ["function_tool"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def function_tool(
    function: Callable[..., Any], where: str = "tool", argument: str = "tools"
) -> dict[str, Any]:
    """Make the tool description of a function, in OpenAI's form.

    Parameters without a default are required; descriptions come from the Google-style docstring, or from
    ``Annotated[type, 'description']``. The function may be asynchronous, a bound method, a `partial`, an
    object with ``__call__``, or a pydantic model, whose fields are the parameters.

    Args:
        function: The function.
        where: The place of the tool, for errors.
        argument: The argument that it was given with, for errors.

    Raises:
        InvalidArgument: It has no name, a parameter has no type hint, or a hint has no JSON schema.
    """
    target, bound = function, set[str]()
    while isinstance(target, functools.partial):
        bound.update(target.keywords)
        target = target.func
    if not (inspect.isroutine(target) or isinstance(target, type)):  # an object with __call__
        name, target = type(target).__name__, type(target).__call__
    else:
        name = target.__name__
    where = f"{where} ({name})"
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"{where}: a tool needs a name of letters, digits, _ and -", argument=argument)
    if callable(convert := getattr(function, "model_json_schema", None)):
        return _tool(name, inspect.cleandoc(function.__doc__ or ""), _of_model(convert()))
    doc = read_docstring(inspect.getdoc(target) or "")
    schemas = TypeSchemas()
    try:
        parameters = inspect.signature(function).parameters
        described: Any = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
        hints = typing.get_type_hints(described, include_extras=True)
    except (NameError, TypeError, ValueError) as error:
        raise InvalidArgument(
            f"{where}: its type hints cannot be read: {error}", argument=argument
        ) from error
    properties: dict[str, Any] = {}
    required: list[str] = []
    for position, (key, parameter) in enumerate(parameters.items()):
        unannotated = parameter.annotation is parameter.empty
        if position == 0 and key in ("self", "cls") and unannotated:
            continue
        if key in bound or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if unannotated or key not in hints:
            raise InvalidArgument(f"{where}: parameter {key!r} has no type hint", argument=argument)
        properties[key] = _property(schemas, hints[key], doc.arguments.get(key), f"{where}: {key}", argument)
        if parameter.default is parameter.empty:
            required.append(key)
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    if schemas.definitions:
        schema["$defs"] = schemas.definitions
    return _tool(name, doc.description, schema, _returned(hints, doc.returns))


def _tool(name: str, description: str, parameters: Any, returned: Any = None) -> dict[str, Any]:
    function: dict[str, Any] = {"name": name}
    if description:
        function["description"] = description
    function["parameters"] = parameters
    if returned is not None:
        function["return"] = returned
    return {"type": "function", "function": function}


def _of_model(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a pydantic model, without what the tool says beside it."""
    return {key: value for key, value in schema.items() if key not in ("title", "description")}


def _property(schemas: TypeSchemas, hint: Any, text: str | None, where: str, argument: str) -> dict[str, Any]:
    try:
        schema = schemas.of(hint)
    except NoSchema as error:
        raise InvalidArgument(
            f"{where}: the type hint {error} has no JSON schema; allowed are {ALLOWED_HINTS}; "
            "or describe the tool with a dict",
            argument=argument,
        ) from None
    if text is None:
        text = description_of(hint)
    if text is not None:
        text, choices = split_choices(text)
        if choices is not None:
            schema["enum"] = choices
        schema["description"] = text
    return schema


def _returned(hints: dict[str, Any], text: str | None) -> dict[str, Any] | None:
    """The schema of the result; None without one, which is no error: the model never writes a result."""
    if "return" not in hints:
        return None
    schemas = TypeSchemas()
    try:
        schema = schemas.of(hints["return"])
    except NoSchema:
        return None
    return {**schema, **({"$defs": schemas.definitions} if schemas.definitions else {})} | (
        {} if text is None else {"description": text}
    )
