"""The asynchronous gRPC driver: it executes a `GRPCExchange`, on one channel for each event loop."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Generator
from functools import cache, partial
from typing import Any, TypeVar

import grpc.aio

from ... import forks
from ...core.deadline_thread import ThreadDeadlineTimer
from ...http.per_loop import PerLoop, call_on
from ...params import Timeout
from ...schema import Piece
from .conversation import Conversation, InferRequest, OpenStream
from .grpc_cancel import AsyncPendingCancels
from .grpc_channel import GRPCChannel, GRPCSettings
from .grpc_commands import (
    CANCEL_DELAY,
    CANCEL_TIMEOUT,
    READ_MESSAGE,
    DriverCommand,
    UnaryCall,
    WaitForCancel,
)
from .grpc_exchange import GRPCExchange, Lookup
from .grpc_messages import call_failure, infer_message, unary_method
from .grpc_threads import ThreadedGRPCSource, ThreadedGRPCTransport

__all__ = ["AsyncGRPCSource", "AsyncGRPCTransport"]

T = TypeVar("T")

_GENERATION = forks.generation


class AsyncGRPCTransport:
    """`GRPCTransport` for event loops; one object may serve several loops, one after the other or at once.

    In a forked child it is a `ThreadedGRPCTransport`. The arguments are those of `GRPCTransport`.
    """

    def __init__(self, settings: GRPCSettings) -> None:
        self.settings = settings
        self._channels = PerLoop(self._open_channel, _Channel.close)
        self._threaded = cache(lambda generation: ThreadedGRPCTransport(settings))

    async def opened(
        self, conversation: Conversation, timeout: Timeout
    ) -> AsyncGRPCSource | ThreadedGRPCSource:
        """Start a conversation; nothing is sent before its first step."""
        if forks.generation != _GENERATION:
            return await self._threaded(forks.generation).opened(conversation, timeout)
        channel = await self._channels.get()
        return AsyncGRPCSource(channel, GRPCExchange(conversation, channel.state, timeout))

    async def run(self, steps: Generator[Any, Any, T], timeout: Timeout) -> T:
        """Run unary commands; return their result."""
        if forks.generation != _GENERATION:
            return await self._threaded(forks.generation).run(steps, timeout)
        channel = await self._channels.get()
        exchange = GRPCExchange(Lookup(steps), channel.state, timeout)
        await anext(AsyncGRPCSource(channel, exchange), None)
        return exchange.result

    async def aclose(self) -> None:
        """Close the running loop's channel, which ends the calls on it."""
        if forks.generation != _GENERATION:
            await self._threaded(forks.generation).aclose()
        else:
            await self._channels.close()

    async def _open_channel(self) -> _Channel:
        return _Channel(self.settings)


class _Channel(GRPCChannel):
    """The channel of one event loop and the cancel requests that are pending on it."""

    def __init__(self, settings: GRPCSettings) -> None:
        super().__init__(settings, grpc.aio)
        self.cancels = AsyncPendingCancels()
        self._last_cancel = 0.0  # when the last abandoned stream is cancelled

    def cancel(self, stream: Any, loop: asyncio.AbstractEventLoop) -> None:
        """See `grpc_sync._Channel.cancel`."""
        if not stream.done():
            self._last_cancel = time.monotonic() + CANCEL_DELAY
            loop.call_later(CANCEL_DELAY, stream.cancel)

    async def close(self) -> None:
        """Close the channel, which cancels its streams, once no cancel is pending."""
        await self.cancels.wait_all()
        await asyncio.sleep(max(0.0, self._last_cancel - time.monotonic()))
        self.state.closed = True
        await self._channel.close()

    async def send_cancel_request(self, stopped: Any, request: InferRequest) -> None:
        """See `grpc_sync._Channel.send_cancel_request`."""
        with contextlib.suppress(grpc.RpcError, grpc.aio.UsageError):  # server gone; channel closed
            for call in (self.stream(infer_message(request), CANCEL_TIMEOUT), stopped):
                async for _ in call:
                    pass
        stopped.cancel()


class AsyncGRPCSource:
    """The pieces of one exchange."""

    def __init__(self, channel: _Channel, exchange: GRPCExchange[Any]) -> None:
        self._channel, self._exchange = channel, exchange
        self._stream: Any = None
        self._messages: Any = None  # the stream's iterator
        self._call: Any = None  # of one response, perhaps while the stream is open
        self._timer: ThreadDeadlineTimer | None = None
        self._cancellations = 0  # of the task that opened the stream
        self._released = False
        self._loop = asyncio.get_running_loop()

    async def __anext__(self) -> Piece:
        if self._released:
            raise StopAsyncIteration
        outcome: object = None
        try:
            while True:
                command = self._exchange.resume(outcome)
                if isinstance(command, Piece):
                    return command
                outcome = await (self._read() if command is READ_MESSAGE else self._execute(command))
        except StopIteration:
            self.close()
            raise StopAsyncIteration from None
        except BaseException:  # a cancellation too: the generation must not go on
            self.close()
            raise

    def close(self) -> None:
        """Stop the generation; callable from any thread and from a finalizer."""
        if self._released:
            return
        self._released = True
        call_on(self._loop, self._release_on_loop)

    def _release_on_loop(self) -> None:
        if (cancel := self._exchange.release()) is not None and self._stream is not None:
            stream, self._stream = self._stream, None
            self._channel.cancels.start(cancel, partial(self._channel.send_cancel_request, stream))
        self._drop_calls()

    async def _execute(self, command: DriverCommand) -> object:
        if isinstance(command, UnaryCall):
            return await self._unary(command)
        if isinstance(command, OpenStream):
            self._open(command)
        elif isinstance(command, WaitForCancel):
            await self._channel.cancels.wait(command)
        return None

    async def _unary(self, command: UnaryCall) -> object:
        method, message, read = unary_method(command.command)
        before = _cancellations()
        try:
            self._call = self._channel.call(method, message, command.timeout)
            return read(await self._call)
        except (grpc.RpcError, grpc.aio.UsageError) as error:  # UsageError: channel closed
            return call_failure(error)
        except asyncio.CancelledError as error:
            if self._task_cancelled(before):
                raise
            return call_failure(error)

    def _open(self, command: OpenStream) -> None:
        self._drop_calls()
        self._cancellations = _cancellations()
        stream = self._stream = self._channel.stream(infer_message(command.request, streamed=True))
        self._messages = stream.__aiter__()
        loop = asyncio.get_running_loop()

        def on_expired() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the call with it
                loop.call_soon_threadsafe(stream.cancel)

        # Not a timer of the loop: with one set, each of the loop's waits costs more.
        self._timer = ThreadDeadlineTimer(self._exchange.deadline, on_expired)

    async def _read(self) -> object:
        try:
            return await self._messages.__anext__()
        except StopAsyncIteration:
            return None
        except (grpc.RpcError, grpc.aio.UsageError) as error:
            return call_failure(error, expired=self._expired)
        except asyncio.CancelledError as error:
            if self._task_cancelled(self._cancellations):
                raise
            return call_failure(error, expired=self._expired)

    @property
    def _expired(self) -> bool:
        return self._timer is not None and self._timer.expired

    def _task_cancelled(self, before: int) -> bool:
        """Return whether a CancelledError is the task's own; a cancelled call raises the same error."""
        call_cancelled = self._expired or self._exchange.closed or self._channel.state.closed
        return _cancellations() > before or not call_cancelled

    def _drop_calls(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the calls with it
            if self._stream is not None:
                self._channel.cancel(self._stream, self._loop)
            if self._call is not None:
                self._call.cancel()
        self._stream = self._messages = self._call = self._timer = None


def _cancellations() -> int:
    """Return how often the running task was cancelled; always 0 on Python 3.10, which does not count."""
    if sys.version_info < (3, 11):
        return 0
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
