"""`Caller`: call a synchronous or an asynchronous backend in the same way, from synchronous tests."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from ...core.base import AsyncBaseLLM, BaseLLM
from ...schema import StreamChunk

__all__ = ["Caller"]

#: Longest time of one call, in seconds.
CALL_TIMEOUT = 120


class Caller:
    """Calls `llm` synchronously; an asynchronous backend runs on an event loop in a thread of its own.

    All other methods are those of `llm`; coroutines are run to their end.

    Args:
        llm: The backend.

    Attributes:
        llm: The backend.
        asynchronous: True if `llm` is asynchronous.
    """

    def __init__(self, llm: BaseLLM | AsyncBaseLLM) -> None:
        self.llm: Any = llm
        self.asynchronous = inspect.iscoroutinefunction(llm.generate)
        if self.asynchronous:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
            self._thread.start()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_TIMEOUT)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.llm, name)
        if not self.asynchronous:
            return method
        return lambda *args, **kwargs: self._run(method(*args, **kwargs))

    def of(self, made: Any) -> Caller:
        """A caller of an object that the backend has made (a session), on the same event loop."""
        caller = object.__new__(Caller)
        vars(caller).update(vars(self), llm=made)
        return caller

    def step(self, stream: Any) -> StreamChunk:
        """The next chunk of a stream."""
        if not self.asynchronous:
            return next(stream)  # type: ignore[no-any-return]
        return self._run(stream.__anext__())  # type: ignore[no-any-return]

    @contextmanager
    def stream(self, method: str, *args: Any, **kwargs: Any) -> Iterator[Iterator[Any]]:
        """Iterate over the items of a streaming method; leaving the context closes the stream."""
        stream = getattr(self.llm, method)(*args, **kwargs)
        if not self.asynchronous:
            yield stream
            stream.close()
            return

        async def step() -> Any:
            try:
                return await stream.__anext__()
            except StopAsyncIteration:
                return None

        def steps() -> Iterator[Any]:
            while (item := self._run(step())) is not None:
                yield item

        yield steps()
        self._run(stream.aclose())

    def chunks(self, method: str, *args: Any, **kwargs: Any) -> list[StreamChunk]:
        """All items of a streaming method."""
        stream = getattr(self.llm, method)(*args, **kwargs)
        if not self.asynchronous:
            return list(stream)

        async def read() -> list[StreamChunk]:
            return [chunk async for chunk in stream]

        return self._run(read())  # type: ignore[no-any-return]

    def forget_stream(self, *args: Any, **kwargs: Any) -> None:
        """Read one chunk of ``stream_chat``, then drop the stream without closing it."""
        if not self.asynchronous:
            next(self.llm.stream_chat(*args, **kwargs))
            return

        async def step() -> None:
            await self.llm.stream_chat(*args, **kwargs).__anext__()

        self._run(step())

    def give_up_waiting(self, *args: Any, **kwargs: Any) -> None:
        """Stop ``stream_chat`` during a read: cancel the task, or close the stream from another thread."""
        started = threading.Event()
        if self.asynchronous:

            async def read() -> None:
                async for _ in self.llm.stream_chat(*args, **kwargs):
                    started.set()

            read_task = asyncio.run_coroutine_threadsafe(read(), self._loop)
            assert started.wait(CALL_TIMEOUT)
            read_task.cancel()
            return
        stream = self.llm.stream_chat(*args, **kwargs)

        def read_all() -> None:
            for _ in stream:
                started.set()

        reader = threading.Thread(target=read_all, daemon=True)
        reader.start()
        assert started.wait(CALL_TIMEOUT)
        stream.close()
        reader.join(CALL_TIMEOUT)
        assert not reader.is_alive(), "the reading thread is still blocked after close()"

    def shut(self) -> None:
        """Close the backend, with ``close()`` or ``await aclose()``."""
        if self.asynchronous:
            self._run(self.llm.aclose())
        else:
            self.llm.close()

    def close(self) -> None:
        """Close the backend and the event loop."""
        with contextlib.suppress(Exception):
            self.shut()
        if self.asynchronous:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
