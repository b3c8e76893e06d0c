"""Streams a caller iterates over: `Stream` and `AsyncStream`, two drivers of one `_Run`.

A run opens its source at the first step, feeds an `Answer`, and ends exactly once: with the END chunk, with
an error, or closed. However it ends, the source is closed, which stops the generation, and the session turn
is committed or rolled back. In a forked child a stream of the parent fails; its source is left to the parent.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType

from .. import forks
from ..errors import LLMError, StreamInterrupted
from ..schema import Completion, Piece, StreamChunk
from . import telemetry
from .answer import Answer
from .llm import LLMCore, PreparedCall
from .request import Request
from .sources import AsyncSource, Closable, Source

__all__ = ["AsyncStream", "AsyncTextStream", "Stream", "TextStream"]


class _Run:
    """One call on its way: its bookkeeping, shared by sync and async.

    Args:
        llm: The backend.
        call: The prepared call, or the error that refused it, which the first step reports.
        raises: Errors are raised even with ``on_error='status'``.
    """

    # Slots: with 1,000 streams at once, a dict for each costs more time than its use.
    __slots__ = (
        "__weakref__", "_answer", "_call", "_ended", "_generation", "_llm", "_reports", "_source", "_span",
        "completion",
    )  # fmt: skip

    _source: Closable | None

    def __init__(self, llm: LLMCore, call: PreparedCall | LLMError, *, raises: bool = False) -> None:
        self._ended = False
        self._source = None
        self._span: telemetry.CallSpan | None = None
        self._generation = 0  # of `forks`, when the source was opened
        self._llm = llm
        self._call = call
        self.completion: Completion | None = None
        if isinstance(call, LLMError):
            self._reports, self._answer = True, Answer()
            return
        request = call.request
        self._reports = not raises and request.options.on_error == "status"
        self._answer = Answer(request.stop_words, call.reader)

    @property
    def text(self) -> str:
        """The text so far."""
        return self._answer.text

    def close(self) -> None:
        """Stop the generation; the session stays as it was. Does nothing after the end."""
        if not self._ended:
            self._release()

    def _begin(self) -> Request:
        """The request to open.

        Raises:
            LLMError: The call was refused.
        """
        if isinstance(self._call, LLMError):
            raise self._call
        self._generation = forks.generation
        if telemetry.MODULE in sys.modules:
            self._span = telemetry.begin(self._llm, self._call.request)
        return self._call.request

    def _release(self, error: BaseException | None = None) -> None:
        self._ended = True
        ours = self._generation == forks.generation
        try:
            if self._source is not None and ours:
                self._source.close()
        finally:
            if isinstance(self._call, PreparedCall) and self._call.turn is not None:
                self._call.turn.rollback()
            if self._span is not None and ours:
                self._span.end(self.completion, error)

    def _complete(self) -> StreamChunk:
        assert isinstance(self._call, PreparedCall)
        self.completion, chunk = self._answer.finish()
        request, history, turn, _ = self._call
        if turn is not None:
            message = self._llm.message_of(self.completion)
            turn.commit(history.answered(self.completion, message, request.held))
        self._release()
        return chunk

    def _check_process(self) -> None:
        forks.check(self._generation, "this stream was opened", "start a new one in this process")

    def _closed_meanwhile(self, error: BaseException) -> bool:
        """True if the error is a side effect of a concurrent `close()`."""
        return self._ended and isinstance(error, Exception)

    def _fail(self, error: BaseException) -> StreamChunk:
        """End the stream with `error`.

        Returns:
            The chunk that reports it, with ``on_error='status'``.

        Raises:
            BaseException: `error`, or the error that explains it.
        """
        if isinstance(error, (StopIteration, StopAsyncIteration)):
            error = StreamInterrupted("the stream ended without its final marker")
        self._release(error)
        if not isinstance(error, LLMError):
            raise error
        held = self._answer.release()
        error.partial = error.partial or self._answer.text
        error = self._llm.explain(error)
        if not self._reports:
            raise error
        return self._answer.fail(error, held)

    def __del__(self) -> None:
        if not self._ended:
            self._release()


class Stream(_Run, Iterator[StreamChunk]):
    """Chunks of one answer. Leaving it early stops the generation.

    Attributes:
        completion: The whole answer after the END chunk, None before.
    """

    __slots__ = ("_start",)

    _source: Source | None

    def __init__(
        self,
        llm: LLMCore,
        start: Callable[[Request], Source],
        call: PreparedCall | LLMError,
        *,
        raises: bool = False,
    ) -> None:
        super().__init__(llm, call, raises=raises)
        self._start = start

    def __next__(self) -> StreamChunk:
        while not self._ended:
            try:
                if self._answer.done:
                    return self._complete()
                if self._source is None:
                    self._source = self._start(self._begin())
                    if self._ended:  # closed while it opened: `close` had no source to close yet
                        self._source.close()
                        break
                elif self._generation != forks.generation:
                    self._check_process()
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
        completion: The whole answer after the END chunk, None before.
    """

    __slots__ = ("_ready", "_start")

    _source: AsyncSource | None

    def __init__(
        self,
        llm: LLMCore,
        start: Callable[[Request], Awaitable[AsyncSource]],
        call: PreparedCall | LLMError,
        *,
        raises: bool = False,
    ) -> None:
        super().__init__(llm, call, raises=raises)
        self._start = start
        self._ready: deque[Piece] | None = None

    async def __anext__(self) -> StreamChunk:
        while not self._ended:
            try:
                if self._answer.done:
                    return self._complete()
                if self._source is None:
                    self._source = await self._start(self._begin())
                    if self._ended:  # closed while it opened: `close` had no source to close yet
                        self._source.close()
                        break
                    self._ready = getattr(self._source, "ready", None)
                elif self._generation != forks.generation:
                    self._check_process()
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
