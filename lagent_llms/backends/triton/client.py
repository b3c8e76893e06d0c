"""`TritonClient` and `AsyncTritonClient`: a model behind Triton Inference Server.

The model's dialect (`lagent_llms.backends.triton`) decides how a request becomes tensors, what a user may
say about the server by `TritonCore`; here is which driver sends what the dialect asks for.
"""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING

from ...core.base import AsyncBaseLLM, BaseLLM
from ...core.request import Request
from ...errors import LLMError
from .core import TritonCore

if TYPE_CHECKING:
    from ...core.sources import AsyncSource, Source
    from .grpc_aio import AsyncGRPCTransport
    from .grpc_sync import GRPCTransport
    from .http_transport import AsyncTritonHTTP, TritonHTTP

__all__ = ["AsyncTritonClient", "TritonClient"]


class TritonClient(TritonCore, BaseLLM):
    """A model behind Triton, called synchronously. The arguments are those of its base class."""

    @cached_property
    def transport(self) -> GRPCTransport | TritonHTTP:
        """The connection, made when it is first needed."""
        server = self.server
        if server.http:
            from .http_transport import TritonHTTP

            return TritonHTTP(server.url, server.headers, server.verify, self.retry, self.max_concurrency)
        from .grpc_sync import GRPCTransport

        return GRPCTransport(self.grpc_settings(), self.retry)

    def models(self) -> list[str]:
        """Names of the models that are ready."""
        self.check_open()
        return self.ready_models(self.transport.run(self.index(), self.options.timeout))

    def dialect_found(self) -> str:
        """The dialect the model speaks; asks the server if that is not known yet.

        Raises:
            LLMError: The server cannot be reached, or has no such model, or it cannot be spoken to.
        """
        self.check_open()
        return self.transport.run(self.finder.find(), self.options.timeout).dialect.name

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until the model can be asked.

        Args:
            timeout: Most seconds to wait.

        Raises:
            NotFound: The server is there and has no such model.
            ConfigError: The model speaks no known dialect.
            TimeoutExceeded: It is not ready in time; says what was in the way last.
        """
        end = time.monotonic() + timeout
        while True:
            self.check_open()
            try:
                self.transport.run(self.finder.find(anew=True), self.within(end))
                return
            except LLMError as error:
                time.sleep(self.pause(error, end, timeout))

    def _open(self, request: Request) -> Source:
        return self.transport.open(self.conversation(request), request.options.timeout)

    def _tokenize(self, text: str) -> list[int]:
        return self.counted(self.transport.run(self.finder.count(text), self.options.timeout))

    def _free(self) -> None:
        """Close the connection; calls on it end."""
        if "transport" in vars(self):
            self.transport.close()


class AsyncTritonClient(TritonCore, AsyncBaseLLM):
    """`TritonClient`, called with await."""

    @cached_property
    def transport(self) -> AsyncGRPCTransport | AsyncTritonHTTP:
        """The connection, made when it is first needed."""
        server = self.server
        if server.http:
            from .http_transport import AsyncTritonHTTP

            return AsyncTritonHTTP(server.url, server.headers, server.verify, self.retry)
        from .grpc_aio import AsyncGRPCTransport

        return AsyncGRPCTransport(self.grpc_settings(), self.retry)

    async def models(self) -> list[str]:
        """See `TritonClient.models`."""
        self.check_open()
        return self.ready_models(await self.transport.run(self.index(), self.options.timeout))

    async def dialect_found(self) -> str:
        """See `TritonClient.dialect_found`."""
        self.check_open()
        return (await self.transport.run(self.finder.find(), self.options.timeout)).dialect.name

    async def wait_ready(self, timeout: float = 60.0) -> None:
        """See `TritonClient.wait_ready`."""
        import asyncio  # here, so that the import stays light

        end = time.monotonic() + timeout
        while True:
            self.check_open()
            try:
                await self.transport.run(self.finder.find(anew=True), self.within(end))
                return
            except LLMError as error:
                await asyncio.sleep(self.pause(error, end, timeout))

    async def _open(self, request: Request) -> AsyncSource:
        return await self.transport.opened(self.conversation(request), request.options.timeout)

    async def _tokenize(self, text: str) -> list[int]:
        return self.counted(await self.transport.run(self.finder.count(text), self.options.timeout))

    async def _free(self) -> None:
        if "transport" in vars(self):
            await self.transport.aclose()
