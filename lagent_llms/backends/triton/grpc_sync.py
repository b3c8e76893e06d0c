"""The synchronous gRPC driver: it executes a `GRPCExchange`, on one channel for each process."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Generator
from functools import partial
from typing import Any, TypeVar

import grpc
import grpc.experimental

from ...core.deadline import Deadline
from ...core.deadline_thread import ThreadDeadlineTimer
from ...params import Timeout
from ...schema import Piece
from .conversation import Conversation, InferRequest, OpenStream
from .grpc_cancel import PendingCancels
from .grpc_channel import GRPCChannel, GRPCSettings
from .grpc_commands import (
    CANCEL_DELAY,
    CANCEL_TIMEOUT,
    READ_MESSAGE,
    CallFailure,
    DriverCommand,
    UnaryCall,
    WaitForCancel,
)
from .grpc_exchange import GRPCExchange, Lookup
from .grpc_messages import call_failure, infer_message, unary_method

__all__ = ["GRPCSource", "GRPCTransport"]

T = TypeVar("T")

_CANCEL_LIMIT = Timeout(first_token=None, idle=None, total=CANCEL_DELAY)


class GRPCTransport:
    """Runs any number of conversations with a server at once. Safe to share between threads.

    Args:
        settings: How to reach the server.
    """

    def __init__(self, settings: GRPCSettings) -> None:
        self.settings = settings
        self._channels = {os.getpid(): _Channel(settings)}

    def open(self, conversation: Conversation, timeout: Timeout) -> GRPCSource:
        """Start a conversation; nothing is sent before its first step."""
        channel = self._channel()
        return GRPCSource(channel, GRPCExchange(conversation, channel.state, timeout))

    def run(self, steps: Generator[Any, Any, T], timeout: Timeout) -> T:
        """Run unary commands; return their result."""
        channel = self._channel()
        exchange = GRPCExchange(Lookup(steps), channel.state, timeout)
        next(GRPCSource(channel, exchange), None)
        return exchange.result

    def close(self) -> None:
        """Close this process's channel, which ends the calls on it."""
        if (channel := self._channels.get(os.getpid())) is not None:
            channel.close()

    def _channel(self) -> _Channel:
        """Return this process's channel. A fork makes its own and keeps, unused, that of its parent."""
        return self._channels.get(os.getpid()) or self._channels.setdefault(
            os.getpid(), _Channel(self.settings)
        )


class _Channel(GRPCChannel):
    """A channel and the cancel requests that are pending on it."""

    def __init__(self, settings: GRPCSettings) -> None:
        # The thread that reads a stream also does its I/O: half the CPU time of gRPC's default.
        super().__init__(settings, grpc, **{grpc.experimental.ChannelOptions.SingleThreadedUnaryStream: 1})
        self.cancels = PendingCancels()
        self._last_cancel = 0.0  # when the last abandoned stream is cancelled

    def cancel(self, stream: Any) -> None:
        """Cancel a stream after `CANCEL_DELAY`, unless it has ended."""
        if stream.is_active():
            self._last_cancel = time.monotonic() + CANCEL_DELAY
            ThreadDeadlineTimer(Deadline(_CANCEL_LIMIT), stream.cancel)

    def close(self) -> None:
        """Close the channel, which cancels its streams, once no cancel is pending."""
        self.cancels.wait_all()
        time.sleep(max(0.0, self._last_cancel - time.monotonic()))
        self.state.closed = True
        self._channel.close()

    def send_cancel_request(self, stopped: Any, request: InferRequest) -> None:
        """Send the request of a `SendCancel`; return when the stream `stopped` has ended, or it has failed.

        The stream is cancelled only if that fails: a stream that is cancelled while it is written to may
        crash tritonserver before 25.03 (ADR 68).
        """
        with contextlib.suppress(grpc.RpcError, ValueError):  # server gone; channel closed
            for call in (self.stream(infer_message(request), CANCEL_TIMEOUT), stopped):
                for _ in call:
                    pass
        stopped.cancel()


class GRPCSource:
    """The pieces of one exchange."""

    def __init__(self, channel: _Channel, exchange: GRPCExchange[Any]) -> None:
        self._channel, self._exchange = channel, exchange
        self._stream: Any = None
        self._call: Any = None  # of one response, perhaps while the stream is open
        self._timer: ThreadDeadlineTimer | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._busy = False

    def __next__(self) -> Piece:
        with self._lock:
            if self._busy or self._closed.is_set():
                raise StopIteration
            self._busy = True
        outcome: object = None
        try:
            while True:
                command = self._exchange.resume(outcome)
                if isinstance(command, Piece):
                    return command
                outcome = self._read() if command is READ_MESSAGE else self._execute(command)
        except BaseException:  # Ctrl-C too: the generation must not go on
            self._closed.set()
            raise
        finally:
            with self._lock:
                self._busy = False
                closed = self._closed.is_set()
            if closed:
                self._release()

    def close(self) -> None:
        """Stop the generation. May be called from any thread, at any time."""
        with self._lock:
            if self._closed.is_set():
                return
            self._exchange.closed = True
            self._closed.set()
            busy = self._busy
        if busy:  # wake the reading thread, which then releases what it holds
            for call in (self._stream, self._call):
                if call is not None:
                    call.cancel()
            return
        self._release()

    def _execute(self, command: DriverCommand) -> object:
        if isinstance(command, UnaryCall):
            return self._unary(command)
        if isinstance(command, OpenStream):
            return self._open(command)
        if isinstance(command, WaitForCancel):
            self._channel.cancels.wait(command)
        return None

    def _unary(self, command: UnaryCall) -> object:
        method, message, read = unary_method(command.command)
        try:
            self._call = self._channel.call(method, message, command.timeout)
            if self._closed.is_set():  # `close` saw no call to cancel
                self._call.cancel()
            return read(self._call.result())
        except (grpc.RpcError, grpc.FutureCancelledError, ValueError) as error:  # ValueError: channel closed
            return call_failure(error)

    def _open(self, command: OpenStream) -> CallFailure | None:
        self._drop_stream()
        message = infer_message(command.request, streamed=True)
        try:
            self._stream = self._channel.stream(message)
        except ValueError as error:
            return call_failure(error)
        self._timer = ThreadDeadlineTimer(self._exchange.deadline, self._stream.cancel)
        if self._closed.is_set():
            self._stream.cancel()
        return None

    def _read(self) -> object:
        try:
            return next(self._stream, None)
        except grpc.RpcError as error:
            return call_failure(error, expired=self._timer is not None and self._timer.expired)

    def _drop_stream(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        if self._stream is not None:
            self._channel.cancel(self._stream)
        self._stream = self._timer = None

    def _release(self) -> None:
        if (cancel := self._exchange.release()) is not None and self._stream is not None:
            stream, self._stream = self._stream, None
            self._channel.cancels.start(cancel, partial(self._channel.send_cancel_request, stream))
        self._drop_stream()
