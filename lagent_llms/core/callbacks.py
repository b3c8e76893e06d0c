"""Pieces of an answer from an engine in this process, which calls back from a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from ..schema import Piece
from .deadline import Deadline
from .request import Request

__all__ = ["AsyncCallbackSource", "CallbackSource", "Submit"]

E = TypeVar("E")
E_contra = TypeVar("E_contra", contravariant=True)


class _Handle(Protocol):
    def cancel(self) -> object:
        """Stop the generation, without waiting; more than once is no error."""


class _Decoder(Protocol[E_contra]):
    def piece(self, event: E_contra, /) -> Piece | None:
        """What an event means; None when the generation was given up.

        Raises:
            LLMError: The engine failed.
        """


#: Hands a request to an engine, which tells its events to the function given; any thread may call that.
Submit = Callable[[Request, Callable[[E], None]], tuple[_Handle, _Decoder[E]]]


class CallbackSource(Generic[E]):
    """Pieces of one request, waited for in a thread."""

    def __init__(self, request: Request, submit: Submit[E]) -> None:
        self._events: queue.SimpleQueue[E] = queue.SimpleQueue()
        self._deadline = Deadline(request.options.timeout)
        self._handle, self._decoder = submit(request, self._events.put)

    def __next__(self) -> Piece:
        self._deadline.wake()
        try:
            event = self._events.get(timeout=self._deadline.remaining())
        except queue.Empty:
            raise self._deadline.exceeded() from None
        self._deadline.piece_arrived()
        piece = self._decoder.piece(event)
        if piece is None:
            raise StopIteration
        return piece

    def close(self) -> None:
        """Stop the generation."""
        self._handle.cancel()


class AsyncCallbackSource(Generic[E]):
    """Pieces of one request, waited for in an event loop."""

    def __init__(self, request: Request, submit: Submit[E]) -> None:
        loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[E] = asyncio.Queue()
        self._deadline = Deadline(request.options.timeout)

        def on_event(event: E) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._events.put_nowait, event)

        self._handle, self._decoder = submit(request, on_event)

    async def __anext__(self) -> Piece:
        self._deadline.wake()
        event = await self._deadline.wait(self._events.get())
        self._deadline.piece_arrived()
        piece = self._decoder.piece(event)
        if piece is None:
            raise StopAsyncIteration
        return piece

    def close(self) -> None:
        """Stop the generation."""
        self._handle.cancel()
