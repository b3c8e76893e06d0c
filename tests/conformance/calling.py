"""One way to call a backend, synchronous or not, so that every promise is tested once for both."""

import asyncio
import inspect
import threading
from contextlib import contextmanager


class Caller:
    """Calls `llm`; an asynchronous one on an event loop in a thread of its own."""

    def __init__(self, llm):
        self.llm = llm
        self.asynchronous = inspect.iscoroutinefunction(llm.generate)
        if self.asynchronous:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
            self._thread.start()

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(120)

    def __getattr__(self, name):
        """generate, chat, complete and tokenize."""
        method = getattr(self.llm, name)
        if not self.asynchronous:
            return method
        return lambda *args, **kwargs: self._run(method(*args, **kwargs))

    @contextmanager
    def stream(self, method, *args, **kwargs):
        """An iterator over what a streaming method yields; left early, the stream is closed."""
        stream = getattr(self.llm, method)(*args, **kwargs)
        if not self.asynchronous:
            yield stream
            stream.close()
            return

        async def step():
            try:
                return await stream.__anext__()
            except StopAsyncIteration:
                return None

        def steps():
            while (item := self._run(step())) is not None:
                yield item

        yield steps()
        self._run(stream.aclose())

    def close(self):
        if self.asynchronous:
            self._run(self.llm.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
        else:
            self.llm.close()
