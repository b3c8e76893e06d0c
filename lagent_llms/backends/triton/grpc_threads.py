"""The synchronous gRPC driver for event loops, each step in a thread: for forked children.

There grpc.aio hangs or crashes: its poller is a thread of the parent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ...params import Timeout
from ...schema import Piece
from .conversation import Conversation
from .grpc_channel import GRPCSettings
from .grpc_sync import GRPCSource, GRPCTransport

__all__ = ["ThreadedGRPCTransport"]

T = TypeVar("T")

#: Most conversations that wait for the server at once; threads are started as they are needed.
_MOST_THREADS = 1000


class ThreadedGRPCTransport:
    """`AsyncGRPCTransport` without grpc.aio. The arguments are those of `GRPCTransport`."""

    def __init__(self, settings: GRPCSettings) -> None:
        self._transport = GRPCTransport(settings)
        self._threads = ThreadPoolExecutor(_MOST_THREADS, "triton-grpc")

    async def opened(self, conversation: Conversation, timeout: Timeout) -> ThreadedGRPCSource:
        """Start a conversation; nothing is sent before its first step."""
        return ThreadedGRPCSource(self._transport.open(conversation, timeout), self._threads)

    async def run(self, steps: Generator[Any, Any, T], timeout: Timeout) -> T:
        """Run unary commands; return their result."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._transport.run, steps, timeout)

    async def aclose(self) -> None:
        """Close the channel, which ends the calls on it."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._transport.close)


class ThreadedGRPCSource:
    """The pieces of one exchange."""

    def __init__(self, source: GRPCSource, threads: ThreadPoolExecutor) -> None:
        self._source, self._threads = source, threads

    async def __anext__(self) -> Piece:
        loop = asyncio.get_running_loop()
        piece = await loop.run_in_executor(self._threads, next, self._source, None)
        if piece is None:
            raise StopAsyncIteration
        return piece

    def close(self) -> None:
        """Stop the generation, which ends a step that waits."""
        self._source.close()
