"""Triton over HTTP (generate, generate_stream), on the HTTP transports."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import ConfigError, LLMError
from ...http.endpoints import Endpoints
from ...http.exchange import Call
from .dialects.base import OneModel
from .discovery import LazyConversation, ResolvedModel
from .http_messages import generate_call, unary_call

if TYPE_CHECKING:
    from ...http.async_client import AsyncHTTPSource
    from ...http.sync_client import HTTPSource
    from ...params import Timeout
    from ...schema import Piece

__all__ = ["AsyncTritonHTTP", "TritonHTTP"]

T = TypeVar("T")


def _generate_call(resolved: ResolvedModel, lazy: LazyConversation) -> Call[Piece]:
    conversation = lazy.bind(resolved)
    if not isinstance(conversation, OneModel):
        raise ConfigError(
            f"model {resolved.model.config.name!r} ({resolved.dialect.name}) does not work over HTTP: "
            "give the address of the server's gRPC service"
        )
    return generate_call(conversation)


class TritonHTTP:
    """`GRPCTransport` over HTTP.

    Args:
        url: The server's base URL.
        **options: Those of `HTTPTransport`.
    """

    def __init__(self, url: str, **options: Any) -> None:
        from ...http.sync_client import HTTPTransport  # here: not needed by asynchronous clients

        self._http = HTTPTransport(Endpoints([url]), **options)

    def open(self, conversation: LazyConversation, timeout: Timeout) -> HTTPSource[Piece]:
        """Start a conversation; its model is resolved first."""
        resolved = self.run(conversation.finder.find(), timeout)
        return self._http.open(_generate_call(resolved, conversation), timeout)

    def run(self, steps: Generator[Any, Any, T], timeout: Timeout) -> T:
        """Run unary commands; return their result."""
        outcome: object = None
        try:
            while True:
                command = steps.throw(outcome) if isinstance(outcome, LLMError) else steps.send(outcome)
                try:
                    outcome = self._http.fetch(unary_call(command), timeout)
                except LLMError as error:
                    outcome = error
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the idle connections."""
        self._http.close()


class AsyncTritonHTTP:
    """`AsyncGRPCTransport` over HTTP; the arguments are those of `TritonHTTP`."""

    def __init__(self, url: str, **options: Any) -> None:
        from ...http.async_client import AsyncHTTPTransport  # here: not needed by synchronous clients

        self._http = AsyncHTTPTransport(Endpoints([url]), **options)

    async def opened(self, conversation: LazyConversation, timeout: Timeout) -> AsyncHTTPSource[Piece]:
        """Start a conversation; its model is resolved first."""
        resolved = await self.run(conversation.finder.find(), timeout)
        return self._http.open(_generate_call(resolved, conversation), timeout)

    async def run(self, steps: Generator[Any, Any, T], timeout: Timeout) -> T:
        """Run unary commands; return their result."""
        outcome: object = None
        try:
            while True:
                command = steps.throw(outcome) if isinstance(outcome, LLMError) else steps.send(outcome)
                try:
                    outcome = await self._http.fetch(unary_call(command), timeout)
                except LLMError as error:
                    outcome = error
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """Close the idle connections."""
        await self._http.aclose()
