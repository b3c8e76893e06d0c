"""How a call of `calls` becomes a method of a client: its name, arguments and documentation stay."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from ..errors import LLMError
from ..http.exchange import Call
from ..http.messages import ResponseHead
from .answers import ResponseHeaders, StreamResponse

__all__ = ["Heard", "presented"]

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


class Heard:
    """What a stream has brought so far. It knows nothing of the stream, so that nothing keeps that alive.

    Attributes:
        headers: What the response's headers tell; None before the first step.
    """

    __slots__ = ("_parts", "headers")

    def __init__(self) -> None:
        self.headers: ResponseHeaders | None = None
        self._parts: list[str] = []

    def listening(self, call: Call[StreamResponse]) -> Call[StreamResponse]:
        """`call`, whose headers are put here as soon as they are there."""

        def decoder(head: ResponseHead) -> Any:
            self.headers = ResponseHeaders.of(head)
            return call.decoder(head)

        return replace(call, decoder=decoder)

    def add(self, response: StreamResponse) -> None:
        """Take the next token."""
        if not response.token.special:
            self._parts.append(response.token.text)

    def put_into(self, error: BaseException) -> None:
        """Let `error` tell the text."""
        if isinstance(error, LLMError) and not error.partial:
            error.partial = "".join(self._parts)
