"""Blocking work for an HTTP request, in a thread; what it generates ends when the client leaves."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from fastapi import Request

from ..disconnect import cancel_on_disconnect

__all__ = ["Threads", "answer_in_thread", "close_on_disconnect"]


class Threads:
    """Threads that are made when they are needed, and end when the server does.

    Args:
        most: How many at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pool: ThreadPoolExecutor | None = None

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Where to run something."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._most, thread_name_prefix="forward")
        return self._pool

    async def end(self) -> None:
        """Let the threads go that have nothing to do; new ones are made when they are needed again."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None


class _Closable(Protocol):
    def close(self) -> None:
        """Stop; from any thread, and more than once."""


class _OpenStreams:
    """The streams of one request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[_Closable] = []
        self._let_go = False

    def add(self, stream: _Closable) -> None:
        with self._lock:
            self._held.append(stream)
            gone = self._let_go
        if gone:
            stream.close()

    def close(self) -> None:
        with self._lock:
            self._let_go = True
        for stream in self._held:
            stream.close()


_current: contextvars.ContextVar[_OpenStreams | None] = contextvars.ContextVar("leash", default=None)


def close_on_disconnect(stream: _Closable) -> None:
    """`stream` ends with the request it is for; does nothing outside of `answer_in_thread`."""
    leash = _current.get()
    if leash is not None:
        leash.add(stream)


async def answer_in_thread(request: Request, threads: Threads, work: Callable[[Any], Any], data: Any) -> Any:
    """What ``work(data)`` returns; `work` may also be an ``async def``.

    Raises:
        ClientGone: The client left first; what `work` was generating has been stopped.
    """
    leash = _OpenStreams()
    _current.set(leash)  # a request has a context of its own
    try:
        if inspect.iscoroutinefunction(work):
            return await cancel_on_disconnect(request, work(data))
        context = contextvars.copy_context()
        running = asyncio.get_running_loop().run_in_executor(threads.pool, context.run, work, data)
        return await cancel_on_disconnect(request, running)
    finally:
        leash.close()
