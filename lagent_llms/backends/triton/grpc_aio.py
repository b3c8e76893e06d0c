"""The asynchronous gRPC driver: one ModelStreamInfer call for each request, on one channel a loop."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Generator
from typing import Any, TypeVar

import grpc.aio

from ...core.deadline import Deadline
from ...core.deadline_thread import ThreadDeadlineTimer
from ...errors import LLMError, ServerError, StreamInterrupted
from ...http.config import connect_timeout
from ...http.per_loop import PerLoop
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
    is_ambiguous_status,
    is_final,
    method,
    pb,
    question,
    request_message,
)

__all__ = ["AsyncGRPCSource", "AsyncGRPCTransport"]

T = TypeVar("T")


class AsyncGRPCTransport:
    """`GRPCTransport` for event loops; one object may serve several loops, one after the other or at once.

    The arguments are those of `GRPCTransport`.
    """

    def __init__(self, settings: GRPCSettings, retry: RetryPolicy | None = None) -> None:
        self.settings = settings
        self.retry = retry or RetryPolicy()
        self._channels = PerLoop(self._new_channel, self._close_channel)

    async def opened(self, conversation: Conversation, timeout: Timeout) -> AsyncGRPCSource:
        """Start a conversation; nothing is sent before its first step."""
        return AsyncGRPCSource(self, conversation, timeout)

    async def run(self, steps: Generator[Any, Any, T], timeout: Timeout) -> T:
        """Have steps that only ask models and the server; gives their result."""
        source = AsyncGRPCSource(self, None, timeout)
        outcome: object = None
        try:
            while True:
                command = steps.throw(outcome) if isinstance(outcome, LLMError) else steps.send(outcome)
                outcome = await source.execute(command)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def channel(self) -> _Channel:
        """That of the running loop."""
        return await self._channels.get()

    async def is_live(self, seconds: float) -> bool:
        """Whether the server says that it is there, within `seconds`."""
        try:
            answer = await (await self.channel()).call("ServerLive", pb.ServerLiveRequest(), seconds)
            return bool(answer.live)
        except grpc.RpcError:
            return False

    async def failure(self, error: Any, *, begun: bool) -> LLMError:
        """What a call that failed means."""
        code, details, where = error.code(), error.details() or "", self.settings.address
        alive = not is_ambiguous_status(code) or await self.is_live(LIVENESS_TIMEOUT)
        (await self.channel()).connected = alive
        return answer_error(code.name, details, where, alive=alive, begun=begun)

    async def aclose(self) -> None:
        """Close the running loop's channel; calls on it end."""
        await self._channels.close()

    async def _new_channel(self) -> _Channel:
        return _Channel(self.settings)

    async def _close_channel(self, channel: _Channel) -> None:
        await channel.close()


class _Channel:
    """The channel of one loop, and the farewells on their way.

    Attributes:
        connected: Whether the server has answered, and nothing since says that it is gone.
    """

    def __init__(self, settings: GRPCSettings) -> None:
        options, credentials = settings.channel_options(), settings.credentials()
        self._channel = (
            grpc.aio.insecure_channel(settings.address, options)
            if credentials is None
            else grpc.aio.secure_channel(settings.address, credentials, options)
        )
        self._metadata = settings.metadata()
        self._stream = self._channel.unary_stream(*method("ModelStreamInfer"))
        self._unary = {
            name: self._channel.unary_unary(*method(name))
            for name in ("ServerLive", "ModelConfig", "RepositoryIndex", "ModelInfer")
        }
        self._farewells: dict[int | None, asyncio.Task[None]] = {}
        self.connected = False

    def call(self, name: str, request: Any, timeout: float | None) -> Any:
        """Begin a call that has one response."""
        return self._unary[name](request, timeout=timeout, metadata=self._metadata)

    def stream(self, request: InferRequest) -> Any:
        """Begin a stream."""
        return self._stream(request_message(request, streamed=True), metadata=self._metadata)

    def bid_farewell(self, request: InferRequest, name: int | None) -> None:
        """Send `request` without waiting for what comes of it."""
        with contextlib.suppress(RuntimeError):  # no loop is running: a finalizer calls
            task = asyncio.get_running_loop().create_task(self._send(request))
            self._farewells[name] = task
            task.add_done_callback(lambda done: self._forget(name, done))

    async def wait_for_farewell(self, name: int | None) -> None:
        """Wait until what was sent last under `name` has come to its end."""
        if (task := self._farewells.get(name)) is not None:
            await asyncio.wait({task})

    async def close(self) -> None:
        if self._farewells:
            await asyncio.wait(set(self._farewells.values()), timeout=LAST_FAREWELLS)
        await self._channel.close()

    async def _send(self, request: InferRequest) -> None:
        with contextlib.suppress(grpc.RpcError, asyncio.CancelledError):
            message = request_message(request)
            async for _ in self._stream(message, timeout=FAREWELL, metadata=self._metadata):
                pass

    def _forget(self, name: int | None, task: asyncio.Task[None]) -> None:
        if self._farewells.get(name) is task:
            del self._farewells[name]


class AsyncGRPCSource:
    """The pieces of one conversation."""

    def __init__(
        self, transport: AsyncGRPCTransport, conversation: Conversation | None, timeout: Timeout
    ) -> None:
        self._transport, self._conversation, self._timeout = transport, conversation, timeout
        self._steps = (
            None if conversation is None else exchange(conversation, transport.retry, lambda: self._shown)
        )
        self._shown = False  # some of the answer
        self._deadline = Deadline(timeout)
        self._channel: _Channel | None = None
        self._call: Any = None  # the stream
        self._messages: Any = None  # what comes of it
        self._asking: Any = None  # a call with one response, perhaps while the stream is open
        self._last: Any = None
        self._alarm: ThreadDeadlineTimer | None = None
        self._cancellations = 0  # of the task that opened the stream
        self._closed = False

    async def __anext__(self) -> Piece:
        outcome: object = None
        steps = self._steps
        if self._closed or steps is None:
            raise StopAsyncIteration
        self._deadline.wake()
        try:
            while True:
                command = steps.throw(outcome) if isinstance(outcome, LLMError) else steps.send(outcome)
                if isinstance(command, Piece):
                    self._deadline.piece_arrived()
                    self._shown = True
                    return command
                outcome = await self._read() if isinstance(command, Next) else await self.execute(command)
                if self._closed:
                    raise StopAsyncIteration
        except StopIteration:
            self.close()
            raise StopAsyncIteration from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the generation."""
        if self._closed:
            return
        self._closed = True
        conversation, self._conversation = self._conversation, None
        if conversation is not None and self._channel is not None:
            request = conversation.farewell()
            if request is not None:
                self._channel.bid_farewell(request, conversation.wait_for)
        self._drop_call()
        if self._steps is not None:
            with contextlib.suppress(ValueError):  # it is on the stack above us, and ends with it
                self._steps.close()

    async def execute(self, command: object) -> object:
        """Do what `command` says; gives what came of it, an error included."""
        if isinstance(command, Open):
            return await self._open(command.request)
        if isinstance(command, (Ask, Describe, Index)):
            return await self._ask(question(command))
        assert isinstance(command, Pause)
        return await self._pause(command.seconds)

    async def _open(self, request: InferRequest) -> LLMError | None:
        assert self._conversation is not None
        self._drop_call()
        try:
            self._channel = await self._transport.channel()
            if (error := await self._connect(self._channel)) is not None:
                return error
            name = self._conversation.wait_for
            if name is not None:
                await self._deadline.wait(self._channel.wait_for_farewell(name))
        except LLMError as error:
            return error
        if self._closed:
            return closed_early()
        self._cancellations = _cancellations()
        call = self._call = self._channel.stream(request)
        self._messages = call.__aiter__()
        loop = asyncio.get_running_loop()

        def ring() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the call with it
                loop.call_soon_threadsafe(call.cancel)

        # Not a timer of the loop: with one set, each of the loop's waits costs more.
        self._alarm = ThreadDeadlineTimer(self._deadline, ring)
        return None

    async def _connect(self, channel: _Channel) -> LLMError | None:
        """Hold the limit for a connection, which a stream has none of."""
        if channel.connected or self._timeout.connect is None:
            return None
        outcome = await self._ask(LIVE)
        return outcome if isinstance(outcome, LLMError) and not channel.connected else None

    async def _read(self) -> Response | LLMError | None:
        while True:
            try:
                message = await self._messages.__anext__()
            except StopAsyncIteration:
                if self._last is None or is_final(self._last):
                    return None
                return StreamInterrupted("the answer ended without its final marker")
            except grpc.RpcError as error:
                return await self._failure(error)
            except asyncio.CancelledError:
                if _cancellations() > self._cancellations:
                    raise
                if self._alarm is not None and self._alarm.expired:
                    return self._deadline.exceeded()
                if self._closed:
                    return closed_early()
                raise
            if message.error_message:
                return ServerError(f"{self._transport.settings.address}: {message.error_message}")
            self._last = message.infer_response
            if self._last.outputs:  # else it says only that it is the last one
                return Response(self._last)

    async def _ask(self, asked: Question) -> object:
        limit = self._timeout.connect if asked.connects else None
        remaining = self._deadline.remaining()
        if remaining == 0:
            return self._deadline.exceeded()
        connecting = limit is not None and (remaining is None or limit < remaining)
        before = _cancellations()
        try:
            channel = await self._transport.channel()
            self._asking = channel.call(asked.method, asked.message, limit if connecting else remaining)
            answer = await self._asking
            channel.connected = True
            return asked.read(answer)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                if connecting:
                    return connect_timeout(self._transport.settings.address, limit)
                if remaining is not None:  # else it is the server's own
                    return self._deadline.exceeded()
            return await self._failure(error)
        except asyncio.CancelledError:
            if self._closed and _cancellations() == before:
                return closed_early()
            raise

    async def _failure(self, error: Any) -> LLMError:
        if self._alarm is not None and self._alarm.expired:
            return self._deadline.exceeded()
        return await self._transport.failure(error, begun=self._last is not None)

    async def _pause(self, seconds: float) -> LLMError | None:
        self._drop_call()
        remaining = self._deadline.remaining_in_total()
        if remaining is not None and remaining < seconds:
            await asyncio.sleep(remaining)
            return self._deadline.exceeded()
        await asyncio.sleep(seconds)
        self._deadline.restart()
        return None

    def _drop_call(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()
        for call in (self._call, self._asking):
            if call is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed, and the call with it
                    call.cancel()
        self._call = self._messages = self._asking = self._alarm = self._last = None


def _cancellations() -> int:
    """How often the running task was told to end: a call of ours that ends looks alike to who awaits it.

    Python 3.10 does not tell.
    """
    if sys.version_info < (3, 11):
        return 0
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
