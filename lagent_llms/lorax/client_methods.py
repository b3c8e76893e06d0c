"""Helpers for the methods of `Client` and `AsyncClient`: state of a stream, and signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from ..errors import LLMError
from ..http.exchange import Call
from ..http.messages import ResponseHead
from ..retry import Attempts
from .response_types import ResponseHeaders, StreamResponse

__all__ = ["StreamState", "copy_signature"]

F = TypeVar("F", bound=Callable[..., Any])


class StreamState:
    """Headers and text that a stream has received. Holds no reference to the stream, which can be collected.

    Args:
        attempts: The attempts of the call.

    Attributes:
        headers: Counts and names from the response's headers; None before the first item.
    """

    __slots__ = ("_attempts", "_begun", "_parts", "headers")

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._begun = False
        self.headers: ResponseHeaders | None = None
        self._parts: list[str] = []

    def capture_headers(self, call: Call[StreamResponse]) -> Call[StreamResponse]:
        """Return `call` with a decoder that also stores the response's headers here."""

        def decoder(head: ResponseHead) -> Any:
            self.headers = ResponseHeaders.of(head)
            return call.decoder(head)

        return replace(call, decoder=decoder)

    def add(self, response: StreamResponse) -> None:
        """Add the text of the next token, unless the token is special."""
        self._begun = True
        if not response.token.special:
            self._parts.append(response.token.text)

    def backoff(self, error: BaseException) -> float | None:
        """Return the seconds until the next attempt after `error`; None if it ends the stream.

        Then `error.partial` is the text received so far, if it is an `LLMError` without one.
        """
        if not isinstance(error, LLMError):
            return None
        seconds = self._attempts.backoff(error, begun=self._begun)
        if seconds is None and not error.partial:
            error.partial = "".join(self._parts)
        return seconds


def copy_signature(method: F, build: Callable[..., Any], returns: str) -> F:
    """Give `method` the name, docstring and signature of `build`.

    The first parameter becomes ``self``, the return annotation becomes `returns`.
    """
    signature = inspect.signature(build)
    first, *others = signature.parameters.values()
    method.__name__, method.__doc__ = build.__name__, build.__doc__
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[first.replace(name="self", annotation=inspect.Parameter.empty), *others],
        return_annotation=returns,
    )
    return method
