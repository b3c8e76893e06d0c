"""The drivers for Triton over HTTP: generate and generate_stream, on the HTTP drivers."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import ConfigError, LLMError
from ...http.endpoints import Endpoints
from ...http.exchange import Call
from ...http.retry import RetryPolicy
from . import http_messages as wire
from .conversation import Ask, Describe, Index
from .dialects.base import OneModel
from .discovery import Found, Located

if TYPE_CHECKING:
    from ...http.async_client import AsyncHTTPSource
    from ...http.sync_client import HTTPSource
    from ...params import Timeout
    from ...schema import Piece

__all__ = ["AsyncTritonHTTP", "TritonHTTP"]

T = TypeVar("T")


def _call_of(command: object) -> Call[Any]:
    """The call that carries out a command."""
    if isinstance(command, Describe):
        return wire.config_call(command.model)
    if isinstance(command, Index):
        return wire.index_call()
    assert isinstance(command, Ask)
    return wire.ask_call(command.request)


def _answer_call(found: Found, located: Located) -> Call[Piece]:
    conversation = located.with_model(found)
    if not isinstance(conversation, OneModel):
        raise ConfigError(
            f"model {found.model.config.name!r} ({found.dialect.name}) cannot be spoken to over HTTP: "
            "give the address of the server's gRPC service"
        )
    return wire.answer_call(conversation)


class TritonHTTP:
    """`GRPCTransport` over HTTP.

    Args:
        url: The server's base URL.
        headers: Sent with every request.
        verify: See `HTTPTransport`.
        retry: What is tried again before the answer has begun.
        max_connections: Most that wait for a request.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        verify: bool | str | os.PathLike[str],
        retry: RetryPolicy,
        max_connections: int,
    ) -> None:
        from ...http.sync_client import HTTPTransport  # here: who calls with await needs it not

        self._http = HTTPTransport(
            Endpoints([url]), headers=headers, retry=retry, verify=verify, max_connections=max_connections
        )

    def open(self, conversation: Located, timeout: Timeout) -> HTTPSource[Piece]:
        """Start a conversation."""
        found = self.run(conversation.finder.find(), timeout)
        return self._http.open(_answer_call(found, conversation), timeout)

    def run(self, steps: Generator[Any, Any, T], timeout: Timeout) -> T:
        """Have steps that only ask models and the server; gives their result."""
        outcome: object = None
        try:
            while True:
                command = steps.throw(outcome) if isinstance(outcome, LLMError) else steps.send(outcome)
                try:
                    outcome = self._http.fetch(_call_of(command), timeout)
                except LLMError as error:
                    outcome = error
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the connections that wait for a request."""
        self._http.close()


class AsyncTritonHTTP:
    """`AsyncGRPCTransport` over HTTP; the arguments are those of `TritonHTTP`."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        verify: bool | str | os.PathLike[str],
        retry: RetryPolicy,
    ) -> None:
        from ...http.async_client import AsyncHTTPTransport  # here: who calls without await needs it not

        self._http = AsyncHTTPTransport(Endpoints([url]), headers=headers, retry=retry, verify=verify)

    async def opened(self, conversation: Located, timeout: Timeout) -> AsyncHTTPSource[Piece]:
        """Start a conversation."""
        found = await self.run(conversation.finder.find(), timeout)
        return self._http.open(_answer_call(found, conversation), timeout)

    async def run(self, steps: Generator[Any, Any, T], timeout: Timeout) -> T:
        """Have steps that only ask models and the server; gives their result."""
        outcome: object = None
        try:
            while True:
                command = steps.throw(outcome) if isinstance(outcome, LLMError) else steps.send(outcome)
                try:
                    outcome = await self._http.fetch(_call_of(command), timeout)
                except LLMError as error:
                    outcome = error
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """Close the connections that wait for a request."""
        await self._http.aclose()
