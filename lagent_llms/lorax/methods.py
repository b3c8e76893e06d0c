"""How a call of `calls` becomes a method of a client: its name, arguments and documentation stay."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from ..errors import LLMError
from ..wire.exchange import Call
from ..wire.http import Head
from .answers import ResponseHeaders, StreamResponse

__all__ = ["TokenText", "presented", "with_headers"]

F = TypeVar("F", bound=Callable[..., Any])


def presented(method: F, build: Callable[..., Any], returns: str) -> F:
    """`method`, which shows itself as `build` but for its first argument and what it returns."""
    signature = inspect.signature(build)
    first, *others = signature.parameters.values()
    method.__name__, method.__doc__ = build.__name__, build.__doc__
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[first.replace(name="self", annotation=inspect.Parameter.empty), *others],
        return_annotation=returns,
    )
    return method


def with_headers(call: Call[StreamResponse], told: Callable[[ResponseHeaders], None]) -> Call[StreamResponse]:
    """`call`, which tells the headers of its response as soon as they are there."""

    def decoder(head: Head) -> Any:
        told(ResponseHeaders.of(head))
        return call.decoder(head)

    return replace(call, decoder=decoder)


class TokenText:
    """The text of a stream so far, for the errors that break it off."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[str] = []

    def add(self, response: StreamResponse) -> None:
        """Take the next token."""
        if not response.token.special:
            self._parts.append(response.token.text)

    def put_into(self, error: BaseException) -> None:
        """Let `error` tell it."""
        if isinstance(error, LLMError) and not error.partial:
            error.partial = "".join(self._parts)
