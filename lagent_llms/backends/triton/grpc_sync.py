"""The synchronous gRPC driver: one ModelStreamInfer call for each request, on one channel for all."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Generator
from typing import Any, TypeVar

from ...core.deadline import Deadline
from ...core.deadline_thread import ThreadDeadlineTimer
from ...errors import LLMError, ServerError, StreamInterrupted
from ...http.config import connect_timeout
from ...http.retry import RetryPolicy
from ...params import Timeout
from ...schema import Piece
from .conversation import (
    Ask,
    Conversation,
    Describe,
    Index,
    InferRequest,
    Next,
    Open,
    Pause,
    exchange,
)
from .errors import answer_error
from .grpc_messages import (
    FAREWELL,
    LAST_FAREWELLS,
    LIVE,
    LIVENESS_TIMEOUT,
    GRPCSettings,
    Question,
    Response,
    closed_early,
    grpc,
    is_ambiguous_status,
    is_final,
    method,
    pb,
    question,
    request_message,
)

__all__ = ["GRPCSource", "GRPCTransport"]

T = TypeVar("T")


class GRPCTransport:
    """One channel to a server, for any number of requests at once. Safe to share between threads.

    Args:
        settings: How to reach the server.
        retry: What is tried again before the answer has begun.

    Attributes:
        connected: Whether the server has answered, and nothing since says that it is gone.
    """

    def __init__(self, settings: GRPCSettings, retry: RetryPolicy | None = None) -> None:
        self.settings = settings
        self.retry = retry or RetryPolicy()
        # A stream of ours sends one message only. Without a thread for sending, and read by the thread that
        # wants it, it costs half of what a stream in both directions does; on the wire it is the same.
        options = settings.channel_options(**{grpc.experimental.ChannelOptions.SingleThreadedUnaryStream: 1})
        credentials = settings.credentials()
        self._channel = (
            grpc.insecure_channel(settings.address, options)
            if credentials is None
            else grpc.secure_channel(settings.address, credentials, options)
        )
        self._stream = self._channel.unary_stream(*method("ModelStreamInfer"))
        self._farewells: dict[int, threading.Event] = {}
        self.connected = False

    def open(self, conversation: Conversation, timeout: Timeout) -> GRPCSource:
        """Start a conversation; nothing is sent before its first step."""
        return GRPCSource(self, conversation, timeout)

    def run(self, steps: Generator[Any, Any, T], timeout: Timeout) -> T:
        """Have steps that only ask models and the server; gives their result."""
        source = GRPCSource(self, None, timeout)
        outcome: object = None
        try:
            while True:
                command = steps.throw(outcome) if isinstance(outcome, LLMError) else steps.send(outcome)
                outcome = source.execute(command)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def is_live(self, seconds: float) -> bool:
        """Whether the server says that it is there, within `seconds`."""
        live = self._channel.unary_unary(*method("ServerLive"))
        try:
            return bool(live(pb.ServerLiveRequest(), timeout=seconds, metadata=self.settings.metadata()).live)
        except grpc.RpcError:
            return False

    def call(self, name: str, request: Any, timeout: float | None) -> Any:
        """Begin a call that has one response."""
        return self._channel.unary_unary(*method(name)).future(
            request, timeout=timeout, metadata=self.settings.metadata()
        )

    def stream(self, request: InferRequest) -> Any:
        """Begin a stream."""
        message = request_message(request, streamed=True)
        return self._stream(message, metadata=self.settings.metadata())

    def failure(self, error: Any, *, begun: bool) -> LLMError:
        """What a call that failed means."""
        code, details, where = error.code(), error.details() or "", self.settings.address
        alive = self.connected = not is_ambiguous_status(code) or self.is_live(LIVENESS_TIMEOUT)
        return answer_error(code.name, details, where, alive=alive, begun=begun)

    def bid_farewell(self, request: InferRequest, name: int | None) -> None:
        """Send `request` without waiting for what comes of it."""
        done = threading.Event()
        if name is not None:
            self._farewells[name] = done

        def send() -> None:
            try:
                for _ in self._stream(
                    request_message(request), timeout=FAREWELL, metadata=self.settings.metadata()
                ):
                    pass
            except (grpc.RpcError, ValueError):  # the server is gone, or the channel closed
                pass
            finally:
                done.set()
                if name is not None and self._farewells.get(name) is done:
                    del self._farewells[name]

        with contextlib.suppress(RuntimeError):  # the interpreter ends
            threading.Thread(target=send, name="stop-generation", daemon=True).start()

    def wait_for_farewell(self, name: int | None, seconds: float | None) -> None:
        """Wait until what was sent last under `name` has come to its end."""
        if name is not None and (done := self._farewells.get(name)) is not None:
            done.wait(seconds)

    def close(self) -> None:
        """Close the channel; calls on it end."""
        end = time.monotonic() + LAST_FAREWELLS
        for done in list(self._farewells.values()):
            done.wait(max(0.0, end - time.monotonic()))
        self._channel.close()


class GRPCSource:
    """The pieces of one conversation."""

    def __init__(self, transport: GRPCTransport, conversation: Conversation | None, timeout: Timeout) -> None:
        self._transport, self._conversation, self._timeout = transport, conversation, timeout
        self._steps = (
            None if conversation is None else exchange(conversation, transport.retry, lambda: self._shown)
        )
        self._shown = False  # some of the answer
        self._deadline = Deadline(timeout)
        self._call: Any = None  # the stream
        self._asking: Any = None  # a call with one response, perhaps while the stream is open
        self._last: Any = None
        self._alarm: ThreadDeadlineTimer | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._busy = False

    def __next__(self) -> Piece:
        with self._lock:
            if self._busy or self._closed.is_set():
                raise StopIteration
            self._busy = True
        self._deadline.wake()
        outcome: object = None
        try:
            while True:
                assert self._steps is not None
                if isinstance(outcome, LLMError):
                    command = self._steps.throw(outcome)
                else:
                    command = self._steps.send(outcome)
                if isinstance(command, Piece):
                    self._deadline.piece_arrived()
                    self._shown = True
                    return command
                outcome = self._read() if isinstance(command, Next) else self.execute(command)
        except BaseException:
            self._closed.set()
            raise
        finally:
            with self._lock:
                self._busy = False
                closed = self._closed.is_set()
            if closed:
                self._let_go()

    def close(self) -> None:
        """Stop the generation. May come from any thread, at any time."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            busy = self._busy
        if busy:  # wake the thread that waits; it lets go itself
            for call in (self._call, self._asking):
                if call is not None:
                    call.cancel()
            return
        self._let_go()

    def execute(self, command: object) -> object:
        """Do what `command` says; gives what came of it, an error included."""
        if self._closed.is_set():  # in a pause, or between two commands
            return closed_early()
        if isinstance(command, Open):
            return self._open(command.request)
        if isinstance(command, (Ask, Describe, Index)):
            return self._ask(question(command))
        assert isinstance(command, Pause)
        return self._pause(command.seconds)

    def _open(self, request: InferRequest) -> LLMError | None:
        assert self._conversation is not None
        self._drop_call()
        if (error := self._connect()) is not None:
            return error
        self._transport.wait_for_farewell(self._conversation.wait_for, self._deadline.remaining())
        try:
            self._call = self._transport.stream(request)
        except ValueError as error:  # the channel is closed
            return StreamInterrupted(
                f"the connection to {self._transport.settings.address} is closed: {error}"
            )
        self._alarm = ThreadDeadlineTimer(self._deadline, self._call.cancel)
        if self._closed.is_set():
            self._call.cancel()
        return None

    def _connect(self) -> LLMError | None:
        """Hold the limit for a connection, which a stream has none of."""
        if self._transport.connected or self._timeout.connect is None:
            return None
        outcome = self._ask(LIVE)
        return outcome if isinstance(outcome, LLMError) and not self._transport.connected else None

    def _read(self) -> Response | LLMError | None:
        while True:
            try:
                message = next(self._call)
            except StopIteration:
                if self._last is None or is_final(self._last):
                    return None
                return StreamInterrupted("the answer ended without its final marker")
            except grpc.RpcError as error:
                return self._failure(error, begun=self._last is not None)
            if message.error_message:
                return ServerError(f"{self._transport.settings.address}: {message.error_message}")
            self._last = message.infer_response
            if self._last.outputs:  # else it says only that it is the last one
                return Response(self._last)

    def _ask(self, asked: Question) -> object:
        limit = self._timeout.connect if asked.connects else None
        remaining = self._deadline.remaining()
        if remaining == 0:
            return self._deadline.exceeded()
        connecting = limit is not None and (remaining is None or limit < remaining)
        try:
            self._asking = self._transport.call(
                asked.method, asked.message, limit if connecting else remaining
            )
            if self._closed.is_set():  # who closed saw no call to cancel
                self._asking.cancel()
            answer = self._asking.result()
            self._transport.connected = True
            return asked.read(answer)
        except ValueError as error:
            return StreamInterrupted(
                f"the connection to {self._transport.settings.address} is closed: {error}"
            )
        except grpc.FutureCancelledError:
            return closed_early()
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                if connecting:
                    return connect_timeout(self._transport.settings.address, limit)
                if remaining is not None:  # else it is the server's own
                    return self._deadline.exceeded()
            return self._failure(error, begun=False)

    def _failure(self, error: Any, *, begun: bool) -> LLMError:
        if self._alarm is not None and self._alarm.expired:
            return self._deadline.exceeded()
        if self._closed.is_set():
            return closed_early()
        return self._transport.failure(error, begun=begun)

    def _pause(self, seconds: float) -> LLMError | None:
        self._drop_call()
        remaining = self._deadline.remaining_in_total()
        if remaining is not None and remaining < seconds:
            self._closed.wait(remaining)
            return self._deadline.exceeded()
        self._closed.wait(seconds)
        self._deadline.restart()
        return None

    def _drop_call(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()
        if self._call is not None:
            self._call.cancel()
        self._call = self._alarm = self._last = None

    def _let_go(self) -> None:
        conversation, steps = self._conversation, self._steps
        self._conversation = None
        if conversation is not None and (request := conversation.farewell()) is not None:
            self._transport.bid_farewell(request, conversation.wait_for)
        self._drop_call()
        if steps is not None:
            steps.close()
