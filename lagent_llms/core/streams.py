"""Streams a caller iterates over: `Stream` and `AsyncStream`, two thin drivers of one `_Run`.

A run opens its source at the first step, feeds an `Answer`, and ends exactly once: with the END chunk, with
an error, or closed. However it ends, the source is closed, which stops the generation, and the session turn
is committed or rolled back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Protocol

from ..errors import LLMError, StreamInterrupted
from ..schema import Completion, Piece, StreamChunk
from .answer import Answer
from .request import Request

__all__ = ["AsyncSource", "AsyncStream", "AsyncTextStream", "Source", "Stream", "TextStream"]


class _Closable(Protocol):
    def close(self) -> None:
        """Stop the generation and free what it holds, at once.

        May come at any time, from any thread and from a finalizer, more than once; it does not wait.
        """


class Source(_Closable, Protocol):
    """Pieces of one answer."""

    def __next__(self) -> Piece: ...


class AsyncSource(_Closable, Protocol):
    """Pieces of one answer.

    A source that gets several pieces at a time may keep those it was not asked for yet in a deque named
    `ready`: they are taken from there, which costs no step of the event loop.
    """

    def __anext__(self) -> Awaitable[Piece]: ...


class _Run:
    """The state of one stream that sync and async share."""

    _source: _Closable | None = None
    _ended = False

    def __init__(self, request: Request, answer: Answer) -> None:
        self._request = request
        self._answer = answer
        self.completion: Completion | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return self._answer.text

    def close(self) -> None:
        """Stop the generation; the session stays as it was. Does nothing after the end."""
        if not self._ended:
            self._release()

    def _release(self, error: BaseException | None = None) -> None:
        self._ended = True
        if self._source is not None:
            self._source.close()
        self._request.turn.rollback()
        if self._request.span is not None:
            self._request.span.end(self.completion, error)

    def _complete(self) -> StreamChunk:
        self.completion, chunk = self._answer.finish()
        self._request.turn.commit(self._request.history(self.completion))
        self._release()
        return chunk

    def _closed_meanwhile(self, error: BaseException) -> bool:
        """Whether `error` is only what a step finds when somebody else has closed the stream."""
        return self._ended and isinstance(error, Exception)

    def _closed_while_opening(self) -> bool:
        """Whether somebody else has closed the stream before it had a source; that is closed now."""
        if self._ended and self._source is not None:
            self._source.close()
        return self._ended

    def _fail(self, error: BaseException) -> StreamChunk:
        """The chunk that tells of `error`, or `error` itself raised."""
        if isinstance(error, (StopIteration, StopAsyncIteration)):
            error = StreamInterrupted("the stream ended without its final marker")
        self._release(error)
        if not isinstance(error, LLMError):
            raise error
        error.partial = error.partial or self._answer.text
        if self._request.explain is not None:
            error = self._request.explain(error)
        if self._request.on_error != "status":
            raise error
        return self._answer.fail(error)

    def __del__(self) -> None:
        self.close()


class Stream(_Run, Iterator[StreamChunk]):
    """Chunks of one answer. Leaving it early, by any way, stops the generation.

    Attributes:
        completion: The whole answer once the stream has ended well, None before.
    """

    _source: Source | None = None

    def __init__(self, request: Request, answer: Answer, start: Callable[[Request], Source]) -> None:
        super().__init__(request, answer)
        self._start = start

    def __next__(self) -> StreamChunk:
        while not self._ended:
            try:
                if self._answer.done:
                    return self._complete()
                if self._source is None:
                    self._source = self._start(self._request)
                    if self._closed_while_opening():
                        break
                piece = next(self._source)
            except BaseException as error:  # noqa: BLE001  (released, then raised again)
                if self._closed_meanwhile(error):
                    break
                return self._fail(error)
            if (chunk := self._answer.feed(piece)) is not None:
                return chunk
        raise StopIteration

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncStream(_Run, AsyncIterator[StreamChunk]):
    """Chunks of one answer. Leaving it early, or cancelling the task, stops the generation.

    Attributes:
        completion: The whole answer once the stream has ended well, None before.
    """

    _source: AsyncSource | None = None
    _ready: deque[Piece] | None = None

    def __init__(
        self, request: Request, answer: Answer, start: Callable[[Request], Awaitable[AsyncSource]]
    ) -> None:
        super().__init__(request, answer)
        self._start = start

    async def __anext__(self) -> StreamChunk:
        while not self._ended:
            try:
                if self._answer.done:
                    return self._complete()
                if self._source is None:
                    self._source = await self._start(self._request)
                    if self._closed_while_opening():
                        break
                    self._ready = getattr(self._source, "ready", None)
                piece = self._ready.popleft() if self._ready else await self._source.__anext__()
            except BaseException as error:  # noqa: BLE001  (released, then raised again)
                if self._closed_meanwhile(error):
                    break
                return self._fail(error)
            if (chunk := self._answer.feed(piece)) is not None:
                return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """`close`, for ``contextlib.aclosing``."""
        self.close()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TextStream(Iterator[str]):
    """Only the new text of each step of a `Stream`; closing it closes the stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __next__(self) -> str:
        while True:
            if delta := next(self._stream).delta:
                return delta

    def close(self) -> None:
        """Stop the generation."""
        self._stream.close()


class AsyncTextStream(AsyncIterator[str]):
    """Only the new text of each step of an `AsyncStream`; closing it closes the stream."""

    def __init__(self, stream: AsyncStream) -> None:
        self._stream = stream

    async def __anext__(self) -> str:
        while True:
            if delta := (await self._stream.__anext__()).delta:
                return delta

    async def aclose(self) -> None:
        """Stop the generation."""
        self._stream.close()
