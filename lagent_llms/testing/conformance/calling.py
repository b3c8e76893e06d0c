"""One way to call a backend, synchronous or not, so that every promise is written once for both."""

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

#: Nothing a promise asks for takes longer than this, in seconds.
PATIENCE = 120


class Caller:
    """Calls `llm`; an asynchronous one on an event loop in a thread of its own.

    Methods that are not written here are those of `llm`, called to their end.
    """

    def __init__(self, llm: BaseLLM | AsyncBaseLLM) -> None:
        self.llm: Any = llm
        self.asynchronous = inspect.iscoroutinefunction(llm.generate)
        if self.asynchronous:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
            self._thread.start()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.llm, name)
        if not self.asynchronous:
            return method
        return lambda *args, **kwargs: self._run(method(*args, **kwargs))

    @contextmanager
    def stream(self, method: str, *args: Any, **kwargs: Any) -> Iterator[Iterator[Any]]:
        """An iterator over what a streaming method yields; left early, the stream is closed."""
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
        """Everything a streaming method yields."""
        with self.stream(method, *args, **kwargs) as stream:
            return list(stream)

    def forget_stream(self, *args: Any, **kwargs: Any) -> None:
        """Take one step of ``stream_chat`` and let go of it, without closing it."""
        if not self.asynchronous:
            next(self.llm.stream_chat(*args, **kwargs))
            return

        async def step() -> None:
            await self.llm.stream_chat(*args, **kwargs).__anext__()

        self._run(step())

    def give_up_waiting(self, *args: Any, **kwargs: Any) -> None:
        """Give up ``stream_chat`` while it is waited for: cancel the task, or close it from elsewhere."""
        begun = threading.Event()
        if self.asynchronous:

            async def read() -> None:
                async for _ in self.llm.stream_chat(*args, **kwargs):
                    begun.set()

            reading = asyncio.run_coroutine_threadsafe(read(), self._loop)
            assert begun.wait(PATIENCE)
            reading.cancel()
            return
        stream = self.llm.stream_chat(*args, **kwargs)

        def drain() -> None:
            for _ in stream:
                begun.set()

        reader = threading.Thread(target=drain, daemon=True)
        reader.start()
        assert begun.wait(PATIENCE)
        stream.close()
        reader.join(PATIENCE)
        assert not reader.is_alive(), "the reader still waits for a closed stream"

    def shut(self) -> None:
        """Close the backend; ``close()`` or ``await aclose()``."""
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
