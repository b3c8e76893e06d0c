"""JSON bodies of requests, parsed and checked; large ones in a thread, so that the server keeps answering."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import msgspec
from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from .. import validators
from ..errors import InvalidArgument

__all__ = ["at_most", "described", "encodable", "off_loop", "parsed", "refuse_unknown_fields"]

#: Bodies of at least this many bytes are handled in a thread.
_LARGE = 32 << 10
#: Most commas of a body, which bound its values, and most fields: decoding holds the interpreter.
_MOST_COMMAS, _MOST_FIELDS = 250_000, 1_000
#: Most errors of one body that are reported.
_MOST_ERRORS = 5

_T = TypeVar("_T")

#: One thread: several would only compete for the interpreter, and delay the event loop more.
_thread = ThreadPoolExecutor(1, "large-request")


def parsed(model: type[BaseModel]) -> Any:
    """A dependency of a route: the body as `model`.

    It raises RequestValidationError, as FastAPI does for a body that is a parameter of the route.
    """

    async def body(request: Request) -> BaseModel:
        data = await request.body()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise _invalid(f"the Content-Type is {kind!r}: allowed is 'application/json'")
        request.state.large = len(data) >= _LARGE
        return await off_loop(request, partial(_parsed, model, data))

    return Depends(body)


def described(model: type[BaseModel], path: str) -> dict[str, Any]:
    """The description of the body for the OpenAPI document, as ``openapi_extra`` of the route at `path`."""
    place = f"#/paths/{path.replace('/', '~1')}/post/requestBody/content/application~1json/schema/$defs/"
    schema = model.model_json_schema(ref_template=place + "{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def off_loop(request: Request, work: Callable[[], _T]) -> _T:
    """The result of `work`, called in a thread if the body of the request is large."""
    if not request.state.large:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_thread, work)


def at_most(most: int, unit: str) -> Callable[[Any], Any]:
    """A validator that refuses a list of more than `most` items before it looks at one of them."""

    def check(value: Any) -> Any:
        if isinstance(value, list) and len(value) > most:
            raise ValueError(f"{len(value)} {unit}: allowed are at most {most}")
        return value

    return check


def encodable(item: _T) -> _T:
    """Refuse strings that UTF-8 cannot encode: half of a surrogate pair, such as a cut emoji."""
    try:
        json.dumps(item, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{error.object[error.start]!r} is half a character, which is no text") from None
    return item


def refuse_unknown_fields(
    given: Mapping[str, Any] | None, ignored: Collection[str], no_op: Mapping[str, tuple[Any, ...]]
) -> None:
    """Refuse the fields of a body that its class does not declare, unless they change no response.

    Args:
        given: The fields and their values; null changes nothing.
        ignored: Fields that are ignored with any value.
        no_op: Unsupported fields, and their values that change nothing.

    Raises:
        InvalidArgument: A field is unknown, or is unsupported with its value.
    """
    for name, value in (given or {}).items():
        if value is None or name in ignored or value in no_op.get(name, ()):
            continue
        if name in no_op:
            allowed = f": allowed is {no_op[name][0]!r}" if no_op[name] else ""
            raise InvalidArgument(
                f"{name}={validators.shown(value)} is not supported{allowed}", argument=name
            )
        raise InvalidArgument(f"unknown field {validators.shown(name)}", argument=name[:200])


def _parsed(model: type[BaseModel], data: bytes) -> BaseModel:
    if len(data) >= _LARGE and (commas := data.count(b",")) > _MOST_COMMAS:
        raise _invalid(f"the body has {commas} commas: allowed are at most {_MOST_COMMAS}")
    try:
        # json reads halves of characters, which are then refused by name; msgspec holds the interpreter for
        # a fraction of the time.
        value = msgspec.json.decode(data) if len(data) >= _LARGE else json.loads(data)
    except (ValueError, msgspec.DecodeError, RecursionError) as error:  # ValueError: wrong UTF-8, too
        raise _invalid(f"JSON decode error: {error}") from None
    if isinstance(value, dict) and len(value) > _MOST_FIELDS:
        raise _invalid(f"the body has {len(value)} fields: allowed are at most {_MOST_FIELDS}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[:_MOST_ERRORS]
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in found]) from None


def _invalid(message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "json_invalid", "loc": ("body",), "msg": message}])
