"""An answer of a member, passed on as it comes; another member is asked until one answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ...core.deadline import LaterAttempt
from ...core.replay import SourceAnswer
from ...errors import LLMError, ModelStatusCode
from ...schema import Completion, Piece, StreamChunk, TextBuffer
from .route import Pool, Route

if TYPE_CHECKING:
    from ...core.request import Input
    from ...params import CallOptions

__all__ = ["AsyncRelay", "Relay"]

_NOTHING = Piece()


class _RelayCore(SourceAnswer):
    """The answer of whichever member answers first; the source of its chunks, too.

    Args:
        pool: The members.
        inputs: What a member is called with.
        given: The parameters that it gets.
        options: Those of the call, of which the session is no member's.
    """

    __slots__ = ("_chunk", "_closed", "_closes_session", "_given", "_inputs", "_policy", "_route", "_stream")

    def __init__(self, pool: Pool, inputs: Input, given: dict[str, Any], options: CallOptions) -> None:
        super().__init__()
        self._inputs, self._given = inputs, given
        if "timeout" in self._given:  # it is the limit of the whole call, not of each member
            self._given["timeout"] = LaterAttempt.of(options.timeout, time.monotonic())
        self._route = Route(pool, None if options.stateless else options.session_id)
        self._closes_session = options.sequence_end
        self._policy = options.retry
        self._stream: Any = None
        self._chunk: StreamChunk
        self._closed = False

    def _open_next(self) -> None:
        """Open the stream of the next member."""
        member: Any = self._route.take()
        self._policy = self._given.get("retry", member.options.retry)
        self._stream = member.raising_stream(self._inputs, self._given)
        if self._closed:  # meanwhile, from elsewhere
            self._stream.close()

    def _move_on(self, error: LLMError) -> None:
        """Leave the member that failed, for the next one.

        Raises:
            LLMError: No other one is asked; `error`, or that of another member.
        """
        begun = bool(self.chunks) or self._closed
        if (failure := self._route.failed(error, self._policy, begun=begun)) is not None:
            raise failure from failure.__cause__
        self._stream = None

    def _take(self, chunk: StreamChunk) -> Piece:
        self._chunk = chunk
        if chunk.status == ModelStatusCode.END:
            self._route.end(answered=True, closes_session=self._closes_session)
        return _NOTHING

    def feed(self, piece: Piece) -> StreamChunk | None:
        """Show the chunk that the member has shown; `piece` is empty."""
        chunk = self._chunk
        self._buffer, self._length, self._n_tokens = chunk._buffer, chunk._end, chunk.n_tokens
        if chunk.status == ModelStatusCode.END:
            self.done = True
            return None
        self._keep(chunk)
        return chunk

    def finish(self) -> tuple[Completion, StreamChunk]:
        """See `Answer.finish`."""
        chunk = self._chunk
        assert chunk.completion is not None
        self._keep(chunk)
        return chunk.completion, chunk

    def release(self) -> str:
        """See `Answer.release`: what the member had held back."""
        text: str = "" if self._stream is None else self._stream.text
        held = text[self._length :]
        self._buffer, self._length = TextBuffer(), len(text)
        self._buffer.append(text)
        return held

    def close(self) -> None:
        """Stop the generation at the member."""
        self._closed = True
        if self._stream is not None:
            self._stream.close()
        self._route.end()


class Relay(_RelayCore):
    """The synchronous relay."""

    __slots__ = ()

    def __next__(self) -> Piece:
        while True:
            try:
                if self._stream is None:
                    self._open_next()
                return self._take(next(self._stream))
            except LLMError as error:
                self._move_on(error)


class AsyncRelay(_RelayCore):
    """The asynchronous relay."""

    __slots__ = ()

    async def __anext__(self) -> Piece:
        while True:
            try:
                if self._stream is None:
                    self._open_next()
                return self._take(await self._stream.__anext__())
            except LLMError as error:
                self._move_on(error)
