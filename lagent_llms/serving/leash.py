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

from .answering import unless_gone

__all__ = ["answer_in_thread", "on_leash"]


class _Closable(Protocol):
    def close(self) -> None:
        """Stop; from any thread, and more than once."""


class _Leash:
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


_current: contextvars.ContextVar[_Leash | None] = contextvars.ContextVar("leash", default=None)


def on_leash(stream: _Closable) -> None:
    """`stream` ends with the request it is for; does nothing outside of `answer_in_thread`."""
    leash = _current.get()
    if leash is not None:
        leash.add(stream)


async def answer_in_thread(
    request: Request, threads: ThreadPoolExecutor, work: Callable[[Any], Any], data: Any
) -> Any:
    """What ``work(data)`` returns; `work` may also be an ``async def``.

    Raises:
        ClientGone: The client left first; what `work` was generating has been stopped.
    """
    leash = _Leash()
    _current.set(leash)  # a request has a context of its own
    try:
        if inspect.iscoroutinefunction(work):
            return await unless_gone(request, work(data))
        context = contextvars.copy_context()
        running = asyncio.get_running_loop().run_in_executor(threads, context.run, work, data)
        return await unless_gone(request, running)
    finally:
        leash.close()
