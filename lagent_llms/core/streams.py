"""Streams a caller iterates over: `Stream` and `AsyncStream`, the two drivers of a `Run`."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import forks
from ..errors import LLMError
from ..schema import Completion, Piece, StreamChunk
from .llm import LLMCore, PreparedCall
from .request import Request
from .run import Run, as_failure
from .sources import AsyncSource, Source

if TYPE_CHECKING:
    import asyncio

    from .gates import AsyncPlace, Place

__all__ = ["AsyncStream", "AsyncTextStream", "Stream", "TextStream"]


def _set_on(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """Set `event` of `loop`, from any thread."""
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(event.set)


class Stream(Run, Iterator[StreamChunk]):
    """Chunks of one answer. Leaving it early stops the generation.

    Attributes:
        completion: The whole answer after the END chunk, None before.
    """

    __slots__ = ("_start",)

    _source: Source | None
    _place: Place | None

    def __init__(
        self,
        llm: LLMCore,
        start: Callable[[Request], Source],
        call: PreparedCall | LLMError,
        *,
        raises: bool = False,
        place: Place | None = None,
    ) -> None:
        super().__init__(llm, call, raises=raises, place=place)
        self._start = start

    def __next__(self) -> StreamChunk:
        while not self._ended:
            try:
                if self._answer.done:
                    return self._complete()
                if self._source is None:
                    self._source = self._opened(self._begin())
                    if self._ended:  # closed while it opened: `close` had no source to close yet
                        self._source.close()
                        break
                elif self._generation != forks.generation:
                    self._check_process()
                piece = next(self._source)
            except BaseException as error:  # noqa: BLE001  (released, then raised again)
                if self._closed_meanwhile(error):
                    break
                failure = as_failure(error)
                try:
                    if self._tries_again(failure):
                        continue
                except BaseException as interrupt:  # noqa: BLE001  (Ctrl-C during the wait)
                    failure = interrupt
                return self._fail(failure)
            if self._first_at is None:
                self._first_at = time.monotonic()
            if (chunk := self._answer.feed(piece)) is not None:
                return chunk
        raise StopIteration

    def _opened(self, request: Request) -> Source:
        """The cached answer, else a new source."""
        if (recording := self._recording) is not None and recording.looks_up:
            model: Any = self._llm.served_model(request.options.timeout)
            if (cached := recording.look_up(model)) is not None:
                self._replay(cached)
                return cached
        source = self._start(request)
        self._replay(source)
        return source

    def _tries_again(self, error: BaseException) -> bool:
        """Wait for the next attempt after `error`; False if the call ends with it."""
        if (seconds := self._backoff(error)) is None:
            return False
        wake = threading.Event()
        self._wake = wake.set
        if self._place is not None and isinstance(error, LLMError):
            self._place.pause(seconds, error, wake)
        elif not self._ended:
            wake.wait(seconds)
        return True

    def drain(self) -> Completion:
        """Run to the end and return the whole answer.

        Raises:
            StreamInterrupted: The stream was closed before its end.
        """
        for _ in self:
            pass
        return self._whole()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncStream(Run, AsyncIterator[StreamChunk]):
    """Chunks of one answer. Leaving it early, or cancelling the task, stops the generation.

    Attributes:
        completion: The whole answer after the END chunk, None before.
    """

    __slots__ = ("_ready", "_start")

    _source: AsyncSource | None
    _place: AsyncPlace | None

    def __init__(
        self,
        llm: LLMCore,
        start: Callable[[Request], Awaitable[AsyncSource]],
        call: PreparedCall | LLMError,
        *,
        raises: bool = False,
        place: AsyncPlace | None = None,
    ) -> None:
        super().__init__(llm, call, raises=raises, place=place)
        self._start = start
        self._ready: deque[Piece] | None = None

    async def __anext__(self) -> StreamChunk:
        while not self._ended:
            try:
                if self._answer.done:
                    return self._complete()
                if self._source is None:
                    self._source = await self._opened(self._begin())
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
                failure = as_failure(error)
                try:
                    if await self._tries_again(failure):
                        continue
                except BaseException as interrupt:  # noqa: BLE001  (a cancellation during the wait)
                    failure = interrupt
                return self._fail(failure)
            if self._first_at is None:
                self._first_at = time.monotonic()
            if (chunk := self._answer.feed(piece)) is not None:
                return chunk
        raise StopAsyncIteration

    async def _opened(self, request: Request) -> AsyncSource:
        """See `Stream._opened`."""
        if (recording := self._recording) is not None and recording.looks_up:
            import asyncio  # here, to keep the package's import fast

            model = self._llm.served_model(request.options.timeout)
            if not isinstance(model, str):
                model = await model
            if (cached := await asyncio.to_thread(recording.look_up, model)) is not None:
                self._replay(cached)
                return cached
        source = await self._start(request)
        self._replay(source)
        return source

    async def _tries_again(self, error: BaseException) -> bool:
        """Wait for the next attempt after `error`; False if the call ends with it."""
        if (seconds := self._backoff(error)) is None:
            return False
        import asyncio  # here, to keep the package's import fast

        from .gates import wait_for_event

        wake, loop = asyncio.Event(), asyncio.get_running_loop()
        self._wake = partial(_set_on, loop, wake)
        if self._place is not None and isinstance(error, LLMError):
            await self._place.pause(seconds, error, wake)
        elif not self._ended:
            await wait_for_event(wake, seconds)
        return True

    async def drain(self) -> Completion:
        """See `Stream.drain`."""
        async for _ in self:
            pass
        return self._whole()

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
