"""Run the blocking ``forward_…`` methods in threads; a disconnect stops the generations they started."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from fastapi import Request

from ...core.deadline import Deadline
from ...params import Timeout
from ..disconnect import cancel_on_disconnect
from ..limits import Limits

__all__ = ["LazyThreadPool", "close_on_disconnect", "run_in_thread"]


class LazyThreadPool:
    """A thread pool that is created on first use, again after a shutdown.

    Args:
        max_workers: Maximum number of threads.
    """

    def __init__(self, max_workers: int) -> None:
        self._max_workers = max_workers
        self._executor: ThreadPoolExecutor | None = None

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The thread pool, created on first use."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._max_workers, thread_name_prefix="forward")
        return self._executor

    async def shutdown(self) -> None:
        """Stop accepting work; threads end after their current work, without being awaited."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None


class _Closable(Protocol):
    def close(self) -> None:
        """Stop the generation; callable from any thread and more than once."""


class _OpenStreams:
    """The streams opened while one request is answered; closed together with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: list[_Closable] = []
        self._closed = False

    def add(self, stream: _Closable) -> None:
        with self._lock:
            self._streams.append(stream)
            closed = self._closed
        if closed:
            stream.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        for stream in self._streams:
            stream.close()


_open_streams: contextvars.ContextVar[_OpenStreams | None] = contextvars.ContextVar(
    "open_streams", default=None
)


def close_on_disconnect(stream: _Closable) -> None:
    """Close `stream` when the current request ends; does nothing outside `run_in_thread`."""
    streams = _open_streams.get()
    if streams is not None:
        streams.add(stream)


async def run_in_thread(
    request: Request, threads: LazyThreadPool, function: Callable[[Any], Any], data: Any
) -> Any:
    """Return ``function(data)``, called in a thread, or awaited if `function` is an ``async def``.

    Raises:
        ClientDisconnected: The client disconnected first; the generations started here are stopped.
        TimeoutExceeded: The answer took longer than `Limits.request_seconds`; they are stopped as well.
    """
    limits: Limits = request.app.state.limits
    deadline = Deadline(Timeout(first_token=None, idle=None, total=limits.request_seconds))
    streams = _OpenStreams()
    _open_streams.set(streams)  # each request has its own context
    try:
        if inspect.iscoroutinefunction(function):
            return await deadline.wait(cancel_on_disconnect(request, function(data)))
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(threads.executor, context.run, function, data)
        return await deadline.wait(cancel_on_disconnect(request, running))
    finally:
        streams.close()
