"""`TritonClient` and `AsyncTritonClient`: a model behind Triton Inference Server.

`TritonCore` holds the arguments, and the model's dialect decides how a request becomes tensors; this module
selects the driver that sends them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ...core.base import AsyncBaseLLM, BaseLLM
from ...core.repeat import repeat, repeat_async
from ...core.request import Request
from ...errors import LLMError
from ...locks import locked_cached_property
from .core import TritonCore
from .grpc_poller import forkable_poller

if TYPE_CHECKING:
    from ...core.sources import AsyncSource, Source
    from ...params import Timeout
    from .grpc_aio import AsyncGRPCTransport
    from .grpc_sync import GRPCTransport
    from .http_transport import AsyncTritonHTTP, TritonHTTP

__all__ = ["AsyncTritonClient", "TritonClient"]


class TritonClient(TritonCore, BaseLLM):
    """A model behind Triton, called synchronously. The arguments are those of its base class."""

    @locked_cached_property
    def transport(self) -> GRPCTransport | TritonHTTP:
        """The driver, made at the first use."""
        server = self.server
        if server.is_http:
            from .http_transport import TritonHTTP

            return TritonHTTP(server.url, max_connections=self.most_in_flight, **self.http_options())
        with forkable_poller():
            from .grpc_sync import GRPCTransport

        return GRPCTransport(self.grpc_settings())

    def models(self) -> list[str]:
        """Return the names of the models that are ready."""
        self.check_open()
        return repeat(self.attempts(), lambda: self.transport.run(self.ready_models(), self.options.timeout))

    def dialect_found(self) -> str:
        """Return the name of the model's dialect; calls the server if it is not known yet.

        Raises:
            LLMError: The server cannot be reached, has no such model, or the model fits no dialect.
        """
        self.check_open()
        return self.transport.run(self.finder.find(), self.options.timeout).dialect.name

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until the model is ready.

        Args:
            timeout: Most seconds to wait.

        Raises:
            NotFound: The server has no such model.
            ConfigError: The model fits no known dialect.
            TimeoutExceeded: It is not ready in time; the message holds the last error.
        """
        end = time.monotonic() + timeout
        while True:
            self.check_open()
            try:
                self.transport.run(self.finder.find(refresh=True), self.poll_timeout(end))
                return
            except LLMError as error:
                time.sleep(self.poll_delay(error, end, timeout))

    def served_model(self, timeout: Timeout) -> str:
        """See `KeepsCalls.served_model`."""
        return self.transport.run(self.finder.identity(), timeout)

    def _open(self, request: Request) -> Source:
        return self.transport.open(self.conversation(request), request.options.timeout)

    def _tokenize(self, text: str) -> list[int]:
        return self.require_ids(self.transport.run(self.finder.tokenize(text), self.options.timeout))

    def _free(self) -> None:
        """Close the connection, which ends the calls on it."""
        if "transport" in vars(self):
            self.transport.close()


class AsyncTritonClient(TritonCore, AsyncBaseLLM):
    """The asynchronous `TritonClient`."""

    session_type = "aiohttp.ClientSession"

    @locked_cached_property
    def transport(self) -> AsyncGRPCTransport | AsyncTritonHTTP:
        """The driver, made at the first use."""
        server = self.server
        if server.is_http:
            from .http_transport import AsyncTritonHTTP

            return AsyncTritonHTTP(server.url, **self.http_options())
        with forkable_poller():
            from .grpc_aio import AsyncGRPCTransport

        return AsyncGRPCTransport(self.grpc_settings())

    async def models(self) -> list[str]:
        """See `TritonClient.models`."""
        self.check_open()
        return await repeat_async(
            self.attempts(), lambda: self.transport.run(self.ready_models(), self.options.timeout)
        )

    async def dialect_found(self) -> str:
        """See `TritonClient.dialect_found`."""
        self.check_open()
        return (await self.transport.run(self.finder.find(), self.options.timeout)).dialect.name

    async def wait_ready(self, timeout: float = 60.0) -> None:
        """See `TritonClient.wait_ready`."""
        import asyncio  # here: slow to import

        end = time.monotonic() + timeout
        while True:
            self.check_open()
            try:
                await self.transport.run(self.finder.find(refresh=True), self.poll_timeout(end))
                return
            except LLMError as error:
                await asyncio.sleep(self.poll_delay(error, end, timeout))

    async def served_model(self, timeout: Timeout) -> str:
        """See `KeepsCalls.served_model`."""
        return await self.transport.run(self.finder.identity(), timeout)

    async def _open(self, request: Request) -> AsyncSource:
        return await self.transport.opened(self.conversation(request), request.options.timeout)

    async def _tokenize(self, text: str) -> list[int]:
        return self.require_ids(await self.transport.run(self.finder.tokenize(text), self.options.timeout))

    async def _free(self) -> None:
        if "transport" in vars(self):
            await self.transport.aclose()
