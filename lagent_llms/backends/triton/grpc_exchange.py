"""What a conversation over gRPC does and when, deadlines included. Pure: no I/O.

`GRPCExchange` yields commands, and a driver (`grpc_sync`, `grpc_aio`) executes them and returns their
outcomes. All decisions are made here, so sync and async cannot differ: the order of opening, limits, the
meaning of a status, when a stream is over, and what is sent to the server when the caller
leaves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any, Generic, Protocol, TypeVar

from ...core.deadline import Deadline
from ...errors import LLMError, ServerError, StreamInterrupted
from ...http.config import connect_timeout
from ...params import Timeout
from ...schema import Piece
from .conversation import READ_RESPONSE, Infer, InferRequest, OpenStream, ReadResponse, UnaryCommand
from .errors import call_error, closed_error, is_ambiguous_status
from .grpc_commands import (
    READ_MESSAGE,
    CallFailure,
    ChannelState,
    DriverCommand,
    SendCancel,
    ServerLive,
    UnaryCall,
    WaitForCancel,
)
from .grpc_response import GRPCResponse, is_final

__all__ = ["GRPCExchange", "Lookup"]

#: Seconds for the server to confirm that it is live, after a status that leaves this open.
LIVENESS_TIMEOUT = 0.5

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Commands = Generator[DriverCommand, Any, T]


class _Conversation(Protocol[T_co]):
    """`Conversation`, or a `Lookup` that has a result."""

    @property
    def server_session(self) -> int | None: ...

    def steps(self) -> Generator[Any, Any, T_co]: ...

    def cancel_request(self) -> InferRequest | None: ...


class Lookup(Generic[T]):
    """Unary commands that are run once, for their result.

    Args:
        steps: Yields the commands and returns the result.
    """

    server_session = None

    def __init__(self, steps: Generator[UnaryCommand, Any, T]) -> None:
        self._steps = steps

    def steps(self) -> Generator[UnaryCommand, Any, T]:
        """Return the commands."""
        return self._steps

    def cancel_request(self) -> None:
        """Return None: cancelling a call is enough."""


class GRPCExchange(Generic[T]):
    """One conversation on one channel.

    Args:
        conversation: What to run.
        channel: The state of the channel that it runs on.
        timeout: Limits, in seconds.

    Attributes:
        deadline: The limit for what is being waited for.
        closed: Set by the driver when the caller has closed the exchange.
        result: What the conversation returned, once `resume` has raised StopIteration.
    """

    result: T

    def __init__(
        self,
        conversation: _Conversation[T],
        channel: ChannelState,
        timeout: Timeout,
    ) -> None:
        self.deadline = Deadline(timeout)
        self.closed = False
        self._conversation: _Conversation[T] | None = conversation
        self._channel, self._timeout = channel, timeout
        self._last: Any = None  # the stream's last ModelInferResponse
        self._size = 0  # bytes of the outputs so far
        self._commands = self._run(conversation)

    def resume(self, outcome: object) -> DriverCommand:
        """Take the outcome of the last command (None at first, and after a piece); return the next command.

        Raises:
            StopIteration: The conversation is complete.
            LLMError: It has failed, or was closed.
        """
        if self.closed:
            raise closed_error()
        try:
            return self._commands.send(outcome)
        except LLMError as error:
            self._channel.secrets.redact_error(error)
            raise

    def release(self) -> SendCancel | None:
        """End the exchange; return what must be sent so that the server stops, None if nothing.

        The driver cancels the stream in either case. Further calls return None.
        """
        self.closed = True
        conversation, self._conversation = self._conversation, None
        request = None if conversation is None else conversation.cancel_request()
        with contextlib.suppress(ValueError):  # released by a finalizer while it runs; `resume` ends it
            self._commands.close()
        if conversation is None or request is None:
            return None
        return SendCancel(request, conversation.server_session)

    def _run(self, conversation: _Conversation[T]) -> Commands[None]:
        self.result = yield from self._conversed(conversation)

    def _conversed(self, conversation: _Conversation[T]) -> Commands[T]:
        steps = conversation.steps()
        outcome: object = None
        while True:
            try:
                command = steps.throw(outcome) if isinstance(outcome, LLMError) else steps.send(outcome)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            except LLMError:
                raise
            except Exception as error:
                if isinstance(outcome, GRPCResponse):  # whatever a server sends is an LLMError
                    reason = f"the server's answer cannot be read: {str(error)[:200]!r}"
                    raise ServerError(f"{self._channel.address}: {reason}") from error
                raise
            if isinstance(command, ReadResponse):
                outcome = READ_RESPONSE
                while outcome is READ_RESPONSE:
                    message = yield READ_MESSAGE
                    if isinstance(message, CallFailure):
                        outcome = yield from self._error(message, begun=self._last is not None)
                    else:
                        outcome = self._response(message)
                        if isinstance(outcome, ServerError) and message.error_message:
                            yield from self._drain()
            elif isinstance(command, Piece):
                self.deadline.piece_arrived()
                outcome = yield command
                self.deadline.wake()
            elif isinstance(command, OpenStream):
                outcome = yield from self._open(command, conversation)
            else:
                outcome = yield from self._call(command)

    def _open(self, command: OpenStream, conversation: _Conversation[T]) -> Commands[LLMError | None]:
        """Connect, wait for a pending cancel request of the same session, open the stream."""
        if not self._channel.connected and self._timeout.connect is not None:
            # A stream has no limit for its connection, so a call with that limit makes the connection first.
            outcome = yield from self._call(ServerLive())
            if isinstance(outcome, LLMError) and not self._channel.connected:
                return outcome
        if (session := conversation.server_session) is not None:
            yield WaitForCancel(session, self.deadline.remaining())
            if self.deadline.remaining() == 0:
                return self.deadline.exceeded(self._channel.address)
        self._last = None
        self.deadline.restart()  # finding the model and connecting are no part of the wait for the answer
        failure = yield command
        return None if failure is None else (yield from self._error(failure, begun=False))

    def _response(self, message: Any) -> GRPCResponse | ReadResponse | LLMError | None:
        """Return the outcome of reading `message`; READ_RESPONSE if it has no outputs."""
        if message is None:
            if self._last is not None and is_final(self._last):
                return None
            return StreamInterrupted("the answer ended without its final marker")
        if message.error_message:
            return ServerError(f"{self._channel.address}: {message.error_message[:2000]}")
        self._last = message.infer_response
        self._size += sum(map(len, self._last.raw_output_contents))
        if self._size > (limit := self._channel.max_response_bytes):
            raise ServerError(  # raised, not returned: the stream is not read to its end
                f"{self._channel.address}: the response exceeds {limit} bytes; "
                "limits.response_bytes allows more"
            )
        return GRPCResponse(self._last) if self._last.outputs else READ_RESPONSE

    def _drain(self) -> Commands[None]:
        """Read the stream to its end: to cancel it while the server ends it may crash the server (ADR 68)."""
        while (message := (yield READ_MESSAGE)) is not None and not isinstance(message, CallFailure):
            pass

    def _call(self, command: UnaryCommand | ServerLive) -> Commands[Any]:
        remaining = self.deadline.remaining()
        if remaining == 0:
            return self.deadline.exceeded(self._channel.address)
        # Only a model may take longer than a connection.
        connect = None if isinstance(command, Infer) else self._timeout.connect
        connecting = connect is not None and (remaining is None or connect < remaining)
        outcome = yield UnaryCall(command, connect if connecting else remaining)
        if not isinstance(outcome, CallFailure):
            self._channel.connected = True
            return outcome
        if outcome.code == "DEADLINE_EXCEEDED" and not self.closed:
            if connecting:
                return connect_timeout(self._channel.address, connect)
            if remaining is not None:  # otherwise it is the server's own limit
                return self.deadline.exceeded(self._channel.address)
        return (yield from self._error(outcome, begun=False))

    def _error(self, failure: CallFailure, *, begun: bool) -> Commands[LLMError]:
        """Return the error for `failure`; an ambiguous status needs a liveness check."""
        if failure.expired:
            return self.deadline.exceeded(self._channel.address)
        if self.closed:
            return closed_error()
        if failure.code is None or self._channel.closed:
            return StreamInterrupted(f"the channel to {self._channel.address} is closed: {failure.details}")
        alive = not is_ambiguous_status(failure.code)
        if not alive:
            alive = (yield UnaryCall(ServerLive(), LIVENESS_TIMEOUT)) is True
        self._channel.connected = alive
        return call_error(failure.code, failure.details, self._channel.address, alive=alive, begun=begun)
